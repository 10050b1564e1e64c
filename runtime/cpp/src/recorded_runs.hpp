#ifndef SAM2RT_SRC_RECORDED_RUNS_HPP
#define SAM2RT_SRC_RECORDED_RUNS_HPP

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "cuda_driver.hpp"

namespace sam2rt {

/// CUDA graphs by what they hold: addresses and shapes. The least recently used goes first.
class RecordedRuns {
 public:
  using Key = std::vector<std::uint64_t>;

  explicit RecordedRuns(const cuda::Stream& stream) : stream_(stream) {}

  /// Replay the graph of `key`, or `enqueue`; what is not `fixed` is never recorded. The first run
  /// is an ordinary one, which sets everything up; the second is recorded. What cannot be recorded
  /// is enqueued each time.
  void run(const Key& key, const std::function<void()>& enqueue, bool fixed);

 private:
  struct Entry {
    Key key;
    std::unique_ptr<cuda::RecordedWork> recorded;  ///< null after the first run
    std::uint64_t used = 0;
  };

  Entry* find(const Key& key) noexcept;
  void record(Entry& entry, const std::function<void()>& enqueue);
  void remember(const Key& key);

  const cuda::Stream& stream_;
  std::vector<Entry> entries_;
  std::uint64_t runs_ = 0;
  bool records_ = true;  ///< no recording has failed
};

}  // namespace sam2rt

#endif
