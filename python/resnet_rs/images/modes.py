"""① From Pillow's modes to RGB or grey of 8 bits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import ImageError
from .options import Color
from .pillow_notes import Notes

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

# Files whose numbers have 16 bits where Pillow gives 32; any other mode I has no agreed range.
_FORMATS_OF_16_BITS = ("JPEG2000", "PNG", "PPM")
_NARROW_SHARE = 16

_SCALE = "scale it to 0..255 and convert it to mode L first"


def converted(
    image: Image.Image,
    to: str,
    notes: Notes,
    *,
    background: Color | None = None,
    white_is_zero: bool = False,
    deep: bool = False,
) -> Image.Image:
    """Convert a decoded image.

    Args:
        image: an image of any mode.
        to: RGB or L.
        notes: gets a warning if the values fill a small part of their range.
        background: the colour under transparent pixels; None to drop transparency.
        white_is_zero: True if 16-bit grey is stored so.
        deep: True if the file's channels have 16 bits, and Pillow has kept the upper 8.

    Returns:
        An image of mode `to`, maybe `image` itself.

    Raises:
        ImageError: the mode has no agreed range of values.
    """
    if deep:
        _warn_if_narrow(image, notes)
    if background is not None and _is_transparent(image):
        return _on(background, image, to, notes, white_is_zero)
    mode = image.mode
    if mode == "I" or mode.startswith("I;16"):
        return _from_16_bits(image, notes, white_is_zero).convert(to)
    if mode == "F":
        raise ImageError(f"mode F (32-bit float) has no agreed range of values: {_SCALE}")
    if mode in ("La", "RGBa"):  # colours multiplied by alpha: divide before alpha is dropped
        image = image.convert(mode.upper())
    elif mode == "P" and "transparency" in image.info:
        # The same colours, without the warning that Pillow gives when it drops the alpha.
        image = image.convert("RGBA")
    return image if image.mode == to else image.convert(to)


def _is_transparent(image: Image.Image) -> bool:
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        return True
    keyed = image.mode in ("1", "L", "P", "RGB", "I") or image.mode.startswith("I;16")
    return keyed and "transparency" in image.info


def _on(
    background: Color, image: Image.Image, to: str, notes: Notes, white_is_zero: bool
) -> Image.Image:
    """Lay an image over a colour."""
    from PIL import Image as pillow

    if image.mode in ("La", "RGBa"):
        image = image.convert(image.mode.upper())
    if image.mode == "I" or image.mode.startswith("I;16"):
        # One value of 16 bits is transparent.
        opaque = np.asarray(image) != image.info["transparency"]
        image = _from_16_bits(image, notes, white_is_zero).convert("RGB")
        image.putalpha(pillow.fromarray(opaque.astype(np.uint8) * 255))
    elif image.mode != "RGBA":
        image = image.convert("RGBA")
    under = pillow.new("RGBA", image.size, (*background, 255))
    return pillow.alpha_composite(under, image).convert("RGB").convert(to)


def _from_16_bits(image: Image.Image, notes: Notes, white_is_zero: bool) -> Image.Image:
    """Keep the upper 8 of 16 bits: Pillow's own conversion clips, which whitens the image."""
    from PIL import Image as pillow

    if image.mode == "I" and image.format not in _FORMATS_OF_16_BITS:
        values = np.asarray(image)
        raise ImageError(
            "mode I (32-bit integers) has no agreed range of values, and these go from "
            f'{values.min()} to {values.max()}. Convert it first: image.convert("L") takes 0 to '
            '255, and image.convert("I;16") 0 to 65535'
        )
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 0xFFFF:
        raise ImageError(
            f"mode {image.mode} is taken as 16-bit grey (0..65535), but the values go from "
            f"{values.min()} to {values.max()}: {_SCALE}"
        )
    lowest, highest = int(values.min()), int(values.max())
    if lowest < highest and highest - lowest < 0x10000 // _NARROW_SHARE:
        notes.add(_narrow(f"from {lowest} to {highest}"))
    if white_is_zero:
        values = 0xFFFF - values.astype(np.int32)
    return pillow.fromarray((values >> 8).astype(np.uint8))


def _warn_if_narrow(image: Image.Image, notes: Notes) -> None:
    colors = {"L": 1, "LA": 1, "RGB": 3, "RGBA": 3}.get(image.mode)
    if colors is None:
        return
    extrema: Any = image.getextrema()
    bands = extrema if isinstance(extrema[0], tuple) else (extrema,)
    highest = max(high for _, high in bands[:colors])
    if highest < 256 // _NARROW_SHARE:
        notes.add(_narrow(f"up to {256 * highest + 255} at most"))


def _narrow(values: str) -> str:
    return (
        f"its 16-bit values go {values}, which is less than a sixteenth of 0..65535, so the "
        "picture is nearly of one colour. If they have fewer bits, scale them: multiply 12-bit "
        "values by 16, and save the picture anew"
    )


def planes_of(array: NDArray[np.uint8]) -> list[Image.Image]:
    """One grey image for each channel of `[height, width, channels]` or `[height, width]`."""
    from PIL import Image as pillow

    planes = array if array.ndim == 3 else array[..., None]
    return [pillow.fromarray(np.ascontiguousarray(planes[..., i])) for i in range(planes.shape[2])]
