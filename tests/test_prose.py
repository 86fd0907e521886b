"""Docstrings and comments begin with their subject, not with a relative clause."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = ("python", "rust", "tools", "benches", "examples", "tests", "fuzz/targets")
MARKERS = {".py": ('"""', "#"), ".pyi": ('"""', "#"), ".rs": ("///", "//!", "//")}
# A clause in the place of a subject: "What the file holds." for "The contents of the file."
CLAUSES = ("What", "Whether", "That", "Whoever", "Whose", "Where")


def offenders(text: str, suffix: str) -> list[int]:
    """The lines, from 1, at which a comment or docstring begins with such a clause."""
    markers = "|".join(map(re.escape, MARKERS[suffix]))
    opening = re.compile(rf"\s*(?P<marker>{markers})\s*(?:{'|'.join(CLAUSES)})\b[^?]*$")
    marker = re.compile(rf"\s*(?:{markers})")
    found = []
    before = ""
    for number, line in enumerate(text.splitlines(), 1):
        match = opening.match(line)
        # A line in the middle of a comment may begin with any word.
        if match and (match["marker"] == '"""' or not marker.match(before)):
            found.append(number)
        before = line
    return found


@pytest.mark.parametrize("folder", SOURCES)
def test_docs_begin_with_their_subject(folder: str) -> None:
    files = [path for path in sorted((ROOT / folder).rglob("*")) if path.suffix in MARKERS]
    assert files
    places = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in files
        for line in offenders(path.read_text(encoding="utf-8"), path.suffix)
    ]
    assert not places, "begin with the subject: " + ", ".join(places)


def test_offenders_are_found() -> None:
    python = '"""What it is."""\n\n# Whether so.\nx = 1\n# The one\n# What follows.\n# What now?\n'
    assert offenders(python, ".py") == [1, 3]
    assert offenders("/// The tile.\n/// What\n\n//! That.\n", ".rs") == [4]
