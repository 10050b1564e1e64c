#ifndef SAM2RT_SRC_PIXEL_ROWS_HPP
#define SAM2RT_SRC_PIXEL_ROWS_HPP

#include <array>
#include <cstdint>
#include <vector>

#include "sam2rt/frame.hpp"

namespace sam2rt {

/// Rows of interleaved pixels: where red, green and blue lie in each.
struct Rows {
  const std::uint8_t* data = nullptr;
  std::size_t stride = 0;
  std::size_t pixel_bytes = 3;
  std::array<std::size_t, 3> offset{0, 1, 2};
};

/// Gives a frame's rows to read: those of host frames where they lie, nv12 converted block by
/// block, frames in CUDA memory copied to the host first.
class PixelRows {
 public:
  /// Throws FrameError for a frame without pixels, with rows that overlap, or of a size that its
  /// format does not allow.
  static void check(const FrameView& frame);

  /// Begin with a frame; the frame must stay alive while rows are taken.
  void open(const FrameView& frame);
  /// `count` rows from `top` (even for nv12), valid until the next call.
  Rows take(int top, int count);

 private:
  FrameView frame_;
  std::vector<std::uint8_t> converted_;
  std::vector<std::uint8_t> host_copy_;
};

/// A copy of a frame in CUDA memory, in `copy`; gives the view on it. The driver is loaded when
/// it is first needed. Throws FrameError.
FrameView copied_from_device(const FrameView& frame, std::vector<std::uint8_t>& copy);

}  // namespace sam2rt

#endif
