#ifndef SAM2RT_TESTS_SCENE_HPP
#define SAM2RT_TESTS_SCENE_HPP

#include <cstdint>
#include <string_view>
#include <vector>

#include "sam2rt/sam2rt.hpp"
#include "sha256.hpp"

/// A bright square that crosses a textured ground.
struct Scene {
  int width = 320;
  int height = 240;
  std::vector<std::uint8_t> pixels;

  sam2rt::FrameView frame(int t) {
    const auto w = static_cast<std::size_t>(width), h = static_cast<std::size_t>(height);
    pixels.resize(w * h * 3);
    std::uint32_t state = 7;
    for (std::size_t i = 0; i < pixels.size(); ++i) {
      state = state * 1664525U + 1013904223U;
      pixels[i] = static_cast<std::uint8_t>(30 + (state >> 24) % 90);
    }
    const auto left = 20 + static_cast<std::size_t>(3 * t) % (w / 2);
    for (std::size_t y = h / 3; y < h / 3 + 60; ++y) {
      for (std::size_t x = left; x < left + 60; ++x) {
        std::uint8_t* p = pixels.data() + (y * w + x) * 3;
        p[0] = 230, p[1] = 190, p[2] = 60;
      }
    }
    return {pixels.data(), width, height};
  }

  /// Three objects: a click, a box, two clicks.
  static void prompt(sam2rt::StreamTracker& tracker, int objects = 3) {
    tracker.add_points(1, {{{50.0F, 110.0F}}, {1}, {}});
    if (objects > 1) tracker.add_box(2, {15.0F, 75.0F, 85.0F, 145.0F});
    if (objects > 2) tracker.add_points(3, {{{200.0F, 40.0F}, {10.0F, 10.0F}}, {1, 0}, {}});
  }
};

inline std::string digest(const sam2rt::FrameResult& result) {
  return sam2rt::sha256({reinterpret_cast<const char*>(result.logits.data()),
                         result.logits.size() * sizeof(float)});
}

#endif
