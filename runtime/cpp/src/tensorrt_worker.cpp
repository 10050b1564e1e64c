#include "tensorrt_worker.hpp"

#include <algorithm>

#include "sam2rt/error.hpp"
#include "text.hpp"

namespace sam2rt {

namespace {

/// Memory that serves every engine's activations, one after the other.
std::unique_ptr<cuda::Buffer> shared_scratch(const std::vector<LoadedEngine>& engines,
                                             const cuda::Device& device) {
  std::size_t most = 0;
  const std::string* name = nullptr;
  for (const LoadedEngine& loaded : engines) {
    const auto bytes = static_cast<std::size_t>(loaded.engine->getDeviceMemorySizeV2());
    if (name == nullptr || bytes > most) {
      most = bytes;
      name = &loaded.record.graph;
    }
  }
  device.require_memory(most, "running " + *name);
  return std::make_unique<cuda::Buffer>(device, most);
}

GpuMemory* gpu_memory(GraphMemory* owner) noexcept { return dynamic_cast<GpuMemory*>(owner); }

/// Whether all that is wanted stays in memory that can be waited for.
bool stays(Span<const OutputTensor> outputs) noexcept {
  return std::all_of(outputs.begin(), outputs.end(), [](const OutputTensor& output) {
    return output.data == nullptr || gpu_memory(output.owner) != nullptr;
  });
}

}  // namespace

GpuMemory::GpuMemory(std::shared_ptr<const cuda::Device> device, std::size_t count)
    : device_(std::move(device)), count_(count) {
  const cuda::Device::Current current(*device_);
  buffer_ = std::make_unique<cuda::Buffer>(*device_, count * sizeof(float));
}

GpuMemory::~GpuMemory() {
  try {
    const cuda::Device::Current current(*device_);
    try {
      await(nullptr);
    } catch (const Error&) {  // what wrote there failed
    }
    buffer_.reset();
    stream_.reset();
    event_.reset();
  } catch (const Error&) {  // without its context the memory is gone already
  }
}

void GpuMemory::await(const cuda::Event* own) {
  if (event_ == nullptr || event_.get() == own) return;
  event_->synchronize();
  event_.reset();
}

void GpuMemory::copy_from(cuda::Address from, std::size_t first, std::size_t count) {
  if (stream_ == nullptr) stream_ = std::make_unique<cuda::Stream>(*device_);
  stream_->copy(buffer_->address() + first * sizeof(float), from, count * sizeof(float));
  stream_->synchronize();
}

void GpuMemory::write(std::size_t first, const float* values, std::size_t count) {
  const cuda::Device::Current current(*device_);
  await(nullptr);
  copy_from(cuda::address_of(values), first, count);
}

void GpuMemory::copy(std::size_t first, GraphMemory& from, std::size_t from_first,
                     std::size_t count) {
  const cuda::Device::Current current(*device_);
  await(nullptr);
  if (GpuMemory* other = gpu_memory(&from)) other->await(nullptr);
  copy_from(cuda::address_of(from.data() + from_first), first, count);
}

TensorRTWorker::TensorRTWorker(const Bundle& bundle, const std::vector<LoadedEngine>& engines,
                               const cuda::Device& device, int objects)
    : stream_(device), scratch_(shared_scratch(engines, device)) {
  for (int i = 0; i < graph_count; ++i) {
    const auto& spec = bundle.graph(static_cast<Graph>(i)).spec;
    const auto& engine = engines[static_cast<std::size_t>(i)];
    runners_.push_back(std::make_unique<TensorRTRunner>(engine, spec, stream_, *scratch_));
    work_.push_back(std::make_unique<TensorRTWork>(stream_));
  }
  const auto runner = [this](Graph graph) -> TensorRTRunner& {
    return *runners_[static_cast<std::size_t>(graph)];
  };
  track_ = std::make_unique<TensorRTTrack>(runner(Graph::memory_attention),
                                           runner(Graph::mask_decoder),
                                           runner(Graph::memory_encoder), objects, stream_);
  event_ = std::make_shared<cuda::Event>(device);
  stream_.synchronize();
}

TensorRTWorker::~TensorRTWorker() {
  try {
    stream_.synchronize();
  } catch (const Error&) {  // what it was given failed
  }
}

void TensorRTWorker::run(Graph graph, Span<const InputTensor> inputs,
                         Span<const OutputTensor> outputs) {
  // a call of another worker may have left work under way
  for (const InputTensor& input : inputs) {
    if (GpuMemory* memory = gpu_memory(input.owner)) memory->await(event_.get());
  }
  for (const OutputTensor& output : outputs) {
    if (GpuMemory* memory = gpu_memory(output.owner)) memory->await(event_.get());
  }
  if (graph == Graph::track_step) {
    track_->run(inputs, outputs);
  } else {
    run_engine(graph, inputs, outputs);
  }
}

void TensorRTWorker::run_engine(Graph graph, Span<const InputTensor> inputs,
                                Span<const OutputTensor> outputs) {
  TensorRTRunner& runner = *runners_[static_cast<std::size_t>(graph)];
  TensorRTWork& work = *work_[static_cast<std::size_t>(graph)];
  work.clear();
  auto& launch = work.add(runner);
  const bool fixed = runner.plan(inputs, launch);
  runner.await_copies();
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    launch.places[i] = runner.bring(i, inputs[i], work.before);
  }
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    launch.places[inputs.size() + i] = work.deliver(runner, i, outputs[i]);
  }
  work.run(fixed);
  if (graph != Graph::image_encoder || !stays(outputs)) {
    work.finish();
    return;
  }
  event_->record(stream_);
  for (const OutputTensor& output : outputs) {
    if (GpuMemory* memory = gpu_memory(output.owner)) memory->written_at(event_);
  }
}

}  // namespace sam2rt
