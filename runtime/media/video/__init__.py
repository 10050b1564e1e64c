"""Video files, live streams and pipes through PyAV (FFmpeg), which no other room uses; imports
frames, packages and what lies below them.
"""
