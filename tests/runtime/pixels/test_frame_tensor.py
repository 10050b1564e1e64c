"""Pixels in and out of the model, against the recordings, torch, and scalar arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from golden import data_path, golden_set
from PIL import Image

from sam2rt import FrameError
from sam2rt.runtime.pixels import frame_tensor as pixels
from sam2rt.runtime.pixels import upsample
from sam2rt.runtime.pixels.antialias import resize_antialias
from sam2rt.runtime.pixels.frame_tensor import check_frame, image_tensor, video_frame_tensor
from sam2rt.runtime.pixels.upsample import upsample_bilinear, upsample_mask

F32 = np.float32


def _picture(name: str) -> Any:
    return np.asarray(Image.open(data_path(name)).convert("RGB"))


@pytest.mark.parametrize("model", ["micro", "sam2.1_hiera_t"])
def test_image_tensor_equals_the_recorded_one(model: str) -> None:
    golden = golden_set(model)
    tensor = image_tensor(_picture("truck.jpg"), golden.manifest["image_size"])
    assert tensor.dtype == F32
    assert tensor.flags.c_contiguous
    golden.compare("truck.input", tensor[None], atol=2e-6)


@pytest.mark.parametrize("model", ["micro", "sam2.1_hiera_t"])
def test_video_frame_tensor_has_the_recorded_bits(model: str) -> None:
    golden = golden_set(model)
    tensor = video_frame_tensor(_picture("bedroom/00000.jpg"), golden.manifest["image_size"])
    assert golden.compare("bedroom0.input", tensor[None], atol=1e-12) == 0.0


def test_every_recorded_frame_is_resized_to_its_bits() -> None:
    frames = golden_set("micro").array("resized_u8", "v_frames")
    for i, recorded in enumerate(frames):
        table = ((np.arange(256) / 255.0).astype(F32) - pixels.MEAN[:, None]) / pixels.STD[:, None]
        expected = np.stack([table[c][recorded[..., c]] for c in range(3)])
        made = video_frame_tensor(_picture(f"bedroom/{i:05d}.jpg"), 256)
        np.testing.assert_array_equal(made, expected)


@pytest.mark.parametrize(
    ("size", "target"),
    [((33, 50), (16, 16)), ((20, 7), (64, 48)), ((40, 30), (30, 40)), ((9, 9), (9, 9))],
)
def test_antialiased_resize_equals_torch(size: tuple[int, int], target: tuple[int, int]) -> None:
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).normal(size=(2, 3, *size)).astype(F32)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(x), target, mode="bilinear", antialias=True, align_corners=False
    ).numpy()
    np.testing.assert_allclose(resize_antialias(x, target), expected, atol=1e-6, rtol=0)


def test_antialiased_resize_of_masks_makes_no_other_choice_than_torch() -> None:
    torch = pytest.importorskip("torch")
    yy, xx = np.mgrid[:540, :960]
    mask = ((yy - 200) ** 2 + (xx - 333) ** 2 < 150**2) | ((yy > 300) & (xx % 90 < 31))
    for side in (256, 512, 1024):
        expected = torch.nn.functional.interpolate(
            torch.from_numpy(mask[None, None].astype(F32)), (side, side),
            mode="bilinear", antialias=True, align_corners=False,
        ).numpy()[0, 0]  # fmt: skip
        made = resize_antialias(mask.astype(F32), (side, side))
        np.testing.assert_array_equal(made >= 0.5, expected >= 0.5)


def test_a_constant_stays_constant_whatever_the_size() -> None:
    flat = np.full((37, 61), 3.0, F32)
    for size in ((5, 7), (64, 64), (37, 100)):
        np.testing.assert_allclose(resize_antialias(flat, size), 3.0, rtol=1e-6)
        np.testing.assert_allclose(upsample_bilinear(flat, size), 3.0, rtol=1e-6)


@pytest.mark.parametrize("target", [(540, 960), (100, 77), (64, 64), (63, 130), (1, 1)])
def test_upsampling_equals_torch(target: tuple[int, int]) -> None:
    torch = pytest.importorskip("torch")
    x = (np.random.default_rng(1).normal(size=(2, 1, 64, 64)) * 10).astype(F32)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(x), target, mode="bilinear", align_corners=False
    ).numpy()
    np.testing.assert_allclose(upsample_bilinear(x, target), expected, atol=2e-5, rtol=0)


def _upsampled_by_hand(plane: Any, size: tuple[int, int]) -> Any:
    """One pixel at a time, what another implementation would write."""

    def source(i: int, n_in: int, n_out: int) -> tuple[int, int, Any, Any]:
        # float64 stands for a fused multiply-add: the product is exact, the sum rounds once
        at = max(F32(float(F32(n_in) / F32(n_out)) * (i + 0.5) - 0.5), F32(0))
        low = min(int(at), n_in - 1)
        weight = min(at - F32(low), F32(1))
        return low, min(low + 1, n_in - 1), F32(1) - weight, weight

    out = np.empty(size, F32)
    for y in range(size[0]):
        top, bottom, wt, wb = source(y, plane.shape[0], size[0])
        for x in range(size[1]):
            left, right, wl, wr = source(x, plane.shape[1], size[1])
            upper = plane[top, left] * wl + plane[top, right] * wr
            lower = plane[bottom, left] * wl + plane[bottom, right] * wr
            out[y, x] = upper * wt + lower * wb
    return out


@pytest.mark.parametrize("target", [(13, 29), (50, 40), (5, 6)])
def test_upsampling_has_the_bits_of_scalar_arithmetic(target: tuple[int, int]) -> None:
    plane = (np.random.default_rng(2).normal(size=(16, 12)) * 20).astype(F32)
    np.testing.assert_array_equal(
        upsample_bilinear(plane, target), _upsampled_by_hand(plane, target)
    )


@pytest.mark.parametrize("threshold", [0.0, 0.3, -2.0])
def test_upsampled_mask_is_the_thresholded_logits(threshold: float, monkeypatch: Any) -> None:
    x = (np.random.default_rng(3).normal(size=(2, 3, 16, 16)) * 5).astype(F32)
    expected = upsample_bilinear(x, (101, 57)) > F32(threshold)
    np.testing.assert_array_equal(upsample_mask(x, (101, 57), threshold), expected)
    monkeypatch.setattr(upsample, "_BLOCK", 57 * 4)  # many blocks, a short last one
    np.testing.assert_array_equal(upsample_mask(x, (101, 57), threshold), expected)
    np.testing.assert_array_equal(upsample_bilinear(x, (101, 57)) > F32(threshold), expected)


def test_no_objects_upsample_to_no_masks() -> None:
    assert upsample_bilinear(np.empty((0, 1, 8, 8), F32), (20, 30)).shape == (0, 1, 20, 30)
    assert upsample_mask(np.empty((0, 8, 8), F32), (20, 30)).shape == (0, 20, 30)


def test_frames_of_every_kind_become_rgb() -> None:
    rgb = np.random.default_rng(4).integers(0, 256, (6, 5, 3), np.uint8)
    assert check_frame(rgb) is not None
    np.testing.assert_array_equal(check_frame(rgb), rgb)
    rgba = np.dstack([rgb, np.full((6, 5), 7, np.uint8)])
    np.testing.assert_array_equal(check_frame(rgba), rgb)
    grey = rgb[..., 0]
    for frame in (grey, grey[..., None]):
        np.testing.assert_array_equal(check_frame(frame), np.dstack([grey] * 3))
    flipped = rgb[::-1, ::2]
    assert not flipped.flags.c_contiguous
    assert check_frame(flipped).flags.c_contiguous
    np.testing.assert_array_equal(check_frame(flipped), flipped)
    np.testing.assert_array_equal(check_frame(Image.fromarray(rgba)), rgb)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (np.zeros((4, 4, 3), F32), r"uint8, got float32: use \(frame \* 255\)"),
        (np.full((4, 4, 3), 200.0), r"uint8, got float64: use frame\.round"),
        (np.full((4, 4, 3), np.nan), r"uint8, got float64: use \(frame \* 255\)"),
        (np.zeros((4, 4, 3), bool), "got bool: use frame.astype"),
        (np.zeros((4, 4, 3), np.uint16), "got uint16: scale it"),
        (np.zeros((0, 4, 3), np.uint8), r"no pixels \(shape \(0, 4, 3\)\)"),
        (np.zeros((3, 40, 40), np.uint8), r"use frame.transpose\(1, 2, 0\)"),
        (np.zeros((1, 4, 4, 3), np.uint8), "one frame at a time"),
        (np.zeros((4, 4, 2), np.uint8), r"must be \[H, W, 3\], got shape \(4, 4, 2\)"),
        (np.zeros(4, np.uint8), r"got shape \(4,\)"),
        ("frame.png", "must be uint8"),
    ],
)
def test_other_frames_are_refused_with_a_remedy(frame: Any, message: str) -> None:
    with pytest.raises(FrameError, match=message) as caught:
        check_frame(frame)
    assert "\n" not in str(caught.value)
