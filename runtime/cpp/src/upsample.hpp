#ifndef SAM2RT_SRC_UPSAMPLE_HPP
#define SAM2RT_SRC_UPSAMPLE_HPP

#include <cstdint>
#include <vector>

#include "prompts.hpp"

namespace sam2rt {

/// Logits at frame size: plain bilinear, corners not aligned, no antialias (also when shrinking).
/// Within a row first, then between rows, each as a * (1 - w) + b * w in float32: the bits of the
/// Python runtime. Tables are kept for the last pair of sizes.
class Upsampler {
 public:
  /// logits [side, side] -> out [height, width]
  void run(const float* logits, int side, FrameSize to, float* out);
  /// run(...) > threshold as 0 and 1
  void run_mask(const float* logits, int side, FrameSize to, float threshold, std::uint8_t* out);

 private:
  /// Per output position: the two sources and their weights.
  struct Lerp {
    int n_in = 0;
    int n_out = 0;
    std::vector<int> low, high;
    std::vector<float> weight_low, weight_high;
    void prepare(int from, int to);
  };

  void prepare(const float* logits, int side, FrameSize to);

  Lerp x_;
  Lerp y_;
  std::vector<float> wide_;
  std::vector<float> row_;
};

/// Leave each pixel to the object with the highest logit; others' are at most -10 there. logits:
/// [objects, plane]. The first of equals wins.
void without_overlap(float* logits, std::size_t objects, std::size_t plane) noexcept;

}  // namespace sam2rt

#endif
