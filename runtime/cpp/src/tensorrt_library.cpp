#include "tensorrt_library.hpp"

#include <mutex>
#include <set>

#include "platform.hpp"
#include "sam2rt/error.hpp"
#include "text.hpp"

#if NV_TENSORRT_MAJOR < 10 || (NV_TENSORRT_MAJOR == 10 && NV_TENSORRT_MINOR < 13)
#  error "sam2rt needs TensorRT 10.13 or later: give -DTensorRT_ROOT=FOLDER of a newer one"
#endif

namespace sam2rt {

/// TensorRT goes on calling the first logger it was given while anything of it lives, whatever
/// later runtimes are given: so there is one, which outlives every session and serves them all.
class TensorRTLogger final : public nvinfer1::ILogger {
 public:
  static TensorRTLogger& get() {
    // never destroyed: TensorRT may log while the process ends
    static auto* const made = new TensorRTLogger;
    return *made;
  }

  void log(Severity severity, nvinfer1::AsciiChar const* message) noexcept override {
    if (severity != Severity::kINTERNAL_ERROR && severity != Severity::kERROR) return;
    try {
      const std::lock_guard<std::mutex> lock(mutex_);
      for (TensorRTMessages* listener : listeners_) listener->last_ = message;
    } catch (...) {  // a message less, when there is no memory for it
    }
  }
  void add(TensorRTMessages* listener) {
    const std::lock_guard<std::mutex> lock(mutex_);
    listeners_.insert(listener);
  }
  void remove(TensorRTMessages* listener) {
    const std::lock_guard<std::mutex> lock(mutex_);
    listeners_.erase(listener);
  }
  std::string last(const TensorRTMessages& listener) {
    const std::lock_guard<std::mutex> lock(mutex_);
    return listener.last_;
  }

 private:
  std::mutex mutex_;
  std::set<TensorRTMessages*> listeners_;
};

namespace {

constexpr const char* install = "install TensorRT, or add its folder to the library search path";

template <class Function>
Function taken(void* library, const char* name) {
  const auto function = reinterpret_cast<Function>(library_function(library, name));
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
  const std::string name = tensorrt_file(NV_TENSORRT_MAJOR);
  library_ = open_library(name);
  if (library_ == nullptr) {
    throw SessionError(text("TensorRT cannot be loaded (", name, " is not found): ", install));
  }
  version_ = version_of(library_);
}

std::unique_ptr<nvinfer1::IRuntime> TensorRTLibrary::runtime() const {
  const auto create =
      taken<void* (*)(void*, std::int32_t)>(library_, "createInferRuntime_INTERNAL");
  nvinfer1::ILogger* const logger = &TensorRTLogger::get();
  void* made = create(logger, static_cast<std::int32_t>(NV_TENSORRT_VERSION));
  if (made == nullptr) {
    throw SessionError(text("TensorRT ", version_, " gives no runtime to a program built with ",
                            NV_TENSORRT_MAJOR, ".", NV_TENSORRT_MINOR, ": ", install));
  }
  return std::unique_ptr<nvinfer1::IRuntime>(static_cast<nvinfer1::IRuntime*>(made));
}

TensorRTMessages::TensorRTMessages() { TensorRTLogger::get().add(this); }

TensorRTMessages::~TensorRTMessages() { TensorRTLogger::get().remove(this); }

std::string TensorRTMessages::last() const {
  const std::string last = TensorRTLogger::get().last(*this);
  return last.empty() ? "TensorRT gave no message" : last;
}

}  // namespace sam2rt
