"""The C++ library equals the recordings and the Python runtime; the sanitizers find nothing."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cpp_cases
import numpy as np
import pytest
from cpp_build import ROOT, built, program, require_toolchain, run
from golden import data_path, golden_set

from sam2rt.configs.bundle import Bundle, write_manifest
from sam2rt.runtime.backends.onnxruntime_session import OnnxRuntimeSession
from sam2rt.runtime.media.images import read_image
from sam2rt.runtime.media.open import open_frames
from sam2rt.runtime.session import Session

pytestmark = pytest.mark.slow

MICRO = ("V1", "V2", "V2n", "V3a", "V3b", "V4", "V5", "V6", "V7", "V9", "V11")
SANITIZED = pytest.mark.parametrize("kind", ["release", "asan"])


@pytest.fixture(scope="module", autouse=True)
def _toolchain() -> None:
    require_toolchain()


def dog(count: int) -> np.ndarray:
    """[count, H, W, 3] uint8: the first frames of a recorded clip."""
    source = open_frames(str(data_path("01_dog.mp4")))
    return np.stack([source.read(i) for i in range(count)])


def prompts_on(frames: np.ndarray) -> list[tuple[int, int, dict[str, object]]]:
    """A click, a box, two clicks."""
    height, width = frames.shape[1:3]
    return [
        (0, 1, {"points": [[width / 2, height / 2]], "labels": [1]}),
        (0, 2, {"box": [10, 20, width * 0.4, height * 0.6]}),
        (0, 3, {"points": [[width * 0.8, height * 0.3], [5.5, 7.25]], "labels": [1, 0]}),
    ]


@pytest.fixture(scope="module")
def micro_cases(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder, golden = tmp_path_factory.mktemp("micro"), golden_set("micro")
    assert set(golden.manifest["scenarios"]) == set(MICRO)
    made = [cpp_cases.golden_video(folder / name, golden, name) for name in MICRO]
    image = read_image(data_path("truck.jpg"))
    return [str(path) for path in (*made, cpp_cases.golden_image(folder / "b", golden, image))]


def replay(kind: str, bundle: Bundle, threads: int, cases: list[str]) -> None:
    out = run([str(program(kind, "replay")), str(bundle.path), str(threads), *cases])
    assert out.count("ok ") == len(cases), out


@SANITIZED
@pytest.mark.parametrize(("name", "count"), [("unit", 11), ("pixels", 5), ("predictors", 15)])
def test_what_needs_no_model(kind: str, name: str, count: int, micro_bundle: Bundle) -> None:
    out = run([str(program(kind, name)), str(micro_bundle.path)])
    assert out.count("ok ") == count


@SANITIZED
def test_recordings_of_micro(kind: str, micro_bundle: Bundle, micro_cases: list[str]) -> None:
    replay(kind, micro_bundle, 1, micro_cases)


def test_recordings_of_tiny_at_1024(tmp_path: Path, tiny_bundle: Bundle) -> None:
    golden = golden_set("sam2.1_hiera_t")
    image = read_image(data_path("truck.jpg"))
    cases = [
        cpp_cases.golden_video(tmp_path / "V1", golden, "V1"),
        cpp_cases.golden_video(tmp_path / "V2", golden, "V2"),
        cpp_cases.golden_image(tmp_path / "b", golden, image),
    ]
    replay("release", tiny_bundle, 2, [str(case) for case in cases])


def test_a_hundred_frames_have_the_bits_of_python(tmp_path: Path, micro_session: Session) -> None:
    """Logits at frame size, three objects, by propagation and pushed one by one."""
    frames = dog(100)
    prompts = prompts_on(frames)
    cases = [
        cpp_cases.python_video(
            tmp_path / "video", micro_session, frames, prompts, fill_hole_area=8
        ),
        cpp_cases.python_stream(
            tmp_path / "stream", micro_session, frames, prompts, fill_hole_area=8
        ),
    ]
    replay("release", micro_session.bundle, 1, [str(case) for case in cases])


@SANITIZED
def test_the_separate_graphs_have_the_same_bits(
    kind: str, tmp_path: Path, micro_session: Session
) -> None:
    """A bundle without the fused graph, against Python with it."""
    assert "track_step" in micro_session.bundle.graphs
    shutil.copytree(micro_session.bundle.path, tmp_path / "bundle")
    copy = Bundle.load(tmp_path / "bundle")
    graphs = {name: graph for name, graph in copy.graphs.items() if name != "track_step"}
    write_manifest(replace(copy, graphs=graphs))
    frames = dog(12)[:, ::3, ::3]
    case = cpp_cases.python_stream(
        tmp_path / "stream", micro_session, frames, prompts_on(frames), fill_hole_area=8
    )
    replay(kind, Bundle.load(copy.path), 1, [str(case)])


@SANITIZED
def test_objects_taken_sequentially_have_the_bits_of_python(
    kind: str, tmp_path: Path, per_object_bundle: Bundle
) -> None:
    frames = dog(12)[:, ::3, ::3]
    with OnnxRuntimeSession(per_object_bundle, threads=1) as session:
        assert session.per_object
        case = cpp_cases.python_video(
            tmp_path / "video", session, frames, prompts_on(frames), fill_hole_area=8
        )
    replay(kind, per_object_bundle, 1, [str(case)])


@SANITIZED
def test_prompts_at_any_time_have_the_bits_of_python(
    kind: str, tmp_path: Path, micro_session: Session
) -> None:
    """A mask, objects of different ages, then the same frames in reverse."""
    frames = dog(16)[:, ::2, ::3]
    mask = np.zeros(frames.shape[1:3], bool)
    mask[30:90, 40:200] = True
    prompts = [
        (9, 7, {"points": [[200, 150]], "labels": [1]}),
        (3, 4, {"mask": mask}),
        (12, 7, {"points": [[100, 100]], "labels": [1]}),
    ]
    video = cpp_cases.python_video(
        tmp_path / "video", micro_session, frames, prompts, fill_hole_area=8, reverse_from=14
    )
    clicks = [p for p in prompts if "mask" not in p[2]]
    stream = cpp_cases.python_stream(
        tmp_path / "stream", micro_session, frames, clicks, fill_hole_area=0
    )
    replay(kind, micro_session.bundle, 1, [str(video), str(stream)])


@SANITIZED
def test_frames_of_any_size_and_format_have_the_bits_of_python(
    kind: str, tmp_path: Path, micro_bundle: Bundle
) -> None:
    case = cpp_cases.frame_tensors(tmp_path / "pixels", micro_bundle.model.image_size)
    replay(kind, micro_bundle, 1, [str(case)])


@SANITIZED
def test_batches_of_images_have_the_bits_of_python(
    kind: str, tmp_path: Path, micro_session: Session
) -> None:
    """Five images of different sizes, in two calls of the encoder, with one or two prompts."""
    frames = dog(5)
    images = [frame[: 80 + 30 * i, : 200 - 20 * i] for i, frame in enumerate(frames)]
    prompts: list[list[dict[str, object]]] = [
        [{"points": [[40, 30]], "labels": [1]}] if i % 2 else
        [{"box": [5, 6, 70, 60]}, {"box": [20, 10, 90, 70]}]
        for i in range(5)
    ]  # fmt: skip
    case = cpp_cases.python_batch(tmp_path / "batch", micro_session, images, prompts)
    replay(kind, micro_session.bundle, 1, [str(case)])


@pytest.mark.parametrize("which", ["micro_bundle", "per_object_bundle"])
def test_a_warm_tracker_allocates_nothing(which: str, request: pytest.FixtureRequest) -> None:
    bundle: Bundle = request.getfixturevalue(which)
    out = run([str(program("release", "allocations")), str(bundle.path)])
    assert out.count("ok ") == 3


@pytest.mark.parametrize(
    ("kind", "session"),
    [("release", "ort"), ("tsan", "mixing"), ("tsan", "ort"), ("asan", "mixing")],
)
def test_threads_that_share_a_session(kind: str, session: str, micro_bundle: Bundle) -> None:
    """Four trackers, then sixteen threads of mixed use; each gives the bits of one alone."""
    out = run([str(program(kind, "threads")), str(micro_bundle.path), session])
    assert out.count("ok ") == 2


@pytest.mark.parametrize("kind", ["release", "tsan"])
def test_threads_whose_objects_are_taken_sequentially(kind: str, per_object_bundle: Bundle) -> None:
    command = [str(program(kind, "threads")), str(per_object_bundle.path), "ort", "four trackers"]
    assert run(command).count("ok ") == 1


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="no valgrind: install it")
@pytest.mark.parametrize(("session", "calls"), [("mixing", 83), ("images", 21)])
def test_memory_of_the_c_interface(session: str, calls: int, micro_bundle: Bundle) -> None:
    """Every function, rightly and wrongly used, under valgrind: no error and no leak of ours.

    With ONNX Runtime images alone: it takes minutes there.
    """
    checks = [
        "--leak-check=full", "--show-leak-kinds=definite,indirect", "--num-callers=40",
        "--errors-for-leak-kinds=definite,indirect", "--error-exitcode=9",
        f"--suppressions={ROOT / 'tests' / 'cpp' / 'valgrind.supp'}",
    ]  # fmt: skip
    command = [str(program("release", "memcheck")), str(micro_bundle.path), session]
    assert run(["valgrind", *checks, *command]).endswith(f"{calls} calls, 0 failures\n")


def test_the_c_interface_on_onnxruntime(micro_bundle: Bundle) -> None:
    """The same calls, natively."""
    out = run([str(program("release", "memcheck")), str(micro_bundle.path)])
    assert out.endswith("84 calls, 0 failures\n"), out


def test_less_memory_than_python(micro_bundle: Bundle) -> None:
    """Peak memory of a stream; the program also prints the share of time outside ONNX Runtime."""
    command = [str(program("release", "overhead")), str(micro_bundle.path), "960", "540", "1", "60"]
    found = json.loads(run(command))
    python = subprocess.run(
        [sys.executable, "-c", _PYTHON_MEMORY, str(micro_bundle.path)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert 0 < found["peak_kb"] < int(python.stdout), (found, python.stdout)


_PYTHON_MEMORY = """
import sys
import numpy as np, sam2rt
with sam2rt.StreamTracker(sam2rt.Bundle.load(sys.argv[1]), threads=1) as tracker:
    tracker.add_points(1, [[50, 110]], [1])
    for t in range(40):
        tracker.step(np.full((540, 960, 3), t, np.uint8))
print(next(x.split()[1] for x in open("/proc/self/status") if x.startswith("VmHWM")))
"""


def test_only_the_interface_is_exported() -> None:
    library = built() / "libsam2rt.so"
    lines = run(["nm", "-D", "--defined-only", str(library)]).splitlines()
    names = [line.split()[-1] for line in lines]
    assert all(name.endswith("@@SAM2RT_0") or name == "SAM2RT_0" for name in names)
    readable = run(["c++filt", *[name.split("@")[0] for name in names]]).splitlines()
    for name in readable:
        assert name.startswith(("sam2rt_", "sam2rt::", "SAM2RT_0", "typeinfo", "vtable")), name
        assert "::Impl::" not in name, name


_FAKE_DRIVER = """
#include <string.h>
#include <stddef.h>
/* what pretends to be device memory begins 4096 bytes before where it says */
int cuMemcpyDtoH_v2(void* to, unsigned long long from, size_t bytes) {
  memcpy(to, (const char*)(from - 4096), bytes);
  return 0;
}
"""


@SANITIZED
def test_frames_in_cuda_memory_go_through_the_driver(
    kind: str, tmp_path: Path, micro_bundle: Bundle
) -> None:
    """With a stand-in for the driver: the copies it is asked for have the right place and size."""
    (tmp_path / "driver.c").write_text(_FAKE_DRIVER)
    run(
        ["cc", "-shared", "-fPIC", str(tmp_path / "driver.c"), "-o", str(tmp_path / "libcuda.so.1")]
    )
    size = micro_bundle.model.image_size
    case = cpp_cases.frame_tensors(tmp_path / "pixels", size, device=True)
    out = run(
        [str(program(kind, "replay")), str(micro_bundle.path), "1", str(case)],
        LD_LIBRARY_PATH=str(tmp_path),
    )
    assert out.count("ok ") == 1, out
