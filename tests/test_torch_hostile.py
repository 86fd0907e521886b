"""Torch files from an enemy: nothing that they name runs, and nothing grows without bound."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch_pickles as tp

from resnet_rs import WeightsError
from resnet_rs.weights.formats.input_file import Unpacked
from resnet_rs.weights.formats.pickle_machine import Global, PickleMachine
from resnet_rs.weights.formats.torch_budget import Budget
from resnet_rs.weights.formats.torch_file import read_torch
from resnet_rs.weights.formats.torch_tensor import StorageRef, storage_ref

NUMBERS = np.arange(6, dtype="<f4").reshape(2, 3)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "checkpoint.pth"


def refuse(path: Path, *messages: str) -> None:
    with pytest.raises(WeightsError) as caught:
        read_torch(path)
    for message in [str(path), *messages]:
        assert message in str(caught.value)


CALLING_OPCODES = ["REDUCE", "NEWOBJ", "NEWOBJ_EX", "INST", "OBJ", "STACK_GLOBAL", "BUILD"]
CALLING_OPCODES += ["getattr", "EXT", "load_from_bytes"]


class Hostile:
    """Asks to be unpickled by running something that would leave a mark."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def of_dtype(*dtype: Any) -> Any:
    """A tensor of a dtype without storages of its own, which should come as a global."""
    arguments = (tp.storage(), 0, (2, 3), (3, 1), False, {})
    return tp.call("torch._utils", "_rebuild_tensor_v3", *arguments, *dtype)


def of_a_class(*arguments: Any) -> Any:
    """A tensor of a class of its own, whose arguments should come as a tuple."""
    rebuild = tp.name("torch._utils", "_rebuild_tensor_v2")
    return tp.call("torch._tensor", "_rebuild_from_type_v2", rebuild, tp.name("a", "B"), *arguments)


@pytest.mark.parametrize("write", [tp.zip_file, tp.legacy_file], ids=["zip", "legacy"])
class TestHostilePickles:
    """Nothing that a file names is looked up, called or built."""

    @pytest.fixture
    def canary(self, tmp_path: Path) -> Path:
        return tmp_path / "it ran"

    def calls(self, canary: Path) -> dict[str, bytes]:
        """Pickles that would create the canary, by each opcode that calls or builds."""
        touch = f"touch '{canary}'"
        text = touch.encode()
        short = b"\x8c" + bytes([len(text)]) + text
        long = b"X" + struct.pack("<I", len(text)) + text
        return {
            "REDUCE": b"\x80\x02cposix\nsystem\n" + long + b"\x85R.",
            "NEWOBJ": b"\x80\x02csubprocess\nPopen\n" + long + b"\x85\x81.",
            "NEWOBJ_EX": b"\x80\x04csubprocess\nPopen\n" + long + b"\x85}\x92.",
            "INST": b"(" + long + b"iposix\nsystem\n.",
            "OBJ": b"(cposix\nsystem\n" + long + b"o.",
            "STACK_GLOBAL": b"\x80\x04\x8c\x05posix\x8c\x06system\x93" + short + b"\x85R.",
            "BUILD": b"\x80\x02cbuiltins\nobject\n)\x81}" + b"X\x0c\0\0\0__setstate__"
            b"cposix\nsystem\nsb" + long + b"b.",
            "getattr": b"\x80\x02cbuiltins\ngetattr\ncposix\nsystem\n\x85R" + long + b"\x85R.",
            "EXT": b"\x80\x02\x82\x01" + long + b"\x85R.",
            "load_from_bytes": tp.dumps(
                tp.call("torch.storage", "_load_from_bytes", pickle.dumps(Hostile(exec, touch)))
            ),
        }

    @pytest.mark.parametrize("opcode", CALLING_OPCODES)
    def test_nothing_runs(self, opcode: str, write: Any, canary: Path, path: Path) -> None:
        hostile = self.calls(canary)[opcode]
        refuse(write(path, hostile), "expected a dict of tensors")
        # Inside a state dict the call is an entry that is no tensor, and the tensors load.
        body = hostile.removeprefix(b"\x80\x02").removeprefix(b"\x80\x04").removesuffix(b".")
        sound = tp.dumps({"w": tp.tensor()}).removesuffix(b".")
        write(path, sound + b"X\x01\0\0\0x" + body + b"s.", {"0": NUMBERS.tobytes()})
        found = read_torch(path)
        np.testing.assert_array_equal(found.tensors["w"], NUMBERS)
        assert found.remarks == ("left out what is no tensor: x",)
        assert not canary.exists()

    @pytest.mark.parametrize(
        ("pickled", "message"),
        [
            pytest.param(b"\x80\x02]" + b"]a" * 200_000 + b".", "twice its size", id="objects"),
            pytest.param(b"]q\0" + b"(h\0h\0lq\0" * 30 + b".", "got a list", id="doubling"),
            pytest.param(b"(" * 50_000 + b".", "damaged pickle", id="marks"),
            pytest.param(b"]" + b"\x85" * 60_000 + b".", "got a tuple", id="nesting"),
            pytest.param(
                b"}" + b"X\x01\0\0\0w}" * 10_000 + b"s" * 10_000 + b".", "other", id="deep"
            ),
            pytest.param(b"\x80\x02\x8b\xff\xff\xff\x7f.", "damaged", id="long4"),
            pytest.param(b"\x8d" + b"\xff" * 7 + b"\x7f.", "at most", id="unicode8"),
            pytest.param(b"\x8e" + b"\xff" * 7 + b"\x7f.", "at most", id="bytes8"),
            pytest.param(b"\x96" + b"\xff" * 7 + b"\x7f.", "at most", id="bytearray8"),
            pytest.param(b"T\xff\xff\xff\x7f.", "at most", id="binstring"),
            pytest.param(b"L" + b"9" * 100_000 + b"L\n.", "damaged", id="digits"),
            pytest.param(b"h\x05.", "damaged pickle", id="memo"),
            pytest.param(b"0.", "damaged pickle", id="underflow"),
            pytest.param(b".", "damaged pickle", id="nothing"),
            pytest.param(b"]}q\0s.", "damaged pickle", id="setitem-on-nothing"),
            pytest.param(b"\x97.", "damaged pickle", id="out-of-band"),
            pytest.param(b"X\x02\0\0\0\xff\xfe.", "damaged pickle", id="utf8"),
            pytest.param(b"\xff.", "damaged pickle", id="opcode"),
            pytest.param(b"]" * 10, "damaged pickle", id="no-stop"),
            pytest.param(b"\x85.", "the stack is too short for a tuple", id="tuple-of-nothing"),
            pytest.param(b"]]\x87.", "the stack is too short for a tuple", id="tuple-of-two"),
            pytest.param(b"X\x01\0\0\0aQ.", "no storage", id="persistent"),
        ],
    )
    def test_damage_and_bombs(self, pickled: bytes, message: str, write: Any, path: Path) -> None:
        refuse(write(path, pickled), message)

    def test_items_are_not_copied_by_calls(self, write: Any, path: Path) -> None:
        """Each call would copy the pairs anew: memory that grows with the square of the file."""
        pairs = [[str(i), i] for i in range(100)]
        refuse(write(path, tp.dumps(tp.call("collections", "OrderedDict", pairs))), "OrderedDict")

    def test_keys_of_dicts_are_not_hashed_deeply(self, write: Any, path: Path) -> None:
        nested = b")" + b"2\x86" * 40  # a tuple of itself twice, forty levels deep
        refuse(write(path, b"}" + nested + b"Ns."), "got an empty dict")

    @pytest.mark.parametrize(
        ("tensor", "message"),
        [
            pytest.param(tp.tensor((2, 4)), "reaches number 6 of a storage of 6", id="shape"),
            pytest.param(tp.tensor((2, 3), (4, 1)), "reaches number 6", id="strides"),
            pytest.param(tp.tensor(offset=1), "reaches number 6", id="offset"),
            pytest.param(tp.tensor(offset=-1), "negative", id="negative-offset"),
            pytest.param(tp.tensor((2, -3)), "negative", id="negative-shape"),
            pytest.param(tp.tensor((2, 3), (-3, 1)), "negative", id="negative-stride"),
            pytest.param(tp.tensor((1 << 62, 1 << 62)), "reaches number", id="overflow"),
            pytest.param(tp.tensor((1 << 40,), (0,)), "twice its size", id="repeated"),
            pytest.param(tp.tensor((0, 1 << 62, 9)), "without a storage", id="lengths"),
            pytest.param(tp.tensor((0, 1 << 62)), "sizes that no array has", id="empty"),
            pytest.param(tp.tensor((2.0, 3)), "without a storage", id="float-size"),
            pytest.param(tp.tensor((1,) * 33, (1,) * 33), "without a storage", id="dimensions"),
            pytest.param(tp.tensor(source="0"), "without a storage", id="no-storage"),
            pytest.param(tp.tensor(source=tp.storage("0", -6)), "", id="negative-size"),
            pytest.param(tp.tensor(source=tp.storage("0", 1 << 62)), "expected", id="huge-size"),
            pytest.param(tp.tensor(source=tp.storage(0)), "no storage", id="key"),
            pytest.param(tp.tensor(source=tp.storage(kind="OsStorage")), "no kind", id="kind"),
            pytest.param(of_dtype(), "a tensor without a dtype", id="no-dtype"),
            pytest.param(of_dtype("uint16"), "a tensor without a dtype", id="dtype-as-text"),
            pytest.param(
                tp.call("torch._utils", "_rebuild_parameter"),
                "a parameter without a tensor",
                id="parameter",
            ),
            pytest.param(of_a_class(), "a tensor of another class without arguments", id="class"),
            pytest.param(
                of_a_class([tp.storage(), 0, (2, 3), (3, 1)]),
                "a tensor of another class without arguments",
                id="class-with-a-list",
            ),
        ],
    )
    def test_tensors_outside_their_storage(
        self, tensor: Any, message: str, write: Any, path: Path
    ) -> None:
        refuse(write(path, tp.dumps({"w": tensor}), {"0": NUMBERS.tobytes()}), message)

    def test_negated_views_of_one_storage_stay_within_the_budget(
        self, write: Any, path: Path
    ) -> None:
        """Each would be a copy of its own."""
        size = 1 << 16
        source = tp.storage("0", size)
        rest = (source, 0, (size,), (1,), False, {}, {"neg": True})
        views = {f"w{i}": tp.call("torch._utils", "_rebuild_tensor_v2", *rest) for i in range(200)}
        refuse(write(path, tp.dumps(views), {"0": bytes(4 * size)}), "more than twice its size")

    def test_modules_inside_themselves(self, write: Any, path: Path) -> None:
        build = b"X\x0b\0\0\0_parameters}sX\x08\0\0\0_modules}q\1X\x01\0\0\0mh\0ssb."
        refuse(write(path, b"\x80\x02cnet\nNet\n)\x81q\0}" + build), "modules inside modules")


@pytest.mark.parametrize(
    ("module", "name", "message"),
    [
        ("torch", "FloatStorage", None),
        ("torch.storage", "FloatStorage", None),
        ("torch.cuda", "FloatStorage", None),
        ("torch.jit", "FloatStorage", "torch.jit.FloatStorage is no kind of storage"),
        ("torch", "FloatTensor", "torch.FloatTensor is no kind of storage"),
        ("torch", "ElementwiseStorage", "torch.ElementwiseStorage is no kind of storage"),
    ],
)
def test_storages_are_known_by_their_names(module: str, name: str, message: str | None) -> None:
    identity = ("storage", Global(module, name), "7", "cuda:0", 6)
    if message is None:
        assert storage_ref(identity) == StorageRef("7", "Float", 6)
        return
    with pytest.raises(WeightsError) as caught:
        storage_ref(identity)
    assert str(caught.value) == message


def test_real_pickles_of_every_protocol_are_read_like_pickle() -> None:
    """The opcodes of protocols 0 to 5, against pickle itself on plain values."""
    value = {
        "numbers": [0, -1, 255, 65535, 1 << 31, -(1 << 63), 1 << 200, 1.5, True, False, None],
        "texts": ["", "ä" * 300, "x" * 70_000, "a\nb\\c'\""],
        "bytes": [b"", b"abc" * 100],
        "tuples": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), ((), ([],))],
        "dicts": {"empty": {}, "one": {"a": 1}, "many": {str(i): [i] for i in range(1100)}},
    }
    value["again"] = value["tuples"]
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        content = {k: v for k, v in value.items() if k != "bytes" or protocol >= 3}
        if protocol == 0:
            content["texts"] = [text for text in value["texts"] if len(text) < 1000]
        data = b"??" + pickle.dumps(content, protocol=protocol) + b"more"
        machine = PickleMachine({}, lambda identity: identity, Budget(len(data)))
        result, end = machine.run(Unpacked(data), 2, len(data))
        assert result == content, protocol
        assert end == len(data) - 4
        assert result["again"] is result["tuples"]


@pytest.mark.parametrize(
    "stream",
    [
        b"\x80\x02}K\x01a.",  # APPEND to a dict
        b"\x80\x02}(K\x01K\x02e.",  # APPENDS to a dict
        b"\x80\x02)K\x01a.",  # APPEND to a tuple
    ],
    ids=["append", "appends", "tuple"],
)
def test_elements_of_what_is_no_list_are_refused(stream: bytes) -> None:
    machine = PickleMachine({}, lambda identity: identity, Budget(len(stream)))
    with pytest.raises(WeightsError, match="takes no elements"):
        machine.run(Unpacked(stream), 0, len(stream))
