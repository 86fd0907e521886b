"""A whole model's modules as fields of config.json's `variant`, and their check.

`facts` reads the fields that the modules decide. `check_modules` then compares every module with
the operation that it is in the network: a stride, padding, dilation, epsilon, pool or activation
that no field expresses is refused by the module's name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..._core import WeightsError
from .module_places import Position, is_harmless, position, unknown_layer
from .shapes import Structure
from .whole_model import ADAPTIVE_POOLS, POOLS, Found, WholeModel, plain

_NORMS = frozenset({"BatchNorm2d", "SyncBatchNorm", "FrozenBatchNorm2d"})


def facts(model: WholeModel, structure: Structure) -> dict[str, Any]:
    """Read the fields of `variant` that the modules decide.

    Args:
        model: the model.
        structure: the network's structure, by its shapes.

    Raises:
        WeightsError: a module is of a kind that no network here has.
    """
    _check_classes(model)
    found: dict[str, Any] = {"norm_epsilon": _epsilon(model)} if structure.batch_norm else {}
    found |= _strides(model, structure)
    stem = "conv1.0" if structure.stem == "deep" else "conv1"
    stride = _pair(model, stem, "stride")
    if stride != (1 if structure.stem == "conv3x3" else 2):
        found["stem_stride"] = stride
    found |= _stem_pool(model, structure)
    found |= _head(model)
    return found


def check_modules(model: WholeModel, operations: Sequence[Mapping[str, Any]]) -> None:
    """Compare every layer with the operation that it is in the network.

    Args:
        model: the model.
        operations: the core's operations.

    Raises:
        WeightsError: naming the first module and attribute that differ.
    """
    has_pool = any(operation["name"] == "maxpool" for operation in operations)
    for operation in operations:
        name, kind = operation["name"], operation["kind"]
        if name in model.layers:
            place, module = model.layers[name]
            for attribute, wanted in _wanted(kind, operation):
                given = module.values.get(attribute, wanted)
                if plain(given) != plain(wanted):
                    raise model.error(
                        place,
                        module,
                        f"{attribute} is {given!r}, and the network that is stated has {wanted!r} "
                        "there; no field of variant expresses the difference, or variant= "
                        "contradicts the file",
                    )
    pools = _stem_pools(model)
    if model.is_known and bool(pools) != has_pool:
        raise WeightsError(
            f"{model.origin}: the model has {'a' if pools else 'no'} max pool behind its stem, and "
            f"the network that is stated has {'one' if has_pool else 'none'}"
        )


def contradiction(found: Mapping[str, Any], stated: Mapping[str, Any]) -> str:
    """Name the first field that the caller and the file state differently; empty if none is."""
    for field, value in found.items():
        if field in stated and stated[field] != value:
            return (
                f"variant: {field} is {value!r} in the file's own modules, and {stated[field]!r} "
                f"was passed: leave {field} out, or save the state dict alone"
            )
    return ""


def _wanted(kind: str, operation: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The attributes of a module that an operation decides."""
    if kind == "conv":
        yield from (("stride", operation["stride"]), ("padding", operation["padding"]))
        yield from (("dilation", operation.get("dilation", 1)), ("groups", operation["groups"]))
        yield "padding_mode", "zeros"
    elif kind == "batch_norm":
        yield "eps", operation["epsilon"]
        yield "track_running_stats", True


def _pair(model: WholeModel, layer: str, attribute: str) -> Any:
    return plain(model.layers[layer][1].values.get(attribute, 1)) if layer in model.layers else 1


def _check_classes(model: WholeModel) -> None:
    """Refuse the modules of classes that do something else than a ResNet's."""
    placed = {place for place, _ in model.layers.values()}
    for place, module in model.modules.items():
        if not place.startswith(model.top):
            continue
        if module.has_forward:
            words = "it has a forward of its own, which is not in the file"
            raise model.error(place, module, words)
        if module.hook is not None:
            hook = f"a hook {module.hook}".rstrip()
            words = f"{hook} runs with its forward, and is not in the file: remove it before saving"
            raise model.error(place, module, words)
    for name, (place, module) in model.layers.items():
        norm = ".bn" in f".{name}" or (".downsample." in name and module.kind.endswith("Norm2d"))
        kinds = _NORMS if norm else {"Conv2d", "Linear", "NonDynamicallyQuantizableLinear"}
        deep_norm = module.kind in _NORMS and name.startswith("conv1.")
        if module.kind not in kinds and not deep_norm:
            raise model.error(place, module, "layers of this class are not supported")
    for place, module in _free(model):
        if place in placed or module.children or position(model, place) is not Position.INSIDE:
            continue
        if module.kind not in POOLS and not is_harmless(module):
            raise model.error(place, module, unknown_layer(module))
        if module.kind == "Identity" and _is_activation(place):
            raise model.error(place, module, "a ResNet has a ReLU there")


def _is_activation(place: str) -> bool:
    return place.rpartition(".")[2].rstrip("123") in ("relu", "act")


def _free(model: WholeModel) -> Iterator[Found]:
    """The modules that have no tensors and are no part of a pool of timm's."""
    root = model.root
    for place, module in model.modules.items():
        if not place.startswith(root):
            continue
        above = model.modules.get(place.rpartition(".")[0]) if place else None
        inside = above is not None and above.kind == "SelectAdaptivePool2d"
        if not module.has_tensors and not inside:
            yield place, module


def _epsilon(model: WholeModel) -> float:
    """The batch norms' epsilon, which is one for all."""
    norms = [found for found in model.layers.values() if found[1].kind in _NORMS]
    if not norms:
        return 1e-5
    values = {module.values.get("eps", 1e-5) for _, module in norms}
    if len(values) == 1:
        (value,) = values
        if not isinstance(value, float):
            raise model.error(*norms[0], f"eps is {value!r}, and no number between 0 and 1")
        return value
    first = norms[0][1].values.get("eps")
    place, module = next(found for found in norms if found[1].values.get("eps") != first)
    raise model.error(
        place, module, f"eps is {module.values.get('eps')}, and {first} in other batch norms"
    )


def _strides(model: WholeModel, structure: Structure) -> dict[str, Any]:
    """The fields that the strides and dilations of the stages decide."""
    found: dict[str, Any] = {}
    stages = range(1, len(structure.blocks) + 1)
    # A stage's first block has the dilation of the stage before, and its others have its own.
    dilation = [
        _pair(model, f"layer{stage}.1.conv2", "dilation")
        if structure.blocks[stage - 1] > 1
        else _pair(model, f"layer{min(stage + 1, len(stages))}.0.conv2", "dilation")
        for stage in stages
    ]
    if set(dilation) != {1}:
        found["dilation"] = dilation
    first = [_pair(model, f"layer{stage}.0.conv1", "stride") for stage in stages]
    second = [_pair(model, f"layer{stage}.0.conv2", "stride") for stage in stages]
    if structure.block == "bottleneck" and 2 in (first + second):
        found["stride_on"] = "conv1" if 2 in first else "conv2"
    last = len(structure.blocks) - 1
    undilated = last == 0 or dilation[last] == dilation[last - 1]
    if last > 0 and undilated and {first[last], second[last]} == {1}:
        found["last_stride"] = 1
    return found


def _stem_pools(model: WholeModel) -> list[Found]:
    return [found for found in _free(model) if found[1].kind == "MaxPool2d"]


def _stem_pool(model: WholeModel, structure: Structure) -> dict[str, Any]:
    """The pool behind the stem: none, or one of two kinds."""
    pools = _stem_pools(model)
    usual = "none" if structure.stem == "conv3x3" else "max"
    if not pools:
        return {"stem_pool": "none"} if model.is_known and usual != "none" else {}
    if len(pools) > 1:
        raise model.error(*pools[1], "a ResNet has one max pool, behind its stem")
    place, module = pools[0]
    values = [plain(module.values.get(k)) for k in ("kernel_size", "stride", "padding")]
    rest = (plain(module.values.get("dilation", 1)), bool(module.values.get("ceil_mode")))
    known = {
        ((3, 2, 1), (1, False)): "max",
        ((3, 2, 0), (1, True)): "max_ceil",
    }.get((tuple(values), rest))
    if known is None:
        raise model.error(
            place,
            module,
            "a window of {} with stride {}, padding {}, ".format(*values)
            + f"dilation {rest[0]} and ceil_mode={rest[1]}; expected 3, 2, 1, or 3, 2, 0 with "
            "ceil_mode=True",
        )
    return {} if known == usual else {"stem_pool": known}


def _head(model: WholeModel) -> dict[str, Any]:
    """The pool before the last layer; the average over the whole map is the usual one."""
    heads = [
        (place, module)
        for place, module in _free(model)
        if module.kind in (*ADAPTIVE_POOLS, "SelectAdaptivePool2d", "AvgPool2d")
        and not _in_block(model, place)
    ]
    if not heads:
        return {}
    if len(heads) > 1:
        raise model.error(*heads[1], "a ResNet has one pool before its last layer")
    place, module = heads[0]
    if module.kind == "AvgPool2d":
        window = {
            name: plain(module.values.get(attribute))
            for name, attribute in (
                ("kernel", "kernel_size"),
                ("stride", "stride"),
                ("padding", "padding"),
            )
        }
        if module.values.get("ceil_mode") or module.values.get("divisor_override"):
            raise model.error(place, module, "ceil_mode and divisor_override are not supported")
        if window["padding"] != 0 and not module.values.get("count_include_pad", True):
            words = f"expected count_include_pad=True beside a padding of {window['padding']}"
            raise model.error(place, module, words)
        return {"head": {"avg_pool": window}}
    kind = ADAPTIVE_POOLS.get(module.kind) or module.values.get("pool_type")
    size = plain(module.values.get("output_size", 1))
    if kind not in ("avg", "max") or size != 1:
        raise model.error(
            place, module, f"expected an average or a maximum to 1 x 1, found {kind} to {size}"
        )
    return {"head": "global_avg_pool" if kind == "avg" else "global_max_pool"}


def _in_block(model: WholeModel, place: str) -> bool:
    """Report whether a pool is in a shortcut, beside its convolution; there it is checked."""
    above = place.rpartition(".")[0]
    for name, (layer, _) in model.layers.items():
        if ".downsample." in name and layer.rpartition(".")[0] == above:
            _check_shortcut_pool(model, place)
            return True
    return False


def _check_shortcut_pool(model: WholeModel, place: str) -> None:
    module = model.modules[place]
    stride = plain(module.values.get("stride"))
    if module.kind != "AvgPool2d" or plain(module.values.get("kernel_size")) != 2 or stride != 2:
        raise model.error(place, module, "expected an AvgPool2d of 2 with stride 2")
    if not module.values.get("ceil_mode") or module.values.get("count_include_pad", True):
        raise model.error(
            place, module, "expected ceil_mode=True and count_include_pad=False, as timm has them"
        )
