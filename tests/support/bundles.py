"""Bundles and sessions that many tests share, exported once per run. Registered in conftest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from golden import recipe_state

from sam2rt.configs.bundle import Bundle
from sam2rt.configs.models import model_config
from sam2rt.runtime.backends.onnxruntime_session import OnnxRuntimeSession

if TYPE_CHECKING:
    from torch import Tensor

#: one thread at toy size: starting threads would cost more than they save
SMALL, LARGE = 1, 2


def exported(state: dict[str, Tensor], model: str, folder: Path) -> Bundle:
    """Export and prove a state dict as that model, under `folder`."""
    from sam2rt.export.bundle import export_bundle
    from sam2rt.export.checkpoint.load import Checkpoint

    checkpoint = Checkpoint(model_config(model), state, "0" * 64, "made by the tests")
    return export_bundle(checkpoint, folder / model, seed=0)


def opened(bundle: Bundle, threads: int) -> Iterator[OnnxRuntimeSession]:
    with OnnxRuntimeSession(bundle, threads=threads) as session:
        yield session


@pytest.fixture(scope="session")
def bundles_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bundles")


@pytest.fixture(scope="session")
def bundle(bundles_folder: Path) -> Bundle:
    """`micro` with untrained weights that find every object present; needs no recordings."""
    return exported(_always_present(), "micro", bundles_folder / "untrained")


def _always_present() -> dict[str, Tensor]:
    from sam2rt.export.model.untrained import untrained_state

    state = untrained_state(model_config("micro"))
    state["sam_mask_decoder.pred_obj_score_head.layers.2.bias"] += 100
    return state


@pytest.fixture(scope="session")
def rows_bundle(bundles_folder: Path) -> Bundle:
    """`bundle`, its objects tracked sequentially, as those of larger images are."""
    from sam2rt.export.graphs import graph_files as module

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PER_OBJECT_FROM", 16)
        return exported(_always_present(), "micro", bundles_folder / "rows")


@pytest.fixture(scope="session")
def session(bundle: Bundle) -> Iterator[OnnxRuntimeSession]:
    yield from opened(bundle, SMALL)


@pytest.fixture(scope="session")
def micro_bundle(bundles_folder: Path) -> Bundle:
    """The recordings' `micro`."""
    return exported(recipe_state("micro"), "micro", bundles_folder)


@pytest.fixture(scope="session")
def micro_session(micro_bundle: Bundle) -> Iterator[OnnxRuntimeSession]:
    yield from opened(micro_bundle, SMALL)


@pytest.fixture(scope="session")
def micro20_bundle(bundles_folder: Path) -> Bundle:
    """The recordings' `micro20`, of the 2.0 family."""
    return exported(recipe_state("micro20"), "micro20", bundles_folder)


@pytest.fixture(scope="session")
def micro20_session(micro20_bundle: Bundle) -> Iterator[OnnxRuntimeSession]:
    yield from opened(micro20_bundle, SMALL)


@pytest.fixture(scope="session")
def tiny_bundle(bundles_folder: Path) -> Bundle:
    """The recordings' sam2.1_hiera_tiny at 1024 pixels."""
    return exported(recipe_state("sam2.1_hiera_tiny"), "sam2.1_hiera_tiny", bundles_folder)


@pytest.fixture(scope="session")
def tiny_session(tiny_bundle: Bundle) -> Iterator[OnnxRuntimeSession]:
    yield from opened(tiny_bundle, LARGE)
