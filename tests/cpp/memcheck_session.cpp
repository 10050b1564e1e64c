// A session for the C interface that answers at once: ONNX Runtime takes minutes under a checker.
#include "c_handles.hpp"
#include "support/sessions.hpp"

extern "C" sam2rt_session* mixing_session(const char* folder) {
  return new sam2rt_session{std::make_shared<MixingSession>(sam2rt::Bundle::load(folder))};
}
