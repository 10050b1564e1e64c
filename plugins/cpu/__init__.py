"""Operators for processors with bfloat16 units: C++ for ONNX Runtime, compiled where they run.

``operators`` names them for the exporter, ``library`` compiles and finds them for the runtime; it
imports nothing but configs.
"""
