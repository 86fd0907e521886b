"""Checks on plain arguments, with messages that name the argument."""

from __future__ import annotations

import operator
import os
from typing import Any

import numpy as np


def count(name: str, value: Any) -> int:
    """A whole number from 1 up; numpy's integers are welcome.

    Raises:
        TypeError: a bool, a float, or no number at all.
        ValueError: below 1.
    """
    if not isinstance(value, bool):
        try:
            number = operator.index(value)
        except TypeError:
            pass
        else:
            if number < 1:
                raise ValueError(f"{name} must be at least 1; got {number}")
            return number
    raise TypeError(f"{name} must be an int; got {value!r} ({type(value).__name__})")


def path(name: str, value: Any) -> str:
    """A path as text, made absolute so that it outlives a change of directory.

    Raises:
        TypeError: neither a str nor an os.PathLike.
    """
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(
            f"{name} must be a path (str or os.PathLike) to a weights directory or a "
            f".safetensors file; got {type(value).__name__}"
        )
    return os.path.abspath(os.fsdecode(value))


def flag(name: str, value: Any) -> bool:
    """True or False; numpy's are welcome.

    Raises:
        TypeError: anything else.
    """
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    raise TypeError(f"{name} must be True or False; got {value!r} ({type(value).__name__})")
