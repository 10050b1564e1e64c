"""Frames to the model's input and logits to masks, on the host or on a GPU; imports gpu and
what lies below it.
"""
