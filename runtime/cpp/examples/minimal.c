/* Segments what a click points at:  minimal BUNDLE IMAGE.ppm X Y MASK.pgm */
#include <sam2rt.h>
#include <stdio.h>
#include <stdlib.h>

static int failed(const sam2rt_error* error) {
  if (error->status < 0) fprintf(stderr, "%s\n", error->message);
  return error->status < 0;
}

int main(int argc, char** argv) {
  if (argc != 6) return 2;
  FILE* in = fopen(argv[2], "rb");
  int width = 0, height = 0;
  if (in == NULL || fscanf(in, "P6 %d %d 255", &width, &height) != 2 || fgetc(in) == EOF) return 2;
  const size_t pixels = (size_t)width * (size_t)height;
  uint8_t* rgb = malloc(3 * pixels);
  uint8_t* mask = malloc(pixels);
  if (rgb == NULL || mask == NULL || fread(rgb, 3, pixels, in) != pixels) return 2;
  fclose(in);

  sam2rt_error error = {SAM2RT_OK, ""};
  sam2rt_bundle* bundle = NULL;
  sam2rt_session* session = NULL;
  sam2rt_image* image = NULL;
  const sam2rt_frame frame = {rgb, width, height, 0, SAM2RT_RGB, 0, NULL};
  const float point[2] = {(float)atof(argv[3]), (float)atof(argv[4])};
  const int32_t label = 1;
  const sam2rt_prompt prompt = {point, &label, 1, NULL, 0};
  float iou = 0;
  if (sam2rt_bundle_load(argv[1], 1, &bundle, &error) == SAM2RT_OK &&
      sam2rt_session_open(bundle, "onnxruntime", "cpu", 1, &session, &error) == SAM2RT_OK &&
      sam2rt_image_new(session, &image, &error) == SAM2RT_OK &&
      sam2rt_image_set(image, &frame, &error) == SAM2RT_OK &&
      sam2rt_image_predict(image, &prompt, 0, mask, &iou, &error) == SAM2RT_OK) {
    FILE* out = fopen(argv[5], "wb");
    if (out == NULL) return 2;
    fprintf(out, "P5 %d %d 255\n", width, height);
    for (size_t i = 0; i < pixels; ++i) fputc(mask[i] ? 255 : 0, out);
    fclose(out);
    printf("IoU %.4f\n", (double)iou);
  }
  sam2rt_image_free(image);
  sam2rt_session_free(session);
  sam2rt_bundle_free(bundle);
  free(rgb);
  free(mask);
  return failed(&error);
}
