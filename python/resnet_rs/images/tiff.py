"""① TIFF files that Pillow opens and reads wrongly: mended, or refused.

| kind | Pillow 10 to 13 |
|---|---|
| 16 bits, white is zero | black and white changed places |
| 16 bits, planes one after another, not compressed | the lower and upper bytes as pixels |
| signed numbers of 8 or 16 bits | read as unsigned, or of another range |
| the thumbnail of a camera's raw file | shown as if it were the picture |
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import ImageError
from .pillow_notes import Notes

if TYPE_CHECKING:
    from PIL import Image

_SUBFILE_TYPE, _BITS, _PHOTOMETRIC = 254, 258, 262
_PLANES, _SUB_IFDS, _SAMPLE_FORMAT = 284, 330, 339
_WHITE_IS_ZERO = 0
_ONE_PLANE_EACH = 2
_SIGNED = 2


def prepare(image: Image.Image, notes: Notes) -> None:
    """Refuse or mend a TIFF that is open, before its pixels are decoded.

    Raises:
        ImageError: its numbers have no agreed meaning as a picture.
    """
    tags: Any = image.tag_v2  # type: ignore[attr-defined]
    bits = _numbers(tags.get(_BITS, 1))
    if _SIGNED in _numbers(tags.get(_SAMPLE_FORMAT, 1)):
        raise ImageError(
            f"signed numbers of {bits[0]} bits have no agreed range of values: scale them to "
            "0..255 and save it with 8 bits"
        )
    if tags.get(_PLANES) == _ONE_PLANE_EACH and bits[0] == 16:
        _read_planes_of_16_bits(image)
    if _numbers(tags.get(_SUBFILE_TYPE, 0))[0] & 1 and _SUB_IFDS in tags:
        notes.add(
            f"the first picture in this TIFF is a thumbnail of {image.width} x {image.height} "
            "pixels, as in a camera's raw files: it is used, and the full picture is not read"
        )


def is_white_zero(image: Image.Image) -> bool:
    """True if a grey TIFF says that 0 is white; Pillow turns only 8 bits round."""
    tags: Any = getattr(image, "tag_v2", {})
    return bool(tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO)


def _read_planes_of_16_bits(image: Any) -> None:
    """State that each plane has 16 bits; Pillow takes 8 if they are not compressed."""
    ending = ";16B" if image.tag_v2.prefix == b"MM" else ";16L"
    tiles = []
    for tile in image.tile:
        codec, extents, offset, arguments = tile
        if codec == "raw" and len(arguments[0]) == 1:
            # A tuple in older versions of Pillow, a named one in newer.
            make = getattr(tile, "_make", tuple)
            tile = make((codec, extents, offset, (arguments[0] + ending, *arguments[1:])))
        tiles.append(tile)
    image.tile = tiles


def _numbers(value: Any) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, tuple) else (value,)
