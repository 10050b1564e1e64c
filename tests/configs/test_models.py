"""The model table against the released configuration files and shapes, and what it refuses."""

from __future__ import annotations

import json
from typing import Any

import pytest
from golden import require_shared, variant_name

from sam2rt.configs.errors import InputError
from sam2rt.configs.models import (
    MODELS,
    ModelConfig,
    model_config,
    pointer_distance_scale,
    pointer_limit,
)

#: all but the model that ships with the package
RECORDED = [name for name in MODELS if name.startswith(("sam2.1", "sam2_", "micro"))]
#: what the released yaml files leave to the code of the image encoder (base_plus)
_TRUNK_DEFAULTS = {
    "stages": [2, 3, 16, 3],
    "global_att_blocks": [12, 16, 20],
    "window_spec": [8, 4, 14, 7],
    "window_pos_embed_bkg_spatial_size": [14, 14],
}


@pytest.mark.parametrize("name", RECORDED)
def test_table_equals_the_released_configuration(name: str) -> None:
    path = require_shared() / "golden" / "configs" / f"{variant_name(name)}.json"
    released: dict[str, Any] = json.loads(path.read_text())
    trunk = {**_TRUNK_DEFAULTS, **released["image_encoder"]["trunk"]}
    neck = released["image_encoder"]["neck"]
    attention = released["memory_attention"]
    config = MODELS[name]
    assert config == ModelConfig(
        name=name,
        family="2.1" if released.get("no_obj_embed_spatial") else "2.0",
        embed_dim=trunk["embed_dim"],
        num_heads=trunk["num_heads"],
        stages=tuple(trunk["stages"]),
        global_att_blocks=tuple(trunk["global_att_blocks"]),
        window_spec=tuple(trunk["window_spec"]),
        pos_embed_size=tuple(trunk["window_pos_embed_bkg_spatial_size"]),
        image_size=released["image_size"],
        hidden_dim=neck["d_model"],
        mem_dim=released["memory_encoder"]["out_dim"],
        memory_attention_layers=attention["num_layers"],
        memory_attention_ffn=attention["layer"]["dim_feedforward"],
        num_maskmem=released["num_maskmem"],
    )
    assert list(reversed(config.stage_dims)) == neck["backbone_channel_list"]
    assert config.embed_size == attention["layer"]["self_attention"]["feat_sizes"][0]


@pytest.mark.parametrize("name", RECORDED)
def test_table_fits_the_state_dict_shapes(name: str) -> None:
    path = require_shared() / "golden" / "shapes" / f"{variant_name(name)}.json"
    shapes: dict[str, list[int]] = json.loads(path.read_text())
    config = MODELS[name]
    blocks = {key.split(".")[3] for key in shapes if ".trunk.blocks." in key}
    assert len(blocks) == config.depth
    assert shapes["image_encoder.trunk.patch_embed.proj.weight"][0] == config.embed_dim
    assert shapes["image_encoder.trunk.pos_embed"][2:] == list(config.pos_embed_size)
    assert shapes["image_encoder.trunk.pos_embed_window"][2:] == [config.window_spec[0]] * 2
    assert shapes["maskmem_tpos_enc"] == [config.num_maskmem, 1, 1, config.mem_dim]
    assert shapes["no_obj_ptr"] == [1, config.hidden_dim]
    assert ("no_obj_embed_spatial" in shapes) == (config.family == "2.1")


@pytest.mark.parametrize(
    ("short", "full"),
    [
        ("sam2.1_hiera_t", "sam2.1_hiera_tiny"),
        ("sam2_hiera_b+", "sam2_hiera_base_plus"),
        ("sam2.1_hiera_large", "sam2.1_hiera_large"),
        ("micro20", "micro20"),
    ],
)
def test_names(short: str, full: str) -> None:
    assert model_config(short).name == full


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(InputError) as caught:
        model_config("sam3_hiera_t")
    expected = f"unknown model 'sam3_hiera_t': known models are {', '.join(MODELS)}"
    assert str(caught.value) == expected
    assert set(RECORDED) <= set(MODELS)
    assert len(RECORDED) == 10


def test_sizes_that_follow_from_the_image_size() -> None:
    tiny = model_config("sam2.1_hiera_tiny").with_image_size(512)
    assert (tiny.embed_size, tiny.mask_size, tiny.pointer_tokens) == (32, 128, 4)
    assert (tiny.depth, tiny.stage_dims) == (12, (96, 192, 384, 768))


@pytest.mark.parametrize("size", [0, -1024, 32, 100, 1000, 1023])
def test_illegal_image_size(size: int) -> None:
    with pytest.raises(InputError) as caught:
        model_config("micro").with_image_size(size)
    expected = f"image size {size} is not legal: expected a multiple of 32, at least 64"
    assert str(caught.value) == expected


def test_image_sizes_no_machine_has_room_for() -> None:
    model_config("micro").with_image_size(4096)
    with pytest.raises(InputError) as caught:
        model_config("micro").with_image_size(4128)
    assert str(caught.value) == "image size 4128 is not legal: expected at most 4096"


def test_memory_width_must_divide_the_hidden_width() -> None:
    with pytest.raises(InputError, match="hidden width 256 is no multiple of memory width 60"):
        ModelConfig("x", "2.1", 96, 1, (1, 2, 7, 2), (5, 7, 9), mem_dim=60)


@pytest.mark.parametrize(
    ("frames", "limit", "scale"),
    [(None, 16, 15.0), (1, 1, 1.0), (2, 2, 1.0), (12, 12, 11.0), (16, 16, 15.0), (200, 16, 15.0)],
)
def test_pointer_distance_is_divided_by_the_largest(
    frames: int | None, limit: int, scale: float
) -> None:
    config = model_config("micro")
    assert pointer_limit(config, frames) == limit
    assert pointer_distance_scale(config, frames) == scale
