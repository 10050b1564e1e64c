#include "tensorrt_runner.hpp"

#include <cstring>
#include <map>

#include "sam2rt/error.hpp"
#include "text.hpp"

namespace sam2rt {

namespace {

using Symbols = std::map<std::string, std::int64_t>;

DType dtype_of(const TensorSpec& tensor) noexcept {
  if (tensor.dtype == "int64") return DType::int64;
  if (tensor.dtype == "int32") return DType::int32;
  return tensor.dtype == "bool" ? DType::boolean : DType::float32;
}

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

std::size_t bytes_of(DType dtype, const Shape& shape) noexcept {
  return static_cast<std::size_t>(shape.elements()) * element_bytes(dtype);
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

}  // namespace

std::size_t element_bytes(DType dtype) noexcept {
  return dtype == DType::int64 ? 8 : dtype == DType::boolean ? 1 : 4;
}

TensorRTRunner::TensorRTRunner(const LoadedEngine& engine, const GraphSpec& spec,
                               const cuda::Stream& stream)
    : engine_(engine), spec_(spec), stream_(stream) {
  make_ports();
  profiles_.resize(engine.record.profiles.size());
  for (std::size_t i = 0; i < profiles_.size(); ++i) make_context(i);
  stream_.synchronize();
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

void TensorRTRunner::make_context(std::size_t profile) {
  stream_.device().require_memory(engine_.record.device_memory, "running " + spec_.name);
  Prepared& made = profiles_[profile];
  made.fixed = is_fixed(engine_.record.profiles[profile]);
  made.context.reset(engine_.engine->createExecutionContext());
  if (made.context == nullptr) {
    throw SessionError(text("TensorRT gives no context for ", spec_.name, ": free GPU memory"));
  }
  const auto stream = static_cast<cudaStream_t>(stream_.handle());
  if (!made.context->setOptimizationProfileAsync(static_cast<std::int32_t>(profile), stream)) {
    failed("its profile was refused");
  }
  const auto bind = [&](const std::vector<TensorSpec>& tensors, const std::deque<Port>& ports) {
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      auto* address = reinterpret_cast<void*>(ports[i].memory.address());
      if (!made.context->setTensorAddress(tensors[i].name.c_str(), address)) {
        failed("it has no tensor '" + tensors[i].name + "'");
      }
    }
  };
  bind(spec_.inputs, inputs_);
  bind(spec_.outputs, outputs_);
}

void TensorRTRunner::run(Span<const InputTensor> inputs, Span<const OutputTensor> outputs) {
  Prepared& prepared = profiles_[choose_profile(engine_.record, spec_, inputs)];
  for (std::size_t i = 0; i < inputs.size(); ++i) bring(inputs_[i], inputs[i]);
  enqueue(prepared, inputs);
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    if (outputs[i].data == nullptr) continue;
    const bool on_host = outputs[i].memory == MemoryKind::host;
    const void* to = on_host ? staging(outputs_[i]) : outputs[i].data;
    stream_.copy(cuda::address_of(to), outputs_[i].memory.address(),
                 bytes_of(outputs[i].dtype, outputs[i].shape));
  }
  stream_.synchronize();
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    if (outputs[i].data == nullptr || outputs[i].memory != MemoryKind::host) continue;
    std::memcpy(outputs[i].data, outputs_[i].staging->data(),
                bytes_of(outputs[i].dtype, outputs[i].shape));
  }
}

void TensorRTRunner::bring(Port& port, const InputTensor& input) {
  const std::size_t bytes = bytes_of(input.dtype, input.shape);
  if (bytes == 0) return;
  const void* from = input.data;
  if (input.memory == MemoryKind::host) {
    from = std::memcpy(staging(port), input.data, bytes);
  }
  stream_.copy(port.memory.address(), cuda::address_of(from), bytes);
}

void TensorRTRunner::enqueue(Prepared& prepared, Span<const InputTensor> inputs) {
  if (prepared.recorded != nullptr) {
    prepared.recorded->replay(stream_);
    return;
  }
  nvinfer1::IExecutionContext& context = *prepared.context;
  if (!prepared.fixed || !prepared.ran) {
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      const std::string& name = spec_.inputs[i].name;
      if (!context.setInputShape(name.c_str(), dims_of(inputs[i].shape))) {
        failed("shape " + listed_dims(inputs[i].shape) + " of '" + name + "' was refused");
      }
    }
    execute(context);
    prepared.ran = true;
    return;
  }
  // everything was set up by the first run
  if (prepared.records) {
    try {
      prepared.recorded =
          std::make_unique<cuda::RecordedWork>(stream_, [&] { execute(context); });
      prepared.recorded->replay(stream_);
      return;
    } catch (const SessionError&) {
      // some engines cannot be recorded: those run as usual
      prepared.recorded.reset();
      prepared.records = false;
    }
  }
  execute(context);
}

void TensorRTRunner::execute(nvinfer1::IExecutionContext& context) {
  // unchecked, a refused enqueue inside a capture would replay stale buffers
  if (!context.enqueueV3(static_cast<cudaStream_t>(stream_.handle()))) {
    failed("the work could not be enqueued");
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
