"""The installed C++ package: found by CMake and pkg-config, used from C++, C and the manual."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
from cpp_build import HEADERS, ROOT, SOURCE, built, require_toolchain, run
from golden import data_path
from pycocotools import mask as coco

import sam2rt
from sam2rt import ImagePredictor, StreamTracker
from sam2rt.configs.bundle import Bundle
from sam2rt.configs.version import VERSION
from sam2rt.runtime.session import Session

pytestmark = pytest.mark.slow

DOWNSTREAM = Path(__file__).parent / "downstream"


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    require_toolchain()
    folder = tmp_path_factory.mktemp("installed")
    run(["cmake", "--install", str(built()), "--prefix", str(folder)])
    return folder


def documented_program() -> str:
    """The complete program of the manual."""
    text = (ROOT / "docs" / "cpp.md").read_text()
    blocks = re.findall(r"```cpp\n(.*?)```", text, re.DOTALL)
    programs = [block for block in blocks if "int main" in block]
    assert len(programs) == 1
    return str(programs[0])


@pytest.fixture(scope="module")
def downstream(prefix: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("downstream")
    for source in DOWNSTREAM.iterdir():
        (folder / source.name).write_bytes(source.read_bytes())
    (folder / "documented.cpp").write_text(documented_program())
    # the package remembers where ONNX Runtime lay, which the static library needs
    run(
        ["cmake", "-S", str(folder), "-B", str(folder / "build"), f"-DCMAKE_PREFIX_PATH={prefix}",
         f"-Dsam2rt_wanted={VERSION}"]
    )  # fmt: skip
    run(["cmake", "--build", str(folder / "build")])
    return folder / "build"


def expected_lines(session: Session) -> list[str]:
    tracker = StreamTracker(session.bundle, session=session)
    tracker.add_points(7, [[40, 30]], [1])
    lines = []
    for _ in range(4):
        result = tracker.step(np.full((64, 96, 3), 128, np.uint8))
        lines.append(f"{result.frame_idx} 7 {result.logits.size} {result.object_scores[0]:.6g}")
    return lines


@pytest.mark.parametrize("program", ["from_cpp", "from_cpp_static", "from_c"])
def test_found_by_cmake(downstream: Path, program: str, micro_session: Session) -> None:
    out = run([str(downstream / program), str(micro_session.bundle.path)]).splitlines()
    assert out[0] == (
        "expected a bundle at no/such/bundle, found no such folder: make it again with "
        "'sam2rt export CHECKPOINT -o BUNDLE'"
    )
    assert out[1:] == expected_lines(micro_session)


def test_found_by_pkg_config(prefix: Path, tmp_path: Path, micro_session: Session) -> None:
    files = next(prefix.glob("lib*/**/pkgconfig"))
    config = {"PKG_CONFIG_PATH": str(files)}
    flags = run(["pkg-config", "--cflags", "--libs", "sam2rt"], **config)
    library = next(prefix.glob("lib*/**/libsam2rt.so")).parent
    program = str(tmp_path / "from_c")
    run(["cc", str(DOWNSTREAM / "from_c.c"), "-o", program, *flags.split(),
         f"-Wl,-rpath,{library}"])  # fmt: skip
    out = run([program, str(micro_session.bundle.path)]).splitlines()
    assert out[1:] == expected_lines(micro_session)


def test_the_static_library_is_linked_with_pkg_config(
    prefix: Path, tmp_path: Path, micro_session: Session
) -> None:
    config = {"PKG_CONFIG_PATH": str(next(prefix.glob("lib*/**/pkgconfig")))}
    flags = run(["pkg-config", "--static", "--cflags", "--libs", "sam2rt"], **config)
    library, program = next(prefix.glob("lib*/**/libsam2rt.a")), str(tmp_path / "from_c")
    run(["cc", str(DOWNSTREAM / "from_c.c"), "-o", program, str(library), *flags.split(),
         f"-Wl,--as-needed,-rpath,{HEADERS / 'lib'}"])  # fmt: skip
    assert "libsam2rt" not in run(["ldd", program])
    out = run([program, str(micro_session.bundle.path)]).splitlines()
    assert out[1:] == expected_lines(micro_session)


def test_the_manuals_program(downstream: Path, tmp_path: Path, micro_session: Session) -> None:
    """Its output is what Python gives for the same image and click."""
    image = cv2.imread(str(data_path("truck.jpg")))[::2, ::2]
    cv2.imwrite(str(tmp_path / "truck.ppm"), image)
    out = run(
        [str(downstream / "documented"), str(micro_session.bundle.path),
         str(tmp_path / "truck.ppm"), "250", "187"]
    )  # fmt: skip
    predictor = ImagePredictor(micro_session.bundle, session=micro_session)
    predictor.set_image(image[..., ::-1])
    masks, ious, _ = predictor.predict([[250, 187]], [1])
    best = int(np.argmax(ious))
    assert out.split() == [
        "IoU", f"{ious[best]:.4f},", str(int(masks[best].sum())), "of", str(masks[best].size),
        "pixels",
    ]  # fmt: skip


def test_the_example_in_c(tmp_path: Path, micro_bundle: Bundle, micro_session: Session) -> None:
    image = cv2.imread(str(data_path("truck.jpg")))[::3, ::3]
    cv2.imwrite(str(tmp_path / "truck.ppm"), image)
    program = built() / "examples" / "minimal"
    out = run(
        [str(program), str(micro_bundle.path), str(tmp_path / "truck.ppm"), "160", "120",
         str(tmp_path / "mask.pgm")]
    )  # fmt: skip
    predictor = ImagePredictor(micro_bundle, threads=1)
    predictor.set_image(image[..., ::-1])
    masks, ious, _ = predictor.predict([[160, 120]], [1], multimask_output=False)
    assert out == f"IoU {ious[0]:.4f}\n"
    found = cv2.imread(str(tmp_path / "mask.pgm"), cv2.IMREAD_GRAYSCALE)
    np.testing.assert_array_equal(found > 0, masks[0])


def test_the_example_with_opencv(tmp_path: Path, micro_session: Session) -> None:
    program = built() / "examples" / "track_video"
    if not program.is_file():
        pytest.skip("the example was not built: install libopencv-dev")
    clip = str(tmp_path / "clip.avi")
    writer = cv2.VideoWriter(clip, cv2.VideoWriter.fourcc(*"FFV1"), 10, (160, 120))
    rng = np.random.default_rng(3)
    frames = rng.integers(0, 255, (6, 120, 160, 3), np.uint8)
    for frame in frames:
        writer.write(frame)
    writer.release()
    run(
        [str(program), str(micro_session.bundle.path), clip, "80", "60",
         str(tmp_path / "overlay.mp4"), str(tmp_path / "masks.jsonl")]
    )  # fmt: skip
    assert os.path.getsize(tmp_path / "overlay.mp4") > 1000
    lines = [json.loads(line) for line in (tmp_path / "masks.jsonl").read_text().splitlines()]
    tracker = StreamTracker(micro_session.bundle, session=micro_session)
    tracker.add_points(1, [[80, 60]], [1])
    assert [line["frame"] for line in lines] == list(range(6))
    capture = cv2.VideoCapture(clip)
    for line in lines:
        result = tracker.step(capture.read()[1][..., ::-1])
        found = coco.decode({"size": line["size"], "counts": line["counts"].encode()})
        # this program uses all cores: a last bit may fall the other way
        assert np.count_nonzero(found.astype(bool) != result.masks[0]) <= 4


def test_the_package_names_its_version(prefix: Path) -> None:
    assert sam2rt.__version__ == VERSION
    assert next(prefix.glob("lib*/**/sam2rt.pc")).read_text().count(f"Version: {VERSION}\n") == 1
    assert next(prefix.glob("lib*/**/sam2rtConfigVersion.cmake")).read_text().count(VERSION) > 0
    assert next(prefix.glob(f"lib*/**/libsam2rt.so.{VERSION}")).is_file()


@pytest.mark.parametrize("wanted", ["0.0", "99.9"])
def test_another_minor_version_is_refused(wanted: str, prefix: Path, tmp_path: Path) -> None:
    options = f"-DCMAKE_PREFIX_PATH={prefix}", f"-Dsam2rt_wanted={wanted}"
    done = _configure(DOWNSTREAM, tmp_path / "build", *options)
    assert done.returncode != 0
    message = " ".join(done.stderr.split())
    assert f'compatible with requested version "{wanted}"' in message
    assert f"sam2rtConfig.cmake, version: {VERSION}" in message


def _configure(source: Path, build: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = ["cmake", "-S", str(source), "-B", str(build), *options]
    return subprocess.run(command, capture_output=True, text=True)


def _versioned_copy(folder: Path, line: str | None) -> Path:
    """The C++ tree beside a configs/version.py of that line; None: without the file."""
    shutil.copytree(SOURCE, folder / "runtime" / "cpp")
    for room in ("configs/formats", "plugins/cpu"):
        shutil.copytree(ROOT / room, folder / room)
    if line is not None:
        (folder / "configs" / "version.py").write_text(f'"""A docstring."""\n\n{line}\n')
    return folder / "runtime" / "cpp"


def test_the_version_is_read_from_the_repository(tmp_path: Path) -> None:
    """Another number in that one file reaches the library and all files of the package."""
    require_toolchain()
    source = _versioned_copy(tmp_path, 'VERSION = "7.8.9"')
    done = _configure(source, tmp_path / "build", f"-Donnxruntime_ROOT={HEADERS}",
                      f"-DCMAKE_PREFIX_PATH={HEADERS}")  # fmt: skip
    assert done.returncode == 0, done.stderr
    made = [
        "sam2rt.pc", "sam2rtConfigVersion.cmake", "CMakeFiles/sam2rt_objects.dir/flags.make",
        "CMakeFiles/sam2rt.dir/link.txt",
    ]  # fmt: skip
    for name in made:
        text = (tmp_path / "build" / name).read_text()
        assert "7.8.9" in text, name
        assert VERSION not in text, name


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (None, "found no such file: build runtime/cpp inside a whole checkout of sam2rt"),
        ("version = 7", "found '': write the three numbers there"),
        ('VERSION = "7.8"', "found 'VERSION = \"7.8\"': write the three numbers there"),
    ],
)
def test_without_the_version_the_build_says_what_is_missing(
    line: str | None, found: str, tmp_path: Path
) -> None:
    require_toolchain()
    done = _configure(_versioned_copy(tmp_path, line), tmp_path / "build")
    assert done.returncode != 0
    message = " ".join(done.stderr.split())
    assert str(tmp_path / "configs" / "version.py") in message
    assert found in message


def test_no_file_of_the_library_writes_the_version() -> None:
    """But for the fuzzer's corpus, which holds a manifest that this version wrote."""
    for file in SOURCE.rglob("*"):
        if file.is_file() and "corpus" not in file.parts:
            assert VERSION not in file.read_text(), file
