#ifndef SAM2RT_SRC_TENSORRT_WORK_HPP
#define SAM2RT_SRC_TENSORRT_WORK_HPP

#include <utility>
#include <vector>

#include "recorded_runs.hpp"
#include "tensorrt_runner.hpp"

namespace sam2rt {

/// What one call enqueues: copies in, engines one after the other, copies out. Its vectors are kept
/// between calls, so that a call that was made before allocates nothing.
class TensorRTWork {
 public:
  explicit TensorRTWork(const cuda::Stream& stream) : stream_(stream), runs_(stream) {}

  /// Forget the last call.
  void clear() noexcept;
  /// The next engine's launch, to be filled: its places hold as many addresses as it has tensors.
  TensorRTRunner::Launch& add(TensorRTRunner& runner);
  /// Enqueue it, by a CUDA graph where `fixed` allows one.
  void run(bool fixed);
  /// What the host reads: wait for the stream, then copy it from pinned memory.
  void finish();

  std::vector<DeviceCopy> before, after;
  /// (to, from, bytes) on the host, once the stream was waited for
  struct Taken {
    void* to = nullptr;
    const void* from = nullptr;
    std::size_t bytes = 0;
  };
  std::vector<Taken> taken;

  /// Bring an output to where the caller wants it; the address that the engine writes to.
  cuda::Address deliver(TensorRTRunner& runner, std::size_t index, const OutputTensor& output);

 private:
  void enqueue();
  void make_key();

  const cuda::Stream& stream_;
  RecordedRuns runs_;
  RecordedRuns::Key key_;
  std::vector<std::pair<TensorRTRunner*, TensorRTRunner::Launch>> launches_;
  std::size_t used_ = 0;
};

}  // namespace sam2rt

#endif
