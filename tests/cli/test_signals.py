"""Signals end a command at once, inside native calls too, and say which it was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sam2rt.cli import main

#: a command whose only step is a graph that never ends; loading would refuse it
_ENDLESS = """
import sys
from pathlib import Path
import signal
import numpy as np
from onnx import helper
import onnx
from sam2rt.cli import main as cli
from sam2rt.configs.bundle import Bundle, BundleFile, GraphEntry
from sam2rt.configs.graphs import GraphSpec, TensorSpec
from sam2rt.configs.models import model_config
from sam2rt.runtime.backends.onnxruntime_session import OnnxRuntimeSession

folder = Path(sys.argv[1])
one = helper.make_tensor_value_info("y", 1, [1])
value, bools = helper.make_tensor_value_info, 9
body = helper.make_graph(
    [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Identity", ["x_in"], ["o"])],
    "body",
    [value("i", 7, []), value("go", bools, []), value("x_in", 1, [1])],
    [value("on", bools, []), value("o", 1, [1])],
)
graph = helper.make_graph(
    [helper.make_node("Loop", ["", "true", "x"], ["y"], body=body)], "g",
    [value("x", 1, [1])], [one],
    [helper.make_tensor("true", bools, [], [True])],
)
opsets = [helper.make_opsetid("", 18)]
onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), folder / "g.onnx")
spec = GraphSpec("g", (TensorSpec("x", "float32", (1,)),), (TensorSpec("y", "float32", (1,)),))
bundle = Bundle(folder, model_config("micro"), "fp32", 18, "", "", 
                {"g": GraphEntry(spec, BundleFile("g.onnx", "", 0))}, {}, {})
# a test run under nohup hands down that it is ignored
signal.signal(signal.SIGHUP, signal.SIG_DFL)
session = OnnxRuntimeSession(bundle, threads=1)
session._open("g")

def run(args):
    print("running", flush=True)
    try:
        session.run("g", {"x": np.ones(1, np.float32)})
    finally:
        print("undone", flush=True)
    return 0

sys.modules["sam2rt.cli.main"]._run = run
cli([])
"""


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize(
    ("number", "code", "said"),
    [
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 143, "terminated"),
        (signal.SIGHUP, 129, "hung up"),
    ],
)
def test_a_graph_that_never_ends_is_ended(
    number: signal.Signals, code: int, said: str, tmp_path: Path
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _ENDLESS, str(tmp_path)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        time.sleep(0.5)
        assert process.poll() is None
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, out, err) == (code, "undone\n", f"sam2rt: {said}\n")


_IGNORING = """
import os, signal, sys
signal.signal(signal.SIGHUP, signal.SIG_IGN)
from sam2rt.cli import main as cli
def run(args):
    os.kill(os.getpid(), signal.SIGHUP)
    return 0
sys.modules["sam2rt.cli.main"]._run = run
cli([])
"""


def test_nohup_stays_nohup() -> None:
    done = subprocess.run([sys.executable, "-c", _IGNORING], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_was_set_before_a_command_is_set_after_it() -> None:
    from sam2rt.cli.signals import ending_signals

    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    open_files = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        with ending_signals():
            pass
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before
    old = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(old)
    assert old == -1
    # each watching thread closes its end
    end = time.monotonic() + 10
    while len(os.listdir("/proc/self/fd")) > open_files and time.monotonic() < end:
        time.sleep(0.01)
    assert len(os.listdir("/proc/self/fd")) <= open_files


def test_a_python_that_cannot_ask_for_pipes_that_do_not_wait(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """That of Windows before 3.12, where every command began with it."""
    monkeypatch.delattr(os, "set_blocking")
    # which elsewhere insists on one
    monkeypatch.setattr(signal, "set_wakeup_fd", lambda *_, **__: -1)
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("sam2rt, version ")
