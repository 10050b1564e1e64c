#include "sam2rt.h"

#include <optional>

#include "c_handles.hpp"
#include "sam2rt/sam2rt.hpp"

using sam2rt::guarded;

namespace sam2rt {

PointPrompt point_prompt(const sam2rt_prompt* given) {
  required(given, "prompt");
  PointPrompt prompt;
  // one without the other is refused as everywhere else
  if (given->count > 0 && given->labels == nullptr) required(given->points, "points");
  for (std::size_t i = 0; i < given->count; ++i) {
    if (const float* xy = given->points) prompt.points.push_back({xy[2 * i], xy[2 * i + 1]});
    if (given->labels != nullptr) prompt.labels.push_back(given->labels[i]);
  }
  if (const float* box = given->box) prompt.box = Box{box[0], box[1], box[2], box[3]};
  prompt.clear_old_points = given->keep_old_points == 0;
  return prompt;
}

FrameView frame_view(const sam2rt_frame* frame) {
  required(frame, "frame");
  if (frame->format < SAM2RT_RGB || frame->format > SAM2RT_NV12) {
    throw FrameError("a frame has an unknown pixel format: use rgb, bgr, rgba or nv12");
  }
  return {frame->data,
          frame->width,
          frame->height,
          frame->stride,
          static_cast<PixelFormat>(frame->format),
          frame->cuda != 0 ? MemoryKind::cuda : MemoryKind::host,
          frame->chroma};
}

void copy_result(const FrameResult& from, sam2rt_result* to) {
  if (to == nullptr) return;
  to->count = from.obj_ids.size();
  to->frame_idx = from.frame_idx;
  if (to->count > to->capacity) {
    throw InputError("the result has " + std::to_string(to->count) + " objects, its buffers " +
                     "have room for " + std::to_string(to->capacity) + ": give larger ones");
  }
  const auto copy = [](const auto& values, auto* out) {
    if (out != nullptr) std::copy(values.begin(), values.end(), out);
  };
  copy(from.obj_ids, to->obj_ids);
  copy(from.object_scores, to->object_scores);
  copy(from.ious, to->ious);
  copy(from.logits, to->logits);
  if (to->masks != nullptr) {
    for (std::size_t i = 0; i < from.logits.size(); ++i) to->masks[i] = from.logits[i] > 0 ? 1 : 0;
  }
}

StreamOptions stream_options(const sam2rt_options* given) {
  sam2rt_options used;
  sam2rt_default_options(&used);
  if (given != nullptr) used = *given;
  StreamOptions options;
  options.max_cond_frames_in_attn = used.max_cond_frames_in_attn;
  options.fill_hole_area = used.fill_hole_area;
  if (used.objects_per_call != 0) options.objects_per_call = used.objects_per_call;
  options.memory_dtype = used.memory_dtype;
  options.non_overlap_masks = used.non_overlap_masks != 0;
  if (used.num_frames != 0) options.num_frames = used.num_frames;
  return options;
}

}  // namespace sam2rt

extern "C" {

const char* sam2rt_version(void) { return sam2rt::version(); }

sam2rt_status sam2rt_bundle_load(const char* folder, int32_t check_hashes, sam2rt_bundle** bundle,
                                 sam2rt_error* error) {
  return guarded(error, [&] {
    sam2rt::required(folder, "folder");
    sam2rt::required(bundle, "place for the bundle");
    *bundle = new sam2rt_bundle{
        sam2rt::Bundle::load(std::filesystem::u8path(folder), check_hashes != 0)};
  });
}

const char* sam2rt_bundle_model(const sam2rt_bundle* bundle) {
  return bundle != nullptr ? bundle->bundle.model().name.c_str() : "";
}

int32_t sam2rt_bundle_image_size(const sam2rt_bundle* bundle) {
  return bundle != nullptr ? bundle->bundle.model().image_size : 0;
}

void sam2rt_bundle_free(sam2rt_bundle* bundle) { delete bundle; }

sam2rt_status sam2rt_session_open(const sam2rt_bundle* bundle, const char* backend,
                                  const char* device, int32_t threads, sam2rt_session** session,
                                  sam2rt_error* error) {
  return guarded(error, [&] {
    sam2rt::required(bundle, "bundle");
    sam2rt::required(session, "place for the session");
    sam2rt::SessionOptions options;
    if (backend != nullptr) options.backend = backend;
    if (device != nullptr) options.device = device;
    if (threads != 0) options.threads = threads;
    *session = new sam2rt_session{sam2rt::open_session(bundle->bundle, options)};
  });
}

void sam2rt_session_free(sam2rt_session* session) { delete session; }

void sam2rt_default_options(sam2rt_options* options) {
  if (options == nullptr) return;
  const sam2rt::TrackerOptions defaults;
  *options = {0, defaults.max_cond_frames_in_attn, defaults.fill_hole_area,
              0, 0, 0, defaults.memory_dtype};
}

sam2rt_status sam2rt_image_new(const sam2rt_session* session, sam2rt_image** image,
                               sam2rt_error* error) {
  return guarded(error, [&] {
    sam2rt::required(session, "session");
    sam2rt::required(image, "place for the predictor");
    const int low_side = session->session->bundle().model().mask_size();
    *image = new sam2rt_image{sam2rt::ImagePredictor(session->session),
                              static_cast<std::size_t>(low_side)};
  });
}

sam2rt_status sam2rt_image_set(sam2rt_image* image, const sam2rt_frame* frame,
                               sam2rt_error* error) {
  return guarded(error, [&] {
    sam2rt::required(image, "predictor");
    image->predictor.set_image(sam2rt::frame_view(frame));
  });
}

sam2rt_status sam2rt_image_predict(sam2rt_image* image, const sam2rt_prompt* prompt,
                                   int32_t multimask, uint8_t* masks, float* ious,
                                   sam2rt_error* error) {
  return sam2rt_image_refine(image, prompt, nullptr, multimask, masks, ious, nullptr, error);
}

sam2rt_status sam2rt_image_refine(sam2rt_image* image, const sam2rt_prompt* prompt,
                                  const float* mask_input, int32_t multimask, uint8_t* masks,
                                  float* ious, float* low_res, sam2rt_error* error) {
  return guarded(error, [&] {
    sam2rt::required(image, "predictor");
    const sam2rt::PointPrompt given = sam2rt::point_prompt(prompt);
    sam2rt::ImagePrompt asked{given.points, given.labels, given.box, {}};
    if (mask_input != nullptr) {
      asked.mask_input.assign(mask_input, mask_input + image->low_side * image->low_side);
    }
    sam2rt::PredictOptions options;
    options.multimask_output = multimask != 0;
    const auto result = image->predictor.predict(asked, options);
    if (masks != nullptr) std::copy(result.masks.begin(), result.masks.end(), masks);
    if (ious != nullptr) std::copy(result.ious.begin(), result.ious.end(), ious);
    if (low_res != nullptr) std::copy(result.low_res.begin(), result.low_res.end(), low_res);
  });
}

void sam2rt_image_free(sam2rt_image* image) { delete image; }

}  // extern "C"
