#ifndef SAM2RT_SRC_MANIFEST_HPP
#define SAM2RT_SRC_MANIFEST_HPP

#include <array>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "sam2rt/bundle.hpp"

namespace sam2rt {

inline constexpr const char* manifest_name = "manifest.json";
/// Bytes; those of the largest models with all variants have 40 000.
inline constexpr std::size_t largest_manifest = 1 << 20;
/// What fixes a broken bundle: the end of every such message.
inline constexpr const char* export_again =
    "make it again with 'sam2rt export CHECKPOINT -o BUNDLE'";

/// The content of a manifest whose digest, structure and graph contracts are right.
struct BundleData {
  std::filesystem::path path;
  ModelConfig model;
  std::string precision;
  int opset = 0;
  std::string checkpoint_sha256;
  std::string generator;
  std::vector<GraphEntry> graphs;        ///< the contracts, in their order; track_step may lack
  std::vector<GraphEntry> other_graphs;  ///< other variants of them
  std::vector<BundleFile> other_files;   ///< of the proof
};

struct Bundle::Data : BundleData {};

/// Read the text of a manifest; `folder` is named in messages only. Throws BundleError.
BundleData parse_manifest(const std::filesystem::path& folder, const std::string& json_text);

/// The manifest text with the digest that its content asks for; any other text unchanged. For
/// tests: a reader takes no other.
std::string with_digest(const std::string& json_text);

/// The graph contracts of a model, in the order of `Graph`.
std::vector<GraphSpec> graph_specs(const ModelConfig& model);

/// The two graphs that do track_step's work per object: what all objects of a frame share, and the
/// rest.
std::array<GraphSpec, 2> per_object_specs(const ModelConfig& model);

}  // namespace sam2rt

#endif
