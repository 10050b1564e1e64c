"""Masks of a stream's frame in every form, equal to logits > 0, without making them all at once."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from sam2rt.runtime.pixels.rle import mask_from_rle
from sam2rt.runtime.pixels.upsample import upsample_bilinear
from sam2rt.runtime.predictors.stream_result import StreamResult, without_overlap


def smooth(objects: int, side: int = 32, seed: int = 0) -> np.ndarray:
    """Logits [N, side, side] of blobs on both sides of 0."""
    coarse = np.random.default_rng(seed).normal(size=(objects, 5, 5)).astype(np.float32) * 4
    return upsample_bilinear(coarse, (side, side))


def result(low: np.ndarray, size: tuple[int, int] = (75, 101), alone: bool = False) -> StreamResult:
    n = len(low)
    ones = np.ones(n, np.float32)
    return StreamResult(3, list(range(n)), ones, ones, low, size, alone)


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("size", [(75, 101), (32, 32), (20, 19)])
def test_every_form_is_the_logits_above_zero(size: tuple[int, int], alone: bool) -> None:
    made = result(smooth(4), size, alone)
    full = upsample_bilinear(smooth(4), size)
    if alone:
        winner = full.argmax(0)
        expected = np.stack([(full[i] > 0) & (winner == i) for i in range(4)])
    else:
        expected = full > 0
    assert 0 < expected.mean() < 1
    np.testing.assert_array_equal(made.logits > 0, expected)
    np.testing.assert_array_equal(made.masks, expected)
    np.testing.assert_array_equal(np.stack(list(made.each_mask())), expected)
    bits = np.unpackbits(made.bits(), axis=2, count=size[1])
    np.testing.assert_array_equal(bits.astype(bool), expected)
    np.testing.assert_array_equal([mask_from_rle(rle) for rle in made.rles()], expected)


def test_no_objects() -> None:
    made = result(np.zeros((0, 32, 32), np.float32))
    assert made.logits.shape == made.masks.shape == (0, 75, 101)
    assert made.bits().shape == (0, 75, 13)
    assert made.rles() == []


def test_a_tie_goes_to_the_first() -> None:
    low = np.stack([smooth(1)[0]] * 2)
    masks = result(low, alone=True).masks
    assert masks[0].any()
    assert not masks[1].any()


def test_overlap_is_resolved_in_place_a_band_at_a_time() -> None:
    full = upsample_bilinear(smooth(3), (200, 50))
    winner = full.argmax(0)
    expected = np.where(winner == np.arange(3)[:, None, None], full, np.minimum(full, -10))
    found = without_overlap(full)
    assert found is full
    np.testing.assert_array_equal(found, expected)


_LARGE = """
import re, sys
import numpy as np
sys.path.insert(0, sys.argv[2])
from test_stream_result import result, smooth

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read()).group(1)) / 1024

low = np.concatenate([smooth(10, 64, seed) for seed in range(10)])
made = result(low, (4320, 7680), sys.argv[1] == "True")
before = peak()
size = sum(len(rle["counts"]) for rle in made.rles())
print(peak() - before - size / 2**20)
"""


@pytest.mark.slow
@pytest.mark.parametrize("alone", [False, True])
def test_a_hundred_objects_on_8k_take_little_beyond_the_output(alone: bool) -> None:
    """256 MB at most beside the run lengths, measured in a process of its own."""
    from pathlib import Path

    command = [sys.executable, "-c", _LARGE, str(alone), str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 256e6 / 2**20
