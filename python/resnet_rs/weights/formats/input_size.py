"""The size of the images that a network was made for, if its file states one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...images.spec import preset, usual_preset

Size = tuple[int, int]

_MAX_SIDE = 1 << 16


def sides(crop: Any) -> Size | None:
    """Height and width of a crop; None for none, or for one that the core will not take."""
    match crop:
        case [int(height), int(width)] if max(height, width) <= _MAX_SIDE and height > 0 < width:
            return height, width
        case int(side) if 0 < side <= _MAX_SIDE:
            return side, side
    return None


def resize_and_crop(size: Size | None, architecture: str) -> dict[str, Any]:
    """Give the fields of a preprocessing for images of one size.

    If the usual preset of an architecture crops to that size, its resize stays too. Networks for
    images of other sizes were mostly trained on whole images.
    """
    if size is None or size == sides(_usual_crop(architecture)):
        return {}
    height, width = size
    whole = height if height == width else [height, width]
    return {"resize": whole, "crop": whole}


def remarks_on_size(
    size: Size | None, preprocessing: Mapping[str, Any], architecture: str
) -> list[str]:
    """Say so if images get another size than the one that the network was made for."""
    if size is None:
        return []
    crop = preprocessing.get("crop", _usual_crop(architecture))
    prepared = sides(crop if crop is not None else preprocessing.get("resize"))
    if prepared is None or prepared == size:
        return []
    height, width = size
    whole = str(height) if height == width else f"[{height}, {width}]"
    return [
        f"the file is for images of {height} x {width} pixels, and its preprocessing makes them "
        f"{prepared[0]} x {prepared[1]}: the network runs, but may be wrong more often. For its "
        f'own size pass preprocessing={{"resize": {whole}, "crop": {whole}}}'
    ]


def _usual_crop(architecture: str) -> Any:
    return preset(usual_preset(architecture))["crop"]
