"""The first things a person types: the way, names, sizes, and no colours where none are wanted."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from sam2rt.cli import main
from sam2rt.cli.group import START
from sam2rt.cli.main import command_group
from sam2rt.configs.bundle import Bundle
from sam2rt.configs.errors import CheckpointError
from sam2rt.export.checkpoint import download, transfer
from sam2rt.export.checkpoint.official import OFFICIAL


def said(*args: str, capsys: pytest.CaptureFixture[str], code: int = 0) -> tuple[str, str]:
    with pytest.raises(SystemExit) as done:
        main(list(args))
    found = capsys.readouterr()
    assert done.value.code == code, found.err
    return found.out, found.err


def test_the_command_alone_shows_the_way(capsys: pytest.CaptureFixture[str]) -> None:
    out, err = said(capsys=capsys)
    assert (out, err) == (START + "\n", "")
    group = command_group()
    lines = re.findall(r"(sam2rt (?:demo|export|segment|track|verify)\b[^'\n]*)", out)
    assert [shlex.split(line)[1] for line in lines[:5]] == [
        "demo", "export", "segment", "track", "verify",
    ]  # fmt: skip
    for line in lines:
        _, name, *rest = shlex.split(line)
        if rest != ["-h"]:
            group.commands[name].make_context(name, rest)
    assert any("export sam2rt_micro -o bundle" in line for line in lines)
    assert max(map(len, out.splitlines())) <= 100


def test_commands_still_run_and_wrong_ones_are_still_wrong(
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, _ = said("plugins", capsys=capsys)
    assert "The way" not in out
    _, err = said("nonsense", capsys=capsys, code=2)
    assert "No such command 'nonsense'" in err


@pytest.mark.parametrize("command", ["export", "download"])
def test_help_names_every_model_with_its_size(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out, _ = said(command, "--help", capsys=capsys)
    rows = dict(re.findall(r"^\s+(sam2\S+)\s+(\d+) MB$", out, re.M))
    assert rows == {name: f"{remote.size / 1e6:.0f}" for name, remote in OFFICIAL.items()}
    assert re.search(r"^\s+sam2rt_micro\s+nothing: a toy", out, re.M)


@pytest.mark.parametrize("command", ["export", "download", "demo"])
def test_the_size_is_said_before_anything_is_fetched(
    command: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SAM2RT_CACHE", str(tmp_path / "cache"))
    heard: list[str] = []

    def unreachable(self: object, *_: object) -> None:
        heard.append(capsys.readouterr().err)
        raise CheckpointError("no network")

    monkeypatch.setattr(transfer._Transfer, "run", unreachable)
    options = [] if command == "download" else ["-o", str(tmp_path / "b")]
    said(command, "sam2.1_hiera_tiny", *options, capsys=capsys, code=1)
    assert heard == ["sam2.1_hiera_tiny: 156 MB to download, once\n"]
    heard.clear()
    said(command, "sam2.1_hiera_tiny", *options, "-q", capsys=capsys, code=1)
    assert heard == [""]


def test_nothing_is_announced_that_is_not_fetched(tmp_path: Path) -> None:
    assert download.download_size("sam2.1_hiera_tiny", folder=tmp_path) == 156008466
    assert download.download_size("facebook/sam2-hiera-large", folder=tmp_path) == 897952466
    assert download.download_size("sam2rt_micro", folder=tmp_path) is None
    assert download.download_size("someone/model", folder=tmp_path) is None
    (tmp_path / "sam2.1_hiera_tiny.pt").touch()
    assert download.download_size("sam2.1_hiera_tiny", folder=tmp_path) is None


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX")
@pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {"TERM": "xterm-256color"}])
def test_no_colours_even_on_a_terminal(variables: dict[str, str]) -> None:
    import pty

    for args in ([], ["-h"], ["export", "-h"], ["inspect", "nowhere"]):
        ours, theirs = pty.openpty()
        command = [sys.executable, "-m", "sam2rt", *args]
        process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, **variables}
        )
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 4096):
                shown += part
        except OSError:
            pass  # the other end is closed
        process.wait()
        os.close(ours)
        assert b"sam2rt" in shown
        assert b"\x1b" not in shown


@pytest.mark.parametrize("encoding", ["cp1252", "cp437:surrogateescape"])
def test_an_encoding_without_the_letters_of_a_path_escapes_them(
    encoding: str, tmp_path: Path, micro_bundle: Bundle
) -> None:
    """As pipes on Windows have it."""
    out = tmp_path / "gr\u00f6\u00dfe \u6a21"
    Image.new("RGB", (64, 48)).save(tmp_path / "image.png")
    done = subprocess.run(
        [sys.executable, "-m", "sam2rt", "segment", str(tmp_path / "image.png"), "--bundle",
         str(micro_bundle.path), "--point", "9,9", "-o", str(out)],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    name = out.name.encode(encoding.split(":")[0], "backslashreplace")
    assert b"\\u6a21" in name
    assert name in done.stdout
    assert (out / "masks.json").is_file()
