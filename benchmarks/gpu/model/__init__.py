"""The model's own graphs on torch: executed, captured, timed and proved, on a GPU without TensorRT
or ONNX Runtime for CUDA; imports export, runtime and plugins.
"""
