"""The faults of `tools/python_mutations.py`: every kind is made, and nothing else is."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

from python_mutations import Mutant, mutants_of  # noqa: E402


def mutants(text: str, folder: Path) -> list[Mutant]:
    path = folder / "source.py"
    path.write_text(text, encoding="utf-8")
    return [mutant for mutant in mutants_of(path) if mutant.compiles()]


def results(text: str, folder: Path) -> set[str]:
    return {mutant.applied().decode() for mutant in mutants(text, folder)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x = a < b", {"x = a <= b"}),
        ("x = a not in b", {"x = a in b"}),
        ("x = (a) is (b)", {"x = (a) is not (b)"}),
        ("x = a < b == c", {"x = a <= b == c", "x = a < b != c"}),
        ("x = (a + b) // c", {"x = (a - b) // c", "x = (a + b) * c"}),
        ("x += y", {"x -= y"}),
        ("x = a and b", {"x = a or b"}),
        ("x = not a", {"x = (a)"}),
        ("x = a if b else c", {"x = a if not (b) else c"}),
        ("while a:\n    f()", {"while not (a):\n    f()", "while a:\n    pass"}),
        ("for a in b:\n    continue", {"for a in b:\n    break"}),
        ("x = 3", {"x = 4"}),
        ("x = True", {"x = False"}),
        ('x = "key"', {'x = "key_"'}),
        ('x = b"PK"', {'x = b"PK_"'}),
        ("def f():\n    return a", {"def f():\n    return None"}),
        ("raise f()", {"pass"}),
        ('x = {"a": y}', {"x = {}", 'x = {"a_": y}'}),
        ("x = [(a, b), (c, d)]", {"x = [ (c, d)]", "x = [(a, b), ]"}),
        ("x = f(a, b=c)", {"x = f(a, )"}),
        ("def f(a=True): ...", {"def f(a=False): ..."}),
        ("class A:\n    b: int = 1", {"class A:\n    b: int = 2"}),
        # Nothing that a program does depends on these.
        ("def f():\n    return False", {"def f():\n    return True"}),
        ('"""A docstring."""', set()),
        ('__all__ = ["a", "b"]', set()),
        ("def f(a: 3) -> 4: ...", set()),
        ("assert a < b", set()),
        ("x = zip(a, b, strict=True)", set()),
        ('x = "two words"', set()),
        ("if TYPE_CHECKING:\n    x = 1", set()),
        ("x = é < b", {"x = é <= b"}),
    ],
)
def test_every_kind(text: str, expected: set[str], tmp_path: Path) -> None:
    assert results(text, tmp_path) == expected


def test_owners_of_what_runs_at_import(tmp_path: Path) -> None:
    text = """\
TABLE = 1


def function(default=2):
    return 3


class Class:
    field: int = 4

    def method(self, default=5):
        return 6
"""
    found = {m.text: m for m in mutants(text, tmp_path) if m.text.isdigit()}
    places = {m.text: (m.first, m.last, m.owner, m.at_import) for m in found.values()}
    assert places == {
        "2": (1, 1, (0, 0), True),
        "3": (4, 4, (4, 5), True),
        "4": (5, 5, (4, 5), False),
        "5": (9, 9, (8, 12), True),
        "6": (11, 11, (11, 12), True),
        "7": (12, 12, (11, 12), False),
    }


def test_faults_of_the_package_are_many() -> None:
    found = mutants_of(ROOT / "python" / "resnet_rs" / "options.py")
    assert len(found) > 100
    assert all(mutant.diff() for mutant in found[::25])
