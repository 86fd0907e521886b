"""The defaults of the public functions and of the commands, each stated here a second time."""

from __future__ import annotations

import argparse
import importlib
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import resnet_rs
from resnet_rs.cli import _COMMANDS, _parser
from resnet_rs.options import flags

MODULES = (
    "resnet_rs",
    "resnet_rs.evaluation",
    "resnet_rs.evaluation.pictures",
    "resnet_rs.stream",
    "resnet_rs.images",
    "resnet_rs.inspect.compare",
    "resnet_rs.inspect.pictures",
    "resnet_rs.quantization",
    "resnet_rs.reference",
    "resnet_rs.weights.formats",
    "resnet_rs.weights.pretrained",
)

OPTIONS: dict[str, Any] = {
    "architecture": None,
    "variant": None,
    "num_classes": None,
    "labels": None,
    "activation": None,
    "preprocessing": None,
    "names": None,
    "key": None,
    "config": None,
    "isa": None,
    "threads": None,
    "winograd": True,
    "precision": None,
    "strict": False,
    "backend": "fast",
    "exif": True,
    "background": None,
    "max_pixels": 1 << 27,
    "truncated": False,
    "draft": False,
}

# A function without a row has no defaults.
FUNCTIONS: dict[str, dict[str, Any]] = {
    "ResNet": OPTIONS,
    "load": OPTIONS,
    "ResNet.from_pretrained": {"cache_dir": None, "offline": None, "progress": True},
    "ResNet.predict": {"top_k": 5, "tta": None},
    "ResNet.probabilities": {"tta": None},
    "ResNet.embed": {"normalize": False, "pool": "avg"},
    "ResNet.features": {"stages": None},
    "ResNet.trace": {"fused": False},
    "ResNet.trace_gradients": {"label_smoothing": 0.0, "frozen": ()},
    "ResNet.profile": {"rounds": 10, "detail": False},
    "ResNet.quantize": {
        "method": "auto",
        "percentile": 99.999,
        "bf16": (),
        "max_error": None,
        "count": 300,
        "on_error": "skip",
        "progress": True,
    },
    "ResNet.summary": {"size": None},
    "ResNet.save": {"dtype": "f32", "force": False},
    "ResNet.export_onnx": {"fold_norms": True, "force": False},
    "compare": {"image": None, "tolerance": 1e-4},
    "compare_step": {
        "images": None,
        "labels": None,
        "label_smoothing": 0.0,
        "frozen": (),
        "norm_momentum": 0.1,
        "lr": None,
        "weight_decay": 0.0,
        "tolerance": 5e-3,
    },
    "stream": {
        "batch_size": 8,
        "what": "predict",
        "top_k": 5,
        "tta": None,
        "pool": "avg",
        "normalize": False,
        "ordered": True,
        "workers": None,
    },
    "evaluate": {
        "classes": None,
        "on_error": "skip",
        "batch_size": 8,
        "workers": None,
        "progress": None,
    },
    "knn": {"k": 10, "classes": None, "images": None},
    "linear_probe": {"classes": None, "images": None, "l2": None, "class_weights": None, "seed": 0},
    "measure": {"classes": None, "activation": "softmax", "images": None},
    "Evaluation.mistakes": {"most": None},
    "Evaluation.to_dict": {"mistakes": None},
    "Evaluation.to_json": {"mistakes": None},
    "Evaluation.save": {"mistakes": None},
    "Evaluation.text": {"mistakes": 10},
    "batch_mosaic": {"most": 32},
    "mistake_mosaic": {"most": 20, "decoding": resnet_rs.images.options.DEFAULT},
    "Comparison.text": {"color": False},
    "write_dump": {"image": None, "layout": "NHWC"},
    "activation_maps": {"shifts": None},
    "explain": {"top_k": 5, "shifts": None},
    "feature_grid": {"max_channels": 64, "strongest": False},
    "avg_pool": {"padding": 0, "ceil_mode": False, "count_include_pad": True, "extra": 0},
    "batch_norm": {"epsilon": 1e-5},
    "conv2d": {"stride": 1, "padding": 0, "groups": 1, "bias": None, "dilation": 1},
    "fully_connected": {"bias": None},
    "max_pool": {"padding": 0, "ceil_mode": False},
    "fetch": {"architecture": None, "cache_dir": None, "offline": None, "progress": True},
    "torchvision_path": {"cache_dir": None},
    "TimmPreset.preprocessing": {"size": "train"},
    "quantize": {
        "method": "auto",
        "percentile": 99.999,
        "bf16": (),
        "max_error": None,
        "count": 300,
        "on_error": "skip",
        "architecture": None,
        "progress": None,
    },
    "options_of_quantized": {"config": None},
    "report": {"rounds": 5},
    "PrecisionLosses.lossiest": {"count": 5},
    "PrecisionLosses.worst": {"count": 5},
    "Report.text": {"layers": False},
    "Report.worst": {"count": 5},
    "read": {
        "architecture": None,
        "variant": None,
        "num_classes": None,
        "labels": None,
        "activation": None,
        "preprocessing": None,
        "names": None,
        "key": None,
    },
    "Trainer.apply": {"lr": None},
    "Trainer.backward": {"accumulate": False, "share": 1.0},
    "Trainer.evaluate": {"average": False, "batch_size": 64},
    "Trainer.freeze": {"names": ()},
    "Trainer.logits": {"average": False, "batch_size": 64},
    "Trainer.save": {"average": False, "force": False},
    "Trainer.state_dict": {"average": False},
    "Trainer.step": {"lr": None},
    "Trainer.update": {"lr": None},
    "train": {
        "output": None,
        "weights": "resnet50",
        "recipe": None,
        "val": None,
        "val_fraction": 0.2,
        "on_error": "skip",
        "duplicates": None,
        "workers": None,
        "threads": None,
        "isa": None,
        "cache": None,
        "zero_last": None,
        "resume": False,
        "force": False,
        "progress": None,
        "on_epoch": None,
    },
    "adamw_step": {"betas": (0.9, 0.999), "epsilon": 1e-08, "weight_decay": 0.01},
    "avg_pool_gradient": {"padding": 0, "ceil_mode": False, "count_include_pad": True, "extra": 0},
    "backward": {"momentum": 0.1, "frozen": ()},
    "batch_norm_gradients": {"epsilon": 1e-05},
    "batch_norm_training": {"epsilon": 1e-05, "momentum": 0.1},
    "batch_norm_training_gradients": {"epsilon": 1e-05},
    "conv2d_input_gradient": {"stride": 1, "padding": 0, "groups": 1, "dilation": 1},
    "conv2d_weight_gradient": {"stride": 1, "padding": 0, "groups": 1, "dilation": 1},
    "initial_tensors": {"zero_last": False},
    "max_pool_gradient": {"padding": 0},
    "operations": {"num_classes": 1000, "variant": None},
    "pull_back": {"batch_statistics": True},
    "sgd_step": {"momentum": 0.0, "weight_decay": 0.0, "nesterov": False},
}

# A flag without an entry is None, or left to argparse.SUPPRESS, if it is not given.
MODEL: dict[str, Any] = {
    "winograd": True,
    "strict": False,
    "exif": True,
    "max_pixels": 1 << 27,
    "truncated": False,
    "draft": False,
}
FOLDER: dict[str, Any] = {
    **MODEL,
    "resume": False,
    "overwrite": False,
    "on_error": "skip",
    "batch_size": 8,
    "recursive": True,
    "null": False,
}
COMMANDS: dict[str, dict[str, Any]] = {
    "predict": {**FOLDER, "top_k": 5},
    "embed": {**FOLDER, "pool": "avg", "normalize": False},
    "evaluate": {
        **MODEL,
        "format": "text",
        "on_error": "skip",
        "batch_size": 8,
    },
    "convert": {"force": False, "dtype": "f32"},
    "quantize": {
        **{name: value for name, value in MODEL.items() if name != "strict"},
        "count": 300,
        "method": "auto",
        "percentile": 99.999,
        "bf16": (),
        "on_error": "skip",
        "layers": False,
        "json": False,
        "force": False,
    },
    "export": {**MODEL, "keep_norms": False, "force": False},
    "pretrained": {"force": False, "progress": True, "format": "text"},
    "summary": {**MODEL, "format": "text"},
    "trace": {**MODEL, "fused": False, "format": "text"},
    "compare": {**MODEL, "weight_decay": 0.0, "format": "text"},
    "explain": {**MODEL, "dpi": 150, "top_k": 5},
    "features": {**MODEL, "stem_filters": False, "dpi": 150, "max": 64, "strongest": False},
    "bench": {
        **MODEL,
        "seconds": 5.0,
        "format": "text",
        "profile": False,
        "ladder": False,
        "scale": False,
        "compare_precisions": False,
    },
    "info": {**MODEL, "format": "text"},
    "train": {
        "val_fraction": 0.2,
        "balanced": False,
        "flip": False,
        "crop": 0.35,
        "rotation": 0.0,
        "jitter": 0.0,
        "erasing": 0.0,
        "mixup": 0.0,
        "cutmix": 0.0,
        "on_error": "skip",
        "resume": False,
        "force": False,
        "quiet": False,
    },
}


def public_functions() -> Iterator[tuple[str, Callable[..., Any]]]:
    """The functions of the modules' `__all__`, and the public methods of their classes."""
    for module in map(importlib.import_module, MODULES):
        for name in module.__all__:
            thing = getattr(module, name)
            if inspect.isfunction(thing):
                yield name, thing
            elif inspect.isclass(thing) and not issubclass(thing, Exception):
                methods = inspect.getmembers(thing, inspect.isroutine)
                if thing is resnet_rs.ResNet:
                    yield name, thing
                elif issubclass(thing, resnet_rs.ResNet):
                    continue  # it has the methods of its base
                for method, function in methods:
                    if not method.startswith("_"):
                        yield f"{name}.{method}", function


def defaults_of(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        found = inspect.signature(function).parameters.values()
    except ValueError:  # built in, such as the methods of a tuple
        return {}
    return {one.name: one.default for one in found if one.default is not one.empty}


def test_functions() -> None:
    found: dict[str, dict[str, Any]] = {}
    for name, function in public_functions():
        # Two rooms may have a function of one name.
        found.setdefault(name, {}).update(defaults_of(function))
    with_defaults = {name: defaults for name, defaults in found.items() if defaults}
    assert with_defaults == FUNCTIONS


def commands() -> dict[str, argparse.ArgumentParser]:
    parsers = {}
    for name in _COMMANDS:
        actions = _parser([name])._actions
        found = next(a for a in actions if isinstance(a, argparse._SubParsersAction))
        parsers[name] = found.choices[name]
    return parsers


def test_commands() -> None:
    found = {
        name: {
            action.dest: action.default
            for action in parser._actions
            if action.default not in (None, argparse.SUPPRESS)
        }
        for name, parser in commands().items()
    }
    assert found == COMMANDS


def test_switches_change_their_default() -> None:
    """A flag without a value stands for the other one of True and False."""
    checked = 0
    for name, parser in commands().items():
        for action in parser._actions:
            if isinstance(action, (argparse._StoreTrueAction, argparse._StoreFalseAction)):
                assert action.const is not action.default, (name, action.dest)
                checked += 1
    assert checked > len(flags())


def test_saving_keeps_a_network_that_is_there(model: resnet_rs.ResNet, tmp_path: Path) -> None:
    model.save(tmp_path / "out")
    with pytest.raises(FileExistsError, match="force"):
        model.save(tmp_path / "out")
    model.save(tmp_path / "out", force=True)
