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
the three channels, alpha is dropped (as by Pillow's `convert("RGB")`), and 16-bit values keep their
upper 8 bits. Colour profiles are ignored, in CMYK as in RGB. `Decoding` has the choices.

Whatever may make a picture another one than the user sees is a warning that names it: damaged
metadata, an image in memory that still has an orientation tag, 16-bit values that are all small.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .arrays import check_array, check_planes
from .budget import Share
from .cut import Watched, load_callers, load_whole, tolerance
from .errors import ImageError, decoding
from .kinds import is_heic, unknown_kind
from .modes import converted, planes_of
from .options import DEFAULT, Decoding
from .pillow_notes import Notes, collected
from .source import opened

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
_START_BYTES = 256

# The metadata of an image in memory in which Pillow finds an orientation.
_ORIENTED = ("exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp")

# Formats whose readers start another program, or rest on a handler that Pillow does not have.
_NOT_DECODED = {
    "EPS": "PostScript is a program, and is not run: convert it to JPEG or PNG",
    "WMF": "a drawing (WMF or EMF): convert it to JPEG or PNG",
}


def open_rgb(source: ImageLike, **choices: Any) -> Image.Image:
    """Decode an image, apply its EXIF orientation and convert it to RGB.

    Args:
        source: an image of any kind in the module's list.
        choices: fields of `Decoding`, such as `background="white"` or `exif=False`.

    Returns:
        An image of mode RGB with at least one pixel. It may be `source` itself: do not draw on
        it.

    Raises:
        ImageError: not an image, damaged, cut off, too large, empty, or of a mode that has no RGB
            meaning.
        OSError: the file cannot be opened or read.
        TypeError: `source` is not an image, or is an array of another dtype than uint8.
        ValueError: the array does not have the shape of an image.
    """
    return open_as_rgb(source, Decoding(**choices))


def open_as_rgb(source: ImageLike, choices: Decoding) -> Image.Image:
    """Decode an image as `open_rgb` does, with choices that are checked already."""
    with Share() as share:
        return _open(source, "RGB", choices, share, None)


def open_planes(
    source: ImageLike,
    channels: int,
    choices: Decoding = DEFAULT,
    *,
    share: Share,
    least: int | None = None,
) -> list[Image.Image]:
    """Decode an image for a network of any number of channels.

    Args:
        source: an image of any kind in the module's list for that number.
        channels: the number that the network takes.
        choices: how pictures are decoded.
        share: takes the room that the pixels need, before they are decoded.
        least: the shortest side, in pixels, that a draft may have; None for the whole picture.

    Returns:
        One image of mode RGB for three channels, otherwise one of mode L for each channel.

    Raises:
        ImageError, OSError, TypeError, ValueError: as `open_rgb` does. TypeError also for two
            or more than three channels from anything but an array.
    """
    if channels == 3:
        return [_open(source, "RGB", choices, share, least)]
    if isinstance(source, np.ndarray):
        check_planes(source, channels)
        return planes_of(source)
    if channels == 1:
        return [_open(source, "L", choices, share, least)]
    raise TypeError(
        f"this network takes {channels} channels, and so uint8 arrays [height, width, {channels}] "
        f"or lists of them; got {type(source).__name__}"
    )


def _open(
    source: ImageLike, mode: str, choices: Decoding, share: Share, least: int | None
) -> Image.Image:
    """Decode an image, apply its EXIF orientation and convert it to `mode`, RGB or L."""
    from PIL import Image

    if isinstance(source, np.ndarray):
        return _from_array(source, choices)
    if isinstance(source, Image.Image):
        name = f"PIL image of mode {source.mode}"
        with decoding(name), collected() as notes:
            image = _from_pillow(source, mode, choices, share, notes)
    else:
        with opened(source) as (file, name), collected() as notes:
            image = _decode(file, name, mode, choices, share, least, notes)
    notes.show(name)
    return image


def _decode(
    file: BinaryIO,
    name: str,
    mode: str,
    choices: Decoding,
    share: Share,
    least: int | None,
    notes: Notes,
) -> Image.Image:
    """Decode a seekable file that nobody else uses."""
    start = file.read(_START_BYTES)
    if not start:
        raise ImageError(f"{name}: the file is empty (0 bytes)")
    with decoding(name), tolerance(truncated=choices.truncated):
        watched = Watched(file)
        image = _identified(watched, start)
        if least is not None and choices.draft:
            _shrink(image, least)
        deep = _has_16_bits(image)
        _prepare(image, choices, share, notes)
        load_whole(image, watched, truncated=choices.truncated)
        return _upright_in(mode, image, choices, notes, deep)


def _identified(file: Watched, start: bytes) -> Any:
    """Open a file with Pillow, which reads its header."""
    from PIL import Image, UnidentifiedImageError

    if is_heic(start):
        _register_heif()
    try:
        return Image.open(file)
    except UnidentifiedImageError as error:
        file.seek(0, os.SEEK_END)
        raise ImageError(unknown_kind(start, file.tell(), frozenset(Image.OPEN))) from error


_heif = threading.Lock()


def _register_heif() -> None:
    """Let Pillow read HEIC files, if the extra `heif` is installed."""
    from PIL import Image

    with _heif:
        if "HEIF" in Image.OPEN:
            return
        try:
            from pillow_heif import register_heif_opener
        except ImportError:
            return
        register_heif_opener()


def _shrink(image: Any, least: int) -> None:
    """Let a JPEG decode at a reduced size, with short side at least `least`."""
    short = min(image.size)
    if image.format in ("JPEG", "MPO") and short > least:
        image.draft(None, tuple(-(-side * least // short) for side in image.size))


def _prepare(image: Any, choices: Decoding, share: Share, notes: Notes) -> None:
    """Check a file whose header is read, and take room for its pixels.

    Raises:
        ImageError: the picture is too large, or of a kind that is not decoded.
    """
    pixels = image.width * image.height
    if pixels > choices.max_pixels:
        raise ImageError(
            f"{image.width} x {image.height} are {pixels} pixels, more than the bound of "
            f"{choices.max_pixels}. If you trust it, pass max_pixels={pixels} "
            f"(--max-pixels {pixels})"
        )
    if image.format in _NOT_DECODED:
        raise ImageError(_NOT_DECODED[image.format])
    if image.format == "TIFF":
        from .tiff import prepare

        prepare(image, notes)
    share.take(pixels)


def _from_pillow(
    image: Image.Image, mode: str, choices: Decoding, share: Share, notes: Notes
) -> Image.Image:
    """Take a PIL image of the caller: a file that may not be decoded yet, or an image in memory."""
    from PIL.ImageFile import ImageFile

    is_file = isinstance(image, ImageFile)
    deep = _has_16_bits(image)
    if is_file and getattr(image, "tile", None):
        _prepare(image, choices, share, notes)
        load_callers(image, truncated=choices.truncated)
    else:
        image.load()
    if not is_file and choices.exif and _orientation(image) != 1:
        notes.add(
            f"it is in memory, has the EXIF orientation {_orientation(image)}, and is turned by "
            "it. If its pixels were turned already, as by image.rotate(), which keeps the tag, it "
            "is turned once too often: call PIL.ImageOps.exif_transpose(image) right after "
            "Image.open, or load the model with exif=False"
        )
    return _upright_in(mode, image, choices, notes, deep)


def _has_16_bits(image: Any) -> bool:
    """True if a file that is not decoded yet has 16 bits a channel, of which Pillow keeps 8."""
    tiles = getattr(image, "tile", None) or []
    return image.mode[:1] != "I" and any(";16" in str(tile[3]) for tile in tiles[:1])


def _upright_in(mode: str, image: Any, choices: Decoding, notes: Notes, deep: bool) -> Image.Image:
    if 0 in image.size:
        raise ImageError(f"an empty image ({image.width} x {image.height} pixels)")
    white_is_zero = False
    if image.format == "TIFF":
        from .tiff import is_white_zero

        white_is_zero = is_white_zero(image)
    assert choices.background is None or isinstance(choices.background, tuple)
    result = converted(
        image,
        mode,
        notes,
        background=choices.background,
        white_is_zero=white_is_zero,
        deep=deep,
    )
    return _upright(result, _orientation(image)) if choices.exif else result


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 (upright) to 8."""
    try:
        found = int(image.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:
        # Damaged metadata does not make the pixels wrong: take them as they are, as viewers do.
        return 1
    return found if 1 <= found <= 8 else 1


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
    if undo is None:
        return image
    turned = image.transpose(undo)
    # Its pixels are upright now, so it must not be turned again.
    for key in _ORIENTED:
        turned.info.pop(key, None)
    return turned


def _from_array(array: NDArray[np.uint8], choices: Decoding) -> Image.Image:
    from PIL import Image

    check_array(array)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    elif array.ndim == 3 and choices.background is None:
        array = array[..., :3]
    image = Image.fromarray(np.ascontiguousarray(array))
    assert choices.background is None or isinstance(choices.background, tuple)
    return converted(image, "RGB", Notes(), background=choices.background)
