#ifndef SAM2RT_SRC_BANK_HPP
#define SAM2RT_SRC_BANK_HPP

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "graph_values.hpp"
#include "sam2rt/bundle.hpp"
#include "storage.hpp"

namespace sam2rt {

/// What one object got on one frame.
struct FrameOutput {
  std::vector<float> mask_logits;  ///< [4h, 4w], holes filled; empty once forgotten
  std::vector<float> obj_ptr;      ///< [C]
  float object_score = 0;          ///< > 0: present
  float iou = 0;                   ///< 0..1
  StoredMemory memory;             ///< [c, h, w]; empty before it is encoded or once forgotten
  /// place among the frames of its map, as they were first added
  std::int64_t order = 0;
};

/// Outputs by frame. Iterates by frame; `order` is the order of insertion, which decides the
/// order of prompted memories. Removed outputs are kept and used again, so that a map that has
/// reached its size allocates nothing.
class FrameMap {
 public:
  using Map = std::map<int, FrameOutput>;

  FrameOutput* find(int frame_idx) noexcept;
  const FrameOutput* find(int frame_idx) const noexcept;
  bool contains(int frame_idx) const noexcept { return find(frame_idx) != nullptr; }
  bool empty() const noexcept { return map_.empty(); }
  std::size_t size() const noexcept { return map_.size(); }
  Map::iterator begin() noexcept { return map_.begin(); }
  Map::iterator end() noexcept { return map_.end(); }
  Map::const_iterator begin() const noexcept { return map_.begin(); }
  Map::const_iterator end() const noexcept { return map_.end(); }

  /// The output to fill for a frame: the present one, keeping its place, or a new one at the end.
  FrameOutput& assign(int frame_idx);
  /// Swap an output in; it gets the place of the frame, `output` what was there before.
  void put(int frame_idx, FrameOutput& output);
  void erase(int frame_idx);
  void clear() noexcept { map_.clear(); }
  /// Move an output to another map; there it replaces an earlier one in its place.
  void move_to(FrameMap& other, int frame_idx);

 private:
  Map map_;
  std::vector<Map::node_type> spare_;
  std::int64_t next_order_ = 0;
};

/// The outputs of one object: prompted ones (`cond`) apart from tracked ones.
struct ObjectHistory {
  FrameMap cond;
  FrameMap non_cond;

  FrameOutput* at(int frame_idx) noexcept;
  /// Drop what forward tracking from `next_frame` on can never attend to again.
  void forget_unreachable(const ModelConfig& model, int next_frame, int max_cond);
};

/// One spatial memory as a frame sees it: `row` of the temporal table, and where it lies.
struct Memory {
  int frame_idx = 0;
  int row = 0;
  const FrameOutput* output = nullptr;
};

/// A pointer and its signed distance in frames.
struct Pointer {
  int distance = 0;
  const FrameOutput* output = nullptr;
};

/// What one object attends to on one frame. Memories lie in slot order: prompted frames first,
/// then the others by frame number modulo the ring's length, whichever way they were reached.
struct Selection {
  std::vector<Memory> memories;
  std::vector<Pointer> pointers;
  std::vector<Pointer> chosen;  ///< scratch of `select`: the prompted frames, by frame index

  bool same_size(const Selection& other) const noexcept {
    return memories.size() == other.memories.size() && pointers.size() == other.pointers.size();
  }
};

struct SelectOptions {
  bool reverse = false;
  std::optional<int> num_frames;  ///< unset: a live stream
  int max_cond = -1;
};

/// Memories and pointers that frame `frame_idx` attends to, written over `selection`. The rules
/// are those of the original's _prepare_memory_conditioned_features (SAM 2 paper, section 4).
/// Throws StateError when the object has no prompted frame.
void select(Selection& selection, const ObjectHistory& history, int frame_idx,
            const ModelConfig& model, const SelectOptions& options);

/// Largest number of object pointers in one attention.
int pointer_limit(const ModelConfig& model, std::optional<int> num_frames) noexcept;
/// Divisor of a pointer's frame distance: pointer_limit - 1, but at least 1.
float pointer_distance_scale(const ModelConfig& model, std::optional<int> num_frames) noexcept;

/// Memories of a group of objects where the session likes them, and which slot holds which.
struct MemoryRing {
  GraphValues values;
  std::vector<std::uint64_t> held;  ///< per slot: number of the memory in it
  /// Memories lie here that are nowhere else.
  bool placed = false;
};

/// Memories of a group of objects in one array [N, M, c, h, w] that is kept between frames: only
/// memories that are not already in their slot are copied.
class SlotBuffer {
 public:
  /// Fill the slots; `members` are the selections of the group, all of one size. Throws StateError
  /// when a memory was not kept.
  void load(Session& session, const std::vector<const Selection*>& members,
            std::size_t memory_size);
  /// After `load` of the same selections: the slots of the memories of one round before, which
  /// those of `frame_idx` may overwrite. False while the ring still grows.
  bool find_places(const std::vector<const Selection*>& members, int frame_idx, int round);
  /// What `find_places` found: the address of each object's slot.
  void* const* places() const noexcept { return places_.data(); }
  /// The memory of that number is written to the place of object `index`: what lay there is lost.
  void place(std::size_t index, std::uint64_t id);
  /// Note where that memory is, once it was written.
  void keep(std::size_t index, StoredMemory& memory) const;
  void forget() noexcept;

  const GraphValues& memory() const noexcept { return ring_->values; }
  const std::vector<std::int64_t>& rows() const noexcept { return rows_; }

 private:
  bool fits(const std::vector<const Selection*>& members) const noexcept;
  void store(const StoredMemory& stored, std::size_t slot);

  std::shared_ptr<MemoryRing> ring_;
  std::vector<float> restored_;  ///< one memory, on its way to where the host cannot write
  std::vector<std::int64_t> rows_;
  std::vector<std::size_t> slots_;  ///< that may be overwritten
  std::vector<void*> places_;       ///< their addresses
  std::size_t objects_ = 0, memory_size_ = 0;
};

}  // namespace sam2rt

#endif
