"""Remarks: all that a reader found out or assumed while it read a file, for the user to see.

A remark is a sentence without the file's path, which is put before it where it is shown. There are
two kinds. An assumption, a choice between several things, or an omission can make another network
than the user's: it is a plain `str`, and a warning at load. A fact that leaves the network as it is
(a prefix was stripped, the tensors have another project's names) is a `Note`: it is in
`model.remarks` and `convert` prints it, and a load is silent about it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any


class Note(str):
    """A remark on a harmless fact: shown by `convert` and in `model.remarks`, not as a warning."""

    __slots__ = ()


class Assumption(str):
    """A remark on a field of config.json that a reader filled in; a caller may state the field.

    Args:
        text: the remark.
        about: the field's name, such as `preprocessing`. If the caller states the field, nothing is
            assumed, and the remark is dropped.
    """

    about: str

    def __new__(cls, text: str, about: str = "") -> Assumption:
        """Make a remark about a field."""
        remark = super().__new__(cls, text)
        remark.about = about
        return remark


def warnings_of(remarks: Iterable[str]) -> list[str]:
    """The remarks that are shown as warnings."""
    return [remark for remark in remarks if not isinstance(remark, Note)]


def without_stated(remarks: Iterable[str], stated: Collection[str]) -> tuple[str, ...]:
    """Drop the assumptions about fields that the caller states, and repetitions."""
    kept = (
        remark
        for remark in remarks
        if not (isinstance(remark, Assumption) and remark.about in stated)
    )
    return tuple(dict.fromkeys(kept))


def with_remarks(source: Mapping[str, Any] | None, remarks: Sequence[str]) -> dict[str, Any]:
    """A config's `source` with remarks behind those that it has from an earlier file."""
    result = dict(source or {})
    earlier = result.get("remarks")
    every = [*(earlier if isinstance(earlier, list) else []), *map(str, remarks)]
    return {**result, "remarks": list(dict.fromkeys(every))} if every else result


def shown(origin: str, remark: str) -> str:
    """A remark as the user sees it: after the path, or the name, of the weights."""
    return f"{origin}: {remark}"
