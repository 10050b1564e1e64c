"""Names of wrappers, checkpoints in shards, and relatives of SAM 2 that are refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from checkpoint_files import State, message, saved
from safetensors.torch import save_file

from sam2rt.configs.models import MODELS
from sam2rt.export.checkpoint.keymap import transformers_from_original
from sam2rt.export.checkpoint.load import load_checkpoint
from sam2rt.export.model.untrained import untrained_state


@pytest.fixture(scope="module")
def state() -> State:
    return untrained_state(MODELS["micro"])


def assert_same(found: State, expected: State) -> None:
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], value) for key, value in expected.items())


@pytest.mark.parametrize("layout", ["original", "transformers"])
@pytest.mark.parametrize(
    "wrapper", ["_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"]
)
@pytest.mark.parametrize(
    "place", ["before", "after the first", "every", "before the last", "with a neighbour"]
)
def test_wrappers_stand_anywhere(
    place: str, wrapper: str, layout: str, tmp_path: Path, state: State
) -> None:
    def renamed(key: str) -> str:
        parts = key.split(".")
        if place in ("before", "with a neighbour"):
            return f"{wrapper}.{key}"
        if place == "after the first":
            # as torch.compile(model.image_encoder) does
            return ".".join([parts[0], wrapper, *parts[1:]]) if parts[1:] else key
        if place == "every":
            return f"{wrapper}." + f".{wrapper}.".join(parts)
        return ".".join([*parts[:-1], wrapper, parts[-1]])

    tensors = state if layout == "original" else transformers_from_original(state)
    wrapped = {renamed(key): value for key, value in tensors.items()}
    if place == "with a neighbour":
        wrapped["n_averaged"] = torch.tensor(3)
    assert_same(load_checkpoint(saved(tmp_path / "w.pt", {"model": wrapped})).state, state)


def test_a_tensor_with_and_without_a_wrapper_is_refused(tmp_path: Path, state: State) -> None:
    twice = {**state, "no_mem_embed": state["no_mem_embed"]}
    key = "image_encoder.neck.convs.0.conv.weight"
    twice["image_encoder._orig_mod.neck.convs.0.conv.weight"] = state[key] + 1
    assert "holds tensors twice" in message(saved(tmp_path / "w.pt", twice))


def _shards(folder: Path, tensors: State, index: bool = True, stem: str = "model") -> list[Path]:
    keys = sorted(tensors)
    names = [f"{stem}-{i:05d}-of-00003.safetensors" for i in (1, 2, 3)]
    for i, name in enumerate(names):
        save_file({k: tensors[k].clone() for k in keys[i::3]}, folder / name)
    weight_map = {k: names[i % 3] for i, k in enumerate(keys)}
    if index:
        text = json.dumps({"metadata": {}, "weight_map": weight_map})
        (folder / f"{stem}.safetensors.index.json").write_text(text)
    return [folder / name for name in names]


@pytest.mark.parametrize("layout", ["original", "transformers"])
def test_shards_by_folder_index_or_one_of_them(layout: str, tmp_path: Path, state: State) -> None:
    tensors = state if layout == "original" else transformers_from_original(state)
    shards = _shards(tmp_path, tensors)
    found = [
        load_checkpoint(source)
        for source in (tmp_path, tmp_path / "model.safetensors.index.json", shards[1])
    ]
    for checkpoint in found:
        assert checkpoint.config == MODELS["micro"]
        assert_same(checkpoint.state, state)
    assert len({checkpoint.sha256 for checkpoint in found}) == 1
    first = found[0].sha256
    _shards(tmp_path, {**tensors, "added": torch.ones(1)})
    changed = {key: value + 1 if key.endswith("bias") else value for key, value in tensors.items()}
    _shards(tmp_path, changed)
    assert load_checkpoint(tmp_path).sha256 != first


def test_shards_without_an_index_or_under_another_name(tmp_path: Path, state: State) -> None:
    shards = _shards(tmp_path, state, index=False, stem="diffusion")
    for source in (tmp_path, shards[0]):
        assert_same(load_checkpoint(source).state, state)
    _shards(tmp_path, state, stem="diffusion")
    assert_same(load_checkpoint(tmp_path).state, state)


def test_a_missing_shard_is_named(tmp_path: Path, state: State) -> None:
    shards = _shards(tmp_path, state)
    shards[2].unlink()
    for source in (tmp_path, shards[0]):
        found = message(source)
        assert "one of 3 files of a checkpoint" in found
        assert f"{shards[2].name} is missing beside it: get all of them" in found


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"weight_map": {}}', '{"weight_map": {"a": "../b.safetensors"}}']
)
def test_an_index_that_is_none(text: str, tmp_path: Path) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(text)
    assert message(index).startswith(f"{index} is no index of a sharded checkpoint (")


_ENCODER = "image_encoder.trunk.patch_embed.proj.weight"
RELATIVES: dict[str, tuple[str, ...]] = {
    "SAM 1": ("image_encoder.blocks.0.attn.rel_pos_h", "mask_decoder.iou_token.weight"),
    "SAM 1 of transformers": (
        "vision_encoder.layers.0.attn.rel_pos_h", "vision_encoder.patch_embed.projection.weight",
    ),
    "HQ-SAM": ("image_encoder.blocks.0.attn.rel_pos_h", "mask_decoder.hf_token.weight"),
    "HQ-SAM 2": (_ENCODER, "sam_mask_decoder.hf_token.weight"),
    "MobileSAM": ("image_encoder.patch_embed.seq.0.c.weight", "mask_decoder.iou_token.weight"),
    "EdgeTAM": ("image_encoder.trunk.body.stem_0.c.weight", "spatial_perceiver.latents"),
    "EdgeTAM of transformers": (
        "vision_encoder.backbone.timm_model.stem_0.c.weight", "spatial_perceiver.latents_1d",
    ),
    "EfficientTAM": (_ENCODER, "image_encoder.trunk.blocks.0.attn.qkv.weight"),
    "SAM 3": ("detector.backbone.vision_backbone.trunk.blocks.0.attn.qkv.weight",
              "tracker.maskmem_tpos_enc"),
    "SAM 3 of transformers": ("detector_model.vision_encoder.backbone.layers.0.norm1.weight",),
}  # fmt: skip


@pytest.mark.parametrize("layout", ["bare", "model", "prefixed"])
@pytest.mark.parametrize("name", RELATIVES)
def test_relatives_are_refused_by_name(name: str, layout: str, tmp_path: Path) -> None:
    tensors = {key: torch.ones(2, 2) for key in RELATIVES[name]}
    if name == "EfficientTAM":
        tensors["image_encoder.trunk.pos_embed"] = torch.ones(1, 197, 192)
    prefix = "module." if layout == "prefixed" else ""
    tensors = {prefix + key: value for key, value in tensors.items()}
    path = saved(tmp_path / "w.pt", {"model": tensors} if layout == "model" else tensors)
    model = name.partition(" of ")[0]
    expected = f"{path} is a checkpoint of {model}: sam2rt runs SAM 2 and SAM 2.1"
    assert message(path) == expected


@pytest.mark.parametrize(
    "key",
    [
        "base_model.model.vision_encoder.backbone.blocks.0.attn.qkv.lora_A.weight",
        "image_encoder.trunk.blocks.0.attn.qkv.lora_B.default.weight",
        "lora_down.weight",
    ],
)
@pytest.mark.parametrize("whole", [False, True])
def test_adapters_are_refused(key: str, whole: bool, tmp_path: Path, state: State) -> None:
    path = saved(tmp_path / "w.pt", {**(state if whole else {}), key: torch.ones(2, 2)})
    found = message(path)
    assert found.startswith(f"{path} holds LoRA adapters ({key}): merge them into the model")
