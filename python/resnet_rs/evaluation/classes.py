"""The classes of labelled photos and those of a model: which is which."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..weights.loaded import Loaded

_SYNSET = re.compile(r"n\d{8}")
_SHOWN = 6


@dataclass(frozen=True)
class Matched:
    """The place of each class of the data among a model's outputs.

    Attributes:
        indices: `[classes of the data]`, the model's index of each.
        names: the names of all of the model's classes, by index.
        remarks: everything that was assumed, in sentences.
    """

    indices: NDArray[np.int64]
    names: tuple[str, ...]
    remarks: tuple[str, ...] = ()


def own_classes(loaded: Loaded) -> Matched:
    """Take data whose labels are the model's own indices.

    Raises:
        ValueError: the model has no classes.
    """
    number = loaded.network.num_classes
    if number == 0:
        raise ValueError(
            "this model has no classes (num_classes=0), so it cannot be evaluated: load it with "
            "its last layer"
        )
    return Matched(np.arange(number, dtype=np.int64), tuple(loaded.labels))


def match_classes(loaded: Loaded, classes: Sequence[str]) -> Matched:
    """Find the classes of labelled data among those of a model.

    Classes are matched by name, in any order; the data may have fewer of them than the model. A
    model whose weights state no names has as many classes as the data, and they are matched by
    their order. So are folders that are named by ImageNet's synsets (`n01440764`), if there is one
    for each of 1,000 classes.

    Args:
        loaded: the model.
        classes: the names of the data's classes.

    Raises:
        ValueError: the model has no classes, names differ, or a name stands for several classes.
    """
    names = own_classes(loaded).names
    number = len(names)
    places = {name: index for index, name in enumerate(names)}
    if all(name in places for name in classes):
        _refuse_repeated(names, classes)
        return Matched(np.array([places[name] for name in classes], np.int64), names)
    in_order = np.arange(len(classes), dtype=np.int64)
    if len(classes) == number == 1000 and all(map(_SYNSET.fullmatch, classes)):
        ordered = np.argsort(np.argsort(np.array(classes))).astype(np.int64)
        remark = "the classes are ImageNet's synsets: they were matched in the order of their names"
        return Matched(ordered, names, (remark,))
    unnamed = loaded.config.labels is None
    if unnamed and len(classes) == number:
        remark = (
            f"the weights state no names of classes, so the {number} classes of the data were "
            f"matched by their order: {_shown(classes)}"
        )
        return Matched(in_order, tuple(classes), (remark,))
    raise ValueError(_difference(loaded, classes, names, unnamed))


def _refuse_repeated(names: Sequence[str], classes: Sequence[str]) -> None:
    counts = Counter(names)
    repeated = [name for name in classes if counts[name] > 1]
    if repeated:
        raise ValueError(
            f"the model has {counts[repeated[0]]} classes named {repeated[0]!r}, so the name does "
            "not say which one the data means: load the model with labels=, a name of its own for "
            "each class"
        )


def _difference(loaded: Loaded, classes: Sequence[str], names: Sequence[str], unnamed: bool) -> str:
    """Say how the names of the data and of the model differ, and what to do."""
    origin = loaded.options.origin
    if unnamed and len(names) != 1000:
        return (
            f"the data has {len(classes)} classes ({_shown(classes)}), and {origin} has "
            f"{len(names)} and states no names: expected as many classes in the data, or names in "
            "the weights (labels=, or resnet-rs convert --labels FILE)"
        )
    strange = [name for name in classes if name not in set(names)]
    text = (
        f"the data's classes are not those of the model: {origin} expects names among "
        f"{_shown(names)} ({len(names)} in all); found {_shown(strange)}"
    )
    if len(strange) < len(classes):
        text += f" and {len(classes) - len(strange)} that agree"
    close = difflib.get_close_matches(strange[0], names, 1)
    if close:
        text += f". Is {strange[0]!r} the model's {close[0]!r}?"
        return f"{text} Rename the data's classes, or load the model with labels="
    if all(map(_SYNSET.fullmatch, strange)):
        return (
            f"{text}. They look like ImageNet's synsets, which are matched only if there is a "
            "folder for each of 1,000: rename the folders to the model's names"
        )
    return f"{text}. Rename the data's classes, or load the model with labels="


def _shown(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:_SHOWN]))
    return f"{shown}, ..." if len(names) > _SHOWN else shown
