"""`Options` is the one statement of every option: signatures, documentation and flags agree."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import resnet_rs
from resnet_rs import _core
from resnet_rs.cli import _parser
from resnet_rs.cli.common import model_options
from resnet_rs.family import CLASSES
from resnet_rs.images import Decoding
from resnet_rs.options import Options, flags
from resnet_rs.weights.load import class_name

FIELDS = {field.name: field for field in dataclasses.fields(Options)}
COMMANDS = ("predict", "embed", "bench", "summary", "trace", "compare", "explain", "features")
# A value of a wrong type for each option.
WRONG: dict[str, Any] = {
    "weights": 5,
    "architecture": 5,
    "variant": 5,
    "num_classes": "5",
    "labels": 5,
    "activation": 5,
    "preprocessing": 5,
    "names": 5,
    "key": 5,
    "config": 5,
    "isa": 5,
    "threads": "5",
    "winograd": 5,
    "precision": 5,
    "strict": 5,
    "backend": 5,
    "exif": 5,
    "background": 5,
    "max_pixels": "5",
    "truncated": 5,
    "draft": 5,
}


def parameters(call: Callable[..., Any]) -> dict[str, Any]:
    """The names and defaults of a callable's parameters, but for `self`."""
    found = inspect.signature(call).parameters.values()
    return {one.name: one.default for one in found if one.name != "self"}


class TestStatedOnce:
    @pytest.mark.parametrize(
        "call", [resnet_rs.ResNet, resnet_rs.ResNet50, resnet_rs.WideResNet101_2, resnet_rs.load]
    )
    def test_signatures(self, call: Callable[..., Any]) -> None:
        assert parameters(call) == parameters(Options)
        # Those about pictures come last.
        pictures = [field.name for field in dataclasses.fields(Decoding)]
        others = [name for name in FIELDS if name not in pictures]
        assert list(parameters(call)) == [*others, *pictures]
        kinds = {one.kind for one in list(inspect.signature(call).parameters.values())[1:]}
        assert kinds == {inspect.Parameter.KEYWORD_ONLY}

    @pytest.mark.parametrize("documented", [resnet_rs.ResNet, resnet_rs.load])
    def test_documentation(self, documented: Any) -> None:
        text = " ".join(documented.__doc__.split())
        assert "<options>" not in text
        for name, field in FIELDS.items():
            assert f"{name}: {' '.join(field.metadata['doc'].split())}" in text
        assert max(map(len, documented.__doc__.splitlines())) <= 100

    @pytest.mark.parametrize("command", COMMANDS)
    def test_flags(self, command: str) -> None:
        parser = _parser([command])
        subparsers = next(
            action for action in parser._actions if isinstance(action, argparse._SubParsersAction)
        )
        found = {action.dest: action for action in subparsers.choices[command]._actions}
        for name, flag in flags().items():
            assert found[name].help == flag.help
            expected = FIELDS[name].default
            if expected is not dataclasses.MISSING:
                assert found[name].default == expected

    def test_core_takes_what_is_marked_for_it(self) -> None:
        taken = inspect.signature(_core.Network).parameters
        marked = [name for name, field in FIELDS.items() if field.metadata.get("core")]
        assert marked == ["isa", "threads", "winograd", "precision", "strict"]
        assert set(marked) <= set(taken)


class TestValues:
    def test_every_option_has_a_case(self) -> None:
        assert set(WRONG) == set(FIELDS)

    @pytest.mark.parametrize("name", WRONG)
    def test_wrong_type_is_refused_by_name(self, name: str, demo_dir: Path) -> None:
        for call in (resnet_rs.ResNet50, resnet_rs.load):
            with pytest.raises(TypeError, match=name):
                call(**{"weights": demo_dir, name: WRONG[name]})

    def test_unknown_option_is_refused(self, demo_dir: Path) -> None:
        with pytest.raises(TypeError, match="precise"):
            resnet_rs.load(demo_dir, precise=True)  # type: ignore[call-arg]

    def test_values_are_copies_in_plain_types(self) -> None:
        variant = {"blocks": np.array([1, 2]), "head": {"avg_pool": {"kernel": np.int64(2)}}}
        options = Options("x", variant=variant, labels=["a"], threads=np.int64(3))
        variant["blocks"] = 5
        assert options.variant == {"blocks": [1, 2], "head": {"avg_pool": {"kernel": 2}}}
        assert type(options.threads) is int
        assert options.labels == ("a",)

    def test_what_json_lacks_is_refused(self) -> None:
        with pytest.raises(TypeError, match="numbers, str, lists and dicts"):
            Options("x", variant={"blocks": {1, 2}})

    def test_identity(self) -> None:
        one = Options("x", variant={"blocks": [1], "groups": 2}, names={"a": "b", "c": None})
        same = Options("x", variant={"groups": 2, "blocks": [1]}, names={"a": "b", "c": None})
        assert one.identity() == same.identity() == pickle.loads(pickle.dumps(one)).identity()
        # Of two rules that match a name the first counts.
        reordered = dataclasses.replace(one, names={"c": None, "a": "b"})
        others = (
            reordered,
            dataclasses.replace(one, threads=2),
            dataclasses.replace(one, weights="y"),
        )
        assert len({options.identity() for options in (one, *others)}) == 4
        assert Options(b"1").identity() == Options(b"2").identity()


def test_flags_become_options() -> None:
    arguments = _parser(["summary"]).parse_args(
        ["summary", "--weights", "x", "--isa", "avx2", "--threads", "2", "--no-winograd"]
    )
    expected = Options("x", isa="avx2", threads=2, winograd=False)
    assert model_options(arguments) == expected


def test_flags_of_pictures_become_options() -> None:
    words = "predict a.jpg --weights x --no-exif --background #fff --max-pixels 9 --truncated"
    arguments = _parser(["predict"]).parse_args([*words.split(), "--draft"])
    pictures = Decoding(
        exif=False, background=(255, 255, 255), max_pixels=9, truncated=True, draft=True
    )
    options = model_options(arguments)
    assert options == Options("x", **dataclasses.asdict(pictures))


def test_class_names_follow_from_architectures() -> None:
    assert {class_name(name): cls for name, cls in CLASSES.items()} == {
        cls.__name__: cls for cls in CLASSES.values()
    }
