#include "sam2rt/stream_tracker.hpp"

#include <algorithm>

#include "frame_tensor.hpp"
#include "sam2rt/error.hpp"
#include "text.hpp"
#include "tracker.hpp"
#include "upsample.hpp"

namespace sam2rt {

namespace {

/// A mask prompt that waits for its frame.
struct WaitingMask {
  std::vector<std::uint8_t> pixels;
  FrameSize size;

  MaskView view() const noexcept { return {pixels.data(), size.width, size.height, 0}; }
};

struct StreamObject {
  std::int64_t id = 0;
  int key = 0;
  ObjectHistory history;
  // prompts for the next frame, as the caller gave them: its size is not known yet
  std::vector<PointPrompt> points;
  std::optional<WaitingMask> mask;

  bool prompted() const noexcept { return !points.empty() || mask.has_value(); }
  void drop_prompts() {
    points.clear();
    mask.reset();
  }
};

/// A prompt in model pixels, resolved on its frame.
struct ResolvedPrompt {
  std::size_t object = 0;
  ModelPoints points;
  std::vector<float> mask;  ///< empty: points
};

}  // namespace

struct StreamTracker::Impl {
  Impl(std::shared_ptr<Session> session, const StreamOptions& given)
      : tracker(std::move(session), given, /*forward_only=*/true),
        options(given),
        to_tensor(tracker.model().image_size) {
    const auto side = static_cast<std::size_t>(tracker.model().image_size);
    pixels.resize(3 * side * side);
  }

  StreamObject& object(std::int64_t obj_id);
  ModelPoints resolve(const StreamObject& item, FrameSize size) const;
  void take_prompts(FrameSize size);
  void drop_prompts(std::size_t position);
  void prompt();
  void take_up_prompts();
  void track();
  void write_result(FrameSize size);
  const FrameResult& step(const FrameView& frame);
  std::optional<int> length() const noexcept;

  Tracker tracker;
  StreamOptions options;
  FrameTensor to_tensor;
  Upsampler upsampler;
  std::vector<StreamObject> objects;
  int next_key = 0;
  int frame_idx = 0;
  std::optional<FrameSize> frame_size;
  std::vector<float> pixels;
  Features features;
  std::vector<ResolvedPrompt> prompts;
  std::vector<FrameOutput> prompted;  ///< what they gave, in their order
  std::vector<TrackedObject> waiting;
  FrameResult result;
  std::vector<float> low_res;  ///< [N, 4h, 4w] of the result: the objects forget theirs
};

std::optional<int> StreamTracker::Impl::length() const noexcept {
  // a stream that outlives the length it was given has none
  return options.num_frames.value_or(0) > frame_idx ? options.num_frames : std::nullopt;
}

StreamObject& StreamTracker::Impl::object(std::int64_t obj_id) {
  for (StreamObject& item : objects) {
    if (item.id == obj_id) return item;
  }
  StreamObject item;
  item.id = obj_id;
  item.key = next_key++;
  objects.push_back(std::move(item));
  return objects.back();
}

ModelPoints StreamTracker::Impl::resolve(const StreamObject& item, FrameSize size) const {
  ModelPoints points;
  for (const PointPrompt& prompt : item.points) {
    points.append(model_points(prompt, size, tracker.model().image_size));
  }
  return points;
}

void StreamTracker::Impl::take_prompts(FrameSize size) {
  prompts.clear();
  for (std::size_t i = 0; i < objects.size(); ++i) {
    const StreamObject& item = objects[i];
    if (!item.prompted()) continue;
    try {
      ResolvedPrompt prompt;
      prompt.object = i;
      if (item.mask) {
        prompt.mask = model_mask(item.mask->view(), size, tracker.model().image_size);
      } else {
        prompt.points = resolve(item, size);
      }
      prompts.push_back(std::move(prompt));
    } catch (const InputError&) {
      drop_prompts(i);
      throw;
    }
  }
}

void StreamTracker::Impl::drop_prompts(std::size_t position) {
  objects[position].drop_prompts();
  if (objects[position].history.cond.empty()) {
    objects.erase(objects.begin() + static_cast<std::ptrdiff_t>(position));
  }
}

void StreamTracker::Impl::prompt() {
  prompted.assign(prompts.size(), FrameOutput{});
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    const ResolvedPrompt& prompt = prompts[i];
    FrameOutput& output = prompted[i];
    if (prompt.mask.empty()) {
      tracker.prompt_points(features, prompt.points, nullptr, nullptr, length(), output);
    } else {
      tracker.prompt_mask(features, prompt.mask, output);
    }
    tracker.remember(features, output);
  }
}

void StreamTracker::Impl::take_up_prompts() {
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    objects[prompts[i].object].history.cond.put(frame_idx, prompted[i]);
    objects[prompts[i].object].drop_prompts();
  }
}

void StreamTracker::Impl::track() {
  waiting.clear();
  auto asked = prompts.begin();
  for (std::size_t i = 0; i < objects.size(); ++i) {
    if (asked != prompts.end() && asked->object == i) {
      ++asked;
    } else {
      waiting.push_back({objects[i].key, &objects[i].history});
    }
  }
  if (waiting.empty()) return;
  auto& outputs = tracker.track(features, waiting, frame_idx, false, length());
  asked = prompts.begin();
  std::size_t next = 0;
  for (std::size_t i = 0; i < objects.size(); ++i) {
    if (asked != prompts.end() && asked->object == i) {
      ++asked;
    } else {
      objects[i].history.non_cond.put(frame_idx, outputs[next++]);
    }
  }
}

void StreamTracker::Impl::write_result(FrameSize size) {
  result.frame_idx = frame_idx;
  result.width = size.width;
  result.height = size.height;
  result.obj_ids.clear();
  result.object_scores.clear();
  result.ious.clear();
  low_res.clear();
  result.logits.resize(options.frame_logits ? objects.size() * result.plane() : 0);
  float* plane = result.logits.data();
  for (StreamObject& item : objects) {
    const FrameOutput& output = *item.history.at(frame_idx);
    result.obj_ids.push_back(item.id);
    result.object_scores.push_back(output.object_score);
    result.ious.push_back(output.iou);
    low_res.insert(low_res.end(), output.mask_logits.begin(), output.mask_logits.end());
    if (!options.frame_logits) continue;
    upsampler.run(output.mask_logits.data(), tracker.model().mask_size(), size, plane);
    plane += result.plane();
  }
  if (options.non_overlap_masks) {
    without_overlap(result.logits.data(), objects.size(), result.plane());
  }
}

const FrameResult& StreamTracker::Impl::step(const FrameView& frame) {
  PixelRows::check(frame);
  const FrameSize size{frame.height, frame.width};
  if (frame_size && !(*frame_size == size)) {
    throw FrameError(text("the frame is ", size.width, " x ", size.height, ", earlier ones were ",
                          frame_size->width, " x ", frame_size->height,
                          ": resize it, or call reset() first"));
  }
  take_prompts(size);
  if (!objects.empty()) {
    to_tensor.run(frame, pixels.data());
    tracker.encode(pixels.data(), features);
    prompt();
    track();
    // an error until here leaves prompts waiting for the next frame
    take_up_prompts();
  }
  frame_size = size;
  write_result(size);
  for (StreamObject& item : objects) {
    item.history.forget_unreachable(tracker.model(), frame_idx + 1,
                                    options.max_cond_frames_in_attn);
  }
  ++frame_idx;
  return result;
}

StreamTracker::StreamTracker(std::shared_ptr<Session> session, const StreamOptions& options) {
  if (!session) throw InputError("no session was given: it must not be null");
  if (options.num_frames && *options.num_frames < 1) {
    throw InputError(text("num_frames is ", *options.num_frames,
                          ": expected at least 1, or None for a live stream"));
  }
  if (options.non_overlap_masks && !options.frame_logits) {
    throw InputError("non_overlap_masks compares the logits of all objects: leave frame_logits on");
  }
  impl_ = std::make_unique<Impl>(std::move(session), options);
}

StreamTracker::StreamTracker(StreamTracker&&) noexcept = default;
StreamTracker& StreamTracker::operator=(StreamTracker&&) noexcept = default;
StreamTracker::~StreamTracker() = default;

void StreamTracker::add_points(std::int64_t obj_id, const PointPrompt& prompt) {
  if (prompt.box && !prompt.clear_old_points) {
    throw InputError("a box must come before any click: use clear_old_points=True");
  }
  model_points(prompt, impl_->frame_size.value_or(any_size), impl_->tracker.model().image_size);
  StreamObject& item = impl_->object(obj_id);
  if (prompt.clear_old_points) item.points.clear();
  item.points.push_back(prompt);
  item.mask.reset();
}

void StreamTracker::add_box(std::int64_t obj_id, const Box& box) {
  PointPrompt prompt;
  prompt.box = box;
  add_points(obj_id, prompt);
}

void StreamTracker::add_mask(std::int64_t obj_id, const MaskView& mask) {
  check_mask(mask, impl_->frame_size.value_or(FrameSize{mask.height, mask.width}));
  const auto width = static_cast<std::size_t>(mask.width);
  const std::size_t stride = mask.stride != 0 ? mask.stride : width;
  WaitingMask waiting{{}, {mask.height, mask.width}};
  for (std::size_t y = 0; y < static_cast<std::size_t>(mask.height); ++y) {
    const std::uint8_t* row = mask.data + y * stride;
    waiting.pixels.insert(waiting.pixels.end(), row, row + width);
  }
  StreamObject& item = impl_->object(obj_id);
  item.points.clear();
  item.mask = std::move(waiting);
}

void StreamTracker::remove_object(std::int64_t obj_id, bool strict) {
  auto& objects = impl_->objects;
  const auto found = std::find_if(objects.begin(), objects.end(),
                                  [obj_id](const StreamObject& o) { return o.id == obj_id; });
  if (found != objects.end()) {
    objects.erase(found);
    if (objects.empty()) impl_->tracker.release();
  } else if (strict) {
    throw InputError(text("no object ", obj_id, ": the objects are ",
                          listed(obj_ids(), [](std::int64_t id) { return std::to_string(id); })));
  }
}

void StreamTracker::reset() {
  impl_->objects.clear();
  impl_->tracker.release();
  impl_->frame_idx = 0;
  impl_->frame_size.reset();
}

const FrameResult& StreamTracker::step(const FrameView& frame) { return impl_->step(frame); }

void StreamTracker::mask(std::size_t position, std::uint8_t* out) {
  const FrameResult& result = impl_->result;
  if (position >= result.obj_ids.size()) {
    throw InputError(text("no mask ", position, ": the last result has ", result.obj_ids.size()));
  }
  if (impl_->options.non_overlap_masks) {
    const float* logits = result.object(position);
    std::transform(logits, logits + result.plane(), out,
                   [](float logit) { return static_cast<std::uint8_t>(logit > 0 ? 1 : 0); });
    return;
  }
  const int side = impl_->tracker.model().mask_size();
  const auto pixels = static_cast<std::size_t>(side) * static_cast<std::size_t>(side);
  impl_->upsampler.run_mask(impl_->low_res.data() + position * pixels, side,
                            {result.height, result.width}, 0.0F, out);
}

std::vector<std::int64_t> StreamTracker::obj_ids() const {
  std::vector<std::int64_t> ids;
  for (const StreamObject& item : impl_->objects) ids.push_back(item.id);
  return ids;
}

int StreamTracker::frame_idx() const noexcept { return impl_->frame_idx; }

}  // namespace sam2rt
