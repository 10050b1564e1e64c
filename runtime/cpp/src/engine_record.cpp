#include "engine_record.hpp"

#include <algorithm>
#include <fstream>
#include <iterator>

#include "json_text.hpp"
#include "kernel_digests.hpp"
#include "platform.hpp"
#include "sam2rt/error.hpp"
#include "schema.hpp"
#include "sha256.hpp"
#include "text.hpp"

namespace sam2rt {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

constexpr int schema = 1;
constexpr std::size_t largest_record = 1 << 20;
constexpr const char* engines = "engines";
constexpr const char* build = "build it here: sam2rt build";

std::string dotted(int arch) { return text(arch / 10, ".", arch % 10); }

std::string dotted(std::pair<int, int> version) { return text(version.first, ".", version.second); }

std::string joined(const std::vector<std::string>& parts, const char* between) {
  std::string out;
  for (const std::string& part : parts) out += (out.empty() ? "" : between) + part;
  return out;
}

fs::path record_path(fs::path engine) { return engine.replace_extension(".json"); }

std::string read_file(const fs::path& path) {
  std::ifstream file(openable(path), std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

/// The content of an engine record whose digest is right.
json read_json(const fs::path& path) {
  if (!is_file(path)) {
    throw BundleError(text("expected ", path.u8string(), " beside the engine, found none: ",
                           build));
  }
  const auto unreadable = [&](const char* why) {
    return BundleError(text("cannot read ", path.u8string(), " (", why, "): ", build));
  };
  json data;
  try {
    data = parse_json(read_file(path), largest_record);
  } catch (const std::exception&) {
    throw unreadable("ValueError");
  }
  if (!data.is_object()) throw unreadable("TypeError");
  if (!data.contains("digest") || !data.contains("schema")) throw unreadable("KeyError");
  if (data["schema"] != schema) {
    throw BundleError(text(path.u8string(), " has schema ", described(data["schema"]),
                           ", expected ", schema, ": ", build));
  }
  if (data["digest"] != json_digest(data)) {
    throw BundleError(text(path.u8string(), " was edited (its digest does not match): ", build));
  }
  return data;
}

Shape read_shape(const json& sizes, std::size_t rank) {
  Shape shape;
  if (sizes.size() != rank || rank > shape.dims.size()) {
    throw std::runtime_error("a profile does not fit its graph");
  }
  shape.rank = static_cast<int>(rank);
  for (std::size_t i = 0; i < rank; ++i) shape.dims[i] = sizes.at(i).get<std::int64_t>();
  return shape;
}

Profile read_profile(const json& data, const GraphSpec& spec) {
  Profile profile;
  for (const TensorSpec& input : spec.inputs) {
    const json& range = data.at(input.name);
    const std::size_t rank = input.shape.size();
    profile.push_back({read_shape(range.at(0), rank), read_shape(range.at(2), rank)});
  }
  return profile;
}

EngineRecord read_fields(const json& data, const GraphSpec& spec) {
  EngineRecord record;
  data.at("graph").get_to(record.graph);
  data.at("source").get_to(record.source);
  data.at("size").get_to(record.size);
  data.at("sha256").get_to(record.sha256);
  data.at("onnx").get_to(record.onnx);
  data.at("tensorrt").get_to(record.tensorrt);
  data.at("arch").get_to(record.arch);
  data.at("gpu").get_to(record.gpu);
  data.at("driver").get_to(record.driver);
  data.at("hardware_compatible").get_to(record.hardware_compatible);
  data.at("version_compatible").get_to(record.version_compatible);
  data.at("device_memory").get_to(record.device_memory);
  if (data.contains("kernels")) data["kernels"].get_to(record.kernels);
  // an engine of another graph is refused for that, not for its profiles
  if (record.graph != spec.name) return record;
  for (const json& profile : data.at("profiles")) {
    record.profiles.push_back(read_profile(profile, spec));
  }
  if (record.profiles.empty()) throw std::runtime_error("it has no profiles");
  return record;
}

EngineRecord read_record(const fs::path& engine, const GraphSpec& spec) {
  const fs::path path = record_path(engine);
  const json data = read_json(path);
  try {
    return read_fields(data, spec);
  } catch (const std::exception& error) {
    throw BundleError(text(path.u8string(), " is not well formed (", error.what(), "): ", build));
  }
}

/// One hash over a graph's ONNX file and its weight files, from the manifest.
std::string onnx_digest(const GraphEntry& entry) {
  std::string hashes = entry.file.sha256;
  for (const BundleFile& file : entry.external) hashes += "\n" + file.sha256;
  return sha256(hashes);
}

/// The first two numbers of a version.
std::pair<int, int> major_minor(const std::string& version) {
  std::istringstream in(version);
  std::pair<int, int> numbers{0, 0};
  char dot = 0;
  in >> numbers.first >> dot >> numbers.second;
  return numbers;
}

bool same_tensorrt(const EngineRecord& record, const std::string& found) {
  if (!record.version_compatible) return record.tensorrt == found;
  const auto built = major_minor(record.tensorrt), here = major_minor(found);
  return built.first == here.first && built.second <= here.second;
}

std::vector<std::string> incompatibilities(const EngineRecord& record, const Bundle& bundle,
                                           Graph graph, const Machine& machine) {
  std::vector<std::string> found;
  const auto differs = [&](const std::string& what, const std::string& expected,
                           const std::string& given) {
    found.push_back(text("expected ", what, " ", expected, ", found ", given));
  };
  if (record.graph != graph_name(graph)) differs("graph", graph_name(graph), record.graph);
  const GraphEntry* source = bundle.find_graph(record.source);
  if (source == nullptr || record.onnx != onnx_digest(*source)) {
    found.emplace_back("it was built from another export than this bundle's");
  }
  if (record.arch != machine.arch) {
    differs("compute capability", dotted(record.arch), dotted(machine.arch));
  } else if (record.gpu != machine.gpu && !record.hardware_compatible) {
    differs("GPU", record.gpu, machine.gpu);
  }
  if (!same_tensorrt(record, machine.tensorrt)) {
    differs("TensorRT", record.tensorrt, machine.tensorrt);
  }
  if (machine.driver < record.driver) {
    differs("a driver for CUDA", dotted(record.driver), dotted(machine.driver));
  }
  for (const auto& [name, digest] : record.kernels) {
    const char* known = kernel_digest(name);
    if (known == nullptr) {
      differs("plugin", name, "none of that name");
    } else if (digest != known) {
      differs("plugin", name, "another version");
    }
  }
  return found;
}

/// Whether every engine of a folder was built to run with later TensorRT too, and fits.
bool portable(const Bundle& bundle, const fs::path& folder, const Machine& machine) {
  try {
    for (int i = 0; i < graph_count; ++i) {
      const auto graph = static_cast<Graph>(i);
      const auto record = read_record(engine_path(folder, graph), bundle.graph(graph).spec);
      if (!record.version_compatible) return false;
      if (!incompatibilities(record, bundle, graph, machine).empty()) return false;
    }
  } catch (const BundleError&) {  // an unreadable folder is no reason not to look further
    return false;
  }
  return true;
}

/// The numbers in a folder's name, which say how new it is.
std::vector<std::uint64_t> numbers(const std::string& folder) {
  std::vector<std::uint64_t> found;
  bool inside = false;
  for (const char c : folder) {
    const bool digit = c >= '0' && c <= '9';
    if (digit && !inside) found.push_back(0);
    if (digit) found.back() = found.back() * 10 + static_cast<std::uint64_t>(c - '0');
    inside = digit;
  }
  return found;
}

bool admits(const Profile& profile, Span<const InputTensor> inputs) noexcept {
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    for (std::size_t d = 0; d < static_cast<std::size_t>(inputs[i].shape.rank); ++d) {
      const auto size = inputs[i].shape.dims[d];
      if (size < profile[i].least.dims[d] || size > profile[i].most.dims[d]) return false;
    }
  }
  return true;
}

std::string sizes(const Shape& shape) {
  const Span<const std::int64_t> dims(shape.dims.data(), static_cast<std::size_t>(shape.rank));
  return listed(dims, [](std::int64_t size) { return std::to_string(size); });
}

}  // namespace

std::string Machine::folder() const { return text("sm", arch, "-trt", tensorrt); }

fs::path engine_path(const fs::path& folder, Graph graph) {
  return folder / (std::string(graph_name(graph)) + ".engine");
}

fs::path engine_folder(const Bundle& bundle, const std::string& named, const Machine& machine) {
  const std::string name = named.empty() ? machine.folder() : named;
  const fs::path all = bundle.path() / engines;
  std::error_code ignored;
  if (is_folder(all / fs::u8path(name))) return all / fs::u8path(name);
  std::vector<std::string> have;
  for (const auto& entry : fs::directory_iterator(openable(all), ignored)) {
    if (entry.is_directory(ignored)) have.push_back(entry.path().filename().u8string());
  }
  std::sort(have.begin(), have.end());
  if (named.empty()) {
    std::vector<std::string> newest = have;
    std::stable_sort(newest.begin(), newest.end(), [](const auto& a, const auto& b) {
      return numbers(a) > numbers(b);
    });
    for (const std::string& folder : newest) {
      if (portable(bundle, all / folder, machine)) return all / folder;
    }
  }
  throw BundleError(text("expected engines for ", name, " in ", bundle.path().u8string(), ", found ",
                         have.empty() ? "none" : joined(have, ", "),
                         ": build them with 'sam2rt build ", bundle.path().u8string(), "'"));
}

EngineRecord check_engine(const Bundle& bundle, const fs::path& folder, Graph graph,
                          const Machine& machine) {
  const fs::path path = engine_path(folder, graph);
  EngineRecord record = read_record(path, bundle.graph(graph).spec);
  const auto wrong = incompatibilities(record, bundle, graph, machine);
  if (!wrong.empty()) {
    throw SessionError(text("engine ", path.u8string(), ": ", joined(wrong, "; "), ": ", build, " ",
                            bundle.path().u8string()));
  }
  if (!is_file(path)) {
    throw BundleError(text("expected the engine ", path.u8string(), ", found none: ", build));
  }
  const auto size = size_of_file(path);
  if (size != record.size) {
    throw BundleError(text(path.u8string(), " has ", size, " bytes, its record says ", record.size,
                           " (truncated?): ", build));
  }
  if (const auto found = file_sha256(path); found != record.sha256) {
    throw BundleError(text(path.u8string(), " has sha256 ", found.substr(0, 12),
                           "..., its record says ", record.sha256.substr(0, 12), "...: ", build));
  }
  return record;
}

bool is_fixed(const Profile& profile) noexcept {
  return std::all_of(profile.begin(), profile.end(),
                     [](const Range& range) { return range.least.dims == range.most.dims; });
}

std::size_t choose_profile(const EngineRecord& record, const GraphSpec& spec,
                           Span<const InputTensor> inputs) {
  for (std::size_t i = 0; i < record.profiles.size(); ++i) {
    if (admits(record.profiles[i], inputs)) return i;
  }
  std::vector<std::string> over;
  const Profile& largest = record.profiles.back();
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    for (std::size_t d = 0; d < static_cast<std::size_t>(inputs[i].shape.rank); ++d) {
      if (inputs[i].shape.dims[d] <= largest[i].most.dims[d]) continue;
      over.push_back(text(spec.inputs[i].name, " ", sizes(inputs[i].shape), " (at most ",
                          sizes(largest[i].most), ")"));
      break;
    }
  }
  throw InputError(text("the engine of ", spec.name, " was built for smaller inputs than ",
                        joined(over, ", "),
                        ": build it with larger --max-objects or --max-memories"));
}

}  // namespace sam2rt
