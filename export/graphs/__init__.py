"""The modules that are exported, their variants and precisions, as ONNX; imports model, plugins
and configs.
"""
