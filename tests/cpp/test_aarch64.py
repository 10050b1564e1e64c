"""The C++ library of 64-bit ARM, built here and run by QEMU: NEON's pixels have the bits of Python,
tracking keeps the bounds of the recordings."""

from __future__ import annotations

from pathlib import Path

import cpp_cases
import pytest
from arm_emulator import arm_root, run_on_arm
from cpp_build import require_arm
from golden import data_path, golden_set

from sam2rt.configs.bundle import Bundle
from sam2rt.runtime.media.images import read_image

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    require_arm()
    return arm_root(tmp_path_factory.mktemp("arm") / "root")


@pytest.mark.parametrize(("name", "count"), [("unit", 11), ("pixels", 5), ("predictors", 15)])
def test_what_needs_no_model(name: str, count: int, root: Path, micro_bundle: Bundle) -> None:
    assert run_on_arm(root, name, micro_bundle.path).count("ok ") == count


def test_frames_of_any_size_and_format_have_the_bits_of_python(
    root: Path, tmp_path: Path, micro_bundle: Bundle
) -> None:
    """Of Python on this machine: the resize has no rounding that differs."""
    case = cpp_cases.frame_tensors(tmp_path / "pixels", micro_bundle.model.image_size)
    assert run_on_arm(root, "replay", micro_bundle.path, "1", case).count("ok ") == 1


@pytest.mark.parametrize("scenario", ["V1", "V2", "V4", "V9"])
def test_recorded_videos(scenario: str, root: Path, tmp_path: Path, micro_bundle: Bundle) -> None:
    """Logits, scores and masks of the original, with the bounds of every other processor."""
    case = cpp_cases.golden_video(tmp_path / "case", golden_set("micro"), scenario)
    assert run_on_arm(root, "replay", micro_bundle.path, "1", case).count("ok ") == 1


def test_recorded_images(root: Path, tmp_path: Path, micro_bundle: Bundle) -> None:
    image = read_image(data_path("truck.jpg"))
    case = cpp_cases.golden_image(tmp_path / "case", golden_set("micro"), image)
    assert run_on_arm(root, "replay", micro_bundle.path, "1", case).count("ok ") == 1
