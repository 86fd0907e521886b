"""Dumps: the results of a network's operations in an `.npz` file, from any implementation.

The convention:

- each result is an entry under its operation's name in `resnet_rs` (torchvision's name);
- `layout`, a string, is the order of the axes of arrays with four axes: `NHWC`
  (`[batch, height, width, channels]`) or `NCHW` (`[batch, channels, height, width]`, torch's).
  It is required, because the arrays do not show it. Arrays `[batch, channels]` (pooled features,
  logits) are the same in both layouts;
- `image`, optional, is the network's input, normalised, in the same layout.

Values are of any float type. Entries may be missing, and their order does not matter.
"""

from __future__ import annotations

import contextlib
import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from ..replacing import replacing

LAYOUTS = ("NHWC", "NCHW")


class DumpError(ValueError):
    """A file does not follow the convention: the message names the file and the entry."""


def write_dump(
    path: str | os.PathLike[str],
    results: Iterable[tuple[str, NDArray[Any]]],
    *,
    image: NDArray[Any] | None = None,
    layout: str = "NHWC",
) -> None:
    """Write a dump, one array after the other.

    The file gets its name when it is complete: an older file of that name stays until then.

    Args:
        path: the file to write.
        results: names and arrays; only one array at a time is needed in memory.
        image: the network's input.
        layout: the layout of all arrays with four axes, `NHWC` or `NCHW`.

    Raises:
        ValueError: another `layout`.
        OSError: the file cannot be written.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"layout must be NHWC or NCHW; got {layout!r}")
    path = os.path.abspath(os.fsdecode(path))
    with replacing(path) as unfinished, zipfile.ZipFile(unfinished, "w") as archive:
        _write_entry(archive, "layout", np.array(layout))
        if image is not None:
            _write_entry(archive, "image", image)
        for name, array in results:
            _write_entry(archive, name, array)


class Dump:
    """A dump on disk. Each array is read on access, and the file is not held open.

    Args:
        path: the `.npz` file.

    Attributes:
        path: the file.
        names: the operations whose results it has.
        has_image: True if it has the network's input too.
        layout: `NHWC` or `NCHW`.

    Raises:
        DumpError: the file does not follow the convention.
        OSError: the file cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fsdecode(path)
        with _opened(self.path) as entries:
            self.names = tuple(name for name in entries if name not in ("layout", "image"))
            self.has_image = "image" in entries
            if "layout" not in entries:
                raise DumpError(
                    f"{self.path}: no entry 'layout'. Say how the arrays' axes are ordered: "
                    'numpy.savez(path, layout="NCHW", **arrays) for torch\'s order, or "NHWC"'
                )
            self.layout = str(_entry(self.path, entries, "layout"))
        if self.layout not in LAYOUTS:
            raise DumpError(f"{self.path}: layout must be 'NHWC' or 'NCHW'; got {self.layout!r}")

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Read one array, in its own float type.

        Returns:
            NHWC; an array `[batch, channels]` becomes `[batch, 1, 1, channels]`.

        Raises:
            DumpError: not an array of floats with two or four axes.
            KeyError: there is no such entry.
        """
        with _opened(self.path) as entries:
            array = _entry(self.path, entries, name)
        shape = list(array.shape)
        if array.dtype.kind != "f":
            raise DumpError(f"{self.path}: {name} must hold floats; got {array.dtype} {shape}")
        if array.ndim == 2:
            return array[:, None, None, :]
        if array.ndim != 4:
            raise DumpError(
                f"{self.path}: {name} must have four axes ({self.layout}) or two "
                f"[batch, channels]; got {shape}"
            )
        return array.transpose(0, 2, 3, 1) if self.layout == "NCHW" else array


def load_entries(path: str | os.PathLike[str]) -> dict[str, NDArray[Any]]:
    """Read every entry of an `.npz` file, whatever it holds.

    Raises:
        DumpError: the file is none, or damaged.
        OSError: the file cannot be opened.
    """
    name = os.fsdecode(path)
    with _opened(name) as entries:
        return {entry: _entry(name, entries, entry) for entry in entries}


def entry_names(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """List the entries of an `.npz` file.

    Raises:
        DumpError: the file is none.
        OSError: the file cannot be opened.
    """
    with _opened(os.fsdecode(path)) as entries:
        return tuple(entries)


@contextlib.contextmanager
def _opened(path: str) -> Iterator[Mapping[str, NDArray[Any]]]:
    """Open a file and give its entries."""
    with open(path, "rb") as file:
        try:
            entries = np.load(file, allow_pickle=False)
        except (ValueError, EOFError, zipfile.BadZipFile) as error:
            raise DumpError(f"{path}: no .npz file that NumPy can read: {error}") from error
        if not isinstance(entries, np.lib.npyio.NpzFile):
            raise DumpError(f"{path}: a single array; a dump is an .npz file of named arrays")
        with entries:
            yield entries


def _entry(path: str, entries: Mapping[str, NDArray[Any]], name: str) -> NDArray[Any]:
    try:
        return entries[name]
    except (ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error) as error:
        raise DumpError(f"{path}: {name} cannot be read: {error}") from error


def _write_entry(archive: zipfile.ZipFile, name: str, array: NDArray[Any]) -> None:
    # The size is not known beforehand, and may exceed the 4 GiB of a plain entry.
    with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
        np.lib.format.write_array(cast(BinaryIO, entry), np.asarray(array), allow_pickle=False)
