"""Folders of photos: a folder for each class, maybe below `train/`, `val/` and `test/`."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ..stream.folder.paths import LINKED_DIRECTORY, SUFFIXES, Sources
from ..terminal.tables import plural
from .errors import DataError, listed
from .labelled import Labelled, labels_by_name
from .places import ALL, PART_NAMES, TRAIN

# Folders that systems leave beside photos, and that no dot hides.
_NO_CLASSES = frozenset({"__MACOSX", "__pycache__", "@eaDir", "lost+found", "$RECYCLE.BIN"})
_LAYOUT = "expected a folder for each class, as in {folder}/CLASS/photo.jpg"


class Folder:
    """A folder of folders of photos.

    If it has a folder `train` that holds folders, the folders `train`, `val` and `test` are its
    parts, also by their other names. Otherwise each of its folders is a class. A link to a folder
    counts as one; below a class links to folders are not followed.

    Args:
        path: the folder.

    Attributes:
        name: its path.
        parts: as `Place` describes.
        places: the folder of each part, in which each folder is a class.

    Raises:
        DataError: two folders are the same part, or all parts have photos without classes.
        OSError: it cannot be listed.
    """

    def __init__(self, path: Path) -> None:
        self.name = os.fspath(path)
        self._parts = _parts_of(path)
        self.parts = tuple(self._parts)
        self.places = tuple(self._parts.values())
        self._remarks = _remarks_on_parts(path, self._parts)

    def read(self, part: str, classes: Sequence[str] | None) -> tuple[Labelled, tuple[str, ...]]:
        """Read one part, as `Place.read` describes."""
        found, remarks = read_classes(self._parts[part], classes)
        return found, (*self._remarks, *remarks)


def read_classes(
    folder: Path, classes: Sequence[str] | None = None
) -> tuple[Labelled, tuple[str, ...]]:
    """Read a folder in which each folder is a class.

    A class has the photos in its folder and below it, in the order of torchvision's `ImageFolder`.
    Hidden files and folders are left out.

    Args:
        folder: the folder.
        classes: the names that labels are indices of; None for the folders' names, sorted.

    Returns:
        The photos, and remarks on files that were left out.

    Raises:
        DataError: it has no class or no photo, or a class that is not among `classes`; or there
            is one folder alone, and the classes seem to be in that.
        OSError: a folder cannot be listed.
    """
    names, loose = _listed(folder)
    others: Counter[str] = Counter()
    paths: list[Path] = []
    labels: list[str] = []
    for name in names:
        photos = _photos_below(folder / name, others)
        paths += photos
        labels += [name] * len(photos)
    if not paths:
        raise DataError(_no_photos(folder, names, loose, others))
    if classes is None and len(names) == 1 and _listed(folder / names[0])[0]:
        raise DataError(
            f"{folder}: {_LAYOUT.format(folder=folder)}, for two classes or more; found one "
            f"folder, {names[0]!r}, with folders in it. If those are the classes, pass "
            f"{folder / names[0]}"
        )
    indices, found = labels_by_name(labels, names, os.fspath(folder), classes)
    return Labelled(tuple(paths), indices, found), _remarks_on_files(folder, loose, others)


def _parts_of(path: Path) -> dict[str, Path]:
    """The folders of the parts that a folder is divided into; the folder itself if it is not."""
    names, _ = _listed(path)
    found: dict[str, Path] = {}
    for name in names:
        part = PART_NAMES.get(name.lower())
        if part is None:
            continue
        if part in found:
            raise DataError(
                f"{path}: expected one folder for the part {part!r}; found "
                f"{listed([found[part].name, name])}: take one of them away"
            )
        found[part] = path / name
    # A class may be called train, as in plane, ship and train: then it holds photos.
    if TRAIN in found and _listed(found[TRAIN])[0]:
        return found
    if found and len(found) == len(names):
        if not any(_listed(one)[0] for one in found.values()):
            raise DataError(
                f"{path}: {_LAYOUT.format(folder=next(iter(found.values())))}; found no folder in "
                f"{listed([one.name for one in found.values()])}. If a table has the labels, pass "
                "that file"
            )
        return found  # val and test alone, to be evaluated
    return {ALL: path}


def _listed(folder: Path) -> tuple[list[str], list[str]]:
    """A folder's own folders and files, each sorted by name, without hidden ones."""
    folders: list[str] = []
    files: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") or entry.name in _NO_CLASSES:
                continue
            (folders if entry.is_dir() else files).append(entry.name)
    return sorted(folders), sorted(files)


def _photos_below(folder: Path, others: Counter[str]) -> list[Path]:
    """The photos in a folder and below it; counts the kinds of other files."""

    def fail(path: str, error: OSError) -> None:
        raise error

    def count(kind: str) -> None:
        others[kind] += 1

    found = list(Sources([os.path.abspath(folder)], on_error=fail, on_other=count))
    start = len(os.path.abspath(folder))
    photos = [folder / path[start:].lstrip(os.sep) for path in found]
    return sorted(photos, key=lambda photo: (os.fspath(photo.parent), photo.name))


def _remarks_on_parts(path: Path, parts: dict[str, Path]) -> tuple[str, ...]:
    if ALL in parts:
        return ()
    used = {part.name for part in parts.values()}
    left = [name for name in _listed(path)[0] if name not in used]
    if not left:
        return ()
    return (f"{path}: left out, since they are no parts such as train and val: {listed(left)}",)


def _remarks_on_files(folder: Path, loose: list[str], others: Counter[str]) -> tuple[str, ...]:
    remarks = []
    if photos := [name for name in loose if _is_photo(name)]:
        remarks.append(
            f"{folder}: left out {plural(len(photos), 'photo')} that no folder gives a class: "
            f"{listed(photos, 3)}"
        )
    kinds = Counter(others)
    kinds.update(Path(name).suffix.lower() for name in loose if not _is_photo(name))
    if links := kinds.pop(LINKED_DIRECTORY, 0):
        remarks.append(f"{folder}: {plural(links, 'link')} to folders below a class not followed")
    if kinds:
        text = ", ".join(
            f"{count} {kind or 'without a suffix'}" for kind, count in sorted(kinds.items())
        )
        remarks.append(
            f"{folder}: left out {plural(sum(kinds.values()), 'file')} without the suffix of a "
            f"photo: {text}"
        )
    return tuple(remarks)


def _no_photos(folder: Path, names: list[str], loose: list[str], others: Counter[str]) -> str:
    expected = f"{folder}: {_LAYOUT.format(folder=folder)}"
    tables = [name for name in loose if Path(name).suffix.lower() in (".csv", ".tsv")]
    photos = [name for name in loose if _is_photo(name)]
    if names:
        left = f" beside {plural(sum(others.values()), 'other file')}" if others else ""
        found = f"found the folders {listed(names)} without a photo{left}"
    elif photos:
        found = (
            f"found {plural(len(photos), 'photo')} in no folder: move each into that of its class"
        )
    else:
        found = "found no folder"
    if tables:
        found += f". For the labels in a table pass that file: {folder / tables[0]}"
    return f"{expected}; {found}"


def _is_photo(name: str) -> bool:
    return Path(name).suffix.lower() in SUFFIXES
