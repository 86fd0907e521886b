"""The memory for photos, divided between those to learn from and those to measure on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..datasets.labelled import Labelled
from ..datasets.photos import PhotoCache
from ..datasets.reading import Split
from ..terminal.tables import plural


@dataclass(frozen=True)
class Caches:
    """A cache for each kind of photos: together they have the room of one.

    Attributes:
        train: of the photos to learn from.
        val: of the photos to measure on.
    """

    train: PhotoCache
    val: PhotoCache

    @classmethod
    def divided(cls, split: Split, limit: int | None, photo: int) -> Caches:
        """Reserve what the photos to measure on need, and leave the rest for the others.

        Without a division the first pass over the photos to learn from would fill everything.

        Args:
            split: the photos.
            limit: the bytes of both, as `PhotoCache` takes them.
            photo: the bytes of a photo to measure on.
        """
        whole = PhotoCache(limit).limit
        val = min(_files(split.val) * photo, whole)
        return cls(PhotoCache(whole - val), PhotoCache(val))

    @classmethod
    def none(cls) -> Caches:
        """Caches that keep nothing, for photos that are read once."""
        return cls(PhotoCache(0), PhotoCache(0))

    def remarks(self, train: Labelled, val: Labelled, photo: int) -> Iterator[str]:
        """Sentences on photos that find no room, after those to learn from were read once.

        Args:
            train: the photos to learn from.
            val: the photos to measure on.
            photo: the bytes of one of these.
        """
        if not self.train.limit + self.val.limit:
            return  # That is the user's choice.
        outside = _files(train) - len(self.train) if self.train.is_full else 0
        outside += max(0, _files(val) - self.val.limit // photo)
        if outside > 0:
            yield (
                f"{plural(outside, 'photo')} of {_files(train) + _files(val)} not kept in memory, "
                f"since all do not fit into {(self.train.limit + self.val.limit) / 1e6:.1f} MB: "
                "they are decoded anew in each epoch. In Python cache=... takes more bytes"
            )


def _files(photos: Labelled) -> int:
    """The number of photos that are read from files."""
    return 0 if photos.paths is None else len(photos)
