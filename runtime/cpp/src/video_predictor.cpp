#include "sam2rt/video_predictor.hpp"

#include "sam2rt/error.hpp"
#include "video_core.hpp"

namespace sam2rt {

struct VideoPredictor::Impl {
  VideoCore core;
};

struct Propagation::Impl {
  VideoCore* core;
  FrameRange range;
  bool reverse;
};

namespace {

template <class T>
std::shared_ptr<T> given(std::shared_ptr<T> pointer, const char* what) {
  if (!pointer) throw InputError(std::string("no ") + what + " was given: it must not be null");
  return pointer;
}

}  // namespace

VideoPredictor::VideoPredictor(std::shared_ptr<Session> session,
                               std::shared_ptr<FrameSource> frames,
                               const VideoOptions& options)
    : impl_(new Impl{VideoCore(given(std::move(session), "session"),
                               given(std::move(frames), "source of frames"), options)}) {}

VideoPredictor::VideoPredictor(VideoPredictor&&) noexcept = default;
VideoPredictor& VideoPredictor::operator=(VideoPredictor&&) noexcept = default;
VideoPredictor::~VideoPredictor() = default;

const FrameResult& VideoPredictor::add_points(int frame_idx, std::int64_t obj_id,
                                              const PointPrompt& prompt) {
  return impl_->core.add_points(frame_idx, obj_id, prompt);
}

const FrameResult& VideoPredictor::add_mask(int frame_idx, std::int64_t obj_id,
                                            const MaskView& mask) {
  return impl_->core.add_mask(frame_idx, obj_id, mask);
}

Propagation VideoPredictor::propagate(const PropagateOptions& options) {
  VideoCore& core = impl_->core;
  core.preflight();
  return Propagation(std::unique_ptr<Propagation::Impl>(
      new Propagation::Impl{&core, core.order(options), options.reverse}));
}

const FrameResult& VideoPredictor::clear_all_prompts_in_frame(int frame_idx, std::int64_t obj_id) {
  return impl_->core.clear_prompts(frame_idx, obj_id);
}

Removal VideoPredictor::remove_object(std::int64_t obj_id, bool strict) {
  return impl_->core.remove_object(obj_id, strict);
}

void VideoPredictor::reset() { impl_->core.reset(); }
std::vector<std::int64_t> VideoPredictor::obj_ids() const { return impl_->core.obj_ids(); }
int VideoPredictor::num_frames() const noexcept { return impl_->core.num_frames(); }
int VideoPredictor::width() const noexcept { return impl_->core.size().width; }
int VideoPredictor::height() const noexcept { return impl_->core.size().height; }

Propagation::Propagation(std::unique_ptr<Impl> impl) noexcept : impl_(std::move(impl)) {}
Propagation::Propagation(Propagation&&) noexcept = default;
Propagation& Propagation::operator=(Propagation&&) noexcept = default;
Propagation::~Propagation() = default;

const FrameResult* Propagation::next() {
  FrameRange& range = impl_->range;
  if (range.left == 0) return nullptr;
  const FrameResult& result = impl_->core->track(range.next, impl_->reverse);
  range.next += range.step;
  --range.left;
  return &result;
}

}  // namespace sam2rt
