"""Training: the built-in model from synthetic clips, or fine-tuning on a folder of videos.

``python -m sam2rt.benchmarks.training --help``. Data flow: batches (pictures and masks) ->
episodes (prompts, tracking, corrections) -> losses -> run (schedule, checkpoints, log).
"""
