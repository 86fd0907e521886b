"""Tables of photos: CSV files with a path and a label in each line."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..stream.folder.paths import SUFFIXES
from ..terminal.tables import plural
from ..weights.small_files import other_encoding
from .errors import DataError, listed
from .labelled import Labelled, labels_by_name
from .places import ALL, PART_NAMES, TEST, TRAIN, VAL

PATH_NAMES = (
    "path",
    "file",
    "filename",
    "file_name",
    "filepath",
    "file_path",
    "image",
    "image_path",
    "img",
)
LABEL_NAMES = ("label", "class", "target", "class_name", "category")
SPLIT_NAMES = ("split", "set", "subset", "part", "partition")

_START_BYTES = 4096
_DELIMITERS = ",;\t|"
_EXPECTED = (
    f"expected a first line that names a column for the path ({', '.join(PATH_NAMES)}) and one for "
    f"the label ({', '.join(LABEL_NAMES)}), maybe one for the part ({', '.join(SPLIT_NAMES)}); or "
    "two columns, path and label, without such a line"
)


@dataclass(frozen=True)
class _Row:
    path: Path
    label: str
    part: str


class Table:
    """A CSV file of paths and labels, in UTF-8, with or without a line of names.

    Paths are relative to the file's folder. The delimiter is a comma, a semicolon, a tab or `|`:
    the one that makes the most columns of the first line.

    Args:
        path: the file.

    Attributes:
        name: its path.
        parts: as `Place` describes.

    Raises:
        DataError: it is no such table, or none of the photos exists.
        OSError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.name = os.fspath(path)
        self._rows = _read_rows(path)
        found = {row.part for row in self._rows}
        self.parts = tuple(part for part in (ALL, TRAIN, VAL, TEST) if part in found)

    def read(self, part: str, classes: Sequence[str] | None) -> tuple[Labelled, tuple[str, ...]]:
        """Read one part, as `Place.read` describes."""
        rows = [row for row in self._rows if row.part == part]
        once = list(dict.fromkeys((row.path, row.label) for row in rows))
        labels, found = labels_by_name([label for _, label in once], (), self.name, classes)
        remarks: tuple[str, ...] = ()
        if left := len(rows) - len(once):
            remarks = (f"{self.name}: left out {plural(left, 'line')} that are there twice",)
        return Labelled(tuple(path for path, _ in once), labels, found), remarks


def _read_rows(path: Path) -> list[_Row]:
    text = _text(path)
    first = text.lstrip("\r\n").splitlines()[:1]
    if not first:
        raise DataError(f"{path}: the file is empty; {_EXPECTED}")
    delimiter = max(_DELIMITERS, key=first[0].count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    rows: list[_Row] = []
    columns: _Columns | None = None
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if columns is None:
                columns, is_header = _columns(path, cells)
                if is_header:
                    continue
            rows.append(columns.row(path, reader.line_num, cells))
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: no CSV: {error}") from error
    if not rows:
        raise DataError(f"{path}: found no line below that of the names; {_EXPECTED}")
    _check_some_exist(path, rows)
    return rows


def _text(path: Path) -> str:
    with open(path, "rb") as file:
        content = file.read(_START_BYTES)
        if encoding := other_encoding(content):
            raise DataError(f"{path}: expected UTF-8, found {encoding}: save it as UTF-8")
        if b"\0" in content:
            raise DataError(
                f"{path}: expected a folder of photos, or a CSV file of paths and labels; found a "
                "file that is no text"
            )
        content += file.read()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}, line {line}: expected UTF-8, found the byte "
            f"0x{content[error.start]:02x}: save it as UTF-8"
        ) from error


@dataclass(frozen=True)
class _Columns:
    """The places of the columns."""

    path: int
    label: int
    part: int | None

    def row(self, table: Path, line: int, cells: Sequence[str]) -> _Row:
        """The values of a line.

        Raises:
            DataError: a value is missing, or the part has no known name.
        """
        last = max(self.path, self.label, self.part or 0)
        if len(cells) <= last:
            raise DataError(
                f"{table}, line {line}: expected {plural(last + 1, 'column')} or more, found "
                f"{len(cells)}: {listed(cells)}"
            )
        path, label = cells[self.path].strip(), cells[self.label].strip()
        if not path or not label:
            missing = "label" if path else "path"
            raise DataError(f"{table}, line {line}: the {missing} is empty; found {listed(cells)}")
        part = ALL
        if self.part is not None:
            name = cells[self.part].strip()
            if name.lower() not in PART_NAMES:
                raise DataError(
                    f"{table}, line {line}: expected train, val or test as the part; found {name!r}"
                )
            part = PART_NAMES[name.lower()]
        return _Row(table.parent / path, label, part)


def _columns(table: Path, cells: Sequence[str]) -> tuple[_Columns, bool]:
    """The columns by the first line, and True if that line has their names."""
    names = [cell.strip().lower() for cell in cells]

    def place(known: Sequence[str]) -> int | None:
        found = [names.index(name) for name in known if name in names]
        return found[0] if found else None

    path, label, part = place(PATH_NAMES), place(LABEL_NAMES), place(SPLIT_NAMES)
    if path is not None and label is not None:
        return _Columns(path, label, part), True
    if len(cells) == 2 and Path(names[0]).suffix in SUFFIXES:
        return _Columns(0, 1, None), False
    raise DataError(f"{table}: {_EXPECTED}; found {listed(cells, 10)} in the first line")


def _check_some_exist(table: Path, rows: Sequence[_Row]) -> None:
    """Check that not all photos are missing, which is a mistake about the folder."""
    if any(row.path.exists() for row in rows):
        return
    raise DataError(
        f"{table}: expected paths relative to the table's folder, {table.parent}; found no file at "
        f"any of the {plural(len(rows), 'path')}, such as {os.fspath(rows[0].path)!r}"
    )
