"""Their small models, and bundles made from files they saved."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from transformers_oracle import Pair


@pytest.fixture(scope="session", params=["2.1", "2.0"])
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    import transformers_oracle as oracle

    from sam2rt.export.bundle import export_bundle
    from sam2rt.export.checkpoint.load import load_checkpoint
    from sam2rt.runtime.backends.onnxruntime_session import OnnxRuntimeSession

    folder = tmp_path_factory.mktemp(f"oracle{request.param}")
    config = oracle.small_config(request.param)
    state = oracle.weights(config)
    theirs = oracle.video_model(config, state)
    theirs.save_pretrained(folder / "hub")
    checkpoint = load_checkpoint(folder / "hub", model=config)
    bundle = export_bundle(checkpoint, folder / "bundle", seed=0, threads=1)
    with OnnxRuntimeSession(bundle, threads=1) as session:
        yield oracle.Pair(config, state, theirs, checkpoint, bundle, session)
