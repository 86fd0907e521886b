"""A network that is to run in low precision, and the files that runtimes make of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from peer_runtimes.exports import export_onnx
from peer_runtimes.images import Images
from torch_reference import load_reference, reference_logits, relative_l2

COMPARED = 8
"""Calibration images that a runtime's settings are compared on: as many as ours takes."""

CHUNK = 8
"""Images that torch runs at once in f64."""

Forward = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""`[1, 3, height, width]` to logits `[1, num_classes]`."""

_T = TypeVar("_T")


@dataclass(frozen=True)
class Network:
    """A network and its images. What is made of them serves every batch size and thread count.

    Attributes:
        weights: a resnet_rs weights directory, f32.
        scratch: a folder for converted models.
        images: what calibrates and what measures.
    """

    weights: Path
    scratch: Path
    images: Images
    _made: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the input."""
        height, width = self.images.held_out.shape[1:3]
        return height, width

    @cached_property
    def calibration_nchw(self) -> NDArray[np.float32]:
        """The calibration images as contiguous `[n, 3, height, width]`."""
        return np.ascontiguousarray(self.images.calibration.transpose(0, 3, 1, 2))

    @cached_property
    def held_out_logits(self) -> NDArray[np.float64]:
        """Of the held-out images, by torch in f64."""
        return self._reference(self.images.held_out)

    @cached_property
    def onnx_file(self) -> Path:
        """An ONNX file in f32 whose batch is free."""
        path = self.scratch / "f32.onnx"
        export_onnx(self.torch_model(), (None, 3, *self.size), path)
        return path

    def torch_model(self) -> torch.nn.Module:
        """A new torch model in f32 and eval mode."""
        return load_reference(self.weights).float()

    def once(self, name: str, make: Callable[[], _T]) -> _T:
        """Call `make` the first time that `name` is asked for."""
        if name not in self._made:
            self._made[name] = make()
        made: _T = self._made[name]
        return made

    def best(
        self,
        settings: Mapping[str, Callable[[], _T]],
        runner: Callable[[_T], Forward],
    ) -> tuple[str, _T]:
        """Choose the setting whose logits are nearest to those of f64, on calibration images.

        Ours chooses its method so: every runtime may.

        Args:
            settings: names to what converts the network.
            runner: loads a converted network.

        Returns:
            The best setting's name and converted network.
        """
        inputs = self.calibration_nchw[:COMPARED]
        expected = self.once(
            "compared", lambda: self._reference(self.images.calibration[:COMPARED])
        )
        errors: dict[str, float] = {}
        converted: dict[str, _T] = {}
        for name, convert in settings.items():
            converted[name] = convert()
            forward = runner(converted[name])
            found = [np.array(forward(image[None])) for image in inputs]
            error = relative_l2(np.concatenate(found), expected)
            errors[name] = error if np.isfinite(error) else np.inf
        name = min(errors, key=lambda one: errors[one])
        return name, converted[name]

    def _reference(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        model = load_reference(self.weights)
        chunks = [x[start : start + CHUNK] for start in range(0, len(x), CHUNK)]
        return np.concatenate([reference_logits(model, chunk) for chunk in chunks])
