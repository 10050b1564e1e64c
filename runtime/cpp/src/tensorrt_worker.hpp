#ifndef SAM2RT_SRC_TENSORRT_WORKER_HPP
#define SAM2RT_SRC_TENSORRT_WORKER_HPP

#include <memory>
#include <vector>

#include "tensorrt_track.hpp"

namespace sam2rt {

/// Memory on the GPU for what graphs hand to each other.
class GpuMemory final : public GraphMemory {
 public:
  GpuMemory(std::shared_ptr<const cuda::Device> device, std::size_t count);
  ~GpuMemory() override;

  float* data() noexcept override { return reinterpret_cast<float*>(buffer_->address()); }
  MemoryKind kind() const noexcept override { return MemoryKind::cuda; }
  std::size_t size() const noexcept override { return count_; }
  void write(std::size_t first, const float* values, std::size_t count) override;
  void copy(std::size_t first, GraphMemory& from, std::size_t from_first,
            std::size_t count) override;

  /// It is being written, until that event. The GPU is current.
  void written_at(const std::shared_ptr<const cuda::Event>& event) noexcept { event_ = event; }
  /// Wait until it is written, unless by work that `own` follows.
  void await(const cuda::Event* own);

 private:
  void copy_from(cuda::Address from, std::size_t first, std::size_t count);

  std::shared_ptr<const cuda::Device> device_;
  std::size_t count_;
  std::unique_ptr<cuda::Stream> stream_;
  std::unique_ptr<cuda::Buffer> buffer_;
  std::shared_ptr<const cuda::Event> event_;
};

/// What one call needs at a time: a stream, memory that all engines' activations share, and a
/// runner for every graph. Made, used and released with the GPU current.
class TensorRTWorker {
 public:
  TensorRTWorker(const Bundle& bundle, const std::vector<LoadedEngine>& engines,
                 const cuda::Device& device, int objects);
  TensorRTWorker(const TensorRTWorker&) = delete;
  TensorRTWorker& operator=(const TensorRTWorker&) = delete;
  ~TensorRTWorker();

  /// Back when outputs lie where they are wanted; those of the image encoder that stay on the GPU
  /// may still be written.
  void run(Graph graph, Span<const InputTensor> inputs, Span<const OutputTensor> outputs);

 private:
  void run_engine(Graph graph, Span<const InputTensor> inputs, Span<const OutputTensor> outputs);

  cuda::Stream stream_;
  std::unique_ptr<cuda::Buffer> scratch_;
  std::vector<std::unique_ptr<TensorRTRunner>> runners_;
  std::vector<std::unique_ptr<TensorRTWork>> work_;
  std::unique_ptr<TensorRTTrack> track_;
  /// what the stream was given last
  std::shared_ptr<const cuda::Event> event_;
};

}  // namespace sam2rt

#endif
