#ifndef SAM2RT_SRC_GRAPH_FILE_HPP
#define SAM2RT_SRC_GRAPH_FILE_HPP

#include <cstdint>
#include <filesystem>
#include <map>
#include <stdexcept>
#include <string>

#include "sam2rt/bundle.hpp"

namespace sam2rt {

/// A file that is no graph of ours; the message says why in a few words.
struct GraphError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Refuse, with GraphError, the content of a graph's file that no exporter of ours wrote: other
/// operators, unknown fields, weights elsewhere than in `weights` (files as the graph names them,
/// and their sizes in bytes). The rules and the words are those of configs/formats/graph_file.py.
void check_graph(const std::string& content, const std::map<std::string, std::uint64_t>& weights);

/// The same of a graph in a bundle's folder; throws BundleError.
void check_graph_file(const std::filesystem::path& folder, const GraphEntry& graph);

}  // namespace sam2rt

#endif
