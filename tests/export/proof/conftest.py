"""A reference without training, and what it recorded."""

from __future__ import annotations

import pytest

from sam2rt.configs.models import MODELS
from sam2rt.export.model.reference import ReferenceSession
from sam2rt.export.model.sam2 import build_model
from sam2rt.export.model.untrained import untrained_state
from sam2rt.export.proof.record import Record, record

CONFIG = MODELS["micro"]


@pytest.fixture(scope="module")
def reference() -> ReferenceSession:
    model = build_model(CONFIG)
    model.load_state_dict(untrained_state(CONFIG))
    return ReferenceSession(model)


@pytest.fixture(scope="module")
def recorded(reference: ReferenceSession) -> Record:
    return record(reference, 7)
