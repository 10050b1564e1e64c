"""A record that was written and read again proves what the whole one proves."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from changed_session import Changed, shift

from sam2rt.configs.errors import BundleError
from sam2rt.configs.models import MODELS
from sam2rt.export.model.reference import ReferenceSession
from sam2rt.export.proof.cases import CASES
from sam2rt.export.proof.compare import compare
from sam2rt.export.proof.record import Record, Sample, load_record, save_record
from sam2rt.export.proof.report import BOUNDS, problems

CONFIG = MODELS["micro"]
FP32 = BOUNDS["fp32"]


def test_record_survives_the_file(recorded: Record, tmp_path: Path) -> None:
    path = tmp_path / "proof.npz"
    save_record(recorded, path)
    assert path.stat().st_size < 2e6
    again = load_record(path, CONFIG)
    assert (again.seed, again.frames) == (recorded.seed, recorded.frames)
    for a, b in zip(again.loop, recorded.loop, strict=True):
        assert np.array_equal(a.logits, b.logits)
        assert np.array_equal(a.ious, b.ious)
        assert np.array_equal(a.choices, b.choices)
    for key, outputs in recorded.outputs.items():
        for name, sample in outputs.items():
            kept = again.outputs[key][name]
            assert kept.shape == sample.shape
            assert np.array_equal(kept.values, sample.values[:: kept.stride])


def test_a_sample_finds_what_the_whole_finds(
    recorded: Record, reference: ReferenceSession, tmp_path: Path
) -> None:
    save_record(recorded, tmp_path / "p.npz")
    thin = load_record(tmp_path / "p.npz", CONFIG)
    report = compare(thin, reference, FP32)
    assert problems(report, FP32) == []
    changed = Changed(reference, "image_encoder", shift("high_res_0", 0.02))
    found = problems(compare(thin, changed, FP32), FP32)
    assert any(p.startswith("image_encoder.high_res_0 differs by 0.02 ") for p in found)


def test_record_of_another_version(recorded: Record, tmp_path: Path) -> None:
    path = tmp_path / "proof.npz"
    save_record(recorded, path)
    with np.load(path) as data:
        arrays = dict(data)
    about = json.loads(arrays["about"].tobytes())
    about["version"] = 99
    arrays["about"] = np.frombuffer(json.dumps(about).encode(), np.uint8)
    np.savez(path, **arrays)
    with pytest.raises(BundleError) as caught:
        load_record(path, CONFIG)
    expected = f"{path} was recorded by another version of sam2rt: export the bundle again"
    assert str(caught.value) == expected


def test_record_of_fewer_cases(
    recorded: Record, reference: ReferenceSession, tmp_path: Path
) -> None:
    """Bundles made before a case was added are proved by those they have."""
    path = tmp_path / "proof.npz"
    outputs = {c.key: recorded.outputs[c.key] for c in CASES[:-1]}
    save_record(replace(recorded, outputs=outputs), path)
    older = load_record(path, CONFIG)
    assert problems(compare(older, reference, FP32), FP32) == []
    changed = Changed(reference, "mask_decoder", shift("all_ious", 1e-3))
    assert problems(compare(older, changed, FP32), FP32) != []


def test_a_thin_sample_meets_every_row_and_column() -> None:
    sample = Sample.of(np.arange(1 << 20, dtype=np.float32).reshape(16, 256, 256), 1 << 14)
    columns = sample.values.astype(int) % 256
    rows = sample.values.astype(int) // 256 % 256
    assert set(columns) == set(range(256))
    assert set(rows) == set(range(256))
    assert np.array_equal(sample.first_axis(), sample.values.astype(int) // (256 * 256))
