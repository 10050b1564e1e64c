"""Images against transformers' Sam2Model: through its own files, our graphs, our predictor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import sam2rt
from sam2rt.runtime.pixels.frame_tensor import image_tensor

if TYPE_CHECKING:
    from transformers_oracle import Pair

oracle = pytest.importorskip("transformers_oracle", reason="transformers is not installed")

#: float32 on both sides, sums in another order; logits reach some 60
LOGITS, IOU = 1e-3, 1e-4


@pytest.fixture(scope="module")
def picture(pair: Pair) -> np.ndarray[Any, np.dtype[np.uint8]]:
    side = pair.config.image_size
    return np.kron(oracle.moving_clip(pair.config, 1)[0], np.ones((4, 4, 1), np.uint8))[
        :side, :side
    ]


@pytest.fixture(scope="module")
def theirs(pair: Pair) -> Any:
    return oracle.image_model(pair.config, pair.state)


def test_their_file_holds_our_weights(pair: Pair) -> None:
    assert pair.checkpoint.config == pair.config
    assert pair.checkpoint.state.keys() == pair.state.keys()
    for key, value in pair.state.items():
        assert torch.equal(pair.checkpoint.state[key], value), key


def test_encoder(pair: Pair, theirs: Any, picture: Any) -> None:
    pixels = image_tensor(picture, pair.config.image_size)[None]
    with torch.inference_mode():
        high0, high1, embed = theirs.get_image_embeddings(torch.from_numpy(pixels))
    found = pair.session.run("image_encoder", {"image": pixels})
    for name, expected in [("prompt_embed", embed), ("high_res_0", high0), ("high_res_1", high1)]:
        assert np.abs(found[name] - expected.numpy()).max() < 1e-4, name


_CASES: dict[str, dict[str, Any]] = {
    "click": {"point_coords": [[120, 90]], "point_labels": [1]},
    "three clicks": {"point_coords": [[120, 90], [30, 200], [77, 77]], "point_labels": [1, 0, 1]},
    "box": {"box": [40, 30, 160, 150]},
    "box and click": {
        "box": [40, 30, 160, 150], "point_coords": [[100, 90]], "point_labels": [0],
    },
    "mask and click": {"mask": True, "point_coords": [[120, 90]], "point_labels": [1]},
}  # fmt: skip


@pytest.mark.parametrize("multimask", [True, False])
@pytest.mark.parametrize("case", _CASES)
def test_prompts(pair: Pair, theirs: Any, picture: Any, case: str, multimask: bool) -> None:
    prompt = dict(_CASES[case])
    side = pair.config.mask_size
    mask = None
    if prompt.pop("mask", False):
        mask = np.random.default_rng(1).normal(0, 8, (1, side, side)).astype(np.float32)
    with sam2rt.ImagePredictor(pair.bundle, session=pair.session) as image:
        image.set_image(picture)
        _, ious, low = image.predict(**prompt, mask_input=mask, multimask_output=multimask)
    expected = _theirs(theirs, pair, picture, prompt, mask, multimask)
    assert np.abs(ious - expected.iou_scores[0, 0].numpy()).max() < IOU
    # the original clamps what it returns
    logits = expected.pred_masks[0, 0].numpy().clip(-32, 32)
    assert np.abs(low - logits).max() < LOGITS
    assert oracle.disagreements(logits, low, LOGITS) == 0


def _theirs(
    model: Any, pair: Pair, picture: Any, prompt: dict[str, Any], mask: Any, multimask: bool
) -> Any:
    pixels = torch.from_numpy(image_tensor(picture, pair.config.image_size)[None])
    inputs: dict[str, Any] = {}
    if "point_coords" in prompt:
        inputs["input_points"] = torch.tensor([[prompt["point_coords"]]], dtype=torch.float32)
        inputs["input_labels"] = torch.tensor([[prompt["point_labels"]]], dtype=torch.int32)
    if "box" in prompt:
        inputs["input_boxes"] = torch.tensor([[prompt["box"]]], dtype=torch.float32)
    if mask is not None:
        inputs["input_masks"] = torch.from_numpy(mask[None])
    with torch.inference_mode():
        return model(pixel_values=pixels, multimask_output=multimask, **inputs)
