"""Tables of text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from .visible import visible


def text_table(rows: Sequence[Sequence[str]], *, left: int) -> str:
    """Lay rows out in columns, two spaces apart.

    Args:
        rows: cells, as many in every row; the header is a row like the others. Control characters
            in cells are escaped.
        left: the number of columns that are aligned left; all others are aligned right.

    Returns:
        A line for each row, without spaces at the ends.
    """
    rows = [[visible(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if place < left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def plural(number: int, noun: str, nouns: str | None = None) -> str:
    """Write a number with its noun: `1 thread`, `2 threads`; `nouns` if an `s` is not enough."""
    return f"{number} {noun if number == 1 else nouns or noun + 's'}"
