"""① Images: from a file to the pixels that a network takes."""

from .decode import ImageError, open_rgb

__all__ = ["ImageError", "open_rgb"]
