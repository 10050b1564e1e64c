// libnvinfer.so.10 beside the double of the driver: engines are text files that say which graph
// they are, and whether they bring code for the host. SAM2RT_DOUBLE_TENSORRT is the version it says
// it has; with SAM2RT_DOUBLE_ABORT set, the process ends when a runtime is asked for.
#include <NvInferRuntime.h>
#include <dlfcn.h>

#include <atomic>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <sstream>
#include <string>
#include <variant>
#include <vector>

#include "doubles.hpp"
#include "support/mixing.hpp"

#define DOUBLE extern "C" __attribute__((visibility("default")))

namespace {

std::atomic<bool> refusing{false};
std::atomic<bool> refusing_capture{false};

template <class Function>
Function* driver(const char* name) {
  void* library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  return reinterpret_cast<Function*>(dlsym(library, name));
}

struct Tensor {
  std::string name;
  std::size_t bytes = 0;
  std::vector<std::variant<std::int64_t, std::string>> shape;
};

struct Description {
  bool host_code = false;
  int graph = 0;
  int profiles = 0;
  std::vector<Tensor> inputs, outputs;
};

/// Lines: "engine GRAPH PROFILES", or "portable ..." with code for the host, then "in|out NAME
/// BYTES DIM...".
bool read(const std::string& content, Description& made) {
  std::istringstream lines(content);
  std::string word, line;
  if (!(lines >> word >> made.graph >> made.profiles)) return false;
  made.host_code = word == "portable";
  if (!made.host_code && word != "engine") return false;
  std::getline(lines, line);
  while (std::getline(lines, line)) {
    std::istringstream words(line);
    Tensor tensor;
    words >> word >> tensor.name >> tensor.bytes;
    for (std::string dim; words >> dim;) {
      if (dim.find_first_not_of("0123456789") == std::string::npos) {
        tensor.shape.emplace_back(std::int64_t{std::stoll(dim)});
      } else {
        tensor.shape.emplace_back(dim);
      }
    }
    (word == "in" ? made.inputs : made.outputs).push_back(std::move(tensor));
  }
  return true;
}

class Context final : public nvinfer1::IExecutionContext {
 public:
  explicit Context(const Description& about) : about_(about) {}

  bool setOptimizationProfileAsync(std::int32_t index, cudaStream_t) noexcept override {
    return index >= 0 && index < about_.profiles;
  }
  bool setTensorAddress(char const* name, void* data) noexcept override {
    addresses_[name] = data;
    return known(name);
  }
  bool setInputShape(char const* name, nvinfer1::Dims const& dims) noexcept override {
    shapes_[name] = dims;
    return known(name);
  }
  bool enqueueV3(cudaStream_t stream) noexcept override {
    static auto* const enqueue = driver<Enqueue>("double_enqueue");
    static auto* const capturing = driver<Capturing>("double_capturing");
    if (refusing || (refusing_capture && capturing(stream))) return false;
    enqueue(stream, [this] { work(); });
    return true;
  }

 private:
  bool known(const std::string& name) const {
    for (const auto* tensors : {&about_.inputs, &about_.outputs}) {
      for (const Tensor& tensor : *tensors) {
        if (tensor.name == name) return true;
      }
    }
    return false;
  }

  /// What the bound addresses hold when the stream comes to it.
  void work() {
    static auto* const host = driver<HostAddress>("double_host_address");
    Mixer mixer(about_.graph);
    std::map<std::string, std::int64_t> sizes;
    for (const Tensor& input : about_.inputs) {
      std::int64_t count = 1;
      for (std::size_t i = 0; i < input.shape.size(); ++i) {
        const std::int64_t size = shapes_.at(input.name).d[i];
        if (const auto* symbol = std::get_if<std::string>(&input.shape[i])) sizes[*symbol] = size;
        count *= size;
      }
      mixer.take(host(addresses_.at(input.name)), input.bytes, count);
    }
    for (std::size_t o = 0; o < about_.outputs.size(); ++o) {
      std::int64_t count = 1;
      for (const auto& dim : about_.outputs[o].shape) {
        const auto* symbol = std::get_if<std::string>(&dim);
        count *= symbol != nullptr ? sizes.at(*symbol) : std::get<std::int64_t>(dim);
      }
      mixer.give(o, static_cast<float*>(host(addresses_.at(about_.outputs[o].name))), count);
    }
  }

  const Description& about_;
  std::map<std::string, void*> addresses_;
  std::map<std::string, nvinfer1::Dims> shapes_;
};

class Engine final : public nvinfer1::ICudaEngine {
 public:
  explicit Engine(Description about) : about_(std::move(about)) {}
  nvinfer1::IExecutionContext* createExecutionContext(
      nvinfer1::ExecutionContextAllocationStrategy) noexcept override {
    return new (std::nothrow) Context(about_);
  }

 private:
  Description about_;
};

/// What every runtime logs to: the first logger that was given, as long as there is a runtime.
struct {
  std::mutex mutex;
  nvinfer1::ILogger* logger = nullptr;
  int runtimes = 0;
} shared;

class Runtime final : public nvinfer1::IRuntime {
 public:
  explicit Runtime(nvinfer1::ILogger& logger) {
    const std::lock_guard<std::mutex> lock(shared.mutex);
    if (shared.runtimes++ == 0) shared.logger = &logger;
  }
  ~Runtime() noexcept override {
    const std::lock_guard<std::mutex> lock(shared.mutex);
    --shared.runtimes;
  }
  nvinfer1::ICudaEngine* deserializeCudaEngine(void const* blob,
                                               std::size_t size) noexcept override {
    Description about;
    if (!read(std::string(static_cast<const char*>(blob), size), about)) {
      return refused("magic tag does not match");
    }
    if (about.host_code && !allowed_) return refused("host code is not allowed");
    return new (std::nothrow) Engine(std::move(about));
  }
  void setEngineHostCodeAllowed(bool allowed) noexcept override { allowed_ = allowed; }

 private:
  static nvinfer1::ICudaEngine* refused(const char* why) noexcept {
    const std::lock_guard<std::mutex> lock(shared.mutex);
    shared.logger->log(nvinfer1::ILogger::Severity::kERROR, why);
    shared.logger->log(nvinfer1::ILogger::Severity::kINFO, "nothing of weight");
    return nullptr;
  }

  bool allowed_ = false;
};

std::int32_t version_part(int index) {
  const char* given = std::getenv("SAM2RT_DOUBLE_TENSORRT");
  std::istringstream version(given != nullptr ? given : "10.16.1.11");
  std::string part;
  for (int i = 0; i <= index; ++i) std::getline(version, part, '.');
  return std::stoi(part);
}

}  // namespace

DOUBLE void double_refuse(bool refuse) { refusing = refuse; }
DOUBLE void double_refuse_capture(bool refuse) { refusing_capture = refuse; }

DOUBLE std::int32_t getInferLibMajorVersion() noexcept { return version_part(0); }
DOUBLE std::int32_t getInferLibMinorVersion() noexcept { return version_part(1); }
DOUBLE std::int32_t getInferLibPatchVersion() noexcept { return version_part(2); }
DOUBLE std::int32_t getInferLibBuildVersion() noexcept { return version_part(3); }

DOUBLE void* createInferRuntime_INTERNAL(void* logger, std::int32_t version) noexcept {
  if (std::getenv("SAM2RT_DOUBLE_ABORT") != nullptr) std::abort();
  if (version != NV_TENSORRT_VERSION) return nullptr;
  return static_cast<nvinfer1::IRuntime*>(
      new (std::nothrow) Runtime(*static_cast<nvinfer1::ILogger*>(logger)));
}
