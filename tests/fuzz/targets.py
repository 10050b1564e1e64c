"""What is fuzzed: a reader of files that may come from strangers, and how it may refuse them."""

from __future__ import annotations

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
from sam2rt.configs.errors import Sam2rtError
from sam2rt.configs.formats.graph_file import GraphError, check_graph
from sam2rt.configs.formats.manifest import digest_of
from sam2rt.configs.models import model_config
from sam2rt.export.checkpoint.load import load_checkpoint
from sam2rt.export.proof.record import load_record
from sam2rt.runtime.backends.engine_record import read_record
from sam2rt.runtime.media.images import read_image
from sam2rt.runtime.media.open import open_frames
from sam2rt.runtime.pixels.rle import mask_from_rle, rle_from_mask
from sam2rt.runtime.tasks.prompt_file import load_prompts, mask_of, masks_of_ids

_MICRO = model_config("micro")


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
}
