"""Bundles through the C interface: taken and refused as in Python, in the same words."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from bundles import SharedBundles
from cpp_library import Failed, Library
from fake_bundle import write_bundle

from sam2rt import BundleError, SessionError
from sam2rt.configs.bundle import Bundle, Precision
from sam2rt.configs.formats.manifest import MANIFEST, digest_of
from sam2rt.runtime.backends.onnxruntime_session import OnnxRuntimeSession

pytestmark = pytest.mark.slow

BUNDLE = -4
SESSION = -5


def _edit(change: Callable[[dict[str, Any]], None], sign: bool) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / MANIFEST
        data = json.loads(path.read_text())
        change(data)
        if sign:
            data["digest"] = digest_of(data)
        path.write_text(json.dumps(data))

    return edit


def _set(*keys: Any, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(data: Any) -> None:
        for key in keys[:-1]:
            data = data[key]
        data[keys[-1]] = to

    return change


def _drop(*keys: Any) -> Callable[[dict[str, Any]], None]:
    def change(data: Any) -> None:
        for key in keys[:-1]:
            data = data[key]
        del data[keys[-1]]

    return change


GRAPH = "mask_prompt.onnx"


def _link_out(folder: Path, content: bytes) -> None:
    """A link in a graph's place, to a file outside the bundle's folder."""
    outside = folder.parent / "out.onnx"
    outside.write_bytes(content)
    (folder / GRAPH).unlink()
    os.symlink(outside, folder / GRAPH)


BROKEN: dict[str, Callable[[Path], Any]] = {
    "no manifest": lambda f: (f / MANIFEST).unlink(),
    "other schema": _edit(_set("schema", to=2), sign=False),
    "schema is text": _edit(_set("schema", to="one"), sign=False),
    "no schema": _edit(_drop("schema"), sign=False),
    "edited": _edit(_set("opset", to=17), sign=False),
    "illegal size": _edit(_set("model", "image_size", to=100), sign=True),
    "widths": _edit(_set("model", "mem_dim", to=24), sign=True),
    "another precision": _edit(_set("precision", to="fp8"), sign=True),
    "no opset": _edit(_drop("opset"), sign=True),
    "graph lacking": _edit(_drop("graphs", "mask_prompt"), sign=True),
    "another contract": _edit(
        _set("graphs", "mask_decoder", "inputs", 0, "shape", to=["N", 1, 2, 3]), sign=True
    ),
    "another fused graph": _edit(
        _set("graphs", "track_step", "outputs", 5, "name", to="memory"), sign=True
    ),
    "path leaves": _edit(_set("graphs", "mask_prompt", "path", to="../x.onnx"), sign=True),
    "path is absolute": _edit(_set("graphs", "mask_prompt", "path", to="/etc/passwd"), sign=True),
    "path is no text": _edit(_set("graphs", "mask_prompt", "path", to=3), sign=True),
    "file missing": lambda f: (f / "mask_prompt.onnx").unlink(),
    "file truncated": lambda f: (f / "image_encoder.data").write_bytes(b"short"),
    "file changed": lambda f: (f / "image_encoder.data").write_bytes(bytes(256)),
    "link to other content": lambda f: _link_out(f, bytes((f / GRAPH).stat().st_size)),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_bundles_get_pythons_message(name: str, library: Library, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    write_bundle(folder)
    library.bundle(folder)
    BROKEN[name](folder)
    with pytest.raises(BundleError) as python:
        Bundle.load(folder)
    with pytest.raises(Failed) as cpp:
        library.bundle(folder)
    assert (str(cpp.value), cpp.value.status) == (str(python.value), BUNDLE)


ALSO_GOOD: dict[str, Callable[[Path], Any]] = {
    **{name: _edit(_set("precision", to=name), sign=True) for name in get_args(Precision)},
    "no fused graph": _edit(_drop("graphs", "track_step"), sign=True),
    # as the caches of hubs and mounted volumes lay files out
    "link leaves": lambda f: _link_out(f, (f / GRAPH).read_bytes()),
}


@pytest.mark.parametrize("name", ALSO_GOOD)
def test_bundles_that_python_takes_are_taken(name: str, library: Library, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    write_bundle(folder)
    ALSO_GOOD[name](folder)
    assert Bundle.load(folder).model.name == "micro"
    assert library.lib.sam2rt_bundle_model(library.bundle(folder)) == b"micro"


@pytest.mark.parametrize(
    "value",
    [
        0.1,
        1e-7,
        1.5e16,
        123456789.123,
        -0.0,
        5e-324,
        1 / 3,
        '\u00e9 \U0001f600 \x7f\n"',
        2**60,
        None,
    ],
    ids=repr,
)
def test_what_python_signs_is_read(value: Any, library: Library, tmp_path: Path) -> None:
    """The digest is over Python's way to write numbers and text."""
    write_bundle(tmp_path / "bundle")
    _edit(_set("proof", "noted", to=[value, {"deep": value}]), sign=True)(tmp_path / "bundle")
    library.bundle(tmp_path / "bundle")


def test_no_manifest_is_deep_enough_to_overflow(library: Library, tmp_path: Path) -> None:
    write_bundle(tmp_path / "bundle")
    (tmp_path / "bundle" / MANIFEST).write_text("[" * 200000)
    with pytest.raises(Failed, match=r"cannot read .*manifest\.json"):
        library.bundle(tmp_path / "bundle")


@pytest.mark.parametrize(
    "text", [b'{"schema": "\xe9"}', b'\xef\xbb\xbf{"schema": 1}', b"", b"{}x"], ids=repr
)
def test_no_manifest_makes_a_message_that_is_no_text(
    text: bytes, library: Library, tmp_path: Path
) -> None:
    """Messages are UTF-8 whatever the file holds, and say which file it is."""
    write_bundle(tmp_path / "bundle")
    (tmp_path / "bundle" / MANIFEST).write_bytes(text)
    with pytest.raises(BundleError, match=r"cannot read .*manifest\.json"):
        Bundle.load(tmp_path / "bundle")
    with pytest.raises(Failed, match=r"cannot read .*manifest\.json"):
        library.bundle(tmp_path / "bundle")


@pytest.mark.parametrize("length", range(1000, 1004))
def test_a_long_message_is_cut_between_characters(length: int, library: Library) -> None:
    with pytest.raises(Failed, match="expected a bundle at xxx"):
        library.bundle(Path("x" * (length - 23) + "\u20ac" * 40))


def test_a_precision_without_kernels_has_python_s_remedy(
    library: Library, shared_bundles: SharedBundles
) -> None:
    """Such a bundle is whole: making it again would change nothing. C++ has no OpenVINO."""
    bundle = shared_bundles.built_in(seed=0, precision="bf16")
    with pytest.raises(SessionError, match="has no kernels for it") as expected:
        OnnxRuntimeSession(bundle, threads=1).__enter__()
    with pytest.raises(Failed) as found:
        library.session(library.bundle(bundle.path))
    assert found.value.status == SESSION
    openvino = ", run it with backend='openvino' where the processor has units for it, or on an"
    assert openvino in str(expected.value)
    assert str(found.value) == str(expected.value).replace(openvino, ", or run it on an")
