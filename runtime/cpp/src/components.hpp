#ifndef SAM2RT_SRC_COMPONENTS_HPP
#define SAM2RT_SRC_COMPONENTS_HPP

#include <cstddef>
#include <cstdint>
#include <vector>

namespace sam2rt {

/// Small holes and specks of masks, by connected components of 8 neighbours. Keeps its working
/// memory between calls.
class Components {
 public:
  /// Fill the background's components (logits <= threshold) of at most `area` pixels with
  /// `value`, in place: the original's fill_holes_in_mask_scores. Background that touches the
  /// border counts like any other.
  void fill_holes(float* logits, int height, int width, int area, float threshold = 0.0F,
                  float value = 0.1F);

  /// The image predictor's rule: small holes get threshold + 10, small specks threshold - 10;
  /// both are looked for in the logits as they came, areas of 0 leave their kind alone.
  void clean_mask(float* logits, int height, int width, float threshold, double hole_area,
                  double sprinkle_area);

 private:
  /// Mark in `small_` the pixels of components of at most `area` pixels among those where
  /// (logit > threshold) == above.
  void find_small(const float* logits, int height, int width, float threshold, bool above,
                  int area);
  std::int32_t root(std::int32_t label) noexcept;
  std::int32_t join(std::int32_t a, std::int32_t b) noexcept;

  std::vector<std::int32_t> labels_;
  std::vector<std::int32_t> parent_;
  std::vector<std::int32_t> area_;
  std::vector<std::uint8_t> small_;
};

}  // namespace sam2rt

#endif
