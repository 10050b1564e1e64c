"""Triton Inference Server: its model repository, and the models that its Python backend runs;
imports sessions and runtime, no library of the server.
"""
