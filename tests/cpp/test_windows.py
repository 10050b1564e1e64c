"""The C++ library of Windows, built here by MinGW and run by Wine with ONNX Runtime's own library
for Windows: tracking keeps the bounds of the recordings, paths may have any letters and length."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import cpp_cases
import numpy as np
import pytest
from cpp_build import SOURCE, built, program, require_toolchain, require_windows, run
from golden import data_path, golden_set
from windows_programs import run_on_windows, windows_path

from sam2rt import ImagePredictor
from sam2rt.configs.bundle import Bundle
from sam2rt.runtime.media.images import read_image
from sam2rt.runtime.session import Session

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    require_windows()
    folder = tmp_path_factory.mktemp("windows")
    yield folder
    # its disk takes hundreds of megabytes
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize(("name", "count"), [("unit", 11), ("pixels", 5), ("predictors", 15)])
def test_what_needs_no_model(name: str, count: int, home: Path, micro_bundle: Bundle) -> None:
    assert run_on_windows(home, name, micro_bundle.path).count("ok ") == count


def test_frames_of_any_size_and_format_have_the_bits_of_python(
    home: Path, tmp_path: Path, micro_bundle: Bundle
) -> None:
    case = cpp_cases.frame_tensors(tmp_path / "pixels", micro_bundle.model.image_size)
    assert run_on_windows(home, "replay", micro_bundle.path, "1", case).count("ok ") == 1


@pytest.mark.parametrize("scenario", ["V1", "V2", "V4", "V9"])
def test_recorded_videos(scenario: str, home: Path, tmp_path: Path, micro_bundle: Bundle) -> None:
    case = cpp_cases.golden_video(tmp_path / "case", golden_set("micro"), scenario)
    assert run_on_windows(home, "replay", micro_bundle.path, "1", case).count("ok ") == 1


def test_recorded_images(home: Path, tmp_path: Path, micro_bundle: Bundle) -> None:
    image = read_image(data_path("truck.jpg"))
    case = cpp_cases.golden_image(tmp_path / "case", golden_set("micro"), image)
    assert run_on_windows(home, "replay", micro_bundle.path, "1", case).count("ok ") == 1


def test_masks_have_the_bits_of_linux(
    home: Path, tmp_path: Path, micro_bundle: Bundle, micro_session: Session
) -> None:
    frames = np.random.default_rng(3).integers(0, 256, (12, 60, 80, 3), np.uint8)
    case = cpp_cases.python_stream(
        tmp_path / "stream", micro_session, frames,
        [(0, 1, {"points": [[20, 30]], "labels": [1]}),
         (4, 2, {"points": [[60, 20]], "labels": [1]})],
        fill_hole_area=4,
    )  # fmt: skip
    assert run_on_windows(home, "replay", micro_bundle.path, "1", case).count("ok ") == 1


def _copied(bundle: Bundle, folder: Path) -> Path:
    shutil.copytree(bundle.path, folder)
    return folder


def test_paths_of_any_letters_and_length(home: Path, tmp_path: Path, micro_bundle: Bundle) -> None:
    """Windows takes paths of 259 characters, unless they are written in another way."""
    letters = _copied(micro_bundle, tmp_path / "größe 模型 \U0001f600")
    nested = _copied(micro_bundle, tmp_path.joinpath(*[f"folder-{n}-{'x' * 70}" for n in range(4)]))
    assert len(windows_path(nested)) > 300
    apart = tmp_path / "links ß"
    apart.mkdir()
    for number, file in enumerate(p for p in micro_bundle.path.iterdir() if p.is_file()):
        (tmp_path / f"blob-{number}").mkdir()
        shutil.copyfile(file, tmp_path / f"blob-{number}" / "blob")
        (apart / file.name).symlink_to(tmp_path / f"blob-{number}" / "blob")
    folders = [micro_bundle.path, letters, nested, apart]
    listed = tmp_path / "list"
    listed.write_bytes("".join(f"{windows_path(folder)}\n" for folder in folders).encode())
    found = run_on_windows(home, "paths", listed).splitlines()
    assert len(found[0]) == 64, found
    assert found == found[:1] * len(folders)


def test_errors_name_paths_as_they_were_given(home: Path, tmp_path: Path) -> None:
    missing = tmp_path / "größe 模型"
    listed = tmp_path / "list"
    listed.write_bytes(f"{windows_path(missing)}\n".encode())
    assert run_on_windows(home, "paths", listed) == (
        f"expected a bundle at {windows_path(missing)}, found no such folder: make it again with "
        "'sam2rt export CHECKPOINT -o BUNDLE'\n"
    )


def test_logits_have_the_bits_of_linux(home: Path, tmp_path: Path, micro_bundle: Bundle) -> None:
    """Of ONNX Runtime on both: no function of another C library comes in between."""
    require_toolchain()
    listed = tmp_path / "list"
    listed.write_bytes(f"{micro_bundle.path}\n".encode())
    assert run_on_windows(home, "paths", listed) == run(
        [str(program("release", "paths")), str(listed)]
    )


def test_the_dll_exports_the_interface_alone() -> None:
    """What a C program links is in it, and nothing of the C++ standard library."""
    require_windows()
    printed = run(["x86_64-w64-mingw32-objdump", "-p", str(built("windows") / "libsam2rt.dll")])
    table = printed.split("[Ordinal/Name Pointer] Table")[1].split("\n\n")[0]
    names = [line.split()[-1] for line in table.splitlines()[1:]]
    header = (SOURCE / "include" / "sam2rt.h").read_text()
    assert {name for name in names if name.startswith("sam2rt_")} == set(
        re.findall(r"\b(sam2rt_\w+)\((?!\*)", header)
    )
    assert all(re.match(r"sam2rt_|_ZN?K?[TVSI]*N?K?6sam2rt", name) for name in names), names
    # but for ONNX Runtime, all that it loads is part of Windows
    loaded = re.findall(r"DLL Name: (\S+)", printed)
    assert sorted(loaded) == ["KERNEL32.dll", "msvcrt.dll", "onnxruntime.dll"]


def test_a_c_program_with_the_dll(
    home: Path, tmp_path: Path, micro_bundle: Bundle, micro_session: Session
) -> None:
    frame = np.random.default_rng(5).integers(0, 256, (60, 80, 3), np.uint8)
    image = tmp_path / "image.ppm"
    image.write_bytes(b"P6 80 60 255\n" + frame.tobytes())
    expected = ImagePredictor(micro_bundle, session=micro_session)
    expected.set_image(frame)
    masks, ious, _ = expected.predict(np.array([[20, 30]]), np.array([1]), multimask_output=False)
    mask = tmp_path / "mask.pgm"
    printed = run_on_windows(home, "minimal", micro_bundle.path, image, "20", "30", mask)
    assert printed == f"IoU {ious[0]:.4f}\n"
    pixels = np.frombuffer(mask.read_bytes()[-80 * 60 :], np.uint8).reshape(60, 80)
    np.testing.assert_array_equal(pixels > 0, masks[0])
