"""The layers that stay in bf16: those that are named, or those whose 8 bits cost the most.

The noise of a layer is measured at the logits: the network runs with this layer in int8 and all
others in bf16. (With this layer alone in bf16, the noise of the others would hide what it gains.)
The noise of several layers adds up about as squares do, for roundings do not know of each other. So
layers go to bf16 in the order of their noise, until the rest fits the budget; then the network
itself is measured, and layers are added or taken back where the sum was wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from .._core import Network
from ..reference.fused import Layer
from ..terminal.progress import Progress
from .errors import relative_error
from .images import Batch, evenly

IMAGES = 8
"""How many images the error is measured on, at most."""

Mixed = Callable[[Collection[str]], Network]
"""Makes the network with some layers in bf16."""


def named(layers: Sequence[Layer], names: Sequence[str]) -> frozenset[str]:
    """Find the layers that are to stay in bf16.

    Args:
        layers: those of the network.
        names: of layers, of convolutions in them, or of stages (`layer4`), which stand for all of
            their layers.

    Raises:
        ValueError: there is no such layer.
    """
    ours = [layer for layer in layers if layer.sources]
    found: set[str] = set()
    for name in names:
        mine = {
            layer.name
            for layer in ours
            if layer.name.split(".")[0] == name
            or name in (layer.name, *(source.name for source in layer.sources))
        }
        if not mine:
            known = ", ".join(layer.name for layer in ours)
            raise ValueError(f"bf16: expected layers or stages ({known}); got {name!r}")
        found |= mine
    return frozenset(found)


def require_some_in_int8(layers: Sequence[Layer], keep: Collection[str]) -> None:
    """Check that not every layer stays in bf16.

    Raises:
        ValueError: every one does.
    """
    if all(layer.name in keep for layer in layers if layer.sources):
        raise ValueError(
            "bf16: expected at least one layer in int8; for a network in bf16 alone load the f32 "
            'weights with precision="bf16"'
        )


def fewest(
    layers: Sequence[Layer],
    mixed: Mixed,
    f32: Network,
    sample: Sequence[Batch],
    *,
    most: float,
    keep: frozenset[str],
    line: Progress,
) -> frozenset[str]:
    """Choose the layers that stay in bf16, so that the logits' error is at most `most`.

    Args:
        layers: those of the network.
        mixed: makes the network with some layers in bf16.
        f32: the f32 network.
        sample: images `[1, height, width, channels]`.
        most: the relative error of the logits that is allowed.
        keep: layers that stay in bf16 in any case.
        line: where to show how far it is.

    Raises:
        ValueError: bf16 itself has a larger error.
    """
    images = [sample[place] for place in evenly(len(sample), min(IMAGES, len(sample)))]
    expected = [f32.logits(x) for x in images]

    def error(kept: Collection[str]) -> float:
        network = mixed(kept)
        return relative_error([network.logits(x) for x in images], expected)

    if error(keep) <= most:
        return keep
    every = frozenset(layer.name for layer in layers if layer.sources)
    free = [layer.name for layer in layers if layer.name in every - keep]
    squares = {}
    for place, name in enumerate(free, start=1):
        line.say(f"measuring the noise of layer {place} of {len(free)} ...")
        squares[name] = error(every - {name}) ** 2
    # Each of them has the noise of bf16 itself.
    least = min(squares.values())
    order = sorted(squares, key=lambda name: squares[name], reverse=True)
    rest, count = sum(squares.values()) - len(free) * least, 0
    while least + rest > most**2 and count < len(order) - 1:
        rest -= squares[order[count]] - least
        count += 1
    line.say("choosing the layers in bf16 ...")
    while (found := error(keep | set(order[:count]))) > most:
        count += 1
        if count == len(order):
            raise ValueError(
                f"max_error: expected at least {found:.2%}, the error with all layers but one in "
                f"bf16; got {most:.2%}"
            )
    while count > 1 and error(keep | set(order[: count - 1])) <= most:
        count -= 1
    return keep | set(order[:count])
