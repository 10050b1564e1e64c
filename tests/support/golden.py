"""The recordings of the original implementation: where they lie, how to read and compare them.

Tests call :func:`golden_set`, :func:`recipe_state` and :func:`noise`; each skips the test with
one reason where the recordings are absent. Arrays that were too large to store whole are kept
as ``name__sample``, ``name__stats``, ``name__bits`` or ``name__grid``: :meth:`GoldenSet.compare`
finds whichever exists.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import re
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    import torch

ENV = "SAM2RT_SHARED"
#: at 1024 pixels a call takes seconds
TINY = pytest.param("sam2.1_hiera_t", marks=pytest.mark.slow)
#: slots of a ``__stats`` array
STATS = ("mean", "std", "min", "max", "sum of |x|")


def shared_dir() -> Path | None:
    """Folder holding ``golden/`` and ``data/``: $SAM2RT_SHARED, else ``../shared``; or None."""
    named = os.environ.get(ENV)
    root = Path(named) if named else Path(__file__).resolve().parents[3] / "shared"
    return root if (root / "golden").is_dir() else None


def require_shared() -> Path:
    """:func:`shared_dir`, or skip the test."""
    root = shared_dir()
    if root is None:
        pytest.skip(f"recordings absent: set {ENV} or put them into ../shared beside the checkout")
    return root


def data_path(name: str) -> Path:
    """A real image, clip or folder of frames, such as ``truck.jpg``; skips when absent."""
    return require_shared() / "data" / name


@functools.cache
def _recipe() -> ModuleType:
    path = require_shared() / "golden" / "weights_recipe.py"
    spec = importlib.util.spec_from_file_location("sam2rt_weights_recipe", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_SHORT = {"_tiny": "_t", "_small": "_s", "_base_plus": "_b+", "_large": "_l"}


def variant_name(model: str) -> str:
    """The recordings' short name of a model: sam2.1_hiera_tiny -> sam2.1_hiera_t."""
    for long, short in _SHORT.items():
        if model.endswith(long):
            return model.removesuffix(long) + short
    return model


def recipe_arrays(variant: str, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """The recipe's state dict (original key names) as numpy arrays."""
    state: dict[str, NDArray[np.float32]] = _recipe().state_for(variant_name(variant), seed)
    return state


def recipe_state(variant: str, seed: int = 0) -> dict[str, torch.Tensor]:
    """The recipe's state dict (original key names) as torch tensors."""
    import torch

    return {k: torch.from_numpy(v) for k, v in recipe_arrays(variant, seed).items()}


def recipe_digest(state: dict[str, NDArray[np.float32]]) -> int:
    """The recipe's checksum of a state, ``state_crc32`` of a manifest."""
    return int(_recipe().digest(state))


def noise(name: str, shape: tuple[int, ...], scale: float = 1.0) -> NDArray[np.float32]:
    """The synthetic input of that name, as the recordings used it."""
    count = int(np.prod(shape))
    values: NDArray[np.float32] = _recipe().noise("input:" + name, count, 777)
    return values.reshape(shape) * np.float32(scale)


class GoldenSet:
    """One recorded set: a manifest and lazily read npz files.

    The same array name never occurs in two files of kind a, b, c or e; video arrays repeat
    their names per scenario, so those are read with ``file="v_V1"``.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.manifest: dict[str, Any] = json.loads((root / "manifest.json").read_text())
        self._meta = {(m["file"].removesuffix(".npz"), m["name"]): m for m in self._entries()}
        self._files: dict[str, Any] = {}

    def _entries(self) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = self.manifest["arrays"]
        return entries

    def names(self, file: str) -> list[str]:
        """Array names of one npz file (``"c_graphs"``), in recorded order."""
        return [name for held, name in self._meta if held == file]

    def values(self, file: str) -> set[str]:
        """Names of the recorded values of one npz file, whatever form they are stored in."""
        return {re.sub(r"__(sample|stats|grid|bits|near0)$", "", n) for n in self.names(file)}

    def file_of(self, name: str) -> str:
        """The npz file that holds `name`, KeyError when none does."""
        found = [held for held, held_name in self._meta if held_name == name]
        if not found:
            raise KeyError(f"{name} is not among the arrays of {self.root.name}")
        return found[0]

    def meta(self, name: str, file: str | None = None) -> dict[str, Any]:
        return self._meta[(file or self.file_of(name), name)]

    def has(self, name: str, file: str | None = None) -> bool:
        if file is not None:
            return (file, name) in self._meta
        return any(held == name for _, held in self._meta)

    def array(self, name: str, file: str | None = None) -> NDArray[Any]:
        """One stored array, as it lies in the file."""
        held = file or self.file_of(name)
        if held not in self._files:
            self._files[held] = np.load(self.root / f"{held}.npz")
        array: NDArray[Any] = self._files[held][name]
        return array

    def masks(self, name: str, file: str | None = None) -> NDArray[np.bool_]:
        """Masks stored as ``name__bits``, unpacked to their recorded shape."""
        key = name + "__bits"
        width = self.meta(key, file)["unpacked_shape"][-1]
        return np.unpackbits(self.array(key, file), axis=-1)[..., :width].astype(bool)

    def compare(
        self, name: str, actual: ArrayLike, *, atol: float, rtol: float = 0.0,
        file: str | None = None,
    ) -> float:  # fmt: skip
        """Assert that `actual` equals the recording of `name`; return the largest difference.

        Uses every stored form of it: the array itself, ``__sample`` with ``__stats``, ``__grid``,
        ``__bits`` (there as many pixels may differ as ``__near0`` counts below 1e-3).
        """
        value = np.asarray(actual)
        worst = [
            check(key, value, atol, rtol, file)
            for suffix, check in self._forms().items()
            if self.has(key := name + suffix, file)
        ]
        if not worst:
            raise KeyError(f"nothing is recorded for {name} in {self.root.name}")
        return max(worst)

    def _forms(self) -> dict[str, Any]:
        return {
            "": self._check_whole,
            "__sample": self._check_sample,
            "__stats": self._check_stats,
            "__grid": self._check_grid,
            "__bits": self._check_bits,
        }

    def _check_whole(
        self, key: str, value: NDArray[Any], atol: float, rtol: float, file: str | None
    ) -> float:
        return assert_close(key, value, self.array(key, file), atol, rtol)

    def _check_sample(
        self, key: str, value: NDArray[Any], atol: float, rtol: float, file: str | None
    ) -> float:
        meta = self.meta(key, file)
        assert value.shape == tuple(meta["full_shape"]), key
        sample = np.ascontiguousarray(value).ravel()[:: meta["stride"]]
        return assert_close(key, sample, self.array(key, file), atol, rtol)

    def _check_stats(
        self, key: str, value: NDArray[Any], atol: float, rtol: float, file: str | None
    ) -> float:
        exact = value.astype(np.float64)
        found = [exact.mean(), exact.std(), exact.min(), exact.max(), np.abs(exact).sum()]
        expected = self.array(key, file)
        # the sum grows with the number of elements: compare it as a mean
        scale = np.array([1, 1, 1, 1, exact.size], np.float64)
        return assert_close(key, np.array(found) / scale, expected / scale, atol, rtol)

    def _check_grid(
        self, key: str, value: NDArray[Any], atol: float, rtol: float, file: str | None
    ) -> float:
        match = re.search(r"\[5::(\d+)", self.meta(key, file)["meaning"])
        assert match is not None, f"{key}: its meaning names no grid step"
        step = int(match.group(1))
        return assert_close(key, value[..., 5::step, 5::step], self.array(key, file), atol, rtol)

    def _check_bits(
        self, key: str, value: NDArray[Any], atol: float, rtol: float, file: str | None
    ) -> float:
        name = key.removesuffix("__bits")
        mask = value if value.dtype == bool else value > 0
        flips = int(np.count_nonzero(mask != self.masks(name, file)))
        allowed = self.near_zero(name, file)
        assert flips <= allowed, f"{key}: {flips} mask pixels differ, at most {allowed} may"
        return 0.0

    def near_zero(self, name: str, file: str | None = None, column: int = 1) -> int:
        """Pixels with |logit| below 1e-4, 1e-3 or 1e-2 (column 0, 1, 2): harmless flips."""
        key = name + "__near0"
        return int(self.array(key, file).reshape(-1, 3)[:, column].sum()) if self.has(key) else 0


def assert_close(
    name: str, actual: NDArray[Any], expected: NDArray[Any], atol: float, rtol: float = 0.0
) -> float:
    """Assert |actual - expected| <= atol + rtol * |expected|; return the largest difference."""
    assert actual.shape == expected.shape, f"{name}: {actual.shape} instead of {expected.shape}"
    difference = np.abs(actual.astype(np.float64) - expected.astype(np.float64))
    excess = difference - rtol * np.abs(expected.astype(np.float64))
    worst = float(difference.max(initial=0.0))
    over = float(excess.max(initial=0.0))
    assert over <= atol, f"{name}: differs by {worst:.3g} (bound {atol:g} + {rtol:g} relative)"
    return worst


@functools.cache
def golden_set(name: str) -> GoldenSet:
    """A recorded set: micro, micro20, micro_bf16 or sam2.1_hiera_t; skips when absent."""
    return GoldenSet(require_shared() / "golden" / variant_name(name))
