"""① The kinds of files and texts that are no picture here, each with a name and a remedy."""

from __future__ import annotations

import re
from collections.abc import Container
from typing import Literal

_HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
_CONVERT = "convert it to JPEG or PNG"

# The first bytes of a file, in small letters, and a clause about it.
_STARTS = (
    (b"<?xml", f"an XML file, such as SVG: {_CONVERT}"),
    (b"<svg", f"SVG, which is a drawing: {_CONVERT}"),
    (b"<!doctype html", "a web page, such as the answer to a download that failed"),
    (b"<html", "a web page, such as the answer to a download that failed"),
    (b"version https://git-lfs", "a git-lfs pointer: run `git lfs pull`"),
    (b"%pdf-", f"a PDF: {_CONVERT}, page by page"),
    (b"\xff\x0a", f"JPEG XL: {_CONVERT}"),
    (b"\x00\x00\x00\x0cjxl ", f"JPEG XL: {_CONVERT}"),
    (b"8bps\x00\x02", f"a large Photoshop file (PSB): {_CONVERT}"),
    (b"\x1ae\xdf\xa3", "a video (Matroska or WebM): pass its frames"),
    (b"pk\x03\x04", "a zip archive: unpack it"),
    (b"\x1f\x8b", "a gzip archive: unpack it"),
    (b"\x93numpy", "a NumPy file: pass numpy.load(...), a uint8 array [height, width, 3]"),
)
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_DICOM_AT = 128

# How base64 of JPEG, PNG, GIF, WebP, BMP and TIFF begins.
_BASE64_STARTS = ("/9j/", "iVBORw0KGgo", "R0lGOD", "UklGR", "SUkqA", "TU0AKg")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")


def is_heic(start: bytes) -> bool:
    """True if the first bytes of a file are those of HEIC or HEIF.

    Args:
        start: 32 bytes or more.
    """
    if start[4:8] != b"ftyp":
        return False
    brands = {start[8:12], *(start[at : at + 4] for at in range(16, len(start) - 3, 4))}
    return bool(brands & _HEIC_BRANDS) and start[8:12] not in (b"avif", b"avis")


def unknown_kind(start: bytes, size: int, known: Container[str]) -> str:
    """Say what a file is that Pillow cannot open, and what to do.

    Args:
        start: its first 256 bytes.
        size: its length in bytes.
        known: the formats that Pillow knows here.
    """
    if is_heic(start) and "HEIF" in known:
        return "HEIC that cannot be decoded (truncated or damaged?)"
    if is_heic(start):
        return 'HEIC, which needs an extra: pip install "resnet_rs[heif]", or convert it to JPEG'
    if start[4:8] == b"ftyp":
        if start[8:12] in (b"avif", b"avis") and "AVIF" in known:
            return "AVIF that cannot be decoded (truncated or damaged?)"
        if start[8:12] in (b"avif", b"avis"):
            return (
                f"AVIF, which this Pillow cannot read: pip install --upgrade pillow, or {_CONVERT}"
            )
        return "a video (MP4 or QuickTime): pass its frames"
    if start.startswith(_TIFF_STARTS[:2]):
        order: Literal["little", "big"] = "little" if start[:1] == b"I" else "big"
        if int.from_bytes(start[4:8], order) >= size:
            return "a TIFF that is cut off: its directory is missing"
    if start.startswith(_TIFF_STARTS):
        return (
            "a TIFF of a kind that Pillow does not read, such as more bands, signed numbers, "
            f"numbers of 32 bits or a camera's raw data: {_CONVERT} with 8 bits a channel"
        )
    if start[_DICOM_AT : _DICOM_AT + 4] == b"DICM":
        return f"DICOM: {_CONVERT}"
    lowered = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for magic, clause in _STARTS:
        if lowered.startswith(magic):
            return clause
    if text := kind_of_text(start.decode("latin-1")):
        return text
    return "no image in a format that Pillow knows"


def kind_of_text(text: str) -> str | None:
    """Say what a text is that stands in a path's place; None if it may be a path."""
    scheme = _SCHEME.match(text)
    if scheme and scheme[1].lower() == "file":
        return "a file: URL: pass the path itself"
    if scheme:
        return "a URL, and images are not downloaded: fetch it and pass the bytes"
    lowered = text[:64].lower()
    if lowered.startswith("data:"):
        return "a data: URI: pass base64.b64decode(text.partition(',')[2])"
    if lowered.startswith("file:"):
        return "a file: URL: pass the path itself"
    if text.startswith(_BASE64_STARTS) and len(text) > 60:
        return "base64 of an image: pass base64.b64decode(text)"
    return None
