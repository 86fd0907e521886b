"""The statements of a whole model: its modules, its output function, its project's settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..._core import WeightsError
from . import hf_directory, shapes, timm_directory
from .module_facts import contradiction, facts
from .module_outputs import output_function
from .names import Tensors
from .overrides import Overrides
from .whole_model import TIMM_MODEL, TRANSFORMERS_MODELS, WholeModel


def stated_by(
    model: WholeModel, stated: Mapping[str, Any], tensors: Tensors, overrides: Overrides
) -> tuple[dict[str, Any], list[str]]:
    """Add what a whole model states to what else its file states.

    Args:
        model: the model.
        stated: the fields of config.json that are stated beside the model.
        tensors: its tensors, by torchvision's names.
        overrides: the caller's statements, which are not contradicted.

    Returns:
        The fields of config.json, and remarks.

    Raises:
        NotResNetError: the tensors are those of no ResNet.
        WeightsError: a module is of no ResNet, or the caller states something else than the file.
    """
    shapes_by_name = {name: tensor.shape for name, tensor in tensors.items()}
    variant = facts(model, shapes.structure(shapes_by_name))
    if words := contradiction(variant, overrides.variant or {}):
        raise WeightsError(f"{model.origin}: {words}")
    config = {**stated, "variant": {**stated.get("variant", {}), **variant}}
    remarks: list[str] = []
    for _, module in model.around:
        if module.name in TRANSFORMERS_MODELS:
            config |= hf_directory.describe_model(module.settings, model.origin)
        elif module.name == TIMM_MODEL and overrides.preprocessing is None:
            found, remarks = timm_directory.describe_model(module.settings, model.origin)
            config |= found
    if overrides.num_classes != 0:
        function, more = output_function(model, overrides.activation)
        remarks = [*remarks, *more]
        config |= {"activation": function} if function is not None else {}
    if overrides.architecture is None and "architecture" not in stated and model.is_known:
        # Nothing is left to ask: the modules show what the shapes do not.
        for fitting in shapes.candidates(shapes_by_name)[:1]:
            config["architecture"] = fitting.architecture
            config["variant"] = {**fitting.variant, **config["variant"]}
    return config, remarks
