#ifndef SAM2RT_SRC_TENSORRT_TRACK_HPP
#define SAM2RT_SRC_TENSORRT_TRACK_HPP

#include <array>
#include <vector>

#include "tensorrt_work.hpp"

namespace sam2rt {

/// The graph `track_step` as the three engines it stands for, replayed as one CUDA graph. Each
/// reads what the one before has written, where it lies. What every frame without prompts gives the
/// decoder is on the GPU for good.
class TensorRTTrack {
 public:
  /// `objects`: the most of one call.
  TensorRTTrack(TensorRTRunner& attention, TensorRTRunner& decoder, TensorRTRunner& encoder,
                int objects, const cuda::Stream& stream);

  /// Inputs and outputs of `track_step`; back when outputs lie where they are wanted.
  void run(Span<const InputTensor> inputs, Span<const OutputTensor> outputs);

 private:
  void upload_constants(int objects);
  bool attend(Span<const InputTensor> inputs);
  bool decode(Span<const InputTensor> inputs, Span<const OutputTensor> outputs);
  bool encode(Span<const InputTensor> inputs, Span<const OutputTensor> outputs);

  TensorRTRunner& attention_;
  TensorRTRunner& decoder_;
  TensorRTRunner& encoder_;
  const cuda::Stream& stream_;
  TensorRTWork work_;
  /// Point coordinates, labels, mask input and its flag, whether to choose among masks, whether to
  /// binarise; of fewer objects they are the first ones.
  std::vector<std::unique_ptr<cuda::Buffer>> constants_;
  // addresses of this call
  cuda::Address embed_ = 0, masks_ = 0, scores_ = 0;
};

}  // namespace sam2rt

#endif
