#include "video_core.hpp"

#include <algorithm>
#include <limits>

#include "sam2rt/error.hpp"
#include "text.hpp"

namespace sam2rt {

namespace {

std::string listed_ids(const std::vector<std::int64_t>& ids) {
  return listed(ids, [](std::int64_t id) { return std::to_string(id); });
}

}  // namespace

FrameOutput* VideoObject::result(int frame_idx, bool cond_first) noexcept {
  FrameOutput* output = (cond_first ? fresh.cond : fresh.non_cond).find(frame_idx);
  return output != nullptr ? output : history.at(frame_idx);
}

VideoCore::VideoCore(std::shared_ptr<Session> session, std::shared_ptr<FrameSource> frames,
                     const VideoOptions& options)
    : tracker_(std::move(session), options),
      frames_(std::move(frames)),
      options_(options),
      num_frames_(frames_->num_frames()),
      size_{frames_->height(), frames_->width()},
      to_tensor_(tracker_.model().image_size) {
  if (num_frames_ < 1 || size_.height < 1 || size_.width < 1) {
    throw FrameError(text("a video of ", num_frames_, " frames of ", size_.width, " x ",
                          size_.height, " pixels has nothing to read: check its source"));
  }
  const auto side = static_cast<std::size_t>(tracker_.model().image_size);
  pixels_.resize(3 * side * side);
  const auto low = static_cast<std::size_t>(tracker_.model().mask_size());
  absent_.assign(low * low, no_object_logit);
}

const FrameResult& VideoCore::add_points(int frame_idx, std::int64_t obj_id,
                                         const PointPrompt& prompt) {
  check_frame(frame_idx);
  if (prompt.box && !prompt.clear_old_points) {
    throw InputError(
        "a box must come before any click on its frame: use clear_old_points=True");
  }
  const ModelPoints made = model_points(prompt, size_, tracker_.model().image_size);
  ModelPoints points;
  if (VideoObject* item = find(obj_id); item != nullptr && !prompt.clear_old_points) {
    if (const auto old = item->points.find(frame_idx); old != item->points.end()) {
      points = old->second;
    }
  }
  points.append(made);
  return prompted(frame_idx, obj_id, {std::move(points), {}});
}

const FrameResult& VideoCore::add_mask(int frame_idx, std::int64_t obj_id, const MaskView& mask) {
  check_frame(frame_idx);
  return prompted(frame_idx, obj_id, {{}, model_mask(mask, size_, tracker_.model().image_size)});
}

const FrameResult& VideoCore::prompted(int frame_idx, std::int64_t obj_id, VideoPrompt prompt) {
  const Features& seen = features(frame_idx);
  VideoObject made;
  VideoObject* present = find(obj_id);
  VideoObject& item = present != nullptr ? *present : made;
  const auto passed = item.tracked.find(frame_idx);
  // without a prompted frame left there is no memory that a correction could start from
  const bool first_time = passed == item.tracked.end() || item.history.cond.empty();
  const bool as_cond = first_time || options_.add_all_frames_to_correct_as_cond;
  FrameOutput output;
  if (!prompt.mask.empty()) {
    tracker_.prompt_mask(seen, prompt.mask, output);
  } else {
    Selection memory;
    if (!first_time) {
      select(memory, item.history, frame_idx, tracker_.model(),
             {passed->second, num_frames_, options_.max_cond_frames_in_attn});
    }
    tracker_.prompt_points(seen, prompt.points, item.result(frame_idx, as_cond),
                           first_time ? nullptr : &memory, num_frames_, output);
  }
  // the graphs have run: the state changes as a whole
  item.points.erase(frame_idx);
  item.masks.erase(frame_idx);
  if (prompt.mask.empty()) {
    item.points[frame_idx] = std::move(prompt.points);
  } else {
    item.masks.insert(frame_idx);
  }
  (as_cond ? item.fresh.cond : item.fresh.non_cond).put(frame_idx, output);
  if (present == nullptr) {
    made.id = obj_id;
    made.key = next_key_++;
    objects_.push_back(std::move(made));
  }
  edited_ = true;
  return result(frame_idx, as_cond);
}

void VideoCore::preflight() {
  if (objects_.empty()) {
    throw StateError("no object to track: add points, a box or a mask first");
  }
  for (const VideoObject& item : objects_) {
    if (item.history.cond.empty() && item.fresh.cond.empty()) {
      throw StateError(text("object ", item.id,
                            " has no prompt: add points, a box or a mask, or remove it"));
    }
  }
  remember_prompts();
  for (VideoObject& item : objects_) {
    take_up(item.fresh.non_cond, item.history.non_cond);
    take_up(item.fresh.cond, item.history.cond);
    for (const auto& entry : item.history.cond) item.history.non_cond.erase(entry.first);
  }
  edited_ = false;
}

void VideoCore::remember_prompts() {
  std::vector<std::pair<int, FrameOutput*>> waiting;
  for (VideoObject& item : objects_) {
    for (FrameMap* fresh : {&item.fresh.non_cond, &item.fresh.cond}) {
      for (auto& [frame_idx, output] : *fresh) {
        if (output.memory.empty()) waiting.emplace_back(frame_idx, &output);
      }
    }
  }
  // objects with prompts on one frame share its features
  std::stable_sort(waiting.begin(), waiting.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  for (const auto& [frame_idx, output] : waiting) tracker_.remember(features(frame_idx), *output);
}

void VideoCore::take_up(FrameMap& fresh, FrameMap& taken) {
  while (!fresh.empty()) {
    // in the order of prompting
    const auto earliest =
        std::min_element(fresh.begin(), fresh.end(), [](const auto& a, const auto& b) {
          return a.second.order < b.second.order;
        });
    fresh.move_to(taken, earliest->first);
  }
}

FrameRange VideoCore::order(const PropagateOptions& options) const {
  int start = std::numeric_limits<int>::max();
  for (const VideoObject& item : objects_) {
    if (!item.history.cond.empty()) start = std::min(start, item.history.cond.begin()->first);
  }
  start = options.start_frame_idx.value_or(start);
  check_frame(start);
  const int most = options.max_frame_num_to_track.value_or(num_frames_);
  if (most < 0) {
    throw InputError(
        text("max_frame_num_to_track is ", most, ": expected at least 0, or None for all"));
  }
  if (options.reverse) {
    // from the first frame there is nothing to track backwards
    return {start, -1, start > 0 ? std::min(most, start) + 1 : 0};
  }
  return {start, 1, std::min(most, num_frames_ - 1 - start) + 1};
}

const FrameResult& VideoCore::track(int frame_idx, bool reverse) {
  // without objects frames cost nothing
  if (edited_ && !objects_.empty()) preflight();
  edited_ = false;
  waiting_.clear();
  for (const VideoObject& item : objects_) {
    if (!item.history.cond.contains(frame_idx)) waiting_.push_back({item.key, &item.history});
  }
  if (!waiting_.empty()) {
    auto& outputs = tracker_.track(features(frame_idx), waiting_, frame_idx, reverse, num_frames_);
    std::size_t next = 0;
    for (VideoObject& item : objects_) {
      if (!item.history.cond.contains(frame_idx)) {
        item.history.non_cond.put(frame_idx, outputs[next++]);
      }
    }
  }
  for (VideoObject& item : objects_) item.tracked[frame_idx] = reverse;
  return result(frame_idx, true);
}

const FrameResult& VideoCore::clear_prompts(int frame_idx, std::int64_t obj_id) {
  check_frame(frame_idx);
  VideoObject& item = known(obj_id);
  item.points.erase(frame_idx);
  item.masks.erase(frame_idx);
  item.fresh.cond.erase(frame_idx);
  item.fresh.non_cond.erase(frame_idx);
  if (item.history.cond.contains(frame_idx)) {
    item.history.cond.move_to(item.history.non_cond, frame_idx);
    item.tracked.erase(frame_idx);
  }
  edited_ = true;
  return result(frame_idx);
}

Removal VideoCore::remove_object(std::int64_t obj_id, bool strict) {
  const auto found = std::find_if(objects_.begin(), objects_.end(),
                                  [obj_id](const VideoObject& o) { return o.id == obj_id; });
  if (found == objects_.end()) {
    if (strict) known(obj_id);
    return {obj_ids(), {}};
  }
  std::set<int> frames = found->masks;
  for (const auto& entry : found->points) frames.insert(entry.first);
  objects_.erase(found);
  edited_ = true;
  Removal removal{obj_ids(), {}};
  if (objects_.empty()) {
    tracker_.release();
    return removal;
  }
  for (const int frame_idx : frames) removal.updated.push_back(result(frame_idx));
  return removal;
}

void VideoCore::reset() {
  objects_.clear();
  tracker_.release();
  edited_ = true;
}

std::vector<std::int64_t> VideoCore::obj_ids() const {
  std::vector<std::int64_t> ids;
  for (const VideoObject& item : objects_) ids.push_back(item.id);
  return ids;
}

const FrameResult& VideoCore::result(int frame_idx, std::optional<bool> cond_first) {
  const auto fresh = [frame_idx](const VideoObject& o) { return o.fresh.cond.contains(frame_idx); };
  write_masks(frame_idx,
              cond_first.value_or(std::any_of(objects_.begin(), objects_.end(), fresh)));
  if (options_.non_overlap_masks) {
    without_overlap(result_.logits.data(), objects_.size(), result_.plane());
  }
  return result_;
}

void VideoCore::write_masks(int frame_idx, bool cond_first) {
  result_.frame_idx = frame_idx;
  result_.width = size_.width;
  result_.height = size_.height;
  result_.obj_ids.clear();
  result_.object_scores.clear();
  result_.ious.clear();
  result_.logits.resize(objects_.size() * result_.plane());
  float* plane = result_.logits.data();
  for (VideoObject& item : objects_) {
    const FrameOutput* output = item.result(frame_idx, cond_first);
    const bool present = output != nullptr && !output->mask_logits.empty();
    constexpr float unknown = std::numeric_limits<float>::quiet_NaN();
    result_.obj_ids.push_back(item.id);
    result_.object_scores.push_back(output != nullptr ? output->object_score : unknown);
    result_.ious.push_back(output != nullptr ? output->iou : unknown);
    upsampler_.run(present ? output->mask_logits.data() : absent_.data(),
                   tracker_.model().mask_size(), size_, plane);
    plane += result_.plane();
  }
}

const Features& VideoCore::features(int frame_idx) {
  if (features_idx_ != frame_idx) {
    const FrameView frame = frames_->read(frame_idx);
    // masks have the video's size, whatever that of the frames is
    if (!frame_size_) frame_size_ = FrameSize{frame.height, frame.width};
    if (frame.height != frame_size_->height || frame.width != frame_size_->width) {
      throw FrameError(text("frame ", frame_idx, " is ", frame.width, " x ", frame.height,
                            ", the first is ", frame_size_->width, " x ", frame_size_->height,
                            ": all frames of a video have one size"));
    }
    to_tensor_.run(frame, pixels_.data());
    features_idx_ = -1;  // encoding may fail
    tracker_.encode(pixels_.data(), features_);
    features_idx_ = frame_idx;
  }
  return features_;
}

VideoObject* VideoCore::find(std::int64_t obj_id) noexcept {
  for (VideoObject& item : objects_) {
    if (item.id == obj_id) return &item;
  }
  return nullptr;
}

VideoObject& VideoCore::known(std::int64_t obj_id) {
  if (VideoObject* item = find(obj_id); item != nullptr) return *item;
  throw InputError(text("no object ", obj_id, ": the objects are ", listed_ids(obj_ids())));
}

void VideoCore::check_frame(int frame_idx) const {
  if (frame_idx < 0 || frame_idx >= num_frames_) {
    throw InputError(text("frame ", frame_idx, ": the video has frames 0 to ", num_frames_ - 1));
  }
}

}  // namespace sam2rt
