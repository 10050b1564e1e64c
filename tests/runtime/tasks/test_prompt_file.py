"""The file of prompts: what its entries mean, and one line for each wrong value."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sam2rt.configs.errors import InputError
from sam2rt.runtime.pixels.rle import mask_from_rle, rle_from_mask
from sam2rt.runtime.tasks.prompt_file import load_prompts, prompts_from
from sam2rt.runtime.tasks.prompts import ObjectPrompt

WHERE = np.zeros((6, 8), bool)
WHERE[1:4, 2:7] = True
RUNS = dict(rle_from_mask(WHERE))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of a prompt file with masks beside it and below it."""
    (tmp_path / "in" / "sub").mkdir(parents=True)
    Image.fromarray(WHERE * np.uint8(255)).save(tmp_path / "in" / "mask.png")
    Image.fromarray(WHERE + np.uint8(1)).save(tmp_path / "in" / "sub" / "ids.png")
    (tmp_path / "in" / "runs.json").write_text(json.dumps(RUNS))
    (tmp_path / "in" / "record.json").write_text(json.dumps({"id": 4, "segmentation": RUNS}))
    return tmp_path / "in"


def _load(folder: Path, *entries: Any) -> list[ObjectPrompt]:
    (folder / "p.json").write_text(json.dumps({"prompts": entries}))
    return load_prompts(str(folder / "p.json"))


def _refused(folder: Path, *entries: Any) -> str:
    with pytest.raises(InputError) as refused:
        _load(folder, *entries)
    text = str(refused.value)
    assert "\n" not in text
    return text.removeprefix(str(folder / "p.json"))


def test_clicks_boxes_and_defaults(folder: Path) -> None:
    found = _load(
        folder,
        {"points": [[210, 350.5]]},
        {"object": 2, "frame": 3, "points": [[1, 2], [3, 4]], "labels": [0, 1]},
        {"object": -7, "frame": 0, "box": [0, 1, 20, 30], "mask": None},
    )
    assert found == [
        ObjectPrompt(1, 0, ((210.0, 350.5, 1),)),
        ObjectPrompt(2, 3, ((1.0, 2.0, 0), (3.0, 4.0, 1))),
        ObjectPrompt(-7, 0, (), (0.0, 1.0, 20.0, 30.0)),
    ]
    assert found[1].where == f"{folder / 'p.json'}, prompt 2: object 2 on frame 3"


@pytest.mark.parametrize(
    "mask",
    [
        "mask.png",
        "runs.json",
        "record.json",
        RUNS,
        # background first, down the columns
        {"size": [6, 8], "counts": [13, 3, 3, 3, 3, 3, 3, 3, 3, 3, 8]},
    ],
)
def test_masks_in_every_form(mask: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names count from the file's folder, wherever the command runs."""
    monkeypatch.chdir(folder.parent)
    (found,) = _load(folder, {"object": 3, "frame": 5, "mask": mask})
    assert (found.obj_id, found.frame_idx, found.mask) == (3, 5, RUNS)


def test_ids_become_objects(folder: Path) -> None:
    first, second = _load(folder, {"frame": 9, "mask_ids": "sub/ids.png"})
    assert [(p.obj_id, p.frame_idx) for p in (first, second)] == [(1, 9), (2, 9)]
    np.testing.assert_array_equal(mask_from_rle(first.mask or {}), ~WHERE)
    np.testing.assert_array_equal(mask_from_rle(second.mask or {}), WHERE)


def test_standard_input(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    text = json.dumps({"prompts": [{"mask": "mask.png"}]})
    # with and without the mark that some editors begin a file with
    for begin in ("", "\ufeff"):
        monkeypatch.setattr("sys.stdin", io.StringIO(begin + text))
        assert load_prompts("-") == [ObjectPrompt(1, 0, mask=RUNS)]
        (folder / "p.json").write_text(begin + text, encoding="utf-8")
        assert load_prompts("p.json") == [ObjectPrompt(1, 0, mask=RUNS)]
    monkeypatch.setattr("sys.stdin", io.StringIO("{"))
    with pytest.raises(InputError, match=r"^standard input is no JSON \("):
        load_prompts("-")


def test_a_list_of_entries_is_read_on_its_own(folder: Path) -> None:
    found = prompts_from([{"mask": "mask.png"}], "clips.jsonl, line 4", folder)
    assert found == [ObjectPrompt(1, 0, mask=RUNS)]
    with pytest.raises(InputError) as refused:
        prompts_from([{"box": [1]}], "clips.jsonl, line 4", folder)
    assert str(refused.value) == (
        "clips.jsonl, line 4, prompt 1, box: expected [x0, y0, x1, y1] in pixels, found [1]"
    )


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (5, ": expected an object {...}, found 5"),
        ({}, ": expected points, a box, a mask or mask_ids"),
        ({"points": []}, ": expected points, a box, a mask or mask_ids"),
        (
            {"point": [1, 2]},
            ": unknown 'point', expected some of object, frame, points, labels, box, mask, "
            "mask_ids",
        ),
        ({"points": [1, 2]}, ", points: expected [[x, y], ...] in pixels, found [1, 2]"),
        ({"points": [[1, True]]}, ", points: expected [[x, y], ...] in pixels, found [[1, True]]"),
        ({"points": [[1, 1e400]]}, ", points: expected [[x, y], ...] in pixels, found [[1, inf]]"),
        (
            {"points": [[1, 2]], "labels": [1, 0]},
            ", labels: expected 1 of 1 (object) or 0 (background), one a point, found [1, 0]",
        ),
        (
            {"points": [[1, 2]], "labels": [2]},
            ", labels: expected 1 of 1 (object) or 0 (background), one a point, found [2]",
        ),
        ({"labels": [1]}, ", labels: expected points beside them, found [1]"),
        ({"box": "1,2,3,4"}, ", box: expected [x0, y0, x1, y1] in pixels, found '1,2,3,4'"),
        ({"object": "1", "box": [0, 0, 1, 1]}, ", object: expected a whole number, found '1'"),
        ({"object": 1.0, "box": [0, 0, 1, 1]}, ", object: expected a whole number, found 1.0"),
        (
            {"frame": -1, "box": [0, 0, 1, 1]},
            ", frame: expected a whole number from 0 on, found -1",
        ),
        ({"mask": 5}, ", mask: expected the name of a file or COCO's run lengths, found 5"),
        ({"mask_ids": RUNS}, ", mask_ids: expected the name of a file, found {'size': [6, 8]"),
        (
            {"mask": {"size": [6, 8]}},
            ", mask: expected COCO's run lengths, size and counts, found {'size': [6, 8]}",
        ),
        (
            {"mask": {"size": [6, 8], "counts": [1, 2]}},
            ", mask: runs of 3 pixels do not fill a mask of 6 x 8: the encoding is damaged",
        ),
        (
            {"mask": {"size": [10**9, 10**9], "counts": [10**18]}},
            ", mask: size is [1000000000, 1000000000]: expected the frame's height and width in",
        ),
        (
            {"mask": {"size": [6, 8], "counts": [48]}},
            ", mask: the run lengths mark no pixel: expected the object's",
        ),
        (
            {"object": 4, "mask_ids": "sub/ids.png"},
            ": mask_ids names its objects itself, found object too: give that as a prompt of its "
            "own",
        ),
    ],
)
def test_a_wrong_value_is_one_line(entry: Any, message: str, folder: Path) -> None:
    found = _refused(folder, {"object": 9, "points": [[1, 1]]}, entry)
    assert found.startswith(f", prompt 2{message}")


def test_files_that_cannot_be_used(folder: Path) -> None:
    assert _refused(folder, {"mask": "absent.png"}) == (
        f", prompt 1, mask: {folder / 'absent.png'} does not exist: expected an image"
    )
    (folder / "bad.json").write_text('{"size": [6, 8]}')
    assert _refused(folder, {"mask": "bad.json"}) == (
        f", prompt 1, mask: {folder / 'bad.json'}: expected COCO's run lengths, size and counts, "
        "found {'size': [6, 8]}"
    )


def test_an_object_has_one_prompt_a_frame(folder: Path) -> None:
    box = {"object": 2, "frame": 9, "box": [0, 0, 5, 5]}
    assert _refused(folder, {"frame": 9, "mask_ids": "sub/ids.png"}, box) == (
        ", prompt 2: object 2 has a prompt on frame 9 already, prompt 1: give them as one"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", ': expected {"prompts": [...]}, found []'),
        ("{}", ': expected {"prompts": [...]}, found nothing'),
        ('{"prompt": []}', ': expected {"prompts": [...]}, found prompt'),
        ('{"prompts": []}', ": prompts is [], expected a list of at least one"),
        ('{"prompts": {}}', ": prompts is {}, expected a list of at least one"),
        ('{"prompts": [{"box": [1, 2, 3, 4], "box": [1, 2, 3, 5]}]}', ": 'box' stands twice"),
        ("{", " is no JSON (Expecting property name"),
        ("[" * 100_000, " is no JSON (maximum recursion depth"),
    ],
)
def test_what_is_no_prompt_file(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text(text)
    with pytest.raises(InputError) as refused:
        load_prompts(str(path))
    assert str(refused.value).startswith(f"{path}{message}")


def test_a_missing_file_a_folder_and_bytes(tmp_path: Path) -> None:
    (tmp_path / "b.json").write_bytes(b"\xff\xfe\x00")
    for name, message in (
        ("absent.json", "does not exist: expected a file of prompts or a mask"),
        (".", "cannot be read (Is a directory): expected a file"),
        ("b.json", "is no text in UTF-8: expected JSON"),
    ):
        path = str(tmp_path / name) if name != "." else str(tmp_path)
        with pytest.raises(InputError) as refused:
            load_prompts(path)
        assert str(refused.value) == f"{path} {message}"
