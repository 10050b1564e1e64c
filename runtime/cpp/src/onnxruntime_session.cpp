#include <onnxruntime_c_api.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <type_traits>
#include <vector>

#include "backends.hpp"
#include "manifest.hpp"
#include "sam2rt/error.hpp"
#include "sha256.hpp"
#include "text.hpp"

namespace sam2rt {

namespace {

/// Frees an ONNX Runtime object through the function table it came from.
struct Release {
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
using Handle = std::unique_ptr<T, Release>;

const OrtApi* load_api() {
  const OrtApiBase* base = OrtGetApiBase();
  const OrtApi* api = base->GetApi(ORT_API_VERSION);
  if (api == nullptr) {
    throw SessionError(text("onnxruntime ", base->GetVersionString(), " is too old: sam2rt was ",
                            "built for version 1.", ORT_API_VERSION, " or newer"));
  }
  return api;
}

ONNXTensorElementDataType element_type(DType dtype) noexcept {
  switch (dtype) {
    case DType::float32: return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
    case DType::int32: return ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32;
    case DType::int64: return ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;
    case DType::boolean: return ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL;
  }
  return ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
}

std::size_t element_size(DType dtype) noexcept {
  return dtype == DType::int64 ? 8 : dtype == DType::boolean ? 1 : 4;
}

/// Graphs have at most eight inputs and six outputs.
constexpr std::size_t most_tensors = 8;

/// A message as one line of reasonable length.
std::string line(const char* message) {
  std::istringstream words(message);
  std::string out;
  for (std::string word; words >> word;) out += (out.empty() ? "" : " ") + word;
  return out.size() <= 300 ? out : out.substr(0, 297) + "...";
}

/// Where the TensorRT provider keeps engines: building one takes minutes. By the hash of the
/// graphs: another export of the same checkpoint has other engines.
std::string engine_cache(const Bundle& bundle) {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  const char* home = std::getenv("HOME");
  const std::filesystem::path root =
      cache != nullptr && *cache != '\0'
          ? std::filesystem::path(cache)
          : std::filesystem::path(home != nullptr ? home : ".") / ".cache";
  std::string hashes;
  for (int i = 0; i <= graph_count; ++i) {
    const auto graph = static_cast<Graph>(i);
    if (!bundle.has(graph)) continue;
    const GraphEntry& entry = bundle.graph(graph);
    hashes += entry.file.sha256;
    for (const BundleFile& weights : entry.external) hashes += weights.sha256;
  }
  return (root / "sam2rt" / "onnxruntime-tensorrt" / sha256(hashes).substr(0, 16)).string();
}

/// Weights by the names that the graph has for them; none where ONNX Runtime opens the files.
struct GivenWeights {
  std::vector<std::filesystem::path> names;
  std::vector<std::string> contents;
};

bool lies_in(const std::filesystem::path& file, const std::filesystem::path& folder) {
  const auto ends = std::mismatch(folder.begin(), folder.end(), file.begin(), file.end());
  return ends.first == folder.end();
}

/// Reads weights that ONNX Runtime would not open: it refuses files that lie, links resolved,
/// outside the folder of the graph's link and that of the graph itself. Stores such as git-annex
/// and DVC keep each file in a folder of its own.
GivenWeights given_weights(const std::filesystem::path& graph,
                           const std::vector<BundleFile>& external) {
  namespace fs = std::filesystem;
  const fs::path homes[] = {fs::weakly_canonical(graph.parent_path()),
                            fs::weakly_canonical(graph).parent_path()};
  GivenWeights given;
  bool refused = false;
  for (const BundleFile& file : external) {
    const fs::path real = fs::weakly_canonical(graph.parent_path() / fs::u8path(file.path));
    refused = refused || !(lies_in(real, homes[0]) || lies_in(real, homes[1]));
  }
  if (!refused) return given;
  for (const BundleFile& file : external) {
    const fs::path path = graph.parent_path() / fs::u8path(file.path);
    std::ifstream stream(path, std::ios::binary);
    std::string content(static_cast<std::size_t>(fs::file_size(path)), '\0');
    if (!stream.read(content.data(), static_cast<std::streamsize>(content.size()))) {
      throw SessionError("cannot read " + path.string() + ": check it with 'sam2rt inspect'");
    }
    given.names.push_back(fs::u8path(file.path));
    given.contents.push_back(std::move(content));
  }
  return given;
}

/// Runs a bundle's graphs with ONNX Runtime: CPU, or its CUDA and TensorRT execution providers. A
/// device that was asked for and is not there is a SessionError, never another device.
class OnnxRuntimeSession final : public Session {
 public:
  OnnxRuntimeSession(const Bundle& bundle, const SessionOptions& options)
      : api_(load_api()),
        version_(OrtGetApiBase()->GetVersionString()),
        device_(options.device),
        bundle_(bundle),
        env_(nullptr, {api_}),
        memory_(nullptr, {api_}) {
    if (device_ != "cpu" && device_ != "cuda" && device_ != "tensorrt") {
      throw InputError("unknown device '" + device_ +
                       "' of onnxruntime: expected one of cpu, cuda, tensorrt");
    }
    OrtEnv* env = nullptr;
    // errors arrive as exceptions: the log would only repeat them on stderr
    start(api_->CreateEnv(ORT_LOGGING_LEVEL_FATAL, "sam2rt", &env));
    env_.reset(env);
    OrtMemoryInfo* memory = nullptr;
    start(api_->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory));
    memory_.reset(memory);
    configured_ = configure(options);
    for (std::size_t i = 0; i < graphs_.size(); ++i) {
      const auto graph = static_cast<Graph>(i);
      if (bundle_.has(graph) && graph != rare()) graphs_[i] = open(bundle_.graph(graph));
    }
    if (fused()) find_parts();
  }

  const Bundle& bundle() const noexcept override { return bundle_; }

  bool fused() const noexcept override {
    return device_ == "cpu" && bundle_.has(Graph::track_step);
  }

  bool per_object() const noexcept override { return parts_[0].entry != nullptr; }

  void run(Graph graph, Span<const InputTensor> inputs,
           Span<const OutputTensor> outputs) override {
    const GraphSpec& spec = bundle_.graph(graph).spec;
    check_tensors(spec, inputs, outputs);
    if (graph == Graph::track_step && per_object() && outputs[0].shape.dims[0] > 1) {
      run_per_object(inputs, outputs);
    } else {
      call(opened(graph), spec, inputs, outputs);
    }
  }

 private:
  /// One of the two graphs that do track_step's work per object; opened when several objects are
  /// first tracked.
  struct Part {
    const GraphEntry* entry = nullptr;
    Handle<OrtSession> session;
    std::once_flag once;
  };

  void find_parts() {
    const auto specs = per_object_specs(bundle_.model());
    std::array<const GraphEntry*, 2> found{};
    for (std::size_t i = 0; i < specs.size(); ++i) {
      found[i] = bundle_.find_graph(specs[i].name);
      // variants of graphs have no contract that loading checks
      if (found[i] == nullptr || !(found[i]->spec == specs[i])) return;
    }
    for (std::size_t i = 0; i < found.size(); ++i) parts_[i].entry = found[i];
  }

  /// track_step per object, what they share once.
  void run_per_object(Span<const InputTensor> inputs, Span<const OutputTensor> outputs) {
    const InputTensor& embed = inputs[0];
    const std::int64_t area = embed.shape.dims[2] * embed.shape.dims[3];
    const Shape shape = Shape::of(embed.shape.dims[0], area, embed.shape.dims[1]);
    std::vector<float> tokens = take_scratch();
    tokens.resize(static_cast<std::size_t>(shape.elements()));
    run_part(parts_[0], {embed}, {{tokens.data(), DType::float32, shape}});
    std::array<InputTensor, most_tensors> in;
    std::array<OutputTensor, most_tensors> out;
    for (std::int64_t i = 0; i < outputs[0].shape.dims[0]; ++i) {
      in[0] = object_of(InputTensor{tokens.data(), DType::float32, shape}, i);
      for (std::size_t k = 0; k < inputs.size(); ++k) in[k + 1] = object_of(inputs[k], i);
      for (std::size_t k = 0; k < outputs.size(); ++k) out[k] = object_of(outputs[k], i);
      run_part(parts_[1], {in.data(), inputs.size() + 1}, {out.data(), outputs.size()});
    }
    const std::lock_guard<std::mutex> lock(scratch_mutex_);
    scratch_.push_back(std::move(tokens));
  }

  void run_part(Part& part, Span<const InputTensor> inputs, Span<const OutputTensor> outputs) {
    std::call_once(part.once, [&] { part.session = open(*part.entry); });
    call(part.session.get(), part.entry->spec, inputs, outputs);
  }

  /// Object i of a tensor, or what all of them share.
  template <class Tensor>
  static Tensor object_of(Tensor tensor, std::int64_t i) noexcept {
    if (tensor.shape.dims[0] == 1) return tensor;
    tensor.shape.dims[0] = 1;
    using Byte = std::conditional_t<std::is_same_v<Tensor, InputTensor>, const char, char>;
    const auto bytes = static_cast<std::int64_t>(element_size(tensor.dtype));
    if (tensor.data != nullptr) {
      tensor.data = static_cast<Byte*>(tensor.data) + i * tensor.shape.elements() * bytes;
    }
    return tensor;
  }

  /// Kept between calls, which would allocate it otherwise; as many as calls run at a time.
  std::vector<float> take_scratch() {
    const std::lock_guard<std::mutex> lock(scratch_mutex_);
    if (scratch_.empty()) return {};
    std::vector<float> taken = std::move(scratch_.back());
    scratch_.pop_back();
    return taken;
  }

  void call(OrtSession* session, const GraphSpec& spec, Span<const InputTensor> inputs,
            Span<const OutputTensor> outputs) const {
    const std::string& graph = spec.name;
    Values in(*this, graph);
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      // ONNX Runtime does not write through it
      in.add(spec.inputs[i], const_cast<void*>(inputs[i].data), inputs[i].dtype, inputs[i].shape);
    }
    Values out(*this, graph);
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      if (outputs[i].data == nullptr) continue;
      out.add(spec.outputs[i], outputs[i].data, outputs[i].dtype, outputs[i].shape);
    }
    ran(graph, api_->Run(session, nullptr, in.names.data(), in.values.data(), in.count,
                         out.names.data(), out.count, out.values.data()));
  }

  /// Tensors of one call around memory that the caller owns.
  struct Values {
    Values(const OnnxRuntimeSession& session, const std::string& called)
        : owner(session), graph(called) {}
    Values(const Values&) = delete;
    Values& operator=(const Values&) = delete;
    ~Values() {
      for (std::size_t i = 0; i < count; ++i) owner.api_->ReleaseValue(values[i]);
    }
    void add(const TensorSpec& spec, void* data, DType dtype, const Shape& shape) {
      const auto bytes = static_cast<std::size_t>(shape.elements()) * element_size(dtype);
      // an empty tensor has no memory, yet a pointer is asked for
      void* start = data != nullptr ? data : static_cast<void*>(&nothing);
      owner.ran(graph, owner.api_->CreateTensorWithDataAsOrtValue(
                           owner.memory_.get(), start, bytes, shape.dims.data(),
                           static_cast<std::size_t>(shape.rank), element_type(dtype),
                           &values[count]));
      names[count++] = spec.name.c_str();
    }
    const OnnxRuntimeSession& owner;
    const std::string& graph;
    std::array<const char*, most_tensors> names{};
    std::array<OrtValue*, most_tensors> values{};
    std::size_t count = 0;
    std::int64_t nothing = 0;
  };

  /// The message of a failed call, empty after a good one.
  std::string failure(OrtStatus* status) const {
    if (status == nullptr) return {};
    std::string message = line(api_->GetErrorMessage(status));
    api_->ReleaseStatus(status);
    return message.empty() ? "unknown error" : message;
  }

  void start(OrtStatus* status) const {
    if (status == nullptr) return;
    throw SessionError(text("cannot start onnxruntime ", version_, " on ", device_, " (",
                            failure(status), "): check that its libraries are complete"));
  }

  void ran(const std::string& graph, OrtStatus* status) const {
    if (status == nullptr) return;
    throw SessionError(text("graph ", graph, " failed on ", device_, " (",
                            failure(status), "): fewer objects per call or a smaller image size ",
                            "need less memory"));
  }

  Handle<OrtSessionOptions> configure(const SessionOptions& options) const {
    OrtSessionOptions* raw = nullptr;
    start(api_->CreateSessionOptions(&raw));
    Handle<OrtSessionOptions> configured(raw, {api_});
    if (options.threads) start(api_->SetIntraOpNumThreads(raw, *options.threads));
    start(api_->SetInterOpNumThreads(raw, 1));
    // several graphs, each with threads of its own: idle ones must not spin beside the others
    start(api_->AddSessionConfigEntry(raw, "session.intra_op.allow_spinning", "0"));
    // patterns keep a block for every shape seen: half as much memory again, and no faster
    start(api_->DisableMemPattern(raw));
    if (device_ == "tensorrt") append_tensorrt(raw);
    // what TensorRT cannot take runs on CUDA
    if (device_ != "cpu") append_cuda(raw);
    return configured;
  }

  /// ONNX Runtime would run on the CPU instead without a word.
  void require(const char* provider) const {
    char** names = nullptr;
    int count = 0;
    start(api_->GetAvailableProviders(&names, &count));
    bool found = false;
    for (int i = 0; i < count; ++i) found |= std::string_view(names[i]) == provider;
    start(api_->ReleaseAvailableProviders(names, count));
    if (!found) {
      throw SessionError(text("device '", device_, "' needs ", provider, ", onnxruntime ", version_,
                              " lacks it: link one that was built with it"));
    }
  }

  void append_cuda(OrtSessionOptions* options) const {
    require("CUDAExecutionProvider");
    OrtCUDAProviderOptionsV2* raw = nullptr;
    start(api_->CreateCUDAProviderOptions(&raw));
    const Handle<OrtCUDAProviderOptionsV2> provider(raw, {api_});
    // TF32 would be another arithmetic than the CPU's
    const char* const keys[] = {"use_tf32"};
    const char* const values[] = {"0"};
    start(api_->UpdateCUDAProviderOptions(raw, keys, values, 1));
    start(api_->SessionOptionsAppendExecutionProvider_CUDA_V2(options, raw));
  }

  void append_tensorrt(OrtSessionOptions* options) const {
    require("TensorrtExecutionProvider");
    OrtTensorRTProviderOptionsV2* raw = nullptr;
    start(api_->CreateTensorRTProviderOptions(&raw));
    const Handle<OrtTensorRTProviderOptionsV2> provider(raw, {api_});
    const std::string cache = engine_cache(bundle_);
    // the provider makes the last folder alone; what cannot be made it says itself
    std::error_code ignored;
    std::filesystem::create_directories(std::filesystem::u8path(cache), ignored);
    const char* const keys[] = {"trt_engine_cache_enable", "trt_engine_cache_path"};
    const char* const values[] = {"1", cache.c_str()};
    start(api_->UpdateTensorRTProviderOptions(raw, keys, values, 2));
    start(api_->SessionOptionsAppendExecutionProvider_TensorRT_V2(options, raw));
  }

  /// The graph that is opened when it is first run: memory attention on its own is for
  /// corrections alone where frames are tracked by one graph.
  Graph rare() const noexcept { return fused() ? Graph::memory_attention : Graph::track_step; }

  OrtSession* opened(Graph graph) {
    auto& session = graphs_[static_cast<std::size_t>(graph)];
    if (graph == rare()) std::call_once(rare_once_, [&] { session = open(bundle_.graph(graph)); });
    return session.get();
  }

  Handle<OrtSession> open(const GraphEntry& graph) const {
    OrtSession* session = nullptr;
    const auto path = bundle_.path() / std::filesystem::u8path(graph.file.path);
    // they must live until ONNX Runtime has read them
    const GivenWeights weights = given_weights(path, graph.external);
    Handle<OrtSessionOptions> own(nullptr, {api_});
    if (!weights.contents.empty()) own = with_weights(weights);
    const OrtSessionOptions* options = own ? own.get() : configured_.get();
    const auto failed =
        failure(api_->CreateSession(env_.get(), path.c_str(), options, &session));
    if (!failed.empty()) {
      throw SessionError(text("cannot open graph ", path.string(), " with onnxruntime ", version_,
                              " on ", device_, " (", failed, "): check it with 'sam2rt inspect', ",
                              "or make the bundle again"));
    }
    return Handle<OrtSession>(session, {api_});
  }

  /// The session's options, and weights in memory beside them.
  Handle<OrtSessionOptions> with_weights(const GivenWeights& weights) const {
    OrtSessionOptions* copy = nullptr;
    start(api_->CloneSessionOptions(configured_.get(), &copy));
    Handle<OrtSessionOptions> options(copy, {api_});
    std::vector<const ORTCHAR_T*> names;
    std::vector<char*> contents;
    std::vector<std::size_t> sizes;
    for (const auto& name : weights.names) names.push_back(name.c_str());
    for (const auto& content : weights.contents) {
      contents.push_back(const_cast<char*>(content.data()));
      sizes.push_back(content.size());
    }
    start(api_->AddExternalInitializersFromFilesInMemory(options.get(), names.data(),
                                                         contents.data(), sizes.data(),
                                                         names.size()));
    return options;
  }

  const OrtApi* api_;
  std::string version_;
  std::string device_;
  Bundle bundle_;
  Handle<OrtEnv> env_;
  Handle<OrtMemoryInfo> memory_;
  Handle<OrtSessionOptions> configured_;
  std::array<Handle<OrtSession>, graph_count + 1> graphs_;
  std::once_flag rare_once_;
  std::array<Part, 2> parts_;  ///< track_step.frame and track_step.object, or nothing
  std::mutex scratch_mutex_;
  std::vector<std::vector<float>> scratch_;
};

}  // namespace

std::shared_ptr<Session> open_onnxruntime(const Bundle& bundle, const SessionOptions& options) {
  return std::make_shared<OnnxRuntimeSession>(bundle, options);
}

}  // namespace sam2rt
