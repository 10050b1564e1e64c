#ifndef SAM2RT_SRC_TRACKER_HPP
#define SAM2RT_SRC_TRACKER_HPP

#include <memory>
#include <optional>
#include <vector>

#include "bank.hpp"
#include "components.hpp"
#include "prompts.hpp"
#include "sam2rt/session.hpp"

namespace sam2rt {

/// What the original assigns to masks of absent objects.
inline constexpr float no_object_logit = -1024.0F;

/// One frame as the image encoder sees it; names as in the graph contract, batch 1.
struct Features {
  GraphValues image_embed;
  GraphValues prompt_embed;
  GraphValues high_res_0;
  GraphValues high_res_1;
};

/// An object as the tracker needs it: a stable key and what is remembered of it.
struct TrackedObject {
  int key = 0;
  const ObjectHistory* history = nullptr;
};

/// Which memories, which group of objects, which graph calls. Arithmetic lives in the graphs; here
/// arrays are only chosen, grouped and handed over. Keeps its working memory; belongs to one
/// thread, the session may be shared.
class Tracker {
 public:
  /// `forward_only`: frames are tracked one after the other and never again, so that a memory may
  /// overwrite the one that no later frame attends to.
  Tracker(std::shared_ptr<Session> session, const TrackerOptions& options,
          bool forward_only = false);

  const ModelConfig& model() const noexcept { return model_; }
  const TrackerOptions& options() const noexcept { return options_; }

  /// Encode one frame: pixels [3, S, S], normalised.
  void encode(const float* pixels, Features& features);

  /// Segment one object from clicks; its memory is not encoded yet. `previous` is an earlier
  /// result on this frame, fed as mask prompt. `memory` is what the object attends to, or null on
  /// a frame that was not tracked before.
  void prompt_points(const Features& features, const ModelPoints& points,
                     const FrameOutput* previous, const Selection* memory,
                     std::optional<int> num_frames, FrameOutput& output);

  /// Take a mask [S, S] of 0 and 1 as the object's mask; memory not encoded yet. The decoder makes
  /// only the pointer; a present mask whose decoder score is negative has the no-object pointer,
  /// as in the original.
  void prompt_mask(const Features& features, const std::vector<float>& mask, FrameOutput& output);

  /// Track un-prompted objects on one frame, memories encoded; results in their order, valid until
  /// the next call (the caller may swap them away). Objects that attend to equally many memories
  /// and pointers share one call of each graph.
  std::vector<FrameOutput>& track(const Features& features,
                                  const std::vector<TrackedObject>& objects, int frame_idx,
                                  bool reverse, std::optional<int> num_frames);

  /// Encode the memory of a prompted frame: its mask binarised, holes filled.
  void remember(const Features& features, FrameOutput& output);

  /// Free what groups of objects attend to; tracking fills new buffers.
  void release() noexcept { slots_.clear(); }

 private:
  /// Slots of the group of objects with these keys.
  struct GroupSlots {
    std::vector<int> keys;
    SlotBuffer buffer;
    bool used = false;
  };
  /// What the decoder gave for a group.
  struct Decoded {
    std::vector<float> mask_logits, iou, obj_ptr, object_score;
  };

  /// What is remembered of a group: slots and pointers filled, and the inputs they make.
  struct Remembered {
    InputTensor memory, rows, pointers, positions;
  };
  Remembered remembered(const std::vector<const Selection*>& members, SlotBuffer& slots,
                        std::optional<int> num_frames);
  void attend(const Features& features, const std::vector<const Selection*>& members,
              SlotBuffer& slots, std::optional<int> num_frames);
  /// What attend, decode and encode_memory do on a frame without prompts, in one call. Memories go
  /// to slots of the ring where they can (`placed_`), else to the host.
  void track_step(const Features& features, SlotBuffer& slots, std::optional<int> num_frames,
                  int frame_idx);
  void decode(const Features& features, const GraphValues& embed, std::size_t count,
              const float* mask_input, bool multimask);
  void encode_memory(const Features& features, const float* mask_logits, const float* scores,
                     std::size_t count, bool binarize);
  void track_group(const Features& features, const std::vector<TrackedObject>& objects,
                   int frame_idx, std::optional<int> num_frames);
  SlotBuffer& slots_of_group(const std::vector<TrackedObject>& objects);
  void set_points(const ModelPoints& points);
  void set_no_points(std::size_t objects);
  void take(std::size_t index, FrameOutput& output);

  std::size_t objects_per_call() const noexcept;
  std::size_t mask_count() const noexcept;
  std::size_t memory_count() const noexcept;

  std::shared_ptr<Session> session_;
  TrackerOptions options_;
  MemoryDType memory_dtype_;
  bool places_memories_;
  bool placed_ = false;  ///< memories of the group lie in the ring
  const ModelConfig& model_;
  Components components_;
  std::uint64_t memories_made_ = 0;

  std::vector<GroupSlots> slots_;
  SlotBuffer prompt_slots_;
  std::vector<Selection> selections_;
  std::vector<FrameOutput> results_;
  std::vector<std::size_t> group_;               ///< positions of the group's objects
  std::vector<const Selection*> members_;        ///< their selections
  std::vector<std::uint8_t> grouped_;            ///< objects that are in a group already

  // inputs and outputs of the graphs, for one group
  GraphValues conditioned_;
  std::vector<float> pointers_, pointer_positions_, coords_, mask_input_, has_mask_;
  std::vector<std::int32_t> labels_;
  std::size_t points_ = 0;
  Decoded decoded_;
  std::vector<float> memory_;
};

}  // namespace sam2rt

#endif
