/* What TensorRT's headers name of CUDA's runtime: two handles. Nothing of the runtime is called. */
#ifndef SAM2RT_CUDA_TYPES_H
#define SAM2RT_CUDA_TYPES_H

typedef struct CUstream_st* cudaStream_t;
typedef struct CUevent_st* cudaEvent_t;

#endif
