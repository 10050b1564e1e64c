"""Prompts on the command line count in their order."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import pytest

from sam2rt.cli.prompts import PromptCommand, image_prompts, ordered_prompts, prompt_options
from sam2rt.runtime.media.images import write_image
from sam2rt.runtime.pixels.rle import rle_from_mask
from sam2rt.runtime.tasks.prompts import ObjectPrompt

WHERE = np.zeros((6, 8), bool)
WHERE[1:4, 2:7] = True
RUNS = dict(rle_from_mask(WHERE))


def parse(*args: str) -> list[ObjectPrompt]:
    @click.command("track", cls=PromptCommand)
    @prompt_options(frames=True)
    @click.option("-o", "out", required=True)
    def command(**_: object) -> None: ...

    with command.make_context("track", [*args, "-o", "x"]) as context:
        return ordered_prompts(context)


def parse_image(*args: str) -> list[ObjectPrompt]:
    @click.command("segment", cls=PromptCommand)
    @prompt_options(frames=False)
    def command(**_: object) -> None: ...

    with command.make_context("segment", list(args)) as context:
        return image_prompts(context)


def usage(*args: str, parsed: Callable[..., object] = parse) -> str:
    with pytest.raises(click.UsageError) as caught:
        parsed(*args)
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
        (
            [],
            "nothing to look for: give a --point x,y, a --box x0,y0,x1,y1, a --mask FILE, or "
            "--prompts FILE",
        ),
        (["--object", "3"], "--object 3 has no --point, --box or --mask after it"),
        (
            ["--object", "3", "--object", "4", "--point", "1,1"],
            "--object 3 has no --point, --box or --mask after it",
        ),
        (
            ["--point", "1,1", "--frame", "4"],
            "--object 1 --frame 4 has no --point, --box or --mask after it",
        ),
        (
            ["--frame", "4", "--frame", "5", "--point", "1,1"],
            "--object 1 --frame 4 has no --point, --box or --mask after it",
        ),
        (
            ["--box", "1,1,2,2", "--box", "1,1,3,3"],
            "two boxes for object 1 on frame 0: give one, or --object before each",
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


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of masks and prompts, which the command runs in."""
    write_image(tmp_path / "m.png", WHERE)
    write_image(tmp_path / "ids.png", WHERE + np.uint8(1))
    (tmp_path / "runs.json").write_text(json.dumps(RUNS))
    entries = [{"object": 5, "frame": 2, "box": [0, 0, 4, 4]}, {"object": 6, "mask": "m.png"}]
    (tmp_path / "p.json").write_text(json.dumps({"prompts": entries}))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_masks_belong_to_the_object_and_frame_before_them(files: Path) -> None:
    found = parse("--mask", "m.png", "--object", "4", "--frame", "3", "--mask", "runs.json")
    assert found == [ObjectPrompt(1, 0, mask=RUNS), ObjectPrompt(4, 3, mask=RUNS)]
    assert found[1].where == "--mask runs.json: object 4 on frame 3"


def test_ids_of_a_picture_become_objects(files: Path) -> None:
    found = parse("--frame", "3", "--mask-ids", "ids.png", "--object", "9", "--point", "1,1")
    assert [(p.obj_id, p.frame_idx) for p in found] == [(1, 3), (2, 3), (9, 0)]
    assert found[1].mask == RUNS
    assert found[0].mask == dict(rle_from_mask(~WHERE))


def test_a_file_adds_to_the_options(files: Path) -> None:
    found = parse("--prompts", "p.json", "--point", "1,1")
    assert found == [
        ObjectPrompt(1, 0, ((1.0, 1.0, 1),)),
        ObjectPrompt(5, 2, (), (0.0, 0.0, 4.0, 4.0)),
        ObjectPrompt(6, 0, mask=RUNS),
    ]
    assert parse("--prompts", "p.json") == found[1:]


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--mask", "m.png", "--mask", "m.png"], "two masks for --mask m.png: object 1 on frame 0"),
        (
            ["--object", "6", "--point", "1,1", "--prompts", "p.json"],
            "p.json, prompt 2: object 6 on frame 0 has a prompt among the options too: leave out "
            "one of the two",
        ),
        (
            ["--object", "3", "--mask-ids", "ids.png"],
            "--object 3 has no --point, --box or --mask after it",
        ),
    ],
)
def test_wrong_usage_of_files(args: list[str], expected: str, files: Path) -> None:
    assert usage(*args).startswith(expected)


def test_boxes_of_an_image_are_an_object_each_until_objects_are_named(files: Path) -> None:
    boxes = ["--box", "0,0,4,4", "--box", "2,2,6,6"]
    first, second = (0.0, 0.0, 4.0, 4.0), (2.0, 2.0, 6.0, 6.0)
    assert parse_image(*boxes) == [ObjectPrompt(i, 0, (), b) for i, b in ((1, first), (2, second))]
    named = ["--object", "7", *boxes[:2], "--point", "1,1", "--object", "9", *boxes[2:]]
    assert parse_image(*named) == [
        ObjectPrompt(7, 0, ((1.0, 1.0, 1),), first),
        ObjectPrompt(9, 0, (), second),
    ]
    # a mask with clicks is where the search starts
    assert parse_image("--mask", "m.png", "--point", "1,1,0") == [
        ObjectPrompt(1, 0, ((1.0, 1.0, 0),), mask=RUNS)
    ]
    assert usage(*boxes, "--point", "1,1", parsed=parse_image) == (
        "2 boxes make as many objects, and the other prompts cannot tell whose they are: give "
        "--object before each object's, one box, or boxes alone"
    )
    assert usage("--object", "1", *boxes, parsed=parse_image) == (
        "two boxes for object 1 on frame 0: give one, or --object before each"
    )
