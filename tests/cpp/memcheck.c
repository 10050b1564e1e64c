/* Every function of the C interface, rightly and wrongly used, for a checker of memory:
 *   memcheck BUNDLE            with ONNX Runtime
 *   memcheck BUNDLE images     the same, images alone
 *   memcheck BUNDLE mixing     with a session that answers at once
 * Buffers are exactly as large as the interface says, on the heap, so that a byte more is seen. */
#include <sam2rt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 96, HEIGHT = 64, PIXELS = WIDTH * HEIGHT, FRAMES = 4 };

/* memcheck_session.cpp */
sam2rt_session* mixing_session(const char* folder);

static int calls = 0;
static int failures = 0;

static void expect(int line, sam2rt_status found, sam2rt_status expected,
                   const sam2rt_error* error) {
  ++calls;
  const int said = error == NULL || (error->status == found || found == SAM2RT_END);
  const int words = error == NULL || found == SAM2RT_OK || found == SAM2RT_END ||
                    (error->message[0] != '\0' && strlen(error->message) < sizeof error->message);
  if (found != expected || !said || !words) {
    ++failures;
    printf("line %d: %d instead of %d: %s\n", line, (int)found, (int)expected,
           error != NULL ? error->message : "");
  }
}
#define EXPECT(expected, call) expect(__LINE__, call, expected, &error)

static void* heap(size_t bytes) {
  void* made = malloc(bytes);
  if (made == NULL) exit(2);
  memset(made, 0xA5, bytes);
  return made;
}

static uint8_t* frame_pixels(int index) {
  uint8_t* rgb = heap(3 * PIXELS);
  for (int i = 0; i < 3 * PIXELS; ++i) rgb[i] = (uint8_t)((i * 37 + index * 11) % 251);
  return rgb;
}

typedef struct {
  uint8_t* pixels;
  int width, fail;
} source;

static int32_t read_frame(void* user, int32_t index, sam2rt_frame* frame) {
  source* from = user;
  if (from->fail) return 1;
  free(from->pixels);
  from->pixels = frame_pixels(index);
  frame->data = from->pixels;
  frame->width = from->width;
  frame->height = HEIGHT;
  return 0;
}

static sam2rt_result result_of(size_t capacity) {
  sam2rt_result made;
  memset(&made, 0, sizeof made);
  made.capacity = capacity;
  made.obj_ids = heap(capacity * sizeof *made.obj_ids);
  made.object_scores = heap(capacity * sizeof *made.object_scores);
  made.ious = heap(capacity * sizeof *made.ious);
  made.logits = heap(capacity * PIXELS * sizeof *made.logits);
  made.masks = heap(capacity * PIXELS);
  return made;
}

static void free_result(sam2rt_result* result) {
  free(result->obj_ids);
  free(result->object_scores);
  free(result->ious);
  free(result->logits);
  free(result->masks);
}

static void images(const sam2rt_session* session, int32_t side) {
  sam2rt_error error;
  sam2rt_image* image = NULL;
  const size_t low = (size_t)(side / 4) * (size_t)(side / 4);
  uint8_t* pixels = frame_pixels(0);
  uint8_t* masks = heap(3 * PIXELS);
  float* ious = heap(3 * sizeof *ious);
  float* low_res = heap(3 * low * sizeof *low_res);
  const float point[4] = {30, 20, 60, 40};
  const int32_t labels[2] = {1, 0};
  const float box[4] = {10, 10, 60, 50};
  const sam2rt_frame frame = {pixels, WIDTH, HEIGHT, 0, SAM2RT_RGB, 0, NULL};
  sam2rt_frame odd = frame;
  const sam2rt_prompt clicks = {point, labels, 2, box, 0};
  const sam2rt_prompt halves = {point, NULL, 2, NULL, 0};

  EXPECT(SAM2RT_INPUT_ERROR, sam2rt_image_new(NULL, &image, &error));
  EXPECT(SAM2RT_INPUT_ERROR, sam2rt_image_new(session, NULL, &error));
  EXPECT(SAM2RT_OK, sam2rt_image_new(session, &image, &error));
  EXPECT(SAM2RT_STATE_ERROR, sam2rt_image_predict(image, &clicks, 1, masks, ious, &error));
  EXPECT(SAM2RT_INPUT_ERROR, sam2rt_image_set(NULL, &frame, &error));
  EXPECT(SAM2RT_INPUT_ERROR, sam2rt_image_set(image, NULL, &error));
  odd.format = 9;
  EXPECT(SAM2RT_FRAME_ERROR, sam2rt_image_set(image, &odd, &error));
  odd.format = SAM2RT_NV12;
  odd.width = 3;
  EXPECT(SAM2RT_FRAME_ERROR, sam2rt_image_set(image, &odd, &error));
  EXPECT(SAM2RT_OK, sam2rt_image_set(image, &frame, &error));
  EXPECT(SAM2RT_OK, sam2rt_image_predict(image, &clicks, 1, masks, ious, &error));
  EXPECT(SAM2RT_OK,
         sam2rt_image_refine(image, &clicks, NULL, 1, masks, ious, low_res, &error));
  EXPECT(SAM2RT_OK,
         sam2rt_image_refine(image, &clicks, low_res, 0, masks, ious, low_res, &error));
  EXPECT(SAM2RT_OK, sam2rt_image_refine(image, &clicks, NULL, 0, NULL, NULL, NULL, NULL));
  EXPECT(SAM2RT_INPUT_ERROR, sam2rt_image_predict(image, &halves, 1, masks, ious, &error));
  EXPECT(SAM2RT_INPUT_ERROR, sam2rt_image_predict(image, NULL, 1, masks, ious, &error));
  sam2rt_image_free(image);
  sam2rt_image_free(NULL);
  free(pixels);
  free(masks);
  free(ious);
  free(low_res);
}

static void streams(const sam2rt_session* session) {
  sam2rt_error error;
  sam2rt_stream* stream = NULL;
  sam2rt_options options;
  sam2rt_result result = result_of(2);
  sam2rt_result small = result_of(1);
  const float box[4] = {10, 10, 60, 50};
  const float nowhere[4] = {500, 500, 600, 600};
  const sam2rt_prompt prompt = {NULL, NULL, 0, box, 0};
  const sam2rt_prompt outside = {NULL, NULL, 0, nowhere, 0};
  uint8_t* mask = heap(PIXELS);
  memset(mask, 0, PIXELS);
  memset(mask + PIXELS / 2, 255, PIXELS / 4);

  sam2rt_default_options(NULL);
  sam2rt_default_options(&options);
  options.memory_dtype = "float8";
  EXPECT(SAM2RT_INPUT_ERROR, sam2rt_stream_new(session, &options, &stream, &error));
  options.memory_dtype = "float16";
  options.non_overlap_masks = 1;
  EXPECT(SAM2RT_INPUT_ERROR, sam2rt_stream_new(NULL, &options, &stream, &error));
  EXPECT(SAM2RT_OK, sam2rt_stream_new(session, &options, &stream, &error));
  EXPECT(SAM2RT_STATE_ERROR, sam2rt_stream_result(stream, &result, &error));
  EXPECT(SAM2RT_OK, sam2rt_stream_add_points(stream, 1, &prompt, &error));
  EXPECT(SAM2RT_OK, sam2rt_stream_add_mask(stream, 2, mask, WIDTH, HEIGHT, &error));
  EXPECT(SAM2RT_INPUT_ERROR, sam2rt_stream_add_mask(stream, 2, NULL, WIDTH, HEIGHT, &error));
  EXPECT(SAM2RT_INPUT_ERROR, sam2rt_stream_remove_object(stream, 9, &error));
  for (int t = 0; t < FRAMES; ++t) {
    uint8_t* pixels = frame_pixels(t);
    sam2rt_frame frame = {pixels, WIDTH, HEIGHT, 0, t % 2 ? SAM2RT_BGR : SAM2RT_RGB, 0, NULL};
    EXPECT(SAM2RT_OK, sam2rt_stream_step(stream, &frame, &result, &error));
    frame.width = WIDTH / 2;
    EXPECT(SAM2RT_FRAME_ERROR, sam2rt_stream_step(stream, &frame, &result, &error));
    // the frame may go away: results are the tracker's own
    free(pixels);
    EXPECT(SAM2RT_INPUT_ERROR, sam2rt_stream_result(stream, &small, &error));
    EXPECT(SAM2RT_OK, sam2rt_stream_result(stream, &result, &error));
  }
  uint8_t* last = frame_pixels(FRAMES);
  const sam2rt_frame frame = {last, WIDTH, HEIGHT, 0, SAM2RT_RGB, 0, NULL};
  EXPECT(SAM2RT_INPUT_ERROR, sam2rt_stream_add_points(stream, 3, &outside, &error));
  EXPECT(SAM2RT_OK, sam2rt_stream_remove_object(stream, 1, &error));
  EXPECT(SAM2RT_OK, sam2rt_stream_step(stream, &frame, &small, &error));
  EXPECT(SAM2RT_OK, sam2rt_stream_reset(stream, &error));
  EXPECT(SAM2RT_OK, sam2rt_stream_result(stream, &small, &error));
  EXPECT(SAM2RT_OK, sam2rt_stream_step(stream, &frame, NULL, &error));
  sam2rt_stream_free(stream);
  sam2rt_stream_free(NULL);
  free(last);
  free(mask);
  free_result(&result);
  free_result(&small);
}

static void videos(const sam2rt_session* session) {
  sam2rt_error error;
  sam2rt_video* video = NULL;
  sam2rt_result result = result_of(2);
  source from = {NULL, WIDTH, 0};
  const float box[4] = {10, 10, 60, 50};
  const sam2rt_prompt prompt = {NULL, NULL, 0, box, 0};
  uint8_t* mask = heap(PIXELS);
  memset(mask, 1, PIXELS);

  EXPECT(SAM2RT_INPUT_ERROR,
         sam2rt_video_new(session, NULL, FRAMES, WIDTH, HEIGHT, NULL, NULL, &video, &error));
  EXPECT(SAM2RT_FRAME_ERROR,
         sam2rt_video_new(session, NULL, 0, WIDTH, HEIGHT, read_frame, &from, &video, &error));
  EXPECT(SAM2RT_OK, sam2rt_video_new(session, NULL, FRAMES, WIDTH, HEIGHT, read_frame, &from,
                                     &video, &error));
  EXPECT(SAM2RT_STATE_ERROR, sam2rt_video_next(video, &result, &error));
  EXPECT(SAM2RT_STATE_ERROR, sam2rt_video_propagate(video, -1, -1, 0, &error));
  EXPECT(SAM2RT_INPUT_ERROR, sam2rt_video_add_points(video, FRAMES, 1, &prompt, &result, &error));
  from.fail = 1;
  EXPECT(SAM2RT_FRAME_ERROR, sam2rt_video_add_points(video, 0, 1, &prompt, &result, &error));
  from.fail = 0;
  from.width = WIDTH / 2;
  EXPECT(SAM2RT_FRAME_ERROR, sam2rt_video_add_points(video, 0, 1, &prompt, &result, &error));
  from.width = WIDTH;
  EXPECT(SAM2RT_OK, sam2rt_video_add_points(video, 0, 1, &prompt, &result, &error));
  EXPECT(SAM2RT_OK, sam2rt_video_add_mask(video, 1, 2, mask, &result, &error));
  for (int reverse = 0; reverse < 2; ++reverse) {
    EXPECT(SAM2RT_OK,
           sam2rt_video_propagate(video, reverse ? FRAMES - 1 : -1, -1, reverse, &error));
    for (int t = 0; t < FRAMES; ++t) EXPECT(SAM2RT_OK, sam2rt_video_next(video, &result, &error));
    EXPECT(SAM2RT_END, sam2rt_video_next(video, &result, &error));
  }
  EXPECT(SAM2RT_OK, sam2rt_video_clear_prompts(video, 1, 2, &result, &error));
  EXPECT(SAM2RT_STATE_ERROR, sam2rt_video_propagate(video, 0, 1, 0, &error));
  EXPECT(SAM2RT_OK, sam2rt_video_remove_object(video, 2, &error));
  EXPECT(SAM2RT_INPUT_ERROR, sam2rt_video_remove_object(video, 2, &error));
  EXPECT(SAM2RT_OK, sam2rt_video_propagate(video, 0, 1, 0, &error));
  EXPECT(SAM2RT_OK, sam2rt_video_result(video, &result, &error));
  EXPECT(SAM2RT_OK, sam2rt_video_reset(video, &error));
  EXPECT(SAM2RT_INPUT_ERROR, sam2rt_video_result(NULL, &result, &error));
  // freed in the middle of a propagation
  EXPECT(SAM2RT_OK, sam2rt_video_add_points(video, 0, 1, &prompt, NULL, &error));
  EXPECT(SAM2RT_OK, sam2rt_video_propagate(video, -1, -1, 0, &error));
  EXPECT(SAM2RT_OK, sam2rt_video_next(video, NULL, &error));
  sam2rt_video_free(video);
  sam2rt_video_free(NULL);
  free(from.pixels);
  free(mask);
  free_result(&result);
}

int main(int argc, char** argv) {
  sam2rt_error error;
  sam2rt_bundle* bundle = NULL;
  sam2rt_session* session = NULL;
  if (argc < 2) return 2;
  const char* kind = argc > 2 ? argv[2] : "";
  EXPECT(SAM2RT_BUNDLE_ERROR, sam2rt_bundle_load("/nowhere", 1, &bundle, &error));
  EXPECT(SAM2RT_INPUT_ERROR, sam2rt_bundle_load(NULL, 1, &bundle, &error));
  EXPECT(SAM2RT_OK, sam2rt_bundle_load(argv[1], 1, &bundle, &error));
  const int32_t side = sam2rt_bundle_image_size(bundle);
  printf("%s %s %d\n", sam2rt_version(), sam2rt_bundle_model(bundle), (int)side);
  EXPECT(SAM2RT_INPUT_ERROR,
         sam2rt_session_open(bundle, "torch", "cpu", 1, &session, &error));
  EXPECT(SAM2RT_SESSION_ERROR,
         sam2rt_session_open(bundle, "onnxruntime", "cuda", 1, &session, &error));
  if (strcmp(kind, "mixing") == 0) {
    session = mixing_session(argv[1]);
  } else {
    EXPECT(SAM2RT_OK, sam2rt_session_open(bundle, NULL, NULL, 1, &session, &error));
  }
  // a session keeps what it needs of its bundle
  sam2rt_bundle_free(bundle);
  sam2rt_bundle_free(NULL);
  images(session, side);
  if (strcmp(kind, "images") != 0) {
    streams(session);
    videos(session);
  }
  sam2rt_session_free(session);
  sam2rt_session_free(NULL);
  printf("%d calls, %d failures\n", calls, failures);
  return failures == 0 ? 0 : 1;
}
