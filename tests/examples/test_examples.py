"""Each program of ``examples`` runs as a user would run it, and gives what the predictors give."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from real_tensorrt import builder_environment

from sam2rt import Bundle, ImagePredictor, MaskGenerator, StreamTracker, VideoPredictor
from sam2rt.benchmarks.synthetic.clips import SyntheticClip, make_clip
from sam2rt.runtime.media.video.writer import open_video_writer
from sam2rt.runtime.pixels.rle import mask_from_rle

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
FRAMES = 6
#: what the built-in model reaches on drawn objects; one that answers at random reaches 0.1
GOOD = 0.9


@pytest.fixture(scope="module")
def bundle(shared_bundles: Any) -> Bundle:
    return shared_bundles.built_in()


@pytest.fixture(scope="module")
def clip() -> SyntheticClip:
    return make_clip(5, "plain", FRAMES)


@pytest.fixture(scope="module")
def media(clip: SyntheticClip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with image.png and the lossless frames of clip/."""
    folder = tmp_path_factory.mktemp("media")
    (folder / "clip").mkdir()
    for t, frame in enumerate(clip.frames):
        Image.fromarray(frame).save(folder / "clip" / f"{t:05d}.png")
    Image.fromarray(clip.frames[0]).save(folder / "image.png")
    with open_video_writer(folder / "clip.mp4", 25.0, clip.frames.shape[1:3]) as writer:
        for frame in clip.frames:
            writer.write(frame)
    return folder


def run(name: str, *arguments: object, env: dict[str, str] | None = None) -> str:
    done = _run(name, *arguments, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _run(
    name: str, *arguments: object, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **(env or {})}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def iou(first: NDArray[Any], second: NDArray[Any]) -> float:
    first, second = first.astype(bool), second.astype(bool)
    return float((first & second).sum() / (first | second).sum())


def inside(mask: NDArray[np.bool_]) -> tuple[int, int]:
    """A pixel x, y well inside of the mask."""
    rows, columns = np.nonzero(mask)
    nearest = np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2)
    return int(columns[nearest]), int(rows[nearest])


def box(mask: NDArray[np.bool_]) -> list[int]:
    rows, columns = np.nonzero(mask)
    return [int(v) for v in (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)]


def mask_of(path: Path) -> NDArray[np.bool_]:
    return np.asarray(Image.open(path)) > 0


def test_image(bundle: Bundle, clip: SyntheticClip, media: Path, tmp_path: Path) -> None:
    true, other = clip.labels[0] == 2, clip.labels[0] == 1
    (x, y), (u, v) = inside(true), inside(other)
    said = run("image.py", bundle.path, media / "image.png", x, y, tmp_path / "a.png")
    with ImagePredictor(bundle) as image:
        image.set_image(clip.frames[0])
        masks, ious, low_res = image.predict([[x, y]], [1])
        assert [float(n) for n in re.findall(r"IoU ([\d.]+)", said)] == pytest.approx(
            ious.tolist(), abs=1e-3
        )
        best = int(ious.argmax())
        assert iou(mask_of(tmp_path / "a.png"), masks[best]) > 0.999
        assert iou(mask_of(tmp_path / "a.png"), true) > GOOD
        refined, _, _ = image.predict(
            [[x, y], [u, v]], [1, 0], mask_input=low_res[best][None], multimask_output=False
        )
    run("image.py", bundle.path, media / "image.png", x, y, tmp_path / "b.png", u, v)
    assert iou(mask_of(tmp_path / "b.png"), refined[0]) > 0.999
    assert iou(mask_of(tmp_path / "b.png"), true) > GOOD


@pytest.mark.parametrize("count", [0, 1, 2])
def test_boxes_from_a_detector(
    count: int, bundle: Bundle, clip: SyntheticClip, media: Path, tmp_path: Path
) -> None:
    boxes = [box(clip.labels[0] == k) for k in (1, 2)][:count]
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    files = (media / "image.png", tmp_path / "boxes.json", tmp_path / "ids.png")
    said = run("boxes_from_detector.py", bundle.path, *files)
    assert said.startswith(f"{count} boxes, {count} objects in ")
    ids = np.asarray(Image.open(tmp_path / "ids.png"))
    assert set(np.unique(ids)) == {0, *range(1, count + 1)}
    for k in range(1, count + 1):
        assert iou(ids == k, clip.labels[0] == k) > GOOD


def test_video(bundle: Bundle, clip: SyntheticClip, media: Path, tmp_path: Path) -> None:
    prompts = [
        {"frame": 0, "object": 1, "points": [inside(clip.labels[0] == 1)], "labels": [1]},
        {"frame": 0, "object": 2, "box": box(clip.labels[0] == 2)},
        {"frame": 3, "object": 1, "points": [inside(clip.labels[3] == 1)], "labels": [1]},
    ]
    (tmp_path / "prompts.json").write_text(json.dumps(prompts))
    files = (media / "clip", tmp_path / "prompts.json", tmp_path / "masks.npz")
    assert run("video.py", bundle.path, *files).startswith(f"{2 * FRAMES} masks in ")
    found = np.load(tmp_path / "masks.npz")
    with VideoPredictor(bundle) as video:
        state = video.init_state(clip.frames)
        for given in prompts:
            what = {k: given[k] for k in ("points", "labels", "box") if k in given}
            video.add_new_points_or_box(state, given["frame"], given["object"], **what)
        for frame, obj_ids, logits in video.propagate_in_video(state):
            for obj_id, logit in zip(obj_ids, logits, strict=True):
                mask = found[f"{obj_id}/{frame:05d}"]
                assert iou(mask, logit[0] > 0) > 0.999
                assert iou(mask, clip.labels[frame] == obj_id) > GOOD


def test_stream(bundle: Bundle, clip: SyntheticClip, media: Path) -> None:
    x, y = inside(clip.labels[0] == 2)
    said = run("stream.py", bundle.path, media / "clip", x, y, 4)
    lines = re.findall(r"^frame (\d+): at (\d+),(\d+), (\d+) pixels \(", said, re.M)
    assert [int(line[0]) for line in lines] == [0, 1, 2, 3]
    with StreamTracker(bundle) as tracker:
        tracker.add_points(obj_id=1, points=[[x, y]], labels=[1])
        for frame, line in zip(clip.frames, lines, strict=False):
            mask = tracker.step(frame).masks[0]
            assert int(line[3]) == pytest.approx(mask.sum(), rel=1e-3)
            rows, columns = np.nonzero(mask)
            assert int(line[1]) == pytest.approx(columns.mean(), abs=1)
            assert int(line[2]) == pytest.approx(rows.mean(), abs=1)


def test_stream_of_a_camera_turns_its_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    import cv2

    opened: list[tuple[int, Any]] = []

    class Camera:
        """Two frames of BGR, then none."""

        def __init__(self, number: int) -> None:
            self.left: int | None = 2
            opened.append((number, self))

        def read(self) -> tuple[bool, NDArray[np.uint8] | None]:
            self.left -= 1
            return (
                (True, np.full((2, 3, 3), (1, 2, 3), np.uint8)) if self.left >= 0 else (False, None)
            )

        def release(self) -> None:
            self.left = None

    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    frames_of = runpy.run_path(str(EXAMPLES / "stream.py"))["frames_of"]
    frames = list(frames_of("1"))
    assert [frame[0, 0].tolist() for frame in frames] == [[3, 2, 1]] * 2
    ((number, camera),) = opened
    assert (number, camera.left) == (1, None)


def test_many_objects(bundle: Bundle, clip: SyntheticClip, media: Path, tmp_path: Path) -> None:
    Image.fromarray(clip.labels[0]).save(tmp_path / "ids.png")
    files = (media / "clip", tmp_path / "ids.png", 3, tmp_path / "out.json")
    run("many_objects.py", bundle.path, *files)
    areas = np.bincount(clip.labels[0].ravel())[1:]
    leaves = int(np.argmin(areas)) + 1
    frames = json.loads((tmp_path / "out.json").read_text())
    assert [frame["frame"] for frame in frames] == list(range(FRAMES))
    everyone = set(range(1, clip.num_objects + 1))
    for t, frame in enumerate(frames):
        assert set(map(int, frame["masks"])) == (everyone if t < 3 else everyone - {leaves})
        for obj_id, rle in frame["masks"].items():
            assert iou(mask_from_rle(rle), clip.labels[t] == int(obj_id)) > GOOD


def test_automatic_masks(bundle: Bundle, clip: SyntheticClip, media: Path, tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    run("automatic_masks.py", bundle.path, media / "image.png", tmp_path / "coco.json", 16)
    records = MaskGenerator(bundle, points_per_side=16).generate(clip.frames[0])
    coco = COCO(str(tmp_path / "coco.json"))
    found = coco.loadAnns(coco.getAnnIds(imgIds=[1]))
    assert [a["area"] for a in found] == [record["area"] for record in records]
    masks = [coco.annToMask(a) > 0 for a in found]
    for mask, record in zip(masks, records, strict=True):
        assert iou(mask, record["segmentation"]) > 0.999
    for k in (1, 2):
        assert max(iou(mask, clip.labels[0] == k) for mask in masks) > GOOD


def test_export_and_verify(tmp_path: Path) -> None:
    said = run("export_and_verify.py", "sam2rt_micro", tmp_path / "bundle").splitlines()
    proof = Bundle.load(tmp_path / "bundle").proof
    assert said[0] == "sam2rt_micro at 256 pixels, fp32"
    # the record is of the same inputs, on the same backend
    largest = max(found["max"] for found in proof["outputs"].values())
    assert float(said[1].split()[2].rstrip(",")) == pytest.approx(largest, rel=0.5)
    assert re.fullmatch(r"lowest mask IoU in a clip (1\.0000|0\.99\d+): passed", said[2])


def test_tensorrt_without_a_builder_says_what_to_install(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "for name in ('tensorrt', 'tensorrt_rtx', 'tensorrt_rtx_bindings'):\n"
        "    sys.modules[name] = None\n"
    )
    done = _run("tensorrt_dry_run.py", bundle.path, env={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 1
    assert done.stderr.startswith("a dry run needs NVIDIA's builder, found neither TensorRT nor")
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_tensorrt_dry_run(bundle: Bundle, tmp_path: Path) -> None:
    # the builder under the name by which a user's installation has it
    (tmp_path / "tensorrt_rtx.py").write_text(
        "import sys, tensorrt_bindings\nsys.modules[__name__] = tensorrt_bindings\n"
    )
    environment = dict(builder_environment())
    paths = [str(tmp_path), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    graphs = ("mask_decoder", "memory_encoder")
    said = run("tensorrt_dry_run.py", bundle.path, *graphs, env=environment)
    lines = said.splitlines()
    assert lines[0].endswith(", fp32")
    assert [line.partition(":")[0] for line in lines[1:]] == list(graphs)
    assert all(re.search(r": \d+ MB$", line) for line in lines[1:]), said


def test_custom_backend(bundle: Bundle, clip: SyntheticClip, media: Path, tmp_path: Path) -> None:
    true = clip.labels[0] == 2
    files = (*inside(true), tmp_path / "mask.png")
    said = run("custom_backend.py", bundle.path, media / "image.png", *files)
    assert said == "image_encoder 1, mask_decoder 1\n"
    assert iou(mask_of(tmp_path / "mask.png"), true) > GOOD


def test_every_program_is_in_the_list_and_run_here() -> None:
    page = (EXAMPLES / "README.md").read_text()
    listed = re.findall(r"^\| \[[\w.]+\]\(([^)]+)\)", page, re.M)
    assert len(listed) >= 10
    assert [name for name in listed if not (EXAMPLES / name).is_file()] == []
    here = Path(__file__).read_text()
    for name in listed:
        other = "cpp/test_package.py" if name.startswith("../") else _OF_OTHERS.get(name)
        where = (ROOT / "tests" / other).read_text() if other else here
        assert f'"{Path(name).stem}' in where or f'"{name}"' in where, name
    for path in EXAMPLES.glob("*.py"):
        assert path.name in listed or path.name in _OF_OTHERS, path.name
        # clients of servers stand without our package
        most = _LONG.get(path.name, 90 if path.name in _OF_OTHERS else 70)
        assert len(path.read_text().splitlines()) <= most, path.name


#: programs that the tests of another room run, and of clients those that stand without our package
_OF_OTHERS = {
    "client.py": "examples/test_serving_examples.py",
    "camera.py": "examples/test_serving_examples.py",
    "ray_pipeline.py": "serving/many/test_ray.py",
    "triton_client.py": "serving/triton/test_real_server.py",
}
#: three models of Triton, and files that are no frames
_LONG = {"triton_client.py": 130}
