// The front of every frame and image: any size, stride and format either becomes a tensor, the same
// whatever instructions are used and wherever its pixels lie, or is refused. Pixels lie on the heap
// in as many bytes as the frame needs, so that a byte more is seen.
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "antialias.hpp"
#include "frame_tensor.hpp"
#include "prompts.hpp"
#include "sam2rt/error.hpp"

namespace {

using sam2rt::FrameView;
using sam2rt::PixelFormat;

constexpr int side = 32;

std::vector<float> tensor(const FrameView& frame, sam2rt::QuadLevel level) {
  std::vector<float> out(3 * side * side, NAN);
  sam2rt::FrameTensor(side, level).run(frame, out.data());
  for (const float value : out) {
    // colours of 0 to 1, normalised
    if (!(value > -2.2F && value < 2.7F)) __builtin_trap();
  }
  return out;
}

bool same(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

/// The pixels of an RGB, BGR or RGBA frame, as RGB without padding.
std::vector<std::uint8_t> as_rgb(const FrameView& frame, std::size_t stride) {
  const std::size_t bytes = frame.format == PixelFormat::rgba ? 4 : 3;
  std::vector<std::uint8_t> rgb;
  for (std::size_t y = 0; y < static_cast<std::size_t>(frame.height); ++y) {
    for (std::size_t x = 0; x < static_cast<std::size_t>(frame.width); ++x) {
      std::array<std::uint8_t, 3> p{};
      std::memcpy(p.data(), frame.data + y * stride + x * bytes, 3);
      if (frame.format == PixelFormat::bgr) std::swap(p[0], p[2]);
      rgb.insert(rgb.end(), p.begin(), p.end());
    }
  }
  return rgb;
}

void every_way_is_the_same(const FrameView& frame, std::size_t stride) {
  const auto best = tensor(frame, sam2rt::best_quad_level());
  if (!same(best, tensor(frame, sam2rt::QuadLevel::any))) __builtin_trap();
  if (sam2rt::best_quad_level() == sam2rt::QuadLevel::vnni &&
      !same(best, tensor(frame, sam2rt::QuadLevel::avx2))) {
    __builtin_trap();
  }
  if (frame.format == PixelFormat::nv12) return;
  const auto rgb = as_rgb(frame, stride);
  if (!same(best, tensor({rgb.data(), frame.width, frame.height}, sam2rt::best_quad_level()))) {
    __builtin_trap();
  }
}

/// A plane of bytes, resized as images are, stays between its least and largest value.
void planes(const std::vector<std::uint8_t>& bytes, int width, int height) {
  std::vector<float> plane(static_cast<std::size_t>(width) * static_cast<std::size_t>(height));
  float least = 255, most = 0;
  for (std::size_t i = 0; i < plane.size(); ++i) {
    plane[i] = bytes.empty() ? 0.0F : static_cast<float>(bytes[i % bytes.size()]);
    least = std::fmin(least, plane[i]);
    most = std::fmax(most, plane[i]);
  }
  std::vector<float> out(side * side, NAN);
  sam2rt::resize_antialias(plane.data(), {height, width}, out.data(), {side, side});
  for (const float value : out) {
    if (!(value >= least - 0.01F && value <= most + 0.01F)) __builtin_trap();
  }
}

void masks(const std::vector<std::uint8_t>& bytes, int width, int height, std::size_t stride) {
  try {
    const sam2rt::MaskView mask{bytes.data(), width, height, stride};
    sam2rt::check_mask(mask, {height, width});
    for (const float value : sam2rt::model_mask(mask, {height, width}, side)) {
      if (value != 0.0F && value != 1.0F) __builtin_trap();
    }
  } catch (const sam2rt::InputError&) {
    // values other than 0 and 1, or 0 and 255
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 5) return 0;
  const int width = data[0], height = data[1];
  const auto format = static_cast<PixelFormat>(data[2] % 5);  // one of them is none
  const std::size_t padding = data[3] % 32;
  const std::size_t pixel = format == PixelFormat::nv12 ? 1 : format == PixelFormat::rgba ? 4 : 3;
  const std::size_t row = static_cast<std::size_t>(width) * pixel;
  // 0: rows follow each other; sometimes too few bytes, which are refused
  const std::size_t given = padding == 0 ? 0 : padding == 31 ? row / 2 : row + padding;
  const std::size_t stride = given == 0 ? row : given;
  const auto rows = static_cast<std::size_t>(height) * (format == PixelFormat::nv12 ? 3 : 2) / 2;
  const std::size_t needed = rows == 0 ? 0 : stride * (rows - 1) + row;
  std::vector<std::uint8_t> bytes(needed);
  for (std::size_t i = 0; i < needed; ++i) bytes[i] = data[4 + i % (size - 4)];
  try {
    const FrameView frame{data[4] == 7 ? nullptr : bytes.data(), width, height, given, format};
    sam2rt::PixelRows::check(frame);
    every_way_is_the_same(frame, stride);
  } catch (const sam2rt::FrameError&) {
    return 0;  // the only way to refuse
  }
  planes(bytes, width, height);
  if (pixel == 1) masks(bytes, width, height, given);
  return 0;
}
