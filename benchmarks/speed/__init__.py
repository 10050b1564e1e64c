"""Compare systems on the same work, frame by frame; imports evaluation's metrics, synthetic clips,
export and runtime.
"""
