#include "manifest.hpp"

#include <algorithm>
#include <array>
#include <optional>

#include "json_text.hpp"
#include "sam2rt/error.hpp"
#include "text.hpp"

namespace sam2rt {

namespace {

using nlohmann::json;

constexpr int schema = 1;
/// sides and widths beyond this are no model's: refused before any array is sized by them
constexpr std::int64_t largest_number = 1 << 16;

/// A manifest of the wrong structure; becomes a BundleError that names the file.
struct Malformed : std::runtime_error {
  using std::runtime_error::runtime_error;
};

const json& item(const json& object, const char* key) {
  if (!object.is_object()) throw Malformed("TypeError: expected an object with " + repr(key));
  const auto found = object.find(key);
  if (found == object.end()) throw Malformed("KeyError: " + repr(key));
  return *found;
}

std::string string_at(const json& object, const char* key) {
  const json& value = item(object, key);
  if (!value.is_string()) throw Malformed(text("TypeError: ", key, " must be text"));
  return value.get<std::string>();
}

std::int64_t integer(const json& value, const char* what) {
  if (!value.is_number_integer()) throw Malformed(text("TypeError: ", what, " must be a number"));
  if (value.is_number_unsigned() && value.get<std::uint64_t>() > INT64_MAX) {
    throw Malformed(text("ValueError: ", what, " is too large"));
  }
  return value.get<std::int64_t>();
}

int small_at(const json& object, const char* key, std::optional<int> fallback = std::nullopt) {
  if (fallback && !object.contains(key)) return *fallback;
  const auto value = integer(item(object, key), key);
  if (value < 1 || value > largest_number) {
    throw Malformed(text("ValueError: ", key, " is ", value));
  }
  return static_cast<int>(value);
}

double real_at(const json& object, const char* key, double fallback) {
  const auto found = object.find(key);
  if (found == object.end()) return fallback;
  if (!found->is_number()) throw Malformed(text("TypeError: ", key, " must be a number"));
  return found->get<double>();
}

/// Every field of the model; those that only building the model needs are not kept.
constexpr std::array<const char*, 17> model_fields{
    "name", "family", "embed_dim", "num_heads", "stages", "global_att_blocks", "window_spec",
    "pos_embed_size", "image_size", "hidden_dim", "mem_dim", "memory_attention_layers",
    "memory_attention_ffn", "num_maskmem", "max_obj_ptrs", "stability_delta",
    "stability_threshold"};

ModelConfig read_model(const json& data) {
  ModelConfig model;
  model.name = string_at(data, "name");
  model.family = string_at(data, "family");
  for (const char* required : {"embed_dim", "num_heads", "stages", "global_att_blocks"}) {
    item(data, required);
  }
  for (const auto& entry : data.items()) {
    const auto same = [&](const char* field) { return entry.key() == field; };
    if (std::none_of(model_fields.begin(), model_fields.end(), same)) {
      throw Malformed("TypeError: unexpected field " + repr(entry.key()));
    }
  }
  model.image_size = small_at(data, "image_size", model.image_size);
  model.hidden_dim = small_at(data, "hidden_dim", model.hidden_dim);
  model.mem_dim = small_at(data, "mem_dim", model.mem_dim);
  model.num_maskmem = small_at(data, "num_maskmem", model.num_maskmem);
  model.max_obj_ptrs = small_at(data, "max_obj_ptrs", model.max_obj_ptrs);
  model.stability_delta = real_at(data, "stability_delta", model.stability_delta);
  model.stability_threshold = real_at(data, "stability_threshold", model.stability_threshold);
  if (model.image_size < 64 || model.image_size % 32 != 0) {
    throw InputError(text("image size ", model.image_size,
                          " is not legal: expected a multiple of 32, at least 64"));
  }
  if (model.hidden_dim % model.mem_dim != 0) {
    throw InputError(text("hidden width ", model.hidden_dim, " is no multiple of memory width ",
                          model.mem_dim));
  }
  return model;
}

bool leaves_folder(const std::string& path) {
  if (path.empty() || path.front() == '/' || path.find('\\') != std::string::npos ||
      path.find('\0') != std::string::npos) {
    return true;
  }
  bool names_something = false;
  std::istringstream parts(path);
  for (std::string part; std::getline(parts, part, '/');) {
    if (part == "..") return true;
    names_something |= !part.empty() && part != ".";
  }
  return !names_something;
}

BundleFile read_file(const json& data) {
  const json& path = item(data, "path");
  const json& hash = item(data, "sha256");
  if (!path.is_string() || !hash.is_string()) {
    throw Malformed("TypeError: a file's path and sha256 must be text");
  }
  BundleFile file{path.get<std::string>(), hash.get<std::string>(), 0};
  if (leaves_folder(file.path)) {
    throw Malformed("ValueError: path " + repr(file.path) + " leaves the bundle folder");
  }
  const auto size = integer(item(data, "size"), "size");
  if (size < 0) throw Malformed(text("ValueError: size is ", size));
  file.size = static_cast<std::uint64_t>(size);
  return file;
}

std::vector<TensorSpec> read_tensors(const json& items) {
  if (!items.is_array()) throw Malformed("TypeError: inputs and outputs must be lists");
  std::vector<TensorSpec> tensors;
  for (const json& data : items) {
    TensorSpec tensor{string_at(data, "name"), string_at(data, "dtype"), {}};
    const json& shape = item(data, "shape");
    if (!shape.is_array()) throw Malformed("TypeError: a shape must be a list");
    for (const json& dim : shape) {
      if (dim.is_string()) {
        tensor.shape.emplace_back(dim.get<std::string>());
      } else {
        tensor.shape.emplace_back(integer(dim, "a dimension"));
      }
    }
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

GraphEntry read_graph(const std::string& name, const json& data) {
  GraphEntry entry;
  entry.spec = {name, read_tensors(item(data, "inputs")), read_tensors(item(data, "outputs"))};
  entry.file = read_file(data);
  const json& external = item(data, "external");
  if (!external.is_array()) throw Malformed("TypeError: external must be a list");
  for (const json& file : external) entry.external.push_back(read_file(file));
  return entry;
}

/// Keep the contracts in their order, or say which are missing or different.
void take_graphs(BundleData& bundle, std::vector<GraphEntry> found) {
  const std::string path = (bundle.path / manifest_name).string();
  std::string missing;
  std::string other;
  for (GraphSpec& expected : graph_specs(bundle.model)) {
    const auto same = [&](const GraphEntry& e) { return e.spec.name == expected.name; };
    const auto entry = std::find_if(found.begin(), found.end(), same);
    if (entry == found.end()) {
      // frames can be tracked without the fused graph
      if (expected.name == graph_name(Graph::track_step)) continue;
      missing += (missing.empty() ? "" : ", ") + expected.name;
      continue;
    }
    if (!(entry->spec == expected)) other += (other.empty() ? "" : ", ") + expected.name;
    bundle.graphs.push_back(std::move(*entry));
    found.erase(entry);
  }
  if (!missing.empty()) {
    throw BundleError(path + " lacks the graphs " + missing + ": " + export_again);
  }
  if (!other.empty()) {
    throw BundleError(path + ": inputs or outputs of " + other +
                      " are not what this version expects of model " + bundle.model.name + ": " +
                      export_again);
  }
  bundle.other_graphs = std::move(found);
}

BundleData read_data(const std::filesystem::path& folder, const json& data) {
  BundleData bundle;
  bundle.path = folder;
  bundle.model = read_model(item(data, "model"));
  const json& precision = item(data, "precision");
  constexpr std::array<const char*, 4> precisions{"fp32", "fp16", "bf16", "int8"};
  const auto same = [&](const char* known) { return precision == known; };
  if (std::none_of(precisions.begin(), precisions.end(), same)) {
    throw Malformed("ValueError: precision " + python_repr(precision));
  }
  bundle.precision = precision.get<std::string>();
  std::vector<GraphEntry> graphs;
  const json& listed_graphs = item(data, "graphs");
  if (!listed_graphs.is_object()) throw Malformed("TypeError: graphs must be an object");
  for (const auto& [name, entry] : listed_graphs.items()) graphs.push_back(read_graph(name, entry));
  bundle.opset = small_at(data, "opset");
  bundle.checkpoint_sha256 = string_at(data, "checkpoint_sha256");
  bundle.generator = string_at(data, "generator");
  if (!item(data, "proof").is_object()) throw Malformed("TypeError: proof must be an object");
  const json& proof_files = item(data, "proof_files");
  if (!proof_files.is_object()) throw Malformed("TypeError: proof_files must be an object");
  for (const auto& entry : proof_files.items()) {
    bundle.other_files.push_back(read_file(entry.value()));
  }
  take_graphs(bundle, std::move(graphs));
  return bundle;
}

json parse(const std::string& path, const std::string& json_text) {
  try {
    return parse_json(json_text);
  } catch (const std::exception& error) {
    throw BundleError("cannot read " + path + " (" + error.what() + "): " + export_again);
  }
}

}  // namespace

std::string with_digest(const std::string& json_text) {
  try {
    json data = parse("", json_text);
    if (!data.is_object()) return json_text;
    data["digest"] = json_digest(data);
    return data.dump();
  } catch (const BundleError&) {
    return json_text;
  }
}

BundleData parse_manifest(const std::filesystem::path& folder, const std::string& json_text) {
  const std::string path = (folder / manifest_name).string();
  const json data = parse(path, json_text);
  const json found = data.is_object() && data.contains("schema") ? data["schema"] : json();
  if (found != schema) {
    throw BundleError(text(path, " has schema ", python_repr(found), ", expected ", schema, ": ",
                           export_again));
  }
  if (!data.contains("digest") || data["digest"] != json_digest(data)) {
    throw BundleError(path + " was edited (its digest does not match): " + export_again);
  }
  try {
    return read_data(folder, data);
  } catch (const InputError& error) {
    throw BundleError(path + " was edited (" + error.what() + "): " + export_again);
  } catch (const Malformed& error) {
    throw BundleError(path + " is not well formed (" + error.what() + "): " + export_again);
  }
}

}  // namespace sam2rt
