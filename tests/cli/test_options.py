"""Prompts on the command line count in their order; progress speaks only when it helps."""

from __future__ import annotations

import io

import click
import pytest

from sam2rt.cli.progress_line import ProgressLine
from sam2rt.cli.prompts import BOX, POINT, PromptCommand, ordered_prompts
from sam2rt.runtime.tasks.prompts import ObjectPrompt


def parse(*args: str) -> list[ObjectPrompt]:
    command = PromptCommand(
        "track",
        params=[
            click.Option(["--object"], multiple=True, type=int),
            click.Option(["--frame"], multiple=True, type=click.IntRange(0)),
            click.Option(["--point"], multiple=True, type=POINT),
            click.Option(["--box"], multiple=True, type=BOX),
            click.Option(["-o", "out"], required=True),
        ],
    )
    with command.make_context("track", [*args, "-o", "x"]) as context:
        return ordered_prompts(context)


def usage(*args: str) -> str:
    with pytest.raises(click.UsageError) as caught:
        parse(*args)
    assert caught.value.exit_code == 2
    return caught.value.format_message()


def test_one_object_needs_no_name() -> None:
    assert parse("--point", "10,20") == [ObjectPrompt(1, 0, ((10.0, 20.0, 1),))]


def test_clicks_of_both_kinds_and_a_box() -> None:
    found = parse("--point", "10,20.5,0", "--box", "1,2,3,4", "--point=5,6,1")
    assert found == [ObjectPrompt(1, 0, ((10.0, 20.5, 0), (5.0, 6.0, 1)), (1.0, 2.0, 3.0, 4.0))]


def test_objects_and_frames_hold_for_what_follows() -> None:
    found = parse(
        "--object", "7", "--frame", "3", "--point", "1,2", "--frame", "9", "--point", "3,4,0",
        "--object", "2", "--box", "0,0,9,9", "--object", "7", "--frame", "3", "--point", "5,6",
    )  # fmt: skip
    assert found == [
        ObjectPrompt(7, 3, ((1.0, 2.0, 1), (5.0, 6.0, 1))),
        ObjectPrompt(7, 9, ((3.0, 4.0, 0),)),
        ObjectPrompt(2, 0, (), (0.0, 0.0, 9.0, 9.0)),
    ]


def test_order_is_kept_around_other_options() -> None:
    assert parse("--object", "2", "-o", "y", "--point", "1,1")[0].obj_id == 2


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ([], "nothing to look for: give a --point x,y or a --box x0,y0,x1,y1"),
        (["--object", "3"], "--object 3 has no --point or --box after it"),
        (
            ["--object", "3", "--object", "4", "--point", "1,1"],
            "--object 3 has no --point or --box after it",
        ),
        (
            ["--point", "1,1", "--frame", "4"],
            "--object 1 --frame 4 has no --point or --box after it",
        ),
        (
            ["--frame", "4", "--frame", "5", "--point", "1,1"],
            "--object 1 --frame 4 has no --point or --box after it",
        ),
        (
            ["--box", "1,1,2,2", "--box", "1,1,3,3"],
            "two boxes for object 1 on frame 0: give one",
        ),
        (
            ["--point", "1;2"],
            "Invalid value for '--point': '1;2': expected x,y[,label], in pixels",
        ),
        (
            ["--point", "1,2,3,4"],
            "Invalid value for '--point': '1,2,3,4': expected x,y[,label], in pixels",
        ),
        (
            ["--point", "nan,2"],
            "Invalid value for '--point': 'nan,2': expected x,y[,label], in pixels",
        ),
        (
            ["--point", "1,2,5"],
            "Invalid value for '--point': '1,2,5': label must be 1 (object) or 0 (background)",
        ),
        (
            ["--box", "1,2,3"],
            "Invalid value for '--box': '1,2,3': expected x0,y0,x1,y1, in pixels",
        ),
    ],
)
def test_wrong_usage(args: list[str], expected: str) -> None:
    assert usage(*args) == expected


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_waits_two_seconds_and_clears_its_line() -> None:
    now = [0.0]
    stream = Terminal()
    with ProgressLine(stream, clock=lambda: now[0]) as progress:
        progress("export", 0, 4)
        now[0] = 1.9
        progress("export", 1, 4)
        assert stream.getvalue() == ""
        now[0] = 2.0
        progress("export", 2, 4)
        assert stream.getvalue() == "\r\033[Kexport 50 %"
        progress("export", 3, 4)  # too soon after the last
        now[0] = 2.2
        progress("frame", 17)
        progress("end")
    assert stream.getvalue() == "\r\033[Kexport 50 %\r\033[Kframe 17\r\033[K"


def test_progress_is_silent_off_a_terminal() -> None:
    now = [0.0]
    stream = io.StringIO()
    with ProgressLine(stream, clock=lambda: now[0]) as progress:
        now[0] = 5.0
        progress("export", 2, 4)
    assert stream.getvalue() == ""


def test_short_work_leaves_the_terminal_alone() -> None:
    stream = Terminal()
    with ProgressLine(stream) as progress:
        progress("export", 2, 4)
    assert stream.getvalue() == ""
