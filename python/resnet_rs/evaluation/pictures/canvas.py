"""A page to draw on with Pillow: places in points, twice as many pixels, letters, smooth lines."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from PIL import Image, ImageFont

Colour: TypeAlias = "tuple[int, int, int]"

TEXT: Colour = (31, 41, 51)
QUIET: Colour = (97, 110, 124)
LINE: Colour = (203, 210, 217)
PALE: Colour = (238, 241, 244)
WHITE: Colour = (255, 255, 255)
BLUE: Colour = (20, 104, 178)
RED: Colour = (200, 50, 20)

SCALE = 2
"""Pixels a point, so that pictures are sharp on screens with small pixels."""

# A line is drawn so many times larger and then made smaller: Pillow draws hard edges.
_SMOOTH = 4
# Fonts for letters that Pillow's own font lacks, such as Chinese ones. The first that the system
# has, and that has all letters of a text, is taken.
_OTHER_FONTS = (
    "DejaVuSans.ttf",
    "NotoSansCJK-Regular.ttc",
    "NotoSansCJKsc-Regular.otf",
    "wqy-microhei.ttc",
    "PingFang.ttc",
    "Arial Unicode.ttf",
    "msyh.ttc",
    "YuGothM.ttc",
    "malgun.ttf",
    "NotoSans-Regular.ttf",
)
_NO_LETTER = "\U0010fffd"


class Canvas:
    """A white page.

    All places and sizes are in points from the upper left corner; a point is two pixels.

    Args:
        width: in points.
        height: in points.

    Attributes:
        image: the picture, RGB.
    """

    def __init__(self, width: float, height: float) -> None:
        from PIL import Image, ImageDraw

        self.image = Image.new("RGB", (pixels(width), pixels(height)), WHITE)
        self._draw = ImageDraw.Draw(self.image)

    def text(
        self,
        left: float,
        top: float,
        text: str,
        *,
        size: float = 11,
        colour: Colour = TEXT,
        anchor: str = "la",
        width: float | None = None,
    ) -> None:
        """Write one line of text.

        Args:
            left: the place of the anchor.
            top: the place of the anchor.
            text: the text; line ends in it become blanks.
            size: the height of the letters.
            colour: their colour.
            anchor: Pillow's name of the point of the text that stands at the place: `la` is the
                upper left corner, `mm` the centre, `rm` the middle of the right side.
            width: the room for the text; a longer one is cut. None for any.
        """
        text = shortened(text, size, width)
        place = (pixels(left), pixels(top))
        self._draw.text(place, text, fill=colour, font=font_for(text, size), anchor=anchor)

    def turned(
        self,
        centre: float,
        bottom: float,
        text: str,
        *,
        size: float = 11,
        colour: Colour = TEXT,
        width: float | None = None,
    ) -> None:
        """Write one line of text upwards, from `bottom`, with its middle at `centre`."""
        from PIL import Image, ImageDraw

        text = shortened(text, size, width)
        font = font_for(text, size)
        long, high = pixels(text_width(text, size)) + 2, pixels(size * 1.5)
        mask = Image.new("L", (max(long, 1), high), 0)
        ImageDraw.Draw(mask).text((0, high // 2), text, fill=255, font=font, anchor="lm")
        mask = mask.transpose(Image.Transpose.ROTATE_90)
        place = (pixels(centre) - high // 2, pixels(bottom) - mask.height)
        self.image.paste(colour, place, mask)

    def box(
        self,
        left: float,
        top: float,
        wide: float,
        high: float,
        *,
        fill: Colour | None = None,
        outline: Colour | None = None,
    ) -> None:
        """Draw a rectangle; its outline is a pixel wide."""
        first = pixels(left), pixels(top)
        last = pixels(left + wide) - 1, pixels(top + high) - 1
        # A line is a pixel wide at least, wherever it falls.
        corners = (*first, max(first[0], last[0]), max(first[1], last[1]))
        self._draw.rectangle(corners, fill=fill, outline=outline)

    def paste(self, picture: Image.Image, left: float, top: float) -> None:
        """Put a picture at a place, a pixel of it on a pixel of the page."""
        self.image.paste(picture, (pixels(left), pixels(top)))

    def lines(
        self, runs: Sequence[Sequence[tuple[float, float]]], colour: Colour, width: float = 1.6
    ) -> None:
        """Draw lines through points with smooth edges; a run of one point is a dot.

        Args:
            runs: points for each line.
            colour: their colour.
            width: the width of the lines.
        """
        from PIL import Image, ImageDraw

        places = [point for run in runs for point in run]
        if not places:
            return
        margin = 3 * width
        left = pixels(min(x for x, _ in places) - margin)
        top = pixels(min(y for _, y in places) - margin)
        size = (
            pixels(max(x for x, _ in places) + margin) - left,
            pixels(max(y for _, y in places) + margin) - top,
        )
        mask = Image.new("L", (size[0] * _SMOOTH, size[1] * _SMOOTH), 0)
        draw = ImageDraw.Draw(mask)
        thick = width * SCALE * _SMOOTH
        for run in runs:
            points = [((x * SCALE - left) * _SMOOTH, (y * SCALE - top) * _SMOOTH) for x, y in run]
            radius = thick / 2 if len(points) > 1 else thick * 1.3
            if len(points) > 1:
                draw.line(points, fill=255, width=round(thick), joint="curve")
            for x, y in (points[0], points[-1]):
                draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
        self.image.paste(colour, (left, top), mask.resize(size, Image.Resampling.BOX))


def pixels(points: float) -> int:
    """Points to the nearest number of pixels."""
    return round(points * SCALE)


def text_width(text: str, size: float) -> float:
    """The width of a text in points."""
    width: float = font_for(text, size).getlength(text)
    return width / SCALE


def shortened(text: str, size: float, width: float | None) -> str:
    """Cut a text so that it fits into a width, with dots in place of the rest."""
    text = " ".join(text.split())
    if width is None or text_width(text, size) <= width:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if text_width(f"{text[:middle]}...", size) <= width:
            low = middle
        else:
            high = middle - 1
    return f"{text[:low].rstrip()}..."


def mix(colour: Colour, share: float) -> Colour:
    """A colour between white (0) and `colour` (1)."""
    red, green, blue = (round(255 + (part - 255) * share) for part in colour)
    return red, green, blue


def font_for(text: str, size: float) -> ImageFont.FreeTypeFont:
    """A font that has the letters of a text: Pillow's own one, or one of the system.

    Letters that no such font has are drawn as boxes.
    """
    strange = "".join(sorted({letter for letter in text if not letter.isascii()}))
    name = _font_with(strange) if strange else None
    font: ImageFont.FreeTypeFont = _font(name, pixels(size))
    return font


@cache
def _font(name: str | None, size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size) if name is None else ImageFont.truetype(name, size)


@cache
def _font_with(letters: str) -> str | None:
    """The name of a font that has letters; None for Pillow's own, also if there is no other."""
    for name in (None, *_OTHER_FONTS):
        try:
            font = _font(name, 16)
        except OSError:
            continue
        missing = _shape(font, _NO_LETTER)
        if all(_shape(font, letter) != missing for letter in letters):
            return name
    return None


def _shape(font: Any, letter: str) -> tuple[Any, bytes]:
    mask = font.getmask(letter)
    return mask.size, bytes(mask)
