"""The table of operators that a loader takes is what our exporters write: no less, no more."""

from __future__ import annotations

import pytest

from sam2rt.configs.formats.graph_file import check_graph, operators
from sam2rt.configs.models import model_config
from sam2rt.export.graphs import graph_files
from sam2rt.export.graphs.graph_files import GraphOptions, made_graphs
from sam2rt.export.model.sam2 import build_model
from sam2rt.export.model.untrained import untrained_state


@pytest.mark.slow
def test_the_table_is_what_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_files, "PER_OBJECT_FROM", 16)
    config = model_config("micro")
    model = build_model(config)
    model.load_state_dict(untrained_state(config))
    written = set()
    for options in (
        GraphOptions(opset=18, precision="fp32"),
        GraphOptions(opset=19, precision="bf16"),
        GraphOptions(opset=20, precision="fp16", engine_variants=True),
        GraphOptions(opset=20, precision="int8"),
        GraphOptions(opset=20, precision="bf16", cpu_variants=True),
    ):
        for made in made_graphs(model, options):
            check_graph(made.model.SerializeToString(), {})
            nodes = [*made.model.graph.node, *(n for f in made.model.functions for n in f.node)]
            written |= {(node.domain, node.op_type) for node in nodes}
    table = operators()
    expected = {("", name) for name in table["operators"]}
    assert written == expected | {(table["domain"], name) for name in table["functions"]}
