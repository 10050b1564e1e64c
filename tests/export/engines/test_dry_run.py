"""What a build would give, told without keeping it: through NVIDIA's builder and by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from bundles import SharedBundles
from click.testing import CliRunner
from real_tensorrt import builder_environment

from sam2rt.cli.commands import build as command
from sam2rt.configs.bundle import Bundle
from sam2rt.configs.errors import InputError, SessionError
from sam2rt.export.engines import dry_run as dry
from sam2rt.export.engines.engine_from_onnx import BuildNotes
from sam2rt.export.engines.options import BuildOptions
from sam2rt.runtime.backends import tensorrt_library

#: sam2rt with NVIDIA's builder as the module tensorrt
_COMMAND = """
import sys, tensorrt_bindings
sys.modules["tensorrt"] = tensorrt_bindings
from sam2rt.cli.main import main
main(sys.argv[1:])
"""
TRANSCRIPT = """
Engine Layer Information:
Name: __myl_Cast_myl0_0, LayerType: kgen, Inputs: []
Name: _gemm_mha_v2_myl0_1, LayerType: kgen, Inputs: []
 Name: _gemm_mha_v2_myl1_7, LayerType: kgen, Inputs: []
Found an attention to be part of self-attention pattern _gemm_mha_v2_myl1_8
Total Activation Memory: 1048576
Total Activation Memory: 3145728
"""


@pytest.fixture(scope="module")
def half(shared_bundles: SharedBundles) -> Bundle:
    return shared_bundles.untrained(engine_variants=True, precision="fp16", seed=3)


def _dry(bundle: Bundle, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _COMMAND, "build", str(bundle.path), "--dry-run", *arguments],
        capture_output=True, text=True, env=builder_environment(),
    )  # fmt: skip


def test_nvidias_builder_tells_layers_fused_attentions_and_memory(half: Bundle) -> None:
    before = sorted(half.path.rglob("*"))
    graphs = "mask_prompt,memory_attention"
    done = _dry(half, "--graphs", graphs, "--max-objects", "2", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["library"], found["precision"]) == ("TensorRT 11.4.0.106", "fp16")
    by_source = {graph["source"]: graph for graph in found["graphs"]}
    assert list(by_source) == [
        "mask_prompt", "memory_attention.whole", "memory_attention.full",
        "memory_attention.operator",
    ]  # fmt: skip
    # one object, two, dynamic; micro has four attentions
    assert by_source["memory_attention.operator"]["fused"] == [0, 3, 4]
    assert by_source["memory_attention.full"]["fused"] == [0, 3, 2]
    assert by_source["mask_prompt"]["fused"] == [0, 0, 0]
    for graph in found["graphs"]:
        assert (graph["error"], graph["unsupported"]) == (None, [])
        assert len(graph["layers"]) == len(graph["memory"]) == 3
        assert min(graph["layers"]) > 10
        assert 1 << 20 < min(graph["memory"]) <= max(graph["memory"]) < 1 << 25
    # nothing is kept
    assert sorted(half.path.rglob("*")) == before


def test_layers_are_counted_by_profile_and_fused_ones_by_kernel_name() -> None:
    assert dry.layer_counts(TRANSCRIPT, 2) == ((2, 1), (1, 1))
    # a library that tells no layers is not one that fuses nothing
    assert dry.layer_counts("Total Activation Memory: 1", 2) == ((), ())


def _builder(monkeypatch: pytest.MonkeyPatch) -> None:
    """A builder that refuses operators in mask_prompt and logs TRANSCRIPT otherwise."""

    def build(trt: Any, model: bytes, path: Path, *rest: Any) -> bytes:
        notes: BuildNotes = rest[-1]
        if path.stem == "mask_prompt":
            notes.refused += ["Resize", "Pad", "Resize"]
            raise SessionError("TensorRT cannot read mask_prompt.onnx: Resize 'a': no")
        assert notes.messages.transcript is not None
        notes.messages.transcript += TRANSCRIPT.splitlines()
        return b"x" * (3 << 20)

    module = ModuleType("tensorrt_rtx")
    module.__version__ = "1.7.1.116"  # type: ignore[attr-defined]
    monkeypatch.setattr(dry, "builder_module", lambda: module)
    monkeypatch.setattr(dry, "engine_from_onnx", build)


def test_the_table_names_what_cannot_be_built(
    half: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    _builder(monkeypatch)
    arguments = [str(half.path), "--dry-run", "--graphs", "mask_prompt,mask_decoder"]
    result = CliRunner().invoke(command.build_command, arguments)
    assert result.exit_code == 1
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert lines[0] == "TensorRT-RTX 1.7.1.116, fp16: built, not run; nothing was kept"
    assert lines[2:4] == [
        "mask_prompt not built (unsupported: Pad, Resize): TensorRT cannot read "
        "mask_prompt.onnx: Resize 'a': no",
        "mask_decoder 2/1/0 1/1/0 1/3 3",
    ]


def test_one_variant_may_be_asked_for(half: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    _builder(monkeypatch)
    options = BuildOptions(graphs=("memory_attention",), attention="operator")
    (built,) = dry.dry_run(half, options).graphs
    assert (built.source, built.attention) == ("memory_attention.operator", "operator")


def test_what_a_dry_run_cannot_tell_is_refused(
    half: Bundle, shared_bundles: SharedBundles, monkeypatch: pytest.MonkeyPatch
) -> None:
    _builder(monkeypatch)
    with pytest.raises(InputError, match="the plugin is compiled for the GPU at hand"):
        dry.dry_run(half, BuildOptions(attention="plugin"))
    plain = shared_bundles.untrained(engine_variants=True, seed=3)
    with pytest.raises(InputError, match="no variant 'operator' of memory_attention in fp32"):
        dry.dry_run(plain, BuildOptions(graphs=("memory_attention",), attention="operator"))


def test_without_a_builder_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(SessionError) as caught:
        tensorrt_library.builder_module()
    text = str(caught.value)
    assert "found neither TensorRT nor TensorRT-RTX: pip install 'sam2rt[tensorrt]'" in text
    assert "pip install tensorrt-rtx" in text
    assert "\n" not in text


def test_tensorrt_rtx_builds_where_tensorrt_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("tensorrt_rtx_bindings")
    module.__version__ = "1.7.1.116"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx_bindings", module)
    assert tensorrt_library.builder_module() is module
    assert tensorrt_library.library_name(module) == "TensorRT-RTX 1.7.1.116"
