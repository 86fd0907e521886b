"""Paths of images from the arguments of a command: files, directories, patterns, lists.

Paths come one at a time, so that a tree of a million files is not held in memory; only the names
of one directory are, to be sorted. They are text with surrogate escapes for bytes that are not
UTF-8, as everywhere in Python.
"""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ...weights.small_files import other_encoding

STDIN = "-"
LIST_PREFIX = "@"

# The suffixes of images in a directory. A file that is named outright may have any suffix.
# fmt: off
SUFFIXES = (
    ".apng", ".avif", ".avifs", ".bmp", ".dib", ".gif", ".heic", ".heif", ".hif", ".j2k", ".jfif",
    ".jp2", ".jpe", ".jpeg", ".jpg", ".jpx", ".mpo", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tga",
    ".tif", ".tiff", ".webp",
)
# fmt: on
# The names of other things in a directory, beside suffixes.
LINKED_DIRECTORY, SPECIAL_FILE = "links to directories", "pipes, sockets or devices"
_SUFFIXES = frozenset(SUFFIXES)

_CHUNK_BYTES = 1 << 16
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # with which some editors begin a text file


@dataclass(frozen=True)
class Sources:
    """The images that a command line names.

    Iterating finds their paths. A directory's come sorted: its own files, then those of its
    subdirectories. Hidden files and directories in it (`.name`) are left out, and links to
    directories are not followed, which could lead round in circles.

    Attributes:
        arguments: each a file, a directory, a pattern with `*`, `?`, `[` or `**`, `@` before the
            name of a file that lists paths, or `-` for such a list on stdin. A file or directory of
            that very name comes first, whatever characters it has.
        recursive: True to search subdirectories too.
        nul: True if lists end their entries with a NUL instead of a newline.
        on_error: called with the path of a directory that cannot be listed, and the error.
        on_empty: called with the path of a directory that has no image.
        on_other: called for each file that is left out, with its suffix in lower case, or
            `LINKED_DIRECTORY` or `SPECIAL_FILE`; not for hidden ones.
    """

    arguments: Sequence[str]
    recursive: bool = True
    nul: bool = False
    on_error: Callable[[str, OSError], None] = lambda path, error: None
    on_empty: Callable[[str], None] = lambda path: None
    on_other: Callable[[str], None] = lambda kind: None

    def __iter__(self) -> Iterator[str]:
        for argument in self.arguments:
            yield from self._find(argument)

    def check(self) -> None:
        """Check that every list exists, without opening one, which may be a pipe.

        Raises:
            OSError: a list does not exist.
        """
        for argument in self.arguments:
            if _is_list(argument):
                os.stat(argument[1:])

    def count(self, stop: Callable[[], bool] = lambda: False) -> int | None:
        """Count the paths, in little memory.

        Returns:
            The number of paths; None if they can be read only once (stdin, a list that is a pipe),
            or once `stop` returns True.
        """
        if any(_is_read_once(argument) for argument in self.arguments):
            return None
        silent = Sources(self.arguments, self.recursive, self.nul)
        total = 0
        for _ in silent:
            total += 1
            if stop():
                return None
        return total

    def _find(self, argument: str) -> Iterator[str]:
        if argument == STDIN:
            yield from _entries(0, self.nul, "stdin")
        elif os.path.isdir(argument):
            yield from self._search(argument)
        elif os.path.lexists(argument):
            yield argument
        elif _is_list(argument):
            descriptor = os.open(argument[1:], os.O_RDONLY | getattr(os, "O_BINARY", 0))
            try:
                yield from _entries(descriptor, self.nul, argument[1:])
            finally:
                os.close(descriptor)
        elif glob.has_magic(argument):
            found = sorted(glob.iglob(argument, recursive=True))
            for path in found:
                yield from self._search(path) if os.path.isdir(path) else [path]
            if not found:
                yield argument  # the error that it cannot be opened is the pattern's own
        else:
            yield argument

    def _search(self, directory: str) -> Iterator[str]:
        """Find the images in a directory; report one that has none."""
        found = False
        failed = False
        pending = [directory]
        while pending:
            here = pending.pop()
            try:
                files, directories, others = _list(here)
            except OSError as error:
                failed = True
                self.on_error(here, error)
                continue
            for kind in others:
                self.on_other(kind)
            for name in files:
                found = True
                yield os.path.join(here, name)
            if self.recursive:
                # The last one is taken first.
                pending.extend(os.path.join(here, name) for name in reversed(directories))
        if not found and not failed:
            self.on_empty(directory)


def _is_list(argument: str) -> bool:
    return len(argument) > 1 and argument.startswith(LIST_PREFIX) and not os.path.lexists(argument)


def _is_read_once(argument: str) -> bool:
    return argument == STDIN or (_is_list(argument) and not os.path.isfile(argument[1:]))


def _list(directory: str) -> tuple[list[str], list[str], list[str]]:
    """A directory's images and subdirectories, sorted by name, and the kinds of its other files."""
    files, directories, others = [], [], []
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                directories.append(entry.name)
            elif kind := _other_kind(entry):
                others.append(kind)
            elif (suffix := os.path.splitext(entry.name)[1].lower()) in _SUFFIXES:
                files.append(entry.name)
            else:
                others.append(suffix)
    return sorted(files), sorted(directories), others


def _other_kind(entry: os.DirEntry[str]) -> str | None:
    """The name of what is no file: a link to a directory, or a pipe or device, which never ends."""
    try:
        mode = entry.stat().st_mode
    except OSError:
        return None  # as a link to nothing, which becomes a record with an error
    if stat.S_ISDIR(mode):
        return LINKED_DIRECTORY
    return None if stat.S_ISREG(mode) else SPECIAL_FILE


def _entries(descriptor: int, nul: bool, name: str) -> Iterator[str]:
    """The entries of a list, as they arrive; messages call it `name`.

    The descriptor is read directly: a thread that waits inside Python's own stdin would stop the
    interpreter from ending.
    """
    separator = b"\0" if nul else b"\n"
    rest = b""
    begins = True
    while chunk := os.read(descriptor, _CHUNK_BYTES):
        if begins and (encoding := other_encoding(chunk)):
            raise ValueError(f"{name}: expected UTF-8, found {encoding}: save it as UTF-8")
        if begins:
            chunk = chunk.removeprefix(_BYTE_ORDER_MARK)
            begins = False
        *complete, rest = (rest + chunk).split(separator)
        yield from _names(complete, nul, name)
    yield from _names([rest], nul, name)


def _names(entries: list[bytes], nul: bool, list_name: str) -> Iterator[str]:
    for entry in entries:
        name = entry if nul else entry.removesuffix(b"\r")
        if b"\0" in name:
            raise ValueError(
                f"{list_name}: a list of paths with a NUL in a line: for the output of find "
                "-print0 add -0; an image itself is named by its path"
            )
        if name:
            yield os.fsdecode(name)
