// Any sequence of calls of the C interface, in any order, with any values and with null in every
// place. Buffers lie on the heap in as many bytes as the interface asks for. The session answers at
// once (tests/cpp/support/sessions.hpp); SAM2RT_FUZZ_BUNDLE names any bundle's folder.
#include <array>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <vector>

#include "c_handles.hpp"
#include "support/sessions.hpp"

namespace {

constexpr int width = 24, height = 20;
constexpr std::size_t pixels = width * height;

/// What decides: bytes, zeros after the last.
class Bytes {
 public:
  Bytes(const std::uint8_t* data, std::size_t size) : data_(data), left_(size) {}
  bool empty() const { return left_ == 0; }
  std::uint8_t byte() {
    if (left_ == 0) return 0;
    --left_;
    return *data_++;
  }
  bool rarely() { return byte() % 16 == 15; }
  std::int32_t number() {
    static constexpr std::array<std::int32_t, 8> odd{
        0, -1, -2, std::numeric_limits<std::int32_t>::max(),
        std::numeric_limits<std::int32_t>::min(), 1 << 30, 255, 1000000007};
    const std::uint8_t b = byte();
    return b < 192 ? b % 6 : odd[b % odd.size()];
  }
  float real() {
    constexpr float infinite = std::numeric_limits<float>::infinity();
    static constexpr std::array<float, 8> odd{NAN, infinite, -infinite, 1e30F, -1e30F, 1e-42F, -3, 26};
    const std::uint8_t b = byte();
    return b < 192 ? static_cast<float>(b) / 8 : odd[b % odd.size()];
  }

 private:
  const std::uint8_t* data_;
  std::size_t left_;
};

/// Pixels of a video that its callback gives, or does not.
struct Source {
  std::vector<std::uint8_t> held;
  int reads = 0, bad = -1, kind = 0;

  static std::int32_t read(void* user, std::int32_t index, sam2rt_frame* frame) {
    auto* self = static_cast<Source*>(user);
    // of the size that was declared, gone at the next call
    self->held.assign(3 * pixels, static_cast<std::uint8_t>(index));
    self->held.shrink_to_fit();
    *frame = {self->held.data(), width, height, 0, SAM2RT_RGB, 0, nullptr};
    if (self->reads++ != self->bad) return 0;
    if (self->kind == 0) return 1;
    if (self->kind == 1) frame->width = 7;
    if (self->kind == 2) frame->data = nullptr;
    if (self->kind == 3) frame->format = 77;
    return 0;
  }
};

class Calls {
 public:
  explicit Calls(const std::uint8_t* data, std::size_t size) : in_(data, size) {
    session_.session = std::make_shared<MixingSession>(bundle());
  }
  ~Calls() {
    sam2rt_image_free(image_);
    sam2rt_stream_free(stream_);
    sam2rt_video_free(video_);
  }

  void run() {
    for (int i = 0; i < 48 && !in_.empty(); ++i) one();
  }

 private:
  static const sam2rt::Bundle& bundle() {
    static const auto loaded = [] {
      const char* folder = std::getenv("SAM2RT_FUZZ_BUNDLE");
      if (folder == nullptr) {
        std::fputs("SAM2RT_FUZZ_BUNDLE must name a bundle's folder\n", stderr);
        std::exit(2);
      }
      return sam2rt::Bundle::load(folder);
    }();
    return loaded;
  }

  void one() {
    switch (in_.byte() % 24) {
      case 0: return new_image();
      case 1: return said(sam2rt_image_set(rarely_null(image_), frame(), error()));
      case 2: case 3: return refine();
      case 4: return free_image();
      case 5: return new_stream();
      case 6: case 7: return said(sam2rt_stream_add_points(stream_, object(), prompt(), error()));
      case 8: return add_stream_mask();
      case 9: return said(sam2rt_stream_remove_object(stream_, object(), error()));
      case 10: return said(sam2rt_stream_reset(stream_, error()));
      case 11: case 12: return step();
      case 13: return result(sam2rt_stream_result(stream_, make_result(), error()), plane_);
      case 14: return free_stream();
      case 15: return new_video();
      case 16: return result(sam2rt_video_add_points(video_, in_.number(), object(), prompt(),
                                                     make_result(), error()));
      case 17: return add_video_mask();
      case 18: return result(sam2rt_video_clear_prompts(video_, in_.number(), object(),
                                                        make_result(), error()));
      case 19: return said(sam2rt_video_remove_object(video_, object(), error()));
      case 20: return said(sam2rt_video_reset(video_, error()));
      case 21: return propagate();
      case 22: return result(sam2rt_video_next(video_, make_result(), error()));
      default: return rare();
    }
  }

  template <class Handle>
  Handle* rarely_null(Handle* handle) {
    return in_.rarely() ? nullptr : handle;
  }
  sam2rt_error* error() {
    std::memset(&error_, 0xA5, sizeof error_);
    asked_ = !in_.rarely();
    return asked_ ? &error_ : nullptr;
  }
  std::int64_t object() { return in_.rarely() ? std::numeric_limits<std::int64_t>::min() : in_.number(); }

  /// A status of the interface; with an error, one line that says why.
  void said(sam2rt_status status) {
    if (status < SAM2RT_UNKNOWN_ERROR || status > SAM2RT_END) __builtin_trap();
    // nothing of this is a fault of the library or of memory
    if (status == SAM2RT_UNKNOWN_ERROR) __builtin_trap();
    if (!asked_) return;
    if (std::memchr(error_.message, 0, sizeof error_.message) == nullptr) __builtin_trap();
    if (status < 0 && (error_.status != status || error_.message[0] == '\0')) __builtin_trap();
    if (std::strchr(error_.message, '\n') != nullptr) __builtin_trap();
  }

  const sam2rt_frame* frame() {
    const std::uint8_t how = in_.byte();
    frame_ = {nullptr, width, height, 0, how % 5 == 4 ? in_.number() : how % 5, 0, nullptr};
    const std::size_t bytes = frame_.format == SAM2RT_RGBA ? 4 * pixels : 3 * pixels;
    held_ = std::vector<std::uint8_t>(frame_.format == SAM2RT_NV12 ? pixels * 3 / 2 : bytes, how);
    frame_.data = held_.data();
    if (how >= 240) frame_.data = nullptr;
    // sizes without pixels read nothing, and smaller ones less
    if (how % 16 == 9) frame_.width = in_.byte() % 2 == 0 ? in_.byte() % width : -in_.byte();
    if (how % 16 == 10) frame_.stride = 1;
    return how == 255 ? nullptr : &frame_;
  }

  const sam2rt_prompt* prompt() {
    const std::uint8_t how = in_.byte();
    const std::size_t count = how % 4;
    points_ = std::vector<float>(2 * count);
    labels_ = std::vector<std::int32_t>(count);
    for (float& value : points_) value = in_.real();
    for (std::int32_t& label : labels_) label = in_.rarely() ? in_.number() : in_.byte() % 2;
    for (float& value : box_) value = in_.real();
    prompt_ = {points_.data(), labels_.data(), count, how & 8 ? box_.data() : nullptr, how & 16};
    if (how % 32 == 31) prompt_.labels = nullptr;
    if (how % 32 == 30) prompt_.points = nullptr;
    return how == 255 ? nullptr : &prompt_;
  }

  sam2rt_result* make_result() {
    const std::uint8_t how = in_.byte();
    capacity_ = how % 5;
    ids_ = std::vector<std::int64_t>(capacity_);
    scores_ = ious_ = std::vector<float>(capacity_);
    logits_ = std::vector<float>(capacity_ * pixels);
    masks_ = std::vector<std::uint8_t>(capacity_ * pixels, 7);
    result_ = {capacity_, 0, 0, ids_.data(), scores_.data(), ious_.data(), logits_.data(),
               masks_.data()};
    if (how & 16) result_.logits = nullptr;
    if (how & 32) result_.masks = nullptr;
    asked_result_ = how < 250;
    return asked_result_ ? &result_ : nullptr;
  }
  /// Masks of `plane` pixels each.
  void result(sam2rt_status status, std::size_t plane = pixels) {
    said(status);
    if (status != SAM2RT_OK || !asked_result_) return;
    if (result_.count > capacity_) __builtin_trap();
    for (std::size_t i = 0; i < result_.count * plane; ++i) {
      if (result_.masks != nullptr && masks_[i] > 1) __builtin_trap();
      if (result_.logits != nullptr && !std::isfinite(logits_[i])) __builtin_trap();
    }
  }

  const sam2rt_options* options() {
    static constexpr std::array<const char*, 5> types{"float32", "float16", "bfloat16", "int4",
                                                      nullptr};
    const std::uint8_t how = in_.byte();
    sam2rt_default_options(&options_);
    if (how & 1) options_.non_overlap_masks = 1;
    if (how & 2) options_.max_cond_frames_in_attn = in_.number();
    if (how & 4) options_.fill_hole_area = in_.number();
    if (how & 8) options_.objects_per_call = in_.number();
    if (how & 16) options_.num_frames = in_.number();
    if (how & 32) options_.memory_dtype = types[in_.byte() % types.size()];
    options_.add_all_frames_to_correct_as_cond = how & 64;
    return how == 255 ? nullptr : &options_;
  }

  void new_image() {
    free_image();
    said(sam2rt_image_new(rarely_null(&session_), &image_, error()));
  }
  void free_image() { sam2rt_image_free(std::exchange(image_, nullptr)); }
  void refine() {
    const auto low = static_cast<std::size_t>(bundle().model().mask_size());
    const bool multimask = in_.byte() % 2 == 0;
    std::vector<float> mask_input(low * low, in_.real()), low_res(3 * low * low), ious(3);
    std::vector<std::uint8_t> masks(3 * pixels);
    const float* from = in_.byte() % 2 == 0 ? mask_input.data() : nullptr;
    said(sam2rt_image_refine(image_, prompt(), from, multimask, masks.data(), ious.data(),
                             low_res.data(), error()));
  }
  void new_stream() {
    free_stream();
    said(sam2rt_stream_new(rarely_null(&session_), options(), &stream_, error()));
  }
  void free_stream() { sam2rt_stream_free(std::exchange(stream_, nullptr)); }
  void step() {
    const sam2rt_frame* given = frame();
    // buffers have room for results of this size
    if (given != nullptr && given->width > width) return;
    const auto status = sam2rt_stream_step(stream_, given, make_result(), error());
    // a result that did not fit its buffers can be asked for again
    if (stream_ != nullptr && stream_->last != nullptr) plane_ = stream_->last->plane();
    result(status, plane_);
  }
  void add_stream_mask() {
    const int w = 1 + in_.byte() % 40, h = 1 + in_.byte() % 40;
    const std::vector<std::uint8_t> mask(static_cast<std::size_t>(w * h), in_.byte());
    const bool wrong = in_.rarely();
    said(sam2rt_stream_add_mask(stream_, object(), in_.rarely() ? nullptr : mask.data(),
                                wrong ? -w : w, h, error()));
  }
  void new_video() {
    sam2rt_video_free(std::exchange(video_, nullptr));
    source_ = {};
    if (in_.byte() % 4 == 0) source_.bad = in_.byte() % 8, source_.kind = in_.byte() % 4;
    const int frames = in_.rarely() ? in_.number() : 1 + in_.byte() % 6;
    const int w = in_.rarely() ? in_.number() : width;
    said(sam2rt_video_new(rarely_null(&session_), options(), frames, w, height,
                          in_.rarely() ? nullptr : &Source::read, &source_, &video_, error()));
  }
  void add_video_mask() {
    if (video_ == nullptr || video_->predictor.width() != width) return;
    const std::vector<std::uint8_t> mask(pixels, in_.byte() % 2);
    result(sam2rt_video_add_mask(video_, in_.number(), object(),
                                 in_.rarely() ? nullptr : mask.data(), make_result(), error()));
  }
  void propagate() {
    const int start = in_.number(), most = in_.number(), reverse = in_.byte() % 2;
    said(sam2rt_video_propagate(video_, start, most, reverse, error()));
  }

  /// What programs do once.
  void rare() {
    static constexpr std::array<const char*, 5> backends{"torch", "", "onnxruntime", "tensorrt",
                                                         "ONNXRUNTIME"};
    sam2rt_bundle loaded{bundle()};
    sam2rt_session* opened = nullptr;
    switch (in_.byte() % 4) {
      case 0: {
        sam2rt_bundle* none = nullptr;
        said(sam2rt_bundle_load(in_.rarely() ? nullptr : "/nowhere", in_.number(), &none, error()));
        if (none != nullptr) __builtin_trap();
        return;
      }
      case 1:
        // no device is such, so that nothing is opened
        said(sam2rt_session_open(in_.rarely() ? nullptr : &loaded,
                                 backends[in_.byte() % backends.size()], "abacus", in_.number(),
                                 &opened, error()));
        if (opened != nullptr) __builtin_trap();
        return;
      case 2:
        if (sam2rt_bundle_image_size(&loaded) != bundle().model().image_size ||
            sam2rt_bundle_image_size(nullptr) != 0 || *sam2rt_bundle_model(nullptr) != '\0') {
          __builtin_trap();
        }
        return;
      default:
        result(sam2rt_video_result(rarely_null(video_), make_result(), error()));
    }
  }

  Bytes in_;
  sam2rt_session session_;
  sam2rt_image* image_ = nullptr;
  sam2rt_stream* stream_ = nullptr;
  sam2rt_video* video_ = nullptr;
  Source source_;
  sam2rt_error error_{};
  bool asked_ = true, asked_result_ = true;
  sam2rt_frame frame_{};
  sam2rt_prompt prompt_{};
  sam2rt_result result_{};
  sam2rt_options options_{};
  std::size_t capacity_ = 0, plane_ = pixels;
  std::vector<std::uint8_t> held_, masks_;
  std::vector<float> points_, scores_, ious_, logits_;
  std::vector<std::int32_t> labels_;
  std::array<float, 4> box_{};
  std::vector<std::int64_t> ids_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Calls(data, size).run();
  return 0;
}
