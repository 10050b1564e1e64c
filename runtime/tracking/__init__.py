"""Which memories, which objects and which graph calls make a frame's result; imports pixels and
what lies below it, no backend and no reader of files.
"""
