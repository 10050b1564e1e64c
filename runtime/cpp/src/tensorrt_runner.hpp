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

/// An engine and what it says about itself; shared by all that run it.
struct LoadedEngine {
  EngineRecord record;
  std::unique_ptr<nvinfer1::ICudaEngine> engine;
};

/// One graph on one stream: contexts for every profile, and places for its tensors on the GPU that
/// never move, which a CUDA graph needs. All of the GPU's memory is taken when it is made.
class TensorRTRunner {
 public:
  TensorRTRunner(const LoadedEngine& engine, const GraphSpec& spec, const cuda::Stream& stream);

  /// Run once; back when outputs lie where they are wanted. A profile of one shape runs as usual
  /// the first time, is recorded the second, and replayed as one launch from then on. What cannot
  /// be recorded runs as usual.
  void run(Span<const InputTensor> inputs, Span<const OutputTensor> outputs);

 private:
  /// One tensor's place on the GPU, large enough for any call.
  struct Port {
    Port(const cuda::Device& device, std::size_t bytes) : memory(device, bytes) {}
    cuda::Buffer memory;
    std::unique_ptr<cuda::PinnedMemory> staging;  ///< made when the host first takes part
  };
  /// What belongs to one profile.
  struct Prepared {
    std::unique_ptr<nvinfer1::IExecutionContext> context;
    std::unique_ptr<cuda::RecordedWork> recorded;
    bool fixed = false;
    bool ran = false;
    bool records = true;  ///< no recording of it has failed
  };

  void make_ports();
  void make_context(std::size_t profile);
  void bring(Port& port, const InputTensor& input);
  void enqueue(Prepared& prepared, Span<const InputTensor> inputs);
  void execute(nvinfer1::IExecutionContext& context);
  void* staging(Port& port);
  [[noreturn]] void failed(const std::string& why) const;

  const LoadedEngine& engine_;
  const GraphSpec& spec_;
  const cuda::Stream& stream_;
  std::deque<Port> inputs_, outputs_;
  std::vector<Prepared> profiles_;
};

}  // namespace sam2rt

#endif
