"""A record that a stranger wrote is taken whole or refused in one line."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sam2rt.configs.errors import BundleError
from sam2rt.configs.models import model_config
from sam2rt.export.proof.record import load_record

CONFIG = model_config("micro")
Arrays = dict[str, Any]
REMEDY = "make it again with 'sam2rt export CHECKPOINT -o BUNDLE'"


def arrays(**about: Any) -> Arrays:
    """A small record: three frames, one output in two samples."""
    made: Arrays = {"outputs/image_encoder B2/high_res_0": np.arange(2, dtype=np.float32)}
    for t in range(3):
        count = t + 1
        made[f"loop/{t}/logits"] = np.full((count, 64, 64), t, np.float32)
        made[f"loop/{t}/scores"] = np.ones(count, np.float32)
        made[f"loop/{t}/ious"] = np.ones((count, 4), np.float32)
        made[f"loop/{t}/choices"] = np.arange(count)
    shapes = {"image_encoder B2": {"high_res_0": [3, 2, 2]}}
    about = {"version": 1, "seed": 5, "frames": 3, "shapes": shapes, **about}
    made["about"] = np.frombuffer(json.dumps(about).encode(), np.uint8)
    return made


def written(path: Path, content: Arrays) -> Path:
    with path.open("wb") as file:
        np.savez_compressed(file, **content)
    return path


def message(path: Path) -> str:
    with pytest.raises(BundleError) as caught:
        load_record(path, CONFIG)
    assert str(caught.value).isprintable()
    return str(caught.value)


def test_a_small_record_is_read(tmp_path: Path) -> None:
    record = load_record(written(tmp_path / "p.npz", arrays()), CONFIG)
    assert (record.seed, record.frames) == (5, 3)
    sample = record.outputs["image_encoder B2"]["high_res_0"]
    assert (sample.shape, sample.stride, sample.values.tolist()) == ((2, 2), 3, [0.0, 1.0])
    assert [frame.choices.tolist() for frame in record.loop] == [[0], [0, 1], [0, 1, 2]]
    assert record.loop[2].logits[2, 63, 63] == 2.0


def _with(**changed: Any) -> Callable[[Arrays], Arrays]:
    return lambda content: {**content, **{k.replace("__", "/"): v for k, v in changed.items()}}


def _without(key: str) -> Callable[[Arrays], Arrays]:
    return lambda content: {k: v for k, v in content.items() if k != key}


def _about(**changed: Any) -> Callable[[Arrays], Arrays]:
    return lambda content: arrays(**changed)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (_without("about"), "'about'"),
        (_without("loop/1/ious"), "'loop/1/ious'"),
        (_about(frames=10**9), "1000000000 frames, expected at most 1000"),
        (_about(frames=-1), "frames is -1: expected at least 1"),
        (_about(frames="3"), "frames is '3': expected a whole number, at least 1"),
        (_about(seed=None), "seed is None: expected a whole number, at least 0"),
        (_about(shapes={"image_encoder B2": {"high_res_0": []}}), "not enough values to unpack"),
        (
            _about(shapes={"image_encoder B2": {"high_res_0": [0, 2, 2]}}),
            "stride is 0: expected at",
        ),
        (
            _about(shapes={"image_encoder B2": {"high_res_0": [1, -2, -2]}}),
            "size is -2: expected at",
        ),
        (
            _about(shapes={"image_encoder B2": {"high_res_0": [1, 10**6, 10**6]}}),
            "an output has values [2], expected 1000000000000",
        ),
        (_about(shapes=[]), "list"),
        (_with(about=np.frombuffer(b"[" * 5000, np.uint8)), "nested too deep"),
        (_with(about=np.frombuffer(b"", np.uint8)), "empty"),
        (_with(loop__0__choices=np.array([9])), "frame 0 has choices that are no mask from 0 to 3"),
        (_with(loop__0__choices=np.array([-1])), "frame 0 has choices that are no mask"),
        (_with(loop__2__scores=np.ones(2, np.float32)), "frame 2 has arrays [[3, 64, 64], [2], "),
        (_with(loop__0__scores=np.array(["x"])), "loop/0/scores has values of type <U1, expected"),
        (_with(loop__0__scores=np.ones(1, complex)), "has values of type complex128, expected"),
        (_with(statistics__memory=np.ones(1)), "statistics/memory has values of type float64"),
    ],
)
def test_odd_records(change: Callable[[Arrays], Arrays], why: str, tmp_path: Path) -> None:
    path = written(tmp_path / "p.npz", change(arrays()))
    found = message(path)
    assert found.startswith(f"{path} is no record of a proof (")
    assert why in found
    assert found.endswith(f"): {REMEDY}")


def _npy(header: str, data: bytes) -> bytes:
    text = header.encode() + b" " * (118 - len(header)) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path("pwned").write_text, ("x",))


_HUGE = "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 1000000), }"
_OBJECT = "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"


@pytest.mark.parametrize(
    ("member", "why"),
    [
        (_npy(_HUGE, b"1234"), "x.npy has 4 bytes, expected 4000000000000"),
        (_npy(_OBJECT, pickle.dumps(_Evil())), "x.npy is no plain array"),
        (
            _npy("{'shape': __import__('os')}", b""),
            "x.npy has no header of an array",
        ),
        (_npy("{" * 100, b""), "x.npy has no header of an array"),
        (b"\x93NUMPY\x09\x00", "x.npy has the format (9, 0), expected 1.0"),
        (b"no array", "magic"),
        (bytes(400_000_000), "more than 10000 arrays or 268435456 bytes"),
    ],
)
def test_odd_arrays(
    member: bytes, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path / "p.npz", arrays())
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", member)
    assert why in message(path)
    assert not Path("pwned").exists()


@pytest.mark.parametrize("kind", ["empty", "text", "truncated", "folder", "changed"])
def test_what_is_no_npz(kind: str, tmp_path: Path) -> None:
    path = written(tmp_path / "p.npz", arrays())
    data = bytearray(path.read_bytes())
    if kind == "folder":
        path.unlink()
        path.mkdir()
    elif kind == "changed":
        data[100:140] = bytes(40)
        path.write_bytes(data)
    else:
        content = {"empty": b"", "text": b"rubbish", "truncated": bytes(data[: len(data) // 2])}
        path.write_bytes(content[kind])
    assert message(path).startswith(f"{path} is no record of a proof (")


def test_mutated_records_are_read_or_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays())
    good, random, path = buffer.getvalue(), np.random.default_rng(0), tmp_path / "p.npz"
    refused = 0
    for _ in range(400):
        content = bytearray(good)
        for _ in range(random.integers(1, 4)):
            content[random.integers(len(content))] = random.integers(256)
        path.write_bytes(content)
        try:
            load_record(path, CONFIG)
        except BundleError:
            refused += 1
    assert 100 < refused < 400
