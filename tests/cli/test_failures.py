"""What goes wrong on the command line is one line that names the option; nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from sam2rt.cli import main as cli
from sam2rt.cli.signals import Ended
from sam2rt.configs.bundle import Bundle
from sam2rt.configs.errors import FrameError, ProofError, SessionError
from sam2rt.runtime.media.open import open_frames
from sam2rt.runtime.media.video import writer as video_writer
from sam2rt.runtime.tasks.prompts import ObjectPrompt
from sam2rt.runtime.tasks.track import track_video


def failed(*args: str | Path, capsys: pytest.CaptureFixture[str], code: int = 1) -> str:
    """The one line of a command that fails."""
    with pytest.raises(SystemExit) as done:
        cli([str(a) for a in args])
    out, err = capsys.readouterr()
    assert (done.value.code, out, err.count("\n")) == (code, "", 1), err
    assert err.startswith("sam2rt: ")
    return err.removeprefix("sam2rt: ").rstrip("\n")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MemoryError(), "not enough memory: ask for less at a time, or free some"),
        (MemoryError("9 GiB"), "not enough memory (9 GiB): ask for less at a time, or free some"),
        (FrameError("use on_error='skip' or 'hold'"), "use --on-error skip or hold"),
    ],
)
def test_errors_in_the_words_of_the_command_line(
    error: BaseException,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(args: list[str]) -> int:
        raise error

    monkeypatch.setattr(sys.modules["sam2rt.cli.main"], "_run", fail)
    assert failed("track", capsys=capsys) == line


@pytest.mark.parametrize("command", ["segment", "track", "masks", "export", "demo", "eval"])
def test_threads_are_bounded(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    line = failed(command, "--threads", "99999", capsys=capsys, code=2)
    assert "'--threads': 99999 is not in the range 1<=x<=1024" in line


def test_grids_are_bounded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    masks = ["masks", "p.png", "--bundle", str(tmp_path), "-o", str(tmp_path / "o")]
    line = failed(*masks, "--points-per-side", "257", capsys=capsys, code=2)
    assert "'--points-per-side': 257 is not in the range 1<=x<=256" in line
    few = ["--points-per-side", "4", "--crop-n-layers", "2"]
    line = failed(*masks, *few, "--crop-n-points-downscale-factor", "3", capsys=capsys)
    assert line == (
        "crop layer 2 would have 0 points a side, 4 divided by 9: raise --points-per-side to 9, "
        "or lower --crop-n-points-downscale-factor or --crop-n-layers"
    )


def test_shares_are_bounded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    masks = ["masks", "p.png", "--bundle", str(tmp_path), "-o", str(tmp_path / "o")]
    for name in ("pred-iou-thresh", "stability-score-thresh", "box-nms-thresh"):
        line = failed(*masks, f"--{name}", "1.5", capsys=capsys, code=2)
        assert f"'--{name}': 1.5 is not in the range 0<=x<=1" in line


def test_a_target_that_cannot_be_used_is_told_before_weights_are_fetched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sam2rt.export.checkpoint.load.load_checkpoint", None)
    (tmp_path / "thesis.txt").touch()
    line = failed("export", "sam2.1_hiera_large", "-o", tmp_path, capsys=capsys)
    assert line == (
        f"folder {tmp_path} is not empty and holds no manifest.json: name another folder"
    )


@pytest.mark.parametrize(
    ("option", "line"),
    [
        (("--opset", "17"), "opset 17 is not supported: expected one of [18, 19, 20]"),
        (
            ("--image-size", "1000"),
            "image size 1000 is not legal: expected a multiple of 32, at least 64",
        ),
        (
            ("--precision", "int8", "--engine-variants"),
            "int8 is for CPUs: export fp32, fp16 or bf16 for engines",
        ),
    ],
)
def test_an_export_that_cannot_be_made_is_told_before_weights_are_fetched(
    option: tuple[str, ...],
    line: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sam2rt.export.checkpoint.load.load_checkpoint", None)
    target = tmp_path / "bundle"
    assert failed("export", "sam2.1_hiera_large", "-o", target, *option, capsys=capsys) == line
    assert not target.exists()


def test_an_image_is_no_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "p.png").touch()
    line = failed("inspect", tmp_path / "p.png", capsys=capsys)
    assert line.startswith(f"expected a bundle at {tmp_path / 'p.png'}, found a file: ")


def test_warnings_are_for_programmers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pillow warns of images of 90 megapixels, which are fine."""

    def warn(args: list[str]) -> int:
        warnings.warn("could be decompression bomb DOS attack", stacklevel=1)
        return 0

    monkeypatch.setattr(sys.modules["sam2rt.cli.main"], "_run", warn)
    monkeypatch.setattr("sys.warnoptions", [])
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with pytest.raises(SystemExit):
            cli([])
        assert seen == []
        monkeypatch.setattr("sys.warnoptions", ["always"])
        with pytest.raises(SystemExit):
            cli([])
        assert len(seen) == 1
    assert capsys.readouterr() == ("", "")


def test_text_is_no_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.jpg").write_text("hello text")
    line = failed("export", tmp_path / "text.jpg", "-o", tmp_path / "b", capsys=capsys)
    assert line == (
        f"{tmp_path / 'text.jpg'} is no checkpoint, or truncated (neither a torch nor a "
        "safetensors file): download or save it again"
    )


@pytest.mark.skipif(os.name != "posix", reason="descriptors are POSIX")
@pytest.mark.parametrize(
    ("closed", "args", "code", "said"),
    [
        (">&-", "plugins", 0, ("", "")),
        ("2>&-", "inspect none", 1, ("", "")),
        (">&-", "inspect none", 1, ("", "sam2rt: expected a bundle at none, found no such ")),
    ],
)
def test_closed_streams_are_no_crash(
    closed: str, args: str, code: int, said: tuple[str, str], tmp_path: Path
) -> None:
    command = f"{sys.executable} -c 'from sam2rt.cli import main; main()' {args} {closed}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (code, said[0])
    assert done.stderr.startswith(said[1])
    assert bool(done.stderr) == bool(said[1])


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes are Linux's")
def test_an_overlay_in_a_folder_of_any_name(bundle: Bundle, tmp_path: Path) -> None:
    prompt = ObjectPrompt(1, 0, [(5.0, 5.0, 1)])
    frames, out = np.zeros((2, 60, 80, 3), np.uint8), tmp_path / "o\udcff"
    assert track_video(bundle, frames, out, [prompt], threads=1).missing is None
    with open_frames(out / "overlay.mp4") as overlay:
        assert overlay.num_frames == 2


@pytest.mark.parametrize("existing", [False, True])
def test_a_failed_demo_leaves_what_was_there(
    existing: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object) -> None:
        raise ProofError("the clip differs")

    monkeypatch.setattr("sam2rt.benchmarks.demo._write_clip", fail)
    monkeypatch.setattr("sam2rt.cli.commands.demo.proof_lines", lambda proof: ["proved", ""])
    model = SimpleNamespace(name="m", image_size=8)
    exported = SimpleNamespace(proof={}, model=model)

    def export(checkpoint: object, target: Path, **_: object) -> SimpleNamespace:
        target.mkdir(parents=True)
        return exported

    monkeypatch.setattr("sam2rt.export.bundle.export_bundle", export)
    out = tmp_path / "out"
    if existing:
        out.mkdir()
        (out / "mine").touch()
    with pytest.raises(SystemExit) as done:
        cli(["demo", "-o", str(out), "--frames", "1"])
    assert done.value.code == 1
    assert capsys.readouterr().err == "sam2rt: the clip differs\n"
    assert [p.relative_to(tmp_path).as_posix() for p in sorted(tmp_path.rglob("*"))] == (
        ["out", "out/mine"] if existing else []
    )


def test_an_overlay_that_cannot_be_encoded_is_one_line_beside_the_masks(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video_writer, "_ENCODERS", {"none": {}})
    prompt = ObjectPrompt(1, 0, [(5.0, 5.0, 1)])
    out = tmp_path / "out"
    summary = track_video(bundle, np.zeros((2, 60, 80, 3), np.uint8), out, [prompt])
    assert summary.missing == (
        f"no overlay.mp4: cannot write a video of 80 x 60 at 25 frames a second to {out} (the "
        "installed PyAV has none of the encoders none): leave the video out (--no-video, in Python "
        "write_video=False)"
    )
    assert sorted(p.name for p in out.iterdir()) == ["masks", "masks.json", "sheet.png"]
    assert sorted(p.name for p in (out / "masks" / "1").iterdir()) == ["00000.png", "00001.png"]
    frames = np.zeros((2, 60, 80, 3), np.uint8)
    write, written = video_writer.VideoWriter._mux, []

    def full(self: object, planes: object) -> None:
        written.append(planes)
        if len(written) == 2:
            raise OSError(28, "No space left on device")
        write(self, planes)  # type: ignore[arg-type]

    monkeypatch.undo()
    monkeypatch.setattr(video_writer.VideoWriter, "_mux", full)
    summary = track_video(bundle, frames, out, [prompt])
    assert summary.missing is not None
    assert "(No space left on device)" in summary.missing
    assert sorted(p.name for p in out.iterdir()) == ["masks", "masks.json", "sheet.png"]
    monkeypatch.undo()
    summary = track_video(bundle, frames, out, [prompt])
    assert summary.missing is None
    assert (out / "overlay.mp4").is_file()


def test_a_seed_is_for_a_checkpoint(capsys: pytest.CaptureFixture[str]) -> None:
    assert failed("verify", "b", "--seed", "3", capsys=capsys, code=2) == (
        "--seed has no effect on the bundle's own record: leave it out, it is for --checkpoint "
        "(see 'sam2rt verify --help')"
    )


@pytest.mark.parametrize(
    ("signalled", "code", "line"),
    [(Ended(signal.SIGTERM), 143, "terminated"), (KeyboardInterrupt(), 130, "interrupted")],
)
def test_a_signal_amid_an_import_is_no_broken_package(
    signalled: KeyboardInterrupt,
    code: int,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A module in C++ turns what its import raises into an ImportError of its own."""
    main = sys.modules["sam2rt.cli.main"]

    def fail(args: list[str]) -> int:
        try:
            try:
                raise signalled
            except KeyboardInterrupt as error:
                raise ImportError("initialization failed") from error
        except ImportError as error:
            raise SessionError(f"onnxruntime does not load ({error}): install it again") from None

    monkeypatch.setattr(main, "_run", fail)
    assert failed("track", capsys=capsys, code=code) == line
