#ifndef SAM2RT_SRC_ONNXRUNTIME_LIBRARY_HPP
#define SAM2RT_SRC_ONNXRUNTIME_LIBRARY_HPP

#include <memory>
#include <string>

#include "onnxruntime_header.hpp"
#include "sam2rt/session.hpp"

namespace sam2rt {

/// Frees an ONNX Runtime object through the function table it came from.
struct OrtRelease {
  const OrtApi* api = nullptr;
  void operator()(OrtEnv* p) const noexcept { api->ReleaseEnv(p); }
  void operator()(OrtSession* p) const noexcept { api->ReleaseSession(p); }
  void operator()(OrtSessionOptions* p) const noexcept { api->ReleaseSessionOptions(p); }
  void operator()(OrtMemoryInfo* p) const noexcept { api->ReleaseMemoryInfo(p); }
  void operator()(OrtValue* p) const noexcept { api->ReleaseValue(p); }
  void operator()(OrtCUDAProviderOptionsV2* p) const noexcept {
    api->ReleaseCUDAProviderOptions(p);
  }
  void operator()(OrtTensorRTProviderOptionsV2* p) const noexcept {
    api->ReleaseTensorRTProviderOptions(p);
  }
};

template <class T>
using OrtHandle = std::unique_ptr<T, OrtRelease>;

struct GivenWeights;

/// ONNX Runtime on one device, and how it opens a bundle's graphs. A device that was asked for and
/// is not there is a SessionError, never another device.
class OnnxRuntime {
 public:
  /// Throws InputError for an unknown device, SessionError when the library or a provider is
  /// missing.
  OnnxRuntime(const Bundle& bundle, const SessionOptions& options);

  const OrtApi& api() const noexcept { return *api_; }
  const std::string& device() const noexcept { return device_; }
  /// Of tensors on the host.
  const OrtMemoryInfo* memory() const noexcept { return memory_.get(); }
  /// Throws SessionError that says what helps.
  OrtHandle<OrtSession> open(const GraphEntry& graph) const;
  /// Throws SessionError when a call of that graph failed.
  void ran(const std::string& graph, OrtStatus* status) const;

 private:
  std::string failure(OrtStatus* status) const;
  void start(OrtStatus* status) const;
  [[noreturn]] void refuse(const std::filesystem::path& path, OrtStatus* status) const;
  OrtHandle<OrtSessionOptions> configure() const;
  OrtHandle<OrtSessionOptions> with_weights(const GivenWeights& weights) const;
  void require(const char* provider) const;
  void append_cuda(OrtSessionOptions* options) const;
  void append_tensorrt(OrtSessionOptions* options) const;

  const OrtApi* api_;
  std::string version_;
  std::string device_;
  SessionOptions options_;
  Bundle bundle_;
  OrtHandle<OrtEnv> env_;
  OrtHandle<OrtMemoryInfo> memory_;
  OrtHandle<OrtSessionOptions> configured_;
};

}  // namespace sam2rt

#endif
