"""Frames from files, folders, arrays and iterables, and drawings of results; imports tracking and
what lies below it.
"""
