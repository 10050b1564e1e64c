#include "tensorrt_library.hpp"

#include <dlfcn.h>

#include "sam2rt/error.hpp"
#include "text.hpp"

#if NV_TENSORRT_MAJOR < 10 || (NV_TENSORRT_MAJOR == 10 && NV_TENSORRT_MINOR < 13)
#  error "sam2rt needs TensorRT 10.13 or later: give -DTensorRT_ROOT=FOLDER of a newer one"
#endif

namespace sam2rt {

namespace {

constexpr const char* install = "install TensorRT, or add its folder to the library search path";

template <class Function>
Function taken(void* library, const char* name) {
  const auto function = reinterpret_cast<Function>(dlsym(library, name));
  if (function == nullptr) {
    throw SessionError(text("the TensorRT library has no ", name, ": ", install));
  }
  return function;
}

std::string version_of(void* library) {
  std::string version;
  for (const char* part : {"getInferLibMajorVersion", "getInferLibMinorVersion",
                           "getInferLibPatchVersion", "getInferLibBuildVersion"}) {
    const auto number = taken<std::int32_t (*)()>(library, part)();
    version += (version.empty() ? "" : ".") + std::to_string(number);
  }
  return version;
}

}  // namespace

TensorRTLibrary::TensorRTLibrary() {
  const std::string name = text("libnvinfer.so.", NV_TENSORRT_MAJOR);
  library_ = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library_ == nullptr) {
    throw SessionError(text("TensorRT cannot be loaded (", name, " is not found): ", install));
  }
  version_ = version_of(library_);
}

std::unique_ptr<nvinfer1::IRuntime> TensorRTLibrary::runtime(nvinfer1::ILogger& logger) const {
  const auto create =
      taken<void* (*)(void*, std::int32_t)>(library_, "createInferRuntime_INTERNAL");
  void* made = create(&logger, static_cast<std::int32_t>(NV_TENSORRT_VERSION));
  if (made == nullptr) {
    throw SessionError(text("TensorRT ", version_, " gives no runtime to a program built with ",
                            NV_TENSORRT_MAJOR, ".", NV_TENSORRT_MINOR, ": ", install));
  }
  return std::unique_ptr<nvinfer1::IRuntime>(static_cast<nvinfer1::IRuntime*>(made));
}

void TensorRTMessages::log(Severity severity, nvinfer1::AsciiChar const* message) noexcept {
  if (severity != Severity::kINTERNAL_ERROR && severity != Severity::kERROR) return;
  try {
    const std::lock_guard<std::mutex> lock(mutex_);
    last_ = message;
  } catch (...) {  // a message less, when there is no memory for it
  }
}

std::string TensorRTMessages::last() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return last_.empty() ? "TensorRT gave no message" : last_;
}

}  // namespace sam2rt
