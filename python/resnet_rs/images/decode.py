"""① Decode an image: upright, RGB, or greyscale for a network of one channel.

An image may be given as

- a path (`str` or `os.PathLike`),
- the bytes of an image file (`bytes`, `bytearray`, `memoryview`),
- a binary file object: a seekable one is read from its start and put back where it stood,
- a `PIL.Image.Image`,
- a uint8 array: `[height, width, 3]` RGB, `[height, width]` or `[height, width, 1]` grey,
  `[height, width, 4]` RGBA.

A network with another number of channels takes uint8 arrays with that number: `[height, width]` or
`[height, width, 1]` for one channel, `[height, width, channels]` for two or for more than three. A
network with one channel also takes every other kind of image, converted by Pillow's
`convert("L")`.

Files and images of the caller stay open and unchanged. The EXIF orientation is applied, so that
pixels come out as a viewer shows them; torchvision ignores that tag. Grey values are repeated over
the three channels, alpha is dropped (as by Pillow's `convert("RGB")`), CMYK is converted without a
colour profile, and 16-bit values keep their upper 8 bits.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import Image

    ImageLike: TypeAlias = (
        str
        | os.PathLike[str]
        | bytes
        | bytearray
        | memoryview
        | BinaryIO
        | Image.Image
        | NDArray[np.uint8]
    )

_EXIF_ORIENTATION = 0x0112
_EXPECTED = (
    "an image (a path, bytes, a binary file object, a PIL image or a uint8 array "
    "[height, width, 3]) or a list of images"
)


class ImageError(ValueError):
    """An image cannot be decoded or used: the message names the image and the cause.

    A file that cannot be opened at all raises the operating system's own error instead
    (`FileNotFoundError`, `IsADirectoryError`, `PermissionError`, ...).
    """


def open_rgb(source: ImageLike) -> Image.Image:
    """Decode an image, apply its EXIF orientation and convert it to RGB.

    Args:
        source: an image of any kind in the module's list.

    Returns:
        An image of mode RGB with at least one pixel. It may be `source` itself: do not draw on
        it.

    Raises:
        ImageError: not an image, damaged, empty, or of a mode that has no RGB meaning.
        OSError: the file cannot be opened or read.
        TypeError: `source` is not an image, or is an array of another dtype than uint8.
        ValueError: the array does not have the shape of an image.
    """
    return _open(source, "RGB")


def open_planes(source: ImageLike, channels: int) -> list[Image.Image]:
    """Decode an image for a network of any number of channels.

    Args:
        source: an image of any kind in the module's list for that number.
        channels: the number that the network takes.

    Returns:
        One image of mode RGB for three channels, otherwise one of mode L for each channel.

    Raises:
        ImageError, OSError, TypeError, ValueError: as `open_rgb` does. TypeError also for two
            or more than three channels from anything but an array.
    """
    from PIL import Image

    if channels == 3:
        return [_open(source, "RGB")]
    if isinstance(source, np.ndarray):
        _check_planes(source, channels)
        planes = source if source.ndim == 3 else source[..., None]
        return [Image.fromarray(np.ascontiguousarray(planes[..., i])) for i in range(channels)]
    if channels == 1:
        return [_open(source, "L")]
    raise TypeError(
        f"this network takes {channels} channels, and so uint8 arrays [height, width, {channels}] "
        f"or lists of them; got {type(source).__name__}"
    )


def _open(source: ImageLike, mode: str) -> Image.Image:
    """Decode an image, apply its EXIF orientation and convert it to `mode`, RGB or L."""
    from PIL import Image

    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, Image.Image):
        with _decoding(f"PIL image of mode {source.mode}"):
            return _upright_in(mode, source)
    if isinstance(source, (bytes, bytearray, memoryview)):
        data = bytes(source)
        return _decode(io.BytesIO(data), f"image of {len(data)} bytes", mode)
    if isinstance(source, (str, os.PathLike)):
        return _from_path(source, mode)
    if hasattr(source, "read"):
        return _from_file(source, mode)
    raise TypeError(f"expected {_EXPECTED}; got {type(source).__name__}")


def _from_path(path: str | os.PathLike[str], mode: str) -> Image.Image:
    name = os.fsdecode(path)
    if name.startswith(("http://", "https://")):
        raise ImageError(
            f"{name!r}: a URL, and images are not downloaded: fetch it and pass the bytes"
        )
    with open(path, "rb") as file:
        return _decode(file, repr(name), mode)


def _from_file(file: BinaryIO, mode: str) -> Image.Image:
    name = f"file object {getattr(file, 'name', type(file).__name__)!r}"
    not_binary = f"{name}: open in text mode; open it with mode 'rb'"
    if isinstance(file, io.TextIOBase):
        raise TypeError(not_binary)
    try:
        position: int | None = file.tell()
        file.seek(0)
    except (AttributeError, OSError):
        position = None  # a pipe or a socket: it can only be read onwards
    except ValueError as error:
        raise ImageError(f"{name}: closed; open it again, or pass its path") from error
    data: object = file.read()
    if position is not None:
        file.seek(position)
    if not isinstance(data, bytes):
        raise TypeError(not_binary)
    return _decode(io.BytesIO(data), name, mode)


def _decode(file: BinaryIO, name: str, mode: str) -> Image.Image:
    """Decode a seekable file that nobody else uses."""
    from PIL import Image

    if not file.read(1):
        raise ImageError(f"{name}: the file is empty (0 bytes)")
    with _decoding(name):
        return _upright_in(mode, Image.open(file))


@contextmanager
def _decoding(name: str) -> Iterator[None]:
    """Turn Pillow's errors about a bad image into `ImageError`."""
    from PIL import Image, UnidentifiedImageError

    try:
        yield
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from None
    except MemoryError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(f"{name}: no image in a format that Pillow knows") from error
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
        raise ImageError(f"{name}: cannot be decoded (truncated or damaged?): {error}") from error


def _upright_in(mode: str, image: Image.Image) -> Image.Image:
    image.load()
    if 0 in image.size:
        raise ImageError(f"an empty image ({image.width} x {image.height} pixels)")
    return _upright(_converted(image, mode), _orientation(image))


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 (upright) to 8."""
    try:
        return int(image.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:
        # Damaged metadata does not make the pixels wrong: take them as they are, as viewers do.
        return 1


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    from PIL.Image import Transpose

    undo = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }.get(orientation)
    return image if undo is None else image.transpose(undo)


def _converted(image: Image.Image, to: str) -> Image.Image:
    """Convert an image to mode `to`, RGB or L."""
    mode = image.mode
    if mode == to:
        return image
    if mode == "I" or mode.startswith("I;16"):
        return _from_16_bit(image).convert(to)
    if mode == "F":
        raise ImageError(
            "mode F (32-bit float) has no agreed range of values: scale it to 0..255 and convert "
            "it to mode L first"
        )
    if mode in ("La", "RGBa"):  # colours multiplied by alpha: divide before alpha is dropped
        image = image.convert(mode.upper())
    elif mode == "P" and "transparency" in image.info:
        # The same colours, without the warning that Pillow gives when it drops the alpha.
        image = image.convert("RGBA")
    return image.convert(to)


def _from_16_bit(image: Image.Image) -> Image.Image:
    """Keep the upper 8 of 16 bits: Pillow's own conversion clips, which whitens the image."""
    from PIL import Image

    values = np.asarray(image)
    if values.min() < 0 or values.max() > 0xFFFF:
        raise ImageError(
            f"mode {image.mode} is taken as 16-bit grey (0..65535), but the values go from "
            f"{values.min()} to {values.max()}: scale it to 0..255 and convert it to mode L first"
        )
    return Image.fromarray((values >> 8).astype(np.uint8))


def _from_array(array: NDArray[np.uint8]) -> Image.Image:
    from PIL import Image

    _check_array(array)
    if array.ndim == 3:
        array = array[..., 0] if array.shape[2] == 1 else array[..., :3]
    return _converted(Image.fromarray(np.ascontiguousarray(array)), "RGB")


def _check_array(array: NDArray[np.uint8]) -> None:
    """Check that an array is an image for three channels: RGB, grey or RGBA."""
    shape = _checked_shape(array, 3)
    if array.ndim == 2:
        return
    if shape[0] == 3 and shape[2] == 3:
        raise ValueError(
            f"shape {shape} may be [height, width, 3] or [3, height, width]: pass "
            "PIL.Image.fromarray(array) with the channels last to say which"
        )
    if shape[2] not in (1, 3, 4):
        if shape[0] in (1, 3, 4):
            raise ValueError(
                f"an image array must be [height, width, 3]; shape {shape} has its channels "
                "first: pass array.transpose(1, 2, 0)"
            )
        raise ValueError(f"an image array must be [height, width, 3]; got shape {shape}")


def _check_planes(array: NDArray[np.uint8], channels: int) -> None:
    """Check that an array is an image for a number of channels other than three."""
    shape = _checked_shape(array, channels)
    if shape[2:] == [channels] or (channels == 1 and array.ndim == 2):
        return
    expected = f"this network takes image arrays [height, width, {channels}]"
    if array.ndim == 3 and shape[0] == channels:
        raise ValueError(
            f"{expected}; shape {shape} has its channels first: pass array.transpose(1, 2, 0)"
        )
    hint = ". Pass PIL.Image.fromarray(array), which is made grey" if channels == 1 else ""
    raise ValueError(f"{expected}; got shape {shape}{hint}")


def _checked_shape(array: NDArray[np.uint8], channels: int) -> list[int]:
    """Return the shape of a uint8 array with two or three axes, none of them empty."""
    shape = list(array.shape)
    if array.dtype != np.uint8:
        pixels = "RGB pixels" if channels == 3 else "pixels"
        raise TypeError(
            f"an image array must be uint8 {pixels} (0..255); got {array.dtype} {shape}. "
            "Values that are normalised already go to forward()"
        )
    if array.ndim not in (2, 3):
        raise ValueError(f"an image array must be [height, width, {channels}]; got shape {shape}")
    if 0 in shape:
        raise ImageError(f"an image array must hold at least one pixel; got shape {shape}")
    return shape
