"""What both halves of sam2rt must agree on: models, graph contracts, bundles, errors.

Standard library only. Neither torch, onnx nor a backend is ever imported from here.
"""
