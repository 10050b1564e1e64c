"""Custom operators, each one: a numpy reference, a GPU kernel, an ONNX body, a registration.

Leaf of the package: imports ``configs`` alone. Triton and TensorRT are imported only by what
compiles or registers a kernel, so everything else here works with numpy.
"""
