"""Completes a file's content, with the caller's overrides, to a network ready for the core."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from ... import _core
from ..._core import WeightsError
from ...images.spec import Preprocessing, preset
from ..config import usual_activation
from ..remarks import Note, without_stated
from . import dialects, fit, heads, input_size, prefixes, questions, reparametrised, shapes
from . import names as naming
from .checkpoint import Checkpoint, RawCheckpoint
from .files import listed
from .module_facts import check_modules
from .names import DETECTRON2, NameRules, Tensors
from .overrides import Overrides
from .shortcuts import OPTION_A
from .whole_model import whole_model
from .whole_model_config import stated_by

_FORMAT_VERSION = 1

# torch's count of training steps, which a forward does not need.
_COUNTER = "num_batches_tracked"

_NOT_LOADED = {
    "resnetaa": "it has a pooling (anti-aliasing) after a 3x3 convolution",
    "resnetblur": "it has a blur before every stride",
    "seresnet": "it has squeeze-and-excitation gates",
    "seresnext": "it has squeeze-and-excitation gates",
    "ecaresnet": "it has channel attention",
    "skresn": "it has selective kernels",
    "resnet50_gn": "it has group norms",
    "resnet50_clip": "it has an attention pool",
    "resnetrs": "it has squeeze-and-excitation gates",
    "resnetv2": "its norms come before its convolutions (pre-activation)",
    "res2net": "its 3x3 convolutions are split into scales",
    "resnest": "it has split attention",
}
"""Relatives by the start of their names, and why their tensors would give wrong numbers."""


def complete(raw: RawCheckpoint, origin: str, overrides: Overrides) -> Checkpoint:
    """Give the tensors torchvision's names, fill in the config, and check one with the other.

    Raises:
        WeightsError: the network is not known, is not said, or its tensors do not fit it.
    """
    stored = {n: tensor for n, tensor in raw.tensors.items() if not n.endswith(_COUNTER)}
    tensors, computations = reparametrised.computed(stored, origin)
    raw = replace(raw, remarks=(*raw.remarks, *computations))
    if "architecture" not in raw.config and overrides.architecture is not None and not raw.modules:
        stated = {**raw.config.get("variant", {}), **(overrides.variant or {})}
        shapes_by_name = {name: tensor.shape for name, tensor in tensors.items()}
        questions.require_answers(shapes_by_name, stated, origin)
    places = {id(tensor): name for name, tensor in tensors.items()}
    if overrides.names is None:
        return _complete(replace(raw, tensors=tensors), origin, overrides, places, overrides.key)
    drop_heads = _is_headless(raw, overrides)
    tensors, remarks, notes = _by_rules(tensors, overrides.names, origin, overrides.key, drop_heads)
    renamed = replace(raw, tensors=tensors, remarks=(*raw.remarks, *remarks))
    try:
        return _complete(renamed, origin, replace(overrides, key=None), places, overrides.key)
    except WeightsError as error:
        if notes:
            raise WeightsError(f"{error} ({'; '.join(notes)})") from error
        raise


def _by_rules(
    tensors: Tensors, rules: NameRules, origin: str, key: str | None, drop_heads: bool
) -> tuple[Tensors, list[str], list[str]]:
    """Rename tensors by the caller's rules.

    Returns:
        The tensors by their new names; all remarks; and the remarks that may explain an error.
    """
    remarks: list[str] = []
    notes: list[str] = []
    if key is None:
        wrappers = prefixes.shared_wrappers(tensors)
    else:
        chosen, remarks = prefixes.select(tensors, key=key, drop_heads=drop_heads, origin=origin)
        wrappers = [key if key.endswith(".") or not key else f"{key}."]
        tensors = {f"{wrappers[0]}{name}": tensor for name, tensor in chosen.items()}
    tensors, unused = naming.apply_rules(tensors, rules, origin, wrappers)
    if key is None and wrappers:
        notes.append(Note(f'stripped "{"".join(wrappers)}" from every name'))
    if unused:
        notes.append(f"names: no tensor was renamed or left out by {listed(unused)}")
    renamed = Note(f"renamed tensors by names ({len(rules)} rules)")
    return tensors, [*remarks, renamed, *notes], notes


def _is_headless(raw: RawCheckpoint, overrides: Overrides) -> bool:
    return overrides.num_classes == 0 or raw.config.get("num_classes") == 0


def _complete(
    raw: RawCheckpoint,
    origin: str,
    overrides: Overrides,
    places: Mapping[int, str],
    module: str | None,
) -> Checkpoint:
    """`complete` for names of a known project.

    `places` are the tensors' names in the file, by their `id`; `module` is the caller's `key`,
    which may be the place of the module to take.
    """
    headless = _is_headless(raw, overrides)
    tensors, scheme, remarks = _named(raw.tensors, origin, overrides.key, drop_heads=headless)
    model = None
    if raw.modules:
        model = whole_model(raw.modules, places, tensors, origin, module)
    stated = raw.config
    try:
        if model is not None:
            stated, more = stated_by(model, raw.config, tensors, overrides)
            # The modules show the activation, which a state dict would leave open.
            remarks = [*without_stated(remarks, ["activation"]), *more]
        config = _config(replace(raw, config=stated), tensors, scheme, origin, overrides)
    except shapes.NotResNetError as error:
        found = {name: tensor.shape for name, tensor in tensors.items()}
        variant = {**raw.config.get("variant", {}), **(overrides.variant or {})}
        architecture = overrides.architecture or raw.config.get("architecture")
        left_over = fit.left_over_of(found, {"architecture": architecture, "variant": variant})
        raise WeightsError(f"{origin}: {error}{left_over}") from error
    if headless:
        tensors, left_out = _without_heads(tensors)
        if left_out:
            remark = f"num_classes is 0, so left out: {listed(left_out)}"
            # The last layer is what num_classes=0 is about; other heads are an omission.
            plain = all(name in ("fc.weight", "fc.bias") for name in left_out)
            remarks.append(Note(remark) if plain else remark)
    elif config["num_classes"] == 0:
        # The remains of a damaged fc are surplus, and named by the check.
        remarks.append(Note("the file has no fc: the network gives embeddings, no classes"))
    activation, assumed = usual_activation(config["num_classes"])
    if config["num_classes"] == 0 or config.get("activation") is None:
        config["activation"] = activation
        remarks += assumed
    fit.check({name: tensor.shape for name, tensor in tensors.items()}, config, origin)
    if model is not None:
        check_modules(model, fit.operations_of(config))
    remarks += input_size.remarks_on_size(
        raw.input_size, config.get("preprocessing", {}), config["architecture"]
    )
    remarks += _remark_on_shortcut(raw.config, config, overrides)
    if scheme == DETECTRON2:
        remarks.append(
            "detectron2's own models take B, G, R in 0 to 255 (INPUT.FORMAT, PIXEL_MEAN and "
            "PIXEL_STD of their config); here images are R, G, B in 0 to 1: state mean and std "
            "accordingly, and for B, G, R reverse the input channels of conv1.weight"
        )
    given = [one.name for one in fields(overrides) if getattr(overrides, one.name) is not None]
    return Checkpoint(tensors, config, origin, without_stated((*raw.remarks, *remarks), given))


def _named(
    tensors: Tensors, origin: str, key: str | None, *, drop_heads: bool
) -> tuple[Tensors, str | None, list[str]]:
    """The network's tensors by torchvision's names; the naming scheme they had; remarks."""
    tensors, translations = dialects.translated(tensors)
    tensors, remarks = prefixes.select(tensors, key=key, drop_heads=drop_heads, origin=origin)
    remarks = [*translations, *remarks]
    scheme = naming.scheme_of(tensors)
    if scheme not in (None, naming.TORCHVISION):
        assert scheme is not None
        remarks.append(Note(f"the tensors have the names of {scheme}"))
        tensors = {naming.to_torchvision(name, scheme): t for name, t in tensors.items()}
    tensors, more = heads.with_usual_names(tensors)
    return tensors, scheme, [*remarks, *more]


def _config(
    raw: RawCheckpoint,
    tensors: Tensors,
    scheme: str | None,
    origin: str,
    overrides: Overrides,
) -> dict[str, Any]:
    """Merge the file's config, what the shapes imply, and the caller's overrides, in this order."""
    stated = raw.config
    found = {name: tensor.shape for name, tensor in tensors.items()}
    architecture = overrides.architecture or stated.get("architecture")
    if architecture is None:
        stated_variant = {**stated.get("variant", {}), **(overrides.variant or {})}
        raise WeightsError(f"{origin}: {questions.question(found, stated_variant)}")
    require_known(architecture, origin)
    variant = {
        **stated.get("variant", {}),
        **shapes.implied_variant(found),
        **_shortcut(stated, found, architecture),
        **(overrides.variant or {}),
    }
    if scheme == DETECTRON2 and "stride_on" not in variant and _is_bottleneck(found):
        raise WeightsError(
            f"{origin}: detectron2's networks have their stride either on the first 1x1 "
            "convolution of a block (STRIDE_IN_1X1=True, the MSRA models) or on the 3x3 "
            "(STRIDE_IN_1X1=False, models from torchvision), and the tensors do not say: pass "
            'variant={"stride_on": "conv1"} or variant={"stride_on": "conv2"}'
        )
    config: dict[str, Any] = {"format_version": _FORMAT_VERSION, "architecture": architecture}
    if variant := shapes.differing(architecture, variant):
        config["variant"] = variant
    config["num_classes"] = _num_classes(stated, found, origin, overrides)
    labels = _labels(stated, config["num_classes"], origin, overrides)
    if labels is not None:
        config["labels"] = labels
    config["activation"] = overrides.activation or stated.get("activation")
    preprocessing = {
        **input_size.resize_and_crop(raw.input_size, architecture),
        **stated.get("preprocessing", {}),
        **_preprocessing(overrides.preprocessing, architecture),
    }
    channels = variant.get("in_channels", 3)
    if channels != 3 and not {"mean", "std"} <= preprocessing.keys():
        raise WeightsError(
            f"{origin}: the network takes images of {channels} channels, and the mean and standard "
            'deviation of each are not known: pass preprocessing={"mean": [...], "std": [...]}'
        )
    if preprocessing:
        config["preprocessing"] = preprocessing
    if "source" in stated:
        config["source"] = stated["source"]
    return config


def _shortcut(
    stated: Mapping[str, Any], found: Mapping[str, shapes.Shape], architecture: str
) -> dict[str, Any]:
    """The shortcut that the shapes show, for a file that states no architecture of its own."""
    if "architecture" in stated or "shortcut" in stated.get("variant", {}):
        return {}
    return shapes.implied_shortcut(architecture, found)


def _remark_on_shortcut(
    stated: Mapping[str, Any], config: Mapping[str, Any], overrides: Overrides
) -> list[str]:
    """Say what was assumed of shortcuts without tensors."""
    said = {**stated.get("variant", {}), **(overrides.variant or {})}
    if "architecture" in stated or "shortcut" in said:
        return []
    variant = config.get("variant", {})
    shortcut = variant.get("shortcut") or shapes.shortcut_of(config["architecture"])
    if shortcut != OPTION_A:
        return []
    return [
        "its shortcuts have no tensors (option A of the paper): assuming every second pixel, with "
        "channels of zeros around. If that is wrong, pass variant="
        '{"shortcut": {"pad": {"reduce": "average", "zeros": "end"}}}, with "slice" or "average", '
        'and "around" or "end"'
    ]


def require_known(architecture: str, origin: str) -> None:
    """Check that a network of this name can be loaded.

    Raises:
        TypeError: no name at all.
        WeightsError: there is no such network here; a relative's own difference is said.
    """
    if not isinstance(architecture, str):
        raise TypeError(f"architecture must be a name; got {type(architecture).__name__}")
    known = _core.architectures()
    if architecture in known:
        return
    for start, reason in _NOT_LOADED.items():
        if architecture.startswith(start):
            raise WeightsError(f"{origin}: {architecture} is not supported: {reason}")
    raise WeightsError(
        f"{origin}: architecture: expected one of {', '.join(known)}, found {architecture!r}"
    )


def _preprocessing(wish: Any, architecture: str) -> dict[str, Any]:
    """The fields of config.json's `preprocessing` that the caller states.

    Raises:
        TypeError: neither a `Preprocessing`, a dict nor a name.
        ValueError: no such preset.
    """
    if wish is None:
        return {}
    if isinstance(wish, str):
        wish = preset(wish, architecture)
    if isinstance(wish, Preprocessing):
        wish = wish.as_dict()
    if not isinstance(wish, Mapping):
        raise TypeError(
            "preprocessing must be a Preprocessing, a dict of its fields or a preset's name such "
            f"as IMAGENET1K_V1; got {type(wish).__name__}"
        )
    fields = {name: list(v) if isinstance(v, tuple) else v for name, v in wish.items()}
    named = fields.pop("preset", None)
    return fields if named is None else {**_preprocessing(named, architecture), **fields}


def _is_bottleneck(found: Mapping[str, shapes.Shape]) -> bool:
    return "layer1.0.conv3.weight" in found


def _num_classes(
    stated: Mapping[str, Any], found: Mapping[str, shapes.Shape], origin: str, overrides: Overrides
) -> int:
    rows = found.get("fc.weight", (0,))[0] if found.get("fc.weight") else 0
    told = overrides.num_classes if overrides.num_classes is not None else stated.get("num_classes")
    if told is None or told == 0:
        return 0 if told == 0 else rows
    if told != rows:
        raise WeightsError(
            f"{origin}: num_classes: expected {rows}, as fc.weight has, got {told}"
            if rows
            else f"{origin}: num_classes is {told}, but there is no tensor fc.weight"
        )
    return rows


def _labels(
    stated: Mapping[str, Any], num_classes: int, origin: str, overrides: Overrides
) -> list[str] | None:
    labels = overrides.labels if overrides.labels is not None else stated.get("labels")
    if labels is None or (num_classes == 0 and overrides.labels is None):
        return None
    labels = list(labels)
    if len(labels) != num_classes:
        raise WeightsError(
            f"{origin}: labels: expected {num_classes}, one for each class, got {len(labels)}"
        )
    return labels


def _without_heads(tensors: Tensors) -> tuple[Tensors, list[str]]:
    """The tensors up to the last block, and the names of the others."""
    body = {name: tensor for name, tensor in tensors.items() if shapes.BODY.fullmatch(name)}
    return body, [name for name in tensors if name not in body]
