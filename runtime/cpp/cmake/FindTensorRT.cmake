# TensorRT's headers, as TENSORRT_INCLUDE_DIRS; nothing is linked.
# Looks into TensorRT_ROOT (an unpacked release) and then where the system keeps headers. They
# include cuda_runtime_api.h; where no CUDA toolkit is found, the two types they need of it come
# from cmake/cuda_types.
find_path(TENSORRT_INCLUDE_DIR NvInferRuntime.h HINTS ${TensorRT_ROOT} PATH_SUFFIXES include)
find_path(CUDA_RUNTIME_INCLUDE_DIR cuda_runtime_api.h
          HINTS ${CUDAToolkit_ROOT} $ENV{CUDA_HOME} /usr/local/cuda ${TENSORRT_INCLUDE_DIR}
          PATH_SUFFIXES include)
if(NOT CUDA_RUNTIME_INCLUDE_DIR)
  set(CUDA_RUNTIME_INCLUDE_DIR ${CMAKE_CURRENT_LIST_DIR}/cuda_types)
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(
  TensorRT REQUIRED_VARS TENSORRT_INCLUDE_DIR
  REASON_FAILURE_MESSAGE "give -DTensorRT_ROOT=FOLDER (with include/NvInferRuntime.h)")
set(TENSORRT_INCLUDE_DIRS ${TENSORRT_INCLUDE_DIR} ${CUDA_RUNTIME_INCLUDE_DIR})
mark_as_advanced(TENSORRT_INCLUDE_DIR CUDA_RUNTIME_INCLUDE_DIR)
