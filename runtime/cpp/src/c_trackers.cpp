#include "c_handles.hpp"

using sam2rt::guarded;

namespace {

/// A video whose frames the caller's function reads.
class CallbackFrames final : public sam2rt::FrameSource {
 public:
  CallbackFrames(int num_frames, int width, int height, sam2rt_read_frame function, void* user)
      : num_frames_(num_frames), width_(width), height_(height), read_(function), user_(user) {}

  int num_frames() const override { return num_frames_; }
  int width() const override { return width_; }
  int height() const override { return height_; }
  sam2rt::FrameView read(int index) override {
    sam2rt_frame frame{};
    if (read_(user_, index, &frame) != 0) {
      throw sam2rt::FrameError("frame " + std::to_string(index) +
                               " cannot be read: the caller's function said so");
    }
    if (frame.width != width_ || frame.height != height_) {
      throw sam2rt::FrameError(
          "frame " + std::to_string(index) + " is " + std::to_string(frame.width) + " x " +
          std::to_string(frame.height) + ", the video was declared as " + std::to_string(width_) +
          " x " + std::to_string(height_) + ": give frames of that size");
    }
    return sam2rt::frame_view(&frame);
  }

 private:
  int num_frames_, width_, height_;
  sam2rt_read_frame read_;
  void* user_;
};

template <class Handle>
void last_result(const Handle* handle, const char* what, sam2rt_result* result) {
  sam2rt::required(handle, what);
  sam2rt::required(result, "place for the result");
  if (handle->last == nullptr) {
    throw sam2rt::StateError("there is no result yet: give a frame or a prompt first");
  }
  sam2rt::copy_result(*handle->last, result);
}

}  // namespace

extern "C" {

sam2rt_status sam2rt_stream_new(const sam2rt_session* session, const sam2rt_options* options,
                                sam2rt_stream** stream, sam2rt_error* error) {
  return guarded(error, [&] {
    sam2rt::required(session, "session");
    sam2rt::required(stream, "place for the tracker");
    *stream = new sam2rt_stream{
        sam2rt::StreamTracker(session->session, sam2rt::stream_options(options)), nullptr};
  });
}

sam2rt_status sam2rt_stream_add_points(sam2rt_stream* stream, int64_t obj_id,
                                       const sam2rt_prompt* prompt, sam2rt_error* error) {
  return guarded(error, [&] {
    sam2rt::required(stream, "tracker");
    stream->tracker.add_points(obj_id, sam2rt::point_prompt(prompt));
  });
}

sam2rt_status sam2rt_stream_add_mask(sam2rt_stream* stream, int64_t obj_id, const uint8_t* mask,
                                     int32_t width, int32_t height, sam2rt_error* error) {
  return guarded(error, [&] {
    sam2rt::required(stream, "tracker");
    stream->tracker.add_mask(obj_id, {mask, width, height, 0});
  });
}

sam2rt_status sam2rt_stream_remove_object(sam2rt_stream* stream, int64_t obj_id,
                                          sam2rt_error* error) {
  return guarded(error, [&] {
    sam2rt::required(stream, "tracker");
    stream->tracker.remove_object(obj_id, /*strict=*/true);
  });
}

sam2rt_status sam2rt_stream_reset(sam2rt_stream* stream, sam2rt_error* error) {
  return guarded(error, [&] {
    sam2rt::required(stream, "tracker");
    stream->tracker.reset();
  });
}

sam2rt_status sam2rt_stream_step(sam2rt_stream* stream, const sam2rt_frame* frame,
                                 sam2rt_result* result, sam2rt_error* error) {
  return guarded(error, [&] {
    sam2rt::required(stream, "tracker");
    stream->last = &stream->tracker.step(sam2rt::frame_view(frame));
    sam2rt::copy_result(*stream->last, result);
  });
}

sam2rt_status sam2rt_stream_result(const sam2rt_stream* stream, sam2rt_result* result,
                                   sam2rt_error* error) {
  return guarded(error, [&] { last_result(stream, "tracker", result); });
}

void sam2rt_stream_free(sam2rt_stream* stream) { delete stream; }

sam2rt_status sam2rt_video_new(const sam2rt_session* session, const sam2rt_options* options,
                               int32_t num_frames, int32_t width, int32_t height,
                               sam2rt_read_frame read, void* user, sam2rt_video** video,
                               sam2rt_error* error) {
  return guarded(error, [&] {
    sam2rt::required(session, "session");
    sam2rt::required(video, "place for the predictor");
    if (read == nullptr) throw sam2rt::InputError("no function to read frames was given");
    const sam2rt::StreamOptions common = sam2rt::stream_options(options);
    sam2rt::VideoOptions used;
    static_cast<sam2rt::TrackerOptions&>(used) = common;
    used.non_overlap_masks = common.non_overlap_masks;
    used.add_all_frames_to_correct_as_cond =
        options != nullptr && options->add_all_frames_to_correct_as_cond != 0;
    auto frames = std::make_shared<CallbackFrames>(num_frames, width, height, read, user);
    *video = new sam2rt_video{
        sam2rt::VideoPredictor(session->session, std::move(frames), used), std::nullopt, nullptr};
  });
}

sam2rt_status sam2rt_video_add_points(sam2rt_video* video, int32_t frame_idx, int64_t obj_id,
                                      const sam2rt_prompt* prompt, sam2rt_result* result,
                                      sam2rt_error* error) {
  return guarded(error, [&] {
    sam2rt::required(video, "predictor");
    video->last = &video->predictor.add_points(frame_idx, obj_id, sam2rt::point_prompt(prompt));
    sam2rt::copy_result(*video->last, result);
  });
}

sam2rt_status sam2rt_video_add_mask(sam2rt_video* video, int32_t frame_idx, int64_t obj_id,
                                    const uint8_t* mask, sam2rt_result* result,
                                    sam2rt_error* error) {
  return guarded(error, [&] {
    sam2rt::required(video, "predictor");
    const sam2rt::MaskView view{mask, video->predictor.width(), video->predictor.height(), 0};
    video->last = &video->predictor.add_mask(frame_idx, obj_id, view);
    sam2rt::copy_result(*video->last, result);
  });
}

sam2rt_status sam2rt_video_clear_prompts(sam2rt_video* video, int32_t frame_idx, int64_t obj_id,
                                         sam2rt_result* result, sam2rt_error* error) {
  return guarded(error, [&] {
    sam2rt::required(video, "predictor");
    video->last = &video->predictor.clear_all_prompts_in_frame(frame_idx, obj_id);
    sam2rt::copy_result(*video->last, result);
  });
}

sam2rt_status sam2rt_video_remove_object(sam2rt_video* video, int64_t obj_id,
                                         sam2rt_error* error) {
  return guarded(error, [&] {
    sam2rt::required(video, "predictor");
    video->predictor.remove_object(obj_id, /*strict=*/true);
  });
}

sam2rt_status sam2rt_video_reset(sam2rt_video* video, sam2rt_error* error) {
  return guarded(error, [&] {
    sam2rt::required(video, "predictor");
    video->predictor.reset();
  });
}

sam2rt_status sam2rt_video_propagate(sam2rt_video* video, int32_t start_frame, int32_t max_frames,
                                     int32_t reverse, sam2rt_error* error) {
  return guarded(error, [&] {
    sam2rt::required(video, "predictor");
    sam2rt::PropagateOptions options;
    if (start_frame != -1) options.start_frame_idx = start_frame;
    if (max_frames != -1) options.max_frame_num_to_track = max_frames;
    options.reverse = reverse != 0;
    video->propagation = video->predictor.propagate(options);
  });
}

sam2rt_status sam2rt_video_next(sam2rt_video* video, sam2rt_result* result, sam2rt_error* error) {
  bool ended = false;
  const sam2rt_status status = guarded(error, [&] {
    sam2rt::required(video, "predictor");
    if (!video->propagation) {
      throw sam2rt::StateError("nothing is propagating: call sam2rt_video_propagate first");
    }
    const sam2rt::FrameResult* found = video->propagation->next();
    ended = found == nullptr;
    if (ended) return;
    video->last = found;
    sam2rt::copy_result(*found, result);
  });
  return status == SAM2RT_OK && ended ? SAM2RT_END : status;
}

sam2rt_status sam2rt_video_result(const sam2rt_video* video, sam2rt_result* result,
                                  sam2rt_error* error) {
  return guarded(error, [&] { last_result(video, "predictor", result); });
}

void sam2rt_video_free(sam2rt_video* video) { delete video; }

}  // extern "C"
