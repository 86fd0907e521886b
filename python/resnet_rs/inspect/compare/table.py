"""The result of a comparison: a row for each step, and its text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from numpy.typing import NDArray

from ...terminal.tables import plural, text_table
from .diagnose import Diagnosis
from .numbers import cosine, finite, max_absolute, relative_l2

_GREEN, _RED, _PLAIN = "\x1b[32m", "\x1b[31m", "\x1b[0m"
_HEADER = ("kind", "shape", "max abs", "rel L2", "cosine")


@dataclass(frozen=True, slots=True)
class Row:
    """The distance between the two sides at one step.

    Attributes:
        name: the operation's name, or `image` for the network's input.
        kind: `conv`, `batch_norm`, ...; `image` for the input.
        shape: the shape of the first side's result, NHWC.
        other_shape: the shape of the second side's result.
        max_abs: the largest absolute difference. NaN if the shapes differ, as in the next two.
        relative_l2: the Euclidean norm of the difference, divided by that of the first side's
            result.
        cosine: the cosine of the angle between the two results as vectors.
        ok: True if `relative_l2` is within the tolerance.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    other_shape: tuple[int, ...]
    max_abs: float
    relative_l2: float
    cosine: float
    ok: bool

    @classmethod
    def between(
        cls, name: str, kind: str, one: NDArray[Any], other: NDArray[Any], tolerance: float
    ) -> Row:
        """Measure how far `other` is from `one`; other shapes are never ok."""
        if one.shape != other.shape:
            nan = float("nan")
            return cls(name, kind, one.shape, other.shape, nan, nan, nan, ok=False)
        error = relative_l2(other, one)
        return cls(
            name=name,
            kind=kind,
            shape=one.shape,
            other_shape=other.shape,
            max_abs=max_absolute(other, one),
            relative_l2=error,
            cosine=cosine(other, one),
            ok=error <= tolerance,
        )


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two networks' results, step by step; `print` it for a table.

    Attributes:
        a: the name of the first side.
        b: the name of the second side.
        rows: the steps that both have, in network order.
        tolerance: the largest relative L2 difference that counts as equal.
        first_wrong: the first step that differs; None if all agree.
        diagnosis: the mistake that explains it, if it is a known one.
        can_diagnose: True if one side is a model, which knows the right results.
        missing: the steps of the network that one side lacks.
        unknown: names of results that the network does not have.
        noun: the word for what a row compares.
    """

    a: str
    b: str
    rows: tuple[Row, ...]
    tolerance: float
    first_wrong: str | None
    diagnosis: Diagnosis | None
    can_diagnose: bool
    missing: tuple[str, ...]
    unknown: tuple[str, ...]
    noun: str = "step"

    @property
    def ok(self) -> bool:
        """True if every step agrees."""
        return self.first_wrong is None

    def as_dict(self) -> dict[str, Any]:
        """Return all fields by name, in types that JSON has; NaN and infinity become None."""
        values: dict[str, Any] = finite(asdict(self))
        return values

    def __str__(self) -> str:
        return self.text()

    def text(self, *, color: bool = False) -> str:
        """Write the table and the verdict.

        Args:
            color: show steps that agree in green and the others in red, by ANSI codes.
        """
        rows = [(self.noun, *_HEADER), *map(self._cells, self.rows)]
        head, *lines = text_table(rows, left=3).split("\n")
        lines = [self._marked(row, line, color) for row, line in zip(self.rows, lines, strict=True)]
        title = (
            f"a: {self.a}\nb: {self.b}\nequal up to a relative L2 difference of {self.tolerance:g}"
        )
        return "\n".join([title, "", head, *lines, "", *self._verdict()])

    def _marked(self, row: Row, line: str, color: bool) -> str:
        verdict = "ok" if row.ok else "WRONG"
        if row.name == self.first_wrong:
            verdict += " <- first"
        line = f"{line}  {verdict}"
        return f"{_GREEN if row.ok else _RED}{line}{_PLAIN}" if color else line

    @staticmethod
    def _cells(row: Row) -> tuple[str, ...]:
        shape = " x ".join(map(str, row.shape))
        if row.shape != row.other_shape:
            other = " x ".join(map(str, row.other_shape))
            return row.name, row.kind, f"{shape}; b: {other}", "-", "-", "-"
        numbers = f"{row.max_abs:.1e}", f"{row.relative_l2:.1e}", f"{row.cosine:.4f}"
        return row.name, row.kind, shape, *numbers

    def _verdict(self) -> list[str]:
        lines = []
        if self.first_wrong is None:
            lines.append(f"all {plural(len(self.rows), self.noun)} agree")
        else:
            wrong = sum(not row.ok for row in self.rows)
            of_all = f"{wrong} of {plural(len(self.rows), self.noun)}"
            lines.append(f"{of_all} differ, first {self.first_wrong}")
            if not self.can_diagnose:
                lines.append("with a model on one side there would be a diagnosis")
            elif self.diagnosis is None:
                lines.append("this looks like no mistake that is known here")
            else:
                lines += [
                    f"it looks like: {self.diagnosis.mistake}, at {self.diagnosis.layer}",
                    f"  {self.diagnosis.text}",
                ]
        if self.missing:
            listed = _listed(self.missing, self.noun)
            lines.append(f"not compared, for one side lacks them: {listed}")
        if self.unknown:
            listed = _listed(self.unknown, self.noun)
            lines.append(f"not compared, for the network has no such {self.noun}: {listed}")
        return lines


def _listed(names: Sequence[str], noun: str, most: int = 6) -> str:
    """Write a few names, and how many there are."""
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[:most])}, ... ({plural(len(names), noun)})"
