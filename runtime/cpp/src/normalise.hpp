#ifndef SAM2RT_SRC_NORMALISE_HPP
#define SAM2RT_SRC_NORMALISE_HPP

#include <array>
#include <cstddef>

namespace sam2rt {

/// ImageNet's statistics of R, G and B, what every SAM 2 checkpoint was trained with.
inline constexpr float pixel_mean[3] = {0.485F, 0.456F, 0.406F};
inline constexpr float pixel_deviation[3] = {0.229F, 0.224F, 0.225F};

/// A value 0..1 of a channel less the mean, by the deviation.
inline float normalised(float value, std::size_t channel) noexcept {
  return (value - pixel_mean[channel]) / pixel_deviation[channel];
}

/// What the 256 bytes of a channel become: divided by 255 in double, stored as float, normalised.
inline const std::array<float, 256>& normalised_bytes(std::size_t channel) {
  static const auto tables = [] {
    std::array<std::array<float, 256>, 3> made{};
    for (std::size_t c = 0; c < 3; ++c) {
      for (std::size_t v = 0; v < 256; ++v) {
        made[c][v] = normalised(static_cast<float>(static_cast<double>(v) / 255.0), c);
      }
    }
    return made;
  }();
  return tables[channel];
}

}  // namespace sam2rt

#endif
