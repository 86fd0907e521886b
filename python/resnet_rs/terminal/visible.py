"""Text of unknown origin, such as the names of classes and files, for a terminal."""

from __future__ import annotations

import unicodedata

_CONTROLS = ("Cc", "Zl", "Zp")
"""Unicode's categories of control characters, and of those that end a line or a paragraph."""


def visible(text: str) -> str:
    r"""Escape control characters, as Python writes them: a newline is `\n`, ESC is `\x1b`.

    A name with such characters would break a line, or move the cursor and change colours.
    """
    if text.isprintable():
        return text
    return "".join(
        letter.encode("unicode_escape").decode()
        if unicodedata.category(letter) in _CONTROLS
        else letter
        for letter in text
    )
