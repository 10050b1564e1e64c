"""Sessions of sequences: they begin once, end once, and expire by themselves."""

from __future__ import annotations

from typing import Any

import pytest

from sam2rt.configs.errors import InputError, StateError
from sam2rt.serving.triton.streams import StreamTable


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class CountingTracker:
    """Stands in for a tracker: counts frames, and whether it was freed."""

    def __init__(self, made: list[Any]) -> None:
        self.frame_idx, self.freed = 0, False
        made.append(self)

    def reset(self) -> None:
        self.frame_idx = 0

    def close(self) -> None:
        self.freed = True


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def made() -> list[Any]:
    return []


@pytest.fixture
def table(made, clock) -> StreamTable:
    make: Any = lambda: CountingTracker(made)
    return StreamTable(make, 10, 3, clock)


def frame(stream: Any) -> int:
    stream.tracker.frame_idx += 1
    return stream.tracker.frame_idx


def failing(stream: Any) -> int:
    raise InputError("no frame")


def test_sequences_are_apart_and_end_with_their_last_frame(table, made):
    assert [table.step(7, True, False, frame), table.step(9, True, False, frame)] == [1, 1]
    assert [table.step(7, False, False, frame), table.step(7, False, True, frame)] == [2, 3]
    assert (len(table), made[0].freed, made[1].freed) == (1, True, False)
    with pytest.raises(StateError, match=r"^sequence 7 has no session: it ended, or had no frame "):
        table.step(7, False, False, frame)
    assert table.step(9, False, False, frame) == 2
    assert table.step(7, True, True, frame) == 1
    assert len(table) == 1


def test_a_start_on_a_live_id_is_refused_and_the_live_one_goes_on(table):
    table.step(7, True, False, frame)
    table.step(7, False, False, frame)
    message = "sequence 7 is live, with 2 frames: end it with sequence_end, or begin with another"
    # with or without an end: whoever begins anew does not end what another began
    for end in (False, True):
        with pytest.raises(StateError, match=message):
            table.step(7, True, end, frame)
    assert table.step(7, False, False, frame) == 3


def test_a_session_whose_first_frame_fails_was_never_there(table, made):
    with pytest.raises(InputError, match="no frame"):
        table.step(7, True, False, failing)
    assert (len(table), made[0].freed) == (0, True)
    assert table.step(7, True, False, frame) == 1
    with pytest.raises(InputError, match="no frame"):
        table.step(7, False, False, failing)
    assert table.step(7, False, False, frame) == 2
    with pytest.raises(InputError, match="no frame"):
        table.step(7, False, True, failing)
    assert len(table) == 0


def test_a_session_without_a_frame_is_gone_after_its_time(table, made, clock):
    table.step(7, True, False, frame)
    clock.now = 6
    table.step(9, True, False, frame)
    clock.now = 9.9
    table.expire()
    assert len(table) == 2
    clock.now = 10
    table.expire()
    assert (len(table), table.expired, made[0].freed) == (1, 1, True)
    # whoever comes late is told so, without anyone having looked
    clock.now = 16
    with pytest.raises(StateError, match="had no frame for 10 seconds"):
        table.step(9, False, False, frame)
    assert (len(table), table.expired) == (0, 2)
    assert table.step(9, True, False, frame) == 1


def test_a_session_in_use_does_not_expire(table, clock):
    table.step(7, True, False, frame)
    for number in range(1, 5):
        clock.now = 9 * number
        assert table.step(7, False, False, frame) == number + 1
    assert table.expired == 0


def test_one_that_the_server_gave_up_makes_room(table, made, clock):
    for number in (1, 2, 3):
        clock.now = number
        table.step(number, True, False, frame)
    clock.now = 4
    table.step(1, False, False, frame)
    # the server lets three in at once: with a fourth, one has ended there
    table.step(4, True, False, frame)
    assert [tracker.freed for tracker in made] == [False, True, False, False]
    assert (len(table), table.expired) == (3, 1)


@pytest.mark.parametrize(
    ("sequence", "message"),
    [
        ("cam-1", "the sequence id is the text 'cam-1': expected a whole number from 1 on"),
        ("7", "the sequence id is the text '7': expected a whole number from 1 on"),
        (0, "the request has no sequence id: expected a whole number from 1 on"),
    ],
)
def test_an_id_that_is_no_number_is_refused(table, sequence, message):
    with pytest.raises(InputError, match=f"^{message}$"):
        table.step(sequence, True, False, frame)
    assert len(table) == 0


def test_closing_frees_all(table, made):
    table.step(7, True, False, frame)
    table.step(9, True, False, frame)
    table.close()
    assert (len(table), [tracker.freed for tracker in made]) == (0, [True, True])
