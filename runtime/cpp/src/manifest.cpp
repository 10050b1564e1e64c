#include "manifest.hpp"

#include <algorithm>

#include "json_text.hpp"
#include "sam2rt/error.hpp"
#include "schema.hpp"
#include "text.hpp"

namespace sam2rt {

namespace {

using nlohmann::json;

constexpr int schema = 1;

int number_at(const json& object, const char* key, int fallback) {
  const auto found = object.find(key);
  return found == object.end() ? fallback : found->get<int>();
}

/// How the numbers of a model depend on each other; throws InputError in Python's words.
void check_relations(const ModelConfig& model, const json& data) {
  if (model.image_size % 32 != 0) {
    throw InputError(text("image size ", model.image_size,
                          " is not legal: expected a multiple of 32, at least 64"));
  }
  if (model.hidden_dim % model.mem_dim != 0) {
    throw InputError(text("hidden width ", model.hidden_dim, " is no multiple of memory width ",
                          model.mem_dim));
  }
  int depth = 0;
  for (const json& blocks : data.at("stages")) depth += blocks.get<int>();
  for (const json& block : data.at("global_att_blocks")) {
    if (block.get<int>() >= depth) {
      throw InputError(text("block ", block.get<int>(), " is to attend globally, expected one of ",
                            "the ", depth, " blocks"));
    }
  }
}

ModelConfig read_model(const json& data) {
  ModelConfig model;
  model.name = data.at("name").get<std::string>();
  model.family = data.at("family").get<std::string>();
  model.image_size = number_at(data, "image_size", model.image_size);
  model.hidden_dim = number_at(data, "hidden_dim", model.hidden_dim);
  model.mem_dim = number_at(data, "mem_dim", model.mem_dim);
  model.num_maskmem = number_at(data, "num_maskmem", model.num_maskmem);
  model.max_obj_ptrs = number_at(data, "max_obj_ptrs", model.max_obj_ptrs);
  model.stability_delta = data.value("stability_delta", model.stability_delta);
  model.stability_threshold = data.value("stability_threshold", model.stability_threshold);
  check_relations(model, data);
  return model;
}

BundleFile read_file(const json& data) {
  return {data.at("path").get<std::string>(), data.at("sha256").get<std::string>(),
          data.at("size").get<std::uint64_t>()};
}

std::vector<TensorSpec> read_tensors(const json& items) {
  std::vector<TensorSpec> tensors;
  for (const json& data : items) {
    TensorSpec tensor{data.at("name").get<std::string>(), data.at("dtype").get<std::string>(), {}};
    for (const json& dim : data.at("shape")) {
      if (dim.is_string()) {
        tensor.shape.emplace_back(dim.get<std::string>());
      } else {
        tensor.shape.emplace_back(dim.get<std::int64_t>());
      }
    }
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

GraphEntry read_graph(const std::string& name, const json& data) {
  GraphEntry entry;
  entry.spec = {name, read_tensors(data.at("inputs")), read_tensors(data.at("outputs"))};
  entry.file = read_file(data);
  for (const json& file : data.at("external")) entry.external.push_back(read_file(file));
  return entry;
}

/// Keep the contracts in their order, or say which are missing or different.
void take_graphs(BundleData& bundle, std::vector<GraphEntry> found) {
  const std::string path = (bundle.path / manifest_name).u8string();
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

/// The bundle of a manifest that the schema allows.
BundleData read_data(const std::filesystem::path& folder, const json& data) {
  BundleData bundle;
  bundle.path = folder;
  bundle.model = read_model(data.at("model"));
  bundle.precision = data.at("precision").get<std::string>();
  bundle.opset = data.at("opset").get<int>();
  bundle.checkpoint_sha256 = data.at("checkpoint_sha256").get<std::string>();
  bundle.generator = data.at("generator").get<std::string>();
  for (const auto& entry : data.at("proof_files").items()) {
    bundle.other_files.push_back(read_file(entry.value()));
  }
  std::vector<GraphEntry> graphs;
  for (const auto& [name, entry] : data.at("graphs").items()) {
    graphs.push_back(read_graph(name, entry));
  }
  take_graphs(bundle, std::move(graphs));
  return bundle;
}

json parse(const std::string& path, const std::string& json_text) {
  try {
    return parse_json(json_text, largest_manifest);
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
  const std::string path = (folder / manifest_name).u8string();
  const json data = parse(path, json_text);
  const json found = data.is_object() && data.contains("schema") ? data["schema"] : json();
  // true and 1.0 are no 1
  if (!found.is_number_integer() || found != schema) {
    throw BundleError(text(path, " has schema ", described(found), ", expected ", schema, ": ",
                           export_again));
  }
  if (!data.contains("digest") || data["digest"] != json_digest(data)) {
    throw BundleError(path + " was edited (its digest does not match): " + export_again);
  }
  try {
    check_schema(data, manifest_schema());
    return read_data(folder, data);
  } catch (const InputError& error) {
    throw BundleError(path + " was edited (" + error.what() + "): " + export_again);
  } catch (const SchemaError& error) {
    throw BundleError(path + " is not well formed (" + error.what() + "): " + export_again);
  }
}

}  // namespace sam2rt
