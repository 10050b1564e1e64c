#ifndef SAM2RT_SRC_TENSORRT_RUNNER_HPP
#define SAM2RT_SRC_TENSORRT_RUNNER_HPP

#include <NvInferRuntime.h>

#include <deque>
#include <memory>
#include <vector>

#include "cuda_driver.hpp"
#include "engine_record.hpp"

namespace sam2rt {

std::size_t element_bytes(DType dtype) noexcept;
std::size_t bytes_of(DType dtype, const Shape& shape) noexcept;
DType dtype_of(const TensorSpec& tensor) noexcept;
/// Whether an engine may read or write there.
bool aligned(cuda::Address address) noexcept;

/// An engine and what it says about itself; shared by all that run it.
struct LoadedEngine {
  EngineRecord record;
  std::unique_ptr<nvinfer1::ICudaEngine> engine;
};

struct DeviceCopy {
  cuda::Address to = 0;
  cuda::Address from = 0;
  std::size_t bytes = 0;
};

/// One graph on one stream: contexts for every profile, and places for its tensors on the GPU that
/// never move. A CUDA graph holds addresses: callers keep one for each set of places.
class TensorRTRunner {
 public:
  /// One launch of the engine: its profile, the shapes of its inputs, and where inputs and then
  /// outputs lie.
  struct Launch {
    std::size_t profile = 0;
    std::vector<Shape> shapes;
    std::vector<cuda::Address> places;
  };

  /// `scratch` serves all contexts of the stream, which run one after the other.
  TensorRTRunner(const LoadedEngine& engine, const GraphSpec& spec, const cuda::Stream& stream,
                 const cuda::Buffer& scratch);

  const GraphSpec& spec() const noexcept { return spec_; }
  /// Places of tensors that the caller has no place for.
  cuda::Address input_place(std::size_t index) const { return inputs_[index].memory.address(); }
  cuda::Address output_place(std::size_t index) const { return outputs_[index].memory.address(); }
  const void* output_staging(std::size_t index) const { return outputs_[index].staging->data(); }

  /// Wait, where the copies of an earlier run may still read what `bring` writes.
  void await_copies();
  /// After `plan`, which refuses what is too large. Where the engine may read an input: at its own address on the GPU, or in this runner's place,
  /// with the copy into it among `copies`.
  cuda::Address bring(std::size_t index, const InputTensor& input,
                      std::vector<DeviceCopy>& copies);
  /// The copy of an output that the host reads, to where `output_staging` says.
  DeviceCopy download(std::size_t index, std::size_t bytes);

  /// Fill profile and shapes; whether a CUDA graph may hold it. Throws InputError for inputs that
  /// are too large.
  bool plan(Span<const InputTensor> inputs, Launch& launch) const;
  void enqueue(const Launch& launch);

 private:
  /// One tensor's place on the GPU, large enough for any call.
  struct Port {
    Port(const cuda::Device& device, std::size_t bytes) : memory(device, bytes) {}
    cuda::Buffer memory;
    std::unique_ptr<cuda::PinnedMemory> staging;  ///< made when the host first takes part
  };
  /// The context of one profile, and what it was last told.
  struct Context {
    std::unique_ptr<nvinfer1::IExecutionContext> context;
    std::vector<Shape> shapes;
    std::vector<cuda::Address> places;
  };

  void make_ports();
  void make_context(std::size_t profile, const cuda::Buffer& scratch);
  void* staging(Port& port);
  void place(Context& context, const std::vector<cuda::Address>& places);
  void set_shapes(Context& context, const std::vector<Shape>& shapes);
  [[noreturn]] void failed(const std::string& why) const;

  const LoadedEngine& engine_;
  const GraphSpec& spec_;
  const cuda::Stream& stream_;
  std::deque<Port> inputs_, outputs_;
  std::vector<Context> contexts_;
  /// how often the stream had been waited for when host arrays were last brought
  std::uint64_t brought_;
};

}  // namespace sam2rt

#endif
