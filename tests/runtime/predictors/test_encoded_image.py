"""An image encoded by one predictor is segmented by another one, to the same bits."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from square_clip import CLICK, moving_square

from sam2rt import ImagePredictor
from sam2rt.configs.errors import InputError, StateError


def test_another_predictor_in_another_thread_gives_the_same_masks(session):
    one = ImagePredictor(session.bundle, session=session)
    one.set_image(moving_square(1)[0])
    kept = one.encoded_image
    expected = one.predict(CLICK["points"], CLICK["labels"])
    assert kept.size == moving_square(1).shape[1:3]
    found = []

    def work() -> None:
        other = ImagePredictor(session.bundle, session=session)
        other.set_encoded(kept)
        found.extend(other.predict(CLICK["points"], CLICK["labels"]))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert len(found) == 3
    for mine, theirs in zip(expected, found, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_what_is_no_encoded_image_is_refused(session):
    image = ImagePredictor(session.bundle, session=session)
    with pytest.raises(StateError, match="no image is set: call set_image first"):
        _ = image.encoded_image
    with pytest.raises(InputError, match="image is 3: expected a predictor's encoded_image"):
        image.set_encoded(3)
    assert not image.is_image_set
