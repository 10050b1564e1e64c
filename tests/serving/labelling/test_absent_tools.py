"""Without the tool its module says in one line how to get it; the server needs none of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hidden_modules import hiding

_LINES = {
    "cvat": (
        "cvat_sdk",
        "sam2rt in CVAT needs the package 'cvat-sdk': pip install 'sam2rt[cvat]'",
    ),
    "osam_model": (
        "osam",
        "sam2rt in labelme needs the package 'osam': pip install 'sam2rt[osam]'",
    ),
    "fiftyone_model": (
        "fiftyone",
        "sam2rt in FiftyOne needs its package (",
    ),
    "label_studio": (
        "label_studio_ml",
        "sam2rt in Label Studio needs its ML backend of 2024 or later (",
    ),
}


@pytest.mark.parametrize("module", _LINES)
def test_a_tool_that_is_absent_is_one_line(module: str, tmp_path: Path) -> None:
    hidden, line = _LINES[module]
    code = (
        "import importlib\ntry:\n"
        f"    importlib.import_module('sam2rt.serving.labelling.{module}')\n"
        "except ImportError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=hiding({hidden}, tmp_path),
        cwd=tmp_path,
    )
    assert done.stderr == ""
    assert done.stdout.startswith(line)
    assert done.stdout.count("\n") == 1
