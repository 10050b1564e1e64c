#ifndef SAM2RT_SRC_C_HANDLES_HPP
#define SAM2RT_SRC_C_HANDLES_HPP

#include <algorithm>
#include <cstring>
#include <exception>
#include <memory>
#include <optional>
#include <string>

#include "sam2rt.h"
#include "sam2rt/sam2rt.hpp"

struct sam2rt_bundle {
  sam2rt::Bundle bundle;
};
struct sam2rt_session {
  std::shared_ptr<sam2rt::Session> session;
};
struct sam2rt_image {
  sam2rt::ImagePredictor predictor;
  std::size_t low_side;  ///< of low-resolution masks
};
struct sam2rt_stream {
  sam2rt::StreamTracker tracker;
  const sam2rt::FrameResult* last;  ///< lives in the tracker
};
struct sam2rt_video {
  sam2rt::VideoPredictor predictor;
  std::optional<sam2rt::Propagation> propagation;
  const sam2rt::FrameResult* last;
};

namespace sam2rt {

inline void required(const void* pointer, const char* what) {
  if (pointer == nullptr) {
    throw InputError(std::string("no ") + what + " was given: it must not be null");
  }
}

inline sam2rt_status status_of(const std::exception& error) noexcept {
  if (dynamic_cast<const FrameError*>(&error) != nullptr) return SAM2RT_FRAME_ERROR;
  if (dynamic_cast<const InputError*>(&error) != nullptr) return SAM2RT_INPUT_ERROR;
  if (dynamic_cast<const StateError*>(&error) != nullptr) return SAM2RT_STATE_ERROR;
  if (dynamic_cast<const BundleError*>(&error) != nullptr) return SAM2RT_BUNDLE_ERROR;
  if (dynamic_cast<const SessionError*>(&error) != nullptr) return SAM2RT_SESSION_ERROR;
  return SAM2RT_UNKNOWN_ERROR;
}

inline sam2rt_status reported(sam2rt_error* error, sam2rt_status status,
                              const char* message) noexcept {
  if (error != nullptr) {
    error->status = status;
    std::size_t length = std::strlen(message);
    if (length >= sizeof error->message) {
      length = sizeof error->message - 1;
      // not within a character of UTF-8
      while (length > 0 && (static_cast<unsigned char>(message[length]) & 0xC0U) == 0x80U) --length;
    }
    std::memcpy(error->message, message, length);
    error->message[length] = '\0';
  }
  return status;
}

/// Run a call; nothing is thrown across the C boundary.
template <class Call>
sam2rt_status guarded(sam2rt_error* error, Call call) noexcept {
  try {
    call();
    return reported(error, SAM2RT_OK, "");
  } catch (const std::exception& failure) {
    return reported(error, status_of(failure), failure.what());
  } catch (...) {
    return reported(error, SAM2RT_UNKNOWN_ERROR, "an unknown error: please report it");
  }
}

PointPrompt point_prompt(const sam2rt_prompt* given);
FrameView frame_view(const sam2rt_frame* frame);
void copy_result(const FrameResult& from, sam2rt_result* to);
StreamOptions stream_options(const sam2rt_options* given);

}  // namespace sam2rt

#endif
