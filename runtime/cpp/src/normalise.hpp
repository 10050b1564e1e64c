#ifndef SAM2RT_SRC_NORMALISE_HPP
#define SAM2RT_SRC_NORMALISE_HPP

#include <cstddef>

namespace sam2rt {

/// A value 0..1 of channel R, G or B less the mean, by the deviation: ImageNet's statistics, what
/// every SAM 2 checkpoint was trained with.
inline float normalised(float value, std::size_t channel) noexcept {
  constexpr float mean[3] = {0.485F, 0.456F, 0.406F};
  constexpr float deviation[3] = {0.229F, 0.224F, 0.225F};
  return (value - mean[channel]) / deviation[channel];
}

}  // namespace sam2rt

#endif
