/* SAM 2 for C and for every language that can call C; see docs/cpp.md.
 *
 * Objects are opaque handles, freed by their _free function (null is allowed). Every function that
 * can fail returns a status; with `error` not null it also leaves the message there. Results are
 * copied into buffers that the caller owns. A session may be shared by trackers on any threads; a
 * tracker or predictor belongs to one thread at a time.
 */
#ifndef SAM2RT_H
#define SAM2RT_H

#include <stddef.h>
#include <stdint.h>

#include "sam2rt/export.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum sam2rt_status {
  SAM2RT_OK = 0,
  SAM2RT_END = 1,           /* a propagation has no more frames; not an error */
  SAM2RT_INPUT_ERROR = -1,  /* a prompt or an argument that cannot be used */
  SAM2RT_FRAME_ERROR = -2,  /* a frame that cannot be read */
  SAM2RT_STATE_ERROR = -3,  /* a call that the present state does not allow */
  SAM2RT_BUNDLE_ERROR = -4, /* a bundle that is missing, incomplete or edited */
  SAM2RT_SESSION_ERROR = -5, /* a backend that cannot be opened or that failed */
  SAM2RT_UNKNOWN_ERROR = -6  /* anything else, such as no memory */
} sam2rt_status;

/* One line: what was expected, what was found, what fixes it. */
typedef struct sam2rt_error {
  sam2rt_status status;
  char message[1024];
} sam2rt_error;

typedef struct sam2rt_bundle sam2rt_bundle;
typedef struct sam2rt_session sam2rt_session;
typedef struct sam2rt_image sam2rt_image;
typedef struct sam2rt_stream sam2rt_stream;
typedef struct sam2rt_video sam2rt_video;

typedef enum sam2rt_format {
  SAM2RT_RGB = 0,
  SAM2RT_BGR = 1,
  SAM2RT_RGBA = 2,
  SAM2RT_NV12 = 3
} sam2rt_format;

/* A frame that the caller owns, read during the call. */
typedef struct sam2rt_frame {
  const uint8_t* data;
  int32_t width;
  int32_t height;
  size_t stride;         /* bytes from one row to the next; 0: rows follow each other */
  int32_t format;        /* sam2rt_format */
  int32_t cuda;          /* not 0: the pixels lie in CUDA memory */
  const uint8_t* chroma; /* nv12: the plane of U and V; null: after the plane of Y */
} sam2rt_frame;

/* Clicks and a box of one object. */
typedef struct sam2rt_prompt {
  const float* points;   /* [count, 2] x, y in pixels of the frame */
  const int32_t* labels; /* [count] 1 positive, 0 negative */
  size_t count;
  const float* box;      /* x0, y0, x1, y1, or null */
  int32_t keep_old_points; /* not 0: add to the clicks that the frame already has */
} sam2rt_prompt;

/* Rules of tracking; begin with sam2rt_default_options. */
typedef struct sam2rt_options {
  int32_t non_overlap_masks;
  int32_t max_cond_frames_in_attn;  /* -1: all */
  int32_t fill_hole_area;
  int32_t objects_per_call;         /* 0: as many as an engine takes, else 4 or 64 */
  int32_t add_all_frames_to_correct_as_cond; /* video only */
  int32_t num_frames;               /* stream only: length if known, else 0 */
  const char* memory_dtype;         /* "float32", "float16", "bfloat16" */
} sam2rt_options;

/* Where a result goes; a null buffer is not written. Each buffer must have room for `capacity`
 * objects. `count` is set to the number of objects; with more objects than capacity nothing is
 * copied, and the call gives SAM2RT_INPUT_ERROR (the result can be asked for again). */
typedef struct sam2rt_result {
  size_t capacity;
  size_t count;
  int32_t frame_idx;
  int64_t* obj_ids;     /* [capacity] */
  float* object_scores; /* [capacity], > 0: present */
  float* ious;          /* [capacity] */
  float* logits;        /* [capacity, height, width] */
  uint8_t* masks;       /* [capacity, height, width] of 0 and 1: logits > 0 */
} sam2rt_result;

SAM2RT_API const char* sam2rt_version(void);

/* The bundle in a folder; its files are hashed unless check_hashes is 0. */
SAM2RT_API sam2rt_status sam2rt_bundle_load(const char* folder, int32_t check_hashes,
                                            sam2rt_bundle** bundle, sam2rt_error* error);
SAM2RT_API const char* sam2rt_bundle_model(const sam2rt_bundle* bundle);
SAM2RT_API int32_t sam2rt_bundle_image_size(const sam2rt_bundle* bundle);
SAM2RT_API void sam2rt_bundle_free(sam2rt_bundle* bundle);

/* backend: "onnxruntime"; device: "cpu", "cuda" or "tensorrt"; threads 0: all. The
 * bundle may be freed afterwards. */
SAM2RT_API sam2rt_status sam2rt_session_open(const sam2rt_bundle* bundle, const char* backend,
                                             const char* device, int32_t threads,
                                             sam2rt_session** session, sam2rt_error* error);
SAM2RT_API void sam2rt_session_free(sam2rt_session* session);

SAM2RT_API void sam2rt_default_options(sam2rt_options* options);

/* One image. masks: [C, height, width] of 0 and 1, ious: [C], C = 3 with multimask, else 1. */
SAM2RT_API sam2rt_status sam2rt_image_new(const sam2rt_session* session, sam2rt_image** image,
                                          sam2rt_error* error);
SAM2RT_API sam2rt_status sam2rt_image_set(sam2rt_image* image, const sam2rt_frame* frame,
                                          sam2rt_error* error);
SAM2RT_API sam2rt_status sam2rt_image_predict(sam2rt_image* image, const sam2rt_prompt* prompt,
                                              int32_t multimask, uint8_t* masks, float* ious,
                                              sam2rt_error* error);
/* The same from a mask of an earlier call: mask_input [S / 4, S / 4], one plane of its low_res, or
 * null; low_res: [C, S / 4, S / 4] logits, S = sam2rt_bundle_image_size; null: not wanted. */
SAM2RT_API sam2rt_status sam2rt_image_refine(sam2rt_image* image, const sam2rt_prompt* prompt,
                                             const float* mask_input, int32_t multimask,
                                             uint8_t* masks, float* ious, float* low_res,
                                             sam2rt_error* error);
SAM2RT_API void sam2rt_image_free(sam2rt_image* image);

/* Live video; options null: the defaults. */
SAM2RT_API sam2rt_status sam2rt_stream_new(const sam2rt_session* session,
                                           const sam2rt_options* options, sam2rt_stream** stream,
                                           sam2rt_error* error);
SAM2RT_API sam2rt_status sam2rt_stream_add_points(sam2rt_stream* stream, int64_t obj_id,
                                                  const sam2rt_prompt* prompt,
                                                  sam2rt_error* error);
SAM2RT_API sam2rt_status sam2rt_stream_add_mask(sam2rt_stream* stream, int64_t obj_id,
                                                const uint8_t* mask, int32_t width,
                                                int32_t height, sam2rt_error* error);
SAM2RT_API sam2rt_status sam2rt_stream_remove_object(sam2rt_stream* stream, int64_t obj_id,
                                                     sam2rt_error* error);
SAM2RT_API sam2rt_status sam2rt_stream_reset(sam2rt_stream* stream, sam2rt_error* error);
/* Push a frame; result null: ask for it with sam2rt_stream_result. */
SAM2RT_API sam2rt_status sam2rt_stream_step(sam2rt_stream* stream, const sam2rt_frame* frame,
                                            sam2rt_result* result, sam2rt_error* error);
/* The last frame's result again. */
SAM2RT_API sam2rt_status sam2rt_stream_result(const sam2rt_stream* stream, sam2rt_result* result,
                                              sam2rt_error* error);
SAM2RT_API void sam2rt_stream_free(sam2rt_stream* stream);

/* Gives frame `index`; not 0: it cannot be read. The frame stays valid until the next call. */
typedef int32_t (*sam2rt_read_frame)(void* user, int32_t index, sam2rt_frame* frame);

/* A video of known length whose frames can be read in any order. A frame of another size than
 * width x height gives SAM2RT_FRAME_ERROR where it is read. */
SAM2RT_API sam2rt_status sam2rt_video_new(const sam2rt_session* session,
                                          const sam2rt_options* options, int32_t num_frames,
                                          int32_t width, int32_t height, sam2rt_read_frame read,
                                          void* user, sam2rt_video** video, sam2rt_error* error);
SAM2RT_API sam2rt_status sam2rt_video_add_points(sam2rt_video* video, int32_t frame_idx,
                                                 int64_t obj_id, const sam2rt_prompt* prompt,
                                                 sam2rt_result* result, sam2rt_error* error);
SAM2RT_API sam2rt_status sam2rt_video_add_mask(sam2rt_video* video, int32_t frame_idx,
                                               int64_t obj_id, const uint8_t* mask,
                                               sam2rt_result* result, sam2rt_error* error);
SAM2RT_API sam2rt_status sam2rt_video_clear_prompts(sam2rt_video* video, int32_t frame_idx,
                                                    int64_t obj_id, sam2rt_result* result,
                                                    sam2rt_error* error);
SAM2RT_API sam2rt_status sam2rt_video_remove_object(sam2rt_video* video, int64_t obj_id,
                                                    sam2rt_error* error);
SAM2RT_API sam2rt_status sam2rt_video_reset(sam2rt_video* video, sam2rt_error* error);
/* Begin a propagation: start_frame -1: the first prompted frame; max_frames -1: all. It replaces
 * one that runs. */
SAM2RT_API sam2rt_status sam2rt_video_propagate(sam2rt_video* video, int32_t start_frame,
                                                int32_t max_frames, int32_t reverse,
                                                sam2rt_error* error);
/* The next frame of the propagation; SAM2RT_END after the last. */
SAM2RT_API sam2rt_status sam2rt_video_next(sam2rt_video* video, sam2rt_result* result,
                                           sam2rt_error* error);
/* The last prompt's or frame's result again. */
SAM2RT_API sam2rt_status sam2rt_video_result(const sam2rt_video* video, sam2rt_result* result,
                                             sam2rt_error* error);
SAM2RT_API void sam2rt_video_free(sam2rt_video* video);

#ifdef __cplusplus
}
#endif

#endif
