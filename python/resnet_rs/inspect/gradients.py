"""Traces of gradients: the gradient of the loss by every result and every tensor, by name."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..reference.walk_back import backward
from ..targets import target_matrix
from ..terminal.tables import text_table
from ..weights.loaded import Loaded
from .dumps import write_dump
from .inputs import network_input
from .trace import Stats

Array: TypeAlias = NDArray[Any]
Labels: TypeAlias = "int | str | Sequence[int | str] | ArrayLike"


class GradientTrace(Mapping[str, Array]):
    """The gradient of the loss by each result and each tensor of a network, in float64.

    A trace is a mapping from names to arrays in the order of the way back: `fc`, `fc.weight`,
    `fc.bias`, `avgpool`, ..., `conv1`, `conv1.weight`, and at last `image`. The name of an
    operation, as in `resnet_rs.inspect.trace.Trace`, stands for the gradient by its result, NHWC.
    The name of a tensor, such as `layer1.0.conv1.weight`, stands for the gradient by it, in the
    layout of torch.

    `print(trace)` shows a table of every gradient's shape, norm and statistics.

    Attributes:
        loss: the cross-entropy, the mean over the batch.
        image: the network's input, `[batch, height, width, channels]`, normalised.
        targets: the matrix of the loss, `[batch, classes]` (`resnet_rs.targets`).
        statistics: the running means and variances after this batch, by name.
    """

    def __init__(
        self,
        operations: Sequence[Mapping[str, Any]],
        tensors: Mapping[str, Array],
        image: Array,
        targets: Array,
        frozen: Collection[str] = (),
    ) -> None:
        """Compute the gradients; users call `model.trace_gradients(image, label)`.

        Args:
            operations: the network's operations for the image's size, as the core lists them.
            tensors: torchvision's names to arrays.
            image: `[batch, height, width, channels]`, normalised.
            targets: `[batch, classes]`.
            frozen: the names of operations that do not learn.

        Raises:
            ValueError: as `resnet_rs.reference.backward`.
        """
        step = backward(operations, tensors, image, targets, frozen=frozen)
        self.loss = step.loss
        self.image = image
        self.targets = targets
        self.statistics = step.statistics
        self._gradients: dict[str, Array] = {}
        self._kinds: dict[str, str] = {}
        for operation in reversed(operations):
            name = operation["name"]
            self._gradients[name] = step.result_gradients[name]
            self._kinds[name] = operation["kind"]
            for part, (tensor, _) in operation["parameters"].items():
                if tensor in step.gradients:
                    self._gradients[tensor] = step.gradients[tensor]
                    self._kinds[tensor] = part
        self._gradients["image"] = step.result_gradients["image"]
        self._kinds["image"] = "image"

    def __getitem__(self, name: str) -> Array:
        """Return one gradient.

        Raises:
            KeyError: there is no such name.
        """
        if name in self._gradients:
            return self._gradients[name]
        import difflib

        close = difflib.get_close_matches(name, self._gradients, n=3)
        hint = f"did you mean {' or '.join(map(repr, close))}?" if close else "list(trace) has all"
        raise KeyError(f"no gradient by {name!r}; {hint}")

    def __iter__(self) -> Iterator[str]:
        return iter(self._gradients)

    def __len__(self) -> int:
        return len(self._gradients)

    def kind(self, name: str) -> str:
        """The kind of a name: `conv`, `relu`, ... of a result, `weight` or `bias` of a tensor.

        Raises:
            KeyError: there is no such name.
        """
        return self._kinds[name]

    def stats(self, name: str) -> Stats:
        """Compute a gradient's statistics.

        Raises:
            KeyError: there is no such name.
        """
        return Stats.of(self[name])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write every gradient to an `.npz` file that `resnet-rs compare` reads.

        The file also has the input (`image`), a probability for each class and image (`targets`)
        and the `loss`.

        Args:
            path: the file to write.

        Raises:
            OSError: the file cannot be written.
        """
        # Soft targets are divided by the number of images when they are read.
        targets = self.targets * len(self.targets)
        loss = np.array(self.loss)
        entries: dict[str, Array] = {**self._gradients, "targets": targets, "loss": loss}
        entries["image.gradient"] = entries.pop("image")
        write_dump(path, entries.items(), image=self.image)

    def as_list(self) -> list[dict[str, Any]]:
        """Return name, kind, shape, norm and statistics of each gradient, in types that JSON has.

        A number that is not finite becomes None.
        """
        rows = []
        for name, gradient in self._gradients.items():
            numbers = {"norm": _norm(gradient), **asdict(Stats.of(gradient))}
            finite = {key: _finite(value) for key, value in numbers.items()}
            rows.append({"name": name, "kind": self.kind(name), "shape": gradient.shape, **finite})
        return rows

    def __repr__(self) -> str:
        head = ("gradient by", "kind", "shape", "norm", "min", "max", "mean", "std", "zeros")
        rows = [self._row(name) for name in self._gradients]
        shape = " x ".join(map(str, self.image.shape))
        table = text_table([(*head, "NaN, Inf"), *rows], left=3)
        return f"Trace of {len(rows)} gradients, input {shape}, loss {self.loss:.6g}\n\n{table}"

    def _row(self, name: str) -> tuple[str, ...]:
        gradient, stats = self._gradients[name], self.stats(name)
        values = (_norm(gradient), stats.min, stats.max, stats.mean, stats.std)
        shape = " x ".join(map(str, gradient.shape))
        odd = f"{stats.nans}, {stats.infs}" if stats.nans or stats.infs else "-"
        return (
            name,
            self.kind(name),
            shape,
            *(f"{n:.4g}" for n in values),
            f"{stats.zeros:.1%}",
            odd,
        )


def trace_gradients(
    loaded: Loaded,
    images: Any,
    labels: Labels,
    *,
    label_smoothing: float = 0.0,
    frozen: Collection[str] = (),
) -> GradientTrace:
    """Trace the gradients of a batch, as `ResNet.trace_gradients` describes.

    Args:
        loaded: the network.
        images: one image or several, or what `ResNet.forward` takes.
        labels: a class for each image.
        label_smoothing: the part of each label that is shared among all classes.
        frozen: the names of operations that do not learn.

    Raises:
        ImageError, OSError, TypeError, ValueError: an image or a label that is none.
    """
    loaded.require_f32("a trace of gradients")
    x = np.array(network_input(loaded, images))
    targets = targets_of(loaded, labels, len(x), label_smoothing=label_smoothing)
    operations = loaded.network.operations(*x.shape[1:3])
    return GradientTrace(
        operations, loaded.tensors(), x, targets, frozen_operations(operations, frozen)
    )


def targets_of(
    loaded: Loaded, labels: Labels, batch: int, *, label_smoothing: float = 0.0
) -> NDArray[np.float64]:
    """Make the matrix of the loss.

    Args:
        loaded: the network, which knows the names of its classes.
        labels: a class by index or name, or one for each image; or soft targets
            `[batch, classes]`.
        batch: the number of images.
        label_smoothing: from 0 to 1.

    Raises:
        TypeError, ValueError: labels of another kind, number or range.
    """
    classes = loaded.config.num_classes
    if not classes:
        raise ValueError("these weights have no last layer (num_classes = 0), so there is no loss")
    found: Any = [labels] if isinstance(labels, (int, str, np.integer)) else labels
    if isinstance(found, Sequence):
        found = [_index(label, loaded.config.labels) for label in found]
    matrix = target_matrix(found, classes, smoothing=label_smoothing)
    if len(matrix) != batch:
        raise ValueError(f"expected a label for each of {batch} images; got {len(matrix)}")
    return matrix


def frozen_operations(
    operations: Sequence[Mapping[str, Any]], frozen: Collection[str]
) -> frozenset[str]:
    """Check the names of frozen operations.

    Args:
        operations: the network's.
        frozen: names of operations; or `norms`, all batch norms.

    Raises:
        ValueError: there is no such operation with tensors.
    """
    with_tensors = [o for o in operations if o["parameters"]]
    names = {o["name"] for o in with_tensors}
    found: set[str] = set()
    for name in [frozen] if isinstance(frozen, str) else frozen:
        if name == "norms":
            found |= {o["name"] for o in with_tensors if o["kind"] == "batch_norm"}
        elif name in names:
            found.add(name)
        else:
            raise ValueError(
                f"frozen: no operation {name!r} with tensors; expected `norms` or names such as "
                f"{', '.join(o['name'] for o in with_tensors[:2])}"
            )
    return frozenset(found)


def _index(label: Any, names: Sequence[str] | None) -> Any:
    """The index of a class that may be given by its name."""
    if not isinstance(label, str):
        return label
    if names and label in names:
        return list(names).index(label)
    if label.strip().lstrip("-").isdecimal():
        return int(label)
    known = f"a name such as {names[0]!r}" if names else "an index: these weights name no classes"
    raise ValueError(f"label {label!r}: no such class; expected an index, or {known}")


def _norm(array: Array) -> float:
    return float(np.linalg.norm(array.ravel()))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
