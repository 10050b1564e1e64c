"""What is fuzzed: a reader of files that may come from strangers, and how it may refuse them."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from sam2rt.configs.bundle import Bundle
from sam2rt.configs.errors import InputError, Sam2rtError
from sam2rt.configs.formats.graph_file import GraphError, check_graph
from sam2rt.configs.formats.manifest import digest_of
from sam2rt.configs.models import model_config
from sam2rt.export.checkpoint.load import load_checkpoint
from sam2rt.export.checkpoint.shards import _listed
from sam2rt.export.checkpoint.transfer import sha256_of
from sam2rt.export.proof.record import load_record
from sam2rt.runtime.backends.engine_record import read_record
from sam2rt.runtime.bank import FrameOutput, ObjectHistory
from sam2rt.runtime.media.images import read_image
from sam2rt.runtime.media.open import open_frames
from sam2rt.runtime.pixels.rle import mask_from_rle, rle_from_mask
from sam2rt.runtime.tasks.prompt_file import load_prompts, mask_of, masks_of_ids
from sam2rt.runtime.tracking.object_file import SavedObject, read_object, write_object
from sam2rt.serving.web import schemas
from sam2rt.serving.web.bodies import checked_json

_MICRO = model_config("micro")
_DIGEST = "0123456789abcdef" * 4
_REQUESTS = [
    schemas.PROMPT, schemas.SESSION, schemas.NAME, schemas.PROPAGATION, schemas.AUTOMATIC,
    schemas.ACTION,
]  # fmt: skip


@dataclass(frozen=True)
class Target:
    """A reader, what it may raise, and inputs to begin with."""

    read: Callable[[bytes], object]
    seeds: Callable[[], list[bytes]]
    refuses: tuple[type[Exception], ...] = (Sam2rtError,)


def _file(read: Callable[[Path], object], name: str) -> Callable[[bytes], object]:
    """A reader of content, out of one of files."""
    folder = Path(tempfile.mkdtemp(prefix="sam2rt-fuzz-"))

    def of_content(content: bytes) -> object:
        (folder / name).write_bytes(content)
        return read(folder / name)

    return of_content


def _manifest(content: bytes) -> object:
    """Also with the digest made right, which no mutation finds."""
    try:
        data = json.loads(content)
        content = json.dumps({**data, "digest": digest_of(data)}).encode()
    except (ValueError, TypeError, RecursionError):
        pass
    return Bundle.of_manifest(Path("bundle"), content)


def _manifests() -> list[bytes]:
    from fake_bundle import write_bundle

    with tempfile.TemporaryDirectory() as folder:
        write_bundle(Path(folder) / "b")
        return [(Path(folder) / "b" / "manifest.json").read_bytes()]


def _graphs() -> list[bytes]:
    from odd_graphs import CRAFTED, crafted_graph, good_graph

    return [bytes(good_graph().SerializeToString()), *map(crafted_graph, CRAFTED)]


def _checkpoints() -> list[bytes]:
    made = []
    for content in ({"model": {"image_encoder.trunk.patch_embed.proj.weight": torch.zeros(1)}}, {}):
        for zipped in (True, False):
            buffer = io.BytesIO()
            torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
            made.append(buffer.getvalue())
    header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    return [*made, len(header).to_bytes(8, "little") + header + bytes(4)]


def _records() -> list[bytes]:
    buffer = io.BytesIO()
    about = {"version": 1, "seed": 1, "frames": 1, "shapes": {}}
    np.savez(
        buffer,
        about=np.frombuffer(json.dumps(about).encode(), np.uint8),
        **{"loop/0/scores": np.ones(1, np.float32)},
    )
    return [buffer.getvalue()]


def _engine_records() -> list[bytes]:
    data = {"schema": 1, "graph": "g", "driver": [13, 0], "profiles": [{"x": [[1], [1], [1]]}]}
    return [json.dumps({**data, "digest": digest_of(data)}).encode()]


def _images() -> list[bytes]:
    made = []
    for kind in ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP"):
        buffer = io.BytesIO()
        Image.new("RGB", (8, 6), (10, 200, 30)).save(buffer, kind)
        made.append(buffer.getvalue())
    return made


def _rle(content: bytes) -> object:
    """What is taken as run lengths comes back the same."""
    height, width = (content + b"\1\1")[:2]
    mask = mask_from_rle({"size": [height, width], "counts": content[2:]})
    if not np.array_equal(mask_from_rle(rle_from_mask(mask)), mask):
        raise AssertionError("a mask that does not come back")
    return mask


def _rles() -> list[bytes]:
    masks = np.random.default_rng(0).random((3, 9, 7)) > 0.5
    return [bytes([9, 7]) + rle_from_mask(mask)["counts"].encode() for mask in masks]


def _prompts() -> list[bytes]:
    """Every field, each kind of mask, and what is written in place of them."""
    runs = rle_from_mask(np.eye(6, dtype=bool))
    entries: list[dict[str, Any]] = [
        {"object": 1, "frame": 0, "points": [[2, 3], [4.5, 1]], "labels": [1, 0]},
        {"object": 2, "box": [0, 0, 5, 4], "points": None},
        {"object": 3, "frame": 5, "mask": runs},
        {"object": 4, "mask": "m.json"},
        {"frame": 9, "mask_ids": "ids.png"},
    ]
    files = [{"prompts": [entry]} for entry in entries]
    return [json.dumps(file).encode() for file in [*files, {"prompts": entries[:3]}]]


def _coco() -> list[bytes]:
    """Run lengths as text and as numbers, alone and in an annotation."""
    runs: dict[str, Any] = dict(rle_from_mask(np.eye(6, dtype=bool)))
    numbers = {"size": [2, 3], "counts": [1, 2, 3]}
    made = [runs, numbers, {"segmentation": runs, "area": 6, "bbox": [0, 0, 6, 6]}]
    return [json.dumps(document).encode() for document in made]


def _mask_images() -> list[bytes]:
    made = []
    for mode, kind in (("1", "PNG"), ("L", "PNG"), ("P", "PNG"), ("I;16", "PNG"), ("I;16", "TIFF")):
        buffer = io.BytesIO()
        image = Image.new(mode, (8, 6))
        image.putpixel((3, 2), 1)
        image.save(buffer, kind)
        made.append(buffer.getvalue())
    return made


def _video(path: Path) -> int:
    """How many frames it has, read in order and then at once."""
    with open_frames(path, on_error="skip") as frames:
        count = sum(frame is not None for frame in itertools.islice(frames, 20))
        frames.read(0)
    return count


def _videos() -> list[bytes]:
    import av

    made = []
    kinds = {"mp4": "mpeg4", "matroska": "mjpeg", "avi": "mjpeg", "mpegts": "mpeg4"}
    for kind, codec in kinds.items():
        buffer = io.BytesIO()
        with av.open(buffer, "w", format=kind) as container:
            stream = container.add_stream(codec, rate=10)
            stream.width, stream.height = 16, 16
            stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            for level in (10, 200):
                frame = av.VideoFrame.from_ndarray(np.full((16, 16, 3), level, np.uint8), "rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        made.append(buffer.getvalue())
    return made


def _state(path: Path) -> object:
    """What is taken has finite numbers, of frames before the next one."""
    found = read_object(path, _MICRO, _DIGEST)
    for outputs in (found.history.cond, found.history.non_cond):
        if not all(index < found.header["frame_idx"] for index in outputs):
            raise AssertionError("a frame to come")
        if not all(np.isfinite(output.obj_ptr).all() for output in outputs.values()):
            raise AssertionError("no number")
    return found


def _states() -> list[bytes]:
    """One as it is written, one of a single frame, one with more in its header."""
    header = {"bundle": _DIGEST, "options": {}, "frame_idx": 2, "frame_size": [4, 6]}
    side = _MICRO.embed_size
    memory = np.ones((_MICRO.mem_dim, side, side), np.float16)
    output = FrameOutput(None, np.ones(_MICRO.hidden_dim, np.float32), 1.0, 0.5, memory)
    made = []
    with tempfile.TemporaryDirectory() as folder:
        for tracked, more in (({1: output}, {}), ({}, {}), ({}, {"options": {"memory_dtype": 1}})):
            history = ObjectHistory({0: output}, tracked)
            write_object(Path(folder) / "s.npz", SavedObject({**header, **more}, history))
            made.append((Path(folder) / "s.npz").read_bytes())
    return made


def _request(content: bytes) -> object:
    """The body of a request by each of the server's schemas."""
    found = []
    for schema in _REQUESTS:
        with contextlib.suppress(Sam2rtError):
            found.append(checked_json(content, schema))
    if not found:
        raise InputError("no request")
    return found


def _requests() -> list[bytes]:
    mask = dict(rle_from_mask(np.eye(6, dtype=bool)))
    bodies: list[dict[str, Any]] = [
        {"object": 1, "frame": 3, "points": [[2, 3.5]], "labels": [1], "clear": True},
        {"object": 2, "box": [0, 0, 5, 4], "mask": mask, "points": None},
        {"sample": "shapes", "no_overlap": False},
        {"path": "a/b.mp4"},
        {"name": "one"},
        {"direction": "both", "start": 2, "frames": 4},
        {"frame": 0, "points_per_side": 4, "pred_iou_thresh": 0.5},
        {"prompt": {"object": 1, "points": [[1, 2]], "labels": [0]}, "reset": True},
    ]
    return [json.dumps(body).encode() for body in bodies]


def _hash_files() -> list[bytes]:
    digest = "0123456789abcdef" * 4
    return [f"{digest}  w.pt\n".encode(), digest.encode()]


def _shard_indices() -> list[bytes]:
    names = [f"m-0000{i}-of-00002.safetensors" for i in (1, 2)]
    return [
        json.dumps({"metadata": {}, "weight_map": dict(zip("ab", names, strict=True))}).encode()
    ]


TARGETS = {
    "manifest": Target(_manifest, _manifests),
    "graph": Target(lambda c: check_graph(c, {"w.bin": 4096}), _graphs, (GraphError,)),
    "checkpoint": Target(_file(load_checkpoint, "w.pt"), _checkpoints),
    "record": Target(_file(lambda path: load_record(path, _MICRO), "p.npz"), _records),
    "engine_record": Target(
        _file(lambda path: read_record(path.with_suffix(".engine")), "e.json"), _engine_records
    ),
    "rle": Target(_rle, _rles),
    "image": Target(_file(read_image, "i.png"), _images),
    "prompts": Target(_file(lambda path: load_prompts(str(path)), "p.json"), _prompts),
    "coco": Target(_file(mask_of, "m.json"), _coco),
    "mask_ids": Target(_file(masks_of_ids, "m.png"), _mask_images),
    "video": Target(_file(_video, "v.mp4"), _videos),
    "state": Target(_file(_state, "s.npz"), _states),
    "request": Target(_request, _requests),
    "hash_file": Target(
        _file(lambda path: sha256_of(path.with_suffix("")), "w.pt.sha256"), _hash_files
    ),
    "shard_index": Target(_file(_listed, "m.json"), _shard_indices),
}
