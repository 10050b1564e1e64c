// libnvinfer.so.10 beside the double of the driver: engines are text files that say which graph
// they are, and whether they bring code for the host. SAM2RT_DOUBLE_TENSORRT is the version it says
// it has; with SAM2RT_DOUBLE_ABORT set, the process ends when a runtime is asked for.
#include <NvInferRuntime.h>
#include <dlfcn.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
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
std::atomic<int> refusing_graph{-1};
std::mutex scratch_mutex;
/// How many contexts each piece of memory serves.
std::map<void*, int> scratch_users;

template <class Function>
Function* driver(const char* name) {
  void* library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  return reinterpret_cast<Function*>(dlsym(library, name));
}

void counted(const char* what, long by = 1) {
  static auto* const add = driver<Add>("double_add");
  add(what, by);
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
  Context(const Description& about, std::int64_t needed) : about_(about), needed_(needed) {}

  ~Context() noexcept override {
    const std::lock_guard<std::mutex> lock(scratch_mutex);
    --scratch_users[memory_];
  }
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  bool setOptimizationProfileAsync(std::int32_t index, cudaStream_t) noexcept override {
    return index >= 0 && index < about_.profiles;
  }
  bool setTensorAddress(char const* name, void* data) noexcept override {
    counted("setTensorAddress");
    addresses_[name] = data;
    return known(name);
  }
  bool setInputShape(char const* name, nvinfer1::Dims const& dims) noexcept override {
    counted("setInputShape");
    shapes_[name] = dims;
    return known(name);
  }
  bool enqueueV3(cudaStream_t stream) noexcept override {
    counted("enqueueV3");
    static auto* const enqueue = driver<Enqueue>("double_enqueue");
    static auto* const capturing = driver<Capturing>("double_capturing");
    if (refusing || (refusing_capture && capturing(stream))) return false;
    if (refusing_graph == about_.graph || memory_size_ < needed_) return false;
    enqueue(stream, [this, addresses = addresses_, shapes = shapes_] { work(addresses, shapes); });
    return true;
  }
  void setDeviceMemoryV2(void* memory, std::int64_t size) noexcept override {
    memory_ = memory;
    memory_size_ = size;
    // what several contexts are given counts once
    const std::lock_guard<std::mutex> lock(scratch_mutex);
    if (scratch_users[memory]++ == 0) counted("scratch buffers");
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

  using Addresses = std::map<std::string, void*>;
  using Shapes = std::map<std::string, nvinfer1::Dims>;

  /// What the addresses hold when the stream comes to it. Addresses and shapes are those at the
  /// time of the call, which is what a graph keeps.
  void work(const Addresses& addresses, const Shapes& shapes) const {
    static auto* const host = driver<HostAddress>("double_host_address");
    // activations are there as long as the work goes on
    auto* const scratch = static_cast<unsigned char*>(host(memory_));
    const auto scratch_size = static_cast<std::size_t>(needed_);
    std::memset(scratch, about_.graph, scratch_size);
    Mixer mixer(about_.graph);
    std::map<std::string, std::int64_t> sizes;
    for (const Tensor& input : about_.inputs) {
      std::int64_t count = 1;
      for (std::size_t i = 0; i < input.shape.size(); ++i) {
        const std::int64_t size = shapes.at(input.name).d[i];
        if (const auto* symbol = std::get_if<std::string>(&input.shape[i])) sizes[*symbol] = size;
        count *= size;
      }
      mixer.take(host(addresses.at(input.name)), input.bytes, count);
    }
    for (std::size_t o = 0; o < about_.outputs.size(); ++o) {
      std::int64_t count = 1;
      for (const auto& dim : about_.outputs[o].shape) {
        const auto* symbol = std::get_if<std::string>(&dim);
        count *= symbol != nullptr ? sizes.at(*symbol) : std::get<std::int64_t>(dim);
      }
      mixer.give(o, static_cast<float*>(host(addresses.at(about_.outputs[o].name))), count);
    }
    for (std::size_t i = 0; i < scratch_size; ++i) {
      if (scratch[i] != about_.graph) std::abort();
    }
  }

  const Description& about_;
  std::int64_t needed_;
  void* memory_ = nullptr;
  std::int64_t memory_size_ = 0;
  Addresses addresses_;
  Shapes shapes_;
};

class Engine final : public nvinfer1::ICudaEngine {
 public:
  explicit Engine(Description about) : about_(std::move(about)) {}
  nvinfer1::IExecutionContext* createExecutionContext(
      nvinfer1::ExecutionContextAllocationStrategy strategy) noexcept override {
    // what a context takes for itself
    if (strategy != nvinfer1::ExecutionContextAllocationStrategy::kUSER_MANAGED) {
      counted("context bytes", getDeviceMemorySizeV2());
    }
    return new (std::nothrow) Context(about_, getDeviceMemorySizeV2());
  }
  std::int64_t getDeviceMemorySizeV2() const noexcept override { return 1000 + about_.graph; }

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
DOUBLE void double_refuse_graph(int graph) { refusing_graph = graph; }
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
