"""The questions that the tensors of a state dict leave open.

Some networks have the same tensors and other steps: a stride on another convolution, dilated
stages, another pool. A caller who states the network has read the question, or knows the network.
Tensors beside the network can hint that one of these fields is not the usual one; then the caller
must state the field.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ..._core import WeightsError
from . import shapes
from .shortcuts import OPTION_A

_NOT_SUPPORTED = (
    "Relatives with a blur or a pooling before their strides (resnetblur50, resnetaa50), with GeM "
    "pooling or with LeakyReLU have the same tensors, and are not supported"
)


def question(found: Mapping[str, shapes.Shape], variant: Mapping[str, Any]) -> str:
    """Ask the caller for the network.

    Args:
        found: torchvision's names to shapes.
        variant: the fields that are stated already, which are not asked for.

    Returns:
        The candidates that the shapes fit, and the fields that shapes do not show, as arguments to
        pass.

    Raises:
        NotResNetError: the tensors are not those of any ResNet.
    """
    fitting = shapes.candidates(found)
    if not fitting:
        return (
            "the file does not say which network its tensors are of, and they are of none that is "
            f"known: {shapes.misfit(found)}"
        )
    choice = " or ".join(map(str, fitting))
    fields = [(f, words) for f, words in _open_fields(found) if f.keys().isdisjoint(variant)]
    width = max(len(_pasted(field)) for field, _ in fields)
    lines = [f"  {_pasted(field):{width}}  {words}" for field, words in fields]
    return (
        "the file does not say which network its tensors are of. Their shapes fit "
        f"{choice}: if it is that, pass it. The same tensors can also be those of another network. "
        "Add to variant what yours has:\n" + "\n".join(lines) + f"\n{_NOT_SUPPORTED}"
    )


def require_answers(
    found: Mapping[str, shapes.Shape], variant: Mapping[str, Any], origin: str
) -> None:
    """Check that the caller states the fields that tensors beside the network hint at.

    Args:
        found: the file's own names to shapes.
        variant: the fields of `variant` that the file or the caller states.
        origin: the file, for messages.

    Raises:
        WeightsError: a field is not stated; the message says how to state it.
    """
    for words in _unanswered(found, variant):
        raise WeightsError(f"{origin}: {words}")


def is_open(
    found: Mapping[str, shapes.Shape], architecture: str, variant: Mapping[str, Any]
) -> bool:
    """Tell whether a state dict needs more than the stated architecture and variant.

    Args:
        found: the file's names to shapes.
        architecture: the name that the caller states.
        variant: the fields that the caller states.

    Returns:
        True if something must be asked, is shown by the shapes or will be assumed.
    """
    if next(_unanswered(found, {}), None):
        return True  # also if it is answered: there are tensors beside the network
    if "shortcut" in variant:
        return False
    try:
        implied = shapes.implied_shortcut(architecture, found)
        return bool(implied) or shapes.shortcut_of(architecture) == OPTION_A
    except (shapes.NotResNetError, WeightsError):
        return False  # whoever reads the file names the fault


def _unanswered(found: Mapping[str, shapes.Shape], variant: Mapping[str, Any]) -> Iterator[str]:
    """Yield a question for each field that tensors beside the network hint at."""
    stages = len(set(re.findall(r"\blayer(\d+)\.", " ".join(found)))) or 4
    for name, shape in found.items():
        parts = name.split(".")
        if any(part.startswith("layer") for part in parts):
            continue
        segments = "aux_classifier" in parts or (
            name.endswith("classifier.4.weight") and len(shape) == 4
        )
        if segments and "dilation" not in variant:
            dilated, plain = {"dilation": _dilated(stages)}, {"dilation": [1] * stages}
            yield (
                f"tensor {name} belongs to a network for segmentation. The last stages of most of "
                f"them are dilated, which the tensors do not show: pass variant="
                f"{json.dumps(dilated)}, as torchvision's fcn and deeplabv3 have it, or variant="
                f"{json.dumps(plain)} if no stage is dilated"
            )
        if "bottleneck" in parts and variant.keys().isdisjoint(("last_stride", "dilation")):
            yield (
                f"tensor {name} belongs to a network for re-identification. The last stage of most "
                "of them has stride 1, which the tensors do not show: pass "
                'variant={"last_stride": 1}, or variant={"last_stride": 2} if it has stride 2'
            )


def _open_fields(found: Mapping[str, shapes.Shape]) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield fields of `variant` that shapes do not show, with unusual values and words for them."""
    network = shapes.structure(found)
    if network.block == "bottleneck":
        yield {"stride_on": "conv1"}, "the stride on a block's first 1x1 convolution (v1)"
    if isinstance(network.shortcut, dict):
        yield (
            {"shortcut": {"pad": {"reduce": "average", "zeros": "end"}}},
            'shortcuts with a mean (else "slice": every second pixel) and zeros at the end (else '
            '"around")',
        )
    if len(network.blocks) > 1:
        yield {"dilation": _dilated(len(network.blocks))}, "dilated last stages (segmentation)"
        yield {"last_stride": 1}, "a last stage with stride 1 (re-identification)"
    if network.stem == "conv3x3":
        yield {"stem_stride": 2}, 'a stem with stride 2 ("stem": "conv3x3" alone has stride 1)'
        yield (
            {"stem_pool": "max"},
            'a max pool after the stem ("stem": "conv3x3" alone has no pool)',
        )
    else:
        yield {"stem_stride": 1}, "a stem with stride 1"
        yield {"stem_pool": "none"}, 'no max pool after the stem; "max_ceil" for Caffe\'s'
    yield {"head": "global_max_pool"}, "a maximum in place of the mean before fc"
    if network.batch_norm:
        yield {"norm_epsilon": 1e-3}, "an epsilon other than 1e-05 (ports from TensorFlow)"


def _pasted(field: Mapping[str, Any]) -> str:
    """A field as it is written inside the braces of `variant`."""
    return json.dumps(field)[1:-1]


def _dilated(stages: int) -> list[int]:
    """Dilations of a network whose last two strides are replaced."""
    return [1, 1, 2, 4][-stages:] if 1 < stages <= 4 else [1] * (stages - 2) + [2, 4]
