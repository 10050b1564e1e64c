"""The memory bank: which memories a frame attends to, and where they lie. No backend."""

from __future__ import annotations

import numpy as np
import pytest

from sam2rt.configs.errors import StateError
from sam2rt.configs.models import model_config
from sam2rt.runtime.bank import (
    FrameOutput,
    ObjectHistory,
    SlotBuffer,
    closest_cond_frames,
    pointer_arrays,
    restore_memory,
    select,
    store_memory,
)

CONFIG = model_config("micro")


def output(value: float, *, memory: bool = True) -> FrameOutput:
    shape = (CONFIG.mem_dim, CONFIG.embed_size, CONFIG.embed_size)
    return FrameOutput(
        mask_logits=np.zeros((1, CONFIG.mask_size, CONFIG.mask_size), np.float32),
        obj_ptr=np.full(CONFIG.hidden_dim, value, np.float32),
        object_score=1.0,
        iou=1.0,
        memory=np.full(shape, value, np.float32) if memory else None,
    )


def history(cond: list[int], non_cond: list[int]) -> ObjectHistory:
    return ObjectHistory(
        cond={t: output(100 + t) for t in cond}, non_cond={t: output(t) for t in non_cond}
    )


def rows(selection):
    return [(m.frame_idx, m.row) for m in selection.memories]


def distances(selection):
    return [(d, float(o.obj_ptr[0])) for d, o in selection.pointers]


def test_forward_takes_prompted_frames_then_the_six_before_oldest_first():
    selection = select(history([0], list(range(1, 10))), 10, CONFIG, num_frames=20)
    assert rows(selection) == [(0, 6), (4, 5), (5, 4), (6, 3), (7, 2), (8, 1), (9, 0)]
    # prompted pointer first, then the newest first
    assert distances(selection) == [(10, 100.0)] + [(d, 10.0 - d) for d in range(1, 10)]


def test_reverse_takes_the_six_after_and_counts_distances_backwards():
    selection = select(history([9], [6, 7, 8]), 5, CONFIG, reverse=True, num_frames=10)
    assert rows(selection) == [(9, 6), (8, 2), (7, 1), (6, 0)]
    assert distances(selection) == [(4, 109.0), (1, 6.0), (2, 7.0), (3, 8.0)]


def test_a_prompted_frame_in_the_future_gives_a_memory_but_no_pointer():
    selection = select(history([5], []), 2, CONFIG, num_frames=10)
    assert rows(selection) == [(5, 6)]
    assert selection.pointers == ()
    assert selection.size == (1, 0)


def test_pointers_stop_at_sixteen_in_all():
    selection = select(history([0], list(range(1, 60))), 60, CONFIG)
    assert [d for d, _ in selection.pointers] == [60, *range(1, 16)]


def test_short_videos_have_fewer_pointers():
    selection = select(history([0], [1, 2, 3]), 4, CONFIG, num_frames=3)
    assert [d for d, _ in selection.pointers] == [4]  # frames 3 and 2 lie past the video's end


def test_unselected_prompted_frames_count_as_tracked_ones():
    selection = select(history([0, 7, 9, 30], [8]), 10, CONFIG, num_frames=40, max_cond=2)
    assert rows(selection) == [(9, 6), (30, 6), (7, 2), (8, 1)]
    assert distances(selection) == [(1, 109.0), (2, 8.0), (3, 107.0), (10, 100.0)]


@pytest.mark.parametrize(
    ("limit", "expected"),
    [(-1, [0, 4, 9, 20]), (4, [0, 4, 9, 20]), (3, [0, 4, 9]), (2, [4, 9])],
)
def test_closest_prompted_frames(limit, expected):
    cond = {t: output(t) for t in [0, 4, 9, 20]}
    assert list(closest_cond_frames(cond, 6, limit)) == expected


def test_without_a_prompted_frame_there_is_nothing_to_track():
    with pytest.raises(StateError, match="prompt it first"):
        select(ObjectHistory(), 3, CONFIG)


def test_a_new_memory_overwrites_the_oldest_and_nothing_else_moves():
    slots, past = SlotBuffer(CONFIG), history([0], list(range(1, 7)))
    before, _ = slots.load([select(past, 7, CONFIG)])
    address, values = before.ctypes.data, before[0, :, 0, 0, 0].copy()
    past.non_cond[7] = output(7)
    after, tpos = slots.load([select(past, 8, CONFIG)])
    assert after.ctypes.data == address
    changed = np.flatnonzero(after[0, :, 0, 0, 0] != values)
    assert values[changed].tolist() == [1.0]
    assert after[0, changed, 0, 0, 0].tolist() == [7.0]
    assert tpos[0, changed].tolist() == [0]


def test_slot_order_depends_on_frames_alone():
    straight, jumped = SlotBuffer(CONFIG), SlotBuffer(CONFIG)
    past = history([0], list(range(1, 30)))
    for t in range(1, 30):
        expected, expected_tpos = straight.load([select(past, t, CONFIG)])
    found, found_tpos = jumped.load([select(past, 29, CONFIG)])
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(found_tpos, expected_tpos)


def test_a_group_holds_each_objects_own_memories():
    a, b = history([0], [1, 2]), history([1], [0, 2])
    memory, tpos = SlotBuffer(CONFIG).load([select(a, 3, CONFIG), select(b, 3, CONFIG)])
    assert memory.shape[:2] == (2, 3)
    for n, (item, frame_of_row) in enumerate([(a, {6: 0, 1: 1, 0: 2}), (b, {6: 1, 2: 0, 0: 2})]):
        for m in range(3):
            frame = frame_of_row[int(tpos[n, m])]
            assert memory[n, m, 0, 0, 0] == item.at(frame).memory[0, 0, 0]


def test_pointer_positions_are_divided_by_the_limit_less_one():
    selection = select(history([0], [1, 2]), 3, CONFIG, num_frames=12)
    pointers, positions = pointer_arrays([selection], CONFIG, 12)
    assert pointers[0, :, 0].tolist() == [100.0, 2.0, 1.0]
    np.testing.assert_array_equal(positions[0], np.float32([3, 1, 2]) / np.float32(11))


def test_forgetting_keeps_what_forward_tracking_reaches():
    full, pruned = history([0], []), history([0], [])
    for t in range(1, 60):
        for item in (full, pruned):
            item.non_cond[t] = output(t)
        pruned.forget_unreachable(CONFIG, t + 1, -1)
        expected, found = select(full, t + 1, CONFIG), select(pruned, t + 1, CONFIG)
        assert rows(found) == rows(expected)
        assert distances(found) == distances(expected)
    assert len(pruned.non_cond) == 15
    assert sum(o.memory is not None for o in pruned.non_cond.values()) == 6
    assert all(o.mask_logits is None for o in pruned.non_cond.values())


def test_forgetting_capped_prompted_frames():
    full, pruned = history([], []), history([], [])
    for t in range(80):
        for item in (full, pruned):
            (item.cond if t % 3 == 0 else item.non_cond)[t] = output(t)
        pruned.forget_unreachable(CONFIG, t + 1, 4)
        expected = select(full, t + 1, CONFIG, max_cond=4)
        found = select(pruned, t + 1, CONFIG, max_cond=4)
        assert rows(found) == rows(expected)
        assert distances(found) == distances(expected)
    assert len(pruned.cond) <= 9


def test_bfloat16_rounds_to_nearest_even():
    values = np.array([1.0, 1.00390625, 1.01171875, -2.5, 3.1415927, 65504.0], np.float32)
    stored = store_memory(values, "bfloat16")
    assert stored.dtype == np.uint16
    expected = [1.0, 1.0, 1.015625, -2.5, 3.140625, 65536.0]
    assert restore_memory(stored).tolist() == expected


def test_float16_and_float32_storage():
    values = np.array([0.1, -3.0], np.float32)
    assert restore_memory(store_memory(values, "float16")).tolist() == [np.float16(0.1), -3.0]
    assert store_memory(values, None) is values
