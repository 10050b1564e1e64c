"""What the shell is told: scripts, and candidates for commands, options and values."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sam2rt.cli import main

OFFICIAL = ["sam2.1_hiera_tiny", "sam2.1_hiera_small"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with two bundles, one of them deeper, and a folder that is none."""
    for name in ("bundle", "runs/bundle512"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "manifest.json").touch()
    (tmp_path / "books").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def offered(
    line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """What bash is told for a line whose last word is being typed: kind and value."""
    words = line.split(" ")
    monkeypatch.setenv("_SAM2RT_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "\n".join(words))
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    with pytest.raises(SystemExit) as done:
        main([])
    out, err = capsys.readouterr()
    assert (done.value.code, err) == (0, "")
    return out.splitlines()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("sam2rt seg", ["plain,segment"]),
        ("sam2rt tra", ["plain,track", "plain,track-many", "plain,train"]),
        ("sam2rt export --prec", ["plain,--precision"]),
        ("sam2rt export --precision ", ["plain,fp32", "plain,fp16", "plain,bf16", "plain,int8"]),
        ("sam2rt export --model micro", ["plain,micro", "plain,micro20"]),
        (
            "sam2rt export sam2.1_hiera_",
            [*(f"plain,{name}" for name in OFFICIAL), "plain,sam2.1_hiera_base_plus",
             "plain,sam2.1_hiera_large"],
        ),
        ("sam2rt export sam2rt", ["plain,sam2rt_micro"]),
        ("sam2rt download sam2.1_hiera_t", ["plain,sam2.1_hiera_tiny"]),
        ("sam2rt train x --from sam2_hiera_s", ["plain,sam2_hiera_small"]),
        ("sam2rt export w", ["file,w"]),
        ("sam2rt segment p.png --bundle b", ["plain,bundle"]),
        ("sam2rt verify ", ["plain,bundle"]),
        ("sam2rt inspect runs/", ["plain,runs/bundle512"]),
        ("sam2rt build r", ["dir,r"]),
        ("sam2rt doctor nowhere/", ["dir,nowhere/"]),
        ("sam2rt masks p.png --device t", ["plain,tensorrt"]),
        (
            "sam2rt bench bundle --baseline t",
            [f"plain,transformers{variant}" for variant in ("", "-compiled", "-bf16")],
        ),
        ("sam2rt eval syn", ["plain,synthetic"]),
        ("sam2rt eval synthetic --level h", ["plain,hard"]),
        ("sam2rt eval d", ["dir,d"]),
        # after prompts, whose order is read, wrong ones too
        ("sam2rt track c.mp4 --point 1,2 --object 3 --bun", ["plain,--bundle"]),
        ("sam2rt track c.mp4 --point wrong --on-error s", ["plain,skip"]),
    ],
)  # fmt: skip
def test_candidates(
    line: str,
    expected: list[str],
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert offered(line, capsys, monkeypatch) == expected


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_a_script(
    shell: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("_SAM2RT_COMPLETE", f"{shell}_source")
    with pytest.raises(SystemExit) as done:
        main(["export", "w.pt"])
    out, _ = capsys.readouterr()
    assert done.value.code == 0
    assert f"_SAM2RT_COMPLETE={shell}_complete" in out
    assert "Usage" not in out


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not here")
def test_bash_itself_completes_a_bundle(folder: Path) -> None:
    bin_folder = Path(sys.executable).parent
    if not (bin_folder / "sam2rt").exists():
        pytest.skip("the command is not installed here")
    script = (
        'eval "$(_SAM2RT_COMPLETE=bash_source sam2rt)"\n'
        "COMP_WORDS=(sam2rt inspect b); COMP_CWORD=2\n"
        "_sam2rt_completion sam2rt 2>/dev/null\n"
        'echo "${COMPREPLY[@]}"\n'
    )
    environment = {**os.environ, "PATH": f"{bin_folder}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=environment)
    assert done.stdout == "bundle\n", done.stderr
