"""The reference session: the contract at its boundary, and the cases the tracker meets."""

from __future__ import annotations

import numpy as np
import pytest
from exported import contract, random_inputs, recipe_model, reference
from golden import golden_set
from recorded_modules import attention_inputs

from sam2rt.configs.errors import InputError
from sam2rt.configs.graphs import graph_specs
from sam2rt.configs.models import model_config

GRAPHS = tuple(graph_specs(model_config("micro")))


@pytest.mark.parametrize("graph", GRAPHS)
def test_outputs_are_those_of_the_contract(graph):
    spec = contract("micro", graph)
    dims = {"B": 2, "N": 2, "I": 1, "G": 1, "P": 0, "M": 1, "K": 0}
    out = reference("micro").run(graph, random_inputs(spec, 0, 256, **dims))
    found = [(name, value.dtype.name, value.shape) for name, value in out.items()]
    expected = [
        (t.name, t.dtype, tuple(dims[d] if isinstance(d, str) else d for d in t.shape))
        for t in spec.outputs
    ]
    assert found == expected


def test_memory_attention_is_the_recorded_one():
    tensors = attention_inputs(recipe_model("micro"), 7, 7)
    names = [tensor.name for tensor in contract("micro", "memory_attention").inputs]
    inputs = {name: tensor.numpy() for name, tensor in zip(names, tensors, strict=True)}
    out = reference("micro").run("memory_attention", inputs)["conditioned_embed"]
    tokens = out.reshape(1, 64, 256).transpose(2, 0, 1)
    golden_set("micro").compare("memattn.7mem_7ptr.out", tokens, atol=1e-4)


def test_it_survives_closing_and_can_be_entered_again():
    session = reference("micro")
    inputs = {"mask": np.zeros((1, 1, 256, 256), np.float32)}
    for _ in range(2):
        with session as entered:
            score = entered.run("mask_prompt", inputs)["object_score"]
            assert score.tolist() == [[-10.0]]
    assert session.bundle.model.name == "micro"


def test_bad_input_is_refused_and_the_session_stays_usable():
    session = reference("micro")
    good = {"mask": np.ones((1, 1, 256, 256), np.float32)}
    with pytest.raises(InputError, match="unknown graph 'decoder'"):
        session.run("decoder", good)
    with pytest.raises(InputError, match="mask: expected float32"):
        session.run("mask_prompt", {"mask": good["mask"].astype(np.float64)})
    with pytest.raises(InputError, match="takes"):
        session.run("mask_prompt", {})
    assert session.run("mask_prompt", good)["object_score"].tolist() == [[10.0]]


def test_families_differ_only_where_they_should():
    """2.0 ignores pointer distances and object scores; 2.1 reads both."""
    for name, reads in (("micro", True), ("micro20", False)):
        session = reference(name)
        inputs = random_inputs(contract(name, "memory_attention"), 0, 256, N=1, I=1, M=1, K=4)
        moved = inputs | {"obj_ptr_pos": inputs["obj_ptr_pos"] + 0.5}
        one, other = (
            session.run("memory_attention", i)["conditioned_embed"] for i in (inputs, moved)
        )
        assert np.array_equal(one, other) != reads
        inputs = random_inputs(contract(name, "memory_encoder"), 0, 256, N=1, I=1)
        scores = [np.array([[value]], np.float32) for value in (1.0, -1.0)]
        one, other = (
            session.run("memory_encoder", inputs | {"object_score": score})["memory"]
            for score in scores
        )
        added = recipe_model(name).no_obj_embed_spatial.detach().numpy() if reads else np.zeros(16)
        np.testing.assert_allclose((other - one).mean((0, 2, 3)), added.ravel(), atol=1e-5)
