"""What the page computes by itself agrees with the libraries that do the same in Python."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from sam2rt.runtime.arrays import Mask
from sam2rt.runtime.media.overlay import object_colour
from sam2rt.runtime.pixels.rle import rle_from_mask

Evaluate = Callable[..., Any]

_DECODED = """
const { pixelsFromMask } = await load("masks/rle.js");
return given.map((mask) => {
  try { return [...pixelsFromMask(mask)]; } catch (error) { return String(error); }
});
"""


def _masks() -> list[Mask]:
    """Empty, full, noise of several densities and sizes, long runs, one pixel in each corner."""
    rng = np.random.default_rng(3)
    sizes = [(1, 1), (1, 9), (9, 1), (7, 5), (31, 64), (120, 33)]
    masks = [np.zeros(size, bool) for size in sizes] + [np.ones(size, bool) for size in sizes]
    masks += [rng.random(size) < share for size in sizes for share in (0.02, 0.5, 0.98)]
    for row, column in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
        masks.append(np.zeros((12, 17), bool))
        masks[-1][row, column] = True
    masks.append(np.zeros((300, 200), bool))
    masks[-1][50:250, 30:170] = True
    masks[-1][120:150, 60:90] = False
    return masks


def test_run_lengths_decode_as_pycocotools_does(evaluate: Evaluate) -> None:
    masks = _masks()
    rles = [rle_from_mask(mask) for mask in masks]
    decoded = evaluate(_DECODED, rles)
    assert len(masks) > 30
    for mask, rle, pixels in zip(masks, rles, decoded, strict=True):
        expected = coco_mask.decode(rle)
        np.testing.assert_array_equal(expected, mask)
        # column-major
        assert pixels == expected.T.ravel().tolist()


def test_run_lengths_are_written_as_pycocotools_does(evaluate: Evaluate) -> None:
    counts = [rle_from_mask(mask)["counts"] for mask in _masks()]
    # a mask of 8K: runs of several characters, and their differences
    large = np.zeros((4320, 7680), bool)
    large[10:4000, 100:7000] = True
    large[:, 5000] = False
    counts.append(rle_from_mask(large)["counts"])
    code = """
    const { runsFromCounts, countsFromRuns } = await load("masks/rle.js");
    return given.map((text) => countsFromRuns(runsFromCounts(text)));
    """
    assert evaluate(code, counts) == counts


@pytest.mark.parametrize(
    ("counts", "line"),
    [
        ("5", "runs of 5 pixels do not fill a mask of 2 x 3"),
        ("06 1", "run lengths are damaged at character 3"),
        ("0`", "run lengths are damaged at character 3"),
        ("0ooooooo0", "run lengths are damaged at character 8"),
        ("0O6", "run 1 is negative"),
    ],
    ids=["short", "foreign character", "cut off", "endless", "negative"],
)
def test_damaged_run_lengths_are_refused(counts: str, line: str, evaluate: Evaluate) -> None:
    assert evaluate(_DECODED, [{"size": [2, 3], "counts": counts}]) == [f"RangeError: {line}"]


def test_single_pixels_are_told_from_runs(evaluate: Evaluate) -> None:
    masks = _masks()[-8:]
    code = """
    const { MaskPoints } = await load("masks/rle.js");
    return given.map((mask) => {
      const points = new MaskPoints(mask);
      const [height, width] = mask.size;
      const inside = [];
      for (let y = -1; y <= height; y++)
        for (let x = -1; x <= width; x++) if (points.has(x + 0.4, y + 0.9)) inside.push([y, x]);
      return inside;
    });
    """
    found = evaluate(code, [rle_from_mask(mask) for mask in masks])
    for mask, inside in zip(masks, found, strict=True):
        assert inside == np.argwhere(mask).tolist()


def test_filled_outlines_are_the_masks(evaluate: Evaluate) -> None:
    """By the even-odd rule, as the page fills them."""
    masks = _masks()
    code = """
    const { loopsAround } = await load("masks/contour.js");
    return given.map(loopsAround);
    """
    outlines = evaluate(code, [rle_from_mask(mask) for mask in masks])
    for mask, loops in zip(masks, outlines, strict=True):
        inside = np.zeros(mask.shape, int)
        for loop in loops:
            corners = np.reshape(loop, (-1, 2))
            # a pixel's middle is inside where an odd number of upright edges lies left of it
            for (x, y0), (x1, y1) in zip(corners, np.roll(corners, -1, 0), strict=True):
                if x == x1:
                    inside[min(y0, y1) : max(y0, y1), x:] += 1
        np.testing.assert_array_equal(inside % 2 == 1, mask)


def test_outlines_hold_corners_alone_and_separate_pixels_that_touch_at_a_corner(
    evaluate: Evaluate,
) -> None:
    mask = np.array([[1, 0, 0], [0, 1, 1]], bool)
    code = 'return (await load("masks/contour.js")).loopsAround(given);'
    loops = evaluate(code, rle_from_mask(mask))
    assert sorted(loops) == [[1, 0, 1, 1, 0, 1, 0, 0], [3, 1, 3, 2, 1, 2, 1, 1]]


def test_objects_have_the_colours_of_the_overlays(evaluate: Evaluate) -> None:
    ids = [*range(200), 65_535, 2**31 - 1]
    code = 'return given.map((await load("masks/colour.js")).objectColour);'
    colours = evaluate(code, ids)
    assert colours == [list(object_colour(obj_id)) for obj_id in ids]


def test_text_on_a_colour_can_be_read(evaluate: Evaluate) -> None:
    code = """
    const { ink, objectColour } = await load("masks/colour.js");
    return Array.from({ length: 100 }, (_, id) => [ink(id), objectColour(id)]);
    """
    for text, colour in evaluate(code):
        bright = float(np.dot(colour, (0.299, 0.587, 0.114))) > 128
        assert text == ("#000" if bright else "#fff")


def test_lines_of_json_are_found_wherever_the_stream_is_cut(evaluate: Evaluate) -> None:
    code = """
    const { jsonLines } = await load("server/lines.js");
    const bytes = new TextEncoder().encode(given);
    const found = [];
    for (let size = 1; size < 12; size++) {
      let at = 0;
      const stream = new ReadableStream({
        pull(out) {
          if (at >= bytes.length) out.close();
          else out.enqueue(bytes.slice(at, (at += size)));
        },
      });
      const values = [];
      for await (const value of jsonLines(stream)) values.push(value);
      found.push(values);
    }
    return found;
    """
    text = '{"frame":1,"name":"Blüte"}\n\n{"frame":2}\r\n{"end":"complete"}'
    expected = [{"frame": 1, "name": "Blüte"}, {"frame": 2}, {"end": "complete"}]
    assert evaluate(code, text) == [expected] * 11


def test_live_frames_are_read_as_they_are_packed(evaluate: Evaluate) -> None:
    mask = np.zeros((6, 8), bool)
    mask[2:5, 3:7] = True
    counts = rle_from_mask(mask)["counts"].encode()
    packed = struct.pack("<IIIIH", 70_000, 12, 8, 6, 2)
    packed += struct.pack("<IfI", 4, 1.5, len(counts)) + counts
    packed += struct.pack("<IfI", 2**31 - 1, -3.0, 2) + b"`1"
    code = """
    const { trackedFrame } = await load("server/live_wire.js");
    const whole = Uint8Array.from(given).buffer;
    let cut;
    try { trackedFrame(whole.slice(0, -1)); } catch (error) { cut = error.name; }
    return [trackedFrame(whole), cut];
    """
    frame, cut = evaluate(code, list(packed))
    assert frame == {
        "frame": 70_000,
        "dropped": 12,
        "width": 8,
        "height": 6,
        "objects": [
            {"object": 4, "score": 1.5, "mask": {"size": [6, 8], "counts": counts.decode()}},
            {"object": 2**31 - 1, "score": -3.0, "mask": {"size": [6, 8], "counts": "`1"}},
        ],
    }
    assert cut == "RangeError"


def test_ranges_of_frames_grow_and_join(evaluate: Evaluate) -> None:
    code = """
    const { inRanges, withFrame } = await load("model/ranges.js");
    let ranges = [];
    const grown = (frame) => structuredClone((ranges = withFrame(ranges, frame)));
    const steps = given.map(grown);
    return [steps, [-1, 0, 3, 4, 5, 6].map((frame) => inRanges(ranges, frame))];
    """
    steps, inside = evaluate(code, [5, 3, 0, 4, 3])
    assert steps == [
        [[5, 5]],
        [[3, 3], [5, 5]],
        [[0, 0], [3, 3], [5, 5]],
        [[0, 0], [3, 5]],
        [[0, 0], [3, 5]],
    ]
    assert inside == [False, True, True, True, True, False]


def test_a_failed_action_is_not_remembered(evaluate: Evaluate) -> None:
    code = """
    const { History } = await load("model/history.js");
    const history = new History();
    const log = [];
    const logs = (text) => () => log.push(text);
    const action = (name) => ({ redo: logs(`+${name}`), undo: logs(`-${name}`) });
    const failing = { redo: () => { throw new Error("no"); } };
    await history.run(action("a"));
    await history.run(failing).catch(() => log.push("failed"));
    await history.run(action("b"));
    await history.undo();
    await history.undo();
    const nothing = await history.undo();
    await history.redo();
    await history.run(action("c"));
    return [log, nothing === undefined, history.canUndo, history.canRedo];
    """
    log = ["+a", "failed", "+b", "-b", "-a", "+a", "+c"]
    assert evaluate(code) == [log, True, True, False]


def test_times_left_read_well(evaluate: Evaluate) -> None:
    code = 'return given.map((await load("model/tracking.js")).duration);'
    texts = evaluate(code, [0, 0.2, 59, 60, 125.5, 3600, 7384])
    assert texts == ["0 s", "1 s", "59 s", "1 min 0 s", "2 min 6 s", "1 h 0 min", "2 h 3 min"]


def test_a_viewport_keeps_what_is_under_the_pointer_and_the_frame_in_sight(
    evaluate: Evaluate,
) -> None:
    code = """
    const { Viewport } = await load("view/viewport.js");
    const view = new Viewport();
    view.setStage(828, 428);
    view.setFrame(400, 100);
    const fitted = [view.scale, view.x, view.y];
    const before = view.toFrame(300, 220);
    view.zoom(4, 300, 220);
    const after = view.toFrame(300, 220);
    view.pan(1e6, 1e6);
    const corner = [view.x, view.y];
    view.zoom(1e-6);
    return { fitted, before, after, corner, again: [view.scale, view.x, view.y] };
    """
    found = evaluate(code)
    assert found["fitted"] == [2, 14, 114]
    assert found["before"] == [143, 53]
    assert found["after"] == pytest.approx(found["before"])
    assert found["corner"] == [14, 14]
    assert found["again"] == found["fitted"]
