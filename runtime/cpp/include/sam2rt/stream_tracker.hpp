#ifndef SAM2RT_STREAM_TRACKER_HPP
#define SAM2RT_STREAM_TRACKER_HPP

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "sam2rt/export.h"
#include "sam2rt/frame.hpp"
#include "sam2rt/prompt.hpp"
#include "sam2rt/session.hpp"

namespace sam2rt {

struct StreamOptions : TrackerOptions {
  bool non_overlap_masks = false;  ///< each pixel belongs to one object at most
  /// Length of the video if it is known: makes clips under 16 frames equal to VideoPredictor,
  /// whose pointer distances are scaled by the length.
  std::optional<int> num_frames;
  /// false: FrameResult::logits stays empty, and `mask` makes those masks that are asked for; not
  /// together with non_overlap_masks, which compares all of them
  bool frame_logits = true;
};

/// Live video: push frames one by one, memory bounded for ever. The same core as VideoPredictor,
/// and the same bits. Prompts apply to the next frame pushed; objects may come and go at any
/// time. A prompt makes its frame a prompted frame, kept for ever unless max_cond_frames_in_attn
/// caps how many count. Once warm (16 frames after the last prompt) a frame allocates nothing
/// outside the backend. Belongs to one thread; the session may be shared.
class SAM2RT_API StreamTracker {
 public:
  /// Throws InputError for options that make no sense.
  explicit StreamTracker(std::shared_ptr<Session> session, const StreamOptions& options = {});
  StreamTracker(StreamTracker&&) noexcept;
  StreamTracker& operator=(StreamTracker&&) noexcept;
  ~StreamTracker();

  /// Prompt an object on the next frame; an unknown id starts a new object. What can be checked
  /// before the frame is known is checked now (InputError), the rest when it is pushed.
  void add_points(std::int64_t obj_id, const PointPrompt& prompt);
  void add_box(std::int64_t obj_id, const Box& box);
  /// Prompt an object on the next frame with a mask of the whole frame, which is copied. Sizes and
  /// errors: see VideoPredictor::add_mask.
  void add_mask(std::int64_t obj_id, const MaskView& mask);

  /// Forget an object; an unknown id is an InputError if strict.
  void remove_object(std::int64_t obj_id, bool strict = false);
  /// Forget all objects and start at frame 0, perhaps with frames of another size.
  void reset();

  /// Push one frame; gives the result on it, valid until the next call. Without objects nothing
  /// is computed. Throws FrameError for a frame that cannot be used or has another size than the
  /// first, InputError for a prompt that does not fit the frame (the prompt is dropped); the
  /// tracker goes on with the next frame in each case.
  const FrameResult& step(const FrameView& frame);

  /// The mask of the object at `position` of the last result, into out [height, width] of 0 and 1:
  /// logits > 0, whether the result holds them or not. Throws InputError for another position.
  void mask(std::size_t position, std::uint8_t* out);

  std::vector<std::int64_t> obj_ids() const;
  /// Index of the next frame pushed.
  int frame_idx() const noexcept;

 private:
  struct SAM2RT_HIDDEN Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sam2rt

#endif
