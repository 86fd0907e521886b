"""The arrays of a network in an ONNX graph, by torchvision's names."""

from __future__ import annotations

import numpy as np

from ..._core import WeightsError
from ..remarks import Note
from .onnx_constants import MAX_FILLED, as_floats
from .onnx_network import Network, Unit
from .onnx_proto import Array
from .onnx_steps import NotResNetError, Step


class Arrays:
    """Turns constants into a network's arrays, each once, and counts the bytes that are new.

    Args:
        most_bytes: what may be new: copies, conversions and folded weights.
    """

    def __init__(self, most_bytes: int) -> None:
        self._left = most_bytes
        self._taken: dict[int, tuple[Array, Array]] = {}
        self._filled: dict[bytes, Array] = {}

    def of(self, constant: Array) -> Array:
        """Give a constant, C-contiguous, as float32 or as the float16 that it is."""
        if id(constant) not in self._taken:
            repeated = constant.size > 1 and not any(constant.strides)
            array = self._repeated(constant) if repeated else as_floats(constant)
            if not (repeated or np.may_share_memory(array, constant)):
                self.spend(array)
            # With the constant, so that no other gets its id.
            self._taken[id(constant)] = constant, array
        return self._taken[id(constant)][1]

    def _repeated(self, constant: Array) -> Array:
        """Give a constant that is one number everywhere as a view of a shared array.

        It takes no bytes in the file, so it should take few in memory.
        """
        number = as_floats(constant.flat[:1])
        key = number.tobytes()
        if key not in self._filled or self._filled[key].size < constant.size:
            # Twice as large each time, and few different ones, so that all of them stay small.
            length = 1 << (constant.size - 1).bit_length()
            self._filled[key] = np.full(length, number, np.float32)
            if sum(array.size for array in self._filled.values()) > 2 * MAX_FILLED:
                raise WeightsError("the graph has too many large constants of one number each")
        return self._filled[key][: constant.size].reshape(constant.shape)

    def spend(self, array: Array) -> None:
        """Count an array that is not a view of the file.

        Raises:
            WeightsError: there are more than the file can need.
        """
        self._left -= array.nbytes
        if self._left < 0:
            raise WeightsError("the tensors take more room than their file: it is damaged")


def tensors(network: Network, most_bytes: int) -> tuple[dict[str, Array], list[str]]:
    """Give the network's arrays under torchvision's names, and remarks.

    Batch norms stay as they are if every convolution has one, all with the same epsilon;
    otherwise those that are there are folded into their convolutions.

    Args:
        network: the graph's network.
        most_bytes: what the arrays may take together, beside the file.

    Raises:
        WeightsError: an array does not fit its operation, or they take more.
    """
    arrays = Arrays(most_bytes)
    norms = [unit.norm for unit in network.units]
    epsilons = {norm.epsilon for norm in norms if norm is not None}
    keep = None not in norms and len(epsilons) == 1
    remarks: list[str] = []
    if not keep:
        some = any(norm is not None for norm in norms)
        remarks.append(
            Note("the batch norms were folded into the convolutions, as some were already")
            if some
            else Note("the batch norms are folded into the convolutions")
        )
    result: dict[str, Array] = {}
    for unit in network.units:
        weight, bias = _conv_arrays(unit, arrays) if keep else _folded(unit, arrays)
        result[f"{unit.conv_name}.weight"] = weight
        if bias is not None:
            result[f"{unit.conv_name}.bias"] = bias
        if keep:
            named = _norm_arrays(unit, arrays)
            result |= {f"{unit.norm_name}.{part}": array for part, array in named.items()}
    if network.fc is not None:
        result |= _linear_arrays(network.fc, arrays)
    return result, remarks


def _conv_arrays(unit: Unit, arrays: Arrays) -> tuple[Array, Array | None]:
    weight, bias = unit.conv.constants
    assert weight is not None
    if bias is None:
        return arrays.of(weight), None
    if bias.shape != weight.shape[:1]:
        raise NotResNetError(
            unit.conv.node, f"a bias of {weight.shape[0]} numbers", str(list(bias.shape))
        )
    numbers = arrays.of(bias)
    # Exporters that fold nothing give every convolution a bias of zeros.
    is_zero = np.array_equal(numbers, np.zeros_like(numbers))
    return arrays.of(weight), None if is_zero else numbers


def _norm_arrays(unit: Unit, arrays: Arrays) -> dict[str, Array]:
    assert unit.norm is not None
    weight = unit.conv.constants[0]
    assert weight is not None
    result = {}
    parts = ("weight", "bias", "running_mean", "running_var")
    for part, constant in zip(parts, unit.norm.constants, strict=True):
        assert constant is not None
        if constant.shape != weight.shape[:1]:
            raise NotResNetError(
                unit.norm.node, f"a {part} of {weight.shape[0]} numbers", str(list(constant.shape))
            )
        result[part] = arrays.of(constant)
    return result


def _folded(unit: Unit, arrays: Arrays) -> tuple[Array, Array]:
    """Fold a batch norm into its convolution; return weight and bias.

    With s = gamma / sqrt(variance + epsilon): weight * s, and beta + (bias - mean) * s.
    """
    weight, bias = _conv_arrays(unit, arrays)
    if unit.norm is None:
        return weight, np.zeros(len(weight), np.float32) if bias is None else bias
    norm = _norm_arrays(unit, arrays)
    with np.errstate(all="ignore"):  # a damaged file's numbers; the core refuses what is not finite
        parts = {name: array.astype(np.float64) for name, array in norm.items()}
        scale = parts["weight"] / np.sqrt(parts["running_var"] + unit.norm.epsilon)
        shift = parts["bias"] + ((0 if bias is None else bias) - parts["running_mean"]) * scale
        weight = weight * scale.astype(np.float32)[:, None, None, None]
    arrays.spend(weight)
    return weight, shift.astype(np.float32)


def _linear_arrays(fc: Step, arrays: Arrays) -> dict[str, Array]:
    weight, bias = fc.constants
    assert weight is not None
    if fc.transposed:
        weight = weight.T
    matrix = arrays.of(weight)
    if bias is None:
        return {"fc.weight": matrix, "fc.bias": np.zeros(len(matrix), matrix.dtype)}
    if bias.shape != matrix.shape[:1]:
        raise NotResNetError(fc.node, f"a bias of {len(matrix)} numbers", str(list(bias.shape)))
    return {"fc.weight": matrix, "fc.bias": arrays.of(bias)}
