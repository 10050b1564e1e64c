"""From a checkpoint to a proved bundle, and from a bundle to proved engines; imports runtime and
what lies below it.

Of the rooms checkpoint, model and graphs know torch and onnx, and here what joins them; proof and
engines are numpy alone, so that they run where engines do.
"""
