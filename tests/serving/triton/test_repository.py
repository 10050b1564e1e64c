"""``sam2rt triton``: what it writes, whole or not at all, and what it never replaces."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sam2rt.serving.sessions.limits import ServerLimits
from sam2rt.serving.triton.config_file import config_text
from sam2rt.serving.triton.repository import RepositoryOptions, write_repository
from sam2rt.serving.triton.settings import ModelSettings


def command(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sam2rt", "triton", *map(str, words)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def content(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_the_command_writes_three_models(bundle, tmp_path):
    out = tmp_path / "repo"
    done = command(bundle.path, "-o", out, "--json", "--idle", "7", "--max-sessions", "5")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "repository": str(out),
        "bundle": str(bundle.path),
        "models": ["sam2rt_image", "sam2rt_stream", "sam2rt_video"],
    }
    assert sorted(content(out)) == [
        "sam2rt.json",
        *(f"sam2rt_{t}/{name}" for t in ("image", "stream", "video")
          for name in ("1/model.py", "config.pbtxt")),
    ]  # fmt: skip
    stream = (out / "sam2rt_stream" / "config.pbtxt").read_text()
    assert "max_sequence_idle_microseconds: 7000000" in stream
    assert "oldest { max_candidate_sequences: 5 }" in stream
    assert f'key: "bundle" value {{ string_value: "{bundle.path}" }}' in stream
    assert "decoupled: true" in (out / "sam2rt_video" / "config.pbtxt").read_text()
    code = (out / "sam2rt_stream" / "1" / "model.py").read_text()
    assert "from sam2rt.serving.triton.stream_model import ServedStreamModel" in code
    compile(code, "model.py", "exec")


def test_the_bundle_may_lie_elsewhere_on_the_server(bundle, tmp_path):
    mark = write_repository(bundle, tmp_path / "r", RepositoryOptions(("image",), Path("/bundle")))
    assert mark["bundle"] == "/bundle"
    assert mark["models"] == ["sam2rt_image"]
    config = (tmp_path / "r/sam2rt_image/config.pbtxt").read_text()
    assert 'string_value: "/bundle"' in config


@pytest.mark.parametrize(
    ("backend", "device", "gpus", "group"),
    [
        ("onnxruntime", "cpu", (), "instance_group { count: 1 kind: KIND_CPU }"),
        ("openvino", "gpu", (), "instance_group { count: 1 kind: KIND_CPU }"),
        ("onnxruntime", "cuda", (), "instance_group { count: 1 kind: KIND_GPU }"),
        ("tensorrt", "cpu", (0, 2), "instance_group { count: 1 kind: KIND_GPU gpus: [0, 2] }"),
    ],
)
def test_instances_lie_where_graphs_run(bundle, tmp_path, backend, device, gpus, group):
    options = RepositoryOptions(backend=backend, device=device, gpus=gpus)
    write_repository(bundle, tmp_path / "r", options)
    for config in (tmp_path / "r").glob("*/config.pbtxt"):
        assert group in config.read_text().splitlines()


def test_an_unchanged_repository_is_replaced_and_stays_whole(bundle, tmp_path):
    out = tmp_path / "repo"
    write_repository(bundle, out, RepositoryOptions())
    # what the server's Python leaves
    cache = out / "sam2rt_image" / "1" / "__pycache__"
    cache.mkdir()
    (cache / "model.cpython-311.pyc").write_bytes(b"x")
    limits = ServerLimits(idle_seconds=9)
    write_repository(bundle, out, RepositoryOptions(("stream",), limits=limits))
    assert sorted(content(out)) == [
        "sam2rt.json", "sam2rt_stream/1/model.py", "sam2rt_stream/config.pbtxt"
    ]  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["repo"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("mine.txt", "mine"),
        ("resnet/config.pbtxt", "mine"),
        ("sam2rt_image/2/model.py", "mine"),
        ("sam2rt_stream/config.pbtxt", "edited"),
        ("sam2rt.json", "{}"),
        ("sam2rt.json", '{"program": "sam2rt", "files": {}}'),
    ],
)
def test_what_others_wrote_or_changed_is_never_replaced(bundle, tmp_path, name, text):
    out = tmp_path / "repo"
    write_repository(bundle, out, RepositoryOptions())
    (out / name).parent.mkdir(parents=True, exist_ok=True)
    (out / name).write_text(text)
    before = content(out)
    done = command(bundle.path, "-o", out)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "which 'sam2rt triton' did not write so: move it, or name another" in done.stderr
    assert content(out) == before


def test_a_folder_of_another_kind_is_refused(bundle, tmp_path):
    (tmp_path / "file").write_text("x")
    done = command(bundle.path, "-o", tmp_path / "file")
    assert done.stderr == f"sam2rt: {tmp_path}/file is a file: name a folder for the repository\n"
    # the bundle itself
    copy = tmp_path / "bundle"
    shutil.copytree(bundle.path, copy)
    before = content(copy)
    assert command(bundle.path, "-o", copy).returncode == 1
    assert content(copy) == before


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--gpu", "0"), "GPUs were named for backend onnxruntime on cpu: take --backend tensorrt"),
        (("--at", "bundle"), "bundle is no absolute path: the server has a folder of its own"),
        (
            ("--backend", "tensorrt", "--gpu", "1", "--gpu", "1"),
            "GPUs [1, 1]: expected each number",
        ),
        (("--at", "/a\nb"), "'/a\\nb' cannot stand in a configuration: name a plain path"),
    ],
)
def test_wrong_options_are_one_line_and_write_nothing(bundle, tmp_path, words, line):
    done = command(bundle.path, "-o", tmp_path / "repo", *words)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"sam2rt: {line}")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_no_bundle_is_one_line(tmp_path):
    done = command(tmp_path / "none", "-o", tmp_path / "repo")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert list(tmp_path.iterdir()) == []


def test_engines_that_are_not_built_yet_are_mentioned(bundle, tmp_path):
    done = command(bundle.path, "-o", tmp_path / "repo", "--backend", "tensorrt")
    assert done.returncode == 0
    assert "no engines yet: run 'sam2rt build' on the server's machine" in done.stderr


def test_paths_are_quoted_as_the_format_wants_them():
    text = config_text("image", ModelSettings(Path('/a "b"/c\\d/ü')), "KIND_CPU", ())
    assert 'value { string_value: "/a \\"b\\"/c\\\\d/ü" }' in text


def test_the_configuration_declares_what_models_take_and_give(started: Any):
    for task in ("image", "stream", "video"):
        text = config_text(task, ModelSettings(Path("/b")), "KIND_CPU", ())
        inputs = re.findall(r'^input { name: "(\w+)"', text, re.M)
        assert [name for name in started(task).inputs if name != "READY"] == inputs
        assert ('"READY"' in text) == (task == "stream")
