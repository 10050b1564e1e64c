#include "sam2rt/image_predictor.hpp"

#include <algorithm>

#include "antialias.hpp"
#include "components.hpp"
#include "image_prompts.hpp"
#include "normalise.hpp"
#include "pixel_rows.hpp"
#include "sam2rt/error.hpp"
#include "tracker.hpp"
#include "upsample.hpp"

namespace sam2rt {

namespace {

/// Prompts handed to one decoder call: bounds working memory.
constexpr std::size_t prompts_per_call = 32;

/// An image as the model's input, as the original's image transform makes it: divided by 255,
/// bilinear with antialias, normalised; [3, S, S].
std::vector<float> image_tensor(const FrameView& image, int image_size) {
  PixelRows reader;
  reader.open(image);
  const auto width = static_cast<std::size_t>(image.width);
  const auto height = static_cast<std::size_t>(image.height);
  const auto pixels = static_cast<std::size_t>(image_size) * static_cast<std::size_t>(image_size);
  std::vector<float> plane(width * height), tensor(3 * pixels);
  const Rows rows = reader.take(0, image.height);
  for (std::size_t c = 0; c < 3; ++c) {
    for (std::size_t y = 0; y < height; ++y) {
      const std::uint8_t* row = rows.data + y * rows.stride + rows.offset[c];
      for (std::size_t x = 0; x < width; ++x) {
        plane[y * width + x] = static_cast<float>(row[x * rows.pixel_bytes]) / 255.0F;
      }
    }
    float* out = tensor.data() + c * pixels;
    resize_antialias(plane.data(), {image.height, image.width}, out, {image_size, image_size});
    std::transform(out, out + pixels, out, [c](float value) { return normalised(value, c); });
  }
  return tensor;
}

/// Which of the four masks stands for a prompt when one is wanted: mask 0 where it is stable (few
/// pixels near the threshold), else the one of the others with the highest predicted IoU. The
/// original's _dynamic_multimask_via_stability.
std::size_t single_mask(const float* logits, const float* ious, std::size_t pixels,
                        const ModelConfig& model) {
  const auto delta = static_cast<float>(model.stability_delta);
  const auto inner = std::count_if(logits, logits + pixels, [=](float v) { return v > delta; });
  const auto outer = std::count_if(logits, logits + pixels, [=](float v) { return v > -delta; });
  const float stability =
      outer > 0 ? static_cast<float>(static_cast<double>(inner) / static_cast<double>(outer))
                : 1.0F;
  if (stability >= static_cast<float>(model.stability_threshold)) return 0;
  return static_cast<std::size_t>(std::max_element(ious + 1, ious + 4) - ious);
}

}  // namespace

struct ImagePredictor::Impl {
  Impl(std::shared_ptr<Session> opened, const ImageOptions& given)
      : session(std::move(opened)), options(given), tracker(session, {-1, 0}) {}

  void decode(const ImagePrompts& prompts, std::size_t first, std::size_t count, bool multimask,
              ImageResult& result);
  void write_masks(bool as_logits, ImageResult& result);

  std::shared_ptr<Session> session;
  ImageOptions options;
  Tracker tracker;
  Features features;
  FrameSize size;
  bool is_set = false;
  Components components;
  Upsampler upsampler;
};

ImagePredictor::ImagePredictor(std::shared_ptr<Session> session, const ImageOptions& options) {
  if (!session) throw InputError("no session was given: it must not be null");
  impl_ = std::make_unique<Impl>(std::move(session), options);
}

ImagePredictor::ImagePredictor(ImagePredictor&&) noexcept = default;
ImagePredictor& ImagePredictor::operator=(ImagePredictor&&) noexcept = default;
ImagePredictor::~ImagePredictor() = default;

void ImagePredictor::set_image(const FrameView& image) {
  const auto pixels = image_tensor(image, impl_->tracker.model().image_size);
  Features features;
  impl_->tracker.encode(pixels.data(), features);
  impl_->features = std::move(features);
  impl_->size = {image.height, image.width};
  impl_->is_set = true;
}

bool ImagePredictor::is_image_set() const noexcept { return impl_->is_set; }
void ImagePredictor::reset() noexcept { impl_->is_set = false; }

ImageResult ImagePredictor::predict(const ImagePrompt& prompt,
                                    const PredictOptions& options) const {
  return predict(std::vector<ImagePrompt>{prompt}, options);
}

ImageResult ImagePredictor::predict(const std::vector<ImagePrompt>& prompts,
                                    const PredictOptions& options) const {
  if (!impl_->is_set) throw StateError("no image is set: call set_image first");
  const ModelConfig& model = impl_->tracker.model();
  const FrameSize pixels_of = options.normalize_coords ? impl_->size : FrameSize{1, 1};
  const ImagePrompts made = image_prompts(prompts, pixels_of, model);
  ImageResult result;
  result.prompts = static_cast<int>(made.count);
  result.masks_per_prompt = options.multimask_output ? 3 : 1;
  result.width = impl_->size.width;
  result.height = impl_->size.height;
  result.low_side = model.mask_size();
  for (std::size_t i = 0; i < made.count; i += prompts_per_call) {
    impl_->decode(made, i, std::min(prompts_per_call, made.count - i), options.multimask_output,
                  result);
  }
  impl_->write_masks(options.return_logits, result);
  for (float& logit : result.low_res) logit = std::clamp(logit, -32.0F, 32.0F);
  return result;
}

void ImagePredictor::Impl::decode(const ImagePrompts& prompts, std::size_t first,
                                  std::size_t count, bool multimask, ImageResult& result) {
  const ModelConfig& model = tracker.model();
  const int c = model.hidden_dim, h = model.embed_size(), low = model.mask_size();
  const auto pixels = static_cast<std::size_t>(low) * static_cast<std::size_t>(low);
  std::vector<float> embed;
  for (std::size_t i = 0; i < count; ++i) {
    embed.insert(embed.end(), features.prompt_embed.begin(), features.prompt_embed.end());
  }
  const bool masked = !prompts.mask_input.empty();
  const std::vector<float> no_mask(masked ? 0 : count * pixels, 0.0F);
  const std::vector<float> has_mask(count, masked ? 1.0F : 0.0F);
  std::vector<float> logits(count * 4 * pixels), ious(count * 4);
  const auto floats = [](const float* data, const Shape& shape) {
    return InputTensor{data, DType::float32, shape};
  };
  const auto unwanted = [](const Shape& shape) {
    return OutputTensor{nullptr, DType::float32, shape};
  };
  session->run(
      Graph::mask_decoder,
      {floats(embed.data(), Shape::of(count, c, h, h)),
       floats(features.high_res_0.data(), Shape::of(1, c / 8, 4 * h, 4 * h)),
       floats(features.high_res_1.data(), Shape::of(1, c / 4, 2 * h, 2 * h)),
       floats(prompts.coords.data() + first * prompts.points * 2,
              Shape::of(count, prompts.points, 2)),
       {prompts.labels.data() + first * prompts.points, DType::int32,
        Shape::of(count, prompts.points)},
       floats(masked ? prompts.mask_input.data() + first * pixels : no_mask.data(),
              Shape::of(count, 1, low, low)),
       floats(has_mask.data(), Shape::of(count)),
       {&multimask, DType::boolean, Shape::of(1)}},
      {{logits.data(), DType::float32, Shape::of(count, 4, low, low)},
       {ious.data(), DType::float32, Shape::of(count, 4)},
       unwanted(Shape::of(count, 1, low, low)), unwanted(Shape::of(count, 1)),
       unwanted(Shape::of(count, c)), unwanted(Shape::of(count, 1))});
  for (std::size_t i = 0; i < count; ++i) {
    const float* four = logits.data() + i * 4 * pixels;
    const float* quality = ious.data() + i * 4;
    const std::size_t begin = multimask ? 1 : single_mask(four, quality, pixels, model);
    const std::size_t end = multimask ? 4 : begin + 1;
    result.low_res.insert(result.low_res.end(), four + begin * pixels, four + end * pixels);
    result.ious.insert(result.ious.end(), quality + begin, quality + end);
  }
}

void ImagePredictor::Impl::write_masks(bool as_logits, ImageResult& result) {
  const int low = result.low_side;
  const auto pixels = static_cast<std::size_t>(low) * static_cast<std::size_t>(low);
  const auto width = static_cast<std::size_t>(result.width);
  const std::size_t plane = width * static_cast<std::size_t>(result.height);
  const std::size_t count = result.ious.size();
  if (as_logits) {
    result.logits.resize(count * plane);
  } else {
    result.masks.resize(count * plane);
  }
  std::vector<float> cleaned(pixels);
  for (std::size_t i = 0; i < count; ++i) {
    const float* logits = result.low_res.data() + i * pixels;
    std::copy(logits, logits + pixels, cleaned.begin());
    components.clean_mask(cleaned.data(), low, low, options.mask_threshold, options.max_hole_area,
                          options.max_sprinkle_area);
    if (as_logits) {
      upsampler.run(cleaned.data(), low, size, result.logits.data() + i * plane);
    } else {
      upsampler.run_mask(cleaned.data(), low, size, options.mask_threshold,
                         result.masks.data() + i * plane);
    }
  }
}

}  // namespace sam2rt
