"""``sam2rt eval``: what it prints and writes, what it refuses, how it is interrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam2rt.cli import main
from sam2rt.configs.bundle import Bundle


def run(*args: str | Path, capsys: pytest.CaptureFixture[str], code: int = 0) -> tuple[str, str]:
    with pytest.raises(SystemExit) as done:
        main(["eval", *map(str, args)])
    out, err = capsys.readouterr()
    assert done.value.code == code, err
    return out, err


def synthetic(bundle: Bundle, *more: str | Path) -> list[str | Path]:
    small = ["--clips", "2", "--frames", "4", "--processes", "1", "--threads", "1"]
    return ["synthetic", "--bundle", bundle.path, *small, *more]


def test_synthetic_set(bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "report.json"
    out, err = run(*synthetic(bundle, "--json", path), capsys=capsys)
    assert err == ""
    data = json.loads(path.read_text())
    assert 0 <= data["J&F"] <= 1
    assert data["J&F"] == pytest.approx((data["J"] + data["F"]) / 2)
    assert data["J&F"] == pytest.approx(np.mean([o["J&F"] for o in data["results"]]))
    assert (data["dataset"], data["prompt"], data["frames"]) == ("synthetic standard", "click", 8)
    assert data["model"]["precision"] == "fp32"
    assert f"{data['J&F']:8.3f}" in out
    assert out.endswith(f"written to {path}\n")
    assert [p.name for p in tmp_path.iterdir()] == ["report.json"]
    again = tmp_path / "again.json"
    run(*synthetic(bundle, "--json", again), capsys=capsys)
    other = tmp_path / "other.json"
    run(*synthetic(bundle, "--seed", "1", "--json", other), capsys=capsys)
    results = [json.loads(p.read_text())["results"] for p in (path, again, other)]
    assert results[0] == results[1]
    assert results[0] != results[2]


def test_other_levels_and_protocols(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = run(
        *synthetic(bundle, "--level", "plain", "--protocol", "offline"), "--rounds", "2",
        "--clicks", "1", capsys=capsys,
    )  # fmt: skip
    assert "plain_" in out
    line = next(row for row in out.splitlines() if row.startswith("J&F after each round: "))
    assert len(line.split(": ")[1].split()) == 2


def test_a_folder(bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for video in ("a", "b"):
        for i in range(3):
            for part in ("JPEGImages", "Annotations"):
                folder = tmp_path / "set" / part / video
                folder.mkdir(parents=True, exist_ok=True)
                pixels = np.zeros((40, 50, 3), np.uint8)
                pixels[10:20, 10 + i : 30] = 1 if part == "Annotations" else 200
                image = pixels[..., 0] if part == "Annotations" else pixels
                Image.fromarray(image).save(folder / f"{i:05d}.png")
    out, _ = run(
        tmp_path / "set", "--bundle", bundle.path, "--video", "b", "--masks", tmp_path / "masks",
        "--threads", "1", capsys=capsys,
    )  # fmt: skip
    assert [row.split()[0] for row in out.splitlines()[1:2]] == ["b"]
    assert "1 objects, 1 videos" in out
    written = sorted(p.name for p in (tmp_path / "masks" / "b").iterdir())
    assert written == ["00000.png", "00001.png", "00002.png"]


def test_masks_in_place_of_ids_are_refused_before_any_work(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for part, value in (("JPEGImages", 200), ("Annotations", 255)):
        folder = tmp_path / "set" / part / "a"
        folder.mkdir(parents=True)
        for i in range(2):
            pixels = np.zeros((40, 50), np.uint8)
            pixels[10:20, 10 + i : 30] = value
            Image.fromarray(pixels).save(folder / f"{i:05d}.png")
    command = [tmp_path / "set", "--bundle", bundle.path, "--threads", "1", "--processes", "1"]
    _, err = run(*command, capsys=capsys, code=1)
    assert err.startswith("sam2rt: video a: its annotations hold 0 and 255 alone")
    # a first frame alone scores nothing: that is no success, unless predictions are made
    (tmp_path / "set" / "Annotations" / "a" / "00001.png").unlink()
    pixels[pixels > 0] = 1
    Image.fromarray(pixels).save(tmp_path / "set" / "Annotations" / "a" / "00000.png")
    out, err = run(*command, capsys=capsys, code=1)
    assert "0 objects, 1 videos" in out
    assert "sam2rt: nothing was scored: annotate objects (ids 1 to 254) on more frames" in err
    run(*command, "--masks", tmp_path / "masks", capsys=capsys)
    assert len(list((tmp_path / "masks" / "a").iterdir())) == 2


def test_bad_input_is_one_line(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = [
        ([tmp_path / "none", "--bundle", bundle.path], "is no folder"),
        ([tmp_path, "--bundle", bundle.path], "none of the known layouts"),
        (["synthetic", "--bundle", tmp_path], "expected a bundle at"),
        (synthetic(bundle, "--level", "easy"), "unknown level 'easy'"),
        (synthetic(bundle, "--backend", "onnxruntime", "--device", "tpu"), "unknown device 'tpu'"),
        (synthetic(bundle, "--protocol", "online", "--masks", tmp_path), "are not written"),
    ]
    for args, message in cases:
        out, err = run(*args, capsys=capsys, code=1)
        assert out == ""
        assert err.startswith("sam2rt: ")
        assert err.count("\n") == 1
        assert message in err
    _, err = run("synthetic", "--prompt", "word", capsys=capsys, code=2)
    assert "--prompt" in err


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
@pytest.mark.slow
@pytest.mark.parametrize("processes", ["1", "2"])
def test_ctrl_c_keeps_finished_videos(processes: str, bundle: Bundle, tmp_path: Path) -> None:
    """One line and code 130; the same command goes on and takes the finished videos over."""
    path = tmp_path / "report.json"
    command = [
        sys.executable, "-c", "from sam2rt.cli import main; main()", "eval", "synthetic",
        "--bundle", str(bundle.path), "--clips", "6", "--frames", "12", "--json", str(path),
        "--threads", "1", "--processes", processes,
    ]  # fmt: skip
    parts = tmp_path / "report.json.videos"
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 120
    while not list(parts.glob("standard*.json")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    kept, *rest = err.splitlines()
    assert kept.endswith("videos are finished and kept; repeat to go on")
    assert rest == ["sam2rt: interrupted"]
    finished = {p: json.loads(p.read_text()) for p in parts.glob("*.json")}
    assert kept.startswith(f"{len(finished)} of 6")
    assert not path.exists()
    subprocess.run(command, check=True, capture_output=True)
    data = json.loads(path.read_text())
    assert data["videos"] == 6
    assert not parts.exists()
    seconds = sum(p["record"]["seconds"] for p in finished.values())
    assert data["seconds"] > seconds


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["synthetic", "--video", "b"], "--video has no effect on synthetic clips"),
        (["synthetic", "--layout", "davis"], "--layout has no effect on synthetic clips"),
        (["synthetic", "--subset", "val"], "--subset has no effect on synthetic clips"),
        (
            ["synthetic", "--protocol", "online", "--prompt", "box"],
            "--prompt has no effect on the online protocol: leave it out, it is for the "
            "semi-supervised one",
        ),
        (["synthetic", "--rounds", "2"], "--rounds has no effect on the semi-supervised protocol"),
        (["folder", "--seed", "2"], "--seed has no effect on a folder"),
    ],
)
def test_options_without_effect_are_refused(
    args: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out, err = run(*args, capsys=capsys, code=2)
    assert out == ""
    assert message in err
    assert err.count("\n") == 1


def test_a_report_without_a_place_is_refused_first(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, err = run(*synthetic(bundle, "--json", tmp_path / "no" / "r.json"), capsys=capsys, code=1)
    assert f"there is no folder {tmp_path / 'no'}: make it" in err
    assert list(tmp_path.iterdir()) == []
