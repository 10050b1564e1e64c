"""Video files, live streams and pipes through PyAV (FFmpeg), the only room that uses it; imports
the base of all frame sources and what lies below the room above.
"""
