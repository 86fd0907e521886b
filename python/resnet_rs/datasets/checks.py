"""The check of labelled photos before the first epoch: each is read once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .. import arguments
from .._core import default_threads
from ..images.errors import ImageError
from ..stream.pipeline import Pipeline
from ..terminal.tables import plural
from .errors import DataError, listed
from .labelled import Labelled
from .photos import PhotoCache, Reader, Reduced, channels_of
from .places import TRAIN, VAL
from .reading import Split

FEW_PHOTOS = 10
"""A class with fewer photos to learn from is remarked on."""

UNEVEN = 10.0
"""So is a class that has so many times the photos of another one."""

_SHORT_SIDE = 96
_PIPELINE_BATCH = 8

Watch: TypeAlias = "Callable[[int, int], None]"
"""Called with the number of photos that are done and of those that failed, as `Meter.show` is."""


@dataclass(frozen=True)
class Dropped:
    """A photo that is left out.

    Attributes:
        part: `train` or `val`.
        name: its path, or its place in the array.
        reason: the cause, a sentence.
    """

    part: str
    name: str
    reason: str


@dataclass(frozen=True, eq=False)
class Report:
    """The result of a check.

    Attributes:
        train: the photos to learn from, without those that are left out.
        val: the photos to measure on, likewise.
        dropped: the photos that are left out.
        remarks: sentences about everything that a person should know before training.
    """

    train: Labelled
    val: Labelled
    dropped: tuple[Dropped, ...]
    remarks: tuple[str, ...]


def check(
    split: Split,
    *,
    reader: Reader | None = None,
    cache: PhotoCache | None = None,
    on_error: str = "skip",
    duplicates: str | None = None,
    workers: int | None = None,
    watch: Watch | None = None,
) -> Report:
    """Read every photo once, and find what would spoil a training.

    Args:
        split: the photos.
        reader: the reader that training will use; None for one of small pictures.
        cache: keeps the photos to learn from, so that the first epoch finds them there; None keeps
            nothing.
        on_error: `skip` to leave out photos that cannot be read, `raise` for an error.
        duplicates: for photos of `val` whose pixels are those of a photo of `train`: `drop` leaves
            them out of `val`, `keep` only remarks on them, `raise` is an error. None drops them if
            `val` was drawn, and keeps them if it was given.
        workers: the number of threads that read; by default the CPUs that a model would use.
        watch: called now and then with the numbers of photos that are done and that failed.

    Returns:
        The photos that are left, and remarks: unreadable photos, duplicates, classes with few or no
        photos, and uneven numbers.

    Raises:
        DataError: nothing can be learnt: no photo can be read, there is one class only, a class has
            no photo; or `duplicates="raise"`, and there are some.
        ImageError, OSError: a photo cannot be read, and `on_error="raise"`.
        TypeError, ValueError: an argument of another kind or out of range.
    """
    on_error = arguments.choice("on_error", on_error, ("skip", "raise"))
    duplicates = arguments.choice("duplicates", duplicates, (None, "drop", "keep", "raise"))
    workers = default_threads() if workers is None else arguments.count("workers", workers)
    require_classes(split.train)
    if reader is None:
        reader = Reduced(_SHORT_SIDE, channels_of(split.train, None))
    scan = _Scan(split, reader, cache, workers, raises=on_error == "raise", watch=watch)
    train, val = scan.readable(TRAIN), scan.readable(VAL)
    remarks = [*_unreadable(scan), *_repeats(scan)]
    dropped = list(scan.dropped)
    chosen = duplicates or ("drop" if split.drawn else "keep")
    leaks = scan.leaks()
    if leaks:
        text = _leaks(scan, leaks, chosen)
        if chosen == "raise":
            raise DataError(text)
        remarks.append(text)
    if chosen == "drop":
        dropped += [
            Dropped(VAL, split.val.name_of(index), f"same pixels as {split.train.name_of(twin)}")
            for index, twin in leaks.items()
        ]
        val = [index for index in val if index not in leaks]
    kept = split.train.subset(train), split.val.subset(val)
    _check_classes(kept[0], scan.reasons_by_class())
    remarks += _on_numbers(*kept)
    return Report(*kept, tuple(dropped), tuple(remarks))


def require_classes(train: Labelled) -> None:
    """Check that there are photos to learn from, of two classes or more, before any is read.

    Raises:
        DataError: there is no photo, one class only, or a class without a photo.
    """
    if not len(train):
        raise DataError("expected photos to learn from; found none")
    _check_classes(train, {})


class _Scan:
    """A fingerprint of each photo that can be read, and the reason why each other one cannot."""

    def __init__(
        self,
        split: Split,
        reader: Reader,
        cache: PhotoCache | None,
        workers: int,
        *,
        raises: bool,
        watch: Watch | None,
    ) -> None:
        self.parts = {TRAIN: split.train, VAL: split.val}
        self.prints: dict[str, dict[int, bytes]] = {TRAIN: {}, VAL: {}}
        self.reasons: dict[str, dict[int, str]] = {TRAIN: {}, VAL: {}}
        failed = 0
        outcomes = self._outcomes(reader, cache, workers)
        for done, (part, index, found) in enumerate(outcomes, 1):
            if isinstance(found, bytes):
                self.prints[part][index] = found
            elif raises or not isinstance(found, (OSError, ImageError, Warning)):
                raise found
            else:
                self.reasons[part][index] = str(found)
                failed += 1
            if watch is not None:
                watch(done, failed)
        self._check_some_readable()

    def readable(self, part: str) -> list[int]:
        return sorted(self.prints[part])

    @property
    def dropped(self) -> Iterator[Dropped]:
        for part, reasons in self.reasons.items():
            for index, reason in sorted(reasons.items()):
                yield Dropped(part, self.parts[part].name_of(index), reason)

    def leaks(self) -> dict[int, int]:
        """The photos of val that are in train too, each with its twin there."""
        twins: dict[bytes, int] = {}
        for index, found in sorted(self.prints[TRAIN].items()):
            twins.setdefault(found, index)
        val = sorted(self.prints[VAL].items())
        return {index: twins[found] for index, found in val if found in twins}

    def reasons_by_class(self) -> dict[int, str]:
        """The first reason of each class of train that has unreadable photos."""
        found: dict[int, str] = {}
        for index, reason in sorted(self.reasons[TRAIN].items()):
            found.setdefault(int(self.parts[TRAIN].labels[index]), reason)
        return found

    def _outcomes(
        self, reader: Reader, cache: PhotoCache | None, workers: int
    ) -> Iterator[tuple[str, int, bytes | Exception]]:
        files = []
        for part, photos in self.parts.items():
            if isinstance(photos.images, np.ndarray):
                for index, pixels in enumerate(photos.images):
                    yield part, index, _fingerprint(pixels)
            else:
                files += [(part, index) for index in range(len(photos))]

        def load(item: tuple[str, int]) -> tuple[NDArray[np.uint8]]:
            part, index = item
            path: Any = self.parts[part].images[index]
            # Photos to measure on are read in another way when they are used.
            keeps = cache is not None and part == TRAIN
            pixels = cache.get(reader, path) if cache is not None and keeps else reader(path)
            return (np.frombuffer(_fingerprint(pixels), np.uint8),)

        pipeline = Pipeline(
            files,
            load,
            lambda items, _: [views[0].tobytes() for views in items],
            batch_size=_PIPELINE_BATCH,
            computers=1,
            workers=workers,
        )
        try:
            for outcome in pipeline:
                part, index = outcome.item
                yield part, index, outcome.error or outcome.value
        finally:
            pipeline.close()

    def _check_some_readable(self) -> None:
        for part, photos in self.parts.items():
            if len(photos) and not self.prints[part]:
                reason = self.reasons[part][min(self.reasons[part])]
                raise DataError(
                    f"{part}: expected photos that can be read; not one of "
                    f"{plural(len(photos), 'photo')} can. The first: {reason}"
                )


def _fingerprint(pixels: NDArray[np.uint8]) -> bytes:
    """A hash of an image's size and pixels, 16 bytes."""
    found = hashlib.blake2b(repr(pixels.shape).encode(), digest_size=16)
    found.update(np.ascontiguousarray(pixels).data)
    return found.digest()


def _check_classes(train: Labelled, reasons: dict[int, str]) -> None:
    """Check that there are two classes or more, each with a photo to learn from."""
    counts = train.counts()
    if len(train.classes) < 2:
        raise DataError(
            f"expected two classes or more; found one, {train.classes[0]!r}, with "
            f"{plural(len(train), 'photo')}. A network that learns to tell photos apart needs "
            "photos of something else too"
        )
    empty = np.flatnonzero(counts == 0).tolist()
    if not empty:
        return
    names = listed([train.classes[label] for label in empty])
    because = next((reasons[label] for label in empty if label in reasons), None)
    raise DataError(
        f"expected a photo to learn from for each class; found none for "
        f"{plural(len(empty), 'class', 'classes')}: {names}"
        + (f". The first of its photos cannot be read: {because}" if because else "")
        + ". Add photos, or take the class away"
    )


def _unreadable(scan: _Scan) -> Iterator[str]:
    for part, reasons in scan.reasons.items():
        if reasons:
            some = [reasons[index] for index in sorted(reasons)[:3]]
            more = len(reasons) - len(some)
            yield (
                f"{part}: {plural(len(reasons), 'photo')} cannot be read and "
                f"{'is' if len(reasons) == 1 else 'are'} left out: {'; '.join(some)}"
                + (f"; and {more} more" if more else "")
            )


def _repeats(scan: _Scan) -> Iterator[str]:
    """Remarks on photos that are twice in one part, and on those with two labels."""
    groups: dict[bytes, list[tuple[str, int]]] = {}
    for part, prints in scan.prints.items():
        inside: dict[bytes, int] = {}
        for index, found in sorted(prints.items()):
            groups.setdefault(found, []).append((part, index))
            inside[found] = inside.get(found, 0) + 1
        if repeats := sum(count - 1 for count in inside.values()):
            yield f"{part}: {plural(repeats, 'photo')} with the pixels of another one there"
    for group in groups.values():
        labels = {int(scan.parts[part].labels[index]): (part, index) for part, index in group}
        if len(labels) > 1:
            places = [
                f"{scan.parts[part].name_of(index)} ({scan.parts[part].classes[label]})"
                for label, (part, index) in sorted(labels.items())
            ]
            yield f"one picture has several labels: {', '.join(places)}"


def _leaks(scan: _Scan, leaks: dict[int, int], chosen: str) -> str:
    index, twin = next(iter(leaks.items()))
    text = (
        f"val: {plural(len(leaks), 'photo')} of {len(scan.parts[VAL])} with the pixels of a photo "
        f"of train, such as {scan.parts[VAL].name_of(index)} and {scan.parts[TRAIN].name_of(twin)}"
    )
    if chosen == "drop":
        return f"{text}: left out of val"
    return f"{text}. The accuracy on val is too high by them: take them away, or drop duplicates"


def _on_numbers(train: Labelled, val: Labelled) -> Iterator[str]:
    """Remarks on the numbers of photos."""
    counts = train.counts()
    few = [
        f"{name} ({count})"
        for name, count in zip(train.classes, counts.tolist(), strict=True)
        if count < FEW_PHOTOS
    ]
    if few:
        yield (
            f"train: {plural(len(few), 'class has', 'classes have')} fewer than {FEW_PHOTOS} "
            f"photos, which is little to learn from: {', '.join(few[:10])}"
            + (f" and {len(few) - 10} more" if len(few) > 10 else "")
        )
    most, least = int(counts.argmax()), int(counts.argmin())
    if counts[most] >= UNEVEN * counts[least]:
        common, rare = train.classes[most], train.classes[least]
        yield (
            f"train: {common!r} has {counts[most]} photos and {rare!r} has {counts[least]}. A "
            "network learns the rare class badly: add photos, or weight the classes"
        )
    if not len(val):
        return  # None was asked for, or a remark says why all are left out.
    without = [train.classes[label] for label in np.flatnonzero(val.counts() == 0).tolist()]
    if without:
        yield (
            f"val: no photo of {plural(len(without), 'class', 'classes')}, on which nothing is "
            f"measured: {listed(without)}"
        )
