#include "manifest.hpp"

namespace sam2rt {

namespace {

using Dim = std::variant<std::int64_t, std::string>;

TensorSpec spec(const char* name, const char* dtype, std::vector<Dim> shape) {
  return {name, dtype, std::move(shape)};
}

TensorSpec floats(const char* name, std::vector<Dim> shape) {
  return spec(name, "float32", std::move(shape));
}

}  // namespace

const char* graph_name(Graph graph) noexcept {
  switch (graph) {
    case Graph::image_encoder: return "image_encoder";
    case Graph::memory_attention: return "memory_attention";
    case Graph::mask_decoder: return "mask_decoder";
    case Graph::mask_prompt: return "mask_prompt";
    case Graph::memory_encoder: return "memory_encoder";
    case Graph::track_step: return "track_step";
  }
  return "unknown";
}

std::vector<GraphSpec> graph_specs(const ModelConfig& model) {
  const Dim size = std::int64_t{model.image_size}, low = std::int64_t{model.mask_size()};
  const std::int64_t side = model.embed_size();
  const Dim h = side, h2 = 2 * side, h4 = 4 * side;
  const Dim c = std::int64_t{model.hidden_dim}, c4 = std::int64_t{model.hidden_dim / 4},
            c8 = std::int64_t{model.hidden_dim / 8}, m = std::int64_t{model.mem_dim};
  const Dim one = std::int64_t{1}, two = std::int64_t{2}, three = std::int64_t{3},
            four = std::int64_t{4};
  const Dim B = "B", N = "N", I = "I", G = "G", P = "P", M = "M", K = "K";
  return {
      {"image_encoder",
       {floats("image", {B, three, size, size})},
       {floats("image_embed", {B, c, h, h}), floats("prompt_embed", {B, c, h, h}),
        floats("high_res_0", {B, c8, h4, h4}), floats("high_res_1", {B, c4, h2, h2})}},
      {"memory_attention",
       {floats("image_embed", {I, c, h, h}), floats("memory", {N, M, m, h, h}),
        spec("memory_tpos", "int64", {N, M}), floats("obj_ptrs", {N, K, c}),
        floats("obj_ptr_pos", {N, K})},
       {floats("conditioned_embed", {N, c, h, h})}},
      {"mask_decoder",
       {floats("conditioned_embed", {N, c, h, h}), floats("high_res_0", {G, c8, h4, h4}),
        floats("high_res_1", {G, c4, h2, h2}), floats("point_coords", {N, P, two}),
        spec("point_labels", "int32", {N, P}), floats("mask_input", {N, one, low, low}),
        floats("has_mask_input", {N}), spec("multimask_output", "bool", {one})},
       {floats("all_mask_logits", {N, four, low, low}), floats("all_ious", {N, four}),
        floats("mask_logits", {N, one, low, low}), floats("iou", {N, one}),
        floats("obj_ptr", {N, c}), floats("object_score", {N, one})}},
      {"mask_prompt",
       {floats("mask", {N, one, size, size})},
       {floats("mask_input", {N, one, low, low}), floats("mask_logits", {N, one, low, low}),
        floats("object_score", {N, one}), floats("no_obj_ptr", {one, c})}},
      {"memory_encoder",
       {floats("image_embed", {I, c, h, h}), floats("mask_logits", {N, one, low, low}),
        floats("object_score", {N, one}), spec("binarize", "bool", {one})},
       {floats("memory", {N, m, h, h})}},
      {"track_step",
       {floats("image_embed", {I, c, h, h}), floats("high_res_0", {G, c8, h4, h4}),
        floats("high_res_1", {G, c4, h2, h2}), floats("memory", {N, M, m, h, h}),
        spec("memory_tpos", "int64", {N, M}), floats("obj_ptrs", {N, K, c}),
        floats("obj_ptr_pos", {N, K})},
       {floats("mask_logits", {N, one, low, low}), floats("iou", {N, one}),
        floats("obj_ptr", {N, c}), floats("object_score", {N, one}), floats("all_ious", {N, four}),
        floats("new_memory", {N, m, h, h})}},
  };
}

std::array<GraphSpec, 2> per_object_specs(const ModelConfig& model) {
  const GraphSpec step = graph_specs(model)[static_cast<std::size_t>(Graph::track_step)];
  const auto side = static_cast<std::int64_t>(model.embed_size());
  const Dim h = side, area = side * side, c = std::int64_t{model.hidden_dim};
  GraphSpec frame{"track_step.frame",
                  {floats("image_embed", {"B", c, h, h})},
                  {floats("frame_tokens", {"B", area, c})}};
  GraphSpec object{"track_step.object", {floats("frame_tokens", {"I", area, c})}, step.outputs};
  object.inputs.insert(object.inputs.end(), step.inputs.begin(), step.inputs.end());
  return {std::move(frame), std::move(object)};
}

}  // namespace sam2rt
