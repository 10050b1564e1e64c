"""Every layout of a checkpoint loads to the same tensors; every bad one is named."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoint_files import State, message, saved
from golden import recipe_digest, recipe_state
from safetensors.torch import save_file

from sam2rt.configs.errors import InputError, MissingExtraError
from sam2rt.configs.models import MODELS
from sam2rt.export.checkpoint import load as loading
from sam2rt.export.checkpoint.keymap import transformers_from_original
from sam2rt.export.checkpoint.load import load_checkpoint
from sam2rt.export.checkpoint.read import plain_state
from sam2rt.export.checkpoint.recognise import check_fit, recognised
from sam2rt.export.model.sam2 import Sam2, build_model
from sam2rt.export.model.untrained import untrained_state


@pytest.fixture(scope="module")
def state() -> State:
    return untrained_state(MODELS["micro"])


def assert_same(found: State, expected: State) -> None:
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key].dtype == torch.float32
        assert torch.equal(found[key], value), key


def _trainer(state: State) -> dict[str, object]:
    """What the original's trainer saves."""
    return {
        "model": state,
        "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 1e-5}]},
        "epoch": 40,
        "loss": {},
        "steps": {"train": 1000, "val": 0},
        "time_elapsed": 12.5,
        "best_meter_values": {},
        "scaler": {"scale": 65536.0},
    }


_LAYOUTS: dict[str, Callable[[State], object]] = {
    "official": lambda s: {"model": s},
    "trainer": _trainer,
    "bare": lambda s: s,
    "lightning": lambda s: {"state_dict": {f"model.{k}": v for k, v in s.items()}, "epoch": 3},
    "data parallel": lambda s: {"model": {f"module.{k}": v for k, v in s.items()}},
    "averaged": lambda s: {
        "model": {"n_averaged": torch.tensor(3), **{f"module.{k}": v for k, v in s.items()}}
    },
    "average alone": lambda s: {"ema": s, "optimizer": _trainer(s)["optimizer"], "epoch": 2},
    "average beside": lambda s: {"ema": {k: v + 1 for k, v in s.items()}, "model": s},
    "average of transformers": lambda s: {"ema": {"module": transformers_from_original(s)}},
    "nested": lambda s: {"model": {"state_dict": s, "step": 7}},
    "configuration beside": lambda s: {"model": {"name": "tiny"}, "state_dict": s},
    "part of a larger model": lambda s: {
        "head.weight": torch.ones(2),
        **{f"sam2.{k}": v for k, v in s.items()},
    },
    "transformers .bin": transformers_from_original,
    "transformers with prefix": lambda s: {
        f"sam.{k}": v for k, v in transformers_from_original(s).items()
    },
    "parameters": lambda s: {k: torch.nn.Parameter(v) for k, v in s.items()},
}


@pytest.mark.parametrize("layout", _LAYOUTS)
def test_layouts(tmp_path: Path, state: State, layout: str) -> None:
    path = saved(tmp_path / "weights.any", _LAYOUTS[layout](state))
    found = load_checkpoint(path)
    assert found.config == MODELS["micro"]
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found.source == str(path)
    assert_same(found.state, state)


@pytest.mark.parametrize("layout", ["original", "transformers"])
def test_safetensors_and_legacy_files(tmp_path: Path, state: State, layout: str) -> None:
    tensors = state if layout == "original" else transformers_from_original(state)
    path = tmp_path / "weights.pt"  # the name says nothing
    save_file({k: v.clone() for k, v in tensors.items()}, path)
    assert_same(load_checkpoint(path).state, state)
    torch.save(tensors, path, _use_new_zipfile_serialization=False)
    assert_same(load_checkpoint(path).state, state)


def test_loads_into_the_reference_model(tmp_path: Path, state: State) -> None:
    found = load_checkpoint(saved(tmp_path / "w.pt", {"model": state}))
    result = build_model(found.config).load_state_dict(found.state, strict=True)
    assert (result.missing_keys, result.unexpected_keys) == ([], [])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32(tmp_path: Path, state: State, dtype: torch.dtype) -> None:
    path = saved(tmp_path / "w.pt", {k: v.to(dtype) for k, v in state.items()})
    assert_same(load_checkpoint(path).state, {k: v.to(dtype).float() for k, v in state.items()})


def test_folders(tmp_path: Path, state: State) -> None:
    saved(tmp_path / "checkpoint_40.pth", {"model": state})
    (tmp_path / "config.json").write_text("{}")
    assert_same(load_checkpoint(tmp_path).state, state)
    saved(tmp_path / "checkpoint_41.pth", {"model": state})
    assert message(tmp_path) == (
        f"expected one checkpoint in folder {tmp_path}, found checkpoint_40.pth, "
        "checkpoint_41.pth: name a file"
    )
    # the hub's folders hold both layouts of the same weights
    shifted = {k: v + 1 for k, v in transformers_from_original(state).items()}
    save_file(shifted, tmp_path / "model.safetensors")
    assert_same(load_checkpoint(tmp_path).state, {k: v + 1 for k, v in state.items()})


def test_folder_without_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("nothing")
    assert message(tmp_path) == (
        f"expected one checkpoint in folder {tmp_path}, found no file ending in .safetensors, "
        ".pt, .pth, .bin, .ckpt: name a file"
    )


def _shapes_only(name: str) -> State:
    """Tensors of the right shapes that take no memory."""
    with torch.device("meta"):
        expected = Sam2(MODELS[name]).state_dict()
    return {key: torch.zeros(()).expand(value.shape) for key, value in expected.items()}


@pytest.mark.parametrize("name", MODELS)
def test_variant_is_recognised_by_its_tensors(name: str) -> None:
    tensors = _shapes_only(name)
    assert recognised(Path("x"), tensors) == MODELS[name]
    theirs = plain_state(Path("x"), transformers_from_original(tensors))
    assert recognised(Path("x"), theirs) == MODELS[name]
    check_fit(Path("x"), theirs, MODELS[name], asked=False)


@pytest.mark.parametrize("name", ["micro", "micro20", "sam2.1_hiera_tiny"])
@pytest.mark.parametrize("theirs", [False, True])
def test_recorded_weights_arrive_bit_for_bit(tmp_path: Path, name: str, theirs: bool) -> None:
    weights = recipe_state(name)
    path = tmp_path / "w.safetensors"
    save_file(
        {k: v.clone() for k, v in transformers_from_original(weights).items()} if theirs else
        weights, path,
    )  # fmt: skip
    found = load_checkpoint(path)
    assert found.config == MODELS[name]
    as_arrays = {k: v.numpy() for k, v in found.state.items()}
    assert recipe_digest(as_arrays) == recipe_digest({k: v.numpy() for k, v in weights.items()})


def test_image_size(tmp_path: Path, state: State) -> None:
    path = saved(tmp_path / "w.pt", state)
    assert load_checkpoint(path, image_size=128).config.image_size == 128
    with pytest.raises(InputError, match="image size 100 is not legal"):
        load_checkpoint(path, image_size=100)


def test_model_that_is_not_in_the_table(tmp_path: Path) -> None:
    own = replace(MODELS["micro"], name="own", stages=(1, 1, 2, 1), global_att_blocks=(3,))
    weights = untrained_state(own)
    path = saved(tmp_path / "w.pt", weights)
    found = load_checkpoint(path, model=own)
    assert found.config == own
    assert_same(found.state, weights)
    assert message(path) == (
        f"{path} is of no known model; closest is micro, but it has stages (1, 1, 2, 1) instead "
        "of (1, 2, 3, 1): describe it to load_checkpoint with a ModelConfig"
    )


def test_asking_for_the_model_it_is(tmp_path: Path, state: State) -> None:
    path = saved(tmp_path / "w.pt", state)
    assert load_checkpoint(path, model="micro").config == MODELS["micro"]
    with pytest.raises(InputError, match="unknown model 'mikro'"):
        load_checkpoint(path, model="mikro")


def test_asking_for_another_family(tmp_path: Path, state: State) -> None:
    path = saved(tmp_path / "w.pt", state)
    assert message(path, model="micro20") == (
        f"{path} does not fit micro20, tensors 3 unexpected (no_obj_embed_spatial, "
        "obj_ptr_tpos_proj.weight, obj_ptr_tpos_proj.bias): it looks like micro"
    )


def test_asking_for_another_size(tmp_path: Path, state: State) -> None:
    path = saved(tmp_path / "w.pt", state)
    found = message(path, model="sam2.1_hiera_tiny")
    absent = [key for key in _shapes_only("sam2.1_hiera_tiny") if key not in state]
    missing = f"{len(absent)} missing ({', '.join(absent[:4])}, ...)"
    start = f"{path} does not fit sam2.1_hiera_tiny, tensors {missing}; "
    assert found.startswith(start)
    assert found.endswith(": it looks like micro")


def test_missing_and_unexpected_tensors_are_listed(tmp_path: Path, state: State) -> None:
    changed = dict(state)
    del changed["no_obj_ptr"], changed["obj_ptr_tpos_proj.bias"]
    changed["adapter.weight"] = torch.ones(2)
    changed["mask_downsample.bias"] = torch.ones(2)
    path = saved(tmp_path / "w.pt", {"model": changed})
    assert message(path) == (
        f"{path} does not fit micro, tensors 2 missing (no_obj_ptr, obj_ptr_tpos_proj.bias); "
        "1 unexpected (adapter.weight); 1 of another shape (mask_downsample.bias [2] instead of "
        "[1]): it looks like micro, changed or incomplete: download or save it again"
    )


def test_image_only_file(tmp_path: Path, state: State) -> None:
    kept = {
        k: v
        for k, v in transformers_from_original(state).items()
        if not k.startswith(
            ("memory_", "object_pointer", "mask_downsample", "temporal", "occlusion", "no_object")
        )
    }
    path = saved(tmp_path / "w.pt", kept)
    expected = (
        f"{path} holds the image part alone (Sam2Model of transformers?), without memory: use "
        "the whole model's checkpoint (Sam2VideoModel, or the original's .pt)"
    )
    assert message(path) == expected
    assert message(path, model="micro") == expected


def test_two_models_in_one_file(tmp_path: Path, state: State) -> None:
    both = {f"{part}.{k}": v for part in ("ema", "model") for k, v in state.items()}
    path = saved(tmp_path / "w.pt", both)
    assert message(path) == (
        f"{path} holds 2 models, under 'ema.', 'model.': save one of them alone"
    )


def test_two_averages(tmp_path: Path, state: State) -> None:
    path = saved(tmp_path / "w.pt", {"fast": state, "slow": state, "epoch": 3})
    assert message(path) == (
        f"{path} holds 2 models, under 'fast.', 'slow.': save one of them alone"
    )


def test_sam_1(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.pth", {"image_encoder.blocks.0.attn.rel_pos_h": torch.ones(1)})
    assert message(path) == (f"{path} is a checkpoint of SAM 1: sam2rt runs SAM 2 and SAM 2.1")


@pytest.mark.parametrize(
    ("content", "found"),
    [({"conv.weight": torch.ones(1), "epoch": 3}, "conv.weight, epoch"), ({}, "nothing")],
)
def test_another_network(tmp_path: Path, content: object, found: str) -> None:
    path = saved(tmp_path / "w.pt", content)
    assert message(path) == (
        f"{path} holds no SAM 2 weights: expected tensors such as "
        f"image_encoder.trunk.patch_embed.proj.weight, found {found}"
    )


def test_a_tensor_instead_of_a_state_dict(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.pt", torch.ones(3))
    assert message(path) == (
        f"{path} holds a Tensor, expected a state dict: save it as "
        "torch.save({'model': model.state_dict()}, path)"
    )


def test_safetensors_absent(tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    path = tmp_path / "w.safetensors"
    save_file(state, path)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(MissingExtraError, match=re.escape("pip install 'sam2rt[export]'")):
        load_checkpoint(path)


def test_names_are_downloaded(
    tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path / "fetched.pt", state)
    asked = []
    monkeypatch.setattr(
        loading, "download_checkpoint", lambda name, progress: asked.append(name) or path
    )
    for name in ("sam2.1_hiera_tiny", "sam2.1_hiera_t", "someone/finetuned"):
        found = load_checkpoint(name)
        assert found.source == name
        assert np.array_equal(found.state["no_obj_ptr"], state["no_obj_ptr"])
    assert asked == ["sam2.1_hiera_tiny", "sam2.1_hiera_t", "someone/finetuned"]
