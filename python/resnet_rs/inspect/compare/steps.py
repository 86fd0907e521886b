"""`compare`: the results of two networks for one image, in network order."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from ...weights.loaded import HasLoaded, Loaded
from ..aliases import aliases
from ..trace import Trace
from .diagnose import Diagnosis, diagnose
from .sides import DumpSource, ModelSource, ModuleSource, Source, TraceSource
from .table import Comparison, Row

if TYPE_CHECKING:
    from torch import nn

Array: TypeAlias = NDArray[Any]
Comparable: TypeAlias = "HasLoaded | nn.Module | Trace | str | os.PathLike[str]"

TOLERANCE = 1e-4
"""The largest relative L2 difference that counts as equal.

Two correct implementations in f32 differ by some 1e-6 at the end of a deep network; a mistake in
one tap, statistic or pixel gives 1e-3 and more.
"""


def compare(
    a: Comparable, b: Comparable, image: Any = None, *, tolerance: float = TOLERANCE
) -> Comparison:
    """Compare two networks step by step, and name the first step that differs.

    Args:
        a: the network that is taken to be right: a model, a torch module, a trace, or the path of
            a dump (`.npz`; `docs/debugging.md` has the convention).
        b: the network to check, of any of these kinds. Names of steps are torchvision's.
        image: the input of both: an image, or what `model.forward` takes. Each model preprocesses
            an image as its weights want it; a torch module gets the input that the model on the
            other side makes. None takes the `image` of a dump or of a trace.
        tolerance: the largest relative L2 difference that counts as equal.

    Returns:
        A table in network order, with the first wrong step and the mistake that explains it. A
        diagnosis needs a model on one side.

    Raises:
        TypeError: a side of another kind.
        ValueError: no image, an int8 model beside an f32 one, two sides without any step in common,
            or a dump that does not follow the convention.
        ImageError, OSError: the image or a dump cannot be read.

    Example:
        ```python
        import resnet_rs

        model = resnet_rs.ResNet50("weights")
        model.trace("photo.jpg").save("dump.npz")
        comparison = resnet_rs.compare(model, "dump.npz", "photo.jpg")
        assert comparison.ok
        print(comparison)
        ```
    """
    if not tolerance > 0:
        raise ValueError(f"tolerance must be above 0; got {tolerance!r}")
    _require_equal_precisions(a, b)
    first, second = _sources(a, b, image)
    steps, unknown = _steps(first, second)
    if not steps:
        raise ValueError(
            f"{first.label} and {second.label} have no step in common. Steps have torchvision's "
            f"names, such as conv1 or layer1.0.conv1; {second.label} has "
            f"{', '.join(list(second.names())[:5]) or 'none at all'}"
        )
    rows = []
    if first.image is not None and second.image is not None:
        rows.append(Row.between("image", "image", first.image, second.image, tolerance))
    ones = first.results([step.in_a for step in steps])
    others = second.results([step.in_b for step in steps])
    for step, one, other in zip(steps, ones, others, strict=True):
        rows.append(Row.between(step.name, step.kind, one, other, tolerance))
    wrong = next((row.name for row in rows if not row.ok), None)
    names = [step.name for step in steps]
    return Comparison(
        a=first.label,
        b=second.label,
        rows=tuple(rows),
        tolerance=tolerance,
        first_wrong=wrong,
        diagnosis=None
        if wrong is None
        else _diagnose(first, second, steps, rows, wrong, image, tolerance),
        can_diagnose=isinstance(first, ModelSource) or isinstance(second, ModelSource),
        missing=tuple(o["name"] for o in _network(first, second) if o["name"] not in names),
        unknown=unknown,
    )


def _require_equal_precisions(a: Any, b: Any) -> None:
    """Check that no quantised model is compared with an f32 one: their steps always differ.

    Raises:
        ValueError: one of two models is quantised.
    """
    sides = [loaded for loaded in map(_loaded_of, (a, b)) if loaded is not None]
    precisions = {loaded.precision for loaded in sides}
    if len(precisions) > 1 and "f32" in precisions:
        raise ValueError(
            f"compare: expected models of one precision; got {sides[0].precision} and "
            f"{sides[1].precision}. resnet_rs.compare_precision shows what each layer loses"
        )


@dataclass(frozen=True)
class _Step:
    """An operation that both sides have.

    Attributes:
        name: the network's name of it.
        kind: `conv`, ...; `-` if no side knows it.
        in_a: its name at the first side.
        in_b: its name at the second side.
    """

    name: str
    kind: str
    in_a: str
    in_b: str


def _sources(a: Comparable, b: Comparable, image: Any) -> tuple[Source, Source]:
    """Make both sides; models and torch modules run on the same input."""
    found: dict[int, Source] = {}
    for place, side in enumerate((a, b)):
        if isinstance(side, Trace):
            found[place] = TraceSource(side)
        elif isinstance(side, (str, os.PathLike)):
            found[place] = DumpSource(_dump_path(side))
        elif _loaded_of(side) is None and not _is_module(side):
            raise TypeError(
                "compare takes models (ResNet50, load, ...), torch modules, traces and paths of "
                f".npz dumps; got {type(side).__name__}"
            )
    if image is None:
        image = next((s.image for s in found.values() if s.image is not None), None)
    if isinstance(image, np.ndarray) and image.dtype.kind == "f":
        image = np.ascontiguousarray(image, np.float32)  # as `forward` takes it
    if len(found) < 2 and image is None:
        raise ValueError("compare needs an image: neither side brings one")
    for place, side in enumerate((a, b)):
        loaded = _loaded_of(side)
        if loaded is not None:
            found[place] = ModelSource(loaded, image)
    # torch modules come last: they run on the input that a model made of the image.
    x = next((s.image for s in found.values() if isinstance(s, ModelSource)), image)
    for place, side in enumerate((a, b)):
        if place not in found:
            found[place] = ModuleSource(cast(Any, side), _normalised(x))
    return found[0], found[1]


def _dump_path(side: str | os.PathLike[str]) -> str:
    path = os.fsdecode(side)
    if not path.endswith(".npz"):
        raise ValueError(
            f"{path}: a path must be that of a dump (.npz); for weights pass resnet_rs.load(path)"
        )
    return path


def _loaded_of(side: Any) -> Loaded | None:
    """Return a model's network; None for anything that is not a model."""
    loaded = getattr(side, "loaded", None)
    return loaded if isinstance(loaded, Loaded) else None


def _is_module(side: Any) -> bool:
    """Tell if `side` is a torch module, without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(side, torch.nn.Module)


def _normalised(x: Any) -> Array:
    """Check the input for a torch module, which cannot preprocess an image.

    Raises:
        TypeError: not an array of floats.
        ValueError: not four axes.
    """
    if not isinstance(x, np.ndarray) or x.dtype.kind != "f":
        raise TypeError(
            "without a model on the other side a torch module needs a normalised float array "
            f"[batch, height, width, channels]; got {type(x).__name__}"
        )
    if x.ndim != 4:
        raise ValueError(f"expected [batch, height, width, channels]; got {list(x.shape)}")
    array: Array = x
    return array


def _network(first: Source, second: Source) -> Sequence[Mapping[str, Any]]:
    """Return the operations of the network: a model's if there is one, else a trace's."""
    for kind in (ModelSource, TraceSource):
        for source in (first, second):
            if isinstance(source, kind):
                return source.operations
    return ()


def _steps(first: Source, second: Source) -> tuple[list[_Step], tuple[str, ...]]:
    """Find the steps that both sides have, in network order, and the unknown names."""
    operations = _network(first, second)
    if not operations:
        shared = set(second.names())
        return [_Step(name, "-", name, name) for name in first.names() if name in shared], ()
    other_names = aliases(operations)
    known = {operation["name"] for operation in operations}
    places: list[dict[str, str]] = []
    unknown = []
    for source in (first, second):
        place: dict[str, str] = {}
        for name in source.names():
            if name in known:
                place[name] = name
            elif name in other_names:
                place.setdefault(other_names[name], name)
            else:
                unknown.append(name)
        places.append(place)
    steps = [
        _Step(o["name"], o["kind"], places[0][o["name"]], places[1][o["name"]])
        for o in operations
        if o["name"] in places[0] and o["name"] in places[1]
    ]
    return steps, tuple(unknown)


def _diagnose(
    first: Source,
    second: Source,
    steps: Sequence[_Step],
    rows: Sequence[Row],
    wrong: str,
    image: Any,
    tolerance: float,
) -> Diagnosis | None:
    """Diagnose with a model as the expert: the first side if it is a model, else the second."""
    if isinstance(first, ModelSource):
        expert, other, names = first, second, {step.name: step.in_b for step in steps}
    elif isinstance(second, ModelSource):
        expert, other, names = second, first, {step.name: step.in_a for step in steps}
    else:
        return None
    if wrong == "image":
        assert other.image is not None
        given = other.image
    else:
        given = next(iter(other.results([names[wrong]])))
    return diagnose(
        expert,
        other,
        wrong,
        np.asarray(given, np.float64),
        {row.name: names.get(row.name, row.name) for row in rows if row.ok},
        tolerance=tolerance,
        photo=image if _is_photo(image) else None,
    )


def _is_photo(image: Any) -> bool:
    """Tell if `image` is a single image that can be decoded again."""
    if isinstance(image, np.ndarray):
        return image.dtype == np.uint8 and image.ndim < 4
    return image is not None and not isinstance(image, (list, tuple))
