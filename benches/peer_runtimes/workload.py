"""One model and one input in every form that a runtime wants."""

import json
import subprocess
import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

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
    """

    weights: Path
    scratch: Path
    batch: int
    height: int
    width: int

    @cached_property
    def architecture(self) -> str:
        """The network's name."""
        config = json.loads((self.weights / "config.json").read_text(encoding="utf-8"))
        return str(config["architecture"])

    @cached_property
    def nhwc(self) -> NDArray[np.float32]:
        """Normal noise, f32 `[batch, height, width, 3]`."""
        shape = (self.batch, self.height, self.width, 3)
        return np.random.default_rng(INPUT_SEED).standard_normal(shape, dtype=np.float32)

    @cached_property
    def nchw(self) -> NDArray[np.float32]:
        """The same values as contiguous `[batch, 3, height, width]`."""
        return np.ascontiguousarray(self.nhwc.transpose(0, 3, 1, 2))

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
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                self.torch_model(),
                (torch.from_numpy(self.nchw),),
                path,
                input_names=["image"],
                output_names=["logits"],
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        return path

    @cached_property
    def ncnn_files(self) -> tuple[Path, Path]:
        """Ncnn's `.param` and `.bin` for one image of this size, weights in f32."""
        import pnnx

        traced = self.scratch / "image.pt"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = torch.from_numpy(self.nchw[:1])
            torch.jit.trace(self.torch_model(), image, check_trace=False).save(str(traced))
        subprocess.run(
            [pnnx.EXEC_PATH, traced, f"inputshape=[1,3,{self.height},{self.width}]f32", "fp16=0"],
            cwd=self.scratch,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        return traced.with_suffix(".ncnn.param"), traced.with_suffix(".ncnn.bin")
