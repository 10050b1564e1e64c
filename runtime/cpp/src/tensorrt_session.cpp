#include <algorithm>
#include <cctype>
#include <fstream>
#include <iterator>
#include <mutex>

#include "backends.hpp"
#include "manifest.hpp"
#include "platform.hpp"
#include "sam2rt/error.hpp"
#include "tensorrt_library.hpp"
#include "tensorrt_worker.hpp"
#include "text.hpp"

namespace sam2rt {

namespace {

/// GPU number of "cuda" or "cuda:N".
int device_index(const std::string& device) {
  const std::string prefix = "cuda:";
  const std::string number =
      device.rfind(prefix, 0) == 0 ? device.substr(prefix.size()) : std::string("0");
  const bool digits = !number.empty() && number.size() < 6 &&
                      std::all_of(number.begin(), number.end(),
                                  [](unsigned char c) { return std::isdigit(c) != 0; });
  if ((device != "cuda" && device.rfind(prefix, 0) != 0) || !digits) {
    throw InputError("unknown device '" + device +
                     "' of tensorrt: expected 'cuda', or 'cuda:1' for the second");
  }
  return std::stoi(number);
}

/// Runs the engines that `sam2rt build` made on this machine. Engines are shared; every call that
/// runs at the same time as others has a stream, contexts and places for tensors of its own, which
/// the next call takes over. Whatever does not fit this machine is refused before TensorRT sees it.
class TensorRTSession final : public Session {
 public:
  TensorRTSession(const Bundle& bundle, const SessionOptions& options) : bundle_(bundle) {
    // engines are of the contract's five graphs: a bundle may lack the sixth
    step_ = graph_specs(bundle.model())[static_cast<std::size_t>(Graph::track_step)];
    const int index = device_index(options.device == "cpu" ? "cuda" : options.device);
    library_ = std::make_unique<TensorRTLibrary>();
    device_ = cuda::Device::open(index);
    const cuda::Device::Current current(*device_);
    try {
      open(options);
    } catch (...) {
      release();
      throw;
    }
  }

  ~TensorRTSession() override {
    try {
      const cuda::Device::Current current(*device_);
      release();
    } catch (const Error&) {  // without its context there is nothing left to free
    }
  }

  const Bundle& bundle() const noexcept override { return bundle_; }

  void run(Graph graph, Span<const InputTensor> inputs,
           Span<const OutputTensor> outputs) override {
    check_tensors(graph == Graph::track_step ? step_ : bundle_.graph(graph).spec, inputs, outputs);
    const cuda::Device::Current current(*device_);
    const Lease worker(*this);
    worker->run(graph, inputs, outputs);
  }

  std::unique_ptr<GraphMemory> allocate(std::size_t count) override {
    return std::make_unique<GpuMemory>(device_, count);
  }

  int max_objects() const noexcept override { return largest(Graph::mask_decoder); }
  int max_images() const noexcept override { return largest(Graph::image_encoder); }
  bool fused() const noexcept override { return true; }
  bool keeps_memories() const noexcept override { return true; }

 private:
  /// A worker for one call, given back after it.
  class Lease {
   public:
    explicit Lease(TensorRTSession& session) : session_(session), worker_(session.take()) {}
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    ~Lease() { session_.give(std::move(worker_)); }
    TensorRTWorker* operator->() const noexcept { return worker_.get(); }

   private:
    TensorRTSession& session_;
    std::unique_ptr<TensorRTWorker> worker_;
  };

  void open(const SessionOptions& options) {
    const Machine machine{library_->version(), device_->arch(), device_->name(),
                          device_->driver_version()};
    const auto folder = engine_folder(bundle_, options.engines, machine);
    for (int i = 0; i < graph_count; ++i) load(folder, static_cast<Graph>(i), machine);
    // the first tracker finds everything taken
    give(take());
  }

  /// With the GPU current.
  void release() noexcept {
    idle_.clear();
    engines_.clear();
    runtime_.reset();
  }

  std::unique_ptr<TensorRTWorker> take() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (!idle_.empty()) {
        auto worker = std::move(idle_.back());
        idle_.pop_back();
        return worker;
      }
    }
    const std::lock_guard<std::mutex> one_at_a_time(making_);
    auto made = std::make_unique<TensorRTWorker>(bundle_, engines_, *device_, max_objects());
    const std::lock_guard<std::mutex> lock(mutex_);
    // room to give it back, which may not fail
    idle_.reserve(++workers_);
    return made;
  }

  void give(std::unique_ptr<TensorRTWorker> worker) noexcept {
    const std::lock_guard<std::mutex> lock(mutex_);
    idle_.push_back(std::move(worker));
  }

  /// The largest first dimension of a graph's first input.
  int largest(Graph graph) const noexcept {
    const EngineRecord& record = engines_[static_cast<std::size_t>(graph)].record;
    return static_cast<int>(record.profiles.back().front().most.dims[0]);
  }

  void load(const std::filesystem::path& folder, Graph graph, const Machine& machine) {
    LoadedEngine loaded;
    loaded.record = check_engine(bundle_, folder, graph, machine);
    device_->require_memory(loaded.record.size + loaded.record.device_memory,
                            text("the engine of ", graph_name(graph)));
    // only now: without a device TensorRT hands out a runtime that crashes
    if (runtime_ == nullptr) runtime_ = library_->runtime();
    // such an engine carries the runtime it was built with, and its hash was checked; others bring
    // no code for the host
    runtime_->setEngineHostCodeAllowed(loaded.record.version_compatible);
    const auto path = engine_path(folder, graph);
    std::ifstream file(openable(path), std::ios::binary);
    const std::string content{std::istreambuf_iterator<char>(file),
                              std::istreambuf_iterator<char>()};
    TensorRTMessages messages;
    loaded.engine.reset(runtime_->deserializeCudaEngine(content.data(), content.size()));
    if (loaded.engine == nullptr) {
      throw SessionError(text("TensorRT ", library_->version(), " cannot load ", path.u8string(),
                              ": ", messages.last(), ": build it again with 'sam2rt build ",
                              bundle_.path().u8string(), " --graphs ", loaded.record.graph, "'"));
    }
    engines_.push_back(std::move(loaded));
  }

  Bundle bundle_;
  GraphSpec step_;
  std::shared_ptr<const cuda::Device> device_;
  std::unique_ptr<TensorRTLibrary> library_;
  std::unique_ptr<nvinfer1::IRuntime> runtime_;
  std::vector<LoadedEngine> engines_;
  std::mutex making_;
  std::mutex mutex_;
  std::size_t workers_ = 0;
  std::vector<std::unique_ptr<TensorRTWorker>> idle_;
};

}  // namespace

std::shared_ptr<Session> open_tensorrt(const Bundle& bundle, const SessionOptions& options) {
  return std::make_shared<TensorRTSession>(bundle, options);
}

}  // namespace sam2rt
