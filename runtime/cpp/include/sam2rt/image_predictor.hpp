#ifndef SAM2RT_IMAGE_PREDICTOR_HPP
#define SAM2RT_IMAGE_PREDICTOR_HPP

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "sam2rt/export.h"
#include "sam2rt/frame.hpp"
#include "sam2rt/prompt.hpp"
#include "sam2rt/session.hpp"

namespace sam2rt {

struct ImageOptions {
  float mask_threshold = 0.0F;  ///< logits above it are mask
  /// background holes and specks of at most this many low-resolution pixels are filled and
  /// removed; 0: left alone
  double max_hole_area = 0.0;
  double max_sprinkle_area = 0.0;
};

/// What one prediction is asked for; any part may be left out.
struct ImagePrompt {
  std::vector<Point> points;  ///< may lie up to a tenth beyond the image
  std::vector<int> labels;    ///< one a point: 1 positive, 0 negative, -1 padding
  std::optional<Box> box;
  std::vector<float> mask_input;  ///< [4h, 4w] logits of an earlier prediction; empty: none
};

struct PredictOptions {
  bool multimask_output = true;   ///< three masks (the parts a click could mean), else one
  bool return_logits = false;     ///< fill `logits` instead of `masks`
  bool normalize_coords = true;   ///< false: coordinates are fractions 0..1 already
};

/// C masks for each of N prompts.
struct ImageResult {
  int prompts = 0;           ///< N
  int masks_per_prompt = 0;  ///< C: 3 or 1
  int width = 0;             ///< of the image, pixels
  int height = 0;            ///< of the image, pixels
  int low_side = 0;          ///< 4h = 4w
  std::vector<std::uint8_t> masks;  ///< [N, C, height, width] of 0 and 1
  std::vector<float> logits;        ///< [N, C, height, width]
  std::vector<float> ious;          ///< [N, C], predicted quality 0..1
  std::vector<float> low_res;       ///< [N, C, 4h, 4w] logits clamped to +-32
};

/// Segments what prompts point at in one image, or in a batch of images. An image is encoded once;
/// every prompt after that costs one small decoder call. Belongs to one thread; the session may be
/// shared.
class SAM2RT_API ImagePredictor {
 public:
  /// Throws InputError for options that make no sense.
  explicit ImagePredictor(std::shared_ptr<Session> session, const ImageOptions& options = {});
  ImagePredictor(ImagePredictor&&) noexcept;
  ImagePredictor& operator=(ImagePredictor&&) noexcept;
  ~ImagePredictor();

  /// Encode an image. Throws FrameError for one that cannot be used; the image before stays then.
  void set_image(const FrameView& image);
  /// Encode several images of any sizes, for predict_batch: a few in one call of the encoder.
  /// Throws InputError without an image, FrameError that says which one cannot be used.
  void set_image_batch(const std::vector<FrameView>& images);
  bool is_image_set() const noexcept;
  void reset() noexcept;

  /// Masks for one prompt. Throws InputError (the predictor stays usable), StateError without an
  /// image.
  ImageResult predict(const ImagePrompt& prompt, const PredictOptions& options = {}) const;
  /// Masks for several prompts at once, of equally many points, all or none with a box or mask.
  ImageResult predict(const std::vector<ImagePrompt>& prompts,
                      const PredictOptions& options = {}) const;
  /// predict on each image of the batch: one list of prompts an image, of any length.
  std::vector<ImageResult> predict_batch(const std::vector<std::vector<ImagePrompt>>& prompts,
                                         const PredictOptions& options = {}) const;

 private:
  struct SAM2RT_HIDDEN Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sam2rt

#endif
