/* from_c BUNDLE: the same as from_cpp, through the C interface. */
#include <sam2rt.h>
#include <stdio.h>
#include <string.h>

static uint8_t grey[64 * 96 * 3];
static float logits[64 * 96];

int main(int argc, char** argv) {
  sam2rt_error error;
  sam2rt_bundle* bundle = NULL;
  sam2rt_session* session = NULL;
  sam2rt_stream* stream = NULL;
  int t;
  if (argc < 2) return 2;
  if (sam2rt_bundle_load("no/such/bundle", 1, &bundle, &error) != SAM2RT_BUNDLE_ERROR) return 3;
  printf("%s\n", error.message);
  if (sam2rt_bundle_load(argv[1], 1, &bundle, &error) != SAM2RT_OK ||
      sam2rt_session_open(bundle, "onnxruntime", "cpu", 1, &session, &error) != SAM2RT_OK ||
      sam2rt_stream_new(session, NULL, &stream, &error) != SAM2RT_OK) {
    fprintf(stderr, "%s\n", error.message);
    return 1;
  }
  memset(grey, 128, sizeof grey);
  {
    const float point[2] = {40, 30};
    const int32_t label = 1;
    const sam2rt_prompt prompt = {point, &label, 1, NULL, 0};
    if (sam2rt_stream_add_points(stream, 7, &prompt, &error) != SAM2RT_OK) return 4;
  }
  for (t = 0; t < 4; ++t) {
    const sam2rt_frame frame = {grey, 96, 64, 0, SAM2RT_RGB, 0, NULL};
    int64_t id = 0;
    float score = 0;
    sam2rt_result result = {1, 0, 0, &id, &score, NULL, logits, NULL};
    if (sam2rt_stream_step(stream, &frame, &result, &error) != SAM2RT_OK) return 5;
    printf("%d %d %d %g\n", (int)result.frame_idx, (int)id, (int)(result.count * 64 * 96),
           (double)score);
  }
  sam2rt_stream_free(stream);
  sam2rt_session_free(session);
  sam2rt_bundle_free(bundle);
  return 0;
}
