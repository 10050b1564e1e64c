// From a frame's bytes to the encoder's tensor, and from logits to the frame's size.
#include <algorithm>

#include "frame_tensor.hpp"
#include "normalise.hpp"
#include "pixel_rows.hpp"
#include "quads.hpp"
#include "sam2rt/sam2rt.hpp"
#include "support/check.hpp"
#include "support/scene.hpp"
#include "upsample.hpp"

namespace {

void every_pixel_format_gives_the_same_tensor() {
  Scene scene;
  scene.width = 202, scene.height = 150;
  const auto rgb = scene.frame(3);
  std::vector<std::uint8_t> bgr, rgba, padded;
  for (int y = 0; y < rgb.height; ++y) {
    for (int x = 0; x < rgb.width; ++x) {
      const std::uint8_t* p = rgb.data + static_cast<std::size_t>(y * rgb.width + x) * 3;
      for (const int c : {2, 1, 0}) bgr.push_back(p[c]);
      for (const int c : {0, 1, 2}) rgba.push_back(p[c]);
      for (const int c : {0, 1, 2}) padded.push_back(p[c]);
      rgba.push_back(77);
    }
    padded.insert(padded.end(), 19, 255);
  }
  const auto tensor = [](const sam2rt::FrameView& frame) {
    std::vector<float> out(3 * 128 * 128);
    sam2rt::FrameTensor(128).run(frame, out.data());
    return out;
  };
  const auto expected = tensor(rgb);
  using sam2rt::PixelFormat;
  CHECK(tensor({bgr.data(), 202, 150, 0, PixelFormat::bgr}) == expected);
  CHECK(tensor({rgba.data(), 202, 150, 0, PixelFormat::rgba}) == expected);
  CHECK(tensor({padded.data(), 202, 150, 202 * 3 + 19}) == expected);
}

void every_instruction_set_gives_the_same_tensor() {
  const int side = 64;
  const auto size = static_cast<std::size_t>(3 * side * side);
  const int best = static_cast<int>(sam2rt::best_quad_level());
  // smaller and larger, square or not, of every remainder; tall ones begin with the columns
  const std::vector<std::pair<int, int>> sizes{{64, 64},  {1, 1},    {5, 3},    {17, 200},
                                               {961, 541}, {333, 64}, {64, 333}, {40, 700},
                                               {130, 18}, {700, 31}};
  std::uint32_t state = 5;
  for (const auto& [width, height] : sizes) {
    for (const auto format : {sam2rt::PixelFormat::rgb, sam2rt::PixelFormat::rgba}) {
      const std::size_t bytes = format == sam2rt::PixelFormat::rgb ? 3 : 4;
      std::vector<std::uint8_t> pixels(static_cast<std::size_t>(width * height) * bytes);
      for (auto& value : pixels) {
        state = state * 1664525U + 1013904223U;
        // black and white: sums go below 0 and above 255
        value = static_cast<std::uint8_t>((state >> 30) == 0 ? state >> 16 : (state >> 31) * 255);
      }
      sam2rt::FrameView view{pixels.data(), width, height};
      view.format = format;
      std::vector<float> expected(size), found(size);
      sam2rt::FrameTensor(side, sam2rt::QuadLevel::any).run(view, expected.data());
      for (int level = 1; level <= best; ++level) {
        sam2rt::FrameTensor(side, static_cast<sam2rt::QuadLevel>(level)).run(view, found.data());
        CHECK(found == expected);
      }
    }
  }
}

void every_byte_is_normalised_alike() {
  constexpr int side = 32;
  constexpr auto size = std::size_t{3} * side * side;
  const int best = static_cast<int>(sam2rt::best_quad_level());
  for (int value = 0; value < 256; ++value) {
    const std::vector<std::uint8_t> pixels(size, static_cast<std::uint8_t>(value));
    std::vector<float> found(size);
    for (int level = 0; level <= best; ++level) {
      sam2rt::FrameTensor(side, static_cast<sam2rt::QuadLevel>(level))
          .run({pixels.data(), side, side}, found.data());
      for (std::size_t i = 0; i < size; ++i) {
        const std::size_t channel = i / (std::size_t{side} * side);
        const auto share = static_cast<float>(value / 255.0);
        CHECK_EQ(found[i], sam2rt::normalised(share, channel));
      }
    }
  }
}

/// One output pixel by the formula, one after the other.
float bilinear(const std::vector<float>& in, int side, sam2rt::FrameSize to, int x, int y) {
  const auto source = [side](int at, int out, int& low, int& high) {
    const double scale = static_cast<double>(static_cast<float>(side) / static_cast<float>(out));
    const float exact = std::max(static_cast<float>(scale * (at + 0.5) - 0.5), 0.0F);
    low = std::min(static_cast<int>(exact), side - 1);
    high = std::min(low + 1, side - 1);
    return exact - static_cast<float>(low);
  };
  int left = 0, right = 0, top = 0, bottom = 0;
  const float wx = source(x, to.width, left, right), wy = source(y, to.height, top, bottom);
  const auto at = [&](int row, int column) {
    return in[static_cast<std::size_t>(row * side + column)];
  };
  const float above = at(top, left) * (1 - wx) + at(top, right) * wx;
  const float below = at(bottom, left) * (1 - wx) + at(bottom, right) * wx;
  return above * (1 - wy) + below * wy;
}

void logits_are_the_formula_at_every_size() {
  constexpr int side = 16;
  std::vector<float> low(std::size_t{side} * side);
  std::uint32_t state = 3;
  for (float& value : low) {
    state = state * 1664525U + 1013904223U;
    value = static_cast<float>(state >> 8) / 65536.0F - 128.0F;
  }
  sam2rt::Upsampler upsampler;
  // small ones are kept in the caches, large ones written past them: rows of every alignment
  for (const auto& [width, height] :
       {std::pair{5, 3}, {97, 61}, {513, 512}, {1021, 301}, {960, 540}, {3, 100000}}) {
    for (const std::size_t shift : {0U, 1U, 7U}) {
      const auto count = static_cast<std::size_t>(width) * static_cast<std::size_t>(height);
      std::vector<float> out(count + 2 * shift + 2, 77.0F);
      float* first = out.data() + shift + 1;
      upsampler.run(low.data(), side, {height, width}, first);
      CHECK(first[-1] == 77.0F && first[count] == 77.0F);
      std::size_t wrong = 0;
      for (int y = 0; y < height; ++y) {
        for (int x = 0; x < width; ++x) {
          wrong += *first++ != bilinear(low, side, {height, width}, x, y) ? 1 : 0;
        }
      }
      CHECK_EQ(wrong, std::size_t{0});
    }
  }
}

void frames_that_cannot_be_used() {
  const std::vector<std::uint8_t> pixels(300, 0);
  const auto refused = [&](const sam2rt::FrameView& frame) {
    return MESSAGE_OF(sam2rt::FrameError, sam2rt::PixelRows::check(frame));
  };
  CHECK_EQ(refused({nullptr, 10, 10}), "a frame has no data: its address is null");
  CHECK_EQ(refused({pixels.data(), 0, 10}),
           "a frame has no pixels (shape (10, 0, 3)): leave it out");
  CHECK_EQ(refused({pixels.data(), 10, 10, 29}),
           "a frame has a stride of 29 bytes, its rows have 30: give the bytes from one row to the "
           "next");
  CHECK_EQ(refused({pixels.data(), 5, 4, 0, sam2rt::PixelFormat::nv12}),
           "an nv12 frame has even sides, got 5 x 4: convert it to RGB");
  const auto device = MESSAGE_OF(sam2rt::FrameError, {
    std::vector<float> out(3 * 64 * 64);
    sam2rt::FrameView frame{pixels.data(), 10, 10};
    frame.memory = sam2rt::MemoryKind::cuda;
    sam2rt::FrameTensor(64).run(frame, out.data());
  });
  CHECK(device.find("CUDA") != std::string::npos);
}

}  // namespace

int main() {
  return check::run({
             {"every pixel format gives the same tensor", every_pixel_format_gives_the_same_tensor},
             {"every instruction set gives the same tensor",
              every_instruction_set_gives_the_same_tensor},
             {"every byte is normalised alike", every_byte_is_normalised_alike},
             {"logits are the formula at every size", logits_are_the_formula_at_every_size},
             {"frames that cannot be used", frames_that_cannot_be_used},
         }) == 0
             ? 0
             : 1;
}
