#include "tensorrt_runner.hpp"

#include <algorithm>
#include <cstring>
#include <map>

#include "sam2rt/error.hpp"
#include "text.hpp"

namespace sam2rt {

namespace {

using Symbols = std::map<std::string, std::int64_t>;

/// Bytes of a tensor when every dynamic dimension is as large as it gets.
std::size_t largest(const TensorSpec& tensor, const Symbols& symbols) {
  std::size_t bytes = element_bytes(dtype_of(tensor));
  for (const auto& dim : tensor.shape) {
    const auto* symbol = std::get_if<std::string>(&dim);
    const auto size = symbol != nullptr ? symbols.at(*symbol) : std::get<std::int64_t>(dim);
    bytes *= static_cast<std::size_t>(size);
  }
  return bytes;
}

nvinfer1::Dims dims_of(const Shape& shape) noexcept {
  nvinfer1::Dims dims{};
  dims.nbDims = shape.rank;
  for (std::size_t i = 0; i < static_cast<std::size_t>(shape.rank); ++i) dims.d[i] = shape.dims[i];
  return dims;
}

std::string listed_dims(const Shape& shape) {
  const Span<const std::int64_t> dims(shape.dims.data(), static_cast<std::size_t>(shape.rank));
  return listed(dims, [](std::int64_t size) { return std::to_string(size); });
}

bool same(const Shape& a, const Shape& b) noexcept { return a.rank == b.rank && a.dims == b.dims; }

}  // namespace

std::size_t element_bytes(DType dtype) noexcept {
  return dtype == DType::int64 ? 8 : dtype == DType::boolean ? 1 : 4;
}

std::size_t bytes_of(DType dtype, const Shape& shape) noexcept {
  return static_cast<std::size_t>(shape.elements()) * element_bytes(dtype);
}

DType dtype_of(const TensorSpec& tensor) noexcept {
  if (tensor.dtype == "int64") return DType::int64;
  if (tensor.dtype == "int32") return DType::int32;
  return tensor.dtype == "bool" ? DType::boolean : DType::float32;
}

bool aligned(cuda::Address address) noexcept { return address % 256 == 0; }

TensorRTRunner::TensorRTRunner(const LoadedEngine& engine, const GraphSpec& spec,
                               const cuda::Stream& stream, const cuda::Buffer& scratch)
    : engine_(engine), spec_(spec), stream_(stream), brought_(stream.waits() - 1) {
  make_ports();
  contexts_.resize(engine.record.profiles.size());
  for (std::size_t i = 0; i < contexts_.size(); ++i) make_context(i, scratch);
}

void TensorRTRunner::make_ports() {
  Symbols symbols;
  const Profile& most = engine_.record.profiles.back();
  for (std::size_t i = 0; i < spec_.inputs.size(); ++i) {
    for (std::size_t d = 0; d < spec_.inputs[i].shape.size(); ++d) {
      const auto* symbol = std::get_if<std::string>(&spec_.inputs[i].shape[d]);
      if (symbol != nullptr) symbols[*symbol] = most[i].most.dims[d];
    }
  }
  std::size_t needed = 0;
  for (const auto* tensors : {&spec_.inputs, &spec_.outputs}) {
    for (const TensorSpec& tensor : *tensors) needed += largest(tensor, symbols);
  }
  const cuda::Device& device = stream_.device();
  device.require_memory(needed, "inputs and outputs of " + spec_.name);
  for (const auto& tensor : spec_.inputs) inputs_.emplace_back(device, largest(tensor, symbols));
  for (const auto& tensor : spec_.outputs) outputs_.emplace_back(device, largest(tensor, symbols));
}

void TensorRTRunner::make_context(std::size_t profile, const cuda::Buffer& scratch) {
  Context& made = contexts_[profile];
  // no memory of its own: contexts of one stream never run at the same time
  made.context.reset(engine_.engine->createExecutionContext(
      nvinfer1::ExecutionContextAllocationStrategy::kUSER_MANAGED));
  if (made.context == nullptr) {
    throw SessionError(text("TensorRT gives no context for ", spec_.name, ": free GPU memory"));
  }
  const auto stream = static_cast<cudaStream_t>(stream_.handle());
  if (!made.context->setOptimizationProfileAsync(static_cast<std::int32_t>(profile), stream)) {
    failed("its profile was refused");
  }
  made.context->setDeviceMemoryV2(reinterpret_cast<void*>(scratch.address()),
                                  static_cast<std::int64_t>(scratch.bytes()));
  made.shapes.resize(spec_.inputs.size());
  made.places.resize(spec_.inputs.size() + spec_.outputs.size());
}

void TensorRTRunner::await_copies() {
  if (brought_ == stream_.waits()) stream_.synchronize();
  brought_ = stream_.waits();
}

cuda::Address TensorRTRunner::bring(std::size_t index, const InputTensor& input,
                                    std::vector<DeviceCopy>& copies) {
  Port& port = inputs_[index];
  const bool on_host = input.memory == MemoryKind::host;
  if (!on_host && aligned(cuda::address_of(input.data))) return cuda::address_of(input.data);
  const std::size_t bytes = bytes_of(input.dtype, input.shape);
  const void* from = input.data;
  if (on_host && bytes > 0) from = std::memcpy(staging(port), input.data, bytes);
  if (bytes > 0) copies.push_back({port.memory.address(), cuda::address_of(from), bytes});
  return port.memory.address();
}

DeviceCopy TensorRTRunner::download(std::size_t index, std::size_t bytes) {
  Port& port = outputs_[index];
  return {cuda::address_of(staging(port)), port.memory.address(), bytes};
}

bool TensorRTRunner::plan(Span<const InputTensor> inputs, Launch& launch) const {
  launch.profile = choose_profile(engine_.record, spec_, inputs);
  launch.shapes.clear();
  for (const InputTensor& input : inputs) launch.shapes.push_back(input.shape);
  return is_fixed(engine_.record.profiles[launch.profile]);
}

void TensorRTRunner::enqueue(const Launch& launch) {
  Context& context = contexts_[launch.profile];
  place(context, launch.places);
  set_shapes(context, launch.shapes);
  // unchecked, a refused enqueue inside a capture would replay stale buffers
  if (!context.context->enqueueV3(static_cast<cudaStream_t>(stream_.handle()))) {
    failed("the work could not be enqueued");
  }
}

void TensorRTRunner::place(Context& context, const std::vector<cuda::Address>& places) {
  for (std::size_t i = 0; i < places.size(); ++i) {
    if (context.places[i] == places[i]) continue;
    const bool input = i < spec_.inputs.size();
    const auto& tensor = input ? spec_.inputs[i] : spec_.outputs[i - spec_.inputs.size()];
    auto* address = reinterpret_cast<void*>(places[i]);
    if (!context.context->setTensorAddress(tensor.name.c_str(), address)) {
      failed("it has no tensor '" + tensor.name + "'");
    }
    context.places[i] = places[i];
  }
}

void TensorRTRunner::set_shapes(Context& context, const std::vector<Shape>& shapes) {
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    if (same(context.shapes[i], shapes[i])) continue;
    const std::string& name = spec_.inputs[i].name;
    if (!context.context->setInputShape(name.c_str(), dims_of(shapes[i]))) {
      failed("shape " + listed_dims(shapes[i]) + " of '" + name + "' was refused");
    }
    context.shapes[i] = shapes[i];
  }
}

void* TensorRTRunner::staging(Port& port) {
  if (port.staging == nullptr) {
    port.staging = std::make_unique<cuda::PinnedMemory>(stream_.device(), port.memory.bytes());
  }
  return port.staging->data();
}

void TensorRTRunner::failed(const std::string& why) const {
  throw SessionError(text("the engine of ", spec_.name, " failed (", why,
                          "): build it again with 'sam2rt build'"));
}

}  // namespace sam2rt
