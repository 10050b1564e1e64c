"""GPU kernels, each beside its numpy reference, and the one custom operator of our graphs; imports
configs alone.

``kernel`` is the vocabulary, ``registry`` the table of all kernels on top of it. Files that end in
``_kernels`` hold Triton code, which ``compiling`` alone loads; ``tensorrt_plugins`` is handed the
modules of TensorRT. So everything else here works with numpy.
"""
