"""Weights that torch computes from other tensors before each forward: pruning, norms of weights.

`torch.nn.utils.prune` keeps `weight_orig` and `weight_mask`, whose product is the weight. Weight
norm, spectral norm and parametrizations compute it in ways that are not repeated here.
"""

from __future__ import annotations

from ..._core import WeightsError
from ..remarks import Note
from .files import listed
from .names import Tensors

_WAYS = {
    "_g": ("_v", "weight norm", "torch.nn.utils.remove_weight_norm"),
    "_u": ("_orig", "spectral norm", "torch.nn.utils.remove_spectral_norm"),
}
"""The endings of two tensors, what computes a weight from them, and what ends that."""


def computed(tensors: Tensors, origin: str) -> tuple[Tensors, list[str]]:
    """Multiply pruned weights with their masks.

    Args:
        tensors: the tensors of a state dict, by their names.
        origin: the file, for messages.

    Returns:
        The tensors, with the weights in place of what they are computed from; and remarks.

    Raises:
        WeightsError: weights are computed in another way.
    """
    pruned: list[str] = []
    result: Tensors = {}
    for name, tensor in tensors.items():
        _refuse_others(name, tensors, origin)
        weight = name.removesuffix("_orig")
        mask = tensors.get(f"{weight}_mask")
        if weight != name and mask is not None and mask.shape == tensor.shape:
            result[weight] = tensor * mask
            pruned.append(weight)
        else:
            result[name] = tensor
    for weight in pruned:
        del result[f"{weight}_mask"]
    named = f"multiplied pruned weights with their masks: {listed(pruned)}"
    return result, [Note(named)] if pruned else []


def _refuse_others(name: str, tensors: Tensors, origin: str) -> None:
    """Refuse a tensor from which torch computes a weight in another way than pruning."""
    module, parametrized, _ = name.partition(".parametrizations.")
    found = [("a parametrization", "torch.nn.utils.parametrize.remove_parametrizations")]
    if not parametrized:
        module = name.rpartition(".")[0]
        found = [
            (how, removal)
            for ending, (other, how, removal) in _WAYS.items()
            if name.endswith(ending) and f"{name.removesuffix(ending)}{other}" in tensors
        ]
    for how, removal in found:
        raise WeightsError(
            f"{origin}: tensor {name}: torch computes a weight of {module} from it ({how}): call "
            f"{removal} for each such module, and save the state dict again"
        )
