r"""Formats of records: a result to bytes, and back as far as a resumed run needs it.

One record is one image. JSON Lines, for predictions, embeddings, and rows of a `.npy` file:

    {"path": "a.jpg", "predictions": [{"label": "cat", "score": 0.97, "index": 281}, ...]}
    {"path": "a.jpg", "embedding": [0.12, ...]}
    {"path": "a.jpg", "row": 17}
    {"path": "b.jpg", "error": "the file is empty (0 bytes)"}

CSV and TSV have the columns `path`, `error` and, for predictions, `label_1`, `score_1`, `index_1`,
`label_2`, ...; for embeddings `feature_0`, `feature_1`, ... A field with a separator, a quote or a
newline in it is in quotes.

A byte of a name that is not UTF-8 is an escape `\udc80` to `\udcff` in JSON (Python's surrogate
escapes), and itself in CSV and TSV.
"""

from __future__ import annotations

import csv
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...results import Prediction, Result

_START = b'{"path": '


class Entry(NamedTuple):
    """The part of a record that a resumed run needs.

    Attributes:
        path: the path of the image.
        failed: True if the record has an error in place of a result.
        row: the row of a `.npy` file that the record describes; None if there is no such row.
    """

    path: str
    failed: bool
    row: int | None = None


class Format(ABC):
    """A format for results that are written one after another.

    Attributes:
        header: the lines at the start of a file; empty if there are none.
        start: the first bytes of every record, which tell a torn record from the file of another
            program.
    """

    header = b""
    start = _START

    @abstractmethod
    def encode(self, result: Result) -> bytes:
        """One record; it ends with a newline."""

    @abstractmethod
    def decode(self, record: bytes) -> Entry:
        """Read a record back.

        Raises:
            ValueError: the record has another format, or comes from a run with other options.
        """

    @abstractmethod
    def result(self, record: bytes) -> Result:
        """Read the result of a record that `decode` accepts and that is not an error.

        Raises:
            ValueError: the values have another format.
        """

    def is_complete(self, record: bytes) -> bool:
        """True if a record ends with these lines."""
        return record.endswith(b"\n")


class JsonLines(Format):
    """`{"path", "predictions"}` or `{"path", "embedding"}`.

    Args:
        key: `predictions` or `embedding`.
        length: the number of classes or values in each.
    """

    def __init__(self, key: str, length: int) -> None:
        self._key, self._length = key, length

    def encode(self, result: Result) -> bytes:
        """One line."""
        return _json_line(as_record(result))

    def decode(self, record: bytes) -> Entry:
        """Read a line back."""
        path, value = _path_and(record, self._key)
        if value is not None and (not isinstance(value, list) or len(value) != self._length):
            raise ValueError(f"expected a list of {self._length} for {self._key}")
        return Entry(path, value is None)

    def result(self, record: bytes) -> Result:
        """Its predictions or its vector."""
        path, value = _path_and(record, self._key)
        try:
            if self._key == "embedding":
                return Result(-1, path, vector=np.array(value, np.float32))
            return Result(-1, path, predictions=[Prediction(**one) for one in value])
        except TypeError as error:
            raise ValueError(f"expected numbers or classes for {self._key}") from error


class Rows(Format):
    """`{"path", "row"}`: the row of a `.npy` file that belongs to an image.

    `next_row` counts up with each result that is encoded.

    Args:
        read_row: reads a row of that file.
    """

    def __init__(self, read_row: Callable[[int], NDArray[np.float32]]) -> None:
        self.next_row = 0
        self._read_row = read_row

    def encode(self, result: Result) -> bytes:
        """One line."""
        if result.error is not None:
            return _json_line(as_record(result))
        self.next_row += 1
        return _json_line({"path": result.path, "row": self.next_row - 1})

    def decode(self, record: bytes) -> Entry:
        """Read a line back."""
        path, row = _path_and(record, "row")
        if not isinstance(row, int | None):
            raise ValueError("expected a whole number for row")
        return Entry(path, row is None, row)

    def result(self, record: bytes) -> Result:
        """The row that it names."""
        path, row = _path_and(record, "row")
        return Result(-1, path, vector=self._read_row(row))


class Table(Format):
    """CSV or TSV.

    Args:
        separator: a comma or a tab.
        columns: the names of the columns after `path` and `error`.
        embeds: True if those hold the values of a vector; otherwise three of them are one
            prediction.
    """

    start = b""

    def __init__(self, separator: str, columns: list[str], *, embeds: bool) -> None:
        self._separator, self._embeds = separator, embeds
        self._width = 2 + len(columns)
        self.header = self._line(["path", "error", *columns])

    @classmethod
    def of_predictions(cls, separator: str, count: int) -> Table:
        """A table with three columns for each of `count` classes."""
        kinds = ("label", "score", "index")
        columns = [f"{kind}_{i}" for i in range(1, count + 1) for kind in kinds]
        return cls(separator, columns, embeds=False)

    @classmethod
    def of_embeddings(cls, separator: str, size: int) -> Table:
        """A table with a column for each of `size` numbers."""
        return cls(separator, [f"feature_{i}" for i in range(size)], embeds=True)

    def encode(self, result: Result) -> bytes:
        """One row."""
        values: list[Any] = [result.path, result.reason]
        if result.predictions is not None:
            for one in result.predictions:
                values += [one.label, one.score, one.index]
        elif result.vector is not None:
            values += result.vector.tolist()
        return self._line(values + [None] * (self._width - len(values)))

    def decode(self, record: bytes) -> Entry:
        """Read a row back."""
        path, error = self._fields(record)[:2]
        return Entry(path, error != "")

    def result(self, record: bytes) -> Result:
        """Its predictions or its vector."""
        path, _, *values = self._fields(record)
        if self._embeds:
            return Result(-1, path, vector=np.array(values, np.float32))
        triples = zip(values[::3], values[1::3], values[2::3], strict=True)
        named = [Prediction(label, float(score), int(index)) for label, score, index in triples]
        return Result(-1, path, predictions=named)

    def _fields(self, record: bytes) -> list[str]:
        text = record.decode("utf-8", "surrogateescape")
        # newline="": a newline inside quotes is part of a name.
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=self._separator))
        if len(rows) != 1 or len(rows[0]) != self._width:
            raise ValueError(f"expected {self._width} columns")
        return rows[0]

    def is_complete(self, record: bytes) -> bool:
        """True if a row ends with these lines."""
        # A quote inside a field is doubled, so that an odd number of them leaves a field open.
        return record.endswith(b"\n") and record.count(b'"') % 2 == 0

    def _line(self, values: list[Any]) -> bytes:
        text = io.StringIO(newline="")
        # With this terminator a field with either character is put in quotes.
        csv.writer(text, delimiter=self._separator, lineterminator="\r\n").writerow(values)
        line = text.getvalue().removesuffix("\r\n") + "\n"
        return line.encode("utf-8", "surrogateescape")


def as_record(result: Result) -> dict[str, Any]:
    """A result as values that JSON can hold."""
    record: dict[str, Any] = {"path": result.path}
    if result.error is not None:
        record["error"] = result.reason
    elif result.predictions is not None:
        record["predictions"] = [
            {"label": one.label, "score": one.score, "index": one.index}
            for one in result.predictions
        ]
    elif result.vector is not None:
        record["embedding"] = result.vector.tolist()
    return record


def records(file: BinaryIO, kind: Format) -> Iterator[bytes]:
    """Read records from a file's current position; one that is torn at the end is left out."""
    record = b""
    for line in file:
        record += line
        if kind.is_complete(record):
            yield record
            record = b""


def _json_line(values: dict[str, Any]) -> bytes:
    return json.dumps(values).encode("ascii") + b"\n"


def _path_and(record: bytes, key: str) -> tuple[str, Any]:
    """The path of a line, and its value under `key`, which is None for an error.

    Raises:
        ValueError: the line is not a JSON object with a path and either of the two.
    """
    values = json.loads(record)
    if (
        not isinstance(values, dict)
        or not isinstance(values.get("path"), str)
        or ("error" in values) == (key in values)
    ):
        raise ValueError(f'expected {{"path", "{key}"}} or {{"path", "error"}}')
    return values["path"], values.get(key)
