"""timm's networks that are variants of this package's."""

from __future__ import annotations

from typing import Any

_STEM_DEEP = {"stem": "deep"}
_TIERED = {"stem_widths": [24, 32, 64]}

RELATIVES: dict[str, tuple[str, dict[str, Any]]] = {
    "resnet50c": ("resnet50", _STEM_DEEP),
    "resnet101c": ("resnet101", _STEM_DEEP),
    "resnet152c": ("resnet152", _STEM_DEEP),
    "resnet50s": ("resnet50", {"stem": "deep", "stem_widths": [64, 64, 128]}),
    "resnet101s": ("resnet101", {"stem": "deep", "stem_widths": [64, 64, 128]}),
    "resnet152s": ("resnet152", {"stem": "deep", "stem_widths": [64, 64, 128]}),
    "resnet26t": ("resnet26d", _TIERED),
    "resnet50t": ("resnet50d", _TIERED),
    "resnet10t": ("resnet18d", {"blocks": [1, 1, 1, 1], **_TIERED}),
    "resnet14t": ("resnet26d", {"blocks": [1, 1, 1, 1], **_TIERED}),
}
"""By timm's name the architecture, and the fields of config.json's `variant`."""
