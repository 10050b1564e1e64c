"""The command line of the bench: what is asked for is what is measured."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from fake_bundle import write_bundle

from sam2rt.benchmarks.speed.bench import Request, bench_bundle
from sam2rt.benchmarks.speed.machine import Machine
from sam2rt.benchmarks.speed.report import BenchReport, SystemReport, timings, write_json
from sam2rt.benchmarks.speed.systems.system import Work
from sam2rt.cli.commands import bench as console
from sam2rt.configs.bundle import Bundle
from sam2rt.configs.errors import InputError

MACHINE = Machine("A CPU", 2, 8.0, "Linux 6", "3.11", {"numpy": "2"}, 100.0, 2)
Run = Callable[..., Any]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[Run, list[Request]]:
    """Runs the command on a bundle that is not opened; requests are noted, figures made up."""
    requests: list[Request] = []
    write_bundle(tmp_path / "b")

    def measured(bundle: Bundle, request: Request, progress: object) -> BenchReport:
        requests.append(request)
        frame = {"memory_attention": 0.02 * len(requests), "total": 0.03, "cpu": 0.03}
        system = SystemReport("ours", "fp32", "same", stages=timings([frame]))
        return BenchReport(MACHINE, bundle.model.name, 256, request.work, (system,))

    monkeypatch.setattr(console, "bench_bundle", measured)

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(console.bench, [str(tmp_path / "b"), *arguments])

    return run, requests


def test_options_become_the_request(asked: tuple[Run, list[Request]], tmp_path: Path) -> None:
    run, requests = asked
    (tmp_path / "onnx").mkdir()
    (tmp_path / "w.pt").touch()
    done = run(
        "--objects",
        "2",
        "--memories",
        "3",
        "--pointers",
        "4",
        "--threads",
        "1",
        "--frames",
        "5",
        "--scored-frames",
        "6",
        "--growing",
        "--sweep-objects",
        "1,2,16",
        "--point-frames",
        "2",
        "--baseline",
        "transformers",
        "--baseline",
        "original-compiled",
        "--ablate",
        "full-values",
        "--onnx",
        str(tmp_path / "onnx"),
        "--onnx-dim",
        "tokens=9",
        "--also",
        str(tmp_path / "b"),
        "--checkpoint",
        str(tmp_path / "w.pt"),
    )
    assert done.exit_code == 0, done.output
    assert requests == [
        Request(
            Work(2, 3, 4, 1, scored_frames=6),
            frames=5,
            growing=True,
            object_counts=(1, 2, 16),
            point_frames=2,
            baselines=("transformers", "original-compiled"),
            ablations=("full-values",),
            onnx=(tmp_path / "onnx",),
            dims=(("tokens", 9),),
            also=(tmp_path / "b",),
            checkpoint=str(tmp_path / "w.pt"),
        )
    ]


def test_all_ablations_are_those_that_the_bundle_allows(asked: tuple[Run, list[Request]]) -> None:
    run, requests = asked
    assert run("--ablate", "all").exit_code == 0
    wanted = {
        "full-values",
        "whole-attention",
        "unshared",
        "batch-of-one",
        "plain-session",
        "other-onnx",
    }
    assert set(requests[0].ablations) - {"split"} == wanted


def test_the_size_of_frames_is_that_of_the_video(
    asked: tuple[Run, list[Request]], tmp_path: Path
) -> None:
    import numpy as np
    from PIL import Image

    run, requests = asked
    (tmp_path / "v").mkdir()
    for index in range(2):
        Image.fromarray(np.zeros((6, 8, 3), np.uint8)).save(tmp_path / "v" / f"{index}.png")
    done = run("--video", str(tmp_path / "v"))
    assert done.exit_code == 0, done.output
    assert requests[0].work.frame_size == (6, 8)
    assert "frames: v 8 x 6" in done.output


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--onnx-dim", "tokens"], "'tokens': expected NAME=SIZE"),
        (["--onnx-dim", "a=b"], "'a=b': expected NAME=SIZE"),
        (["--sweep-objects", "1,x"], "'1,x': expected numbers of objects"),
        (["--sweep-objects", "0"], "'0': expected numbers of objects"),
        (["--baseline", "nobody"], "'nobody' is not one of 'original'"),
        (["--plot", "x.gif"], ""),
        (["--threads", "99999"], "99999 is not in the range 1<=x<=1024"),
        (["--backend", "nobody"], "'nobody' is not one of 'onnxruntime'"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_measuring(
    asked: tuple[Run, list[Request]], arguments: list[str], why: str
) -> None:
    run, requests = asked
    done = run(*arguments)
    assert done.exit_code != 0
    assert why in done.output
    assert not requests


def test_reports_are_written_drawn_and_compared(
    asked: tuple[Run, list[Request]], tmp_path: Path
) -> None:
    run, _ = asked
    old, plot = tmp_path / "old.json", tmp_path / "p.svg"
    done = run("--json", str(old), "--plot", str(plot))
    assert done.exit_code == 0, done.output
    assert json.loads(old.read_text())["systems"][0]["name"] == "ours"
    assert "memory_attention" in plot.read_text()
    again = run("--compare", str(old))
    rows = [" ".join(line.split()) for line in again.output.splitlines()]
    assert "ours memory_attention 2.00 slower" in rows
    assert "ours whole frame 1.00" in rows


@pytest.mark.parametrize("option", ["--json", "--plot"])
def test_targets_are_tried_before_measuring(
    option: str, asked: tuple[Run, list[Request]], tmp_path: Path
) -> None:
    run, requests = asked
    done = run(option, str(tmp_path / "none" / "r.png"))
    assert "there is no folder" in str(done.exception)
    assert isinstance(done.exception, InputError)
    assert not requests


def test_a_report_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, *_: object, **__: object) -> int:
        path.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left"):
        write_json({"a": 1}, tmp_path / "r.json")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "most"), [("memories", 7), ("pointers", 16)])
def test_more_than_the_model_has_is_refused(name: str, most: int, tmp_path: Path) -> None:
    write_bundle(tmp_path / "b")
    bundle = Bundle.load(tmp_path / "b")
    with pytest.raises(InputError) as refused:
        bench_bundle(bundle, Request(replace(Work(), **{name: most + 1})))
    assert str(refused.value) == (
        f"{most + 1} {name}: {bundle.model.name} has {most} at most, ask for 1 to {most}"
    )


def test_the_documentation_names_options_that_exist() -> None:
    page = Path(__file__).resolve().parents[3] / "docs" / "benchmarks.md"
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", page.read_text(encoding="utf-8")))
    assert named <= {option for param in console.bench.params for option in param.opts}
