"""The fenced code blocks of a Markdown document."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

_FENCE = re.compile(
    r"(?P<skip><!-- no-run -->\s*)?"
    r"^(?P<indent>[ \t]*)```(?P<language>\w*)[^\n]*\n(?P<code>.*?)^[ \t]*```[ \t]*$",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text without indentation, and where it stands."""

    language: str
    code: str
    line: int
    """The line of its first line of code, from 1."""
    run: bool
    """False where a line `<!-- no-run -->` stands before it."""
    follows: bool
    """True if only blank lines lie between this block and the one before it."""


def blocks(text: str) -> Iterator[Block]:
    """Every fenced block, in order."""
    end = None
    for match in _FENCE.finditer(text):
        yield Block(
            language=match["language"],
            code=textwrap.dedent(match["code"]),
            line=text.count("\n", 0, match.start("code")) + 1,
            run=not match["skip"],
            follows=end is not None and not text[end : match.start()].strip(),
        )
        end = match.end()
