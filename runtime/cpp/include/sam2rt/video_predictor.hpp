#ifndef SAM2RT_VIDEO_PREDICTOR_HPP
#define SAM2RT_VIDEO_PREDICTOR_HPP

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "sam2rt/export.h"
#include "sam2rt/frame.hpp"
#include "sam2rt/prompt.hpp"
#include "sam2rt/session.hpp"

namespace sam2rt {

struct VideoOptions : TrackerOptions {
  bool non_overlap_masks = false;  ///< each pixel belongs to one object at most (output only)
  /// A corrected frame becomes a prompted one; without it a later propagation that passes over
  /// the frame recomputes it and the correction is lost.
  bool add_all_frames_to_correct_as_cond = false;
};

struct PropagateOptions {
  std::optional<int> start_frame_idx;         ///< unset: the first prompted frame
  std::optional<int> max_frame_num_to_track;  ///< at most this many + 1 frames; unset: all
  bool reverse = false;
};

struct Removal {
  std::vector<std::int64_t> obj_ids;  ///< the remaining objects
  std::vector<FrameResult> updated;   ///< the others' masks where the object had prompts
};

class Propagation;

/// Segments and tracks objects through a video from points, boxes and masks, forward and in
/// reverse. Keeps the outputs of every frame, so that any frame can be refined and propagated
/// again: (4h x 4h + c x h x w) numbers per object and frame. For endless video use
/// StreamTracker. Belongs to one thread; the session may be shared.
///
/// A result lives in the predictor and is valid until its next call; copy it to keep it.
class SAM2RT_API VideoPredictor {
 public:
  /// Throws InputError for options that make no sense, FrameError for a video without frames.
  VideoPredictor(std::shared_ptr<Session> session, std::shared_ptr<FrameSource> frames,
                 const VideoOptions& options = {});
  VideoPredictor(VideoPredictor&&) noexcept;
  VideoPredictor& operator=(VideoPredictor&&) noexcept;
  ~VideoPredictor();

  /// Prompt an object on a frame; gives the frame's result for all objects. An unknown id starts
  /// a new object. Throws InputError; the predictor is unchanged then.
  const FrameResult& add_points(int frame_idx, std::int64_t obj_id, const PointPrompt& prompt);
  /// Prompt an object on a frame with a mask of the whole frame; another size than the video's is
  /// stretched. Throws InputError for one that lies on its side.
  const FrameResult& add_mask(int frame_idx, std::int64_t obj_id, const MaskView& mask);

  /// Track all objects. Prompts may be added and objects removed between two frames; they count
  /// from the next. Once the last object is removed, frames come without objects and cost no
  /// inference. Throws StateError without an object, or with an object without any prompt. The
  /// propagation must not outlive the predictor.
  Propagation propagate(const PropagateOptions& options = {});

  /// Remove an object's prompts on a frame; a result there stays as a tracked one.
  const FrameResult& clear_all_prompts_in_frame(int frame_idx, std::int64_t obj_id);
  /// Forget an object; the others are untouched. An unknown id is an InputError if strict.
  Removal remove_object(std::int64_t obj_id, bool strict = false);
  /// Forget all objects and prompts; the video stays open.
  void reset();

  std::vector<std::int64_t> obj_ids() const;
  int num_frames() const noexcept;
  int width() const noexcept;
  int height() const noexcept;

 private:
  struct SAM2RT_HIDDEN Impl;
  std::unique_ptr<Impl> impl_;
  friend class Propagation;
};

/// A run through the video, one frame a call.
class SAM2RT_API Propagation {
 public:
  Propagation(Propagation&&) noexcept;
  Propagation& operator=(Propagation&&) noexcept;
  ~Propagation();

  /// The next frame's result, valid until the predictor's next call; null after the last frame.
  const FrameResult* next();

 private:
  friend class VideoPredictor;
  struct SAM2RT_HIDDEN Impl;
  explicit Propagation(std::unique_ptr<Impl> impl) noexcept;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sam2rt

#endif
