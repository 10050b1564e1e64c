"""Each exported graph, in ONNX Runtime, equals the reference for every combination of sizes."""

from __future__ import annotations

import numpy as np
import pytest
from exported import (
    OnnxGraph,
    contract,
    differences,
    exported,
    onnx_graph,
    random_inputs,
    recipe_model,
    reference,
)

from sam2rt.export.graphs.modules import GraphVariant, graph_modules

#: (model, image size): both families; sizes below, at and above the model's own, where other
#: windows need padding
MODELS = [("micro", None), ("micro20", None), ("micro", 128), ("micro", 512), ("micro20", 192)]
#: float32 against float32 in another order of additions; logits reach some tens, scores some
BOUND = {"all_mask_logits": 1e-3, "mask_logits": 1e-3}
REST = 1e-4
SHARED = [(1, 1), (3, 1), (3, 3)]
#: (objects, embeddings, memories, pointers): all, and a few for the other sizes
ATTENDED = [(*shared, m, k) for shared in SHARED for m in (1, 2, 7) for k in (0, 1, 16)]
ATTENTION = [
    (model, dims)
    for model in MODELS
    for dims in (ATTENDED if model[1] is None else [(1, 1, 7, 16), (3, 1, 2, 0), (3, 3, 1, 1)])
]


def check(name, size, graph, seed=0, given=None, **dims):
    spec = contract(name, graph, size)
    side = recipe_model(name, size).config.image_size
    inputs = random_inputs(spec, seed, side, **dims) | (given or {})
    expected = reference(name, size).run(graph, inputs)
    found = differences(spec, expected, onnx_graph(name, graph, size)(inputs))
    assert {o: d for o, d in found.items() if not d <= BOUND.get(o, REST)} == {}
    return expected


@pytest.mark.parametrize("images", [1, 2])
@pytest.mark.parametrize(("name", "size"), MODELS)
def test_image_encoder(name, size, images):
    check(name, size, "image_encoder", B=images)


@pytest.mark.parametrize(("model", "dims"), ATTENTION)
def test_memory_attention(model, dims):
    sizes = dict(zip("NIMK", dims, strict=True))
    check(*model, "memory_attention", seed=sizes["M"], **sizes)


@pytest.mark.parametrize("multimask", [False, True])
@pytest.mark.parametrize("points", [0, 1, 3])
@pytest.mark.parametrize(("objects", "features"), SHARED)
@pytest.mark.parametrize(("name", "size"), MODELS)
def test_mask_decoder(name, size, objects, features, points, multimask):
    given = {"multimask_output": np.array([multimask])}
    dims = {"N": objects, "G": features, "P": points}
    check(name, size, "mask_decoder", seed=points, given=given, **dims)


@pytest.mark.parametrize("objects", [1, 3])
@pytest.mark.parametrize(("name", "size"), MODELS)
def test_mask_prompt(name, size, objects):
    side = recipe_model(name, size).config.image_size
    mask = np.zeros((objects, 1, side, side), np.float32)
    mask[0, 0, side // 4 : side // 2 + 3, 5 : side // 3] = 1
    expected = check(name, size, "mask_prompt", given={"mask": mask}, N=objects)
    assert expected["object_score"].ravel().tolist() == [10.0] + [-10.0] * (objects - 1)
    # edges of the reduced mask lie between: the reduction is antialiased
    assert np.any(np.abs(expected["mask_logits"][0]) < 9)


@pytest.mark.parametrize("binarize", [False, True])
@pytest.mark.parametrize(("objects", "embeds"), SHARED)
@pytest.mark.parametrize(("name", "size"), MODELS)
def test_memory_encoder(name, size, objects, embeds, binarize):
    given = {"binarize": np.array([binarize])}
    check(name, size, "memory_encoder", given=given, N=objects, I=embeds)


@pytest.mark.parametrize("single_is_stable", [True, False], ids=["stable", "unstable"])
def test_stability_fallback_keeps_the_single_token(single_is_stable):
    """multimask False: an unstable single mask gives way, yet the pointer stays its own."""
    name, graph = "micro", "mask_decoder"
    spec = contract(name, graph)
    for seed in range(20):
        inputs = random_inputs(spec, seed, 256, N=1, G=1, P=2)
        inputs["multimask_output"] = np.array([False])
        out = onnx_graph(name, graph)(inputs)
        other = onnx_graph(name, graph)(inputs | {"multimask_output": np.array([True])})
        logits = out["all_mask_logits"][0]
        inner, outer = (logits[0] > 0.05).sum(), (logits[0] > -0.05).sum()
        is_stable = outer == 0 or inner / outer >= 0.98
        if is_stable == single_is_stable and out["object_score"][0, 0] > 0:
            break
    else:
        pytest.fail("no prompt of this kind among the random ones")
    best = 1 + int(out["all_ious"][0, 1:].argmax())
    chosen = 0 if is_stable else best
    np.testing.assert_array_equal(out["mask_logits"][0, 0], logits[chosen])
    np.testing.assert_array_equal(other["mask_logits"][0, 0], logits[best])
    assert out["iou"][0, 0] == out["all_ious"][0, chosen]
    assert not np.allclose(out["obj_ptr"], other["obj_ptr"], atol=1e-2)


def test_slots_may_stand_in_any_order():
    """The memory bank is a ring: attention has no order of keys, positions travel with them."""
    spec, graph = contract("micro", "memory_attention"), onnx_graph("micro", "memory_attention")
    inputs = random_inputs(spec, 3, 256, N=2, I=1, M=7, K=16)
    rng = np.random.default_rng(0)
    slots, pointers = rng.permutation(7), rng.permutation(16)
    moved = inputs | {
        "memory": inputs["memory"][:, slots],
        "memory_tpos": inputs["memory_tpos"][:, slots],
        "obj_ptrs": inputs["obj_ptrs"][:, pointers],
        "obj_ptr_pos": inputs["obj_ptr_pos"][:, pointers],
    }
    assert differences(spec, graph(inputs), graph(moved))["conditioned_embed"] <= 1e-4
    stale = moved | {"memory_tpos": inputs["memory_tpos"]}
    assert differences(spec, graph(inputs), graph(stale))["conditioned_embed"] > 1e-2


@pytest.mark.parametrize("graph", ["memory_attention", "mask_decoder", "memory_encoder"])
def test_objects_do_not_see_each_other(graph):
    spec = contract("micro", graph)
    dims = {"N": 3, "I": 1, "G": 1, "P": 2, "M": 2, "K": 3}
    inputs = random_inputs(spec, 0, 256, **dims)
    together = onnx_graph("micro", graph)(inputs)
    per_object = {t.name for t in spec.inputs if t.shape[0] == "N"}
    for n in range(3):
        alone = {k: v[n : n + 1] if k in per_object else v for k, v in inputs.items()}
        single = onnx_graph("micro", graph)(alone)
        for output, value in single.items():
            np.testing.assert_allclose(value[0], together[output][n], atol=1e-4, err_msg=output)


@pytest.mark.parametrize("opset", [18, 19])
@pytest.mark.parametrize(
    "graph", ["image_encoder", "memory_attention", "mask_decoder", "mask_prompt", "memory_encoder"]
)
def test_older_opsets_give_the_same(graph, opset):
    spec = contract("micro", graph)
    inputs = random_inputs(spec, 1, 256, B=1, N=2, I=1, G=1, P=2, M=2, K=3)
    older = OnnxGraph(exported("micro", graph, opset=opset))
    found = differences(spec, onnx_graph("micro", graph)(inputs), older(inputs))
    assert {o: d for o, d in found.items() if not d <= BOUND.get(o, REST)} == {}


@pytest.mark.parametrize(
    "variant",
    [
        GraphVariant(query_block=None),
        GraphVariant(query_block=48),
        GraphVariant(fold_values=False),
        GraphVariant(value_bias=True),
        GraphVariant(None, fold_values=False, value_bias=True),
    ],
)
@pytest.mark.parametrize("graph", ["image_encoder", "memory_attention"])
def test_every_variant_gives_the_same(graph, variant):
    spec = contract("micro", graph)
    inputs = random_inputs(spec, 2, 256, B=1, N=2, I=1, M=3, K=2)
    other = OnnxGraph(exported("micro", graph, variant=variant))
    found = differences(spec, onnx_graph("micro", graph)(inputs), other(inputs))
    assert {o: d for o, d in found.items() if not d <= REST} == {}


def test_query_blocks_bound_the_scores():
    """512 pixels: 1024 queries in two blocks, in every global attention of the encoder too."""
    whole = exported("micro", "memory_attention", 512, variant=GraphVariant(query_block=None))
    blocked = exported("micro", "memory_attention", 512)
    counts = [
        sum(node.op_type == "Softmax" for node in model.graph.node) for model in (whole, blocked)
    ]
    assert counts == [4, 8]


def test_the_model_stays_trainable():
    model = recipe_model("micro")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    graph_modules(model)
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all((value == before[key]).all() for key, value in model.state_dict().items())


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["sam2.1_hiera_small", "sam2_hiera_base_plus", "sam2.1_hiera_large"]
)
def test_larger_models_at_a_small_size(name):
    """Other depths, widths, heads, windows and position tables than the recorded models'."""
    check(name, 256, "image_encoder", B=1)
    check(name, 256, "memory_attention", N=2, I=1, M=3, K=2)
    check(name, 256, "mask_decoder", N=2, G=1, P=2)
