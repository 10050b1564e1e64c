#include "sam2rt/bundle.hpp"

#include <fstream>

#include "graph_file.hpp"
#include "manifest.hpp"
#include "platform.hpp"
#include "sam2rt/error.hpp"
#include "sha256.hpp"
#include "text.hpp"

namespace sam2rt {

namespace fs = std::filesystem;

namespace {

std::string read_text(const fs::path& folder) {
  const fs::path path = folder / manifest_name;
  if (!is_file(path)) {
    const std::string found = is_folder(folder)
                                  ? text("a folder without ", manifest_name)
                                  : std::string("no such folder");
    throw BundleError("expected a bundle at " + folder.u8string() + ", found " + found + ": " +
                      export_again);
  }
  std::ifstream file(openable(path), std::ios::binary);
  std::string content(largest_manifest + 1, '\0');
  file.read(content.data(), static_cast<std::streamsize>(content.size()));
  content.resize(static_cast<std::size_t>(file.gcount()));
  if (!file && !file.eof()) {
    throw BundleError("cannot read " + path.u8string() + ": " + export_again);
  }
  return content;
}

bool inside(const fs::path& path, const fs::path& folder) {
  const fs::path real = real_path(path);
  const fs::path root = real_path(folder);
  auto part = real.begin();
  for (const fs::path& expected : root) {
    if (part == real.end() || *part++ != expected) return false;
  }
  return true;
}

void check_file(const fs::path& folder, const BundleFile& entry, bool check_hash) {
  const fs::path path = folder / fs::u8path(entry.path);
  if (!is_file(path)) {
    throw BundleError(path.u8string() + " is missing: " + export_again);
  }
  const auto size = size_of_file(path);
  if (size != entry.size) {
    throw BundleError(text(path.u8string(), " has ", size, " bytes, the manifest says ", entry.size,
                           " (truncated?): ", export_again));
  }
  // a link out of the folder (caches, volumes) may lead anywhere: it counts by its hash alone
  if (!check_hash && inside(path, folder)) return;
  if (const auto found = file_sha256(path); found != entry.sha256) {
    throw BundleError(text(path.u8string(), " has sha256 ", found.substr(0, 12),
                           "..., the manifest says ", entry.sha256.substr(0, 12),
                           "...: ", export_again));
  }
}

}  // namespace

Bundle Bundle::load(const fs::path& folder, bool check_hashes) {
  auto data = std::make_shared<Data>();
  static_cast<BundleData&>(*data) = parse_manifest(folder, read_text(folder));
  try {
    for (const auto* graphs : {&data->graphs, &data->other_graphs}) {
      for (const GraphEntry& graph : *graphs) {
        check_file(folder, graph.file, check_hashes);
        for (const BundleFile& file : graph.external) check_file(folder, file, check_hashes);
      }
    }
    for (const BundleFile& file : data->other_files) check_file(folder, file, check_hashes);
    for (const auto* graphs : {&data->graphs, &data->other_graphs}) {
      for (const GraphEntry& graph : *graphs) check_graph_file(folder, graph);
    }
  } catch (const std::ios_base::failure& error) {
    throw BundleError(text("cannot read the bundle ", folder.u8string(), " (", error.what(), ")"));
  } catch (const fs::filesystem_error& error) {
    throw BundleError(text("cannot read the bundle ", folder.u8string(), " (", error.what(), ")"));
  }
  return Bundle(std::move(data));
}

Bundle::Bundle(std::shared_ptr<const Data> data) noexcept : data_(std::move(data)) {}

const fs::path& Bundle::path() const noexcept { return data_->path; }
const ModelConfig& Bundle::model() const noexcept { return data_->model; }
const std::string& Bundle::precision() const noexcept { return data_->precision; }
int Bundle::opset() const noexcept { return data_->opset; }
const std::string& Bundle::generator() const noexcept { return data_->generator; }
const std::string& Bundle::checkpoint_sha256() const noexcept { return data_->checkpoint_sha256; }
bool Bundle::has(Graph graph) const noexcept {
  return static_cast<std::size_t>(graph) < data_->graphs.size();
}
const GraphEntry& Bundle::graph(Graph graph) const {
  if (has(graph)) return data_->graphs[static_cast<std::size_t>(graph)];
  throw BundleError(text("bundle ", path().u8string(), " has no graph '", graph_name(graph), "': ",
                         export_again));
}
const GraphEntry* Bundle::find_graph(const std::string& name) const noexcept {
  for (const auto* graphs : {&data_->graphs, &data_->other_graphs}) {
    for (const GraphEntry& graph : *graphs) {
      if (graph.spec.name == name) return &graph;
    }
  }
  return nullptr;
}
fs::path Bundle::graph_path(Graph name) const {
  return data_->path / fs::u8path(graph(name).file.path);
}

}  // namespace sam2rt
