#ifndef SAM2RT_SRC_ENGINE_RECORD_HPP
#define SAM2RT_SRC_ENGINE_RECORD_HPP

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "sam2rt/session.hpp"

namespace sam2rt {

/// What an engine must fit: TensorRT's version, and the GPU with its driver.
struct Machine {
  std::string tensorrt;             ///< such as "10.16.1.11"
  int arch = 0;                     ///< compute capability, as major * 10 + minor
  std::string gpu;
  std::pair<int, int> driver{0, 0};  ///< CUDA version the driver supports

  /// Name of this machine's folder of engines in a bundle.
  std::string folder() const;
};

/// Smallest and largest shape of one input.
struct Range {
  Shape least;
  Shape most;
};

/// Of every input of a graph, in the order of its contract.
using Profile = std::vector<Range>;

/// The JSON file beside an engine: all that decides whether it may be loaded. TensorRT has no
/// preflight, a foreign, truncated or altered engine gives a null object or a crash.
struct EngineRecord {
  std::string graph;
  std::string source;  ///< which variant of the graph was built
  std::uint64_t size = 0;
  std::string sha256;
  std::string onnx;  ///< sha256 of the graph and its weight files
  std::string tensorrt;
  int arch = 0;
  std::string gpu;
  std::pair<int, int> driver{0, 0};
  bool hardware_compatible = false;
  bool version_compatible = false;
  std::size_t device_memory = 0;  ///< bytes one execution context takes
  std::vector<Profile> profiles;
  std::map<std::string, std::string> kernels;  ///< sha256 of custom kernels inside, by name
};

/// The folder of engines that is `named`, else this machine's own, else the newest of those that
/// were built to run with later TensorRT too and fit. Throws BundleError that says which there are.
std::filesystem::path engine_folder(const Bundle& bundle, const std::string& named,
                                    const Machine& machine);

/// The record of an engine that may be loaded on `machine`; reads nothing but files. Throws
/// SessionError for an engine of another machine, BundleError for files that are not what they
/// should be: the messages of the Python runtime.
EngineRecord check_engine(const Bundle& bundle, const std::filesystem::path& folder, Graph graph,
                          const Machine& machine);

std::filesystem::path engine_path(const std::filesystem::path& folder, Graph graph);

bool is_fixed(const Profile& profile) noexcept;

/// Index of the first profile that admits inputs of these shapes. Throws InputError that says
/// which option of the build helps.
std::size_t choose_profile(const EngineRecord& record, const GraphSpec& spec,
                           Span<const InputTensor> inputs);

}  // namespace sam2rt

#endif
