r"""Results as a Parquet file: a journal that pyarrow converts at the end (the extra `parquet`).

A Parquet file cannot be appended to and is unreadable until it is closed, so the results of a run
go to a journal that survives a kill at any moment: JSON lines for predictions, a `.npy` file for
embeddings. Conversion reads it in groups, so that memory does not grow with the number of results.

The columns are `path`, `error` (null if there is a result) and

- `predictions`: a list of `{label: string, score: float, index: int32}`, best first, or
- `embedding`: a list of float32 of one fixed length,

null if there is an error. A byte of a name that is not UTF-8 is the text `\udc80` to `\udcff`.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from io import BufferedReader
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...file_errors import names_file
from ...images.errors import ImageError
from ...results import Prediction, Result
from .outputs import (
    NPY_HEADER_BYTES,
    Check,
    NpyFile,
    OutputError,
    Paths,
    RecordFile,
    no_check,
    paths_of,
    still_there,
)
from .records import JsonLines

# Records of a row group: 32 MB of embeddings.
_GROUP = 4096
# Records that are Python objects at a time: a number of an embedding takes 32 bytes then.
_ROWS = 64
_Schema: TypeAlias = Any
_Batch: TypeAlias = Any


class ParquetFile:
    """Results that become a Parquet file when the run is finished.

    A finished file can be continued too: its records go back into a journal, but only if there is
    something to add.

    Args:
        path: the file. The journal is `NAME.partial.jsonl`, or `NAME.partial.npy` and
            `NAME.partial.paths.jsonl` for embeddings.
        count: the number of classes of a prediction, or of numbers in an embedding.
        mode: as for `RecordFile`.
        embeds: whether results are embeddings.
        check: as for `RecordFile`.

    Raises:
        ImportError: pyarrow is not installed.
        OutputError, OSError: as `RecordFile` does.
    """

    def __init__(
        self, path: Path, count: int, mode: str, *, embeds: bool, check: Check = no_check
    ) -> None:
        _pyarrow()
        self._path, self._count, self._embeds = path, count, embeds
        self._values, self._journal = self._named("partial")
        self._records: RecordFile | NpyFile | None = None
        self._earlier: Paths | None = None
        if mode == "new" and path.exists():
            raise OutputError(
                f"{path}: is there already. Add --resume to add what it lacks, or --overwrite to "
                "start anew"
            )
        if mode == "resume" and path.exists() and not self._journal.exists():
            self._read_whole(check)
        else:
            self._records = self._open(mode, check)

    @property
    def done(self) -> int:
        """The number of records."""
        return self._done if self._records is None else self._records.done

    @property
    def failed(self) -> int:
        """The number of records that are errors."""
        return self._failed if self._records is None else self._records.failed

    def __contains__(self, path: str) -> bool:
        records = self._records if self._earlier is None else self._earlier
        return records is not None and path in records

    def write(self, result: Result) -> None:
        """Append a record."""
        if self._records is None:
            self._records = self._take_out()
        self._records.write(result)

    def finish(self) -> None:
        """Convert the journal to the Parquet file, and remove it."""
        if self._records is None:
            return
        self._records.close()
        import pyarrow.parquet

        schema = _schema(self._count, embeds=self._embeds)
        partial = self._path.with_name(self._journal.name.removesuffix(".jsonl") + ".parquet")
        with names_file(self._path), pyarrow.parquet.ParquetWriter(partial, schema) as writer:
            for batch in self._batches(schema):
                writer.write_batch(batch)
        os.replace(partial, self._path)
        for file in (self._values, self._journal):
            if file is not None:
                file.unlink()

    def close(self) -> None:
        """Leave the journal as it is, so that a later run can go on."""
        if self._records is not None:
            self._records.close()

    def _named(self, state: str) -> tuple[Path | None, Path]:
        """The files of a journal: the numbers of embeddings if there are any, and the records."""
        name = f"{self._path.name.removesuffix('.parquet')}.{state}"
        values = self._path.with_name(f"{name}.npy") if self._embeds else None
        return values, paths_of(values) if values else self._path.with_name(f"{name}.jsonl")

    def _open(
        self, mode: str, check: Check = no_check, state: str = "partial"
    ) -> RecordFile | NpyFile:
        values, journal = self._named(state)
        if values is not None:
            return NpyFile(values, self._count, mode, check=check)
        kind = JsonLines("predictions", self._count)
        return RecordFile(journal, kind, mode, check=check)

    def _batches(self, schema: _Schema) -> Iterator[_Batch]:
        """The journal as record batches."""
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(open(self._journal, "rb"))
            values = None
            if self._values is not None:
                values = stack.enter_context(open(self._values, "rb"))
            while group := [json.loads(line) for line in islice(file, _GROUP)]:
                if values is None:
                    yield _predictions(schema, group)
                else:
                    rows = [record["row"] for record in group if "row" in record]
                    yield _embeddings(schema, group, self._rows(values, rows))

    def _rows(self, file: BufferedReader, rows: list[int]) -> NDArray[np.float32]:
        """Read rows of the journal of embeddings: `[len(rows), count]`."""
        values = np.empty((len(rows), self._count), "<f4")
        for value, row in zip(values, rows, strict=True):
            file.seek(NPY_HEADER_BYTES + value.nbytes * row)
            if file.readinto(value.data) < value.nbytes:
                raise OutputError(
                    f"{self._values}: has become shorter than its records say. Add --overwrite to "
                    "start anew"
                )
        return values

    def _read_whole(self, check: Check) -> None:
        """Check a finished Parquet file, and remember its paths."""
        import pyarrow.parquet

        file = pyarrow.parquet.ParquetFile(self._path)
        if not file.schema_arrow.equals(_schema(self._count, embeds=self._embeds)):
            raise OutputError(
                f"{self._path}: cannot be continued, it has other columns. Give the options that "
                "it was begun with, another --out, or --overwrite"
            )
        length = None if self._embeds else _first_length(file)
        if length not in (None, self._count):
            raise OutputError(
                f"{self._path}: was begun with other weights or options: it has {length} classes "
                f"for each image, and this run gives {self._count}. Give the options that it was "
                "begun with, another --out, or --overwrite"
            )
        check(_results(file))
        self._earlier = earlier = Paths()
        self._done = self._failed = 0
        for batch in file.iter_batches(_GROUP, columns=["path", "error"]):
            self._done += len(batch)
            self._failed += len(batch) - batch.column("error").null_count
            for path in batch.column("path").to_pylist():
                earlier.add(_real(path))

    def _take_out(self) -> RecordFile | NpyFile:
        """Convert a finished Parquet file back to its journal.

        The journal gets its name once it is complete: a kill must not leave half of one, which the
        next run would take for all that there is.
        """
        import pyarrow.parquet

        with contextlib.closing(self._open("overwrite", state="taken")) as records:
            for batch in pyarrow.parquet.ParquetFile(self._path).iter_batches(_ROWS):
                for row in batch.to_pylist():
                    records.write(_result(row))
        values, journal = self._named("taken")
        if values is not None and self._values is not None:
            os.replace(values, self._values)
        os.replace(journal, self._journal)
        return self._open("resume")


def _pyarrow() -> None:
    """Say what to install, before hours of work rather than after them.

    Raises:
        ImportError: pyarrow is not installed.
    """
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise ImportError(
            'Parquet needs pyarrow: pip install "resnet_rs[parquet]", or write .jsonl, .csv or .npy'
        ) from error


def _schema(count: int, *, embeds: bool) -> _Schema:
    import pyarrow as pa

    prediction = pa.struct([("label", pa.string()), ("score", pa.float32()), ("index", pa.int32())])
    last = (
        ("embedding", pa.list_(pa.float32(), count))
        if embeds
        else ("predictions", pa.list_(prediction))
    )
    return pa.schema([("path", pa.string()), ("error", pa.string()), last])


def _predictions(schema: _Schema, group: list[dict[str, Any]]) -> _Batch:
    import pyarrow as pa

    rows = [{**record, "path": _shown(record["path"])} for record in group]
    return pa.RecordBatch.from_pylist(rows, schema=schema)


def _embeddings(schema: _Schema, group: list[dict[str, Any]], rows: NDArray[np.float32]) -> _Batch:
    import pyarrow as pa

    failed = np.array(["error" in record for record in group])
    block = np.zeros((len(group), rows.shape[1]), np.float32)
    block[~failed] = rows
    embedding = pa.Array.from_buffers(
        schema.field("embedding").type,
        len(group),
        [pa.py_buffer(np.packbits(~failed, bitorder="little"))],
        children=[pa.array(block.reshape(-1))],
    )
    paths = pa.array([_shown(record["path"]) for record in group], pa.string())
    errors = pa.array([record.get("error") for record in group], pa.string())
    return pa.RecordBatch.from_arrays([paths, errors, embedding], schema=schema)


def _first_length(file: Any) -> int | None:
    """The number of predictions of the first row with any; None if no row has any."""
    for batch in file.iter_batches(_GROUP, columns=["predictions"]):
        lengths = batch.column(0).value_lengths().drop_null()
        if len(lengths):
            length: int = lengths[0].as_py()
            return length
    return None


def _results(file: Any) -> Iterator[Result]:
    """The results whose images still exist."""
    for batch in file.iter_batches(_GROUP):
        heads = zip(
            batch.column("path").to_pylist(), batch.column("error").to_pylist(), strict=True
        )
        for i, (path, error) in enumerate(heads):
            if error is None and still_there(_real(path)):
                yield _result(batch.slice(i, 1).to_pylist()[0])


def _result(row: dict[str, Any]) -> Result:
    """The result that a row was written from."""
    predictions, vector = row.get("predictions"), row.get("embedding")
    return Result(
        -1,
        _real(row["path"]),
        predictions=None if predictions is None else [Prediction(**one) for one in predictions],
        vector=None if vector is None else np.array(vector, np.float32),
        error=None if row["error"] is None else ImageError(row["error"]),
    )


def _shown(path: str) -> str:
    """A path as UTF-8 can hold it."""
    return path.encode("utf-8", "backslashreplace").decode("utf-8")


def _real(path: str) -> str:
    """The path that `_shown` has shown."""
    import re

    return re.sub(r"\\u(dc[89a-f][0-9a-f])", lambda match: chr(int(match[1], 16)), path)
