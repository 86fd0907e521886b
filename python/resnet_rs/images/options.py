"""`Decoding`: every choice about how a picture becomes pixels, stated once.

`Options` inherits these fields, so a model takes them as arguments and every command that loads a
model has their flags. `open_rgb` takes them for a single picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from .. import arguments
from ..option_fields import Flag, check_fields, option

Color: TypeAlias = "tuple[int, int, int]"

MAX_PIXELS = 1 << 27
"""The default of `max_pixels`: 134 million, such as 13,000 x 10,300."""


def _background(name: str, value: Any) -> Color:
    """Check a colour: a name or `#rrggbb`, as Pillow reads it, or three numbers from 0 to 255."""
    expected = f'{name} must be a colour, such as "white", "#rrggbb" or (255, 255, 255)'
    if isinstance(value, str):
        from PIL.ImageColor import getrgb

        try:
            color: tuple[int, ...] = getrgb(value)
        except ValueError:
            raise ValueError(f"{expected}; got {value!r}") from None
    else:
        try:
            color = tuple(arguments.count(name, part, least=0) for part in value)
        except (TypeError, ValueError):
            raise TypeError(f"{expected}; got {value!r}") from None
    if len(color) != 3 or max(color) > 255:
        raise ValueError(f"{expected}, without a fourth value; got {value!r}")
    red, green, blue = color
    return red, green, blue


def _max_pixels(name: str, value: Any) -> int:
    return arguments.count(name, value, most=None)


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """The choices about how a picture becomes pixels: checked, never changed.

    Raises:
        TypeError, ValueError: a value of the wrong type or out of range; the message begins with
            its name.
    """

    exif: bool = option(
        True,
        "apply the orientation of a picture's EXIF data, as viewers do; False leaves pixels as the "
        "file has them, as torchvision does.",
        check=arguments.flag,
        flag=Flag("leave pictures as they are stored, whatever their EXIF data say", kind="off"),
    )
    background: str | Color | None = option(
        None,
        'the colour under transparent pixels: a name, "#rrggbb" or `(red, green, blue)`. By '
        "default transparency is dropped, and pixels show the colour that was hidden under it.",
        check=_background,
        flag=Flag(
            "the colour under transparent pixels, such as white or #ffffff (default: drop the "
            "transparency)",
            metavar="COLOR",
        ),
    )
    max_pixels: int = option(
        MAX_PIXELS,
        "the most pixels that a picture may have, by default 134,217,728 (2^27); it is checked "
        "before pixels are decoded. Pillow's own limit, `PIL.Image.MAX_IMAGE_PIXELS`, also holds.",
        check=_max_pixels,
        flag=Flag(
            "refuse larger pictures (default: 134217728, which take 540 MB each)",
            metavar="N",
            kind="count",
        ),
    )
    truncated: bool = option(
        False,
        "accept pictures whose file is cut off; the missing rows are grey or black. Otherwise they "
        "are an error, whatever `PIL.ImageFile.LOAD_TRUNCATED_IMAGES` says.",
        check=arguments.flag,
        flag=Flag("accept pictures whose file is cut off, with grey or black rows", kind="on"),
    )
    draft: bool = option(
        False,
        "decode large JPEG files at a half, a fourth or an eighth of their size, at least twice "
        "the size that they are resized to: faster, in less memory, with slightly other pixels.",
        check=arguments.flag,
        flag=Flag(
            "decode large JPEG files at a reduced size: faster, with slightly other results",
            kind="on",
        ),
    )

    def __post_init__(self) -> None:
        check_fields(self)


DEFAULT = Decoding()
"""Every choice at its default."""
