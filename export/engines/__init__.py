"""From a bundle to TensorRT engines, built, proved and timed; numpy alone: imports proof, runtime,
plugins and configs, neither torch nor onnx.
"""
