#ifndef SAM2RT_SRC_TENSORRT_LIBRARY_HPP
#define SAM2RT_SRC_TENSORRT_LIBRARY_HPP

#include <NvInferRuntime.h>

#include <memory>
#include <string>

namespace sam2rt {

/// TensorRT as the process has it: loaded when the first native session opens, so that a library
/// built with it also runs where it is not installed. It stays loaded, since it may leave threads
/// and handlers behind.
class TensorRTLibrary {
 public:
  /// Throws SessionError when it is missing, or older than what engines are built with.
  TensorRTLibrary();

  /// As engine records have it: "10.16.1.11".
  const std::string& version() const noexcept { return version_; }
  /// Only with a GPU: without one TensorRT hands out a runtime that crashes. Throws SessionError.
  std::unique_ptr<nvinfer1::IRuntime> runtime() const;

 private:
  void* library_;
  std::string version_;
};

/// Keeps the last error that TensorRT logs while this lives instead of printing: it reports most
/// failures there and returns nothing.
class TensorRTMessages {
 public:
  TensorRTMessages();
  TensorRTMessages(const TensorRTMessages&) = delete;
  TensorRTMessages& operator=(const TensorRTMessages&) = delete;
  ~TensorRTMessages();
  std::string last() const;

 private:
  friend class TensorRTLogger;
  std::string last_;
};

}  // namespace sam2rt

#endif
