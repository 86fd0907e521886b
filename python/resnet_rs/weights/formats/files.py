"""Reads JSON files beside the weights, with bounds, and checks the types of their fields."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from ..._core import WeightsError
from ..small_files import read_text
from ..small_files import require_regular as require_regular

_T = TypeVar("_T")
_Check = Callable[[Any], bool]

_SMALLEST_FRACTION = 0.001

MAX_LIST_SHOWN = 6
"""Most names that an error message lists."""

MAX_NAME_SHOWN = 200
"""Most characters of a name in such a list; a damaged file has names of any length."""


def read_json(path: Path) -> Any:
    """Parse a JSON file.

    Raises:
        FileNotFoundError: there is no such file.
        WeightsError: it is too large, not UTF-8, or not JSON.
    """
    content = read_text(path)
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: no JSON: {error}") from error


def read_object(path: Path) -> Fields:
    """Parse a JSON file that holds an object.

    Raises:
        FileNotFoundError: there is no such file.
        WeightsError: it is too large, not UTF-8, not JSON, or not an object.
    """
    return Fields(str(path), read_json(path))


def listed(names: Iterable[object]) -> str:
    """Join the first few names, cut to a readable length, and state how many more there are."""
    every = [str(name)[:MAX_NAME_SHOWN] for name in names]
    more = len(every) - MAX_LIST_SHOWN
    return ", ".join(every[:MAX_LIST_SHOWN]) + (f" and {more} more" if more > 0 else "")


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
        return self._get(name, default, lambda value: isinstance(value, str), "a string")

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        return self._get(name, default, lambda value: isinstance(value, bool), "true or false")

    def integer(self, name: str, default: int) -> int:
        """A whole number from 0 up."""
        return self._get(name, default, _is_count, "a whole number from 0 up")

    def number(self, name: str, default: float) -> float:
        """A finite number."""
        return float(self._get(name, default, _is_number, "a number"))

    def fraction(self, name: str, default: float) -> float:
        """A number above 0, up to 1, such as the part of an image that a crop keeps."""
        value = self.number(name, default)
        if not _SMALLEST_FRACTION <= value <= 1:
            raise self.error(name, f"a number from {_SMALLEST_FRACTION} to 1")
        return value

    def integers(self, name: str, default: list[int]) -> list[int]:
        """A list of whole numbers from 0 up, not empty."""
        return list(self._get(name, default, _is_list_of(_is_count), "a list of whole numbers"))

    def numbers(self, name: str, default: list[float]) -> list[float]:
        """A list of finite numbers, not empty."""
        found = self._get(name, default, _is_list_of(_is_number), "a list of numbers")
        return [float(number) for number in found]

    def inner(self, name: str) -> Fields:
        """An inner object; one without fields if it is absent."""
        value = self.values.get(name)
        return Fields(f"{self.origin}: {name}", {} if value is None else value)

    def _get(self, name: str, default: _T, fits: _Check, expected: str) -> _T:
        value: _T | None = self.values.get(name)
        if value is None:
            return default
        if not fits(value):
            raise self.error(name, expected)
        return value


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 31


def _is_number(value: Any) -> bool:
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and abs(value) < 1e300
        and math.isfinite(value)
    )


def _is_list_of(fits: _Check) -> _Check:
    """Give the check for a list that is not empty."""
    return lambda value: isinstance(value, list) and bool(value) and all(map(fits, value))


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
