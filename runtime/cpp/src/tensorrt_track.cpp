#include "tensorrt_track.hpp"

namespace sam2rt {

namespace {

// inputs of track_step
enum Input { image_embed, high_res_0, high_res_1, memory, memory_tpos, obj_ptrs, obj_ptr_pos };
// its outputs
enum Output { mask_logits, iou, obj_ptr, object_score, all_ious, new_memory };
// the constants, in the order of the decoder's inputs; the last one is the memory encoder's
enum Constant { coords, labels, mask_input, has_mask, multimask, binarize };

InputTensor shaped(DType dtype, const Shape& shape) { return {nullptr, dtype, shape}; }

}  // namespace

TensorRTTrack::TensorRTTrack(TensorRTRunner& attention, TensorRTRunner& decoder,
                             TensorRTRunner& encoder, int objects, const cuda::Stream& stream)
    : attention_(attention), decoder_(decoder), encoder_(encoder), stream_(stream), work_(stream) {
  upload_constants(objects);
}

void TensorRTTrack::upload_constants(int objects) {
  const auto n = static_cast<std::size_t>(objects);
  const auto side = static_cast<std::size_t>(
      std::get<std::int64_t>(decoder_.spec().inputs[5].shape.back()));
  // an empty point and the padding point, both "not a point": labels are -1, all bits set
  const std::array<std::pair<std::size_t, unsigned char>, 6> values{
      {{n * 4 * sizeof(float), 0}, {n * 2 * sizeof(std::int32_t), 0xFF},
       {n * side * side * sizeof(float), 0}, {n * sizeof(float), 0}, {1, 1}, {1, 0}}};
  std::vector<std::vector<unsigned char>> given;
  for (const auto& [bytes, value] : values) {
    given.emplace_back(bytes, value);
    constants_.push_back(std::make_unique<cuda::Buffer>(stream_.device(), bytes));
    stream_.copy(constants_.back()->address(), cuda::address_of(given.back().data()), bytes);
  }
  // the host's values go away
  stream_.synchronize();
}

void TensorRTTrack::run(Span<const InputTensor> inputs, Span<const OutputTensor> outputs) {
  for (TensorRTRunner* runner : {&attention_, &decoder_}) runner->await_copies();
  work_.clear();
  const bool attends = attend(inputs);
  const bool decodes = decode(inputs, outputs);
  const bool encodes = encode(inputs, outputs);
  work_.run(attends && decodes && encodes);
  work_.finish();
}

bool TensorRTTrack::attend(Span<const InputTensor> inputs) {
  auto& launch = work_.add(attention_);
  const std::array<InputTensor, 5> given{inputs[image_embed], inputs[memory], inputs[memory_tpos],
                                         inputs[obj_ptrs], inputs[obj_ptr_pos]};
  const bool fixed = attention_.plan({given.data(), given.size()}, launch);
  for (std::size_t i = 0; i < given.size(); ++i) {
    launch.places[i] = attention_.bring(i, given[i], work_.before);
  }
  embed_ = launch.places[0];
  // the decoder reads it where it is written
  launch.places[given.size()] = decoder_.input_place(0);
  return fixed;
}

bool TensorRTTrack::decode(Span<const InputTensor> inputs, Span<const OutputTensor> outputs) {
  auto& launch = work_.add(decoder_);
  const Shape& embed = inputs[image_embed].shape;
  const std::int64_t n = inputs[memory].shape.dims[0];
  const Shape low = outputs[mask_logits].shape;
  const std::array<InputTensor, 8> given{
      shaped(DType::float32, Shape::of(n, embed.dims[1], embed.dims[2], embed.dims[3])),
      inputs[high_res_0],
      inputs[high_res_1],
      shaped(DType::float32, Shape::of(n, 2, 2)),
      shaped(DType::int32, Shape::of(n, 2)),
      shaped(DType::float32, low),
      shaped(DType::float32, Shape::of(n)),
      shaped(DType::boolean, Shape::of(1))};
  const bool fixed = decoder_.plan({given.data(), given.size()}, launch);
  launch.places[0] = decoder_.input_place(0);
  launch.places[1] = decoder_.bring(1, given[1], work_.before);
  launch.places[2] = decoder_.bring(2, given[2], work_.before);
  for (std::size_t i = coords; i <= multimask; ++i) launch.places[3 + i] = constants_[i]->address();
  // outputs of the decoder: all masks, which nobody reads, then as track_step has them
  const std::size_t first = given.size();
  launch.places[first] = decoder_.output_place(0);
  launch.places[first + 1] = work_.deliver(decoder_, 1, outputs[all_ious]);
  launch.places[first + 2] = masks_ = work_.deliver(decoder_, 2, outputs[mask_logits]);
  launch.places[first + 3] = work_.deliver(decoder_, 3, outputs[iou]);
  launch.places[first + 4] = work_.deliver(decoder_, 4, outputs[obj_ptr]);
  launch.places[first + 5] = scores_ = work_.deliver(decoder_, 5, outputs[object_score]);
  return fixed;
}

bool TensorRTTrack::encode(Span<const InputTensor> inputs, Span<const OutputTensor> outputs) {
  auto& launch = work_.add(encoder_);
  const std::array<InputTensor, 4> given{
      inputs[image_embed], shaped(DType::float32, outputs[mask_logits].shape),
      shaped(DType::float32, outputs[object_score].shape),
      shaped(DType::boolean, Shape::of(1))};
  const bool fixed = encoder_.plan({given.data(), given.size()}, launch);
  launch.places = {embed_, masks_, scores_, constants_[binarize]->address(),
                   work_.deliver(encoder_, 0, outputs[new_memory])};
  return fixed;
}

}  // namespace sam2rt
