"""Reads JSON files beside the weights, with bounds, and checks the types of their fields."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..._core import WeightsError
from ..small_files import read_small
from ..small_files import require_regular as require_regular

MAX_LIST_SHOWN = 6
"""Most names that an error message lists."""


def read_json(path: Path) -> Any:
    """Parse a JSON file.

    Raises:
        FileNotFoundError: there is no such file.
        WeightsError: it is too large, or not JSON.
    """
    content = read_small(path)
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: no JSON: {error}") from error


def read_object(path: Path) -> Fields:
    """Parse a JSON file that holds an object.

    Raises:
        FileNotFoundError: there is no such file.
        WeightsError: it is too large, not JSON, or not an object.
    """
    return Fields(str(path), read_json(path))


def listed(names: list[str]) -> str:
    """Join the first few names, and state how many more there are."""
    more = len(names) - MAX_LIST_SHOWN
    return ", ".join(names[:MAX_LIST_SHOWN]) + (f" and {more} more" if more > 0 else "")


class Fields:
    """The fields of a JSON object, read with their types.

    Each method returns `default` if the field is absent or null.

    Args:
        origin: the file, for messages; for an inner object with the field's name.
        values: what was parsed.

    Raises:
        WeightsError: `values` is not an object; or, from a method, a field has another type.
    """

    def __init__(self, origin: str, values: Any) -> None:
        if not isinstance(values, Mapping):
            raise WeightsError(f"{origin}: expected an object in braces, found {_shown(values)}")
        self.origin = origin
        self.values = values

    def __contains__(self, name: str) -> bool:
        return self.values.get(name) is not None

    def error(self, name: str, expected: str) -> WeightsError:
        """Make the error for a field that is not as expected."""
        found = _shown(self.values.get(name))
        return WeightsError(f"{self.origin}: {name}: expected {expected}, found {found}")

    def text(self, name: str, default: str = "") -> str:
        """A string."""
        value = self.values.get(name)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self.error(name, "a string")
        return value

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self.values.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.error(name, "true or false")
        return value

    def integer(self, name: str, default: int) -> int:
        """A whole number from 0 up."""
        value = self.values.get(name)
        if value is None:
            return default
        if not _is_count(value):
            raise self.error(name, "a whole number from 0 up")
        return int(value)

    def number(self, name: str, default: float) -> float:
        """A finite number."""
        value = self.values.get(name)
        if value is None:
            return default
        if not _is_number(value):
            raise self.error(name, "a number")
        return float(value)

    def integers(self, name: str, default: list[int]) -> list[int]:
        """A list of whole numbers from 0 up, not empty."""
        value = self.values.get(name)
        if value is None:
            return default
        if not isinstance(value, list) or not value or not all(map(_is_count, value)):
            raise self.error(name, "a list of whole numbers")
        return list(value)

    def numbers(self, name: str, default: list[float]) -> list[float]:
        """A list of finite numbers, not empty."""
        value = self.values.get(name)
        if value is None:
            return default
        if not isinstance(value, list) or not value or not all(map(_is_number, value)):
            raise self.error(name, "a list of numbers")
        return [float(number) for number in value]

    def inner(self, name: str) -> Fields:
        """An inner object; one without fields if it is absent."""
        value = self.values.get(name)
        return Fields(f"{self.origin}: {name}", {} if value is None else value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 31


def _is_number(value: Any) -> bool:
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and abs(value) < 1e300
        and math.isfinite(value)
    )


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
