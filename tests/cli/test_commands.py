"""The commands end to end: what they print, what they write, how they fail."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from fake_bundle import write_bundle
from file_server import serving

from sam2rt.cli import main
from sam2rt.configs.bundle import Bundle, file_sha256
from sam2rt.export.checkpoint.load import load_checkpoint


def run(*args: str | Path, capsys: pytest.CaptureFixture[str], code: int = 0) -> tuple[str, str]:
    """Run the command in this process; its stdout and stderr."""
    with pytest.raises(SystemExit) as done:
        main([str(a) for a in args])
    out, err = capsys.readouterr()
    assert done.value.code == code, err
    return out, err


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "w.pt"
    # trained: random weights let rounding grow, and now and then a proof fails by it
    torch.save({"model": load_checkpoint("sam2rt_micro").state}, path)
    return path


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("image") / "scene.png"
    pixels = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    cv2.imwrite(str(path), cv2.GaussianBlur(pixels, (9, 9), 0))
    return path


@pytest.fixture(scope="module")
def clip(image: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of five frames that shift to the right."""
    folder = tmp_path_factory.mktemp("clip")
    pixels = cv2.imread(str(image))
    for i in range(5):
        cv2.imwrite(str(folder / f"{i:02d}.png"), np.roll(pixels, 2 * i, axis=1))
    return folder


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    import sam2rt

    assert run("--version", capsys=capsys)[0] == f"sam2rt, version {sam2rt.__version__}\n"
    out, _ = run("--help", capsys=capsys)
    for name in ("export", "verify", "inspect", "download", "segment", "track", "bench"):
        assert f"\n  {name} " in out
        assert run(name, "--help", capsys=capsys)[0].startswith(f"Usage: sam2rt {name} ")
    # in the order of the work, not of the alphabet
    order = ("export", "verify", "inspect", "build", "segment", "track", "train", "bench")
    places = [out.index(f"\n  {name} ") for name in order]
    assert places == sorted(places)


def test_help_costs_neither_torch_nor_a_backend(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom sam2rt.cli import main\n"
        "try:\n    main(['export', '--help'])\nexcept SystemExit:\n    pass\n"
        "print(sorted({'torch', 'onnx', 'onnxruntime', 'cv2', 'PIL'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_inspect_says_what_a_proof_lacks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_bundle(tmp_path / "b")
    out, _ = run("inspect", tmp_path / "b", capsys=capsys)
    (line,) = [line for line in out.splitlines() if line.startswith("proof")]
    assert line == (
        "proof       passed, without backend, device, emulated, seed, frames, bounds, outputs, "
        "clip, flips, presence_flips"
    )


def test_export_inspect_verify(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "b"
    out, err = run("export", weights, "-o", target, "--threads", "1", capsys=capsys)
    assert err == ""
    lines = out.splitlines()
    assert lines[0] == "sam2rt_micro, 256 pixels, fp32"
    assert lines[1].startswith("proof       passed on onnxruntime cpu, seed ")
    assert lines[-1] == f"written to {target}"
    bundle = Bundle.load(target)
    row = next(line.split() for line in lines if "memory_encoder.memory" in line)
    assert row[0] == "memory_encoder.memory"
    assert float(row[1]) == pytest.approx(
        bundle.proof["outputs"]["memory_encoder.memory"]["max"], rel=0.01
    )

    out, _ = run("inspect", target, capsys=capsys)
    assert out.splitlines()[:3] == [
        "model       sam2rt_micro (SAM 2.1), 256 pixels",
        "precision   fp32, opset 20",
        f"checkpoint  sha256 {file_sha256(weights)}",
    ]
    assert "  <- memory             float32  [N, M, 16, 16, 16]\n" in out
    size = bundle.graphs["mask_prompt"].file.size
    assert f"\nmask_prompt  {size / 1e3:.0f} kB + weights.bin\n" in out
    assert f"\n{sum(f.size for f in bundle.files()) / 1e6:.1f} MB in all\n" in out
    assert "  bounds: 0.0001 of the scale, cosine 0.999999, IoU 0.99" in out

    out, _ = run("verify", target, "--threads", "1", capsys=capsys)
    assert out.startswith(f"proof       passed on onnxruntime cpu, seed {bundle.proof['seed']}\n")
    out, _ = run("verify", target, "--checkpoint", weights, "--threads", "1", capsys=capsys)
    assert "21 of 21 results compared" in out


def test_export_options(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["--model", "sam2rt_micro", "--image-size", "128", "--precision", "fp16"]
    args += ["--opset", "18", "--seed", "2", "--threads", "1"]
    run("export", weights, "-o", tmp_path / "b", *args, capsys=capsys)
    bundle = Bundle.load(tmp_path / "b")
    assert (bundle.model.image_size, bundle.precision, bundle.opset) == (128, "fp16", 18)
    assert (bundle.proof["emulated"], bundle.proof["seed"]) == (True, 2)


def test_segment(
    bundle: Bundle, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, err = run(
        "segment", image, "--bundle", bundle.path, "--point", "40,30", "--point", "2,2,0",
        "-o", tmp_path / "out", "--threads", "1", capsys=capsys,
    )  # fmt: skip
    assert err == ""
    mask = cv2.imread(str(tmp_path / "out" / "mask_1.png"), cv2.IMREAD_UNCHANGED)
    assert mask.shape == (60, 80)
    assert set(np.unique(mask)) <= {0, 255}
    share = 100 * (mask > 0).mean()
    assert out.startswith(f"object 1: {share:.1f} % of the image, IoU ")
    assert out.endswith(f"written to {tmp_path / 'out'}\n")
    record = json.loads((tmp_path / "out" / "masks.json").read_text())["annotations"][0]
    assert record["area"] == int((mask > 0).sum())


def test_segment_two_boxes(
    bundle: Bundle, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    boxes = ["--box", "5,5,30,30", "--box", "40,20,70,50"]
    out, _ = run(
        "segment", image, "--bundle", bundle.path, *boxes, "-o", tmp_path / "out",
        "--threads", "1", capsys=capsys,
    )  # fmt: skip
    assert [line.split(":")[0] for line in out.splitlines()[:2]] == ["object 1", "object 2"]


def test_track_two_objects(
    bundle: Bundle, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = ["--object", "4", "--point", "40,30", "--object", "9", "--frame", "2"]
    out, err = run(
        "track", clip, "--bundle", bundle.path, *prompts, "--box", "10,10,40,40",
        "-o", tmp_path / "out", "--threads", "1", capsys=capsys,
    )  # fmt: skip
    assert err == ""
    assert out.startswith("5 frames, objects 4, 9: ")
    frames = json.loads((tmp_path / "out" / "masks.json").read_text())["images"]
    assert [[*f["object_scores"]] for f in frames] == [["4"], ["4"], *[["4", "9"]] * 3]
    masks = tmp_path / "out" / "masks"
    assert len(list((masks / "4").iterdir())) == 5
    assert sorted(p.name for p in (masks / "9").iterdir()) == [f"{i:05d}.png" for i in (2, 3, 4)]
    assert (tmp_path / "out" / "overlay.mp4").stat().st_size > 0
    assert (tmp_path / "out" / "sheet.png").is_file()


def test_track_gives_the_predictors_masks(
    bundle: Bundle, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import sam2rt

    run(
        "track", clip, "--bundle", bundle.path, "--point", "40,30", "--no-video",
        "-o", tmp_path / "out", "--threads", "1", capsys=capsys,
    )  # fmt: skip
    with sam2rt.VideoPredictor(bundle, threads=1) as video:
        state = video.init_state(clip)
        video.add_new_points_or_box(state, 0, 1, points=[[40, 30]], labels=[1])
        for i, _, logits in video.propagate_in_video(state):
            name = str(tmp_path / "out" / "masks" / "1" / f"{i:05d}.png")
            assert np.array_equal(cv2.imread(name, cv2.IMREAD_UNCHANGED) > 0, logits[0, 0] > 0)
    assert not (tmp_path / "out" / "overlay.mp4").exists()


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["frobnicate"], "No such command 'frobnicate' (see 'sam2rt --help')"),
        (["track"], None),
        (
            ["track", "x.mp4", "--bundle", "b", "-o", "o"],
            "nothing to look for: give a --point x,y, a --box x0,y0,x1,y1, a --mask FILE, or "
            "--prompts FILE (see 'sam2rt track --help')",
        ),
        (
            ["segment", "x.png", "--bundle", "b", "-o", "o"],
            "nothing to look for: give a --point x,y, a --box x0,y0,x1,y1, a --mask FILE, or "
            "--prompts FILE (see 'sam2rt segment --help')",
        ),
        (["export", "w.pt"], "Missing option '-o' / '--output' (see 'sam2rt export --help')"),
        (
            ["export", "w.pt", "-o", "b", "--precision", "int4"],
            "Invalid value for '--precision': 'int4' is not one of 'fp32', 'fp16', 'bf16', "
            "'int8' (see 'sam2rt export --help')",
        ),
    ],
)
def test_wrong_usage(
    args: list[str], expected: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    out, err = run(*args, capsys=capsys, code=2)
    if expected is not None:
        assert (out, err) == ("", f"sam2rt: {expected}\n")


def test_errors_are_one_line(
    bundle: Bundle, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    absent = tmp_path / "absent"
    calls: list[list[str | Path]] = [
        ["inspect", absent],
        ["verify", absent],
        ["export", absent, "-o", tmp_path / "b"],
        ["export", absent, "-o", tmp_path / "b", "--model", "sam9"],
        ["segment", absent, "--bundle", bundle.path, "--point", "1,1", "-o", tmp_path / "s"],
        ["segment", image, "--bundle", absent, "--point", "1,1", "-o", tmp_path / "s"],
        ["segment", image, "--bundle", bundle.path, "--point", "999,1", "-o", tmp_path / "s"],
        ["track", absent, "--bundle", bundle.path, "--point", "1,1", "-o", tmp_path / "t"],
        ["download", "sam9"],
        ["segment", image, "--bundle", bundle.path, "--point", "1,1", "-o", tmp_path / "s",
         "--device", "npu"],
    ]  # fmt: skip
    for call in calls:
        out, err = run(*call, capsys=capsys, code=1)
        assert out == ""
        assert err.startswith("sam2rt: ")
        assert err.count("\n") == 1, err
    assert list(tmp_path.iterdir()) == []


def test_download(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with serving(b"some weights") as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        # the repository holds no manifest.json, hence no bundle
        server.statuses = [404]
        out, err = run("download", "someone/model", "-o", tmp_path, capsys=capsys)
    path = tmp_path / "hub" / "someone--model" / "model.safetensors"
    assert err == ""
    assert out == f"{path}\nsha256 {file_sha256(path)}\n"


def test_without_click(tmp_path: Path) -> None:
    code = (
        "import sys\nsys.modules['click'] = None\n"
        "from sam2rt.cli import main\nmain(['--version'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    expected = "sam2rt: the command line needs the package 'click': pip install 'sam2rt[media]'\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", expected)


def test_export_without_torch(tmp_path: Path) -> None:
    code = (
        "import sys\nsys.modules['torch'] = None\n"
        "from sam2rt.cli import main\n"
        f"main(['export', 'w.pt', '-o', {str(tmp_path / 'b')!r}])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    expected = "sam2rt: export needs the package 'torch': pip install 'sam2rt[export]'\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", expected)


def _command() -> list[str]:
    found = shutil.which("sam2rt", path=str(Path(sys.executable).parent))
    return [found] if found else [sys.executable, "-c", "from sam2rt.cli import main; main()"]


def test_the_installed_command_writes_errors_to_stderr(tmp_path: Path) -> None:
    done = subprocess.run([*_command(), "inspect", str(tmp_path)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"sam2rt: expected a bundle at {tmp_path}, found a folder without manifest.json: make it "
        "again with 'sam2rt export CHECKPOINT -o BUNDLE'\n"
    )


def test_output_into_a_closed_pipe_is_no_crash(bundle: Bundle) -> None:
    process = subprocess.Popen(
        [*_command(), "inspect", str(bundle.path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.close()
    _, err = process.communicate()
    assert err == ""
    assert process.returncode in (0, 1)


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
@pytest.mark.parametrize(
    ("command", "sent", "code", "line"),
    [
        ("export", signal.SIGINT, 130, "interrupted"),
        ("track", signal.SIGINT, 130, "interrupted"),
        ("track", signal.SIGTERM, 143, "terminated"),
    ],
)
def test_ended_by_a_signal(
    command: str,
    sent: signal.Signals,
    code: int,
    line: str,
    weights: Path,
    bundle: Bundle,
    clip: Path,
    tmp_path: Path,
) -> None:
    """One line, the code of the signal, and nothing written, whenever it comes."""
    target = tmp_path / "result"
    args = {
        "export": ["export", str(weights), "-o", str(target), "--threads", "1"],
        "track": [
            "track", str(_long_clip(clip, tmp_path)), "--bundle", str(bundle.path),
            "--point", "40,30", "-o", str(target), "--threads", "1",
        ],
    }[command]  # fmt: skip
    process = subprocess.Popen(
        [*_command(), *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".result.*")):  # work has begun
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(sent)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (code, "", f"sam2rt: {line}\n")
    assert not target.exists()
    assert not list(tmp_path.glob(".result.*"))


def _long_clip(clip: Path, folder: Path) -> Path:
    target = folder / "clip"
    target.mkdir()
    sources = sorted(clip.iterdir())
    for i in range(200):
        (target / f"{i:04d}.png").symlink_to(sources[i % len(sources)])
    return target
