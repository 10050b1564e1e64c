#include "recorded_runs.hpp"

#include <algorithm>

#include "sam2rt/error.hpp"

namespace sam2rt {

namespace {

/// A ring has a graph per slot, a tracker has few rings.
constexpr std::size_t most_graphs = 64;

}  // namespace

void RecordedRuns::run(const Key& key, const std::function<void()>& enqueue, bool fixed) {
  if (!fixed || !records_) {
    enqueue();
    return;
  }
  ++runs_;
  Entry* entry = find(key);
  if (entry == nullptr) {
    enqueue();
    remember(key);
    return;
  }
  if (entry->recorded == nullptr) record(*entry, enqueue);
  if (entry->recorded == nullptr) {
    enqueue();
    return;
  }
  entry->used = runs_;
  entry->recorded->replay(stream_);
}

RecordedRuns::Entry* RecordedRuns::find(const Key& key) noexcept {
  const auto found = std::find_if(entries_.begin(), entries_.end(),
                                  [&key](const Entry& entry) { return entry.key == key; });
  return found == entries_.end() ? nullptr : &*found;
}

void RecordedRuns::record(Entry& entry, const std::function<void()>& enqueue) {
  try {
    entry.recorded = std::make_unique<cuda::RecordedWork>(stream_, enqueue);
  } catch (const SessionError&) {
    records_ = false;
  }
}

void RecordedRuns::remember(const Key& key) {
  if (entries_.size() >= most_graphs) {
    entries_.erase(std::min_element(entries_.begin(), entries_.end(),
                                    [](const Entry& a, const Entry& b) { return a.used < b.used; }));
  }
  entries_.push_back({key, nullptr, runs_});
}

}  // namespace sam2rt
