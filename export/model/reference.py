"""The reference: a session that computes the graphs with the plain torch modules.

``ReferenceSession(model)`` answers ``run(graph, inputs)`` exactly as a backend does, so the
tracker, the predictors and the proofs run on it unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from ...configs.bundle import Bundle
from ...configs.errors import InputError
from ...configs.graphs import graph_specs
from ...configs.models import ModelConfig
from ...runtime.arrays import Array
from ...runtime.session import Into, Session, check_inputs
from .sam2 import Sam2

#: which method of the model computes which graph
METHODS = {
    "image_encoder": "encode_image",
    "memory_attention": "attend_memory",
    "mask_decoder": "decode",
    "mask_prompt": "prompt_from_mask",
    "memory_encoder": "encode_memory",
    "track_step": "track_step",
}


class ReferenceSession(Session):
    """Runs the graphs of ``configs.graphs`` on the reference modules, on the CPU.

    Arrays are checked as every session does; results are float32. Nothing is opened or held
    beyond the model, so the session can be entered and closed any number of times.
    """

    def __init__(self, model: Sam2) -> None:
        self.bundle = _bundle(model.config)
        self._model = model.eval()
        self._specs = graph_specs(model.config)

    def run(
        self, graph: str, inputs: Mapping[str, Array], into: Into | None = None
    ) -> dict[str, Array]:
        """Run one graph; inputs and outputs by the names of its contract, InputError if unfit."""
        if graph not in self._specs:
            raise InputError(f"unknown graph '{graph}': expected one of {', '.join(self._specs)}")
        spec = self._specs[graph]
        arrays = check_inputs(spec, inputs)
        tensors = [torch.from_numpy(arrays[t.name]) for t in spec.inputs]
        with torch.inference_mode():
            result = getattr(self._model, METHODS[graph])(*tensors)
        outputs = (result,) if isinstance(result, torch.Tensor) else result
        names = [t.name for t in spec.outputs]
        return {name: out.detach().numpy() for name, out in zip(names, outputs, strict=True)}


def _bundle(config: ModelConfig) -> Bundle:
    """A bundle without files: orchestration reads the model's configuration alone."""
    return Bundle(
        path=Path(),
        model=config,
        precision="fp32",
        opset=0,
        checkpoint_sha256="",
        generator="",
        graphs={},
        proof={},
        proof_files={},
    )
