#ifndef SAM2RT_SRC_FRAME_TENSOR_HPP
#define SAM2RT_SRC_FRAME_TENSOR_HPP

#include <array>
#include <cstdint>
#include <vector>

#include "pixel_rows.hpp"

namespace sam2rt {

/// A video frame as the model's input, as the original's video loader makes it: Pillow's bicubic
/// on uint8 (fixed point, rounded to uint8 between the two passes), divided by 255 in double,
/// stored as float, then normalised. Bit for bit what the Python runtime gives. Keeps its tables
/// and working memory for frames of the same size.
class FrameTensor {
 public:
  explicit FrameTensor(int image_size);
  /// frame -> out [3, S, S]. Throws FrameError.
  void run(const FrameView& frame, float* out);

 private:
  /// Pillow's coefficients in fixed point: per output position, where its taps begin, how many.
  struct Taps {
    int n_in = 0;
    int most = 0;
    std::vector<int> first, count;
    std::vector<std::int32_t> weights;  ///< [n_out, most]
    void prepare(int from, int to);
  };

  /// Rows made S long: fills narrow_. `whole` is where all rows lie, null: as rows_ gives them.
  void narrow(int frame_width, int frame_height, const Rows* whole);
  /// narrow_ made S high, normalised.
  void finish(int frame_height, float* out);
  /// All rows made S high, as they are interleaved.
  Rows shortened(const FrameView& frame);

  int size_;
  std::array<std::array<float, 256>, 3> table_;  ///< byte -> normalised value, per channel
  Taps x_;
  Taps y_;
  PixelRows rows_;
  std::vector<std::uint8_t> columns_;  ///< a block of rows, transposed: [bytes of a row, block]
  std::vector<std::uint8_t> tile_;     ///< the block made narrow, transposed: [S, block]
  std::vector<std::uint8_t> narrow_;   ///< [3, H, S]
  std::vector<std::uint8_t> short_;    ///< [S, bytes of a row]
  std::vector<std::uint8_t> padded_;   ///< rows too short for a block, [H, block]
  std::vector<std::uint8_t> line_;     ///< [S]
};

}  // namespace sam2rt

#endif
