"""supervision's own tools read what ``to_supervision`` gives."""

from __future__ import annotations

import numpy as np
import pytest
import supervision as sv

from sam2rt import ImagePredictor, StreamTracker, VideoPredictor
from sam2rt.benchmarks.synthetic.clips import make_clip
from sam2rt.configs.errors import InputError
from sam2rt.runtime.pixels.detections import detections_from_masks


@pytest.fixture(scope="module")
def clip():
    return make_clip(5, "plain", 3)


def test_a_stream_and_a_video_as_detections(shared_bundles, clip):
    bundle = shared_bundles.built_in()
    with StreamTracker(bundle, threads=1, num_frames=3) as tracker:
        video = VideoPredictor(bundle, session=tracker.session)
        state = video.init_state(clip.frames)
        for number in (7, 9):
            mask = clip.labels[0] == (1 if number == 7 else 2)
            tracker.add_mask(number, mask)
            video.add_new_mask(state, 0, number, mask)
        for frame, (_, ids, logits) in zip(
            clip.frames, video.propagate_in_video(state), strict=True
        ):
            result = tracker.step(frame)
            found = result.to_supervision()
            assert found.tracker_id.tolist() == [7, 9]
            np.testing.assert_array_equal(found.mask, result.masks)
            np.testing.assert_allclose(found.confidence, np.clip(result.ious, 0, 1))
            for box, mask in zip(found.xyxy, result.masks, strict=True):
                rows, columns = np.nonzero(mask)
                edges = [columns.min(), rows.min(), columns.max(), rows.max()]
                assert box.tolist() == edges
            whole = detections_from_masks(logits[:, 0] > 0, ids)
            np.testing.assert_array_equal(whole.mask, found.mask)
            assert whole.tracker_id.tolist() == [7, 9]
            drawn = sv.MaskAnnotator(color_lookup=sv.ColorLookup.TRACK, opacity=1.0).annotate(
                frame.copy(), whole
            )
            inside = whole.mask.any(axis=0)
            np.testing.assert_array_equal((drawn != frame).any(axis=-1) & ~inside, False)
            assert (drawn != frame).any(axis=-1)[inside].mean() > 0.9


def test_candidates_of_an_image(shared_bundles, clip):
    with ImagePredictor(shared_bundles.built_in(), threads=1) as image:
        image.set_image(clip.frames[0])
        rows, columns = np.nonzero(clip.labels[0] == 2)
        masks, ious, _ = image.predict([[columns.mean(), rows.mean()]], [1])
        found = detections_from_masks(masks, scores=ious)
    assert found.tracker_id is None
    np.testing.assert_array_equal(found.mask, masks[masks.any(axis=(1, 2))])
    best = found[found.confidence.argmax()]
    np.testing.assert_array_equal(best.mask[0], masks[ious.argmax()])


def test_objects_that_are_not_seen_are_left_out():
    masks = np.zeros((3, 8, 9), bool)
    masks[1, 2:4, 3:6] = True
    found = detections_from_masks(masks, [4, 5, 6], np.array([0.1, 0.2, 0.3], np.float32))
    assert found.xyxy.tolist() == [[3, 2, 5, 3]]
    assert found.tracker_id.tolist() == [5]
    assert found.confidence.tolist() == pytest.approx([0.2])
    assert found.area.tolist() == [6]
    nothing = detections_from_masks(masks[:0], [])
    assert len(nothing) == 0
    assert len(sv.Detections.merge([nothing, found])) == 1


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ((np.zeros((4, 5), bool),), r"masks must be \[N, H, W\], got shape \(4, 5\)"),
        ((np.zeros((2, 4, 5), bool), [1]), "2 masks but 1 obj_ids: give one a mask"),
        ((np.zeros((2, 4, 5), bool), None, [1.0]), "2 masks but 1 scores: give one a mask"),
    ],
)
def test_what_is_wrong_is_one_line(arguments, line):
    with pytest.raises(InputError, match=line):
        detections_from_masks(*arguments)
