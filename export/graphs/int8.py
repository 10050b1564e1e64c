"""The image encoder with its weight matrices in eight bits, for CPUs with integer dot products.

ONNX Runtime's own quantiser, dynamically: weights per output channel, activations per tensor
with a scale measured on each call, so nothing has to be calibrated and no frame is out of
range. Attention between activations stays float32, and so do all other graphs: they are
what decides masks.
"""

from __future__ import annotations

import logging

import onnx

from ...configs.extras import extras_of
from ...configs.staging import temporary_folder

#: the graph that is quantised
QUANTISED_GRAPH = "image_encoder"


def quantised(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with each product by a constant matrix in int8 (uint8 activations).

    Inputs, outputs and everything else stay float32. Raises MissingExtraError without onnxruntime.
    """
    with extras_of("export to int8"):
        from onnxruntime.quantization import QuantType, quantize_dynamic
    with temporary_folder() as folder:
        target = folder / "quantised.onnx"
        # it recommends a preparation per graph that changes nothing for ours
        logging.disable(logging.WARNING)
        try:
            quantize_dynamic(
                model,
                str(target),
                op_types_to_quantize=["MatMul"],
                weight_type=QuantType.QInt8,
                per_channel=True,
            )
        finally:
            logging.disable(logging.NOTSET)
        return onnx.load(target)
