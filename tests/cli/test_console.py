"""What goes where: one JSON document on stdout, notes and progress on stderr, silence for -q."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import pytest
from hub_server import hub_of

from sam2rt.cli import main, progress_line
from sam2rt.cli.main import command_group
from sam2rt.configs.bundle import Bundle, file_sha256
from sam2rt.runtime.media.images import read_image


def run(*args: str | Path, capsys: pytest.CaptureFixture[str], code: int = 0) -> tuple[str, str]:
    with pytest.raises(SystemExit) as done:
        main([str(a) for a in args])
    out, err = capsys.readouterr()
    assert done.value.code == code, err
    return out, err


def asked(*args: str | Path, capsys: pytest.CaptureFixture[str], notes: str = "") -> Any:
    """The document of a command with --json, whose notes go to stderr, and with -q nowhere."""
    out, err = run(*args, "--json", capsys=capsys)
    assert err == notes
    document = json.loads(out)
    out, err = run(*args, "-q", "--json", capsys=capsys)
    assert err == ""
    assert json.loads(out).keys() == document.keys()
    return document


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of four frames that shift to the right."""
    folder = tmp_path_factory.mktemp("clip")
    noise = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    pixels = cv2.GaussianBlur(noise, (9, 9), 0)
    for i in range(4):
        cv2.imwrite(str(folder / f"{i:02d}.png"), np.roll(pixels, 2 * i, axis=1))
    return folder


def test_inspect_and_verify(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    document = asked("inspect", bundle.path, capsys=capsys)
    assert (document["model"], document["precision"]) == (bundle.model.name, "fp32")
    assert (document["image_size"], document["opset"]) == (bundle.model.image_size, bundle.opset)
    assert document["bytes"] == sum(file.size for file in bundle.files())
    assert list(document["graphs"]) == list(bundle.graphs)
    encoder = document["graphs"]["image_encoder"]
    size = bundle.model.image_size
    assert encoder["inputs"] == [
        {"name": "image", "dtype": "float32", "shape": ["B", 3, size, size]}
    ]
    assert encoder["bytes"] == (bundle.path / encoder["file"]).stat().st_size
    assert document["proof"] == bundle.proof
    proof = asked("verify", bundle.path, "--threads", "1", capsys=capsys)
    assert (proof["status"], proof["seed"]) == ("passed", bundle.proof["seed"])


def test_segment(
    bundle: Bundle, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    args = ["segment", clip / "00.png", "--bundle", bundle.path, "-o", out, "--threads", "1"]
    prompts = ["--object", "4", "--point", "40,30", "--object", "9", "--box", "5,5,30,30"]
    document = asked(*args, *prompts, capsys=capsys, notes=f"written to {out}\n")
    assert document["folder"] == str(out)
    assert [(m["object"], m["reading"]) for m in document["masks"]][1] == (9, 1)
    for mask in document["masks"]:
        assert mask["file"] == str(out / f"mask_{mask['object']}.png")
        assert mask["area"] == np.count_nonzero(read_image(mask["file"])[..., 0])
        assert 0 <= mask["predicted_iou"] <= 1
    document = asked(
        *args, "--point", "40,30", "--all-masks", capsys=capsys, notes=f"written to {out}\n"
    )
    assert [(m["object"], m["reading"]) for m in document["masks"]] == [(1, 1), (1, 2), (1, 3)]
    records = json.loads((out / "masks.json").read_text())["annotations"]
    assert [m["predicted_iou"] for m in document["masks"]] == [r["predicted_iou"] for r in records]
    assert [m["file"] for m in document["masks"]] == [str(out / r["file_name"]) for r in records]
    # without JSON the answer stays, and notes go with it until they are unwanted
    text, _ = run(*args, "--point", "40,30", capsys=capsys)
    quiet, _ = run(*args, "--point", "40,30", "--quiet", capsys=capsys)
    assert text == f"{quiet}written to {out}\n"
    assert quiet.startswith("object 1: ")


def test_masks(
    bundle: Bundle, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    args = ["masks", clip / "00.png", "--bundle", bundle.path, "-o", out, "--threads", "1"]
    document = asked(
        *args, "--points-per-side", "2", "--pred-iou-thresh", "0", "--stability-score-thresh", "0",
        "--box-nms-thresh", "1", capsys=capsys,
    )  # fmt: skip
    records = json.loads((out / "masks.json").read_text())["annotations"]
    assert [m["id"] for m in document["masks"]] == [r["id"] for r in records] != []
    assert [m["area"] for m in document["masks"]] == [r["area"] for r in records]
    assert "segmentation" not in document["masks"][0]
    nothing = ["--points-per-side", "1", "--pred-iou-thresh", "1"]
    hint = "for more, lower --pred-iou-thresh and --stability-score-thresh\n"
    assert asked(*args, *nothing, capsys=capsys, notes=hint)["masks"] == []


def test_track_by_ids_through_a_range_backwards(
    bundle: Bundle, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = np.zeros((60, 80), np.uint8)
    ids[10:30, 10:40], ids[35:50, 50:70] = 3, 8
    cv2.imwrite(str(tmp_path / "ids.png"), ids)
    out = tmp_path / "out"
    document = asked(
        "track", clip, "--bundle", bundle.path, "--frame", "3", "--mask-ids", tmp_path / "ids.png",
        "--reverse", "--start", "1", "--no-video", "-o", out, "--threads", "1",
        capsys=capsys, notes=f"written to {out}\n",
    )  # fmt: skip
    assert document.keys() == {
        "folder", "frames", "objects", "seconds", "frames_per_second", "missing",
    }  # fmt: skip
    assert (document["frames"], document["objects"]) == (3, [3, 8])
    speed = document["frames"] / document["seconds"]
    assert document["frames_per_second"] == pytest.approx(speed, rel=0.01)
    names = sorted(p.name for p in (out / "masks" / "8").iterdir())
    assert names == ["00001.png", "00002.png", "00003.png"]
    # a mask that is given comes back as it is
    found = read_image(out / "masks" / "8" / "00003.png")[..., 0] > 0
    assert (found & (ids == 8)).sum() / (found | (ids == 8)).sum() > 0.8


def test_eval_prints_its_report_or_writes_it(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["eval", "synthetic", "--bundle", bundle.path, "--clips", "1", "--frames", "3"]
    small = [*args, "--threads", "1"]
    document = asked(*small, capsys=capsys)
    assert document["frames"] == 3
    assert run(*small, "--json", "-", "-q", capsys=capsys)[1] == ""
    path = tmp_path / "r.json"
    out, _ = run(*small, "--json", path, capsys=capsys)
    assert json.loads(path.read_text())["results"] == document["results"]
    quiet, _ = run(*small, "--json", path, "-q", capsys=capsys)
    assert out.endswith(f"written to {path}\n")
    assert "J&F" in quiet
    assert "written to" not in quiet


@pytest.mark.parametrize("command", ["eval", "bench"])
def test_a_file_that_json_took_is_named(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    what = "DATASET" if command == "eval" else "BUNDLE"
    out, err = run(command, "--json", "synthetic", capsys=capsys, code=2)
    assert (out, err) == (
        "",
        f"sam2rt: Missing argument '{what}'. 'synthetic' was taken as the file of --json: name "
        f"--json last, or write --json - (see 'sam2rt {command} --help')\n",
    )


def test_one_frame_is_no_frames(
    bundle: Bundle, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["track", clip, "--bundle", bundle.path, "--point", "40,30", "--end", "0"]
    out, _ = run(*args, "--no-video", "-q", "-o", tmp_path / "o", "--threads", "1", capsys=capsys)
    assert out.startswith("1 frame, objects 1: ")


@pytest.mark.parametrize("option", ["--mask", "--mask-ids", "--prompts"])
def test_an_empty_name_is_told(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["track", "c", "--bundle", "b", "-o", "o", option, ""]
    assert run(*args, capsys=capsys, code=2)[1] == (
        f"sam2rt: Invalid value for '{option}': the name is empty: expected a file (see 'sam2rt "
        "track --help')\n"
    )


def test_doctor_and_plugins(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    out, err = run("doctor", bundle.path, "--json", capsys=capsys)
    assert err == ""
    found = {f["topic"]: f["text"] for f in json.loads(out)}
    assert found["bundle"] == f"{bundle.model.name}, fp32, {bundle.path}"
    out, _ = run("plugins", "--json", "-q", capsys=capsys)
    assert "sam2rt::MemoryCrossAttention" in {p["name"] for p in json.loads(out)}


def test_download(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "repository").mkdir()
    (tmp_path / "repository" / "model.safetensors").write_bytes(b"some weights")
    with hub_of(tmp_path / "repository") as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        document = asked("download", "someone/bundle", "-o", tmp_path, capsys=capsys)
    path = tmp_path / "hub" / "someone--bundle" / "model.safetensors"
    assert document == {"path": str(path), "sha256": file_sha256(path)}


def test_progress_goes_to_stderr_and_quiet_ends_it(
    bundle: Bundle, clip: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(progress_line, "EVERY", 0.0)
    args = ["track", clip, "--bundle", bundle.path, "--point", "40,30", "--no-video"]
    more = ["-o", tmp_path / "out", "--threads", "1", "--json"]
    out, err = run(*args, *more, capsys=capsys)
    assert json.loads(out)["frames"] == 4
    lines = err.splitlines()
    assert lines[0] == "opening the bundle"
    # on a slow machine the first stage is said again, with its time
    assert next(x for x in lines if "bundle" not in x) == "tracking 1 of 4 (25 %)"
    assert lines[-2].startswith("tracking 4 of 4 (100 %), ")
    assert lines[-1] == f"written to {tmp_path / 'out'}"
    assert run(*args, *more, "-q", capsys=capsys)[1] == ""


def test_every_command_has_both_options_and_says_what_its_options_do() -> None:
    group = command_group()
    for name, command in group.commands.items():
        options = [p for p in command.params if isinstance(p, click.Option)]
        names = {o for p in options for o in p.opts}
        assert {"--json", "-q", "--quiet"} <= names, name
        for option in options:
            assert option.help, f"{name} {option.opts[0]}"
            assert option.help[0].isupper() or option.help.startswith("["), option.help
            sentence = option.help.partition("  [")[0]
            assert sentence.endswith("."), f"{name} {option.opts[0]}: {option.help}"


def test_no_line_of_the_help_is_cut_off(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    out, _ = run("--help", capsys=capsys)
    rows = [line for line in out.splitlines() if line.startswith("  ")]
    assert len(rows) > len(command_group().commands)
    assert [row for row in rows if row.endswith("...")] == []
    assert max(map(len, rows)) <= 80


def test_the_codes_of_exit_are_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = run("--help", capsys=capsys)
    assert " ".join(out.split()).endswith(
        "Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted, 143 terminated."
    )


@pytest.mark.parametrize("command", ["doctor --json", "--help", "plugins"])
def test_a_reader_that_has_gone_is_no_crash(command: str) -> None:
    script = f"{sys.executable} -m sam2rt {command} | true"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("", "")
