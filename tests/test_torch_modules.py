"""The modules of a whole pickled model: their attributes, and the bounds of reading them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from resnet_rs import WeightsError
from resnet_rs.weights.formats.torch_file import read_torch


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.pth"


class Noted(torch.nn.Module):
    """A module with attributes of many kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(2, 3))
        self.flag, self.number, self.fraction, self.nothing = True, 3, 0.5, None
        self.text, self.long_text = "zeros", "x" * 81
        self.pair, self.pairs = (1, 2.5), [3, False]
        self.most, self.more = tuple(range(8)), tuple(range(9))
        self.mixed, self.table, self._own = (1, "a"), {"a": 1}, 5


def test_attributes_that_are_plain_values_are_kept(path: Path) -> None:
    torch.save(Noted(), path)
    module = read_torch(path).modules[""]
    assert module.values == {
        "training": True,
        "flag": True,
        "number": 3,
        "fraction": 0.5,
        "nothing": None,
        "text": "zeros",
        "long_text": "x" * 80,
        "pair": (1, 2.5),
        "pairs": (3, False),
        "most": tuple(range(8)),
    }
    assert (module.kind, module.has_tensors, module.has_forward) == ("Noted", True, False)
    assert (module.children, module.hook, module.settings) == ((), None, {})


@pytest.mark.parametrize(("depth", "is_read"), [(64, True), (65, False)])
def test_modules_are_read_down_to_a_bound(depth: int, is_read: bool, path: Path) -> None:
    module: torch.nn.Module = Noted()
    for _ in range(depth):
        module = torch.nn.Sequential(module)
    torch.save(module, path)
    if is_read:
        assert list(read_torch(path).tensors) == ["0." * depth + "weight"]
    else:
        with pytest.raises(WeightsError, match=rf"{path}: modules inside modules without an end"):
            read_torch(path)


@pytest.mark.parametrize(("length", "is_read"), [(999, True), (1000, False)])
def test_names_are_read_up_to_a_bound(length: int, is_read: bool, path: Path) -> None:
    torch.save(torch.nn.ModuleDict({"x" * length: Noted()}), path)
    if is_read:
        assert list(read_torch(path).tensors) == ["x" * length + ".weight"]
    else:
        with pytest.raises(WeightsError, match=rf"{path}: modules inside modules without an end"):
            read_torch(path)
