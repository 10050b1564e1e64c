"""The report: nothing stands in it without what it was measured on; text, JSON, ratios, plot."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sam2rt.benchmarks.speed.machine import Machine
from sam2rt.benchmarks.speed.plot import check_plot, draw, make_figure
from sam2rt.benchmarks.speed.report import (
    BenchReport,
    Point,
    SystemReport,
    Timing,
    read_report,
    timings,
    write_json,
)
from sam2rt.benchmarks.speed.systems.system import Work
from sam2rt.benchmarks.speed.text import compare, table
from sam2rt.configs.errors import InputError

MACHINE = Machine("A CPU", 2, 8.0, "Linux 6", "3.11", {"numpy": "2"}, 100.0, 2)
RESULTS = Path(__file__).resolve().parents[3] / "benchmarks" / "results"


def _frame(scale: float) -> dict[str, float]:
    parts = {
        "image_encoder": 0.010,
        "memory_attention": 0.020,
        "mask_decoder": 0.002,
        "other": 0.001,
    }
    frame = {name: scale * seconds for name, seconds in parts.items()}
    frame |= {f"cpu {name}": 2 * seconds for name, seconds in frame.items()}
    return {**frame, "total": 0.033 * scale, "cpu": 0.066 * scale}


def _system(name: str, scale: float, points: tuple[Point, ...] = ()) -> SystemReport:
    operations = {"image_encoder": 5e8, "memory_attention": 1.5e9}
    accuracy = {
        "lowest_iou": 0.9912, "mean_iou": 0.998, "flips": 1, "results": 8, "against": "float32"
    }  # fmt: skip
    return SystemReport(
        name, "fp32", "same", {"load_s": 1.5, "first_frame_s": 0.5, "peak_memory_mib": 200.0},
        timings([_frame(scale)] * 3, operations), accuracy, points,
    )  # fmt: skip


def _points(scale: float) -> tuple[Point, ...]:
    object_counts = [
        Point("objects", n, 7, 16, 300.0 + n, timings([_frame(scale * n)] * 2)) for n in (1, 2, 4)
    ]
    young = [Point("growing", 1, m, m, 300.0, timings([_frame(scale * m)])) for m in (1, 7)]
    return (*object_counts, *young)


@pytest.fixture
def report() -> BenchReport:
    systems = (
        _system("ours", 1.0, _points(1.0)),
        _system("theirs", 2.0, _points(2.0)),
        SystemReport("original", "fp32", "same", not_run="not installed"),
    )
    return BenchReport(MACHINE, "micro", 256, Work(), systems)


def test_timings_are_percentiles_of_the_frames() -> None:
    frames = [{"total": ms / 1e3, "cpu": 1.0} for ms in range(1, 102)]
    found = timings(frames, {"memory_attention": 1e9})
    assert set(found) == {"total", "cpu"}
    total = found["total"]
    assert (total.count, total.median_ms, total.p95_ms, total.p99_ms) == pytest.approx(
        (101, 51, 96, 100)
    )
    assert (total.gflop, total.cpu_ms) == (1.0, 1000.0)
    # 1 GFLOP in 51 ms on a machine of 100 GFLOP/s
    assert total.share(100.0) == pytest.approx(0.196, abs=1e-3)
    assert found["cpu"].share(100.0) is None


def test_tracking_is_all_but_the_encoder_and_what_lies_between() -> None:
    found = timings([_frame(1.0)], {"image_encoder": 5e8, "memory_attention": 1.5e9})
    tracking = found["tracking"]
    assert (tracking.median_ms, tracking.cpu_ms, tracking.gflop) == pytest.approx((22, 44, 1.5))
    assert found["total"].gflop == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        ({"machine": replace(MACHINE, processor="")}, "the processor"),
        ({"machine": replace(MACHINE, versions={})}, "versions"),
        ({"model": ""}, "the model"),
        ({"image_size": 0}, "the image size"),
        ({"work": Work(objects=0)}, "objects"),
        ({"work": Work(memories=0)}, "the memory depth"),
        ({"systems": (replace(_system("x", 1), precision=""),)}, "the precision of each system"),
    ],
)
def test_a_number_alone_cannot_be_reported(
    report: BenchReport, change: dict[str, Any], missing: str
) -> None:
    with pytest.raises(InputError, match=f"cannot be made without {missing}: "):
        replace(report, **change)


def test_text_says_what_was_measured_on_what(report: BenchReport) -> None:
    lines = table(report).splitlines()
    assert lines[0] == MACHINE.line()
    assert lines[1] == (
        "micro at 256, 1 object, 7 memories, 16 pointers, 2 threads, frames: noise 1280 x 720"
    )
    rows = [" ".join(line.split()) for line in lines]
    assert "ours, fp32" in rows
    assert "ours fp32" in table(replace(report, systems=(_system("ours fp32", 1.0),))).splitlines()
    assert "30.3 frames/s, load 1.50 s, first frame 0.50 s, peak memory 200 MiB" in rows
    # median, p95, p99, processor time, operations, 1.5 GFLOP in 20 ms at 100 GFLOP/s
    assert "memory_attention 20.0 20.0 20.0 40.0 1.5 75%" in rows
    assert "memory_attention 40.0 40.0 40.0 80.0 1.5 38% 2.00" in rows
    assert "processor time, p99 over p50: 1.00" in rows
    assert "masks: lowest IoU 0.9912, mean 0.9980, 1 flips in 8 results, against float32" in rows
    assert "not run: not installed" in rows
    assert "tracking / first 1.00 2.00 4.00" in rows
    assert "tracking / first 1.00 7.00" in rows


def test_json_is_the_same_report(report: BenchReport, tmp_path: Path) -> None:
    write_json(report.as_dict(), tmp_path / "r.json")
    assert read_report(tmp_path / "r.json") == report
    data = json.loads((tmp_path / "r.json").read_text())
    assert data["systems"][0]["stages"]["memory_attention"]["share_of_matrix_rate"] == (
        pytest.approx(0.75)
    )
    assert data["systems"][1]["times_faster"]["memory_attention"] == pytest.approx(2.0)
    assert data["systems"][0]["times_faster"] == {}


@pytest.mark.parametrize("text", ["", "[]", '{"schema": 1}', '{"schema": 2}', "nothing"])
def test_other_files_are_no_reports(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(InputError, match="is no benchmark report"):
        read_report(tmp_path / "r.json")


def test_the_reports_that_were_kept_can_be_read() -> None:
    kept = {path.stem: read_report(path) for path in RESULTS.glob("*.json")}
    first = kept["amd-epyc-2-cores"]
    assert (first.model, first.image_size) == ("sam2.1_hiera_tiny", 1024)
    assert (first.work.memories, first.work.pointers) == (7, 16)
    faster = {s.name: first.times_faster(s, "total") for s in first.systems}
    assert faster["transformers"] == pytest.approx(2.50, abs=0.01)


def test_names_of_earlier_reports_are_understood(report: BenchReport) -> None:
    data = report.as_dict()
    data["work"]["judged_frames"] = data["work"].pop("scored_frames")
    data["systems"][0]["facts"] = {"clip_frame_s": 0.3, "clip_frame_ahead_s": 0.2}
    assert "in a clip 0.300 s a frame, prefetched 0.200" in table(BenchReport.from_dict(data))


def test_compare_marks_what_became_slower(report: BenchReport) -> None:
    new = replace(report, systems=(_system("ours", 1.2), _system("new", 1.0)))
    slow = replace(
        new.systems[0], stages={**new.systems[0].stages, "other": Timing(3, 1.04, 1.04, 1.04)}
    )
    lines = compare(replace(new, systems=(slow, new.systems[1])), report).splitlines()
    rows = [" ".join(line.split()) for line in lines]
    assert "ours memory_attention 1.20 slower" in rows
    assert "ours other 1.04" in rows
    assert not any("new" in row for row in rows[1:])
    assert compare(report, report).count("slower") == 0


def test_compare_says_when_the_work_differs(report: BenchReport) -> None:
    other = replace(report, work=Work(objects=2), machine=replace(MACHINE, processor="B"))
    lines = compare(report, other).splitlines()
    assert [line.partition(":")[0] for line in lines[:4]] == ["new", "old"] * 2
    assert "1 object," in lines[0]
    assert "2 objects," in lines[1]
    assert lines[3].startswith("old: B, 2 cores")


def test_compare_takes_another_measured_rate_for_the_same_machine(report: BenchReport) -> None:
    other = replace(report, machine=replace(MACHINE, matrix_gflops=MACHINE.matrix_gflops / 2))
    assert compare(report, other).startswith("new / old")


def test_compare_says_when_nothing_is_measured_twice(report: BenchReport) -> None:
    new = replace(report, systems=(_system("another", 1.0),))
    assert compare(new, report).startswith("nothing to compare: the old report has ours, ")


def test_a_plot_has_a_bar_for_each_stage_and_a_line_for_each_system(
    report: BenchReport, tmp_path: Path
) -> None:
    figure = make_figure(report)
    bars, *panels = figure.axes
    widths = [p.get_width() for c in bars.containers for p in c.patches]
    # stages in turn, each for both systems that ran; they add up to the frames' medians
    assert len(widths) == 4 * 2
    assert (sum(widths[::2]), sum(widths[1::2])) == pytest.approx((33, 66))
    assert [t.get_text() for t in bars.get_yticklabels()] == ["ours, fp32", "theirs, fp32"]
    assert "66 ms, x 2.00, 30% of rate, IoU 0.991" in bars.texts[1].get_text()
    growing, object_counts = panels
    assert [list(line.get_ydata()) for line in object_counts.lines] == [
        pytest.approx([22, 44, 88]), pytest.approx([44, 88, 176])
    ]  # fmt: skip
    assert [list(line.get_xdata()) for line in growing.lines] == [[1, 7]] * 2
    title = figure.get_suptitle()
    assert report.conditions() in title
    assert "A CPU, 2 cores" in title
    draw(report, tmp_path / "p.png")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    assert [p.name for p in tmp_path.iterdir()] == ["p.png"]


def test_a_plot_of_another_kind_is_refused() -> None:
    with pytest.raises(InputError, match=r"\.png, \.svg, \.pdf"):
        check_plot(Path("x.gif"))


def test_the_script_that_draws_a_report_says_what_is_wrong_in_one_line(
    report: BenchReport, tmp_path: Path
) -> None:
    write_json(report.as_dict(), tmp_path / "r.json")
    command = [sys.executable, "-m", "sam2rt.benchmarks.speed.plot", str(tmp_path / "r.json")]
    done = subprocess.run(
        [*command, str(tmp_path / "no" / "p.png")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    folder = tmp_path / "no"
    assert (
        done.stderr
        == f"{folder / 'p.png'}: there is no folder {folder}: make it, or name another\n"
    )
