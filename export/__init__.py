"""From a checkpoint to a proved bundle, and from a bundle to proved engines; imports runtime and
what lies below it. Only checkpoint, model and graphs know torch and onnx.
"""
