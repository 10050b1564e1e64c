#ifndef SAM2RT_SRC_IMAGE_PROMPTS_HPP
#define SAM2RT_SRC_IMAGE_PROMPTS_HPP

#include <vector>

#include "prompts.hpp"
#include "sam2rt/bundle.hpp"
#include "sam2rt/image_predictor.hpp"

namespace sam2rt {

/// N prompts of one image, as the decoder takes them.
struct ImagePrompts {
  std::size_t count = 0;             ///< N
  std::size_t points = 0;            ///< P, the padding point included; may be 0
  std::vector<float> coords;         ///< [N, P, 2], model-input pixels
  std::vector<std::int32_t> labels;  ///< [N, P]
  std::vector<float> mask_input;     ///< [N, 1, 4h, 4w], or empty
};

/// Check and convert prompts. Throws InputError: points without labels or the reverse, unknown
/// labels, coordinates that are NaN, infinite or more than a tenth beyond the image, a box that
/// check_box refuses, prompts that differ in their number of points or in having a box or a mask.
ImagePrompts image_prompts(const std::vector<ImagePrompt>& prompts, const PixelsOf& size,
                           const ModelConfig& model);

}  // namespace sam2rt

#endif
