#include "onnxruntime_library.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <vector>

#include "cpu_operators.hpp"
#include "platform.hpp"
#include "sam2rt/error.hpp"
#include "sha256.hpp"
#include "text.hpp"

namespace sam2rt {

/// Weights by the names that the graph has for them; none where ONNX Runtime opens the files.
struct GivenWeights {
  std::vector<std::filesystem::path> names;
  std::vector<std::string> contents;
};

namespace {

const OrtApi* load_api() {
  const OrtApiBase* base = OrtGetApiBase();
  const OrtApi* api = base->GetApi(ORT_API_VERSION);
  if (api == nullptr) {
    throw SessionError(text("onnxruntime ", base->GetVersionString(), " is too old: sam2rt was ",
                            "built for version 1.", ORT_API_VERSION, " or newer"));
  }
  return api;
}

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
  std::string hashes;
  for (int i = 0; i <= graph_count; ++i) {
    const auto graph = static_cast<Graph>(i);
    if (!bundle.has(graph)) continue;
    const GraphEntry& entry = bundle.graph(graph);
    hashes += entry.file.sha256;
    for (const BundleFile& weights : entry.external) hashes += weights.sha256;
  }
  return (user_cache() / "sam2rt" / "onnxruntime-tensorrt" / sha256(hashes).substr(0, 16)).u8string();
}

bool lies_in(const std::filesystem::path& file, const std::filesystem::path& folder) {
  const auto ends = std::mismatch(folder.begin(), folder.end(), file.begin(), file.end());
  return ends.first == folder.end();
}

/// Reads weights that ONNX Runtime would not open: it refuses files that lie, links resolved,
/// outside the folder of the graph's link and that of the graph itself. Stores such as git-annex
/// and DVC keep each file in a folder of its own. Beside a graph whose path is too long for Windows
/// as it is, it finds none.
GivenWeights given_weights(const std::filesystem::path& graph,
                           const std::vector<BundleFile>& external) {
  namespace fs = std::filesystem;
  const fs::path homes[] = {real_path(graph.parent_path()),
                            real_path(graph).parent_path()};
  GivenWeights given;
  bool refused = openable(graph) != graph;
  for (const BundleFile& file : external) {
    const fs::path real = real_path(graph.parent_path() / fs::u8path(file.path));
    refused = refused || !(lies_in(real, homes[0]) || lies_in(real, homes[1]));
  }
  if (!refused) return given;
  for (const BundleFile& file : external) {
    const fs::path path = graph.parent_path() / fs::u8path(file.path);
    std::ifstream stream(openable(path), std::ios::binary);
    std::string content(static_cast<std::size_t>(size_of_file(path)), '\0');
    if (!stream.read(content.data(), static_cast<std::streamsize>(content.size()))) {
      throw SessionError("cannot read " + path.u8string() + ": check it with 'sam2rt inspect'");
    }
    given.names.push_back(fs::u8path(file.path));
    given.contents.push_back(std::move(content));
  }
  return given;
}

}  // namespace

OnnxRuntime::OnnxRuntime(const Bundle& bundle, const SessionOptions& options)
    : api_(load_api()),
      version_(OrtGetApiBase()->GetVersionString()),
      device_(options.device),
      options_(options),
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
  configured_ = configure();
}

/// The message of a failed call, empty after a good one.
std::string OnnxRuntime::failure(OrtStatus* status) const {
  if (status == nullptr) return {};
  std::string message = line(api_->GetErrorMessage(status));
  api_->ReleaseStatus(status);
  return message.empty() ? "unknown error" : message;
}

void OnnxRuntime::start(OrtStatus* status) const {
  if (status == nullptr) return;
  throw SessionError(text("cannot start onnxruntime ", version_, " on ", device_, " (",
                          failure(status), "): check that its libraries are complete"));
}

void OnnxRuntime::ran(const std::string& graph, OrtStatus* status) const {
  if (status == nullptr) return;
  throw SessionError(text("graph ", graph, " failed on ", device_, " (",
                          failure(status), "): fewer objects per call or a smaller image size ",
                          "need less memory"));
}

OrtHandle<OrtSessionOptions> OnnxRuntime::configure() const {
  OrtSessionOptions* raw = nullptr;
  start(api_->CreateSessionOptions(&raw));
  OrtHandle<OrtSessionOptions> configured(raw, {api_});
  if (options_.threads) start(api_->SetIntraOpNumThreads(raw, *options_.threads));
  start(api_->SetInterOpNumThreads(raw, 1));
  // several graphs, each with threads of its own: idle ones must not spin beside the others
  start(api_->AddSessionConfigEntry(raw, "session.intra_op.allow_spinning", "0"));
  // patterns keep a block for every shape seen: half as much memory again, and no faster
  start(api_->DisableMemPattern(raw));
  if (device_ == "cpu" && has_cpu_variants(bundle_)) {
    start(api_->RegisterCustomOpsLibrary_V2(raw, cpu_operators(bundle_, version_).c_str()));
  }
  if (device_ == "tensorrt") append_tensorrt(raw);
  // what TensorRT cannot take runs on CUDA
  if (device_ != "cpu") append_cuda(raw);
  return configured;
}

/// ONNX Runtime would run on the CPU instead without a word.
void OnnxRuntime::require(const char* provider) const {
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

void OnnxRuntime::append_cuda(OrtSessionOptions* options) const {
  require("CUDAExecutionProvider");
  OrtCUDAProviderOptionsV2* raw = nullptr;
  start(api_->CreateCUDAProviderOptions(&raw));
  const OrtHandle<OrtCUDAProviderOptionsV2> provider(raw, {api_});
  // TF32 would be another arithmetic than the CPU's
  const char* const keys[] = {"use_tf32"};
  const char* const values[] = {"0"};
  start(api_->UpdateCUDAProviderOptions(raw, keys, values, 1));
  start(api_->SessionOptionsAppendExecutionProvider_CUDA_V2(options, raw));
}

void OnnxRuntime::append_tensorrt(OrtSessionOptions* options) const {
  require("TensorrtExecutionProvider");
  OrtTensorRTProviderOptionsV2* raw = nullptr;
  start(api_->CreateTensorRTProviderOptions(&raw));
  const OrtHandle<OrtTensorRTProviderOptionsV2> provider(raw, {api_});
  const std::string cache = engine_cache(bundle_);
  // the provider makes the last folder alone; what cannot be made it says itself
  std::error_code ignored;
  std::filesystem::create_directories(openable(std::filesystem::u8path(cache)), ignored);
  const char* const keys[] = {"trt_engine_cache_enable", "trt_engine_cache_path"};
  const char* const values[] = {"1", cache.c_str()};
  start(api_->UpdateTensorRTProviderOptions(raw, keys, values, 2));
  start(api_->SessionOptionsAppendExecutionProvider_TensorRT_V2(options, raw));
}

OrtHandle<OrtSession> OnnxRuntime::open(const GraphEntry& graph) const {
  OrtSession* session = nullptr;
  const auto path = bundle_.path() / std::filesystem::u8path(graph.file.path);
  // they must live until ONNX Runtime has read them
  const GivenWeights weights = given_weights(path, graph.external);
  OrtHandle<OrtSessionOptions> own(nullptr, {api_});
  if (!weights.contents.empty()) own = with_weights(weights);
  const OrtSessionOptions* options = own ? own.get() : configured_.get();
  const auto opened = openable(path);
  if (OrtStatus* failed = api_->CreateSession(env_.get(), opened.c_str(), options, &session)) {
    refuse(path, failed);
  }
  return OrtHandle<OrtSession>(session, {api_});
}

void OnnxRuntime::refuse(const std::filesystem::path& path, OrtStatus* status) const {
  const bool no_kernel = api_->GetErrorCode(status) == ORT_NOT_IMPLEMENTED;
  const std::string why = failure(status);
  if (!no_kernel) {
    throw SessionError(text("cannot open graph ", path.u8string(), " with onnxruntime ", version_,
                            " on ", device_, " (", why, "): check it with 'sam2rt inspect', ",
                            "or make the bundle again"));
  }
  // the bundle is whole, and making it again changes nothing
  const bool cpu = device_ == "cpu";
  throw SessionError(text("onnxruntime ", version_, " cannot run the ", bundle_.precision(),
                          " bundle ", bundle_.path().u8string(), " on the ",
                          cpu ? "CPU" : "device '" + device_ + "'",
                          ", where it has no kernels for it (", why,
                          "): export the checkpoint with --precision fp32",
                          cpu ? ", or run it on an NVIDIA GPU with device='cuda'" : ""));
}

/// The session's options, and weights in memory beside them.
OrtHandle<OrtSessionOptions> OnnxRuntime::with_weights(const GivenWeights& weights) const {
  // a clone would lack the operators' library
  OrtHandle<OrtSessionOptions> options = configure();
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

}  // namespace sam2rt
