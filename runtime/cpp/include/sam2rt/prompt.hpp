#ifndef SAM2RT_PROMPT_HPP
#define SAM2RT_PROMPT_HPP

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

namespace sam2rt {

/// x to the right, y down, in pixels of the frame (or fractions 0..1, see PointPrompt).
struct Point {
  float x = 0;
  float y = 0;
};

/// Corners x0, y0 (top left) and x1, y1 (bottom right), in pixels of the frame.
struct Box {
  float x0 = 0;
  float y0 = 0;
  float x1 = 0;
  float y1 = 0;
};

/// Clicks, a box, or both. Coordinates may lie up to a tenth of its side beyond the frame; a box
/// must overlap it.
struct PointPrompt {
  std::vector<Point> points;
  std::vector<int> labels;  ///< one a point: 1 positive, 0 negative
  std::optional<Box> box;
  bool clear_old_points = true;  ///< false: add to the clicks this frame already has
  bool normalize_coords = true;  ///< false: coordinates are fractions 0..1 already
};

/// Rules of tracking; defaults are the original's.
struct TrackerOptions {
  /// prompted frames a frame may attend to; -1 for all, else at least 2
  int max_cond_frames_in_attn = -1;
  /// holes of at most this many low-resolution pixels are filled; 0 for none
  int fill_hole_area = 8;
  /// storage of memories: "float32", "float16" or "bfloat16" (the original's)
  const char* memory_dtype = "float32";
  /// objects handed to one call of a graph at most; bounds working memory. Unset: as many as an
  /// engine takes, else 4, or 64 where a session runs per object
  std::optional<int> objects_per_call;
};

/// The masks of N objects on one frame, in the order in which the objects were added.
struct FrameResult {
  int frame_idx = -1;
  std::vector<std::int64_t> obj_ids;
  int width = 0;   ///< of the frame, pixels
  int height = 0;  ///< of the frame, pixels
  std::vector<float> logits;         ///< [N, height, width]; > 0 is inside the mask
  std::vector<float> object_scores;  ///< [N], > 0 where the object is present
  std::vector<float> ious;           ///< [N], predicted quality 0..1

  std::size_t plane() const noexcept {
    return static_cast<std::size_t>(width) * static_cast<std::size_t>(height);
  }
  /// The logits [height, width] of the object at `position`.
  const float* object(std::size_t position) const noexcept {
    return logits.data() + position * plane();
  }
};

}  // namespace sam2rt

#endif
