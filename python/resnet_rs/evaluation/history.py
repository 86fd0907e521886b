"""The history of a training: one row of numbers for each epoch, in a CSV file.

A row is one line, and it is appended with one write to the system. A process that is killed, or a
disk that is full, leaves at most a torn last line behind: readers leave it out, and the next writer
cuts it off. So whole rows are never lost, and `tail -f` follows a training.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from .. import arguments
from ..file_errors import names_file
from ..replacing import replacing

COLUMNS = (
    "epoch",
    "train_loss",
    "train_accuracy",
    "val_loss",
    "val_accuracy",
    "learning_rate",
    "seconds",
)
"""The columns that `pictures.learning_curves` draws, and the seconds since the training began."""

Number: TypeAlias = "int | float"
Row: TypeAlias = "dict[str, Number | None]"


class History:
    """A CSV file that is appended to, a row for each epoch.

    Args:
        path: the file, such as `results.csv`. If it exists, its rows are kept.
        columns: the names of the columns; the first one is `epoch`.
        last_epoch: the last epoch whose row is kept in an existing file, for a training that goes
            on from a checkpoint; by default all rows are kept.

    Raises:
        OSError: the file cannot be read or written; the error names it.
        ValueError: the file has other columns or is no history, and so it is left as it is.

    Attributes:
        path: the file.
        rows: all rows of the file, in order.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        columns: Sequence[str] = COLUMNS,
        *,
        last_epoch: int | None = None,
    ) -> None:
        self.path = os.fspath(path)
        self._columns = arguments.texts("columns", columns)
        if self._columns[:1] != ("epoch",) or len(set(self._columns)) < len(self._columns):
            raise ValueError(
                "columns must begin with 'epoch' and hold each name once; got "
                f"{', '.join(map(repr, self._columns))}"
            )
        text = _whole_lines(self.path) if os.path.exists(self.path) else ""
        self.rows = _rows(self.path, text)
        if text and (found := _header(text)) != self._columns:
            raise ValueError(
                f"{self.path}: expected the columns {', '.join(self._columns)}; found "
                f"{', '.join(found)}. Move the file away, or name another one"
            )
        if last_epoch is not None:
            self.rows = [row for row in self.rows if (row["epoch"] or 0) <= last_epoch]
        self._start()

    def append(self, row: Mapping[str, Any]) -> None:
        """Append a row; when this returns, a kill does not lose it.

        Args:
            row: numbers by column, `epoch` among them; a column that is missing, or None, stays
                empty.

        Raises:
            OSError: the row cannot be written, and the file is as before; the error names it.
            TypeError, ValueError: no number, a column that the file does not have, or an epoch that
                is not after the last one.
        """
        known = self._checked(row)
        if self.rows and (known["epoch"] or 0) <= (self.rows[-1]["epoch"] or 0):
            raise ValueError(
                f"epoch must be above {self.rows[-1]['epoch']}, the last one in {self.path}; got "
                f"{known['epoch']}"
            )
        line = _line([_text(known[name]) for name in self._columns])
        with names_file(self.path):
            descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0))
            try:
                _append(descriptor, line)
            finally:
                os.close(descriptor)
        self.rows.append(known)

    def _checked(self, row: Mapping[str, Any]) -> Row:
        strange = [name for name in row if name not in self._columns]
        if strange:
            raise ValueError(
                f"there is no column {strange[0]!r}; expected {', '.join(self._columns)}"
            )
        known = {name: _number(name, row.get(name)) for name in self._columns}
        known["epoch"] = arguments.count("epoch", row.get("epoch"), least=0)
        return known

    def _start(self) -> None:
        """Write the header and the rows that are kept, to a new file that takes the name."""
        lines = [_line(self._columns)]
        lines += [_line([_text(row[name]) for name in self._columns]) for row in self.rows]
        with replacing(self.path) as unfinished, open(unfinished, "wb") as file:
            file.write(b"".join(lines))
            file.flush()
            os.fsync(file.fileno())


def read_history(path: str | os.PathLike[str]) -> list[Row]:
    """Read the rows of a `History`, also while it is written.

    Args:
        path: the CSV file.

    Returns:
        A dict for each row: whole numbers as int, others as float, None for empty fields. A last
        line that is torn is left out.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no such file; the message names it, the line, and what was expected.
    """
    name = os.fspath(path)
    return _rows(name, _whole_lines(name))


def _whole_lines(path: str) -> str:
    """Read a file up to its last line end."""
    with open(path, "rb") as file:
        data = file.read()
    data = data[: data.rfind(b"\n") + 1]
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected a CSV file in UTF-8: {error}") from error


def _header(text: str) -> tuple[str, ...]:
    return tuple(next(csv.reader(io.StringIO(text))))


def _rows(path: str, text: str) -> list[Row]:
    try:
        lines = list(csv.reader(io.StringIO(text)))
    except csv.Error as error:
        raise ValueError(f"{path}: expected a CSV file: {error}") from error
    if not lines:
        return []
    header = lines[0]
    if header[:1] != ["epoch"]:
        raise ValueError(
            f"{path}: expected the results of a training, a CSV file whose first column is "
            f"'epoch'; found {','.join(header)[:80]!r}"
        )
    rows: list[Row] = []
    for number, fields in enumerate(lines[1:], 2):
        if len(fields) != len(header):
            raise ValueError(
                f"{path}, line {number}: expected {len(header)} fields; found {len(fields)}"
            )
        try:
            rows.append({name: _parsed(field) for name, field in zip(header, fields, strict=True)})
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: expected numbers; {error}") from error
    return rows


def _parsed(field: str) -> Number | None:
    if not field:
        return None
    try:
        return int(field)
    except ValueError:
        return float(field)


def _number(name: str, value: Any) -> Number | None:
    """Make a plain int or float of a number, NumPy's included."""
    if hasattr(value, "item"):
        value = value.item()
    if value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)):
        return value
    raise TypeError(f"{name} must be a number or None; got {value!r} ({type(value).__name__})")


def _text(value: Number | None) -> str:
    """Write a number so that it is read back to the bit."""
    return "" if value is None else repr(value)


def _line(fields: Sequence[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(fields)
    return text.getvalue().encode("utf-8")


def _append(descriptor: int, line: bytes) -> None:
    """Append a line as a whole, or leave the file as it was."""
    size = os.fstat(descriptor).st_size
    view = memoryview(line)
    try:
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    except BaseException:
        os.ftruncate(descriptor, size)
        raise
