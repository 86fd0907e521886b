"""One model and one input in every form that a runtime wants."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from peer_runtimes.exports import export_ncnn, export_onnx
from peer_runtimes.network import Network
from torch_reference import load_reference, reference_logits

INPUT_SEED = 0


@dataclass(frozen=True)
class Workload:
    """A network's weights and an input of one shape.

    Attributes:
        weights: a resnet_rs weights directory.
        scratch: a folder for converted models.
        batch: images in a call.
        height: of the input, in pixels.
        width: of the input, in pixels.
        precision: of the arithmetic: `f32`, `int8` or `bf16`.
        network: the same weights, with images and int8 files; None in f32.
    """

    weights: Path
    scratch: Path
    batch: int
    height: int
    width: int
    precision: str = "f32"
    network: Network | None = None

    @property
    def calibrated(self) -> Network:
        """The network with its images.

        Raises:
            ValueError: there is none.
        """
        if self.network is None:
            raise ValueError(f"{self.precision}: expected a network with calibration images")
        return self.network

    @cached_property
    def architecture(self) -> str:
        """The network's name."""
        config = json.loads((self.weights / "config.json").read_text(encoding="utf-8"))
        return str(config["architecture"])

    @cached_property
    def nhwc(self) -> NDArray[np.float32]:
        """Normal noise, or held-out images if there are any: f32 `[batch, height, width, 3]`."""
        if self.network:
            held_out = self.network.images.held_out
            return held_out[np.arange(self.batch) % len(held_out)]
        shape = (self.batch, self.height, self.width, 3)
        return np.random.default_rng(INPUT_SEED).standard_normal(shape, dtype=np.float32)

    @cached_property
    def expected(self) -> NDArray[np.float64]:
        """Logits by torch in f64, `[batch, num_classes]`."""
        return reference_logits(load_reference(self.weights), self.nhwc)

    def torch_model(self) -> torch.nn.Module:
        """A new torch model in f32 and eval mode."""
        return load_reference(self.weights).float()

    @cached_property
    def onnx_file(self) -> Path:
        """An ONNX file of exactly this input shape, so that runtimes can plan for it."""
        path = self.scratch / f"batch{self.batch}.onnx"
        export_onnx(self.torch_model(), (self.batch, 3, self.height, self.width), path)
        return path

    @cached_property
    def ncnn_files(self) -> tuple[Path, Path]:
        """Ncnn's `.param` and `.bin` for one image of this size, weights in f32."""
        return export_ncnn(self.torch_model(), self.height, self.width, self.scratch)
