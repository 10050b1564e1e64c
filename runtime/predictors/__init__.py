"""Images, videos, live streams and automatic masks, with the original's calls; imports backends,
media and what lies below them.
"""
