"""`ImageError`, and Pillow's errors as such."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class ImageError(ValueError):
    """An image cannot be decoded or used: the message names the image and the cause.

    A file that cannot be opened at all raises the operating system's own error instead
    (`FileNotFoundError`, `IsADirectoryError`, `PermissionError`, ...).
    """


@contextmanager
def decoding(name: str) -> Iterator[None]:
    """Turn Pillow's errors about a bad image into `ImageError`.

    Args:
        name: the image's name, with which messages begin.
    """
    from PIL import Image

    try:
        yield
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from error.__cause__
    except MemoryError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError(
            f"{name}: refused for its size. {error} If you trust it, raise "
            "PIL.Image.MAX_IMAGE_PIXELS"
        ) from error
    # Pillow's decoders raise many kinds of errors on damaged data: OSError, SyntaxError,
    # struct.error, zlib.error, IndexError and more. Only a failing disk has an errno.
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        if "raw mode" in str(error):
            raise ImageError(
                f"{name}: a layout of pixels that Pillow does not decode ({error}): save it with "
                "8 bits a channel, without extra bands"
            ) from error
        raise ImageError(f"{name}: cannot be decoded (truncated or damaged?): {error}") from error
