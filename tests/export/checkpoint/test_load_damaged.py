"""Damaged and hostile checkpoint files are refused in one line, and nothing of them is run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from checkpoint_files import State, message, saved
from safetensors.torch import save_file

from sam2rt.configs.errors import InputError
from sam2rt.configs.models import MODELS
from sam2rt.export.checkpoint.load import load_checkpoint
from sam2rt.export.model.untrained import untrained_state


@pytest.fixture(scope="module")
def state() -> State:
    return untrained_state(MODELS["micro"])


class Evil:
    """Unpickling this would run a command."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path("pwned").write_text, ("x",))


def test_nothing_but_tensors_is_unpickled(
    tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = saved(tmp_path / "w.pt", {"model": state, "extra": Evil()})
    found = message(path)
    assert found.startswith(f"{path} holds more than tensors (")
    assert found.endswith(
        "), which is never unpickled: save its state dict alone, "
        "torch.save({'model': model.state_dict()}, path)"
    )
    assert not Path("pwned").exists()


@pytest.mark.parametrize("kind", ["torch", "safetensors"])
@pytest.mark.parametrize("keep", [0.5, 0.999])
def test_truncated(tmp_path: Path, state: State, kind: str, keep: float) -> None:
    path = tmp_path / "w.pt"
    if kind == "torch":
        torch.save({"model": state}, path)
        what = "checkpoint"
    else:
        save_file(state, path)
        what = "safetensors file"
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    found = message(path)
    assert found.startswith(f"{path} is no {what}, or truncated (")
    assert found.endswith("): download or save it again")


@pytest.mark.parametrize(
    "content",
    [b"<html>not found</html>", b"version https://git-lfs.github.com/spec/v1\n", bytes(1000)],
)
def test_not_a_checkpoint(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w.pt"
    path.write_bytes(content)
    assert message(path).startswith(f"{path} is no checkpoint, or truncated (")


def test_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    path.touch()
    assert message(path) == f"{path} is empty: download or save it again"


def test_absent_file(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    assert message(path) == (
        f"{path} is neither a file nor a folder, nor an official name such as "
        "sam2.1_hiera_tiny, nor a hub id such as facebook/sam2.1-hiera-tiny"
    )
    assert message("weights/absent.pt").startswith("weights/absent.pt is neither a file")


@pytest.mark.parametrize(
    ("name", "ending"),
    [
        ("sam2.1_hiera_tyni", ": did you mean sam2.1_hiera_tiny?"),
        ("sam2.1_hiera_tiny.pt", ": did you mean sam2.1_hiera_tiny?"),
        ("sam2-hiera-larg", ": did you mean sam2_hiera_large?"),
        ("sam2rt_mikro", ": did you mean sam2rt_micro?"),
        ("nonsense", ": names are sam2rt_micro, sam2.1_hiera_tiny, sam2.1_hiera_small, "
         "sam2.1_hiera_base_plus, sam2.1_hiera_large, sam2_hiera_tiny, sam2_hiera_small, "
         "sam2_hiera_base_plus, sam2_hiera_large"),
    ],
)  # fmt: skip
def test_a_misspelt_name_brings_what_was_meant(
    name: str, ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message(name) == (
        f"{name} is neither a file nor a folder, nor an official name such as sam2.1_hiera_tiny, "
        f"nor a hub id such as facebook/sam2.1-hiera-tiny{ending}"
    )


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(tmp_path: Path, state: State, bad: float) -> None:
    changed = {**state, "no_obj_ptr": torch.full((1, 64), bad)}
    path = saved(tmp_path / "w.pt", changed)
    assert message(path) == (
        f"{path}: no_obj_ptr holds NaN or infinity, and so do 0 more tensors (did the training "
        "diverge?): use an earlier checkpoint"
    )


def test_weights_beyond_float32(tmp_path: Path, state: State) -> None:
    changed = {**state, "no_obj_ptr": torch.full((1, 64), 1e300, dtype=torch.float64)}
    path = saved(tmp_path / "w.pt", changed)
    assert message(path).startswith(f"{path}: no_obj_ptr holds NaN or infinity, ")


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (torch.Tensor.to_sparse, "torch.sparse_coo"),
        (lambda value: value.to("meta"), "meta, without values"),
    ],
    ids=["sparse", "meta"],
)
def test_weights_that_are_no_plain_tensors(
    tmp_path: Path, state: State, change: Callable[[torch.Tensor], torch.Tensor], found: str
) -> None:
    path = saved(tmp_path / "w.pt", {**state, "no_obj_ptr": change(state["no_obj_ptr"])})
    assert message(path) == (
        f"{path}: no_obj_ptr is {found}, expected a dense tensor: download or save it again"
    )


def test_a_source_that_is_no_path() -> None:
    with pytest.raises(InputError, match="checkpoint is 3: expected a file, a folder or a name"):
        load_checkpoint(3)  # type: ignore[arg-type]


def test_integer_weights(tmp_path: Path, state: State) -> None:
    path = saved(tmp_path / "w.pt", {k: v.to(torch.int8) for k, v in state.items()})
    assert message(path) == (
        f"{path}: maskmem_tpos_enc is torch.int8, expected floating point (a quantised "
        "checkpoint?): use the original weights"
    )
