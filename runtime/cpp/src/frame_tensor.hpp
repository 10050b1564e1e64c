#ifndef SAM2RT_SRC_FRAME_TENSOR_HPP
#define SAM2RT_SRC_FRAME_TENSOR_HPP

#include <cstdint>
#include <vector>

#include "pixel_rows.hpp"
#include "quads.hpp"

namespace sam2rt {

/// A video frame as the model's input, as the original's video loader makes it: Pillow's bicubic
/// on uint8 (fixed point, rounded to uint8 between the two passes), divided by 255 in double,
/// stored as float, then normalised. Bit for bit what the Python runtime gives. Keeps its tables
/// and working memory for frames of the same size.
class FrameTensor {
 public:
  explicit FrameTensor(int image_size, QuadLevel level = best_quad_level());
  /// frame -> out [3, S, S]. Throws FrameError.
  void run(const FrameView& frame, float* out);

 private:
  /// Rows made S long: fills narrow_. `whole` is where all rows lie, null: as rows_ gives them.
  void narrow(int frame_width, int frame_height, const Rows* whole);
  /// narrow_ made S high, normalised.
  void finish(int frame_height, float* out);
  /// All rows made S high, as they are interleaved.
  Rows shortened(const FrameView& frame);

  int size_;
  QuadLevel level_;
  Taps x_, y_, same_;
  QuadTaps narrowing_, finishing_;
  PixelRows rows_;
  std::vector<std::uint8_t> quads_;   ///< a block of rows: [3, width / 4, block, 4]
  std::vector<std::uint8_t> narrow_;  ///< [3, H / 4, S, 4]
  std::vector<std::uint8_t> short_;   ///< [S, bytes of a row]
  std::vector<std::uint8_t> padded_;  ///< rows too short for a block, [H, block]
};

}  // namespace sam2rt

#endif
