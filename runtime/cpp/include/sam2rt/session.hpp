#ifndef SAM2RT_SESSION_HPP
#define SAM2RT_SESSION_HPP

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "sam2rt/bundle.hpp"
#include "sam2rt/export.h"
#include "sam2rt/frame.hpp"
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

class GraphMemory;

/// An array, C order, that the caller owns. Memory other than the host's comes from the session's
/// own `allocate`.
struct InputTensor {
  const void* data = nullptr;
  DType dtype = DType::float32;
  Shape shape;
  MemoryKind memory = MemoryKind::host;
  GraphMemory* owner = nullptr;  ///< what `data` lies in, where `allocate` gave it
};

/// Where a graph writes an output; with data null the output is not wanted.
struct OutputTensor {
  void* data = nullptr;
  DType dtype = DType::float32;
  Shape shape;
  MemoryKind memory = MemoryKind::host;
  /// What `data` lies in, where `allocate` gave it. The session may return while it still writes
  /// there, and waits before it is read.
  GraphMemory* owner = nullptr;
  /// An address for each entry of the first dimension, where they lie apart; only for sessions
  /// that say `keeps_memories`.
  void* const* apart = nullptr;
};

/// Floats that graphs hand to each other, where the backend computes. The host writes them and
/// does not read them. Keeps what it needs of its session alive.
class SAM2RT_API GraphMemory {
 public:
  GraphMemory() = default;
  GraphMemory(const GraphMemory&) = delete;
  GraphMemory& operator=(const GraphMemory&) = delete;
  virtual ~GraphMemory();

  /// An address of that kind: not for the host to follow unless kind() is host.
  virtual float* data() noexcept = 0;
  virtual MemoryKind kind() const noexcept = 0;
  virtual std::size_t size() const noexcept = 0;
  /// Write `count` floats from the host, the first of them at index `first`.
  virtual void write(std::size_t first, const float* values, std::size_t count) = 0;
  /// Copy `count` floats of other memory of the session, from its index `from_first` on. Needed
  /// where a session says `keeps_memories`; host memory copies from host memory.
  virtual void copy(std::size_t first, GraphMemory& from, std::size_t from_first,
                    std::size_t count);
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

  // What a backend can do beyond that. The defaults describe a plain session.

  /// Memory for `count` floats, undefined, for what one graph hands to the next. Plain: host
  /// memory.
  virtual std::unique_ptr<GraphMemory> allocate(std::size_t count);
  /// Objects one call takes at most; trackers split larger groups. Plain: no limit, the largest
  /// int.
  virtual int max_objects() const noexcept;
  /// Images one call of the encoder takes at most. Plain: no limit, the largest int.
  virtual int max_images() const noexcept;
  /// Whether a frame without prompts is to be tracked by Graph::track_step. Plain: no, by the
  /// separate graphs.
  virtual bool fused() const noexcept;
  /// Whether memories of tracked frames stay where `allocate` put them: a new one is written among
  /// those that the next frame reads, and the host never sees it. Plain: no.
  virtual bool keeps_memories() const noexcept;
  /// Whether Graph::track_step runs per object, in the memory of one. Plain: no, on all objects of
  /// a call at once.
  virtual bool per_object() const noexcept;
};

struct SessionOptions {
  std::string backend = "onnxruntime";
  /// onnxruntime: "cpu", "cuda" or "tensorrt", the execution provider. tensorrt: "cuda" or
  /// "cuda:1"; "cpu", the default, means the first GPU
  std::string device = "cpu";
  std::optional<int> threads;  ///< CPU threads; unset: the backend's choice
  std::string engines;  ///< tensorrt: another folder of engines than this machine's
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
