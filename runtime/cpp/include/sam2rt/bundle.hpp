#ifndef SAM2RT_BUNDLE_HPP
#define SAM2RT_BUNDLE_HPP

#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "sam2rt/export.h"

namespace sam2rt {

/// The graphs of a bundle, in the order of their contracts. `track_step` does in one call what
/// memory_attention, mask_decoder and memory_encoder do on a frame without prompts; a bundle may
/// lack it.
enum class Graph {
  image_encoder,
  memory_attention,
  mask_decoder,
  mask_prompt,
  memory_encoder,
  track_step
};
/// The graphs that no bundle lacks are the first ones.
inline constexpr int graph_count = 5;
SAM2RT_API const char* graph_name(Graph graph) noexcept;

/// What the orchestration needs to know of a model; sides in pixels.
struct ModelConfig {
  std::string name;
  std::string family;    ///< "2.0" or "2.1"
  int image_size = 1024;  ///< side S of the square model input
  int hidden_dim = 256;   ///< width C of embeddings and pointers
  int mem_dim = 64;       ///< width c of one memory token
  int num_maskmem = 7;    ///< prompted frames plus the newest num_maskmem - 1 others
  int max_obj_ptrs = 16;
  double stability_delta = 0.05;
  double stability_threshold = 0.98;

  int embed_size() const noexcept { return image_size / 16; }
  int mask_size() const noexcept { return image_size / 4; }
};

/// One input or output of a graph: a dimension is a number or the name of a dynamic one.
struct TensorSpec {
  std::string name;
  std::string dtype;
  std::vector<std::variant<std::int64_t, std::string>> shape;

  bool operator==(const TensorSpec& other) const noexcept {
    return name == other.name && dtype == other.dtype && shape == other.shape;
  }
};

struct GraphSpec {
  std::string name;
  std::vector<TensorSpec> inputs;
  std::vector<TensorSpec> outputs;

  bool operator==(const GraphSpec& other) const noexcept {
    return name == other.name && inputs == other.inputs && outputs == other.outputs;
  }
};

/// A file of the bundle: POSIX path relative to its folder, sha256 in hexadecimal, size in bytes.
struct BundleFile {
  std::string path;
  std::string sha256;
  std::uint64_t size = 0;
};

struct GraphEntry {
  GraphSpec spec;
  BundleFile file;
  std::vector<BundleFile> external;  ///< weight files beside the graph
};

/// A loaded bundle: plain data, nothing is open. Copies share it; it never changes, so any number
/// of threads may read it.
class SAM2RT_API Bundle {
 public:
  /// Read and check the bundle in a folder. Throws BundleError when the folder or manifest is
  /// missing, edited or of another schema, when a file is absent, truncated or changed (the
  /// sha256 is compared unless check_hashes is false), or when a path leaves the folder.
  static Bundle load(const std::filesystem::path& folder, bool check_hashes = true);

  const std::filesystem::path& path() const noexcept;
  const ModelConfig& model() const noexcept;
  const std::string& precision() const noexcept;  ///< "fp32", "fp16", "bf16" or "int8"
  int opset() const noexcept;
  const std::string& generator() const noexcept;
  const std::string& checkpoint_sha256() const noexcept;
  bool has(Graph graph) const noexcept;
  /// A graph of the bundle. Throws BundleError when it is `track_step` and the bundle lacks it.
  const GraphEntry& graph(Graph graph) const;
  /// A graph by its name, other variants of graphs included; null: there is none.
  const GraphEntry* find_graph(const std::string& name) const noexcept;
  /// Path of a graph's ONNX file.
  std::filesystem::path graph_path(Graph graph) const;

 private:
  struct SAM2RT_HIDDEN Data;
  explicit Bundle(std::shared_ptr<const Data> data) noexcept;
  std::shared_ptr<const Data> data_;
};

}  // namespace sam2rt

#endif
