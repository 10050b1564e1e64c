#include "tensorrt_work.hpp"

#include <cstring>

namespace sam2rt {

void TensorRTWork::clear() noexcept {
  before.clear();
  after.clear();
  taken.clear();
  used_ = 0;
}

TensorRTRunner::Launch& TensorRTWork::add(TensorRTRunner& runner) {
  if (used_ == launches_.size()) launches_.emplace_back();
  auto& [owner, launch] = launches_[used_++];
  owner = &runner;
  launch.places.assign(runner.spec().inputs.size() + runner.spec().outputs.size(), 0);
  return launch;
}

cuda::Address TensorRTWork::deliver(TensorRTRunner& runner, std::size_t index,
                                    const OutputTensor& output) {
  const cuda::Address own = runner.output_place(index);
  if (output.data == nullptr) return own;
  const std::size_t bytes = bytes_of(output.dtype, output.shape);
  if (output.memory == MemoryKind::host) {
    after.push_back(runner.download(index, bytes));
    taken.push_back({output.data, runner.output_staging(index), bytes});
    return own;
  }
  const auto entries = static_cast<std::size_t>(output.apart != nullptr ? output.shape.dims[0] : 1);
  const auto first = cuda::address_of(output.apart != nullptr ? output.apart[0] : output.data);
  if (entries == 1 && aligned(first)) return first;
  // what lies apart is written together, then distributed
  for (std::size_t i = 0; i < entries; ++i) {
    const auto to = output.apart != nullptr ? cuda::address_of(output.apart[i]) : first;
    after.push_back({to, own + i * (bytes / entries), bytes / entries});
  }
  return own;
}

void TensorRTWork::run(bool fixed) {
  make_key();
  runs_.run(key_, [this] { enqueue(); }, fixed);
}

void TensorRTWork::enqueue() {
  for (const DeviceCopy& copy : before) stream_.copy(copy.to, copy.from, copy.bytes);
  for (std::size_t i = 0; i < used_; ++i) launches_[i].first->enqueue(launches_[i].second);
  for (const DeviceCopy& copy : after) stream_.copy(copy.to, copy.from, copy.bytes);
}

void TensorRTWork::make_key() {
  key_.clear();
  for (std::size_t i = 0; i < used_; ++i) {
    const auto& launch = launches_[i].second;
    key_.push_back(launch.profile);
    key_.insert(key_.end(), launch.places.begin(), launch.places.end());
  }
  for (const auto* copies : {&before, &after}) {
    key_.push_back(copies->size());
    for (const DeviceCopy& copy : *copies) {
      key_.insert(key_.end(), {copy.to, copy.from, copy.bytes});
    }
  }
}

void TensorRTWork::finish() {
  stream_.synchronize();
  for (const Taken& one : taken) std::memcpy(one.to, one.from, one.bytes);
}

}  // namespace sam2rt
