"""The caller's statements about a file's network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .names import NameRules


@dataclass(frozen=True)
class Overrides:
    """The caller's statements, which take precedence over the file's; None for no statement."""

    architecture: str | None = None
    variant: Mapping[str, Any] | None = None
    num_classes: int | None = None
    labels: Sequence[str] | None = None
    activation: str | None = None
    preprocessing: Any = None
    names: NameRules | None = None
    key: str | None = None
