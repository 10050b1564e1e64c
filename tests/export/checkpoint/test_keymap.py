"""Names of the original and of transformers: a bijection, proved on every key and every value."""

from __future__ import annotations

import re

import pytest
import torch

from sam2rt.configs.errors import CheckpointError
from sam2rt.configs.models import MODELS
from sam2rt.export.checkpoint import keymap
from sam2rt.export.checkpoint.keymap import original_from_transformers, transformers_from_original
from sam2rt.export.model.sam2 import Sam2
from sam2rt.export.model.untrained import untrained_state

_GAUSS = "shared_image_embedding.positional_embedding"
_OTHER_GAUSS = "prompt_encoder.shared_embedding.positional_embedding"


def _meta_state(name: str) -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        return dict(Sam2(MODELS[name]).state_dict())


@pytest.mark.parametrize("name", MODELS)
def test_every_key_has_one_counterpart(name: str) -> None:
    state = _meta_state(name)
    theirs = transformers_from_original(state)
    assert len(theirs) == len(state) - 2
    assert not [key for key in theirs if key.startswith(("image_encoder.", "sam_", "obj_ptr"))]
    shapes = sorted(tuple(v.shape) for k, v in state.items() if "point_embeddings" not in k)
    skipped = (_OTHER_GAUSS, "prompt_encoder.point_embed.weight")
    assert sorted(tuple(v.shape) for k, v in theirs.items() if k not in skipped) == shapes


@pytest.mark.parametrize("reverse", [False, True])
def test_every_key_matches_one_pattern(reverse: bool) -> None:
    state = _meta_state("sam2.1_hiera_tiny")
    keys = transformers_from_original(state) if reverse else state
    special = {*keymap._POINTS, keymap._GAUSS, keymap._THEIR_POINTS, *keymap._THEIR_GAUSS}
    for key in set(keys) - special:
        matching = [p.pattern for p, _ in keymap._rules(reverse) if p.fullmatch(key)]
        assert len(matching) == 1, key


@pytest.mark.parametrize("name", ["micro", "micro20"])
def test_there_and_back_restores_every_bit(name: str) -> None:
    state = untrained_state(MODELS[name])
    back = original_from_transformers(transformers_from_original(state))
    assert back.keys() == state.keys()
    for key, value in state.items():
        assert torch.equal(back[key], value), key


def test_places_that_a_substring_replacement_gets_wrong() -> None:
    """Each of these is a trap of converting by order-dependent replacement."""
    state = {name: torch.tensor([i]) for i, name in enumerate(_TRAPS)}
    theirs = transformers_from_original(state)
    assert {key: int(value) for key, value in theirs.items()} == {
        name: i for i, name in enumerate(_TRAPS.values())
    }


_TRAPS = {
    "memory_encoder.out_proj.weight": "memory_encoder.projection.weight",
    "memory_attention.layers.1.self_attn.out_proj.bias": (
        "memory_attention.layers.1.self_attn.o_proj.bias"
    ),
    "sam_mask_decoder.transformer.norm_final_attn.weight": (
        "mask_decoder.transformer.layer_norm_final_attn.weight"
    ),
    "no_obj_ptr": "no_object_pointer",
    "obj_ptr_proj.layers.1.weight": "object_pointer_proj.layers.0.weight",
    "obj_ptr_tpos_proj.bias": "temporal_positional_encoding_projection_layer.bias",
    "memory_encoder.fuser.layers.0.gamma": "memory_encoder.memory_fuser.layers.0.scale",
    "memory_encoder.mask_downsampler.encoder.10.bias": (
        "memory_encoder.mask_downsampler.layers.3.layer_norm.bias"
    ),
    "image_encoder.trunk.blocks.11.attn.qkv.weight": (
        "vision_encoder.backbone.blocks.11.attn.qkv.weight"
    ),
    "sam_mask_decoder.iou_prediction_head.layers.2.bias": (
        "mask_decoder.iou_prediction_head.proj_out.bias"
    ),
}


@pytest.mark.parametrize("absent", [_GAUSS, _OTHER_GAUSS])
def test_either_copy_of_the_gaussian_matrix_will_do(absent: str) -> None:
    state = untrained_state(MODELS["micro"])
    theirs = transformers_from_original(state)
    del theirs[absent]
    back = original_from_transformers(theirs)
    key = "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
    assert torch.equal(back[key], state[key])


def test_copies_that_differ() -> None:
    theirs = transformers_from_original(untrained_state(MODELS["micro"]))
    theirs[_GAUSS] = theirs[_GAUSS] + 1
    expected = f"{_OTHER_GAUSS} and {_GAUSS} must be equal, they differ: save the model again"
    with pytest.raises(CheckpointError, match=re.escape(expected)):
        original_from_transformers(theirs)


def test_unknown_names_stay() -> None:
    state = {"vision_encoder.adapter.weight": torch.ones(1)}
    assert original_from_transformers(state) == state
