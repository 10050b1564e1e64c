#include "bank.hpp"

#include <algorithm>
#include <cstdlib>

#include "sam2rt/error.hpp"
#include "text.hpp"

namespace sam2rt {

FrameOutput* FrameMap::find(int frame_idx) noexcept {
  const auto found = map_.find(frame_idx);
  return found == map_.end() ? nullptr : &found->second;
}

const FrameOutput* FrameMap::find(int frame_idx) const noexcept {
  const auto found = map_.find(frame_idx);
  return found == map_.end() ? nullptr : &found->second;
}

FrameOutput& FrameMap::assign(int frame_idx) {
  if (FrameOutput* present = find(frame_idx)) return *present;
  FrameOutput* output = nullptr;
  if (spare_.empty()) {
    output = &map_[frame_idx];
  } else {
    spare_.back().key() = frame_idx;
    output = &map_.insert(std::move(spare_.back())).position->second;
    spare_.pop_back();
    output->memory.clear();
  }
  output->order = next_order_++;
  return *output;
}

void FrameMap::put(int frame_idx, FrameOutput& output) {
  FrameOutput& held = assign(frame_idx);
  output.order = held.order;
  std::swap(held, output);
}

void FrameMap::erase(int frame_idx) {
  // a map grows by one at a time, so that one spare output is enough
  auto node = map_.extract(frame_idx);
  if (!node.empty() && spare_.empty()) spare_.push_back(std::move(node));
}

void FrameMap::move_to(FrameMap& other, int frame_idx) {
  auto node = map_.extract(frame_idx);
  if (node.empty()) return;
  if (FrameOutput* present = other.find(frame_idx)) {
    node.mapped().order = present->order;
    *present = std::move(node.mapped());
  } else {
    node.mapped().order = other.next_order_++;
    other.map_.insert(std::move(node));
  }
}

FrameOutput* ObjectHistory::at(int frame_idx) noexcept {
  FrameOutput* output = cond.find(frame_idx);
  return output != nullptr ? output : non_cond.find(frame_idx);
}

void ObjectHistory::forget_unreachable(const ModelConfig& model, int next_frame, int max_cond) {
  const int spatial = next_frame - (model.num_maskmem - 1);
  const int pointers = next_frame - (model.max_obj_ptrs - 1);
  while (!non_cond.empty() && non_cond.begin()->first < pointers) {
    non_cond.erase(non_cond.begin()->first);
  }
  for (auto& [frame_idx, output] : non_cond) {
    if (frame_idx < spatial) output.memory.clear();
    output.mask_logits.clear();
  }
  for (auto& entry : cond) entry.second.mask_logits.clear();
  if (max_cond <= 0) return;
  // frames only move away from prompted ones in the past: the newest stay closest
  while (cond.size() > static_cast<std::size_t>(max_cond) && cond.begin()->first < pointers) {
    cond.erase(cond.begin()->first);
  }
}

int pointer_limit(const ModelConfig& model, std::optional<int> num_frames) noexcept {
  return std::max(num_frames ? std::min(*num_frames, model.max_obj_ptrs) : model.max_obj_ptrs, 1);
}

float pointer_distance_scale(const ModelConfig& model, std::optional<int> num_frames) noexcept {
  // the original divides by zero for a video of one frame; there the distance is 0 as well
  return static_cast<float>(std::max(pointer_limit(model, num_frames) - 1, 1));
}

namespace {

/// The `limit` prompted frames nearest to `frame_idx` (-1: all), by frame number: the nearest one
/// before, the nearest one at or after, then the closest others. `distance` holds the frame index.
void choose_cond_frames(std::vector<Pointer>& chosen, const FrameMap& cond, int frame_idx,
                        int limit) {
  chosen.clear();
  for (const auto& [t, output] : cond) chosen.push_back({t, &output});
  const auto most = static_cast<std::size_t>(limit);
  if (limit == -1 || chosen.size() <= most) return;
  const Pointer* before = nullptr;
  const Pointer* after = nullptr;
  for (const Pointer& p : chosen) {
    if (p.distance < frame_idx) before = &p;
    if (p.distance >= frame_idx && after == nullptr) after = &p;
  }
  const int before_idx = before != nullptr ? before->distance : frame_idx + 1;
  const int after_idx = after != nullptr ? after->distance : frame_idx - 1;
  const auto rank = [&](const Pointer& p) {
    return p.distance == before_idx || p.distance == after_idx ? -1
                                                               : std::abs(p.distance - frame_idx);
  };
  // among equally distant ones the original takes the one that was prompted first
  std::sort(chosen.begin(), chosen.end(), [&](const Pointer& a, const Pointer& b) {
    return rank(a) != rank(b) ? rank(a) < rank(b) : a.output->order < b.output->order;
  });
  chosen.resize(most);
  std::sort(chosen.begin(), chosen.end(),
            [](const Pointer& a, const Pointer& b) { return a.distance < b.distance; });
}

/// A frame that is not among the chosen prompted ones. It can be in both maps: then the tracked
/// output wins, as in the original.
const FrameOutput* other_output(const Selection& selection, const ObjectHistory& history, int t) {
  if (const FrameOutput* tracked = history.non_cond.find(t)) return tracked;
  for (const Pointer& p : selection.chosen) {
    if (p.distance == t) return nullptr;
  }
  return history.cond.find(t);
}

}  // namespace

void select(Selection& selection, const ObjectHistory& history, int frame_idx,
            const ModelConfig& model, const SelectOptions& options) {
  if (history.cond.empty()) {
    throw StateError("an object without a prompted frame cannot be tracked: prompt it first");
  }
  const int step = options.reverse ? 1 : -1;
  const int last = model.num_maskmem - 1;
  choose_cond_frames(selection.chosen, history.cond, frame_idx, options.max_cond);

  auto& memories = selection.memories;
  memories.clear();
  for (const Pointer& p : selection.chosen) memories.push_back({p.distance, last, p.output});
  const auto cond_count = static_cast<std::ptrdiff_t>(memories.size());
  for (int distance = last; distance > 0; --distance) {
    const int t = frame_idx + step * distance;
    const FrameOutput* output = other_output(selection, history, t);
    if (output != nullptr && !output->memory.empty()) {
      memories.push_back({t, distance - 1, output});
    }
  }
  std::sort(memories.begin() + cond_count, memories.end(),
            [last](const Memory& a, const Memory& b) {
              return a.frame_idx % last < b.frame_idx % last;
            });

  auto& pointers = selection.pointers;
  pointers.clear();
  for (const Pointer& p : selection.chosen) {
    const int distance = (frame_idx - p.distance) * -step;
    if (distance >= 0) pointers.push_back({distance, p.output});
  }
  for (int distance = 1; distance < pointer_limit(model, options.num_frames); ++distance) {
    const int t = frame_idx + step * distance;
    if (t < 0 || (options.num_frames && t >= *options.num_frames)) break;
    if (const FrameOutput* output = other_output(selection, history, t)) {
      pointers.push_back({distance, output});
    }
  }
}

bool StoredMemory::empty() const noexcept {
  return id_ == 0 || (ring_ != nullptr && ring_->held[slot_] != id_);
}

bool SlotBuffer::fits(const std::vector<const Selection*>& members) const noexcept {
  const std::size_t per_object = members.front()->memories.size();
  if (objects_ != members.size() || ring_->held.size() != objects_ * per_object) return false;
  std::size_t slot = 0;
  for (const Selection* member : members) {
    for (const Memory& memory : member->memories) {
      if (ring_->held[slot++] != memory.output->memory.id()) return false;
    }
  }
  return true;
}

void SlotBuffer::load(Session& session, const std::vector<const Selection*>& members,
                      std::size_t memory_size) {
  const std::size_t per_object = members.front()->memories.size();
  const std::size_t count = members.size() * per_object;
  // memories that lie in slots would be overwritten while others are brought there
  if (ring_ == nullptr || (ring_->placed && !fits(members))) ring_ = std::make_shared<MemoryRing>();
  auto& held = ring_->held;
  if (ring_->values.reserve(session, count * memory_size)) held.clear();
  if (held.size() != count || objects_ != members.size()) held.assign(count, 0);
  objects_ = members.size();
  memory_size_ = memory_size;
  rows_.resize(count);
  std::size_t slot = 0;
  for (const Selection* member : members) {
    for (const Memory& memory : member->memories) {
      const StoredMemory& stored = memory.output->memory;
      if (stored.empty()) {
        throw StateError(text("the memory of frame ", memory.frame_idx, " was not kept"));
      }
      if (held[slot] != stored.id()) {
        store(stored, slot);
        held[slot] = stored.id();
      }
      rows_[slot++] = memory.row;
    }
  }
}

void SlotBuffer::store(const StoredMemory& stored, std::size_t slot) {
  const std::size_t first = slot * memory_size_;
  if (const MemoryRing* from = stored.ring()) {
    ring_->values.copy(first, from->values, stored.slot() * memory_size_, memory_size_);
    return;
  }
  if (float* host = ring_->values.host()) {
    stored.restore(host + first);
    return;
  }
  restored_.resize(memory_size_);
  stored.restore(restored_.data());
  ring_->values.write(first, restored_.data(), memory_size_);
}

bool SlotBuffer::find_places(const std::vector<const Selection*>& members, int frame_idx,
                             int round) {
  slots_.clear();
  places_.clear();
  std::size_t first = 0;
  for (const Selection* member : members) {
    const auto& memories = member->memories;
    // the prompted frames have the last row, and stay
    const auto oldest = std::find_if(memories.begin(), memories.end(), [&](const Memory& memory) {
      return memory.row != round && memory.frame_idx == frame_idx - round;
    });
    if (oldest == memories.end()) return false;
    slots_.push_back(first + static_cast<std::size_t>(oldest - memories.begin()));
    places_.push_back(ring_->values.address(slots_.back() * memory_size_));
    first += memories.size();
  }
  return true;
}

void SlotBuffer::place(std::size_t index, std::uint64_t id) {
  ring_->held[slots_[index]] = id;
  ring_->placed = true;
}

void SlotBuffer::keep(std::size_t index, StoredMemory& memory) const {
  const std::size_t slot = slots_[index];
  memory.place(ring_, slot, ring_->held[slot]);
}

void SlotBuffer::forget() noexcept {
  if (ring_ == nullptr) return;
  if (ring_->placed) {
    ring_.reset();
  } else {
    ring_->held.clear();
  }
}

}  // namespace sam2rt
