#ifndef SAM2RT_SRC_VIDEO_CORE_HPP
#define SAM2RT_SRC_VIDEO_CORE_HPP

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "frame_tensor.hpp"
#include "sam2rt/video_predictor.hpp"
#include "tracker.hpp"
#include "upsample.hpp"

namespace sam2rt {

struct VideoObject {
  std::int64_t id = 0;
  int key = 0;
  ObjectHistory history;  ///< what propagation has taken up
  ObjectHistory fresh;    ///< results of prompts that the next propagation takes up
  // prompts by frame; of masks the frames alone, a mask of the model's size is megabytes
  std::map<int, ModelPoints> points;
  std::set<int> masks;
  std::map<int, bool> tracked;  ///< frames a propagation has passed, and whether in reverse

  FrameOutput* result(int frame_idx, bool cond_first) noexcept;
};

struct VideoPrompt {
  ModelPoints points;
  std::vector<float> mask;  ///< empty: the points are the prompt
};

/// Frames still to track.
struct FrameRange {
  int next = 0;
  int step = 1;
  int left = 0;
};

/// What VideoPredictor does; see there.
class VideoCore {
 public:
  VideoCore(std::shared_ptr<Session> session, std::shared_ptr<FrameSource> frames,
            const VideoOptions& options);

  const FrameResult& add_points(int frame_idx, std::int64_t obj_id, const PointPrompt& prompt);
  const FrameResult& add_mask(int frame_idx, std::int64_t obj_id, const MaskView& mask);
  const FrameResult& clear_prompts(int frame_idx, std::int64_t obj_id);
  Removal remove_object(std::int64_t obj_id, bool strict);
  void reset();

  /// Take up all new prompts: encode their memories.
  void preflight();
  FrameRange order(const PropagateOptions& options) const;
  /// Track one frame of a propagation; takes up prompts that came since the last one.
  const FrameResult& track(int frame_idx, bool reverse);

  std::vector<VideoObject>& objects() noexcept { return objects_; }
  std::vector<std::int64_t> obj_ids() const;
  int num_frames() const noexcept { return num_frames_; }
  FrameSize size() const noexcept { return size_; }

 private:
  const Features& features(int frame_idx);
  /// Segment an object from its prompt on a frame; the state is unchanged when that fails.
  const FrameResult& prompted(int frame_idx, std::int64_t obj_id, VideoPrompt prompt);
  const FrameResult& result(int frame_idx, std::optional<bool> cond_first = std::nullopt);
  void write_masks(int frame_idx, bool cond_first);
  /// Encode the memories of all prompts that propagation has not taken up.
  void remember_prompts();
  static void take_up(FrameMap& fresh, FrameMap& taken);
  VideoObject* find(std::int64_t obj_id) noexcept;
  VideoObject& known(std::int64_t obj_id);
  void check_frame(int frame_idx) const;

  Tracker tracker_;
  std::shared_ptr<FrameSource> frames_;
  VideoOptions options_;
  int num_frames_;
  FrameSize size_;
  std::optional<FrameSize> frame_size_;  ///< of the first frame read
  FrameTensor to_tensor_;
  Upsampler upsampler_;
  std::vector<VideoObject> objects_;
  int next_key_ = 0;
  bool edited_ = false;  ///< there are prompts that propagation has not taken up
  int features_idx_ = -1;
  Features features_;
  std::vector<float> pixels_;
  std::vector<TrackedObject> waiting_;
  std::vector<float> absent_;  ///< logits [4h, 4w] of an object without a result
  FrameResult result_;
};

}  // namespace sam2rt

#endif
