"""Training: the built-in model from synthetic clips, or fine-tuning on a folder of videos.

``sam2rt train --help``. Data flow: batches (images and masks) -> episodes (prompts, tracking,
corrections) -> losses -> run (schedule, checkpoints, log). Imports benchmarks (synthetic clips),
export (the reference model) and runtime.
"""
