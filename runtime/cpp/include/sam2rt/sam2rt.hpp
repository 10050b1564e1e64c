#ifndef SAM2RT_SAM2RT_HPP
#define SAM2RT_SAM2RT_HPP

/// SAM 2 in C++: load a bundle, open a session, segment and track. See docs/cpp.md.

#include "sam2rt/bundle.hpp"
#include "sam2rt/error.hpp"
#include "sam2rt/frame.hpp"
#include "sam2rt/image_predictor.hpp"
#include "sam2rt/prompt.hpp"
#include "sam2rt/rle.hpp"
#include "sam2rt/session.hpp"
#include "sam2rt/stream_tracker.hpp"
#include "sam2rt/video_predictor.hpp"

namespace sam2rt {

/// The library's version, MAJOR.MINOR.PATCH.
SAM2RT_API const char* version() noexcept;

}  // namespace sam2rt

#endif
