"""The models of Triton without a server: masks of the predictors, one line for each wrong input."""

from __future__ import annotations

import io
import threading
import time
from pathlib import Path
from typing import Any

import fake_triton
import numpy as np
import pytest
from fake_triton import END, START, Request, Sender
from PIL import Image
from square_clip import BOX, CLICK, moving_square

from sam2rt import ImagePredictor, StreamTracker, open_frames
from sam2rt.configs.errors import InputError, StateError
from sam2rt.runtime.pixels.rle import rle_from_mask
from sam2rt.serving.sessions.media import _SAMPLES
from sam2rt.serving.triton.model import check_arrays
from sam2rt.serving.triton.settings import settings_of

PROMPTS = {"prompts": [{"object": 5, **CLICK}, {"object": 2, **BOX}]}
CLIP = (_SAMPLES / "shapes.mp4").read_bytes()
#: an object of the sample on its first frame
SHAPE = {"prompts": [{"object": 3, "points": [[100, 120]]}]}


def encoded(frame: np.ndarray, form: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(frame).save(file, form)
    return file.getvalue()


def asked(model: Any, request: Request) -> dict[str, np.ndarray]:
    """The outputs of a request that must be no error."""
    (response,) = model.execute([request])
    assert response.error is None, response.error.message
    return response.outputs


def refused(model: Any, request: Request, code: str = "invalid") -> str:
    """The one line of a request that must be an error."""
    (response,) = model.execute([request])
    assert response.error is not None
    assert (response.outputs, response.error.code) == ({}, code)
    assert "\n" not in response.error.message
    return str(response.error.message)


def assert_frame(outputs: dict[str, np.ndarray], expected: Any) -> None:
    """The outputs are a tracker's result, bit for bit, and of the declared types."""
    assert {name: str(values.dtype) for name, values in outputs.items()} == {
        "OBJECT_IDS": "int64",
        "SCORES": "float32",
        "RLE": "object",
        "FRAME_SIZE": "int32",
        "FRAME_INDEX": "int64",
    }
    assert outputs["OBJECT_IDS"].tolist() == expected.obj_ids
    assert outputs["SCORES"].tobytes() == expected.object_scores.tobytes()
    assert [c.decode() for c in outputs["RLE"]] == [rle["counts"] for rle in expected.rles()]
    assert tuple(outputs["FRAME_SIZE"]) == expected.frame_size
    assert outputs["FRAME_INDEX"].tolist() == [expected.frame_idx]


def prompted(session: Any) -> StreamTracker:
    tracker = StreamTracker(session.bundle, session=session)
    tracker.add_points(5, CLICK["points"], CLICK["labels"])
    tracker.add_box(2, BOX["box"])
    return tracker


def test_a_sequence_gives_the_masks_of_a_stream_tracker(started, session):
    model, tracker = started("stream"), prompted(session)
    frames = moving_square(6)
    for t, frame in enumerate(frames):
        flags = (START if t == 0 else 0) | (END if t == 5 else 0)
        # raw pixels and a lossless file are one frame
        given = {"FRAME": frame} if t % 2 else {"ENCODED": encoded(frame)}
        request = Request(9, flags, PROMPTS=PROMPTS if t == 0 else None, **given)
        assert_frame(asked(model, request), tracker.step(frame))
    assert len(model.streams) == 0


def test_objects_come_and_go_and_are_corrected(started, session):
    model, tracker = started("stream"), prompted(session)
    frames = moving_square(5)
    asked(model, Request(9, START, FRAME=frames[0], PROMPTS=PROMPTS))
    tracker.step(frames[0])
    mask = np.zeros((96, 128), bool)
    mask[40:60, 50:70] = True
    changes: list[dict[str, Any]] = [
        {"remove": [5]},
        {"prompts": [{"object": 2, "points": [[1, 1]], "labels": [0]}]},
        {"prompts": [{"object": 8, "mask": dict(rle_from_mask(mask))}], "remove": []},
        {"remove": [2, 8]},
    ]
    tracked = [
        lambda: tracker.remove_object(5),
        lambda: tracker.add_points(2, [[1, 1]], [0]),
        lambda: tracker.add_mask(8, mask),
        lambda: [tracker.remove_object(2), tracker.remove_object(8)],
    ]
    for frame, change, same in zip(frames[1:], changes, tracked, strict=True):
        same()
        outputs = asked(model, Request(9, FRAME=frame, PROMPTS=change))
        assert_frame(outputs, tracker.step(frame))
    assert outputs["OBJECT_IDS"].tolist() == []


def test_many_sequences_take_turns_and_stay_apart(started, session):
    model = started("stream")
    clips = [np.roll(moving_square(4), 7 * number, 2) for number in range(4)]
    trackers = [StreamTracker(session.bundle, session=session) for _ in clips]
    for t in range(4):
        for number, (clip, tracker) in enumerate(zip(clips, trackers, strict=True)):
            points = [[20 + 7 * number, 42]]
            if t == 0:
                tracker.add_points(1, points, [1])
            prompts = {"prompts": [{"points": points}]} if t == 0 else None
            request = Request(number + 1, START * (t == 0), FRAME=clip[t], PROMPTS=prompts)
            assert_frame(asked(model, request), tracker.step(clip[t]))
    assert len(model.streams) == 4
    assert fake_triton.MetricFamily.made["sam2rt_triton_sessions"].value == 4


def test_an_end_without_a_frame_ends_the_session(started):
    model = started("stream")
    frame = moving_square(1)[0]
    asked(model, Request(9, START, FRAME=frame, PROMPTS=PROMPTS))
    outputs = asked(model, Request(9, END))
    assert {name: values.tolist() for name, values in outputs.items()} == {
        "OBJECT_IDS": [],
        "SCORES": [],
        "RLE": [],
        "FRAME_SIZE": [0, 0],
        "FRAME_INDEX": [-1],
    }
    assert len(model.streams) == 0


def test_a_killed_client_s_session_is_gone_after_its_time(started):
    model = started("stream", idle_seconds=1)
    asked(model, Request(9, START, FRAME=moving_square(1)[0], PROMPTS=PROMPTS))
    made = fake_triton.MetricFamily.made
    assert made["sam2rt_triton_sessions"].value == 1
    deadline = time.monotonic() + 20
    # nobody asks for anything any more
    while made["sam2rt_triton_sessions"].value:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert made["sam2rt_triton_expired"].value == 1
    assert len(model.streams) == 0
    line = refused(model, Request(9, FRAME=moving_square(1)[0]))
    assert line.startswith("sequence 9 has no session: it ended, or had no frame for 1 seconds")


FRAME = moving_square(1)[0]
SIZED = np.zeros((4, 4), bool)
SIZED[1, 1] = True


@pytest.mark.parametrize(
    ("inputs", "line"),
    [
        ({}, "neither FRAME nor ENCODED was given: expected uint8 RGB [H, W, 3], or the bytes"),
        ({"FRAME": FRAME, "ENCODED": encoded(FRAME)}, "FRAME and ENCODED were given: expected the"),
        ({"FRAME": np.zeros((0, 6, 3), np.uint8)}, "FRAME has no pixels (shape (0, 6, 3))"),
        ({"FRAME": np.zeros((96, 97, 3), np.uint8)}, "the frame is 97 x 96, earlier ones were 128"),
        ({"FRAME": np.zeros((200, 200, 3), np.uint8)}, "the frame has 40000 pixels, expected at"),
        ({"ENCODED": b""}, "the frame is no JPEG, PNG or WebP that can be read: send another"),
        ({"ENCODED": b"GIF89a"}, "the frame is no JPEG, PNG or WebP that can be read: send"),
        ({"ENCODED": encoded(FRAME)[:200]}, "the frame is no JPEG, PNG or WebP that can be read"),
        ({"PROMPTS": b"{"}, "PROMPTS is no JSON that can be used (no JSON from byte 1 on)"),
        ({"PROMPTS": b""}, "PROMPTS is no JSON that can be used (empty): expected"),
        ({"PROMPTS": b"\xff"}, "PROMPTS is no JSON that can be used (not UTF-8)"),
        ({"PROMPTS": [1]}, 'PROMPTS: expected {"prompts": [...]}, found [1]'),
        ({"PROMPTS": {"prompt": []}}, "PROMPTS: unknown 'prompt', expected prompts or remove"),
        ({"PROMPTS": {"prompts": []}}, "PROMPTS: prompts is [], expected a list of at least one"),
        ({"PROMPTS": {"prompts": [7]}}, "PROMPTS, prompt 1: expected an object {...}, found"),
        ({"PROMPTS": {"prompts": [{}]}}, "PROMPTS, prompt 1: expected points, a box, a mask"),
        ({"PROMPTS": {"prompts": [{"frame": 0, **CLICK}]}}, "PROMPTS, prompt 1, frame: a"),
        ({"PROMPTS": {"prompts": [CLICK, CLICK]}}, "PROMPTS, prompt 2: object 1 has a prompt on"),
        ({"PROMPTS": {"prompts": [{"mask": "/etc/passwd"}]}}, "PROMPTS, prompt 1: a file"),
        ({"PROMPTS": {"prompts": [{"mask_ids": "a.png"}]}}, "PROMPTS, prompt 1: a file was named"),
        (
            {"PROMPTS": {"prompts": [{"mask": dict(rle_from_mask(SIZED))}]}},
            "PROMPTS, prompt 1: object 1 on frame 0: the mask is 4 x 4, the frame 128 x 96",
        ),
        ({"PROMPTS": {"prompts": [{"object": 1 << 40, **CLICK}]}}, "PROMPTS, prompt 1: object 10"),
        ({"PROMPTS": {"prompts": [{"object": n, **BOX} for n in (1, 3, 4)]}}, "5 objects, expect"),
        ({"PROMPTS": {"remove": 5}}, "PROMPTS, remove: expected a list of object ids, found 5"),
        ({"PROMPTS": {"remove": ["5"]}}, "PROMPTS, remove is '5': expected a whole number"),
        ({"PROMPTS": {"remove": [6]}}, "PROMPTS, remove: object 6 is not tracked: leave it out"),
    ],
)  # fmt: skip
def test_a_wrong_frame_is_one_line_and_changes_nothing(started, session, inputs, line):
    model, tracker = started("stream", objects=4, pixels=20_000), prompted(session)
    frames = moving_square(2)
    asked(model, Request(9, START, FRAME=frames[0], PROMPTS=PROMPTS))
    tracker.step(frames[0])
    given = (
        inputs if {"FRAME", "ENCODED"} & set(inputs) or not inputs else {"FRAME": FRAME, **inputs}
    )
    code = "unavailable" if "objects, expect" in line else "invalid"
    assert refused(model, Request(9, **given), code).startswith(line)
    assert_frame(asked(model, Request(9, FRAME=frames[1])), tracker.step(frames[1]))
    # the same as a first frame: no session is left behind
    if "earlier ones" not in line and "objects" not in line:
        assert refused(model, Request(8, START, **given)).startswith(line)
    assert len(model.streams) == 1


def test_a_filler_of_the_server_makes_no_session(started):
    model = started("stream")
    filler = Request(123456789, START, READY=np.zeros((1, 1), np.int32), FRAME=FRAME)
    assert refused(model, filler) == "the request is a filler of the server: it has no session"
    assert len(model.streams) == 0
    ready = Request(7, START, READY=np.ones((1, 1), np.int32), FRAME=FRAME)
    assert asked(model, ready)["FRAME_SIZE"].tolist() == [96, 128]


def test_one_wrong_request_of_a_batch_harms_no_other(started):
    model = started("stream")
    good = [Request(n, START, FRAME=FRAME, PROMPTS=PROMPTS) for n in (1, 3)]
    first, wrong, last = model.execute([good[0], Request("cam", START, FRAME=FRAME), good[1]])
    assert wrong.error.message.startswith("the sequence id is the text 'cam'")
    assert first.outputs["RLE"].tolist() == last.outputs["RLE"].tolist()
    assert first.error is last.error is None


def test_a_fault_of_ours_is_named_and_logged_but_not_told(started, monkeypatch, caplog):
    model = started("stream")
    monkeypatch.setattr(StreamTracker, "step", lambda self, frame: 1 / 0)
    line = refused(model, Request(9, START, FRAME=FRAME, PROMPTS=PROMPTS), "internal")
    assert line == "a fault of the model (ZeroDivisionError): the server's log has the details"
    assert "a request of sam2rt_stream failed" in caplog.text


def test_an_image_gives_the_masks_of_the_image_predictor(started, session):
    model = started("image")
    predictor = ImagePredictor(session.bundle, session=session)
    predictor.set_image(FRAME)
    for given in ({"FRAME": FRAME}, {"ENCODED": encoded(FRAME)}):
        outputs = asked(model, Request(PROMPTS=PROMPTS, **given))
        masks, ious, _ = predictor.predict(CLICK["points"], CLICK["labels"])
        best = int(ious.argmax())
        boxed, box_ious, _ = predictor.predict(box=BOX["box"], multimask_output=False)
        assert outputs["OBJECT_IDS"].tolist() == [5, 2]
        assert outputs["SCORES"].tolist() == [ious[best], box_ious[0]]
        counts = [rle_from_mask(mask)["counts"] for mask in (masks[best], boxed[0])]
        assert [c.decode() for c in outputs["RLE"]] == counts
        assert outputs["FRAME_SIZE"].tolist() == [96, 128]
        assert set(outputs) == {"OBJECT_IDS", "SCORES", "RLE", "FRAME_SIZE"}


@pytest.mark.parametrize(
    ("inputs", "line"),
    [
        ({"FRAME": FRAME, "PROMPTS": {}}, 'PROMPTS: expected {"prompts": [...]}'),
        ({"FRAME": FRAME, "PROMPTS": {"remove": [1]}}, "PROMPTS: unknown 'remove', expected"),
        ({"PROMPTS": PROMPTS}, "neither FRAME nor ENCODED was given"),
        ({"FRAME": FRAME, "PROMPTS": {"prompts": [{"frame": 1, **CLICK}]}}, "PROMPTS, prompt 1: "),
        ({"FRAME": FRAME, "PROMPTS": {"prompts": [{"box": [9, 9, 9, 9]}]}}, "PROMPTS, prompt 1: "),
        ({"ENCODED": b"x", "PROMPTS": PROMPTS}, "the frame is no JPEG, PNG or WebP"),
    ],
)  # fmt: skip
def test_a_wrong_image_is_one_line(started, inputs, line):
    model = started("image")
    assert refused(model, Request(**inputs)).startswith(line)


def clip_tracked(session: Any, prompts: dict[int, Any]) -> list[Any]:
    tracker = StreamTracker(session.bundle, session=session, num_frames=24)
    results = []
    for t, frame in enumerate(open_frames(_SAMPLES / "shapes.mp4")):
        if t in prompts:
            tracker.add_points(*prompts[t])
        results.append(tracker.step(frame))
    return results


def test_a_clip_gives_its_frames_one_by_one(started, session):
    model, sender = started("video"), Sender()
    later = {"prompts": [*SHAPE["prompts"], {"object": 3, "frame": 9, "points": [[90, 90]]}]}
    model.execute([Request(sender=sender, CLIP=CLIP, PROMPTS=later)])
    assert sender.final.wait(60)
    expected = clip_tracked(session, {0: (3, [[100, 120]], [1]), 9: (3, [[90, 90]], [1])})
    assert len(sender.sent) == 24
    for response, result in zip(sender.sent, expected, strict=True):
        assert response.error is None
        assert_frame(response.outputs, result)


def test_a_client_that_goes_ends_its_clip_alone(started, session):
    model, gone, stays = started("video"), Sender(leave_after=3), Sender()
    model.execute([Request(sender=gone, CLIP=CLIP, PROMPTS=SHAPE)])
    model.execute([Request(sender=stays, CLIP=CLIP, PROMPTS=SHAPE)])
    assert gone.final.wait(60)
    assert stays.final.wait(60)
    assert [len(gone.sent), len(stays.sent)] == [3, 24]
    assert model.clips == 0


@pytest.mark.parametrize(
    ("clip", "prompts", "line"),
    [
        (b"", SHAPE, "the clip is empty: expected the bytes of a video"),
        (b"no video", SHAPE, "neither a video nor an image that is known"),
        (b"#EXTM3U\nfile:///etc/passwd", SHAPE, "neither a video nor an image that is known"),
        (CLIP[: len(CLIP) // 3], SHAPE, "the file cannot be read: the clip"),
        (CLIP, {"prompts": []}, "PROMPTS: prompts is [], expected a list of at least one"),
        (CLIP, b"", "PROMPTS is no JSON that can be used (empty)"),
        (CLIP, {"prompts": [{"frame": 24, **CLICK}]}, "the prompt of object 1 is on frame 24"),
        (CLIP, {"prompts": [{"mask": "a.png"}]}, "PROMPTS, prompt 1: a file was named"),
        (CLIP, {"prompts": [{"points": [[999, 1]]}]}, "PROMPTS, prompt 1: object 1 on frame 0"),
        (CLIP + bytes(20_000), SHAPE, "the clip has "),
    ],
)  # fmt: skip
def test_a_wrong_clip_is_one_line_and_the_end(started, clip, prompts, line):
    model, sender = started("video", upload_bytes=len(CLIP) + 10_000), Sender()
    model.execute([Request(sender=sender, CLIP=clip, PROMPTS=prompts)])
    assert sender.final.wait(60)
    (response,) = sender.sent
    assert response.error.message.startswith(line)
    assert response.error.code == "invalid"
    assert model.clips == 0


def test_clips_beyond_the_most_are_refused(started):
    model = started("video")
    held = threading.Event()
    # the one thread of the model is busy, so no clip gets on
    model.model.submit(held.wait)
    senders = [Sender() for _ in range(17)]
    model.execute([Request(sender=s, CLIP=CLIP, PROMPTS=SHAPE) for s in senders])
    assert [s.final.is_set() for s in senders] == [False] * 16 + [True]
    error = senders[16].sent[0].error
    assert (error.code, error.message) == (
        "unavailable", "16 clips at once, the most: try again later"
    )  # fmt: skip
    held.set()
    model.finalize()
    assert all(s.final.is_set() for s in senders)
    assert model.clips == 0


def test_a_server_that_cannot_read_the_arrays_is_told_at_the_start():
    class Blind(fake_triton.Tensor):
        """As with NumPy 2 in a server that is built for NumPy 1."""

        def to_dlpack(self) -> np.ndarray:
            return np.full_like(self.as_numpy(), self.as_numpy()[0])

    class Server:
        Tensor = Blind

    with pytest.raises(StateError, match=r"does not read arrays of NumPy .*: install 'numpy<2'"):
        check_arrays(Server)
    check_arrays(fake_triton)


def test_a_server_without_metrics_does_without(bundle, monkeypatch):
    def none(self: Any, name: str, description: str, kind: str) -> None:
        raise fake_triton.TritonModelException("metrics are disabled")

    monkeypatch.setattr(fake_triton.MetricFamily, "__init__", none)
    from sam2rt.serving.triton.stream_model import ServedStreamModel

    model = type("TritonPythonModel", (ServedStreamModel,), {"server": fake_triton})()
    model.initialize(fake_triton.arguments("stream", bundle.path))
    try:
        asked(model, Request(9, START, FRAME=FRAME, PROMPTS=PROMPTS))
    finally:
        model.finalize()


@pytest.mark.parametrize(
    ("backend", "visible", "device", "left"),
    [
        ("tensorrt", None, "cuda:1", None),
        ("onnxruntime", None, "cuda", "1"),
        ("onnxruntime", "4,6", "cuda", "6"),
        ("onnxruntime", "GPU-a,GPU-b", "cuda", "GPU-b"),
    ],
)
def test_an_instance_of_a_gpu_runs_there(monkeypatch, tmp_path, backend, visible, device, left):
    import os

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    given = fake_triton.arguments("stream", tmp_path, backend=backend, device="cuda")
    given |= {"model_instance_kind": "GPU", "model_instance_device_id": "1"}
    assert settings_of(given).device == device
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == left
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_settings_that_were_edited_wrongly_are_one_line(tmp_path: Path):
    given = fake_triton.arguments("image", tmp_path)
    given["model_config"] = given["model_config"].replace('"32"', '"many"')
    with pytest.raises(InputError, match=r"^parameter max_objects is 'many': expected a whole"):
        settings_of(given)
