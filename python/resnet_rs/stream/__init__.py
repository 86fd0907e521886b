"""The engine: images in, results out, one at a time or many."""

from ..results import Result
from .iterator import Stream, stream

__all__ = ["Result", "Stream", "stream"]
