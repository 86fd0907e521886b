"""The engine: images in, results out, one at a time or many."""

from .streaming import Result, Stream, stream

__all__ = ["Result", "Stream", "stream"]
