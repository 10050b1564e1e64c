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
from sam2rt.configs.graphs import engine_specs
from sam2rt.configs.models import model_config
from sam2rt.export.engines.onnx_functions import without_functions
from sam2rt.plugins import memory_cross_attention as op

MICRO, TINY = model_config("micro"), "sam2.1_hiera_tiny"
VARIANTS = ("image_encoder.whole", "memory_attention.whole", "memory_attention.full")
OPERATOR = "memory_attention.operator"
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


def test_the_operator_is_fused_or_taken_apart_in_each_profile(graphs_in: Graphs) -> None:
    """Of one object, of two, and dynamic; micro has four attentions."""
    limits, options = {"objects": 2}, {"precision": "fp16"}
    (built,) = build_really(
        graphs_in("fp16"), "micro", [OPERATOR], limits=limits, engine=options, detailed=True
    )
    assert built.error is None
    # plain products give [0, 3, 2]; micro is too narrow for a kernel of every shape
    assert built.fused_attentions() == [0, 3, 4]


@pytest.mark.slow
@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_graph_is_built_with_every_profile(graphs_in: Graphs, precision: Precision) -> None:
    operator = () if precision == "fp32" else (OPERATOR,)
    graphs = (*engine_specs(MICRO), *VARIANTS, *operator)
    options = {"precision": precision}
    built = build_really(graphs_in(precision), "micro", graphs, engine=options)
    assert {b.graph: b.error for b in built} == dict.fromkeys(graphs)


@pytest.fixture(scope="session")
def tiny_attention(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the variants of memory attention of tiny at 1024 pixels, in half precision."""
    from sam2rt.export.graphs.variants import variant_models
    from sam2rt.export.model.sam2 import build_model

    # what is fused is a matter of shapes: no weights are loaded
    model = build_model(model_config(TINY))
    folder = tmp_path_factory.mktemp("tiny")
    for precision in ("fp16", "bf16"):
        (folder / precision).mkdir()
        for name, graph, made in variant_models(model, 20, precision):
            if graph == "memory_attention":
                onnx.save(made, folder / precision / f"{name}.onnx")
    return folder


#: of one object, of four, and dynamic: attentions of 8 that become one kernel each, and the
#: activations in MiB
FUSED = {
    # values at memory width, the body of the plugin's node, have no fused kernel
    "memory_attention.whole": ([0, 3, 4], (585, 2299, 3524)),
    "memory_attention.full": ([8, 8, 4], (295, 1163, 4121)),
    OPERATOR: ([8, 8, 8], (295, 1163, 1650)),
}


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("graph", FUSED)
def test_fused_attentions_and_memory_of_tiny_at_1024(
    tiny_attention: Path, graph: str, precision: str
) -> None:
    fused, memory = FUSED[graph]
    (built,) = build_really(
        tiny_attention / precision, TINY, [graph], engine={"precision": precision}, detailed=True
    )
    assert built.error is None
    assert built.fused_attentions() == fused
    assert [size >> 20 for size in built.memory] == [pytest.approx(m, rel=0.03) for m in memory]


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
