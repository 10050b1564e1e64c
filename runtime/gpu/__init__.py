"""Memory, streams, kernels and arrays on a GPU; imports bank, arrays, plugins and configs."""
