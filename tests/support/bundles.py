"""Bundles and sessions that many tests share, exported once per run. Registered in conftest.

A run may have several processes (pytest-xdist): they share one folder, and a lock per bundle lets
the first that needs it export it while the others wait.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from golden import recipe_state, shared_dir
from locks import locked

from sam2rt.configs.bundle import Bundle
from sam2rt.configs.models import model_config
from sam2rt.runtime.backends.onnxruntime_session import OnnxRuntimeSession

if TYPE_CHECKING:
    from torch import Tensor

#: one thread at toy size: starting threads would cost more than they save
SMALL, LARGE = 1, 2


class SharedBundles:
    """Exports by what decides them: weights, model, options. Copy one before changing its files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def once(self, name: str, make: Callable[[Path], object]) -> Path:
        """The file or folder of that name, which `make` writes whole or not at all."""
        target = self._folder / name
        with locked(self._folder / f"{name}.lock"):
            if not target.exists():
                make(target)
        return target

    def weights(self, model: str = "micro", seed: int = 0) -> Path:
        """A checkpoint file with untrained weights."""

        def save(path: Path) -> None:
            import torch

            from sam2rt.export.model.untrained import untrained_state

            torch.save({"model": untrained_state(model_config(model), seed)}, path)

        return self.once(f"{model}-untrained{seed}.pt", save)

    def untrained(self, model: str = "micro", weights: int = 0, **options: Any) -> Bundle:
        """The bundle of the file :meth:`weights` with that seed."""
        return self._exported(
            f"{model}-untrained{weights}", lambda: self.weights(model, weights), options
        )

    def built_in(self, **options: Any) -> Bundle:
        """The bundle of the trained model that ships with the package."""
        return self._exported("built-in", lambda: "sam2rt_micro", options)

    def of_state(
        self, name: str, model: str, state: Callable[[], dict[str, Tensor]], **options: Any
    ) -> Bundle:
        """The bundle of a state dict; `name` says which, and what else decides the export."""
        from sam2rt.export.checkpoint.load import Checkpoint

        return self._exported(
            f"{model}-{name}",
            lambda: Checkpoint(model_config(model), state(), "0" * 64, "made by the tests"),
            options,
        )

    def _exported(self, name: str, source: Callable[[], Any], options: dict[str, Any]) -> Bundle:
        from sam2rt.export.bundle import export_bundle

        options = {"threads": SMALL, **options}
        named = "-".join([name, *(f"{key}={options[key]}" for key in sorted(options))])
        return Bundle.load(
            self.once(named, lambda target: export_bundle(source(), target, **options)),
            check_hashes=False,
        )


@pytest.fixture(scope="session")
def shared_bundles(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> SharedBundles:
    base = tmp_path_factory.getbasetemp()
    # a worker's folder lies in that of the run
    folder = (base.parent if hasattr(request.config, "workerinput") else base) / "bundles"
    folder.mkdir(exist_ok=True)
    return SharedBundles(folder)


def opened(bundle: Bundle, threads: int) -> Iterator[OnnxRuntimeSession]:
    with OnnxRuntimeSession(bundle, threads=threads) as session:
        yield session


@pytest.fixture(scope="session")
def bundle(shared_bundles: SharedBundles) -> Bundle:
    """`micro` with untrained weights that find every object present; needs no recordings."""
    return shared_bundles.of_state("always-present", "micro", _always_present, seed=0)


def _always_present(model: str = "micro") -> dict[str, Tensor]:
    from sam2rt.export.model.untrained import untrained_state

    state = untrained_state(model_config(model))
    state["sam_mask_decoder.pred_obj_score_head.layers.2.bias"] += 100
    return state


@pytest.fixture(scope="session")
def per_object_bundle(shared_bundles: SharedBundles) -> Bundle:
    """`bundle`, its objects tracked sequentially as those of larger images are."""
    from sam2rt.export.graphs import graph_files as module

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PER_OBJECT_FROM", 16)
        return shared_bundles.of_state("per object", "micro", _always_present, seed=0)


@pytest.fixture(scope="session")
def session(bundle: Bundle) -> Iterator[OnnxRuntimeSession]:
    yield from opened(bundle, SMALL)


def _recipe_bundle(shared: SharedBundles, model: str, threads: int = SMALL) -> Bundle:
    """With the recordings' weights; small models without recordings with others.

    What compares two runtimes needs no recordings, what reads one skips by itself.
    """
    if shared_dir() is None and model in ("micro", "micro20"):
        return shared.of_state("always-present", model, lambda: _always_present(model), seed=0)
    return shared.of_state("recipe", model, lambda: recipe_state(model), seed=0, threads=threads)


@pytest.fixture(scope="session")
def micro_bundle(shared_bundles: SharedBundles) -> Bundle:
    """The recordings' `micro`."""
    return _recipe_bundle(shared_bundles, "micro")


@pytest.fixture(scope="session")
def micro_session(micro_bundle: Bundle) -> Iterator[OnnxRuntimeSession]:
    yield from opened(micro_bundle, SMALL)


@pytest.fixture(scope="session")
def micro20_bundle(shared_bundles: SharedBundles) -> Bundle:
    """The recordings' `micro20`, of the 2.0 family."""
    return _recipe_bundle(shared_bundles, "micro20")


@pytest.fixture(scope="session")
def micro20_session(micro20_bundle: Bundle) -> Iterator[OnnxRuntimeSession]:
    yield from opened(micro20_bundle, SMALL)


@pytest.fixture(scope="session")
def tiny_bundle(shared_bundles: SharedBundles) -> Bundle:
    """The recordings' sam2.1_hiera_tiny at 1024 pixels: the one official export of CI."""
    return _recipe_bundle(shared_bundles, "sam2.1_hiera_tiny", LARGE)


@pytest.fixture(scope="session")
def tiny_session(tiny_bundle: Bundle) -> Iterator[OnnxRuntimeSession]:
    yield from opened(tiny_bundle, LARGE)
