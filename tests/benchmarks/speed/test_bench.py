"""A whole comparison on a micro bundle, and sam2rt's system on its own. No time is asserted."""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bundles import SharedBundles

from sam2rt.benchmarks.speed import bench as benchmarks
from sam2rt.benchmarks.speed.bench import Entry, Request, bench_bundle, starting
from sam2rt.benchmarks.speed.clip import (
    ScoredClip,
    compared,
    scored_clip,
    timed_frames,
    timed_points,
)
from sam2rt.benchmarks.speed.machine import Machine
from sam2rt.benchmarks.speed.report import BenchReport, SystemReport
from sam2rt.benchmarks.speed.systems.ablations import ABLATIONS, VariantGraphs, possible_ablations
from sam2rt.benchmarks.speed.systems.sam2rt_runtime import (
    PlainSession,
    Sam2rtSystem,
    TimedSession,
)
from sam2rt.benchmarks.speed.systems.system import Tracked, Work, Worker
from sam2rt.configs.bundle import Bundle
from sam2rt.configs.errors import CheckpointError, InputError, SessionError
from sam2rt.configs.models import model_config

WORK = Work(objects=2, threads=1, frame_size=(48, 64), scored_frames=3)
SAM2RT = "sam2rt onnxruntime cpu fp32"
MACHINE = Machine("A CPU", 2, 8.0, "Linux 6", "3.11", {"numpy": "2"}, 100.0, 1)


@pytest.fixture(scope="module")
def checkpoint(shared_bundles: SharedBundles) -> Path:
    return shared_bundles.weights()


@pytest.fixture(scope="module")
def exported(shared_bundles: SharedBundles) -> Bundle:
    return shared_bundles.untrained(seed=0)


@pytest.fixture(scope="module")
def foreign_graphs(exported: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of graphs whose names match no stage; the report names it."""
    return shutil.copytree(exported.path, tmp_path_factory.mktemp("foreign") / "graphs")


@pytest.fixture(scope="module")
def report(exported: Bundle, foreign_graphs: Path, checkpoint: Path) -> Iterator[BenchReport]:
    request = Request(
        WORK, frames=2, ablations=("full-values", "batch-of-one"), baselines=("original",),
        onnx=(foreign_graphs,), checkpoint=checkpoint, growing=True, object_counts=(1,),
        point_frames=1, prefetch=True,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmarks, "this_machine", lambda threads, device: MACHINE)
        patch.setattr(benchmarks, "matrix_rate", lambda threads: 150.0)
        yield bench_bundle(exported, request)


def _named(report: BenchReport, name: str) -> SystemReport:
    return next(s for s in report.systems if s.name == name)


def test_all_systems_are_in_the_report(report: BenchReport) -> None:
    names = [s.name for s in report.systems]
    assert names == [
        SAM2RT,
        f"{SAM2RT} full-values",
        f"{SAM2RT} batch-of-one",
        "original",
        "onnx graphs",
    ]
    assert (report.model, report.image_size, report.work) == ("micro", 256, WORK)
    # the better of the rates before and after
    assert report.machine.matrix_gflops == 150.0
    for system in report.systems[:3]:
        assert (system.precision, system.weights, system.not_run) == ("fp32", "same", "")
        assert {"image_encoder", "other", "tracking", "total", "cpu"} <= set(system.stages)
        assert {t.count for t in system.stages.values()} == {2}
        assert {"load_s", "first_frame_s", "warm_up_s", "peak_memory_mib"} <= set(system.facts)
        assert system.facts["first_frame_s"] < system.facts["warm_up_s"]
        assert 30 < system.facts["peak_memory_mib"] < 4000
    assert report.systems[0].facts["import_s"] > 0
    assert report.systems[1].facts["export_s"] > 0


def test_masks_stand_beside_every_speed(report: BenchReport) -> None:
    for system in report.systems[:3]:
        found = system.accuracy
        assert found["against"] == "the float32 reference"
        assert found["lowest_iou"] > 0.99, system.name
        assert (found["flips"], found["results"]) == (0, 2 * 3)


def test_what_is_taken_away_costs_the_operations_it_should(report: BenchReport) -> None:
    attention = {
        s.name: t.gflop for s in report.systems[:3] if (t := _attention(s)) and t.gflop is not None
    }
    model = model_config("micro")
    area, c, narrow = model.embed_size**2, model.hidden_dim, model.mem_dim
    tokens = 7 * area + 16 * model.pointer_tokens
    per_object = area * tokens * (c - narrow) + tokens * narrow * c + area * c * (c - narrow)
    wider = 2 * model.memory_attention_layers * WORK.objects * per_object / 1e9
    assert attention[f"{SAM2RT} full-values"] - attention[SAM2RT] == pytest.approx(wider)
    # in a batch of one, what the first layer asks is worked out for each object; in the fused graph
    # the memory encoder's projection of the frame too
    fused = "track_step" in report.systems[0].stages
    asked = (9 if fused else 8) * area * c * c + 2 * area * area * c
    assert attention[f"{SAM2RT} batch-of-one"] - attention[SAM2RT] == pytest.approx(2 * asked / 1e9)


def _attention(system: SystemReport):  # type: ignore[no-untyped-def]
    return system.stages.get("memory_attention") or system.stages.get("track_step")


def test_a_system_that_cannot_run_says_why_in_a_line(report: BenchReport) -> None:
    original, foreign = _named(report, "original"), _named(report, "onnx graphs")
    assert "the package sam2 is not installed: pip install" in original.not_run
    assert "mask_prompt.onnx cannot be matched to a stage" in foreign.not_run
    assert not original.stages
    assert not foreign.stages


def test_growing_and_object_counts_are_points_of_their_own(report: BenchReport) -> None:
    for system in report.systems[:3]:
        young = [p for p in system.points if p.phase == "growing"]
        assert [(p.objects, p.memories, p.pointers) for p in young] == [
            (2, m, m) for m in range(1, 8)
        ]
        object_counts = [p for p in system.points if p.phase == "objects"]
        assert [(p.objects, p.memories, p.pointers) for p in object_counts] == [(1, 7, 16)]
        assert all(p.stages["total"].count == 1 for p in system.points)


def test_clips_are_timed_with_prefetched_frames_and_without(report: BenchReport) -> None:
    first, second = report.systems[:2]
    assert 0 < first.facts["clip_frame_s"] < 10
    assert 0 < first.facts["clip_frame_prefetched_s"] < 10
    assert "clip_frame_s" not in second.facts


@pytest.mark.parametrize("overlaps", [True, False])
def test_prefetch_is_for_sessions_that_overlap_calls(
    exported: Bundle, monkeypatch: pytest.MonkeyPatch, overlaps: bool
) -> None:
    class OnGpu(PlainSession):
        @property
        def overlaps(self) -> bool:
            return overlaps

    class Begun(Exception):
        pass

    def begin(*_: Any) -> None:
        raise Begun

    monkeypatch.setattr(benchmarks, "open_session", lambda *_: OnGpu(exported, "cuda", 1))
    monkeypatch.setattr(benchmarks, "_entries", begin)
    expected = Begun if overlaps else InputError
    with pytest.raises(expected, match=None if overlaps else "this session has one queue on a GPU"):
        bench_bundle(exported, Request(WORK, device="cuda", prefetch=True))


def test_choices_on_their_way_are_read_when_they_are_asked_for(exported: Bundle) -> None:
    """Reading them between the graphs of a frame would wait for the GPU in its middle."""
    read: list[str] = []

    class OnItsWay:
        def __init__(self, name: str, values: list[float]) -> None:
            self._name, self._values = name, values

        def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
            read.append(self._name)
            return np.array([self._values], np.float32)

    class Inside(PlainSession):
        def run(self, graph: str, inputs: Any, into: Any = None) -> Any:
            return {"iou": OnItsWay("iou", [0.5]), "all_ious": OnItsWay("all", [0.1, 0.2, 0.5])}

    session = TimedSession(Inside(exported, "cuda", 1))
    session.run("track_step", {})
    session.run("track_step", {})
    assert read == []
    assert session.choices == [2, 2]
    assert session.choices == [2, 2]
    assert read == ["all", "iou"] * 2


def test_the_report_survives_json(report: BenchReport) -> None:
    assert BenchReport.from_dict(json.loads(json.dumps(report.as_dict()))) == report


def test_another_checkpoint_is_refused(exported: Bundle, tmp_path: Path) -> None:
    from sam2rt.export.model.untrained import untrained_state

    torch.save({"model": untrained_state(model_config("micro"), 2)}, tmp_path / "other.pt")
    request = Request(WORK, checkpoint=tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="was made from the checkpoint with sha256"):
        bench_bundle(exported, request)


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        (
            Request(WORK, baselines=("original", "original")),
            "two systems are called 'original': ask for each once",
        ),
        (Request(WORK, baselines=("nobody",)), "unknown baseline 'nobody': known are original"),
        (Request(WORK, ablations=("x",)), "unknown ablation 'x': known are full-values"),
        (Request(WORK, ablations=("full-values",)), "give --checkpoint"),
    ],
)
def test_what_cannot_be_compared_is_said_before_anything_is_measured(
    exported: Bundle, request_: Request, why: str
) -> None:
    with pytest.raises(InputError, match=why):
        bench_bundle(exported, request_)


def test_every_system_is_found_by_its_name() -> None:
    targets = [target for target, _ in benchmarks.BASELINES.values()]
    targets += [benchmarks._SAM2RT, benchmarks._ONNX, benchmarks._REFERENCE]
    for module, _, name in (target.partition(":") for target in targets):
        assert hasattr(importlib.import_module(module), name), name


def test_other_backends_and_autocast_are_systems_of_their_own(
    exported: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each with the backend and the precision that its name says."""
    made: list[tuple[str, dict[str, object]]] = []

    class Noted:
        def __init__(self, name: str, target: str, work: Work, **options: object) -> None:
            made.append((name, options))

    monkeypatch.setattr(benchmarks, "Worker", Noted)
    request = Request(
        WORK,
        elsewhere=[("openvino", exported.path)],
        baselines=("transformers", "transformers-bf16", "original-bf16"),
    )
    entries = list(benchmarks._entries(exported, request, tmp_path, lambda *_: None))
    assert [entry.precision for entry in entries] == ["fp32", "fp32", "fp32", "bf16", "bf16"]
    found = [(name, o.get("backend"), o.get("precision")) for name, o in made]
    assert found == [
        ("sam2rt onnxruntime cpu fp32", "onnxruntime", None),
        (f"sam2rt openvino cpu fp32 {exported.path.name}", "openvino", None),
        ("transformers", None, "fp32"),
        ("transformers-bf16", None, "bf16"),
        ("original-bf16", None, "bf16"),
    ]


def test_a_bundle_that_cannot_be_opened_says_why(exported: Bundle) -> None:
    with pytest.raises(SessionError, match=r"in a process of its own \(unknown device 'tpu'"):
        starting(exported, Request(WORK, device="tpu"))


def test_a_later_system_that_fails_is_out_and_the_first_one_is_fatal() -> None:
    first, second = (Entry(Worker(n, "x:y", WORK), "fp32", "same") for n in ("a", "b"))

    def fail() -> None:
        raise SessionError("gone")

    assert benchmarks._try(second, first, fail) is None
    assert second.report().not_run == "gone"
    assert benchmarks._running([first, second]) == [first]
    with pytest.raises(SessionError, match="gone"):
        benchmarks._try(first, first, fail)


def _system(bundle: Bundle, work: Work = WORK, **options: object) -> Sam2rtSystem:
    system = Sam2rtSystem(work, str(bundle.path), "onnxruntime", "cpu", split=True, **options)  # type: ignore[arg-type]
    system.load()
    system.set_up(work)
    return system


def _attended(system: Sam2rtSystem) -> list[dict[str, int]]:
    return [sizes for graph, sizes in system._session.calls if graph == "memory_attention"]


@pytest.mark.parametrize(("memories", "pointers"), [(7, 16), (1, 1), (3, 3), (4, 9)])
def test_every_frame_attends_to_what_the_work_says(
    bundle: Bundle, memories: int, pointers: int
) -> None:
    system = _system(bundle, replace(WORK, memories=memories, pointers=pointers))
    for _ in range(3):
        frame = system.frame()
        assert _attended(system) == [{"I": 1, "N": 2, "M": memories, "K": pointers}]
    graphs = {"image_encoder", "memory_attention", "mask_decoder", "memory_encoder"}
    assert {n for n in frame if not n.startswith("cpu")} == {*graphs, "other", "total"}
    assert sum(frame[n] for n in (*graphs, "other")) == pytest.approx(frame["total"])
    assert sum(frame[f"cpu {n}"] for n in (*graphs, "other")) == pytest.approx(frame["cpu"])


@pytest.mark.parametrize(("memories", "pointers"), [(7, 16), (3, 3), (1, 1)])
def test_where_memories_stay_in_slots_frames_are_tracked_until_there_are_enough(
    bundle: Bundle, memories: int, pointers: int
) -> None:
    work = replace(WORK, objects=1, memories=memories, pointers=pointers)
    system = Sam2rtSystem(work, str(bundle.path), "onnxruntime", "cpu", split=True)
    system.load()
    system._on_gpu = True
    system.set_up(work)
    for _ in range(2):
        system.frame()
        assert _attended(system)[-1] == {"I": 1, "N": 1, "M": memories, "K": pointers}


def test_ablations_call_the_graphs_as_they_say(bundle: Bundle) -> None:
    unshared = _system(bundle, unshared=True)
    unshared.frame()
    assert [(s["I"], s["N"]) for s in _attended(unshared)] == [(2, 2)]
    alone = _system(bundle, objects_per_call=1)
    alone.frame()
    assert [(s["I"], s["N"]) for s in _attended(alone)] == [(1, 1)] * 2
    plain = _system(bundle, plain=True)
    plain.frame()
    assert type(plain._session.session).__name__ == "PlainSession"
    masks = [system.tracked(WORK) for system in (unshared, alone, plain)]
    for other in masks[1:]:
        assert compared(masks[0], other)["lowest_iou"] == 1.0  # type: ignore[arg-type]


def test_other_variants_are_exported_once(
    exported: Bundle, checkpoint: Path, tmp_path: Path
) -> None:
    from sam2rt.export.checkpoint.load import load_checkpoint

    variants = VariantGraphs(exported, load_checkpoint(checkpoint), tmp_path)
    first, seconds = variants.options("full-values")
    again, later = variants.options("full-values")
    assert first == again
    assert seconds == later > 0
    other, _ = variants.options("other-onnx")
    assert (other["plain"], other["split"]) == (True, True)
    assert list(other["graphs"]) == ["memory_attention"]
    assert other["graphs"]["memory_attention"] != first["graphs"]["memory_attention"]
    assert variants.options("batch-of-one") == ({"objects_per_call": 1}, 0.0)


def test_split_needs_something_to_split(exported: Bundle) -> None:
    graphs = {name: entry for name, entry in exported.graphs.items() if name != "track_step"}
    bare = replace(exported, graphs=graphs)
    assert set(ABLATIONS) - set(possible_ablations(bare)) == {"split"}
    with pytest.raises(InputError, match="separate graphs alone: nothing to split"):
        VariantGraphs(bare, None, Path()).options("split")
    fused = replace(exported, graphs={**graphs, "track_step": graphs["memory_attention"]})
    assert VariantGraphs(fused, None, Path()).options("split") == ({"split": True}, 0.0)


def test_masks_are_compared_one_by_one() -> None:
    masks = np.zeros((2, 2, 4, 4), bool)
    masks[:, :, :2] = True
    found = masks.copy()
    found[1, 0, 0, :] = False
    choices = np.array([[1, 2], [3, -1]])
    other = np.array([[1, 3], [3, 2]])
    result = compared(Tracked(masks, choices), Tracked(found, other))
    assert result == {
        "lowest_iou": 0.5, "mean_iou": pytest.approx(0.875), "flips": 1, "results": 4
    }  # fmt: skip
    unseen = np.full((2, 2), -1)
    assert compared(Tracked(masks, unseen), Tracked(found, other))["flips"] is None
    with pytest.raises(InputError, match="expected the same clip"):
        compared(Tracked(masks, choices), Tracked(found[:1], other[:1]))


def test_a_video_is_fed_to_and_fro(tmp_path: Path) -> None:
    from PIL import Image

    for index in range(3):
        Image.fromarray(np.full((6, 8, 3), 40 * index, np.uint8)).save(tmp_path / f"{index}.png")
    work = replace(WORK, video=str(tmp_path), frame_size=(6, 8), scored_frames=2)
    frames = timed_frames(work)
    assert [int(next(frames)[0, 0, 0]) // 40 for _ in range(7)] == [0, 1, 2, 1, 0, 1, 2]
    clip = scored_clip(work)
    assert [int(f[0, 0, 0]) for f in clip.frames] == [0, 40]
    assert (
        clip.points == timed_points(work) == [pytest.approx((8 / 3, 3)), pytest.approx((16 / 3, 3))]
    )


def test_drawn_clips_are_clicked_inside_objects() -> None:
    from sam2rt.benchmarks.synthetic.clips import make_clip

    clip: ScoredClip = scored_clip(replace(WORK, objects=16))
    drawn = (make_clip(seed, "plain", WORK.scored_frames, 256) for seed in range(100))
    labels = next(c.labels[0] for c in drawn if np.array_equal(c.frames, clip.frames))
    under = [int(labels[int(y), int(x)]) for x, y in clip.points]
    assert under == [1, 2, 3, 4]
    assert [f.shape for f in clip.frames] == [(256, 256, 3)] * 3
    assert len(scored_clip(replace(WORK, objects=2)).points) == 2
