#ifndef SAM2RT_SESSION_HPP
#define SAM2RT_SESSION_HPP

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "sam2rt/bundle.hpp"
#include "sam2rt/export.h"
#include "sam2rt/span.hpp"

namespace sam2rt {

enum class DType { float32, int32, int64, boolean };

/// Up to five dimensions, all known.
struct Shape {
  std::array<std::int64_t, 5> dims{};
  int rank = 0;

  template <class... D>
  static constexpr Shape of(D... dims) noexcept {
    static_assert(sizeof...(D) <= 5, "no tensor has more than five dimensions");
    return Shape{{static_cast<std::int64_t>(dims)...}, static_cast<int>(sizeof...(D))};
  }
  constexpr std::int64_t elements() const noexcept {
    std::int64_t n = 1;
    for (int i = 0; i < rank; ++i) n *= dims[static_cast<std::size_t>(i)];
    return n;
  }
};

/// An array in host memory, C order, that the caller owns.
struct InputTensor {
  const void* data = nullptr;
  DType dtype = DType::float32;
  Shape shape;
};

/// Where a graph writes an output; with data null the output is not wanted.
struct OutputTensor {
  void* data = nullptr;
  DType dtype = DType::float32;
  Shape shape;
};

/// Runs a bundle's graphs on one backend. One session may serve many trackers on many threads;
/// `run` may be called from several threads at once. Implement it to add a backend.
class SAM2RT_API Session {
 public:
  Session() = default;
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
  virtual ~Session();

  virtual const Bundle& bundle() const noexcept = 0;

  /// Run one graph. Inputs and outputs are in the order of its contract, none left out, outputs
  /// of the shapes that follow from the inputs. Throws InputError for arrays that do not fit the
  /// contract, SessionError when the backend fails.
  virtual void run(Graph graph, Span<const InputTensor> inputs,
                   Span<const OutputTensor> outputs) = 0;
};

struct SessionOptions {
  std::string backend = "onnxruntime";
  std::string device = "cpu";           ///< "cpu", "cuda" or "tensorrt": the execution provider
  std::optional<int> threads;           ///< CPU threads; unset: the backend's choice
};

/// Open a session; its graphs are opened now. Throws InputError for an unknown backend or device,
/// SessionError when the backend, a provider or a graph cannot be opened.
SAM2RT_API std::shared_ptr<Session> open_session(const Bundle& bundle,
                                                 const SessionOptions& options = {});

/// Throws InputError when arrays do not fit a graph's contract: what every backend checks first.
SAM2RT_API void check_tensors(const GraphSpec& spec, Span<const InputTensor> inputs,
                              Span<const OutputTensor> outputs);

}  // namespace sam2rt

#endif
