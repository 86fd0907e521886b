"""torch in f64: the judge of every number that this project computes."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.models import resnet50

from safetensors_file import read_safetensors


def load_reference(directory: Path) -> torch.nn.Module:
    """Load `model.safetensors` of a weights directory into torchvision's resnet50, f64, eval mode.

    Raises:
        RuntimeError: the tensors are not exactly resnet50's.
    """
    return build_reference(read_safetensors(directory / "model.safetensors"))


def build_reference(state: dict[str, torch.Tensor]) -> torch.nn.Module:
    """Build torchvision's resnet50 from tensors of any float dtype, in f64 and eval mode.

    Raises:
        RuntimeError: the tensors are not exactly resnet50's.
    """
    with torch.device("meta"):
        model = resnet50(num_classes=state["fc.weight"].shape[0])
    model = model.to_empty(device="cpu").double().eval()
    model.load_state_dict({name: tensor.double() for name, tensor in state.items()})
    return model


def reference_logits(model: torch.nn.Module, x: NDArray[np.float32]) -> NDArray[np.float64]:
    """Run f32 `[batch, height, width, 3]` through an f64 model: `[batch, num_classes]`."""
    with torch.inference_mode():
        logits: NDArray[np.float64] = model(_nchw(x)).numpy()
    return logits


def reference_activations(
    model: torch.nn.Module, x: NDArray[np.float32]
) -> dict[str, NDArray[np.float64]]:
    """Run f32 `[batch, height, width, 3]` through an f64 model and keep what fused steps give.

    Returns:
        The names of `_core.Network.activations` to NHWC arrays: `relu` (the stem), `maxpool`,
        each block's `relu1`, `relu2` and output, `avgpool` (`[batch, 1, 1, 2048]`) and `fc`
        (`[batch, num_classes]`).
    """
    kept: dict[str, NDArray[np.float64]] = {}

    def recorder(names: Iterable[str]) -> Callable[[object, object, torch.Tensor], None]:
        """A forward hook that keeps the output of each successive call under the next name."""
        remaining = iter(names)

        def hook(_module: object, _inputs: object, output: torch.Tensor) -> None:
            nhwc = output.permute(0, 2, 3, 1) if output.ndim == 4 else output
            kept[next(remaining)] = nhwc.clone(memory_format=torch.contiguous_format).numpy()

        return hook

    hooks = []
    for name, module in model.named_modules():
        if name in ("relu", "maxpool", "avgpool", "fc"):
            names = [name]
        elif name.endswith(".relu"):
            # One ReLU module serves three places of a bottleneck; the last gives its output.
            block = name.removesuffix(".relu")
            names = [f"{block}.relu1", f"{block}.relu2", block]
        else:
            continue
        hooks.append(module.register_forward_hook(recorder(names)))
    try:
        with torch.inference_mode():
            model(_nchw(x))
    finally:
        for hook in hooks:
            hook.remove()
    return kept


def relative_l2(actual: NDArray[np.floating], expected: NDArray[np.floating]) -> float:
    """`|actual - expected| / |expected|` in the Euclidean norm over all elements, in f64.

    Raises:
        ValueError: the shapes differ.
    """
    if actual.shape != expected.shape:
        raise ValueError(f"expected shape {expected.shape}, got {actual.shape}")
    reference = expected.astype(np.float64)
    distance = np.linalg.norm((actual.astype(np.float64) - reference).ravel())
    return float(distance / np.linalg.norm(reference.ravel()))


def _nchw(x: NDArray[np.float32]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2), dtype=np.float64))
