"""The work of ``sam2rt track``: the predictor's masks in a folder, whole or not at all."""

from __future__ import annotations

import json
import os
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clips import write_clip
from failing_session import NanSession
from golden import data_path
from PIL import Image

from sam2rt import FrameError, InputError, SessionError, VideoPredictor
from sam2rt.runtime.media.images import read_image
from sam2rt.runtime.media.open import open_frames
from sam2rt.runtime.pixels.rle import mask_from_rle, rle_from_mask
from sam2rt.runtime.session import Session
from sam2rt.runtime.tasks.prompts import ObjectPrompt
from sam2rt.runtime.tasks.track import TrackSummary, track_video

LENGTH = 9


PROMPTS = [
    ObjectPrompt(1, 0, [(210, 350, 1)]),
    ObjectPrompt(7, 3, box=(300, 0, 500, 400)),
    ObjectPrompt(1, 5, [(220, 360, 1), (400, 100, 0)]),
]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first nine images of a clip."""
    folder = tmp_path_factory.mktemp("clip")
    for i in range(LENGTH):
        (folder / f"{i}.jpg").symlink_to(data_path(f"bedroom/{i:05d}.jpg"))
    return folder


def _track(session: Session, source: Any, out: Path, prompts: Any = PROMPTS, **more: Any) -> Any:
    return track_video(session.bundle, source, out, prompts, session=session, **more)


@pytest.fixture(scope="module")
def tracked(
    micro_session: Session, clip: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, TrackSummary, list[Any]]:
    out = tmp_path_factory.mktemp("tracked") / "out"
    reports: list[Any] = []
    summary = _track(micro_session, clip, out, progress=lambda *a: reports.append(a))
    return out, summary, reports


def _frames(folder: Path) -> list[dict[int, Any]]:
    """Per frame, masks by object."""
    content = json.loads((folder / "masks.json").read_text())
    images = content["images"]
    assert [i["frame"] for i in images] == list(range(len(images)))
    size = content["height"], content["width"]
    frames = [{int(i): np.zeros(size, bool) for i in image["object_scores"]} for image in images]
    for record in content["annotations"]:
        mask = mask_from_rle(record["segmentation"])
        frames[record["image_id"] - 1][record["object"]] = mask
    return frames


def test_objects_appear_with_their_first_prompt(tracked: Any) -> None:
    folder, summary, reports = tracked
    frames = _frames(folder)
    assert [sorted(f) for f in frames] == [[1]] * 3 + [[1, 7]] * 6
    assert (summary.num_frames, summary.obj_ids) == (LENGTH, [1, 7])
    assert summary.seconds > 0
    assert reports == [("opening the bundle",)] + [
        ("tracking", i + 1, LENGTH) for i in range(LENGTH)
    ]


def test_masks_are_the_video_predictor_s(tracked: Any, micro_session: Session, clip: Path) -> None:
    """Until the first prompt after the start, propagation through the file does the same."""
    predictor = VideoPredictor(micro_session.bundle, session=micro_session)
    state = predictor.init_state(clip)
    predictor.add_new_points_or_box(state, 0, 1, points=[[210, 350]], labels=[1])
    frames = _frames(tracked[0])
    for frame_idx, _, logits in predictor.propagate_in_video(state, max_frame_num_to_track=4):
        np.testing.assert_array_equal(frames[frame_idx][1], logits[0, 0] > 0)
    predictor.reset_state(state)
    predictor.add_new_points_or_box(state, 3, 7, box=[300, 0, 500, 400])
    for frame_idx, _, logits in predictor.propagate_in_video(state):
        np.testing.assert_array_equal(frames[frame_idx][7], logits[0, 0] > 0)


def test_images_hold_the_same_masks(tracked: Any) -> None:
    folder = tracked[0]
    for i, masks in enumerate(_frames(folder)):
        for obj_id, mask in masks.items():
            image = read_image(folder / "masks" / str(obj_id) / f"{i:05d}.png")
            np.testing.assert_array_equal(image[..., 0], mask * np.uint8(255))
    assert len(list((folder / "masks").rglob("*.png"))) == 9 + 6
    content = json.loads((folder / "masks.json").read_text())
    assert (content["height"], content["width"], content["fps"]) == (540, 960, None)


def test_frames_have_their_time_and_name(
    micro_session: Session, tracked: Any, tmp_path: Path
) -> None:
    """Of a folder the names of its images, of a video the stamps, which the overlay keeps."""
    content = json.loads((tracked[0] / "masks.json").read_text())
    found = [(f["frame"], f["timestamp"], f["file_name"]) for f in content["images"]]
    assert found == [(i, None, f"{i}.jpg") for i in range(LENGTH)]
    times = [0.5, 0.6, 1.1, 1.12, 3.5]
    clip = write_clip(tmp_path / "c.mkv", "libx264", 5, times=times)
    _track(micro_session, clip, tmp_path / "out", [ObjectPrompt(1, 0, [(5, 5, 1)])])
    content = json.loads((tmp_path / "out" / "masks.json").read_text())
    found = [(f["frame"], f["timestamp"], f["file_name"]) for f in content["images"]]
    assert found == [(i, time, f"{i:05d}.jpg") for i, time in enumerate(times)]
    with open_frames(tmp_path / "out" / "overlay.mp4") as video:
        shown = [video.time_of(i) for i in range(video.num_frames)]
    assert shown == pytest.approx([0, 0.1, 0.6, 0.62, 3], abs=1e-4)


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("size", "fps"), [((96, 128), 66.6667), ((96, 128), 239.123), ((96, 1), 25), ((97, 65), 25)]
)
def test_clips_of_any_rate_and_size_have_an_overlay(
    micro_session: Session, size: tuple[int, int], fps: float, tmp_path: Path
) -> None:
    clip = write_clip(tmp_path / "c.mov", "png", 4, fps, size=size, pix_fmt="rgb24")
    prompts = [ObjectPrompt(1, 0, [(0, 5, 1)])]
    summary = _track(micro_session, clip, tmp_path / "out", prompts)
    assert (summary.num_frames, summary.missing) == (4, None)
    with open_frames(tmp_path / "out" / "overlay.mp4") as video:
        assert video.num_frames == 4
        assert video.height == size[0] + size[0] % 2
        assert video.fps == pytest.approx(fps, rel=0.01)


@pytest.mark.timeout(120)
def test_a_pipe_is_tracked(micro_session: Session, tmp_path: Path) -> None:
    clip, pipe = write_clip(tmp_path / "c.mp4", count=5), tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(clip.read_bytes()), daemon=True)
    writer.start()
    prompts = [ObjectPrompt(1, 4, [(5, 5, 1)])]
    assert _track(micro_session, pipe, tmp_path / "out", prompts).num_frames == 5
    writer.join()


def test_video_and_sheet_show_the_frames(tracked: Any, clip: Path) -> None:
    folder = tracked[0]
    frames = _frames(folder)
    with open_frames(folder / "overlay.mp4") as video, open_frames(clip) as source:
        assert (video.num_frames, video.fps) == (LENGTH, 25.0)
        for i, (drawn, rgb) in enumerate(zip(video, source, strict=True)):
            outside = ~np.any(list(frames[i].values()), axis=0)
            difference = np.abs(drawn.astype(int) - rgb).mean(-1)
            assert np.median(difference[outside]) < 8
            inside = frames[i][1]
            if inside.any():
                assert np.median(difference[inside]) > 15
    sheet = read_image(folder / "sheet.png")
    assert sheet.shape == (3 * 180, 4 * 320, 3)
    assert sheet[-180:, -320:].max() == 0  # nine of twelve places


@pytest.mark.parametrize("count", [13, 40])
def test_a_long_video_still_makes_a_small_sheet(
    micro_session: Session, tmp_path: Path, count: int
) -> None:
    """No object appears before the end, so nothing is computed."""
    frames = [np.full((48, 64, 3), 5 * i, np.uint8) for i in range(count)]
    prompts = [ObjectPrompt(1, count - 1, [(5, 5, 1)])]
    _track(micro_session, frames, tmp_path / "out", prompts, write_video=False)
    sheet = read_image(tmp_path / "out" / "sheet.png")
    rows, columns = sheet.shape[0] // 240, sheet.shape[1] // 320
    stride = 2 if count == 13 else 4
    shown = [5 * i for i in range(0, count - 1, stride)]
    places = sheet.reshape(rows, 240, columns, 320, 3)[:, 120, :, 160, 0].ravel().tolist()
    assert places[: len(shown)] == shown
    assert rows * columns <= 12
    assert not (tmp_path / "out" / "overlay.mp4").exists()


def test_less_is_written_on_request(micro_session: Session, clip: Path, tmp_path: Path) -> None:
    _track(micro_session, clip, tmp_path / "o", PROMPTS[:1], write_masks=False, write_video=False)
    assert sorted(p.name for p in (tmp_path / "o").iterdir()) == ["masks.json", "sheet.png"]


def test_a_generator_is_a_source_too(
    micro_session: Session, clip: Path, tmp_path: Path, tracked: Any
) -> None:
    with open_frames(clip) as frames:
        _track(micro_session, iter(frames), tmp_path / "out", write_video=False)
    for found, expected in zip(_frames(tmp_path / "out"), _frames(tracked[0]), strict=True):
        assert found.keys() == expected.keys()
        for obj_id, mask in found.items():
            np.testing.assert_array_equal(mask, expected[obj_id])


def _damaged(clip: Path, folder: Path) -> Path:
    folder.mkdir()
    for path in clip.iterdir():
        content = path.read_bytes()
        (folder / path.name).write_bytes(content[:2000] if path.name == "2.jpg" else content)
    return folder


def test_a_damaged_frame_fails_or_is_left_out(
    micro_session: Session, clip: Path, tmp_path: Path
) -> None:
    damaged = _damaged(clip, tmp_path / "damaged")
    with pytest.raises(FrameError, match=r"2\.jpg"):
        _track(micro_session, damaged, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["damaged"]
    summary = _track(micro_session, damaged, tmp_path / "out", PROMPTS[:2], on_error="skip")
    assert summary.num_frames == LENGTH - 1
    content = json.loads((tmp_path / "out" / "masks.json").read_text())
    assert [i["frame"] for i in content["images"]] == [0, 1, *range(3, LENGTH)]
    assert not (tmp_path / "out" / "masks" / "1" / "00002.png").exists()


def test_a_prompt_on_a_frame_left_out_is_an_error(
    micro_session: Session, clip: Path, tmp_path: Path
) -> None:
    damaged = _damaged(clip, tmp_path / "damaged")
    prompts = [*PROMPTS[:1], ObjectPrompt(2, 2, [(5, 5, 1)])]
    with pytest.raises(InputError, match="object 2 is on frame 2, which was never reached: 8"):
        _track(micro_session, damaged, tmp_path / "out", prompts, on_error="skip")
    assert [p.name for p in tmp_path.iterdir()] == ["damaged"]


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ([], "nothing to track"),
        ([ObjectPrompt(1, 0)], "object 1 on frame 0: no prompt"),
        ([ObjectPrompt(1, -1, [(1, 1, 1)])], "frames count from 0"),
        (
            [ObjectPrompt(1, 0, [(1, 1, 1)]), ObjectPrompt(2, 9, [(1, 1, 1)])],
            "object 2 is on frame 9, which",
        ),
        ([ObjectPrompt(3, 0, [(5000, 1, 1)])], "object 3 on frame 0: .*outside the image"),
        (
            [
                ObjectPrompt(3, 4, [(1, 1, 1)]),
                ObjectPrompt(2, 4, [(1, 1, 1)]),
                ObjectPrompt(3, 4, box=(9, 9, 20, 20)),
            ],
            "object 3 has two prompts on frame 4: give its clicks and its box as one",
        ),
        ([ObjectPrompt(1.5, 0, [(1, 1, 1)])], "obj_id is 1.5: expected a whole number"),
        ([ObjectPrompt(1, "0", [(1, 1, 1)])], "frame_idx is '0': expected a whole number"),
        ([ObjectPrompt(3, 4, box=(9, 9, 3, 3))], "object 3 on frame 4: .*empty or reversed"),
    ],
)
def test_unusable_prompts_are_found_before_any_work(
    micro_session: Session, clip: Path, tmp_path: Path, prompts: Any, message: str
) -> None:
    reports: list[Any] = []
    with pytest.raises(InputError, match=message):
        _track(
            micro_session, clip, tmp_path / "out", prompts, progress=lambda *a: reports.append(a)
        )
    assert reports == []
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_leaves_nothing(micro_session: Session, clip: Path, tmp_path: Path) -> None:
    def interrupt(what: str, done: int = 0, total: int | None = None) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _track(micro_session, clip, tmp_path / "out", progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_frames_of_another_size_are_an_error(micro_session: Session, tmp_path: Path) -> None:
    for i, size in enumerate([(64, 48), (64, 48), (32, 48)]):
        Image.new("RGB", size).save(tmp_path / f"{i}.png")
    with pytest.raises(FrameError, match="frame 2 is 32 x 48, the first is 64 x 48"):
        _track(micro_session, tmp_path, tmp_path / "out", [ObjectPrompt(1, 0, [(5, 5, 1)])])
    assert not (tmp_path / "out").exists()


def test_few_frames_are_held_whatever_the_length(micro_session: Session, tmp_path: Path) -> None:
    """The source makes a frame when asked; at any time only a handful may be alive."""
    alive = most = 0

    class Lazy:
        def __len__(self) -> int:
            return 120

        def __getitem__(self, index: int) -> Any:
            nonlocal alive, most
            frame = np.full((48, 64, 3), index, np.uint8)
            alive += 1
            most = max(most, alive)
            weakref.finalize(frame, gone)
            return frame

    def gone() -> None:
        nonlocal alive
        alive -= 1

    prompts = [ObjectPrompt(1, 119, [(5, 5, 1)])]
    _track(micro_session, Lazy(), tmp_path / "out", prompts, write_masks=False)
    assert len(_frames(tmp_path / "out")) == 120
    # two decoded ahead, one more being decoded, one in work, one just handed over
    assert most <= 6


def test_a_file_put_into_the_result_meanwhile_stays(
    micro_session: Session, clip: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    _track(micro_session, clip, out, write_video=False)
    earlier = (out / "masks.json").read_bytes()

    def busy(what: str, done: int = 0, total: int | None = None) -> None:
        (out / "notes.txt").write_text("mine")

    with pytest.raises(InputError) as refused:
        _track(micro_session, clip, out, PROMPTS[:1], write_video=False, progress=busy)
    assert str(refused.value) == (
        f"folder {out} holds notes.txt, which came while the result was made: it was left as it "
        f"is, the new result is in {out}.new"
    )
    assert (out / "notes.txt").read_text() == "mine"
    assert (out / "masks.json").read_bytes() == earlier
    assert list(_frames(tmp_path / "out.new")[-1]) == [1]


@pytest.mark.parametrize("name", ["mask_logits", "object_score", "iou"])
def test_what_is_no_number_is_never_written(
    micro_session: Session, clip: Path, tmp_path: Path, name: str
) -> None:
    """A NaN is above no threshold: it would pass for an empty mask."""
    # one prompt, then a call a frame: the third result is of frame 2
    session = NanSession(micro_session, name, at=3)
    with pytest.raises(SessionError) as refused:
        _track(session, clip, tmp_path / "out", PROMPTS[:1], write_video=False)
    assert str(refused.value) == (
        f"frame 2, object 1: the graphs gave NaN or infinity in {name}, expected numbers: check "
        "the bundle with 'sam2rt verify', or export it as fp32"
    )
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_number_leaves_a_video_as_it_was(micro_session: Session, clip: Path) -> None:
    predictor = VideoPredictor(
        micro_session.bundle, session=NanSession(micro_session, "mask_logits", at=4)
    )
    state = predictor.init_state(clip)
    predictor.add_new_points_or_box(state, 0, 1, [(210, 350)], [1])
    seen = []
    with pytest.raises(SessionError, match=r"^frame 3, object 1: the graphs gave NaN"):
        seen.extend(frame for frame, _, _ in predictor.propagate_in_video(state))
    assert seen == [0, 1, 2]
    with pytest.raises(SessionError, match=r"^frame 5, object 7: the graphs gave NaN"):
        predictor.add_new_points_or_box(state, 5, 7, [(210, 350)], [1])
    assert state.obj_ids == [1]


SQUARE = np.zeros((540, 960), bool)
SQUARE[300:420, 160:280] = True
MASK = dict(rle_from_mask(SQUARE))


def test_a_mask_prompt_is_the_video_predictor_s(
    micro_session: Session, clip: Path, tmp_path: Path
) -> None:
    prompts = [ObjectPrompt(1, 2, mask=MASK), ObjectPrompt(4, 3, [(210, 350, 1)])]
    _track(micro_session, clip, tmp_path / "out", prompts, write_video=False, end=5)
    predictor = VideoPredictor(micro_session.bundle, session=micro_session)
    state = predictor.init_state(clip)
    predictor.add_new_mask(state, 2, 1, SQUARE)
    frames = _frames(tmp_path / "out")
    assert [sorted(f) for f in frames] == [[], [], [1], [1, 4], [1, 4], [1, 4]]
    for frame_idx, _, logits in predictor.propagate_in_video(state, max_frame_num_to_track=3):
        np.testing.assert_array_equal(frames[frame_idx][1], logits[0, 0] > 0)


@pytest.mark.parametrize("prefetch", [False, True])
def test_reverse_is_the_video_predictor_s(
    micro_session: Session, clip: Path, tmp_path: Path, prefetch: bool
) -> None:
    reports: list[Any] = []
    summary = _track(
        micro_session,
        clip,
        tmp_path / "out",
        [ObjectPrompt(1, 6, [(210, 350, 1)]), ObjectPrompt(7, 6, box=(300, 0, 500, 400))],
        reverse=True,
        prefetch=prefetch,
        progress=lambda *a: reports.append(a),
    )
    assert summary.num_frames == 7
    assert reports[1:] == [("tracking", i + 1, 7) for i in range(7)]
    content = json.loads((tmp_path / "out" / "masks.json").read_text())
    assert [image["frame"] for image in content["images"]] == [6, 5, 4, 3, 2, 1, 0]
    predictor = VideoPredictor(micro_session.bundle, session=micro_session)
    state = predictor.init_state(clip)
    predictor.add_new_points_or_box(state, 6, 1, points=[[210, 350]], labels=[1])
    predictor.add_new_points_or_box(state, 6, 7, box=[300, 0, 500, 400])
    seen = []
    for frame_idx, _, logits in predictor.propagate_in_video(state, reverse=True):
        for obj_id, plane in zip((1, 7), logits[:, 0], strict=True):
            image = read_image(tmp_path / "out" / "masks" / str(obj_id) / f"{frame_idx:05d}.png")
            np.testing.assert_array_equal(image[..., 0] > 0, plane > 0)
        seen.append(frame_idx)
    assert seen == [6, 5, 4, 3, 2, 1, 0]
    with open_frames(tmp_path / "out" / "overlay.mp4") as video:
        assert video.num_frames == 7


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({"start": 3}, [3, 4, 5, 6, 7, 8]),
        ({"end": 4}, [0, 1, 2, 3, 4]),
        ({"start": 2, "end": 6}, [2, 3, 4, 5, 6]),
        ({"start": 2, "end": 6, "reverse": True}, [6, 5, 4, 3, 2]),
        ({"start": 3, "reverse": True}, [4, 3]),
        ({"start": 4, "end": 4}, [4]),
    ],
)
@pytest.mark.parametrize("kind", ["folder", "generator"])
def test_a_range_keeps_the_numbers_of_the_source(
    micro_session: Session,
    clip: Path,
    tmp_path: Path,
    chosen: dict[str, Any],
    expected: list[int],
    kind: str,
) -> None:
    prompts = [ObjectPrompt(1, 4, [(210, 350, 1)])]
    reports: list[Any] = []
    with open_frames(clip) as frames:
        source = clip if kind == "folder" else iter(frames)
        more = {"write_video": False, "progress": lambda *a: reports.append(a), **chosen}
        summary = _track(micro_session, source, tmp_path / "out", prompts, **more)
    content = json.loads((tmp_path / "out" / "masks.json").read_text())
    assert [image["frame"] for image in content["images"]] == expected
    assert summary.num_frames == len(expected)
    assert reports[-1] == ("tracking", len(expected), len(expected))
    tracked = expected[expected.index(4) :]
    written = sorted(p.name for p in (tmp_path / "out" / "masks" / "1").iterdir())
    assert written == [f"{i:05d}.png" for i in sorted(tracked)]


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"start": 5, "end": 3}, "frames 5 to 3: expected an end that is not before the start"),
        ({"start": -1}, "start is -1: expected at least 0"),
        ({"start": 9}, "frame 9: the video has frames 0 to 8"),
        ({"end": 9}, "frame 9: the video has frames 0 to 8"),
        (
            {"start": 5},
            "a prompt is on frame 4, but frames 5 to the last one are tracked: prompt one of "
            "these, or track more",
        ),
        (
            {"end": 3, "reverse": True},
            "a prompt is on frame 4, but frames 0 to 3 are tracked: prompt one of these, or track "
            "more",
        ),
    ],
)
def test_a_range_that_cannot_be_tracked_is_found_before_any_work(
    micro_session: Session, clip: Path, tmp_path: Path, chosen: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError) as refused:
        _track(micro_session, clip, tmp_path / "out", [ObjectPrompt(1, 4, mask=MASK)], **chosen)
    assert str(refused.value) == message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (
            ObjectPrompt(
                2, 0, mask=dict(rle_from_mask(SQUARE[::2, ::2])), place="p.json, prompt 3"
            ),
            "p.json, prompt 3: object 2 on frame 0: the mask is 480 x 270, the frame 960 x 540: "
            "give one of the frame's size",
        ),
        (
            ObjectPrompt(2, 0, [(5, 5, 1)], mask=MASK),
            "object 2 on frame 0: a mask and clicks or a box were given: give one or the other",
        ),
    ],
)
def test_masks_that_cannot_be_used(
    micro_session: Session, clip: Path, tmp_path: Path, prompt: ObjectPrompt, message: str
) -> None:
    with pytest.raises(InputError) as refused:
        _track(micro_session, clip, tmp_path / "out", [prompt])
    assert str(refused.value) == message
    assert list(tmp_path.iterdir()) == []


def test_drawings_show_the_prompts_of_their_frame(micro_session: Session, tmp_path: Path) -> None:
    """A green plus, a red minus and a box; on the next frame they are gone."""
    frames = [np.full((480, 640, 3), 60, np.uint8) for _ in range(3)]
    prompts = [
        ObjectPrompt(1, 0, [(100, 100, 1), (300, 400, 0)]),
        ObjectPrompt(2, 1, box=(200, 200, 400, 300)),
    ]
    _track(micro_session, frames, tmp_path / "out", prompts, write_masks=False)
    with open_frames(tmp_path / "out" / "overlay.mp4") as video:
        first, second, _ = (frame.astype(int) for frame in video)
    for (x, y), lead in (((100, 100), 1), ((300, 400), 0)):
        others = [channel for channel in range(3) if channel != lead]
        assert first[y, x, lead] > first[y, x, others].max() + 60
        assert np.abs(second[y, x] - second[y + 40, x + 40]).max() < 30
    edge, inside = second[200, 220:380].mean(0), second[250, 220:380].mean(0)
    assert np.abs(edge - inside).max() > 40
    sheet = read_image(tmp_path / "out" / "sheet.png").astype(int)
    assert sheet[50, 50, 1] > sheet[50, 50, 0] + 30
