"""The reference modules equal the recordings of the original, value by value."""

from __future__ import annotations

import functools
import json

import pytest
import torch
from golden import TINY, golden_set, recipe_state, require_shared, variant_name
from recorded_modules import (
    SECTIONS,
    decoder_features,
    encoder,
    encoder_positions,
    low_mask,
    prompt_points,
    selected,
)

from sam2rt.configs.models import MODELS, model_config
from sam2rt.export.model.sam2 import ABSENT_LOGIT, Sam2, build_model

VARIANTS = ("micro", "micro20", TINY)
#: float32 on another build of the same kernels: logits 1e-3, everything that feeds them less
LOGITS, REST = 1e-3, 1e-4


@functools.cache
def recorded_model(variant: str) -> Sam2:
    model = build_model(model_config(variant))
    model.load_state_dict(recipe_state(variant))
    return model


def bound(name: str) -> float:
    return LOGITS if name.endswith("masks") else REST


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize("variant", VARIANTS)
@torch.inference_mode()
def test_graphs(variant, section):
    golden = golden_set(variant)
    values = SECTIONS[section](recorded_model(variant), golden)
    recorded = {n for n in golden.values("c_graphs") if n.split(".")[0] == section}
    assert set(values) == recorded
    for name, value in values.items():
        golden.compare(name, value.numpy(), atol=bound(name))


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_recorded_section_is_left_out(variant):
    assert {n.split(".")[0] for n in golden_set(variant).values("c_graphs")} == set(SECTIONS)


@pytest.mark.parametrize("image", ["truck", "bedroom0", "noise"])
@pytest.mark.parametrize("variant", ["micro", TINY])
@torch.inference_mode()
def test_encoder(variant, image):
    golden = golden_set(variant)
    values = encoder(recorded_model(variant), image)
    recorded = {n for n in golden.values("a_encoder") if n.startswith(image + ".")}
    assert recorded <= set(values)
    for name in recorded:
        golden.compare(name, values[name].numpy(), atol=REST)


@pytest.mark.parametrize("variant", ["micro", TINY])
@torch.inference_mode()
def test_encoder_positions(variant):
    golden = golden_set(variant)
    values = encoder_positions(recorded_model(variant))
    assert set(values) == {n for n in golden.values("a_encoder") if "." not in n}
    for name, value in values.items():
        golden.compare(name, value.numpy(), atol=1e-6)


@pytest.mark.parametrize("case", ["click2", "box_click", "track_pad"])
@torch.inference_mode()
def test_decode_with_multimask_takes_the_best_alternative(case):
    model, golden = recorded_model("micro"), golden_set("micro")
    coords, labels = prompt_points(golden, case)
    unused = torch.full((1, 1, model.config.mask_size, model.config.mask_size), torch.nan)
    out = model.decode(
        *decoder_features(model), coords, labels, unused, torch.zeros(1), torch.tensor([True])
    )
    best = selected(model, golden, case)
    present = out.object_score > 0
    mask = torch.where(present, best.mask_logits, ABSENT_LOGIT)
    pointer = torch.where(present, model.obj_ptr_proj(best.token), model.no_obj_ptr)
    torch.testing.assert_close(out.mask_logits, mask, atol=LOGITS, rtol=0)
    torch.testing.assert_close(out.obj_ptr, pointer, atol=REST, rtol=0)
    torch.testing.assert_close(out.iou, best.iou, atol=REST, rtol=0)


@torch.inference_mode()
def test_an_absent_object_is_gated_only_where_tracking_reads():
    model, golden = recorded_model("micro"), golden_set("micro")
    coords, labels = prompt_points(golden, "click2")
    head = model.sam_mask_decoder.pred_obj_score_head.layers[-1]
    bias = head.bias.clone()
    prompt = (coords, labels, low_mask(model.config.mask_size), torch.zeros(1))
    try:
        head.bias.fill_(-1e3)
        out = model.decode(*decoder_features(model), *prompt, torch.tensor([False]))
    finally:
        head.bias.copy_(bias)
    assert out.object_score.item() < 0
    assert (out.mask_logits == ABSENT_LOGIT).all()
    torch.testing.assert_close(out.obj_ptr, model.no_obj_ptr)
    golden.compare("decoder.click2.masks", out.all_mask_logits.numpy(), atol=LOGITS)
    golden.compare("decoder.click2.forward_multimask0.iou", out.iou.numpy(), atol=REST)


#: the built-in model is ours: the original never had it
@pytest.mark.parametrize("name", [name for name in MODELS if name != "sam2rt_micro"])
def test_state_dict_keys_and_shapes_are_the_originals(name):
    shapes = require_shared() / "golden" / "shapes" / f"{variant_name(name)}.json"
    expected = {key: tuple(shape) for key, shape in json.loads(shapes.read_text()).items()}
    with torch.device("meta"):
        model = build_model(MODELS[name])
    assert {key: tuple(t.shape) for key, t in model.state_dict().items()} == expected


def test_every_used_weight_receives_a_gradient():
    """A training step over the whole model: nothing detached, nothing frozen into a constant."""
    torch.manual_seed(0)
    model = build_model(model_config("micro").with_image_size(64))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    h, c, m = 4, model.config.hidden_dim, model.config.mem_dim
    features = model.encode_image(torch.randn(1, 3, 64, 64))
    memory = torch.randn(1, 1, m, h, h)
    pointers = torch.randn(1, 2, c), torch.tensor([[0.1, 0.2]])
    embed = model.attend_memory(features.image_embed, memory, torch.tensor([[3]]), *pointers)
    point = torch.rand(1, 6, 2) * 64, torch.tensor([[-1, 0, 1, 2, 3, -1]], dtype=torch.int32)
    loss = torch.zeros(())
    for with_mask in (0.0, 1.0):
        mask = model.mask_downsample(torch.rand(1, 1, 64, 64))
        out = model.predict_masks(
            embed + features.prompt_embed, features.high_res_0, features.high_res_1, *point, mask,
            torch.tensor([with_mask]),
        )  # fmt: skip
        score = torch.full((1, 1), -1.0)
        stored = model.encode_memory(
            features.image_embed, out.mask_logits[:, :1], score, torch.tensor([False])
        )
        pointer = model.obj_ptr_proj(out.mask_tokens[:, 0]) + model.no_obj_ptr
        parts = (out.mask_logits, out.ious, out.object_score, stored, pointer)
        loss = loss + sum(part.square().mean() for part in parts)
    loss.backward()
    without = {
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None or not parameter.grad.abs().sum() > 0
    }
    assert without == {"no_mem_pos_enc"}
