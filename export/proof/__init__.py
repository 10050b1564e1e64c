"""Numerical validation of graphs or engines against the reference; numpy alone: imports runtime
and configs, neither torch nor onnx.
"""
