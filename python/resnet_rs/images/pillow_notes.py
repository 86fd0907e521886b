"""Pillow's warnings about a picture, collected in the thread that decodes it and given its name.

Pillow warns of damaged metadata without naming the file: "Corrupt EXIF data." With thousands of
files nobody can tell which one that is. `warnings.catch_warnings` cannot collect them, because it
changes the state of the whole process, and pictures are decoded in many threads. So the name
`warnings` in Pillow's modules stands for `_Warnings`, which asks the thread: one that decodes here
keeps the warning, and any other warns as before.
"""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

# Pillow's modules that warn of a picture that is opened.
_MODULES = (
    "PIL.Image",
    "PIL.IcoImagePlugin",
    "PIL.JpegImagePlugin",
    "PIL.PngImagePlugin",
    "PIL.TiffImagePlugin",
)


class Notes:
    """The warnings about one picture, in order and without repeats."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, type[Warning]], None] = {}

    def add(self, text: str, category: type[Warning] = UserWarning) -> None:
        """Add a warning; its text does not name the picture."""
        self._found[text, category] = None

    def show(self, name: str) -> None:
        """Warn, with the picture's name before each text.

        Args:
            name: the picture's name in messages.
        """
        for text, category in self._found:
            warnings.warn(f"{name}: {text}", category, stacklevel=2)


class _Threads(threading.local):
    notes: Notes | None = None


_threads = _Threads()


class _Warnings:
    """The module `warnings` for Pillow's modules, apart from `warn`."""

    def __getattr__(self, name: str) -> Any:
        return getattr(warnings, name)

    @staticmethod
    def warn(
        message: Warning | str,
        category: type[Warning] | None = None,
        stacklevel: int = 1,
        *more: Any,
        **options: Any,
    ) -> None:
        """Keep a warning for the thread that decodes, or warn as `warnings.warn` does."""
        notes = _threads.notes
        if notes is None:
            warnings.warn(message, category, stacklevel + 1, *more, **options)
            return
        kind = type(message) if isinstance(message, Warning) else category or UserWarning
        # Pillow breaks some of its texts into lines.
        notes.add("decoded, but Pillow warns: " + " ".join(str(message).split()), kind)


_stand_in = _Warnings()


@contextmanager
def collected() -> Iterator[Notes]:
    """Collect the warnings that Pillow gives in this thread."""
    _install()
    before, _threads.notes = _threads.notes, Notes()
    try:
        yield _threads.notes
    finally:
        _threads.notes = before


_installed = False


def _install() -> None:
    global _installed
    if _installed:
        return
    for name in _MODULES:
        module = sys.modules.get(name) or _imported(name)
        if module is not None and getattr(module, "warnings", None) is warnings:
            module.warnings = _stand_in  # type: ignore[attr-defined]
    _installed = True


def _imported(name: str) -> ModuleType | None:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError:
        return None  # a Pillow without this module
