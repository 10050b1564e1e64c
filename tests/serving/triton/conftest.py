"""Models as the server starts them, closed after their test."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import fake_triton
import pytest

from sam2rt.serving.sessions.limits import ServerLimits
from sam2rt.serving.triton.image_model import ServedImageModel
from sam2rt.serving.triton.stream_model import ServedStreamModel
from sam2rt.serving.triton.video_model import ServedVideoModel

MODELS = {"image": ServedImageModel, "stream": ServedStreamModel, "video": ServedVideoModel}


@pytest.fixture
def started(bundle: Any) -> Iterator[Callable[..., Any]]:
    """Starts a task's model with limits."""
    with ExitStack() as stack:

        def start(task: str, **limits: int) -> Any:
            kind = type("TritonPythonModel", (MODELS[task],), {"server": fake_triton})
            model = kind()
            chosen = dataclasses.replace(ServerLimits(), **limits)
            model.initialize(fake_triton.arguments(task, bundle.path, limits=chosen))
            stack.callback(model.finalize)
            return model

        yield start
