"""What our modules give for each value recorded in ``a_encoder`` and ``c_graphs``.

One function per section, named like the first part of the recorded names; each returns every
value of its section by its recorded name, so a test can tell that none was left out.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from golden import GoldenSet, data_path, noise
from PIL import Image
from torch import Tensor

from sam2rt.export.model.decoder import SelectedMask, select_mask, stability
from sam2rt.export.model.position import sine_1d, sine_grid
from sam2rt.export.model.sam2 import Sam2

Values = dict[str, Tensor]
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
CASES = ("click2", "box_click", "track_pad", "click2_mask")


def recorded_noise(name: str, shape: tuple[int, ...], scale: float = 1.0) -> Tensor:
    return torch.from_numpy(noise(name, shape, scale))


def tokens_noise(name: str, channels: int, size: int, scale: float = 1.5) -> Tensor:
    """A grid whose noise was drawn in (HW, 1, C) order, as [1, C, h, w]."""
    drawn = recorded_noise(name, (size * size, 1, channels), scale)
    return drawn.permute(1, 2, 0).reshape(1, channels, size, size)


def low_mask(size: int) -> Tensor:
    """The recorded mask logits [1, 1, size, size]: smooth blobs."""
    drawn = recorded_noise("c.masklow", (1, 1, 8, 8), 10.0)
    return F.interpolate(drawn, (size, size), mode="bilinear", align_corners=False)


def prompt_points(golden: GoldenSet, case: str) -> tuple[Tensor, Tensor]:
    """Coordinates and labels of a recorded prompt, padding point appended."""
    coords = torch.from_numpy(golden.array(f"prompt.{case}.coords"))
    labels = torch.from_numpy(golden.array(f"prompt.{case}.labels"))
    return F.pad(coords, (0, 0, 0, 1)), F.pad(labels, (0, 1), value=-1)


def decoder_features(model: Sam2) -> tuple[Tensor, Tensor, Tensor]:
    c, h = model.config.hidden_dim, model.config.embed_size
    return (
        recorded_noise("c.image_embed", (1, c, h, h), 1.5),
        recorded_noise("c.hr0", (1, c // 8, 4 * h, 4 * h), 1.5),
        recorded_noise("c.hr1", (1, c // 4, 2 * h, 2 * h), 1.5),
    )


def model_input(name: str, size: int) -> Tensor:
    """The recorded input image [1, 3, S, S] of that name."""
    if name == "noise":
        return recorded_noise("a.x", (1, 3, size, size))
    if name == "truck":
        pixels = np.asarray(Image.open(data_path("truck.jpg")).convert("RGB"))
        image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255
        image = F.interpolate(image, (size, size), mode="bilinear", antialias=True)
    else:
        frame = Image.open(data_path("bedroom/00000.jpg")).convert("RGB").resize((size, size))
        image = torch.from_numpy(np.asarray(frame) / 255.0).float().permute(2, 0, 1)[None]
    return (image - MEAN[:, None, None]) / STD[:, None, None]


def encoder(model: Sam2, name: str) -> Values:
    image = model_input(name, model.config.image_size)
    stages = model.image_encoder.trunk(image)
    features = model.encode_image(image)
    values = {f"trunk{i}": stage for i, stage in enumerate(stages)}
    values |= {f"fpn{i}": level for i, level in enumerate(model.image_encoder.neck(stages))}
    values |= {"input": image, "image_embed": features.prompt_embed}
    values |= {"high_res_feats0": features.high_res_0, "high_res_feats1": features.high_res_1}
    return {f"{name}.{key}": value for key, value in values.items()}


def encoder_positions(model: Sam2) -> Values:
    h, c = model.config.embed_size, model.config.hidden_dim
    sizes = (4 * h, 2 * h, h)
    values = {f"pos_enc{i}": sine_grid(c, size) for i, size in enumerate(sizes)}
    return values | {"hiera_pos_embed": model.image_encoder.trunk.position_embedding()}


def prompt(model: Sam2, golden: GoldenSet) -> Values:
    prompts, h = model.sam_prompt_encoder, model.config.embed_size
    values = {"prompt.dense_pe": prompts.dense_pe()}
    for case in ("click2", "batch2", "box_click", "track_pad"):
        coords, labels = prompt_points(golden, case)
        values[f"prompt.{case}.coords"] = coords[:, :-1]
        values[f"prompt.{case}.labels"] = labels[:, :-1]
        values[f"prompt.{case}.sparse"] = prompts.sparse(coords, labels)
        values[f"prompt.{case}.dense"] = prompts.no_dense().expand(len(coords), -1, h, h)
    mask = low_mask(model.config.mask_size)
    nothing = torch.zeros(1, 0, 2), torch.zeros(1, 0, dtype=torch.int32)
    values["prompt.mask.input"] = mask
    values["prompt.mask.sparse"] = prompts.sparse(*nothing)
    values["prompt.mask.dense"] = prompts.dense(mask)
    return values


def decoder(model: Sam2, golden: GoldenSet) -> Values:
    config, values = model.config, {}
    for case in CASES:
        coords, labels = prompt_points(golden, case.removesuffix("_mask"))
        has_mask = torch.tensor([float(case.endswith("_mask"))])
        mask = low_mask(config.mask_size)
        out = model.predict_masks(*decoder_features(model), coords, labels, mask, has_mask)
        delta, threshold = config.stability_delta, config.stability_threshold
        single = select_mask(out, torch.tensor([False]), delta, threshold)
        named = {
            "masks": out.mask_logits,
            "iou": out.ious,
            "tokens": out.mask_tokens,
            "obj_score": out.object_score,
            "stability": stability(out.mask_logits[:, 0], delta)[:, None],
            "forward_multimask1.masks": out.mask_logits[:, 1:],
            "forward_multimask1.iou": out.ious[:, 1:],
            "forward_multimask1.tokens": out.mask_tokens[:, 1:],
            "forward_multimask0.masks": single.mask_logits,
            "forward_multimask0.iou": single.iou,
            "forward_multimask0.tokens": single.token[:, None],
        }
        values |= {f"decoder.{case}.{key}": value for key, value in named.items()}
    return values


def selected(model: Sam2, golden: GoldenSet, case: str) -> SelectedMask:
    """The alternative with the best IoU among the recorded decoder outputs of a case."""
    masks, ious, tokens = (
        torch.from_numpy(golden.array(f"decoder.{case}.forward_multimask1.{key}"))
        for key in ("masks", "iou", "tokens")
    )
    best = int(ious[0].argmax())
    return SelectedMask(masks[:, best : best + 1], ious[:, best : best + 1], tokens[:, best])


def memenc(model: Sam2, golden: GoldenSet) -> Values:
    del golden
    # recorded from a mask at full resolution, so the parts below the graph are judged here
    config, mask = model.config, low_mask(model.config.image_size)
    h = config.embed_size
    embed = recorded_noise("c.pix", (1, config.hidden_dim, h, h), 1.5)
    smooth, hard = mask.sigmoid() * 20 - 10, (mask > 0).float() * 20 - 10
    present = model.memory_encoder(embed, smooth)
    absent = present
    if config.family == "2.1":
        absent = present + model.no_obj_embed_spatial[..., None, None]
    return {
        "memenc.sigmoid_present.features": present,
        "memenc.binarized_present.features": model.memory_encoder(embed, hard),
        "memenc.sigmoid_absent.features": absent,
        "memenc.pos_enc": model.memory_position,
        "memenc.mask_downsampler": model.memory_encoder.mask_downsampler(smooth),
    }


def attention_inputs(model: Sam2, memories: int, pointers: int) -> tuple[Tensor, ...]:
    """The recorded inputs of memory attention, in the graph's order."""
    c, m, h = model.config.hidden_dim, model.config.mem_dim, model.config.embed_size
    memory = torch.stack([tokens_noise(f"c.mem{t}", m, h) for t in range(memories)], dim=1)
    return (
        tokens_noise("c.curr", c, h),
        memory,
        torch.tensor([[model.config.num_maskmem - 1 - t for t in range(memories)]]),
        recorded_noise("c.ptrs", (7, 1, c))[:pointers].transpose(0, 1),
        torch.arange(1, pointers + 1)[None] / 15,
    )


def memattn(model: Sam2, golden: GoldenSet) -> Values:
    del golden
    values = {}
    for memories, pointers in ((1, 0), (1, 1), (7, 7)):
        inputs = attention_inputs(model, memories, pointers)
        tokens, positions = model.pointer_tokens(*inputs[3:])
        spatial = model.memory_position[:, None] + model.maskmem_tpos_enc[inputs[2]].permute(
            0, 1, 4, 2, 3
        )
        spatial = spatial.permute(0, 1, 3, 4, 2).flatten(1, 3)
        named = {
            "out": model.attend_memory(*inputs).flatten(2).permute(2, 0, 1),
            "memory_pos": torch.cat((spatial, positions), dim=1).transpose(0, 1),
        }
        if pointers:
            named |= {"ptr_tokens": tokens.transpose(0, 1), "ptr_pos": positions.transpose(0, 1)}
        values |= {f"memattn.{memories}mem_{pointers}ptr.{k}": v for k, v in named.items()}
    return values


def ptr(model: Sam2, golden: GoldenSet) -> Values:
    c = model.config.hidden_dim
    distance = torch.from_numpy(golden.array("ptr.t_diff"))
    sine = sine_1d(distance / 15, c)
    projected = model.obj_ptr_tpos_proj(sine) if model.config.family == "2.1" else sine
    return {
        "ptr.t_diff": distance,
        "ptr.sine_pe": sine,
        "ptr.tpos_proj": projected,
        "ptr.proj": model.obj_ptr_proj(recorded_noise("c.tokens", (5, c))),
    }


def rope(model: Sam2, golden: GoldenSet) -> Values:
    del golden
    attention = model.memory_attention.layers[0].self_attn
    return {"rope.freqs": torch.stack((attention.cos, attention.sin), dim=-1)}


def _mask_prompt(model: Sam2, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Low-resolution logits, pointer and score of a mask prompt, as the tracker combines them."""
    out = model.prompt_from_mask(mask)
    points = torch.zeros(1, 2, 2), torch.full((1, 2), -1, dtype=torch.int32)
    decoded = model.decode(
        *decoder_features(model), *points, out.mask_input, torch.ones(1), torch.tensor([False])
    )
    pointer = torch.where(out.object_score > 0, decoded.obj_ptr, out.no_obj_ptr)
    return out.mask_logits, pointer, out.object_score


def maskprompt(model: Sam2, golden: GoldenSet) -> Values:
    del golden
    size = model.config.image_size
    mask = torch.zeros(1, 1, size, size)
    mask[..., size // 8 : size // 2, size // 4 : 3 * size // 4] = 1
    values = dict(zip(("low_res", "obj_ptr", "obj_score"), _mask_prompt(model, mask), strict=True))
    return {f"maskprompt.{key}": value for key, value in values.items()}


def maskprompt_empty(model: Sam2, golden: GoldenSet) -> Values:
    del golden
    size = model.config.image_size
    _, pointer, score = _mask_prompt(model, torch.zeros(1, 1, size, size))
    return {"maskprompt_empty.obj_ptr": pointer, "maskprompt_empty.obj_score": score}


SECTIONS: dict[str, Callable[[Sam2, GoldenSet], Values]] = {
    section.__name__: section
    for section in (prompt, decoder, memenc, memattn, ptr, rope, maskprompt, maskprompt_empty)
}
