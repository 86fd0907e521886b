"""Pictures to files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ...replacing import replacing

if TYPE_CHECKING:
    from PIL import Image

# The best quality that still makes photos small; colours at full size keep letters sharp.
_JPEG = {"quality": 90, "subsampling": 0}


def save(picture: Image.Image, path: str | os.PathLike[str]) -> None:
    """Write a picture to a file, which has its old content or the new one at any time.

    Args:
        picture: the picture.
        path: the file; its suffix says the format, such as `.png` or `.jpg`.

    Raises:
        OSError: the file cannot be written; the error names it.
        ValueError: Pillow knows no format of that suffix.
    """
    suffix = os.path.splitext(os.fspath(path))[1].lower()
    options: dict[str, Any] = _JPEG if suffix in (".jpg", ".jpeg") else {}
    with replacing(path) as unfinished:
        picture.save(unfinished, **options)
