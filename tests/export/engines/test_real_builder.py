"""Our graphs, profiles and options before NVIDIA's own parser and builder, without a GPU.

The builder is TensorRT-RTX: engines are built, never run, and are none that TensorRT would load.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from bundles import SharedBundles
from real_tensorrt import Built, build_really, builder_environment

from sam2rt.configs.bundle import Precision, staged_folder
from sam2rt.configs.graphs import engine_specs, graph_specs
from sam2rt.configs.models import model_config
from sam2rt.export.engines.onnx_functions import without_functions
from sam2rt.plugins import memory_cross_attention as op

MICRO = model_config("micro")
VARIANTS = ("image_encoder.whole", "memory_attention.whole", "memory_attention.full")
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "bf16")

Graphs = Callable[[Precision], Path]


@pytest.fixture(scope="session")
def graphs_in(shared_bundles: SharedBundles) -> Graphs:
    """Folder of every graph of `micro` in a precision: a bundle's files, without its proof."""
    # no graph is made for a builder that cannot be had
    builder_environment()

    def graphs_in(precision: Precision) -> Path:
        def make(target: Path) -> None:
            from sam2rt.export.graphs.graph_files import GraphOptions, made_graphs, write_graphs
            from sam2rt.export.model.sam2 import build_model
            from sam2rt.export.model.untrained import untrained_state

            model = build_model(MICRO)
            model.load_state_dict(untrained_state(MICRO, 0))
            options = GraphOptions(precision=precision, engine_variants=True)
            with staged_folder(target) as work:
                write_graphs(work, made_graphs(model, options))

        return shared_bundles.once(f"micro-engine-graphs-{precision}", make)

    return graphs_in


def _altered(source: Path, folder: Path, alter: Callable[[bytes], bytes]) -> None:
    """A copy of the graph in `folder`, its weights beside it as they were."""
    (folder / source.name).write_bytes(alter(source.read_bytes()))
    (folder / "weights.bin").symlink_to(source.parent / "weights.bin")


def _refused(built: list[Built]) -> str:
    (only,) = built
    assert only.size is None
    kind, text = only.error or ["no error", ""]
    assert kind == "SessionError", text
    return text


@pytest.mark.parametrize(
    ("precision", "graphs"),
    [
        ("fp32", ("memory_attention", "memory_encoder", "mask_prompt")),
        ("fp16", ("image_encoder.whole", "memory_attention.full")),
        ("bf16", ("mask_decoder", "memory_attention.whole")),
    ],
)
def test_nvidias_builder_takes_our_graphs_and_profiles(
    graphs_in: Graphs, precision: Precision, graphs: tuple[str, ...]
) -> None:
    # a steady state fewer than usual: seconds are for the slow tier
    limits = {"objects": 1}
    options = {"precision": precision}
    for built in build_really(graphs_in(precision), "micro", graphs, limits=limits, engine=options):
        assert built.error is None
        # kernels and weights
        assert built.size is not None
        assert built.size > 1_000_000
        assert built.steps[0].startswith(f"{built.graph}: ")


@pytest.mark.slow
@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_graph_is_built_with_every_profile(graphs_in: Graphs, precision: Precision) -> None:
    graphs = (*engine_specs(MICRO), *VARIANTS)
    options = {"precision": precision}
    built = build_really(graphs_in(precision), "micro", graphs, engine=options)
    assert {b.graph: b.error for b in built} == dict.fromkeys(graphs)


@pytest.mark.slow
def test_every_attention_of_the_full_variant_becomes_one_kernel(tmp_path: Path) -> None:
    from sam2rt.export.graphs.modules import graph_modules
    from sam2rt.export.graphs.onnx_from_module import onnx_from_module
    from sam2rt.export.graphs.precision import lowered
    from sam2rt.export.graphs.variants import FULL_VALUES
    from sam2rt.export.model.sam2 import build_model

    name, graph = "sam2.1_hiera_tiny", "memory_attention"
    config = model_config(name)
    # what is fused is a matter of shapes: no weights are loaded
    module = graph_modules(build_model(config), FULL_VALUES)[graph]
    made = lowered(onnx_from_module(module, graph_specs(config)[graph], 20), "fp16")
    onnx.save(made, tmp_path / "memory_attention.full.onnx")
    (built,) = build_really(
        tmp_path, name, ["memory_attention.full"],
        limits={"objects": 1}, engine={"precision": "fp16"}, detailed=True,
    )  # fmt: skip
    assert built.error is None
    # four layers, each with attention to the frame itself and to memories
    assert built.fused_attentions()[0] == 8
    # 687 MB where values leave their bias out, and no attention is one kernel
    assert built.memory[0] < 320 << 20


def test_a_workspace_too_small_names_the_option_to_raise(graphs_in: Graphs) -> None:
    options = {"workspace": 1}
    text = _refused(build_really(graphs_in("fp32"), "micro", ["mask_prompt"], engine=options))
    assert text.startswith("TensorRT cannot build mask_prompt: ")
    assert "no tactics to implement the operation within workspace limit" in text
    assert text.endswith("raise --workspace, now 1 bytes, or leave it out")


def test_engines_for_later_releases_name_the_library_they_need(graphs_in: Graphs) -> None:
    options = {"version_compatible": True}
    text = _refused(build_really(graphs_in("fp32"), "micro", ["mask_prompt"], engine=options))
    assert "Unable to load library: libnvinfer_lean.so.1" in text
    assert text.endswith("or build without --version-compat")


def test_a_truncated_graph_is_refused_by_the_parser(graphs_in: Graphs, tmp_path: Path) -> None:
    source = graphs_in("fp32") / "mask_prompt.onnx"
    _altered(source, tmp_path, lambda model: model[: len(model) // 2])
    text = _refused(build_really(tmp_path, "micro", ["mask_prompt"]))
    assert "cannot read mask_prompt.onnx: " in text
    assert "parse" in text.partition("mask_prompt.onnx: ")[2].lower()


def test_an_unknown_operator_is_named(graphs_in: Graphs, tmp_path: Path) -> None:
    def alter(model: bytes) -> bytes:
        made = onnx.load_model_from_string(model)
        made.graph.node[0].op_type = "Frobnicate"
        return made.SerializeToString()

    _altered(graphs_in("fp32") / "mask_prompt.onnx", tmp_path, alter)
    text = _refused(build_really(tmp_path, "micro", ["mask_prompt"]))
    # the parser looks for a plugin of that name; in its own words the name does not stand
    assert "cannot read mask_prompt.onnx: Frobnicate '" in text
    assert "Plugin not found" in text


def test_a_node_without_body_asks_for_its_plugin(graphs_in: Graphs, tmp_path: Path) -> None:
    source = graphs_in("fp32") / "memory_attention.whole.onnx"
    _altered(source, tmp_path, lambda model: without_functions(model, {op.NAME}))
    text = _refused(build_really(tmp_path, "micro", ["memory_attention.whole"]))
    assert f"cannot read memory_attention.whole.onnx: {op.NAME} '" in text
    assert "Plugin not found" in text


def test_an_interrupt_in_progress_ends_the_build(graphs_in: Graphs) -> None:
    (built,) = build_really(graphs_in("fp32"), "micro", ["mask_prompt"], interrupt_at=3)
    assert built.error == ["KeyboardInterrupt", ""]
    assert len(built.steps) == 3
