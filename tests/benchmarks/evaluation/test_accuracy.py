"""The accuracy page: agreement of masks, what it says, and the whole run in the slow tier."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from colour_model import RED, Clip, ColourOpener
from PIL import Image

from sam2rt.benchmarks.evaluation import accuracy_runs
from sam2rt.benchmarks.evaluation.accuracy import page
from sam2rt.benchmarks.evaluation.accuracy_runs import (
    AccuracyPlan,
    Agreement,
    Row,
    Variant,
    agreement,
    worst_frames,
)
from sam2rt.benchmarks.evaluation.datasets import Dataset
from sam2rt.benchmarks.evaluation.metrics import RULES
from sam2rt.cli import main
from sam2rt.cli.commands.accuracy import accuracy
from sam2rt.configs.bundle import Bundle, Precision
from sam2rt.configs.progress import silent
from sam2rt.export.checkpoint.load import Checkpoint
from sam2rt.plugins.cpu import library

BOX = (20, 20, 100, 80)
DOCS = Path(__file__).resolve().parents[3] / "docs" / "accuracy.md"
NUMBERED = {f"{i}. " for i in range(1, 9)}


def write_maps(folder: Path, *maps: dict[int, tuple[int, int]]) -> Path:
    """Label maps of a clip "v": id -> first and last column of ten rows."""
    for index, columns in enumerate(maps):
        labels = np.zeros((10, 40), np.uint8)
        for i, (first, last) in columns.items():
            labels[:, first:last] = i
        path = folder / "v" / f"{index:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(labels).save(path)
    return folder


def test_agreement_is_over_objects_and_frames(tmp_path: Path) -> None:
    clip = Clip("v", (((RED, BOX),),) * 3, {})
    dataset = Dataset("test", RULES["synthetic"], (clip,))
    one = write_maps(tmp_path / "one", {}, {1: (0, 10), 2: (20, 30)}, {1: (0, 10)})
    two = write_maps(tmp_path / "two", {}, {1: (0, 10), 2: (25, 30)}, {})
    assert agreement(dataset, one, one) == Agreement(1.0, 1.0, ("v", 1, 1))
    found = agreement(dataset, one, two)
    # IoU 1 and 0.5 on frame 1; on frame 2 object 1 is lost
    assert (found.lowest, found.where) == (0, ("v", 1, 2))
    assert found.mean == pytest.approx(0.5)
    empty = write_maps(tmp_path / "empty", {}, {}, {})
    assert agreement(dataset, empty, empty) == Agreement(1.0, 1.0, None)


def test_worst_frames_are_the_lowest_of_each_object() -> None:
    results = [
        {"video": "a", "object": 1, "lowest": {"frame": 3, "J": 0.5}},
        {"video": "a", "object": 2, "lowest": None},
        {"video": "b", "object": 1, "lowest": {"frame": 9, "J": 0.1}},
        {"video": "c", "object": 1, "lowest": {"frame": 1, "J": 0.9}},
    ]
    assert worst_frames({"results": results}, 2) == [
        {"video": "b", "object": 1, "frame": 9, "J": 0.1},
        {"video": "a", "object": 1, "frame": 3, "J": 0.5},
    ]


def report(jf: float) -> dict[str, Any]:
    return {"J&F": jf, "J": jf - 0.01, "F": jf + 0.01, "model": {"name": "some_model"}}


def test_the_page_compares_each_row_with_pytorch_of_its_size(tmp_path: Path) -> None:
    def row(runtime: str, precision: str, size: int, jf: float, lowest: float) -> Row:
        variant = Variant(runtime, precision, size, ColourOpener())
        return Row(variant, report(jf), Agreement(lowest, (1 + lowest) / 2, None))

    rows = [
        row("PyTorch", "fp32", 256, 0.8, 1),
        row("ONNX Runtime", "fp32", 256, 0.8001, 1),
        row("ONNX Runtime", "fp16", 256, 0.79, 0.5),
        row("PyTorch", "fp32", 512, 0.6, 1),
        row("ONNX Runtime", "fp32", 512, 0.61, 0.25),
    ]
    level = {"J&F": 0.7, "object_score_auc": 0.97}
    able = {
        "plain": {
            "click": level, "box": {"J&F": 0.75}, "clicks": {"rounds": [0.71, 0.77]},
            "automatic": 0.9,
        }
    }  # fmt: skip
    plan = AccuracyPlan("weights", tmp_path, (256, 512), 3, 9, 5)
    text = page(rows, able, [{"video": "v", "object": 2, "frame": 7, "J": 0.125}], plan)
    lines = text.splitlines()
    run = "sam2rt accuracy weights --clips 3 --frames 9 --seed 5 --size 256 --size 512"
    assert lines[4:7] == ["```sh", run, "```"]
    assert "| plain | 0.700 | 0.750 | 0.710 | 0.770 | 0.970 | 0.900 |" in lines
    assert "| PyTorch | 256 | fp32 | 0.800 | 0.790 | 0.810 |  |  |  |" in lines
    fp16 = "| ONNX Runtime | 256 | fp16 | 0.790 | 0.780 | 0.800 | -0.0100 | 0.500 | 0.7500 |"
    assert fp16 in lines
    large = "| ONNX Runtime | 512 | fp32 | 0.610 | 0.600 | 0.620 | +0.0100 | 0.250 | 0.6250 |"
    assert large in lines
    assert lines[-1] == "1. `v`, object 2, frame 7: IoU 0.125"
    assert "`some_model`" in text


def test_the_page_that_was_kept_is_what_the_command_writes(tmp_path: Path) -> None:
    """All but figures, versions and the worst frames."""
    kept = DOCS.read_text(encoding="utf-8").splitlines()
    variant = Variant("ONNX Runtime", "fp32", 256, ColourOpener())
    facts = {"J&F": 0.5, "J": 0.5, "F": 0.5, "model": {"name": "sam2rt_micro"}}
    rows = [
        Row(replace(variant, runtime=runtime), facts, Agreement(1.0, 1.0, None))
        for runtime in ("PyTorch", "ONNX Runtime")
    ]
    plan = AccuracyPlan("sam2rt_micro", tmp_path, (256, 128, 384, 512))
    frame = {"video": "v", "object": 1, "frame": 0, "J": 0.0}
    written = page(rows, {}, [frame] * 8, plan).splitlines()
    assert [line for line in written if _fixed(line)] == [line for line in kept if _fixed(line)]


def _fixed(line: str) -> bool:
    figures = line.startswith(
        ("| PyTorch", "| ONNX", "| OpenVINO", "| plain", "| standard", "| hard")
    )
    return not (figures or line.startswith("Made by") or line[:3] in NUMBERED)


@pytest.mark.parametrize("ours", [False, True])
@pytest.mark.parametrize("openvino", [False, True])
def test_real_bfloat16_has_rows_where_it_runs(
    ours: bool, openvino: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each with the bundle that its backend runs, and the units in its name."""
    asked: list[bool] = []

    def exported(*given: Any, cpu_variants: bool = False) -> Path:
        asked.append(cpu_variants)
        return tmp_path / ("variants" if cpu_variants else "plain")

    loaded = library.CpuLibrary(tmp_path, "0" * 64, "avx512_bf16")
    monkeypatch.setattr(accuracy_runs, "_exported", exported)
    monkeypatch.setattr(library, "lacking", lambda: "" if ours else "why: remedy")
    monkeypatch.setattr(library, "load", lambda: loaded)
    monkeypatch.setattr(accuracy_runs, "_openvino_has_bfloat16", lambda: openvino)
    plan = AccuracyPlan("sam2rt_micro", tmp_path, (256,))
    made = accuracy_runs._on_units(plan, None, 256, lambda *_: None)  # type: ignore[arg-type]
    wanted = []
    if ours:
        wanted.append(("ONNX Runtime, AVX-512 BF16", "onnxruntime", "variants"))
    if openvino:
        wanted.append(("OpenVINO, 16-bit units", "openvino", "plain"))
    found = [(v.runtime, v.opener.backend, v.opener.path.name) for v in made]  # type: ignore[attr-defined]
    assert found == wanted
    assert {v.precision for v in made} <= {"bf16"}


@pytest.mark.slow
def test_the_whole_run(tmp_path: Path) -> None:
    """Untrained weights: float32 export and PyTorch agree, every precision has its row."""
    import torch

    from sam2rt.configs.models import MODELS
    from sam2rt.export.model.untrained import untrained_state

    weights = tmp_path / "w.pt"
    torch.save({"model": untrained_state(MODELS["micro"])}, weights)
    args = [str(weights), "-o", str(tmp_path / "docs"), "--work", str(tmp_path / "work")]
    args += ["--clips", "1", "--frames", "4", "--processes", "1"]
    done = CliRunner().invoke(accuracy, args, catch_exceptions=False)
    assert done.output == f"written to {tmp_path / 'docs' / 'accuracy.md'}\n"
    data = json.loads((tmp_path / "work" / "accuracy.json").read_text())
    names = [
        "PyTorch 256 fp32",
        *(f"ONNX Runtime 256 {p}" for p in ("fp32", "fp16", "bf16", "int8")),
        *(
            # where it is missing, there is nothing to load
            f"ONNX Runtime, {library.UNITS[library.load().units]} 256 bf16"
            for _ in range(not library.lacking())
        ),
        *(["OpenVINO, 16-bit units 256 bf16"] * accuracy_runs._openvino_has_bfloat16()),
    ]
    assert list(data["variants"]) == names
    exact, exported = (data["variants"][n]["J&F"] for n in names[:2])
    assert abs(exact - exported) < 1e-3
    text = (tmp_path / "docs" / "accuracy.md").read_text()
    row = next(r for r in text.splitlines() if r.startswith("| ONNX Runtime | 256 | fp32 "))
    assert float(row.split("|")[8]) > 0.99
    assert (tmp_path / "docs" / "accuracy_worst.png").stat().st_size > 1000


def test_a_checkpoint_that_is_none_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "w.pt"
    broken.write_bytes(b"no weights")
    with pytest.raises(SystemExit) as done:
        main(["accuracy", str(broken), "--work", str(tmp_path / "work")])
    assert done.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"sam2rt: {broken} is no checkpoint, or truncated (")


@pytest.mark.parametrize(
    ("output", "work", "line"),
    [
        ("file", "work", "{}/file/accuracy.md lies below a file: expected folders all the way"),
        ("docs", "file", "{}/file/accuracy.json lies below a file: expected folders all the way"),
        ("taken", "work", "{}/taken/accuracy_worst.png is a folder: name a file"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused_before_the_work(
    output: str, work: str, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def measured(*_: object) -> list[Row]:
        raise AssertionError("an hour's work")

    monkeypatch.setattr("sam2rt.benchmarks.evaluation.accuracy.measure", measured)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "taken" / "accuracy_worst.png").mkdir(parents=True)
    places = ["-o", str(tmp_path / output), "--work", str(tmp_path / work)]
    with pytest.raises(SystemExit) as done:
        main(["accuracy", "sam2rt_micro", *places])
    err = capsys.readouterr().err
    assert (done.value.code, err.count("\n")) == (1, 1), err
    assert err.startswith("sam2rt: " + line.format(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "taken"]


def test_a_bundle_of_another_version_is_made_again(
    tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which bundle is taken over goes by all that decides what is in it."""
    made: list[Path] = []
    (tmp_path / "bundles").mkdir()
    monkeypatch.setattr(
        "sam2rt.export.bundle.export_bundle", lambda _, path, **options: made.append(path)
    )
    checkpoint = Checkpoint(bundle.model, {}, bundle.checkpoint_sha256, "made by the test")
    plan = AccuracyPlan("w", tmp_path, ())
    size = bundle.model.image_size

    def exported(size: int, precision: Precision, checkpoint: Checkpoint) -> bool:
        made.clear()
        place = tmp_path / "bundles" / f"{precision}_{size}"
        shutil.rmtree(tmp_path / "bundles")
        shutil.copytree(bundle.path, place)
        assert accuracy_runs._exported(plan, checkpoint, size, precision, silent) == place
        return made == [place]

    assert not exported(size, "fp32", checkpoint)
    assert exported(size + 64, "fp32", checkpoint)
    assert exported(size, "fp16", checkpoint)
    assert exported(size, "fp32", replace(checkpoint, sha256="1" * 64))
    monkeypatch.setattr("sam2rt.export.bundle.generator", lambda: "sam2rt 99")
    assert exported(size, "fp32", checkpoint)
