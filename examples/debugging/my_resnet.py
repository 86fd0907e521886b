"""A ResNet-50 written by hand in NumPy, with three mistakes in it.

docs/debugging.md finds them one after the other, with `resnet-rs compare`:

    python examples/debugging/my_resnet.py photo.jpg --weights weights --dump dump.npz
    resnet-rs compare photo.jpg --weights weights --against dump.npz

`--fix NAME` mends a mistake: look for "in fixed" below to see what each was.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from PIL import Image

from resnet_rs.weights import formats

Array = NDArray[np.float32]

BLOCKS = (3, 4, 6, 3)
MISTAKES = ("colours", "weights", "stride")


class MyResNet:
    """Computes one image `[height, width, channels]`, and keeps every step's result."""

    def __init__(self, tensors: dict[str, Array], fixed: Collection[str]) -> None:
        self.tensors = tensors
        self.fixed = fixed
        self.steps: dict[str, Array] = {}

    def __call__(self, x: Array) -> Array:
        """The logits, `[classes]`."""
        x = self.conv("conv1", x, stride=2, padding=3)
        x = self.relu("relu", self.batch_norm("bn1", x))
        x = self.max_pool("maxpool", x)
        for stage, count in enumerate(BLOCKS, start=1):
            for index in range(count):
                stride = 2 if stage > 1 and index == 0 else 1
                x = self.bottleneck(f"layer{stage}.{index}", x, stride)
        x = self.keep("avgpool", x.mean(axis=(0, 1), keepdims=True))
        weights, bias = self.tensors["fc.weight"], self.tensors["fc.bias"]
        return self.keep("fc", x @ weights.T + bias)[0, 0]

    def bottleneck(self, name: str, x: Array, stride: int) -> Array:
        """A residual block: 1x1, 3x3, 1x1, and its input added."""
        strides = (1, stride) if "stride" in self.fixed else (stride, 1)
        y = self.conv(f"{name}.conv1", x, strides[0])
        y = self.relu(f"{name}.relu1", self.batch_norm(f"{name}.bn1", y))
        y = self.conv(f"{name}.conv2", y, strides[1], padding=1)
        y = self.relu(f"{name}.relu2", self.batch_norm(f"{name}.bn2", y))
        y = self.batch_norm(f"{name}.bn3", self.conv(f"{name}.conv3", y))
        if f"{name}.downsample.0.weight" in self.tensors:
            x = self.conv(f"{name}.downsample.0", x, stride)
            x = self.batch_norm(f"{name}.downsample.1", x)
        return self.relu(name, self.keep(f"{name}.add", y + x))

    def conv(self, name: str, x: Array, stride: int = 1, padding: int = 0) -> Array:
        """A convolution, by the windows of its input."""
        weights = self.tensors[f"{name}.weight"]  # [out, in, kernel, kernel], as torch keeps them
        out, channels, kernel, _ = weights.shape
        if "weights" in self.fixed:
            weights = weights.transpose(0, 2, 3, 1)  # [out, kernel, kernel, in]
        else:
            weights = weights.reshape(out, kernel, kernel, channels)
        x = np.pad(x, ((padding, padding), (padding, padding), (0, 0)))
        windows = sliding_window_view(x, (kernel, kernel), axis=(0, 1))[::stride, ::stride]
        # windows: [out_h, out_w, in, kernel, kernel]
        return self.keep(name, np.tensordot(windows, weights, axes=((2, 3, 4), (3, 1, 2))))

    def batch_norm(self, name: str, x: Array) -> Array:
        """Normalise by the statistics that training gathered."""
        scale, shift, mean, variance = (
            self.tensors[f"{name}.{part}"]
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        return self.keep(name, (x - mean) / np.sqrt(variance + 1e-5) * scale + shift)

    def max_pool(self, name: str, x: Array) -> Array:
        """The largest of 3 x 3, every second pixel."""
        x = np.pad(x, ((1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
        windows = sliding_window_view(x, (3, 3), axis=(0, 1))[::2, ::2]
        return self.keep(name, windows.max(axis=(3, 4)))

    def relu(self, name: str, x: Array) -> Array:
        """Cut off what is negative."""
        return self.keep(name, np.maximum(x, 0))

    def keep(self, name: str, result: Array) -> Array:
        """Remember a step's result."""
        self.steps[name] = result
        return result


def prepare(path: str, fixed: Collection[str]) -> Array:
    """A photo as the demo model wants it: `[64, 64, 3]`, normalised."""
    pixels = np.asarray(Image.open(path).convert("RGB").resize((64, 64), Image.Resampling.BILINEAR))
    if "colours" not in fixed:
        pixels = pixels[..., ::-1]  # as cv2.imread returns them
    mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    normalised: Array = (pixels / np.float32(255) - mean) / std
    return normalised


def main() -> None:
    """Name the digit in a photo."""
    parser = argparse.ArgumentParser(description="Name the digit in a photo, or try to.")
    parser.add_argument("photo")
    parser.add_argument("--weights", required=True)
    parser.add_argument("--fix", nargs="*", choices=MISTAKES, default=[], help="mistakes to mend")
    parser.add_argument("--dump", help="write every step's result to this .npz file")
    arguments = parser.parse_args()

    tensors = formats.read(arguments.weights).tensors
    network = MyResNet({name: t.astype(np.float32) for name, t in tensors.items()}, arguments.fix)
    image = prepare(arguments.photo, arguments.fix)
    print(network(image).argmax())
    if arguments.dump:
        steps = {name: result[None] for name, result in network.steps.items()}  # a batch of one
        np.savez(arguments.dump, layout="NHWC", image=image[None], **steps)


if __name__ == "__main__":
    main()
