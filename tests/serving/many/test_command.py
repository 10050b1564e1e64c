"""``sam2rt track-many``: lists, wrong input, interrupts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from many_clips import tiny_clip
from PIL import Image
from square_clip import BOX, CLICK

from sam2rt.cli.main import main
from sam2rt.configs.bundle import Bundle
from sam2rt.configs.errors import InputError
from sam2rt.serving.many.manifest import ClipList, clips_with_masks, load_clips


def _prompts(found: ClipList) -> list[list[tuple[Any, ...]]]:
    return [
        [(p.obj_id, p.frame_idx, list(p.points), p.box, p.mask is not None) for p in clip.prompts]
        for clip in found.clips
    ]


def _mask(path: Path, *values: int) -> Path:
    pixels = np.zeros((96, 128), np.uint8)
    for row, value in enumerate(values):
        pixels[10 * row : 10 * row + 10] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def test_lines_and_columns_say_the_same(tmp_path: Path) -> None:
    _mask(tmp_path / "m.png", 255)
    _mask(tmp_path / "ids.png", 3, 7)
    (tmp_path / "l.jsonl").write_text(
        '{"clip": "a.mp4", "prompts": [{"points": [[20, 42], [1, 2]], "labels": [1, 0]},'
        ' {"object": 2, "frame": 4, "box": [8, 30, 32, 54]}]}\n\n'
        '{"clip": "/b.mp4", "prompts": [{"mask": "m.png"}, {"frame": 1, "mask_ids": "ids.png"}]}\n'
    )
    (tmp_path / "l.csv").write_text(
        "clip,object,frame,x,y,label,x0,y0,x1,y1,mask,mask_ids\n"
        "a.mp4,,,20,42,,,,,,,\na.mp4,1,0,1,2,0,,,,,,\na.mp4,2,4,,,,8,30,32,54,,\n"
        "/b.mp4,,,,,,,,,,m.png,\n/b.mp4,,1,,,,,,,,,ids.png\n"
    )
    wanted = [
        [(1, 0, [(20, 42, 1), (1, 2, 0)], None, False), (2, 4, [], (8, 30, 32, 54), False)],
        [(1, 0, [], None, True), (3, 1, [], None, True), (7, 1, [], None, True)],
    ]
    for name in ("l.jsonl", "l.csv"):
        found = load_clips(str(tmp_path / name))
        assert found.bad == []
        assert [clip.path for clip in found.clips] == [tmp_path / "a.mp4", Path("/b.mp4")]
        assert _prompts(found) == wanted


@pytest.mark.parametrize(
    ("name", "text", "wrong"),
    [
        ("l.jsonl", "nope", "line 1 is no JSON"),
        ("l.jsonl", '\n{"clip": "a"}', "line 2: prompts is None, expected a list"),
        ("l.jsonl", '{"clip": "", "prompts": []}', "line 1, clip: expected the name"),
        ("l.jsonl", '{"clip": "a", "prompt": []}', "line 1: unknown 'prompt'"),
        ("l.jsonl", "[1]", 'line 1: expected {"clip"'),
        ("l.csv", "clip,x,y\na,1,q", "line 2: y: expected a number, found 'q'"),
        ("l.csv", "clip,x,y\na,1,", "line 2: y: expected a number, found None"),
        ("l.csv", "clip,x,y\na,,", "line 2: expected x and y, x0 to y1, a mask"),
        ("l.csv", "clip,object,x,y\na,b,1,1", "line 2: object: expected a whole number"),
        ("l.csv", "clip,x,y\n,1,1", "line 2, clip: expected the name"),
        ("l.csv", "clip,x0,y0,x1,y1\na,1,1,2,2\na,1,1,3,3", "line 3: a second box of object 1"),
    ],
)
def test_wrong_lines_are_named(tmp_path: Path, name: str, text: str, wrong: str) -> None:
    (tmp_path / name).write_text(text)
    found = load_clips(str(tmp_path / name))
    assert found.clips == []
    assert len(found.bad) == 1
    assert wrong in found.bad[0]


@pytest.mark.parametrize(
    ("name", "text", "wrong"),
    [
        ("l.jsonl", "\n", "names no clip"),
        ("l.csv", "a,b\n1,2", "the header is 'a, b', expected clip and"),
        ("l.csv", "clip,x,x\n1,2,3", "the header is"),
        ("l.csv", "clip,x,y\na,1,1,1", "line 2: more fields than the header"),
    ],
)
def test_lists_that_are_none_are_refused(tmp_path: Path, name: str, text: str, wrong: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=wrong):
        load_clips(str(tmp_path / name))


def test_masks_of_first_frames_are_found_by_name(tmp_path: Path) -> None:
    _mask(tmp_path / "masks" / "a.png", 255)
    _mask(tmp_path / "masks" / "b" / "00000.png", 2, 5)
    found = clips_with_masks(["a.mp4", "x/b.mp4", "c.mp4", "y/a.avi"], tmp_path / "masks")
    assert [[p[:2] for p in clip] for clip in _prompts(found)] == [[(1, 0)], [(2, 0), (5, 0)]]
    assert found.bad == [
        f"c.mp4: folder {tmp_path / 'masks'} has no mask for it: expected c.png",
        "y/a.avi: the mask a is that of a.mp4 too: list both",
    ]


def _run(*words: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return int(ended.value.code or 0)


def test_wrong_clips_are_a_line_each_and_nothing_starts(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_clip(tmp_path / "a.mp4", 1)
    (tmp_path / "b.mp4").write_bytes(b"no clip")
    entries = [("a.mp4", CLICK), ("b.mp4", CLICK), ("c.mp4", CLICK), ("a.mp4", {**BOX, "frame": 9})]
    text = "".join(json.dumps({"clip": c, "prompts": [p]}) + "\n" for c, p in entries)
    manifest, out = tmp_path / "l.jsonl", tmp_path / "out"
    manifest.write_text(text)
    words = ("track-many", "--manifest", manifest, "--bundle", bundle.path, "-o", out)
    assert _run(*words) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    assert lines[0].startswith(f"sam2rt: {manifest}, line 2: b.mp4 cannot be opened as a video")
    assert lines[1].startswith(f"sam2rt: {manifest}, line 3: c.mp4 does not exist")
    assert lines[2].endswith("on frame 9, which was never reached: 3 frames could be read")
    assert lines[3].startswith("sam2rt: 3 clips of 4 cannot be tracked, so nothing was started")
    assert not out.exists()
    assert _run(*words, "--skip-bad", "--json", "-q", "--processes", "1") == 1
    said = capsys.readouterr()
    document = json.loads(said.out)
    assert [c["status"] for c in document["clips"]] == ["tracked", "failed", "failed", "failed"]
    assert said.err.splitlines()[-1].startswith("sam2rt: 3 clips of 4 failed, see ")


@pytest.mark.parametrize("name", ["list.jsonl", "LIST.CSV"])
def test_a_list_in_the_place_of_a_clip_is_told_its_option(
    name: str, bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "o"
    for prompt in ((), ("--point", "20,42")):
        assert _run("track-many", name, "--bundle", bundle.path, *prompt, "-o", out) == 2
        assert capsys.readouterr().err.splitlines()[-1] == (
            f"sam2rt: '{name}' is a list of clips: give it as --manifest {name} "
            "(see 'sam2rt track-many --help')"
        )
    assert not out.exists()


def test_no_cluster_leaves_nothing(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ray", reason="Ray is not installed")
    clip = tiny_clip(tmp_path / "a.mp4", 1)
    words = ("track-many", clip, "--bundle", bundle.path, "--point", "20,42", "-o", tmp_path / "o")
    assert _run(*words, "--ray", "127.0.0.1:1") == 1
    assert capsys.readouterr().err.startswith("sam2rt: no cluster of Ray at 127.0.0.1:1")
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_end_leaves_whole_results_and_the_next_run_goes_on(
    bundle: Bundle, tmp_path: Path, number: signal.Signals
) -> None:
    out = tmp_path / "out"
    clips = [str(tiny_clip(tmp_path / f"{n}.mp4", n, frames=8)) for n in range(5)]
    words = [sys.executable, "-m", "sam2rt", "track-many", *clips, "--bundle", str(bundle.path)]
    words += ["--point", "20,42", "-o", str(out), "--processes", "2"]
    running = subprocess.Popen(words, stderr=subprocess.PIPE, cwd=tmp_path, start_new_session=True)
    while not list(out.glob("*/masks.json")):
        assert running.poll() is None
        time.sleep(0.02)
    os.killpg(running.pid, number)
    running.communicate()
    assert running.returncode == (130 if number == signal.SIGINT else -signal.SIGKILL)
    if number == signal.SIGINT:
        # nothing but results and the summary
        assert all("." not in p.name or p.name == "summary.json" for p in out.iterdir())
    for folder in out.glob("[!.]*/"):
        assert len(json.loads((folder / "masks.json").read_text())["images"]) == 8
    before = len(list(out.glob("[!.]*/masks.json")))
    done = subprocess.run([*words, "--json"], capture_output=True, cwd=tmp_path, check=True)
    document = json.loads(done.stdout)
    assert (document["kept"], document["tracked"]) == (before, 5 - before)
    assert sorted(p.name for p in out.iterdir()) == sorted(
        [*(c["folder"] for c in document["clips"]), "summary.json"]
    )
