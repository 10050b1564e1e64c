#ifndef SAM2RT_SRC_ANTIALIAS_HPP
#define SAM2RT_SRC_ANTIALIAS_HPP

#include <cstdint>
#include <vector>

#include "prompts.hpp"

namespace sam2rt {

/// Source indices and weights of a triangle filter as wide as one output pixel, both [T, n_out]:
/// float32 throughout, in torch's order.
struct AntialiasTaps {
  AntialiasTaps(int n_in, int n_out);
  std::size_t taps = 0;
  std::vector<int> indices;
  std::vector<float> weights;
};

/// Bilinear with antialias, corners not aligned: [H, W] -> [h, w], rows first, then columns. Equals
/// torch's interpolate(antialias=True) up to the rounding of its fused operations, and the Python
/// runtime's arithmetic bit for bit.
void resize_antialias(const float* plane, FrameSize from, float* out, FrameSize to);

}  // namespace sam2rt

#endif
