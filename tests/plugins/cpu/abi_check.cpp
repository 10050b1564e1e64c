// Every place of our declarations, compared with ONNX Runtime's own header. Compiles when equal.
#include <onnxruntime_c_api.h>

#include "onnxruntime_abi.hpp"

namespace ort = sam2rt_cpu::ort;

#define SAME_PLACE(OURS, THEIRS) \
  static_assert(offsetof(OrtApi, THEIRS) == ort::OURS * sizeof(void*), #THEIRS)
#define SAME_FIELD(OURS, THEIRS) \
  static_assert(offsetof(ort::Operator, OURS) == offsetof(OrtCustomOp, THEIRS), #THEIRS)

SAME_PLACE(CREATE_STATUS, CreateStatus);
SAME_PLACE(GET_DATA, GetTensorMutableData);
SAME_PLACE(GET_DIMENSION_COUNT, GetDimensionsCount);
SAME_PLACE(GET_DIMENSIONS, GetDimensions);
SAME_PLACE(GET_SHAPE, GetTensorTypeAndShape);
SAME_PLACE(GET_INPUT, KernelContext_GetInput);
SAME_PLACE(GET_OUTPUT, KernelContext_GetOutput);
SAME_PLACE(RELEASE_SHAPE, ReleaseTensorTypeAndShapeInfo);
SAME_PLACE(CREATE_DOMAIN, CreateCustomOpDomain);
SAME_PLACE(ADD_OPERATOR, CustomOpDomain_Add);
SAME_PLACE(ADD_DOMAIN, AddCustomOpDomain);
SAME_PLACE(GET_CONSTANT_INPUT, KernelInfoGetConstantInput_tensor);
SAME_PLACE(PARALLEL_FOR, KernelContext_ParallelFor);
SAME_FIELD(version, version);
SAME_FIELD(create_kernel, CreateKernel);
SAME_FIELD(name, GetName);
SAME_FIELD(provider, GetExecutionProviderType);
SAME_FIELD(input_type, GetInputType);
SAME_FIELD(input_count, GetInputTypeCount);
SAME_FIELD(output_type, GetOutputType);
SAME_FIELD(output_count, GetOutputTypeCount);
SAME_FIELD(compute_kernel, KernelCompute);
SAME_FIELD(destroy, KernelDestroy);
SAME_FIELD(input_presence, GetInputCharacteristic);
SAME_FIELD(output_presence, GetOutputCharacteristic);
SAME_FIELD(input_memory, GetInputMemoryType);
SAME_FIELD(variadic_inputs, GetVariadicInputMinArity);
SAME_FIELD(variadic_inputs_alike, GetVariadicInputHomogeneity);
SAME_FIELD(variadic_outputs, GetVariadicOutputMinArity);
SAME_FIELD(variadic_outputs_alike, GetVariadicOutputHomogeneity);
SAME_FIELD(create, CreateKernelV2);
SAME_FIELD(compute, KernelComputeV2);
SAME_FIELD(infer_shape, InferOutputShapeFn);
SAME_FIELD(start_version, GetStartVersion);
SAME_FIELD(end_version, GetEndVersion);
static_assert(ort::FLOAT == static_cast<int>(ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT));
static_assert(ort::BFLOAT16 == static_cast<int>(ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16));
static_assert(ort::REQUIRED == static_cast<int>(INPUT_OUTPUT_REQUIRED));
static_assert(ort::FAIL == static_cast<int>(ORT_FAIL));
static_assert(ort::INVALID_ARGUMENT == static_cast<int>(ORT_INVALID_ARGUMENT));
