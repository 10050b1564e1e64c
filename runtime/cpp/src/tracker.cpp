#include "tracker.hpp"

#include <algorithm>
#include <limits>

#include "sam2rt/error.hpp"
#include "text.hpp"

namespace sam2rt {

namespace {

/// More in one call of the CPU take memory and save no time.
constexpr int usual_objects = 4;
/// ... and where a session runs per object, in the memory of one.
constexpr int usual_per_object = 64;

std::size_t count_of(int number) noexcept { return static_cast<std::size_t>(number); }

void check(const TrackerOptions& options) {
  if (options.max_cond_frames_in_attn != -1 && options.max_cond_frames_in_attn < 2) {
    throw InputError(text("max_cond_frames_in_attn is ", options.max_cond_frames_in_attn,
                          ": expected -1 (all) or at least 2"));
  }
  if (options.fill_hole_area < 0) {
    throw InputError(text("fill_hole_area is ", options.fill_hole_area,
                          ": expected at least 0 (0: no hole is filled)"));
  }
  if (options.objects_per_call.value_or(1) < 1) {
    throw InputError(text("objects_per_call is ", *options.objects_per_call,
                          ": expected at least 1, or None for the session's own"));
  }
}

InputTensor in(const std::vector<float>& data, const Shape& shape) {
  return {data.data(), DType::float32, shape};
}

OutputTensor out(std::vector<float>& data, const Shape& shape) {
  data.resize(static_cast<std::size_t>(shape.elements()));
  return {data.data(), DType::float32, shape};
}

/// An output that nobody reads.
OutputTensor unwanted(const Shape& shape) { return {nullptr, DType::float32, shape}; }

}  // namespace

Tracker::Tracker(std::shared_ptr<Session> session, const TrackerOptions& options,
                 bool forward_only)
    : session_(std::move(session)),
      options_(options),
      memory_dtype_(memory_dtype(options.memory_dtype != nullptr ? options.memory_dtype
                                                                 : "float32")),
      // memories of another type are rounded on the host
      places_memories_(forward_only && memory_dtype_ == MemoryDType::float32 &&
                       session_->keeps_memories()),
      model_(session_->bundle().model()) {
  check(options);
}

std::size_t Tracker::mask_count() const noexcept {
  return count_of(model_.mask_size()) * count_of(model_.mask_size());
}

std::size_t Tracker::memory_count() const noexcept {
  return count_of(model_.mem_dim) * count_of(model_.embed_size()) * count_of(model_.embed_size());
}

void Tracker::encode(const float* pixels, Features& features) {
  const int c = model_.hidden_dim, h = model_.embed_size(), side = model_.image_size;
  session_->run(Graph::image_encoder, {{pixels, DType::float32, Shape::of(1, 3, side, side)}},
                {features.image_embed.output(*session_, Shape::of(1, c, h, h)),
                 features.prompt_embed.output(*session_, Shape::of(1, c, h, h)),
                 features.high_res_0.output(*session_, Shape::of(1, c / 8, 4 * h, 4 * h)),
                 features.high_res_1.output(*session_, Shape::of(1, c / 4, 2 * h, 2 * h))});
}

void Tracker::prompt_points(const Features& features, const ModelPoints& points,
                            const FrameOutput* previous, const Selection* memory,
                            std::optional<int> num_frames, FrameOutput& output) {
  if (memory != nullptr) {
    prompt_slots_.forget();
    members_.assign(1, memory);
    attend(features, members_, prompt_slots_, num_frames);
  }
  set_points(points);
  std::vector<float> mask_input;
  if (previous != nullptr) {
    for (const float logit : previous->mask_logits) {
      mask_input.push_back(std::clamp(logit, -32.0F, 32.0F));
    }
  }
  // a single click is ambiguous, a box or several clicks are not
  const bool multimask = points.count() <= 1;
  decode(features, memory != nullptr ? conditioned_ : features.prompt_embed, 1,
         mask_input.empty() ? nullptr : mask_input.data(), multimask);
  take(0, output);
}

void Tracker::prompt_mask(const Features& features, const std::vector<float>& mask,
                          FrameOutput& output) {
  const int side = model_.image_size, low = model_.mask_size(), c = model_.hidden_dim;
  std::vector<float> mask_input, mask_logits, score, no_pointer;
  session_->run(Graph::mask_prompt, {in(mask, Shape::of(1, 1, side, side))},
                {out(mask_input, Shape::of(1, 1, low, low)),
                 out(mask_logits, Shape::of(1, 1, low, low)), out(score, Shape::of(1, 1)),
                 out(no_pointer, Shape::of(1, c))});
  set_no_points(1);
  decode(features, features.image_embed, 1, mask_input.data(), /*multimask=*/false);
  decoded_.mask_logits.swap(mask_logits);
  decoded_.object_score.swap(score);
  decoded_.iou.assign(1, 1.0F);
  if (decoded_.object_score[0] <= 0) decoded_.obj_ptr.swap(no_pointer);
  take(0, output);
}

void Tracker::remember(const Features& features, FrameOutput& output) {
  if (output.mask_logits.empty()) {
    throw InputError("cannot encode a memory from a result without mask logits");
  }
  encode_memory(features, output.mask_logits.data(), &output.object_score, 1, /*binarize=*/true);
  output.memory.store(memory_.data(), memory_count(), memory_dtype_, ++memories_made_);
}

std::size_t Tracker::objects_per_call() const noexcept {
  // engines are built for a largest number of objects
  const int limit = session_->max_objects();
  const bool limited = limit != std::numeric_limits<int>::max();
  const int usual = session_->per_object() ? usual_per_object : usual_objects;
  const int wanted = options_.objects_per_call.value_or(limited ? limit : usual);
  return count_of(std::min(wanted, limit));
}

std::vector<FrameOutput>& Tracker::track(const Features& features,
                                         const std::vector<TrackedObject>& objects, int frame_idx,
                                         bool reverse, std::optional<int> num_frames) {
  const std::size_t count = objects.size();
  const std::size_t most = objects_per_call();
  if (selections_.size() < count) selections_.resize(count);
  if (results_.size() < count) results_.resize(count);
  const SelectOptions rules{reverse, num_frames, options_.max_cond_frames_in_attn};
  for (std::size_t i = 0; i < count; ++i) {
    select(selections_[i], *objects[i].history, frame_idx, model_, rules);
  }
  for (GroupSlots& slots : slots_) slots.used = false;
  grouped_.assign(count, 0);
  for (std::size_t first = 0; first < count; ++first) {
    if (grouped_[first] != 0) continue;
    group_.clear();
    for (std::size_t i = first; i < count && group_.size() < most; ++i) {
      if (grouped_[i] != 0 || !selections_[i].same_size(selections_[first])) continue;
      grouped_[i] = 1;
      group_.push_back(i);
    }
    track_group(features, objects, frame_idx, num_frames);
  }
  // a group that was not met is over: its slots serve another one
  for (GroupSlots& slots : slots_) {
    if (!slots.used) slots.keys.clear();
  }
  return results_;
}

SlotBuffer& Tracker::slots_of_group(const std::vector<TrackedObject>& objects) {
  const auto same = [&](const GroupSlots& slots) {
    return slots.keys.size() == group_.size() &&
           std::equal(slots.keys.begin(), slots.keys.end(), group_.begin(),
                      [&](int key, std::size_t i) { return key == objects[i].key; });
  };
  auto found = std::find_if(slots_.begin(), slots_.end(), same);
  if (found == slots_.end()) {
    found = std::find_if(slots_.begin(), slots_.end(),
                         [](const GroupSlots& slots) { return slots.keys.empty(); });
    if (found == slots_.end()) found = slots_.emplace(slots_.end());
    found->buffer.forget();
    for (const std::size_t i : group_) found->keys.push_back(objects[i].key);
  }
  found->used = true;
  return found->buffer;
}

void Tracker::track_group(const Features& features, const std::vector<TrackedObject>& objects,
                          int frame_idx, std::optional<int> num_frames) {
  members_.clear();
  for (const std::size_t i : group_) members_.push_back(&selections_[i]);
  SlotBuffer& slots = slots_of_group(objects);
  const std::size_t count = group_.size();
  placed_ = false;
  if (session_->fused()) {
    track_step(features, slots, num_frames, frame_idx);
  } else {
    attend(features, members_, slots, num_frames);
    set_no_points(count);
    decode(features, conditioned_, count, nullptr, /*multimask=*/true);
    encode_memory(features, decoded_.mask_logits.data(), decoded_.object_score.data(), count,
                  /*binarize=*/false);
  }
  for (std::size_t i = 0; i < count; ++i) {
    FrameOutput& output = results_[group_[i]];
    // holes are filled after a tracked memory was encoded, as in the original
    take(i, output);
    if (placed_) {
      slots.keep(i, output.memory);
    } else {
      output.memory.store(memory_.data() + i * memory_count(), memory_count(), memory_dtype_,
                          ++memories_made_);
    }
  }
}

Tracker::Remembered Tracker::remembered(const std::vector<const Selection*>& members,
                                        SlotBuffer& slots, std::optional<int> num_frames) {
  slots.load(*session_, members, memory_count());
  const auto n = static_cast<std::int64_t>(members.size());
  const auto m = static_cast<std::int64_t>(members.front()->memories.size());
  const auto k = static_cast<std::int64_t>(members.front()->pointers.size());
  const int c = model_.hidden_dim, h = model_.embed_size();
  const float scale = pointer_distance_scale(model_, num_frames);
  pointers_.clear();
  pointer_positions_.clear();
  for (const Selection* member : members) {
    for (const Pointer& pointer : member->pointers) {
      const std::vector<float>& values = pointer.output->obj_ptr;
      pointers_.insert(pointers_.end(), values.begin(), values.end());
      pointer_positions_.push_back(static_cast<float>(pointer.distance) / scale);
    }
  }
  return {slots.memory().input(Shape::of(n, m, model_.mem_dim, h, h)),
          {slots.rows().data(), DType::int64, Shape::of(n, m)},
          in(pointers_, Shape::of(n, k, c)),
          in(pointer_positions_, Shape::of(n, k))};
}

void Tracker::attend(const Features& features, const std::vector<const Selection*>& members,
                     SlotBuffer& slots, std::optional<int> num_frames) {
  const auto past = remembered(members, slots, num_frames);
  const int c = model_.hidden_dim, h = model_.embed_size();
  session_->run(Graph::memory_attention,
                {features.image_embed.input(Shape::of(1, c, h, h)), past.memory, past.rows,
                 past.pointers, past.positions},
                {conditioned_.output(*session_, Shape::of(members.size(), c, h, h))});
}

void Tracker::track_step(const Features& features, SlotBuffer& slots,
                         std::optional<int> num_frames, int frame_idx) {
  const auto past = remembered(members_, slots, num_frames);
  const int c = model_.hidden_dim, h = model_.embed_size(), low = model_.mask_size();
  const std::size_t n = members_.size();
  const Shape memories = Shape::of(n, model_.mem_dim, h, h);
  placed_ = places_memories_ && slots.find_places(members_, frame_idx, model_.num_maskmem - 1);
  if (placed_) {
    // from here on what lay there counts as forgotten, also where the call fails
    for (std::size_t i = 0; i < n; ++i) slots.place(i, ++memories_made_);
  }
  session_->run(Graph::track_step,
                {features.image_embed.input(Shape::of(1, c, h, h)),
                 features.high_res_0.input(Shape::of(1, c / 8, 4 * h, 4 * h)),
                 features.high_res_1.input(Shape::of(1, c / 4, 2 * h, 2 * h)), past.memory,
                 past.rows, past.pointers, past.positions},
                {out(decoded_.mask_logits, Shape::of(n, 1, low, low)),
                 out(decoded_.iou, Shape::of(n, 1)), out(decoded_.obj_ptr, Shape::of(n, c)),
                 out(decoded_.object_score, Shape::of(n, 1)), unwanted(Shape::of(n, 4)),
                 placed_ ? slots.memory().output_apart(memories, slots.places())
                         : out(memory_, memories)});
}

void Tracker::set_points(const ModelPoints& points) {
  coords_ = points.coords;
  labels_ = points.labels;
  // the padding point
  coords_.resize(coords_.size() + 2, 0.0F);
  labels_.push_back(-1);
  points_ = labels_.size();
}

void Tracker::set_no_points(std::size_t objects) {
  // no prompt: one empty point plus the padding point, both "not a point"
  points_ = 2;
  coords_.assign(objects * points_ * 2, 0.0F);
  labels_.assign(objects * points_, -1);
}

void Tracker::decode(const Features& features, const GraphValues& embed, std::size_t count,
                     const float* mask_input, bool multimask) {
  const int c = model_.hidden_dim, h = model_.embed_size(), low = model_.mask_size();
  if (mask_input == nullptr && mask_input_.size() < count * mask_count()) {
    mask_input_.assign(count * mask_count(), 0.0F);
  }
  has_mask_.assign(count, mask_input != nullptr ? 1.0F : 0.0F);
  const float* masks = mask_input != nullptr ? mask_input : mask_input_.data();
  session_->run(
      Graph::mask_decoder,
      {embed.input(Shape::of(count, c, h, h)),
       features.high_res_0.input(Shape::of(1, c / 8, 4 * h, 4 * h)),
       features.high_res_1.input(Shape::of(1, c / 4, 2 * h, 2 * h)),
       in(coords_, Shape::of(count, points_, 2)),
       {labels_.data(), DType::int32, Shape::of(count, points_)},
       {masks, DType::float32, Shape::of(count, 1, low, low)},
       in(has_mask_, Shape::of(count)),
       {&multimask, DType::boolean, Shape::of(1)}},
      {unwanted(Shape::of(count, 4, low, low)), unwanted(Shape::of(count, 4)),
       out(decoded_.mask_logits, Shape::of(count, 1, low, low)),
       out(decoded_.iou, Shape::of(count, 1)), out(decoded_.obj_ptr, Shape::of(count, c)),
       out(decoded_.object_score, Shape::of(count, 1))});
}

void Tracker::encode_memory(const Features& features, const float* mask_logits,
                            const float* scores, std::size_t count, bool binarize) {
  const int c = model_.hidden_dim, h = model_.embed_size(), low = model_.mask_size();
  session_->run(Graph::memory_encoder,
                {features.image_embed.input(Shape::of(1, c, h, h)),
                 {mask_logits, DType::float32, Shape::of(count, 1, low, low)},
                 {scores, DType::float32, Shape::of(count, 1)},
                 {&binarize, DType::boolean, Shape::of(1)}},
                {out(memory_, Shape::of(count, model_.mem_dim, h, h))});
}

void Tracker::take(std::size_t index, FrameOutput& output) {
  const auto c = static_cast<std::ptrdiff_t>(model_.hidden_dim);
  const auto pixels = static_cast<std::ptrdiff_t>(mask_count());
  const auto at = static_cast<std::ptrdiff_t>(index);
  const auto mask = decoded_.mask_logits.begin() + at * pixels;
  output.mask_logits.assign(mask, mask + pixels);
  if (options_.fill_hole_area > 0) {
    components_.fill_holes(output.mask_logits.data(), model_.mask_size(), model_.mask_size(),
                           options_.fill_hole_area);
  }
  const auto pointer = decoded_.obj_ptr.begin() + at * c;
  output.obj_ptr.assign(pointer, pointer + c);
  output.object_score = decoded_.object_score[index];
  output.iou = decoded_.iou[index];
  output.memory.clear();
}

}  // namespace sam2rt
