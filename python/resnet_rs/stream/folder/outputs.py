"""Files of results that are whole after every image, so that a run that was killed can go on.

- `.jsonl`, `.csv`, `.tsv`: records are appended, each with one write to the system. What a kill
  can leave behind is a torn last record: a resumed run cuts it off and goes on from there.
- `.npy`: a row of numbers is appended first, then its record to `NAME.paths.jsonl`, then the
  header's count of rows is raised. A row without a record is cut off by a resumed run, and the file
  is one that `numpy.load` reads at any moment.
- `.parquet` cannot be appended to: results go to a journal, `NAME.partial.jsonl` (for embeddings
  `NAME.partial.npy` as above), which is converted at the end. The Parquet file gets its name once
  it is complete.

A kill thus loses the images that were in the threads' hands and no other. A resumed run finds its
images anew and leaves out those that have a record, errors among them; it remembers each by eight
bytes of a hash. Two runs never write to one file: the second is refused.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...file_errors import names_file
from ...results import Result
from .records import Format, Rows, records

NPY_HEADER_BYTES = 128
_MODES = ("new", "resume", "overwrite")

Check: TypeAlias = Callable[[Iterator[Result]], None]
"""A function that checks the results in an output before it is changed.

It gets the results whose images still exist, and raises `OutputError` if another run made them.
"""


class OutputError(ValueError):
    """An output cannot be written or continued; the message says what to do."""


def no_check(earlier: Iterator[Result]) -> None:
    """The `Check` that accepts anything."""


def still_there(path: str) -> bool:
    """True if an image can be run again."""
    return os.path.isfile(path)


class Output(Protocol):
    """A destination for results.

    `done` and `failed` count all records, those of earlier runs included.
    """

    @property
    def done(self) -> int:
        """The number of records."""

    @property
    def failed(self) -> int:
        """The number of records that are errors."""

    def __contains__(self, path: str) -> bool:
        """True if an earlier run has a record of this path."""

    def write(self, result: Result) -> None:
        """Add a result; when this returns, a kill does not lose it."""

    def finish(self) -> None:
        """All results are there."""

    def close(self) -> None:
        """Leave the output as it is, so that a later run can go on."""


class Paths:
    """A set of paths that takes eight bytes for each.

    Among a million paths, two have the same hash once in forty million sets.
    """

    def __init__(self) -> None:
        self._hashes = array("Q")
        self._sorted: NDArray[np.uint64] | None = None

    def add(self, path: str) -> None:
        """Add a path; not after the first one was looked up."""
        self._hashes.append(_hash(path))

    def __contains__(self, path: str) -> bool:
        if self._sorted is None:
            self._sorted = np.sort(np.frombuffer(self._hashes, np.uint64))
        if not self._sorted.size:
            return False
        value = np.uint64(_hash(path))
        at = int(np.searchsorted(self._sorted, value))
        return at < self._sorted.size and bool(self._sorted[at] == value)


class RecordFile:
    """Records that are appended to a file.

    Args:
        path: the file.
        kind: the format of a record.
        mode: `new` refuses a file that exists, `resume` continues or starts it, `overwrite`
            starts it anew.
        rows: for a resumed `.npy`, the number of rows in that file: records of others are cut off.
        check: checks the results of a resumed file before that is changed.

    Raises:
        OutputError: the file exists, or this run cannot continue it, or another process writes to
            it.
        OSError: it cannot be opened.
    """

    def __init__(
        self,
        path: Path,
        kind: Format,
        mode: str,
        *,
        rows: int | None = None,
        check: Check = no_check,
    ) -> None:
        assert mode in _MODES, mode
        self.done = self.failed = 0
        self._path, self._kind = path, kind
        self._earlier = Paths()
        if mode == "new":
            refuse_existing(path)
        self._file = open(path, "r+b" if path.exists() else "w+b")  # noqa: SIM115
        try:
            _lock(self._file, path)
            end = self._read_earlier(rows) if mode == "resume" else 0
            check(self._results(end))
            self._file.seek(end)
            self._file.truncate()
            if self._file.tell() == 0:
                self._append(kind.header)
        except BaseException:
            self._file.close()
            raise

    def __contains__(self, path: str) -> bool:
        return path in self._earlier

    def write(self, result: Result) -> None:
        """Append a record."""
        self._append(self._kind.encode(result))
        self.done += 1
        self.failed += result.error is not None

    def finish(self) -> None:
        """Close the file."""
        self.close()

    def close(self) -> None:
        """Close the file."""
        with names_file(self._path):
            self._file.close()

    def _append(self, data: bytes) -> None:
        with names_file(self._path):
            self._file.write(data)
            self._file.flush()

    def _read_earlier(self, rows: int | None) -> int:
        """Count and remember the records in the file; returns the position after the last one."""
        header = self._kind.header
        end = 0
        for record in records(self._file, self._kind):
            if end == 0 and header:
                if record != header:
                    raise self._stranger("its first line is not the one of this command")
                end = len(header)
                continue
            try:
                entry = self._kind.decode(record)
            except ValueError as error:
                raise self._stranger(f"record {self.done + 1}: {error}") from error
            if rows is not None and entry.row is not None and entry.row >= rows:
                break
            end += len(record)
            self.done += 1
            self.failed += entry.failed
            self._earlier.add(entry.path)
        # Only a torn record of such a file may be cut off, and not another program's data.
        start = self._kind.start if end else header or self._kind.start
        self._file.seek(end)
        torn = self._file.read(len(start))
        if not start.startswith(torn):
            raise self._stranger("it does not look like an output of this command")
        return end

    def _results(self, end: int) -> Iterator[Result]:
        """The results before `end`, in bytes, whose images are still there."""
        at = len(self._kind.header) if end else 0
        self._file.seek(at)
        for record in records(self._file, self._kind):
            at += len(record)
            if at > end:
                return
            entry = self._kind.decode(record)
            if entry.failed or not still_there(entry.path):
                continue
            try:
                result = self._kind.result(record)
            except ValueError as error:
                raise self._stranger(f"the record of {entry.path}: {error}") from error
            yield result

    def _stranger(self, what: str) -> OutputError:
        return OutputError(
            f"{self._path}: cannot be continued, {what}. Give the options that it was begun with, "
            "another --out, or --overwrite"
        )


class NpyFile:
    """Vectors as rows of a `.npy` file, float32 `[rows, size]`, and records beside it.

    Args:
        path: the file; its records go to the name that `paths_of` gives.
        size: the number of values in a row.
        mode: as for `RecordFile`.
        check: as for `RecordFile`.

    Raises:
        OutputError, OSError: as `RecordFile` does.
    """

    def __init__(self, path: Path, size: int, mode: str, *, check: Check = no_check) -> None:
        if mode == "new":
            refuse_existing(path)
        self._path, self._size = path, size
        self._kind = Rows(self._read_row)
        rows = _rows_of(path, size) if mode == "resume" else 0
        self._records = RecordFile(paths_of(path), self._kind, mode, rows=rows, check=check)
        try:
            self._kind.next_row = self._records.done - self._records.failed
            # Unbuffered: a row has left this process when its record is written.
            self._file = open(path, "r+b" if path.exists() else "w+b", buffering=0)  # noqa: SIM115
            self._file.truncate(NPY_HEADER_BYTES + 4 * size * self._kind.next_row)
            self._write_header()
        except BaseException:
            self._records.close()
            raise

    @property
    def done(self) -> int:
        """The number of records."""
        return self._records.done

    @property
    def failed(self) -> int:
        """The number of records that are errors."""
        return self._records.failed

    def __contains__(self, path: str) -> bool:
        return path in self._records

    def write(self, result: Result) -> None:
        """Append a row, its record, and count it; an error has a record only."""
        if result.vector is None:
            self._records.write(result)
            return
        row = np.ascontiguousarray(result.vector, "<f4").tobytes()
        self._file.seek(NPY_HEADER_BYTES + len(row) * self._kind.next_row)
        self._write_all(row)
        self._records.write(result)
        self._write_header()

    def finish(self) -> None:
        """Close both files."""
        self.close()

    def close(self) -> None:
        """Close both files."""
        self._file.close()
        self._records.close()

    def _read_row(self, row: int) -> NDArray[np.float32]:
        at = NPY_HEADER_BYTES + 4 * self._size * row
        return np.fromfile(self._path, "<f4", self._size, offset=at)

    def _write_header(self) -> None:
        self._file.seek(0)
        self._write_all(npy_header(self._kind.next_row, self._size))

    def _write_all(self, data: bytes) -> None:
        """Write to the unbuffered file, whose `write` may take only a part of the data."""
        view = memoryview(data)
        with names_file(self._path):
            while view:
                view = view[self._file.write(view) :]


def paths_of(npy: Path) -> Path:
    """The file with the records of a `.npy` file: `emb.npy` has `emb.paths.jsonl`."""
    return npy.with_name(npy.name.removesuffix(".npy") + ".paths.jsonl")


def npy_header(rows: int, size: int) -> bytes:
    """The header of a `.npy` file of float32 `[rows, size]`, always `NPY_HEADER_BYTES` long."""
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {size}), }}"
    magic = b"\x93NUMPY\x01\x00"
    length = NPY_HEADER_BYTES - len(magic) - 2
    return magic + length.to_bytes(2, "little") + text.ljust(length - 1).encode("ascii") + b"\n"


def refuse_existing(path: Path) -> None:
    """Protect the output of an earlier run.

    Raises:
        OutputError: the file exists and is not empty.
    """
    if path.exists() and (not path.is_file() or path.stat().st_size):
        raise OutputError(
            f"{path}: is there already. Add --resume to continue it, or --overwrite to start anew"
        )


def _rows_of(path: Path, size: int) -> int:
    """The number of whole rows in a `.npy` file of an earlier run; 0 if there is no such file.

    Raises:
        OutputError: the file is of another kind, has rows of another size, or lacks its file of
            records, without which it would be begun anew.
    """
    if not path.exists() or path.stat().st_size < NPY_HEADER_BYTES:
        return 0
    with open(path, "rb") as file:
        header = file.read(NPY_HEADER_BYTES)
    text = npy_header(0, size)
    before, after = text.split(b"(0, ")
    records = paths_of(path)
    if header != text and not (records.exists() and records.stat().st_size):
        raise OutputError(
            f"{path}: cannot be continued without {records.name}, which says whose its rows are. "
            "Name another --out, or add --overwrite to start anew"
        )
    if not header.startswith(before) or after.rstrip() not in header:
        raise OutputError(
            f"{path}: cannot be continued, it is no array of {size} columns that this command has "
            "begun. Give the options that it was begun with, another --out, or --overwrite"
        )
    return (path.stat().st_size - NPY_HEADER_BYTES) // (4 * size)


def _hash(path: str) -> int:
    import hashlib  # here, because most runs have nothing to remember

    return int.from_bytes(hashlib.blake2b(os.fsencode(path), digest_size=8).digest(), "little")


def _lock(file: BinaryIO, path: Path) -> None:
    """Keep other runs away as long as the file is open; the system ends it with the process."""
    try:
        import fcntl
    except ImportError:  # Windows has none
        return
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise OutputError(f"{path}: another process writes to it") from error
    except OSError:
        return  # a file system without locks
