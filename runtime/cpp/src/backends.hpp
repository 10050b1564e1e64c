#ifndef SAM2RT_SRC_BACKENDS_HPP
#define SAM2RT_SRC_BACKENDS_HPP

#include "sam2rt/session.hpp"

namespace sam2rt {

std::shared_ptr<Session> open_onnxruntime(const Bundle& bundle, const SessionOptions& options);
/// Throws SessionError where the library was built without TensorRT.
std::shared_ptr<Session> open_tensorrt(const Bundle& bundle, const SessionOptions& options);

}  // namespace sam2rt

#endif
