#ifndef SAM2RT_SRC_PROMPTS_HPP
#define SAM2RT_SRC_PROMPTS_HPP

#include <cstdint>
#include <optional>
#include <vector>

#include "sam2rt/frame.hpp"
#include "sam2rt/prompt.hpp"

namespace sam2rt {

/// Clicks (and box corners) of one object on one frame, in model-input pixels 0..S.
struct ModelPoints {
  std::vector<float> coords;         ///< [P, 2]
  std::vector<std::int32_t> labels;  ///< [P]: 1 positive, 0 negative, 2 and 3 box corners (first)

  std::size_t count() const noexcept { return labels.size(); }
  void append(const ModelPoints& more);
};

struct FrameSize {
  int height = 0;
  int width = 0;
  bool operator==(const FrameSize& o) const noexcept {
    return height == o.height && width == o.width;
  }
};

/// Before the first frame coordinates are checked against no size.
inline constexpr FrameSize any_size{1 << 30, 1 << 30};

/// What coordinates are pixels of; nothing: they are fractions 0..1.
using PixelsOf = std::optional<FrameSize>;

/// Throws InputError for coordinates that are NaN, infinite, or more than a tenth of its side
/// beyond the frame.
void check_inside(const char* what, const std::vector<Point>& points, const PixelsOf& size);

/// Throws InputError for a box that is empty, reversed, wholly outside the frame, or whose corners
/// check_inside refuses.
void check_box(const Box& box, const PixelsOf& size);

/// A prompt as model-input pixels. `frame_size` is what its coordinates are pixels of (not used
/// where they are fractions). Throws InputError: points without labels or the reverse, neither
/// points nor box, unequal counts, unknown labels, and what check_inside and check_box refuse.
ModelPoints model_points(const PointPrompt& prompt, FrameSize frame_size, int image_size);

/// Throws InputError for a mask without pixels, one that lies on the frame's side, or one with
/// values other than 0 and 1, or 0 and 255.
void check_mask(const MaskView& mask, FrameSize frame_size);

/// A mask prompt of any size at the model's: [S, S] of 0 and 1. Antialiased bilinear, then at least
/// one half, as the original.
std::vector<float> model_mask(const MaskView& mask, FrameSize frame_size, int image_size);

}  // namespace sam2rt

#endif
