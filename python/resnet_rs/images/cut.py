"""① Files that are cut off: an error, or accepted if the caller asks for it.

Pillow has one switch for the process, `ImageFile.LOAD_TRUNCATED_IMAGES`. If any library has set it,
a photo that is half there decodes to half a photo above grey or black rows, without a word. So the
file that Pillow reads from is watched: a decoder that asks for more at its end lacked something.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from .errors import ImageError


class Watched:
    """A file that notices if somebody reads on at its end.

    Attributes:
        ended: True once a read at the end gave nothing.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._read = file.read
        self.ended = False

    def read(self, size: int = -1) -> bytes:
        """Read as the file does."""
        data = self._read(size)
        if not data and size > 0:
            self.ended = True
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


# These decode while the header is read.
_DECODED_AT_ONCE = ("ICO",)
_START_OF_CODESTREAM, _END_OF_CODESTREAM = b"\xff\x4f\xff\x51", b"\xff\xd9"


def load_whole(image: Any, file: Watched, *, truncated: bool) -> None:
    """Decode an image that was opened from `file`.

    Args:
        image: a PIL image whose header is read.
        file: the file, watched since before.
        truncated: True to accept a file that is cut off.

    Raises:
        ImageError: the file is cut off, and `truncated` is False.
    """
    if image.format not in _DECODED_AT_ONCE:
        file.ended = False
    image.load()
    if truncated or not _is_cut(image.format, file):
        return
    raise ImageError(
        "the file is cut off, and the rest of the picture would be grey or black. To accept "
        "such files, pass truncated=True (--truncated)"
    )


def load_callers(image: Any, *, truncated: bool) -> None:
    """Decode an image that the caller has opened with Pillow.

    Args:
        image: a PIL image whose pixels are in a file still.
        truncated: True to accept a file that is cut off.

    Raises:
        ImageError: the file is cut off, and `truncated` is False.
    """
    from PIL import ImageFile

    if image.fp is None or truncated or not ImageFile.LOAD_TRUNCATED_IMAGES:
        with tolerance(truncated=truncated):
            image.load()
        return
    file = image.fp
    readers = [image]
    if getattr(image, "png", None) is not None:  # it has the file for itself
        readers.append(image.png)
    watched = Watched(file)
    for reader in readers:
        reader.fp = watched
    try:
        load_whole(image, watched, truncated=False)
    finally:
        for reader in readers:
            if reader.fp is watched:
                reader.fp = file


def _is_cut(kind: str | None, file: Watched) -> bool:
    if kind == "JPEG2000":
        return _lacks_its_end(file)
    if kind == "PPM" and file.ended:
        # The decoder of decimal numbers reads on in any case, and refuses a file that is cut off.
        file.seek(0)
        return file.read(2) not in (b"P1", b"P2", b"P3")
    return file.ended


def _lacks_its_end(file: Watched) -> bool:
    """True if a JPEG 2000 file is cut off, and Pillow's switch has let it pass."""
    from PIL import ImageFile

    if not ImageFile.LOAD_TRUNCATED_IMAGES:
        return False
    file.seek(0)
    data = file.read()
    # The mark of its end is no part of the coded data.
    return data.find(_END_OF_CODESTREAM, data.find(_START_OF_CODESTREAM)) < 0


@contextmanager
def tolerance(*, truncated: bool) -> Iterator[None]:
    """Open and decode inside: if `truncated`, Pillow accepts files that are cut off."""
    if truncated:
        with _tolerated():
            yield
    else:
        yield


_lock = threading.Lock()
_tolerating = 0
_before = False


@contextmanager
def _tolerated() -> Iterator[None]:
    """Set Pillow's switch while at least one thread is inside."""
    global _tolerating, _before
    from PIL import ImageFile

    with _lock:
        if not _tolerating:
            _before = ImageFile.LOAD_TRUNCATED_IMAGES
            ImageFile.LOAD_TRUNCATED_IMAGES = True
        _tolerating += 1
    try:
        yield
    finally:
        with _lock:
            _tolerating -= 1
            if not _tolerating:
                ImageFile.LOAD_TRUNCATED_IMAGES = _before
