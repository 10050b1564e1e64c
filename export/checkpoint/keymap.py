"""Names of tensors: the original's and those of Hugging Face transformers.

A bijection but for two places: transformers keeps the four point embeddings in one table, and
two copies of the Gaussian matrix, of which either may be absent. No tensor is transposed or
split otherwise. Every name matches one anchored pattern, so the table's order means nothing.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from ...configs.errors import CheckpointError

#: what a field of a pattern stands for
_FIELDS = {
    "w": "weight|bias",
    "n": r"\d+",
    "k": r"\d+",
    "qkv": "[qkv]",
    "table": "pos_embed|pos_embed_window",
    "part": r"attn\.qkv|attn\.proj|proj",
    "token": "iou_token|mask_tokens|obj_score_token",
    "absent": "not_a_point_embed|no_mask_embed",
    "side": "conv_s0|conv_s1",
    "head": r"output_hypernetworks_mlps\.\d+|iou_prediction_head|pred_obj_score_head",
    "decoder_attn": r"layers\.\d+\.(?:self_attn|cross_attn_token_to_image"
    r"|cross_attn_image_to_token)|final_attn_token_to_image",
    "memory_attn": r"layers\.\d+\.(?:self_attn|cross_attn_image)",
    "linear": "linear[12]",
}


def _mlp2(ours: str, theirs: str) -> list[tuple[str, str]]:
    parts = ["proj_in", "proj_out"]
    return [(f"{ours}.layers.{i}.{{w}}", f"{theirs}.{p}.{{w}}") for i, p in enumerate(parts)]


def _mlp3(ours: str, theirs: str) -> list[tuple[str, str]]:
    parts = ["proj_in", "layers.0", "proj_out"]
    return [(f"{ours}.layers.{i}.{{w}}", f"{theirs}.{p}.{{w}}") for i, p in enumerate(parts)]


_TRUNK, _BACKBONE = "image_encoder.trunk", "vision_encoder.backbone"
_PROMPT, _DECODER = "sam_prompt_encoder", "sam_mask_decoder"
_TWO_WAY = "transformer.layers.{n}"
_DOWN, _THEIR_DOWN = "memory_encoder.mask_downsampler.encoder", "memory_encoder.mask_downsampler"
_FUSER, _THEIR_FUSER = "memory_encoder.fuser.layers.{n}", "memory_encoder.memory_fuser.layers.{n}"

_TABLE: list[tuple[str, str]] = [
    (f"{_TRUNK}.{{table}}", f"{_BACKBONE}.{{table}}"),
    (f"{_TRUNK}.patch_embed.proj.{{w}}", f"{_BACKBONE}.patch_embed.projection.{{w}}"),
    (f"{_TRUNK}.blocks.{{n}}.norm{{k}}.{{w}}", f"{_BACKBONE}.blocks.{{n}}.layer_norm{{k}}.{{w}}"),
    (f"{_TRUNK}.blocks.{{n}}.{{part}}.{{w}}", f"{_BACKBONE}.blocks.{{n}}.{{part}}.{{w}}"),
    *_mlp2(f"{_TRUNK}.blocks.{{n}}.mlp", f"{_BACKBONE}.blocks.{{n}}.mlp"),
    ("image_encoder.neck.convs.{n}.conv.{w}", "vision_encoder.neck.convs.{n}.{w}"),
    (f"{_PROMPT}.{{absent}}.weight", "prompt_encoder.{absent}.weight"),
    *(
        (f"{_PROMPT}.mask_downscaling.{i}.{{w}}", f"prompt_encoder.mask_embed.{name}.{{w}}")
        for i, name in [
            (0, "conv1"), (1, "layer_norm1"), (3, "conv2"), (4, "layer_norm2"), (6, "conv3"),
        ]
    ),
    (f"{_DECODER}.{{token}}.weight", "mask_decoder.{token}.weight"),
    (f"{_DECODER}.{{side}}.{{w}}", "mask_decoder.{side}.{w}"),
    *(
        (f"{_DECODER}.output_upscaling.{i}.{{w}}", f"mask_decoder.{name}.{{w}}")
        for i, name in [(0, "upscale_conv1"), (1, "upscale_layer_norm"), (3, "upscale_conv2")]
    ),
    *_mlp3(f"{_DECODER}.{{head}}", "mask_decoder.{head}"),
    (f"{_DECODER}.{_TWO_WAY}.norm{{k}}.{{w}}", f"mask_decoder.{_TWO_WAY}.layer_norm{{k}}.{{w}}"),
    *_mlp2(f"{_DECODER}.{_TWO_WAY}.mlp", f"mask_decoder.{_TWO_WAY}.mlp"),
    (
        f"{_DECODER}.transformer.{{decoder_attn}}.{{qkv}}_proj.{{w}}",
        "mask_decoder.transformer.{decoder_attn}.{qkv}_proj.{w}",
    ),
    (
        f"{_DECODER}.transformer.{{decoder_attn}}.out_proj.{{w}}",
        "mask_decoder.transformer.{decoder_attn}.o_proj.{w}",
    ),
    (
        f"{_DECODER}.transformer.norm_final_attn.{{w}}",
        "mask_decoder.transformer.layer_norm_final_attn.{w}",
    ),
    ("memory_attention.{memory_attn}.{qkv}_proj.{w}",) * 2,
    ("memory_attention.{memory_attn}.out_proj.{w}", "memory_attention.{memory_attn}.o_proj.{w}"),
    ("memory_attention.layers.{n}.{linear}.{w}",) * 2,
    (
        "memory_attention.layers.{n}.norm{k}.{w}",
        "memory_attention.layers.{n}.layer_norm{k}.{w}",
    ),
    ("memory_attention.norm.{w}", "memory_attention.layer_norm.{w}"),
    *((f"{_DOWN}.{3 * i}.{{w}}", f"{_THEIR_DOWN}.layers.{i}.conv.{{w}}") for i in range(4)),
    *(
        (f"{_DOWN}.{3 * i + 1}.{{w}}", f"{_THEIR_DOWN}.layers.{i}.layer_norm.{{w}}")
        for i in range(4)
    ),
    (f"{_DOWN}.12.{{w}}", f"{_THEIR_DOWN}.final_conv.{{w}}"),
    ("memory_encoder.pix_feat_proj.{w}", "memory_encoder.feature_projection.{w}"),
    ("memory_encoder.out_proj.{w}", "memory_encoder.projection.{w}"),
    *(
        (f"{_FUSER}.{ours}.{{w}}", f"{_THEIR_FUSER}.{theirs}.{{w}}")
        for ours, theirs in [
            ("dwconv", "depthwise_conv"), ("norm", "layer_norm"),
            ("pwconv1", "pointwise_conv1"), ("pwconv2", "pointwise_conv2"),
        ]
    ),
    (f"{_FUSER}.gamma", f"{_THEIR_FUSER}.scale"),
    *_mlp3("obj_ptr_proj", "object_pointer_proj"),
    ("obj_ptr_tpos_proj.{w}", "temporal_positional_encoding_projection_layer.{w}"),
    ("no_obj_embed_spatial", "occlusion_spatial_embedding_parameter"),
    ("maskmem_tpos_enc", "memory_temporal_positional_encoding"),
    ("no_mem_embed", "no_memory_embedding"),
    ("no_mem_pos_enc", "no_memory_positional_encoding"),
    ("no_obj_ptr", "no_object_pointer"),
    ("mask_downsample.{w}",) * 2,
]  # fmt: skip

_POINTS = [f"{_PROMPT}.point_embeddings.{i}.weight" for i in range(4)]
_THEIR_POINTS = "prompt_encoder.point_embed.weight"
_GAUSS = f"{_PROMPT}.pe_layer.positional_encoding_gaussian_matrix"
_THEIR_GAUSS = (
    "prompt_encoder.shared_embedding.positional_embedding",
    "shared_image_embedding.positional_embedding",
)

#: values of the Gaussian matrix; every model has 2 x 128 or fewer
_LARGEST_GAUSS = 1 << 16


def _compiled(pattern: str) -> re.Pattern[str]:
    text = re.escape(pattern).replace(r"\{", "{").replace(r"\}", "}")
    text = re.sub(r"\{(\w+)\}", lambda m: f"(?P<{m[1]}>{_FIELDS[m[1]]})", text)
    return re.compile(text)


@functools.cache
def _rules(reverse: bool) -> list[tuple[re.Pattern[str], str]]:
    rows = [(theirs, ours) for ours, theirs in _TABLE] if reverse else _TABLE
    return [(_compiled(old), new) for old, new in rows]


def _renamed(key: str, *, reverse: bool) -> str | None:
    for pattern, template in _rules(reverse):
        if match := pattern.fullmatch(key):
            return template.format(**match.groupdict())
    return None


def original_from_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict under the original's names; names that no rule knows are kept as they are.

    Raises CheckpointError when the two copies of the Gaussian matrix differ.
    """
    result: dict[str, Tensor] = {}
    for key, value in state.items():
        if key == _THEIR_POINTS and value.ndim == 2 and len(value) == len(_POINTS):
            result.update(
                zip(_POINTS, (value[i : i + 1] for i in range(len(_POINTS))), strict=True)
            )
        elif key not in _THEIR_GAUSS:
            result[_renamed(key, reverse=True) or key] = value
    copies = [state[key] for key in _THEIR_GAUSS if key in state]
    # of other sizes they are refused later; a few bytes can stand for 10^12 equal values
    small = all(copy.numel() <= _LARGEST_GAUSS for copy in copies)
    if len(copies) == 2 and small and not torch.equal(*copies):
        raise CheckpointError(
            f"{' and '.join(_THEIR_GAUSS)} must be equal, they differ: save the model again"
        )
    result.update((_GAUSS, copy) for copy in copies[:1])
    return result


def transformers_from_original(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse: a state dict that ``Sam2VideoModel`` of transformers loads strictly."""
    return dict(_transformers_items(state))


def _transformers_items(state: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    for key, value in state.items():
        if key == _GAUSS:
            yield from ((theirs, value) for theirs in _THEIR_GAUSS)
        elif key not in _POINTS:
            yield _renamed(key, reverse=False) or key, value
    if all(key in state for key in _POINTS):
        yield _THEIR_POINTS, torch.cat([state[key] for key in _POINTS])
