#include "sam2rt/image_predictor.hpp"

#include <algorithm>
#include <cmath>
#include <memory>

#include "antialias.hpp"
#include "components.hpp"
#include "image_prompts.hpp"
#include "normalise.hpp"
#include "pixel_rows.hpp"
#include "sam2rt/error.hpp"
#include "text.hpp"
#include "upsample.hpp"

namespace sam2rt {

namespace {

/// Prompts handed to one decoder call, images to one encoder call: bounds working memory.
constexpr int prompts_per_call = 32;
constexpr int images_per_call = 4;

/// An image as the model's input, as the original's image transform makes it: divided by 255,
/// bilinear with antialias, normalised; out: [3, S, S].
void image_tensor(const FrameView& image, int image_size, float* out) {
  PixelRows reader;
  reader.open(image);
  const auto width = static_cast<std::size_t>(image.width);
  const auto height = static_cast<std::size_t>(image.height);
  const auto pixels = static_cast<std::size_t>(image_size) * static_cast<std::size_t>(image_size);
  std::vector<float> plane(width * height);
  const Rows rows = reader.take(0, image.height);
  for (std::size_t c = 0; c < 3; ++c, out += pixels) {
    for (std::size_t y = 0; y < height; ++y) {
      const std::uint8_t* row = rows.data + y * rows.stride + rows.offset[c];
      for (std::size_t x = 0; x < width; ++x) {
        plane[y * width + x] = static_cast<float>(row[x * rows.pixel_bytes]) / 255.0F;
      }
    }
    resize_antialias(plane.data(), {image.height, image.width}, out, {image_size, image_size});
    std::transform(out, out + pixels, out, [c](float value) { return normalised(value, c); });
  }
}

/// Images of one encoder call, as the decoder takes them.
struct EncodedImages {
  std::vector<float> prompt_embed, high_res_0, high_res_1;
};

/// One of them.
struct SetImage {
  std::shared_ptr<const EncodedImages> encoded;
  std::size_t index = 0;
  FrameSize size;
};

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

void check_area(const char* name, double area) {
  if (!std::isfinite(area) || area < 0) {
    throw InputError(text(name, " is ", repr(area), ": expected a number of at least 0"));
  }
}

void check_options(const ImageOptions& options) {
  if (!std::isfinite(options.mask_threshold)) {
    throw InputError(text("mask_threshold is ", repr(double{options.mask_threshold}),
                          ": expected a number that is finite"));
  }
  check_area("max_hole_area", options.max_hole_area);
  check_area("max_sprinkle_area", options.max_sprinkle_area);
}

}  // namespace

struct ImagePredictor::Impl {
  Impl(std::shared_ptr<Session> opened, const ImageOptions& given)
      : session(std::move(opened)), options(given), model(session->bundle().model()) {}

  std::shared_ptr<const EncodedImages> encode(const FrameView* frames, std::size_t count) const;
  std::vector<SetImage> encode_all(const std::vector<FrameView>& frames) const;
  ImageResult predict(const SetImage& image, const std::vector<ImagePrompt>& prompts,
                      const PredictOptions& asked);
  void decode(const SetImage& image, const ImagePrompts& prompts, std::size_t first,
              std::size_t count, bool multimask, ImageResult& result) const;
  void write_masks(bool as_logits, ImageResult& result);

  std::shared_ptr<Session> session;
  ImageOptions options;
  const ModelConfig& model;
  std::vector<SetImage> images;
  bool is_batch = false;
  Components components;
  Upsampler upsampler;
};

ImagePredictor::ImagePredictor(std::shared_ptr<Session> session, const ImageOptions& options) {
  if (!session) throw InputError("no session was given: it must not be null");
  check_options(options);
  impl_ = std::make_unique<Impl>(std::move(session), options);
}

ImagePredictor::ImagePredictor(ImagePredictor&&) noexcept = default;
ImagePredictor& ImagePredictor::operator=(ImagePredictor&&) noexcept = default;
ImagePredictor::~ImagePredictor() = default;

void ImagePredictor::set_image(const FrameView& image) {
  impl_->images = impl_->encode_all({image});
  impl_->is_batch = false;
}

void ImagePredictor::set_image_batch(const std::vector<FrameView>& images) {
  if (images.empty()) throw InputError("no image was given: expected at least one");
  for (std::size_t i = 0; i < images.size(); ++i) {
    try {
      PixelRows::check(images[i]);
    } catch (const FrameError& error) {
      throw FrameError(text("image ", i, ": ", error.what()));
    }
  }
  impl_->images = impl_->encode_all(images);
  impl_->is_batch = true;
}

bool ImagePredictor::is_image_set() const noexcept { return !impl_->images.empty(); }

void ImagePredictor::reset() noexcept {
  impl_->images.clear();
  impl_->is_batch = false;
}

ImageResult ImagePredictor::predict(const ImagePrompt& prompt,
                                    const PredictOptions& options) const {
  return predict(std::vector<ImagePrompt>{prompt}, options);
}

ImageResult ImagePredictor::predict(const std::vector<ImagePrompt>& prompts,
                                    const PredictOptions& options) const {
  if (impl_->images.empty()) throw StateError("no image is set: call set_image first");
  if (impl_->is_batch) {
    throw StateError("a batch of images is set: call predict_batch, or set_image first");
  }
  return impl_->predict(impl_->images.front(), prompts, options);
}

std::vector<ImageResult> ImagePredictor::predict_batch(
    const std::vector<std::vector<ImagePrompt>>& prompts, const PredictOptions& options) const {
  if (!impl_->is_batch) {
    throw StateError("no batch of images is set: call set_image_batch first");
  }
  const std::size_t count = impl_->images.size();
  if (prompts.size() != count) {
    throw InputError(text("prompts has ", prompts.size(), " items for ", count,
                          " images: give one an image"));
  }
  std::vector<ImageResult> results;
  for (std::size_t i = 0; i < count; ++i) {
    results.push_back(impl_->predict(impl_->images[i], prompts[i], options));
  }
  return results;
}

std::vector<SetImage> ImagePredictor::Impl::encode_all(
    const std::vector<FrameView>& frames) const {
  const auto most =
      static_cast<std::size_t>(std::min(images_per_call, session->max_images()));
  std::vector<SetImage> made;
  for (std::size_t first = 0; first < frames.size(); first += most) {
    const std::size_t count = std::min(most, frames.size() - first);
    const auto encoded = encode(frames.data() + first, count);
    for (std::size_t i = 0; i < count; ++i) {
      const FrameView& frame = frames[first + i];
      made.push_back({encoded, i, {frame.height, frame.width}});
    }
  }
  return made;
}

std::shared_ptr<const EncodedImages> ImagePredictor::Impl::encode(const FrameView* frames,
                                                                  std::size_t count) const {
  const int c = model.hidden_dim, h = model.embed_size(), side = model.image_size;
  const auto shape = Shape::of(count, 3, side, side);
  const auto per_image = static_cast<std::size_t>(shape.elements()) / count;
  std::vector<float> pixels(count * per_image);
  for (std::size_t i = 0; i < count; ++i) {
    image_tensor(frames[i], side, pixels.data() + i * per_image);
  }
  auto made = std::make_shared<EncodedImages>();
  const auto out = [](std::vector<float>& values, const Shape& of) {
    values.resize(static_cast<std::size_t>(of.elements()));
    return OutputTensor{values.data(), DType::float32, of};
  };
  session->run(Graph::image_encoder, {{pixels.data(), DType::float32, shape}},
               {{nullptr, DType::float32, Shape::of(count, c, h, h)},
                out(made->prompt_embed, Shape::of(count, c, h, h)),
                out(made->high_res_0, Shape::of(count, c / 8, 4 * h, 4 * h)),
                out(made->high_res_1, Shape::of(count, c / 4, 2 * h, 2 * h))});
  return made;
}

ImageResult ImagePredictor::Impl::predict(const SetImage& image,
                                          const std::vector<ImagePrompt>& prompts,
                                          const PredictOptions& asked) {
  const PixelsOf pixels_of = asked.normalize_coords ? PixelsOf(image.size) : std::nullopt;
  const ImagePrompts made = image_prompts(prompts, pixels_of, model);
  ImageResult result;
  result.prompts = static_cast<int>(made.count);
  result.masks_per_prompt = asked.multimask_output ? 3 : 1;
  result.width = image.size.width;
  result.height = image.size.height;
  result.low_side = model.mask_size();
  const auto most =
      static_cast<std::size_t>(std::min(prompts_per_call, session->max_objects()));
  for (std::size_t i = 0; i < made.count; i += most) {
    decode(image, made, i, std::min(most, made.count - i), asked.multimask_output, result);
  }
  write_masks(asked.return_logits, result);
  for (float& logit : result.low_res) logit = std::clamp(logit, -32.0F, 32.0F);
  return result;
}

void ImagePredictor::Impl::decode(const SetImage& image, const ImagePrompts& prompts,
                                  std::size_t first, std::size_t count, bool multimask,
                                  ImageResult& result) const {
  const int c = model.hidden_dim, h = model.embed_size(), low = model.mask_size();
  const auto pixels = static_cast<std::size_t>(low) * static_cast<std::size_t>(low);
  const auto cells = static_cast<std::size_t>(h) * static_cast<std::size_t>(h);
  const auto channels = static_cast<std::size_t>(c);
  const auto part = [&](const std::vector<float>& values, std::size_t per_image) {
    return values.data() + image.index * per_image;
  };
  const float* one = part(image.encoded->prompt_embed, channels * cells);
  std::vector<float> embed;
  for (std::size_t i = 0; i < count; ++i) embed.insert(embed.end(), one, one + channels * cells);
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
       floats(part(image.encoded->high_res_0, channels / 8 * 16 * cells),
              Shape::of(1, c / 8, 4 * h, 4 * h)),
       floats(part(image.encoded->high_res_1, channels / 4 * 4 * cells),
              Shape::of(1, c / 4, 2 * h, 2 * h)),
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
  const FrameSize size{result.height, result.width};
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
