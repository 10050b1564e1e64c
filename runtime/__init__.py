"""From a bundle to masks: sessions, trackers, predictors, and what the commands do to a folder;
imports plugins and configs, never torch, onnx, click or a builder of engines.
"""
