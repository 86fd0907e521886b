"""① Images: from a file to the pixels that a network takes."""

from .decode import open_rgb
from .errors import ImageError
from .options import Decoding

__all__ = ["Decoding", "ImageError", "open_rgb"]
