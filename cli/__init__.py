"""The command ``sam2rt``: the only room that knows click; imports every other room."""

from .main import main

__all__ = ["main"]
