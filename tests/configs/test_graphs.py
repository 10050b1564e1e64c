"""The contracts at the boundary of each graph, spelled out once for a real model."""

from __future__ import annotations

from sam2rt.configs.graphs import TensorSpec, graph_specs
from sam2rt.configs.models import model_config


def _shapes(tensors: tuple[TensorSpec, ...]) -> dict[str, str]:
    return {t.name: f"{t.dtype} {' '.join(map(str, t.shape))}" for t in tensors}


def test_contracts_of_tiny() -> None:
    specs = graph_specs(model_config("sam2.1_hiera_tiny"))
    found = {name: (_shapes(s.inputs), _shapes(s.outputs)) for name, s in specs.items()}
    image = "float32 N 1 256 256"
    assert found == {
        "image_encoder": (
            {"image": "float32 B 3 1024 1024"},
            {
                "image_embed": "float32 B 256 64 64",
                "prompt_embed": "float32 B 256 64 64",
                "high_res_0": "float32 B 32 256 256",
                "high_res_1": "float32 B 64 128 128",
            },
        ),
        "memory_attention": (
            {
                "image_embed": "float32 I 256 64 64",
                "memory": "float32 N M 64 64 64",
                "memory_tpos": "int64 N M",
                "obj_ptrs": "float32 N K 256",
                "obj_ptr_pos": "float32 N K",
            },
            {"conditioned_embed": "float32 N 256 64 64"},
        ),
        "mask_decoder": (
            {
                "conditioned_embed": "float32 N 256 64 64",
                "high_res_0": "float32 G 32 256 256",
                "high_res_1": "float32 G 64 128 128",
                "point_coords": "float32 N P 2",
                "point_labels": "int32 N P",
                "mask_input": image,
                "has_mask_input": "float32 N",
                "multimask_output": "bool 1",
            },
            {
                "all_mask_logits": "float32 N 4 256 256",
                "all_ious": "float32 N 4",
                "mask_logits": image,
                "iou": "float32 N 1",
                "obj_ptr": "float32 N 256",
                "object_score": "float32 N 1",
            },
        ),
        "mask_prompt": (
            {"mask": "float32 N 1 1024 1024"},
            {
                "mask_input": image,
                "mask_logits": image,
                "object_score": "float32 N 1",
                "no_obj_ptr": "float32 1 256",
            },
        ),
        "memory_encoder": (
            {
                "image_embed": "float32 I 256 64 64",
                "mask_logits": image,
                "object_score": "float32 N 1",
                "binarize": "bool 1",
            },
            {"memory": "float32 N 64 64 64"},
        ),
        "track_step": (
            {
                "image_embed": "float32 I 256 64 64",
                "high_res_0": "float32 G 32 256 256",
                "high_res_1": "float32 G 64 128 128",
                "memory": "float32 N M 64 64 64",
                "memory_tpos": "int64 N M",
                "obj_ptrs": "float32 N K 256",
                "obj_ptr_pos": "float32 N K",
            },
            {
                "mask_logits": image,
                "iou": "float32 N 1",
                "obj_ptr": "float32 N 256",
                "object_score": "float32 N 1",
                "all_ious": "float32 N 4",
                "new_memory": "float32 N 64 64 64",
            },
        ),
    }


def test_dynamic_dimensions() -> None:
    specs = graph_specs(model_config("micro"))
    assert {name: spec.dynamic for name, spec in specs.items()} == {
        "image_encoder": ("B",),
        "memory_attention": ("I", "N", "M", "K"),
        "mask_decoder": ("N", "G", "P"),
        "mask_prompt": ("N",),
        "memory_encoder": ("I", "N"),
        "track_step": ("I", "G", "N", "M", "K"),
    }
