"""Fields of dataclasses that are options: default, documentation, check, command-line flag."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(frozen=True)
class Flag:
    """An option on the command line.

    Attributes:
        help: its help text.
        metavar: the placeholder of its value.
        choices: the only values, if there are few.
        kind: `text`, `count` (a whole number from 1 up), `on` (`--NAME` for True) or `off`
            (`--no-NAME` for False).
    """

    help: str
    metavar: str | None = None
    choices: tuple[str, ...] | None = None
    kind: str = "text"


def option(
    default: Any,
    doc: str,
    *,
    check: Callable[[str, Any], Any] | None = None,
    core: bool = False,
    flag: Flag | None = None,
) -> Any:
    """A field that is an option.

    Args:
        default: the value that stands for "not given"; it is not checked.
        doc: the text for `Args:` in docstrings.
        check: checks and normalises a value; it is called with the name and the value.
        core: whether the compiled core takes the option as a keyword argument.
        flag: the flag on the command line, for all commands that load a model.
    """
    metadata = {"doc": doc, "check": check, "core": core, "flag": flag}
    return field(default=default, metadata=metadata)


def check_fields(options: Any) -> None:
    """Check and normalise every field of a frozen dataclass, other than defaults.

    Raises:
        TypeError, ValueError: as the fields' checks do.
    """
    for one in fields(options):
        value, check = getattr(options, one.name), one.metadata.get("check")
        if check is not None and value is not one.default:
            object.__setattr__(options, one.name, check(one.name, value))
