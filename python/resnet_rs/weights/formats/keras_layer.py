"""One layer of a Keras model's description."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Layer:
    """One layer: its class, its name, its fields and what it is applied to."""

    kind: str
    name: str
    fields: Mapping[str, Any]
    inbound: Any = None
