"""The graphs that are timed and proved on torch are those that an export writes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import onnx
import pytest
import torch
from bundles import SharedBundles

from sam2rt.benchmarks.gpu.model import frames
from sam2rt.benchmarks.gpu.stage import rehearsal_stage
from sam2rt.configs.models import model_config


def test_the_graphs_are_those_of_a_bundle(tmp_path: Path, shared_bundles: SharedBundles) -> None:
    bundle = shared_bundles.untrained(weights=1, precision="bf16", engine_variants=True)
    folder = frames.written_graphs(rehearsal_stage(tmp_path), "micro", "bf16")
    written = sorted(path.stem for path in folder.glob("*.onnx"))
    assert written == [
        "image_encoder.whole", "mask_decoder", "mask_prompt", "memory_attention.full",
        "memory_attention.whole", "memory_encoder",
    ]  # fmt: skip
    for name in written:
        assert onnx.load(folder / f"{name}.onnx") == onnx.load(bundle.graph_path(name)), name
    # made once
    before = (folder / "weights.bin").stat().st_mtime_ns
    assert frames.written_graphs(rehearsal_stage(tmp_path), "micro", "bf16") == folder
    assert (folder / "weights.bin").stat().st_mtime_ns == before


def test_a_frame_is_the_graphs_one_after_the_other(tmp_path: Path) -> None:
    """The memory that the last graph gives lies in its slot, made of what went before."""
    stage, config = rehearsal_stage(tmp_path), model_config("micro")
    folder = frames.written_graphs(stage, "micro", "bf16")
    rest = ("image_encoder", "mask_decoder", "memory_encoder")
    run = frames.executors(stage, folder, *rest, fused=False)
    run["memory_attention"] = frames.attention_executor(stage, folder, "body")
    with torch.inference_mode():
        frame = frames.SteadyFrame(stage, config, run, stage.frame)
        held = frame.memories["memory"].clone()
        frame.image.add_(1.0)
        frame.whole()
        features = run["image_encoder"]({"image": frame.image})
        given = {**frame.memories, "memory": held, "image_embed": features["image_embed"]}
        high = {n: features[n] for n in ("high_res_0", "high_res_1")}
        conditioned = run["memory_attention"](given)
        decoded = run["mask_decoder"]({**conditioned, **high, **frame._prompt})
        made = run["memory_encoder"]({
            "image_embed": features["image_embed"], "mask_logits": decoded["mask_logits"],
            "object_score": decoded["object_score"], "binarize": torch.zeros(1, dtype=torch.bool),
        })  # fmt: skip
    assert torch.equal(frame.memories["memory"][:, 0], made["memory"])
    assert torch.equal(frame.memories["memory"][:, 1:], held[:, 1:])
    assert not torch.equal(frame.memories["memory"][:, 0], held[:, 0])


def test_a_model_that_fails_costs_only_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(stage, name, precision, entry):
        if name == "b":
            raise RuntimeError("out of memory")
        entry["fps"] = 1
        yield

    monkeypatch.setattr(frames, "_measured", measured)
    stage = dataclasses.replace(
        rehearsal_stage(tmp_path), models=("a", "b", "c"), precisions=("bf16", "fp16")
    )
    (*_, found) = frames.model_speeds(stage)
    # the fastest model in each type first, then one precision of every model
    assert [(f["model"], f["precision"]) for f in found] == [
        ("a", "bf16"), ("a", "fp16"), ("b", "bf16"), ("c", "bf16"), ("b", "fp16"), ("c", "fp16"),
    ]  # fmt: skip
    error = "RuntimeError: out of memory"
    assert [f.get("failed") for f in found] == [None, None, error, None, error, None]
    assert [f.get("fps") for f in found] == [1, 1, None, 1, None, 1]
