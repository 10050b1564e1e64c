#include "pixel_rows.hpp"

#include <algorithm>

#include "sam2rt/error.hpp"
#include "text.hpp"

namespace sam2rt {

namespace {

std::size_t pixel_bytes(PixelFormat format) noexcept {
  switch (format) {
    case PixelFormat::rgb:
    case PixelFormat::bgr: return 3;
    case PixelFormat::rgba: return 4;
    case PixelFormat::nv12: return 1;
  }
  return 0;
}

std::size_t row_bytes(const FrameView& frame) noexcept {
  return static_cast<std::size_t>(frame.width) * pixel_bytes(frame.format);
}

/// BT.601, limited range, in 20 bits of fixed point: the coefficients and rounding of OpenCV.
void nv12_row(const std::uint8_t* luma, const std::uint8_t* chroma, int width, std::uint8_t* rgb) {
  constexpr int shift = 20, half = 1 << (shift - 1);
  constexpr int cy = 1220542, cub = 2116026, cug = -409993, cvg = -852492, cvr = 1673527;
  const auto byte = [](int value) {
    return static_cast<std::uint8_t>(std::clamp(value >> shift, 0, 255));
  };
  for (int x = 0; x < width; ++x) {
    const int u = chroma[x & ~1] - 128, v = chroma[(x & ~1) + 1] - 128;
    const int y = std::max(luma[x] - 16, 0) * cy;
    rgb[3 * x] = byte(y + half + cvr * v);
    rgb[3 * x + 1] = byte(y + half + cvg * v + cug * u);
    rgb[3 * x + 2] = byte(y + half + cub * u);
  }
}

}  // namespace

void PixelRows::check(const FrameView& frame) {
  if (frame.width < 1 || frame.height < 1) {
    throw FrameError(text("a frame has no pixels (shape (", frame.height, ", ", frame.width,
                          ", 3)): leave it out"));
  }
  if (frame.data == nullptr) throw FrameError("a frame has no data: its address is null");
  if (pixel_bytes(frame.format) == 0) {
    throw FrameError("a frame has an unknown pixel format: use rgb, bgr, rgba or nv12");
  }
  const std::size_t least = row_bytes(frame);
  if (frame.stride != 0 && frame.stride < least) {
    throw FrameError(text("a frame has a stride of ", frame.stride, " bytes, its rows have ", least,
                          ": give the bytes from one row to the next"));
  }
  if (frame.format == PixelFormat::nv12 && (frame.width % 2 != 0 || frame.height % 2 != 0)) {
    throw FrameError(text("an nv12 frame has even sides, got ", frame.width, " x ", frame.height,
                          ": convert it to RGB"));
  }
}

void PixelRows::open(const FrameView& frame) {
  check(frame);
  frame_ = frame.memory == MemoryKind::cuda ? copied_from_device(frame, host_copy_) : frame;
  if (frame_.stride == 0) frame_.stride = row_bytes(frame_);
}

Rows PixelRows::take(int top, int count) {
  const std::uint8_t* first = frame_.data + static_cast<std::size_t>(top) * frame_.stride;
  Rows rows{first, frame_.stride, pixel_bytes(frame_.format), {0, 1, 2}};
  if (frame_.format == PixelFormat::bgr) rows.offset = {2, 1, 0};
  if (frame_.format != PixelFormat::nv12) return rows;

  const auto width = static_cast<std::size_t>(frame_.width);
  const std::uint8_t* chroma =
      frame_.chroma != nullptr
          ? frame_.chroma
          : frame_.data + static_cast<std::size_t>(frame_.height) * frame_.stride;
  converted_.resize(width * 3 * static_cast<std::size_t>(count));
  for (int y = 0; y < count; ++y) {
    nv12_row(first + static_cast<std::size_t>(y) * frame_.stride,
             chroma + static_cast<std::size_t>((top + y) / 2) * frame_.stride, frame_.width,
             converted_.data() + static_cast<std::size_t>(y) * width * 3);
  }
  return {converted_.data(), width * 3, 3, {0, 1, 2}};
}

}  // namespace sam2rt
