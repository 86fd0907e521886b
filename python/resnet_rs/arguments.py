"""Checks on plain arguments, with messages that name the argument."""

from __future__ import annotations

import operator
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

MOST = (1 << 31) - 1
"""The largest count that an argument may be, unless it says otherwise."""

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://|file:", re.IGNORECASE)


def count(name: str, value: Any, *, least: int = 1, most: int | None = MOST) -> int:
    """Check an integer from `least` to `most`; NumPy's integers are accepted.

    Args:
        name: the argument's name.
        value: any object.
        least: the smallest number that is accepted.
        most: the largest; None for any.

    Raises:
        TypeError: `value` is a bool, a float, or not a number.
        ValueError: `value` is out of range.
    """
    if not isinstance(value, bool):
        try:
            number = operator.index(value)
        except TypeError:
            pass
        else:
            if number < least:
                raise ValueError(f"{name} must be at least {least}; got {number}")
            if most is not None and number > most:
                raise ValueError(f"{name} must be at most {most}; got {number}")
            return number
    raise TypeError(f"{name} must be an int; got {value!r} ({type(value).__name__})")


def path(name: str, value: Any) -> str:
    """Check a path, and make it absolute so that it survives a change of directory.

    Raises:
        TypeError: `value` is neither a str nor an os.PathLike.
        ValueError: it is a URL, or holds a NUL.
    """
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(
            f"{name} must be a path (str or os.PathLike) to a weights directory or file; "
            f"got {type(value).__name__}"
        )
    found = os.fsdecode(value)
    if "\0" in found:
        raise ValueError(f"{name} must be a path, and a path holds no NUL; got {found!r}")
    if _URL.match(found) and not os.path.lexists(found):
        raise ValueError(f"{name} is a URL: download it, and pass the file's path; got {found!r}")
    return os.path.abspath(found)


def flag(name: str, value: Any) -> bool:
    """Check True or False; NumPy's are accepted.

    Raises:
        TypeError: anything else.
    """
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    raise TypeError(f"{name} must be True or False; got {value!r} ({type(value).__name__})")


def choice(name: str, value: Any, options: Sequence[str | None]) -> Any:
    """Check one of a few names.

    Raises:
        TypeError: `value` is not a str.
        ValueError: `value` is not one of the names.
    """
    if value in options and (value is None or isinstance(value, str)):
        return value
    expected = ", ".join(map(repr, options))
    error = ValueError if isinstance(value, str) else TypeError
    raise error(f"{name} must be one of {expected}; got {value!r}")


def text(name: str, value: Any) -> str:
    """Check a str.

    Raises:
        TypeError: anything else.
    """
    if isinstance(value, str):
        return value
    raise TypeError(f"{name} must be a str; got {value!r} ({type(value).__name__})")


def texts(name: str, value: Any) -> tuple[str, ...]:
    """Check several str, in a list, tuple or the like; a single str is refused.

    Raises:
        TypeError: anything else.
    """
    if not isinstance(value, (str, bytes)):
        try:
            items = tuple(value)
        except TypeError:
            pass
        else:
            for place, item in enumerate(items):
                text(f"{name}[{place}]", item)
            return tuple(map(str, items))
    raise TypeError(f"{name} must be a list of str; got {value!r} ({type(value).__name__})")


def mapping(name: str, value: Any) -> dict[str, Any]:
    """Check a mapping, such as a dict, with keys of str.

    Raises:
        TypeError: anything else.
    """
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a dict; got {value!r} ({type(value).__name__})")
    for key in value:
        text(f"a key of {name}", key)
    return dict(value)


def json_object(name: str, value: Any) -> dict[str, Any]:
    """Check a mapping of JSON values, and copy it into plain dicts, lists, numbers and str.

    Args:
        name: the argument's name.
        value: a mapping; it may hold tuples, and numbers and arrays of NumPy.

    Raises:
        TypeError: `value` is not a mapping, or holds something that JSON does not have.
    """
    return {key: _plain(item) for key, item in mapping(name, value).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return json_object("a config's field", value)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if value is None or isinstance(value, (str, int, float)):
        return value
    raise TypeError(f"a config holds numbers, str, lists and dicts; got {value!r}")


def network_input(x: Any, channels: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Check the input of `forward`, and make it C-contiguous.

    Args:
        x: any object.
        channels: the number that the network takes.

    Returns:
        A float32 array, copied if `x` is not C-contiguous. Only shapes that look like a common
        mistake are refused here; the core checks the rest.

    Raises:
        TypeError: `x` is not an array, or has another dtype.
        ValueError: the shape looks like a common mistake.
    """
    expected = f"forward takes a normalised float32 array [batch, height, width, {channels}]"
    if not isinstance(x, np.ndarray):
        raise TypeError(
            f"{expected}; got {type(x).__name__}. For images call logits() or predict(); for a "
            "tensor pass tensor.numpy()"
        )
    shape = list(x.shape)
    if x.dtype == np.uint8:
        raise TypeError(f"{expected}; got uint8 {shape}. For pixels call logits() or predict()")
    if x.dtype != np.float32:
        raise TypeError(f"{expected}; got {x.dtype} {shape}. Pass x.astype(numpy.float32)")
    if x.ndim == 3 and shape[2] == channels:
        raise ValueError(f"{expected}; got shape {shape}. Add the batch axis: x[None]")
    if x.ndim == 4 and shape[3] != channels:
        if shape[1] == channels:
            raise ValueError(
                f"{expected}; shape {shape} has its channels second. Pass x.transpose(0, 2, 3, 1)"
            )
        raise ValueError(f"{expected}; got shape {shape}")
    return np.ascontiguousarray(x)
