"""Computations of ONNX graphs with constants and sizes alone: onnxruntime's results, and bounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx_runtime import saved

from resnet_rs import WeightsError
from resnet_rs.weights.formats.onnx_arrays import Arrays
from resnet_rs.weights.formats.onnx_constants import MAX_FILLED, Constants
from resnet_rs.weights.formats.onnx_proto import BFLOAT16, Graph, Node, read_graph

Dimensions = list[int | None]

FLOATS = np.arange(12, dtype=np.float32).reshape(3, 4) - 5.5
INTEGERS = np.arange(12, dtype=np.int64).reshape(3, 4) - 5
SQUARE = np.arange(6, dtype=np.int64).reshape(1, 2, 1, 3)


def ints(*numbers: int) -> NDArray[np.int64]:
    return np.array(numbers, np.int64)


COMPUTED: tuple[tuple[str, int, list[NDArray[Any]], dict[str, Any]], ...] = (
    # The operator, its version, its inputs and its attributes.
    ("Add", 13, [FLOATS, FLOATS[:1] + 1], {}),
    ("Sub", 13, [INTEGERS, ints(3)], {}),
    ("Mul", 13, [FLOATS, np.array(2, np.float32)], {}),
    ("Div", 13, [FLOATS, np.array(4, np.float32)], {}),
    ("Div", 13, [ints(7, 6, 2), ints(2, 3, 5)], {}),
    ("Div", 13, [ints(-7, 7, -6), ints(2, -2, 4)], {}),
    ("Neg", 13, [INTEGERS], {}),
    ("Reciprocal", 13, [FLOATS], {}),
    ("Sqrt", 13, [FLOATS + 6], {}),
    ("Concat", 13, [INTEGERS, INTEGERS + 20], {"axis": 0}),
    ("Concat", 13, [INTEGERS, INTEGERS + 20], {"axis": -1}),
    ("Expand", 13, [INTEGERS[:, :1], ints(2, 1, 4)], {}),
    ("Expand", 13, [INTEGERS, ints(1)], {}),
    ("Gather", 13, [INTEGERS, ints(2, 0)], {}),
    ("Gather", 13, [INTEGERS, ints(-1, 0)], {"axis": 1}),
    ("Reshape", 13, [INTEGERS, ints(0, -1, 2)], {}),
    ("Reshape", 14, [INTEGERS[:0], ints(4, 0)], {"allowzero": 1}),
    ("Shape", 13, [SQUARE], {}),
    ("Shape", 15, [SQUARE], {"start": 1, "end": 3}),
    ("Shape", 15, [SQUARE], {"start": -3, "end": -1}),
    ("Slice", 13, [INTEGERS, ints(1), ints(1 << 40)], {}),
    ("Slice", 13, [INTEGERS, ints(1), ints(3), ints(1)], {}),
    ("Slice", 13, [INTEGERS, ints(0, 0), ints(3, 4), ints(1, 0), ints(2, 2)], {}),
    ("Slice", 13, [INTEGERS, ints(-1), ints(-(1 << 40)), ints(-1), ints(-1)], {}),
    ("Slice", 9, [FLOATS], {"starts": [1], "ends": [-1], "axes": [1]}),
    ("Slice", 9, [FLOATS], {"starts": [1, 2], "ends": [3, 4]}),
    ("Squeeze", 13, [SQUARE], {}),
    ("Squeeze", 13, [SQUARE, ints(2)], {}),
    ("Squeeze", 11, [SQUARE], {"axes": [0]}),
    ("Unsqueeze", 13, [INTEGERS, ints(0, 3)], {}),
    ("Unsqueeze", 11, [INTEGERS], {"axes": [-1]}),
    ("Transpose", 13, [SQUARE], {}),
    ("Transpose", 13, [SQUARE], {"perm": [1, 3, 0, 2]}),
    ("Identity", 13, [INTEGERS], {}),
    ("Cast", 13, [INTEGERS], {"to": TensorProto.FLOAT}),
    ("Cast", 13, [FLOATS], {"to": TensorProto.INT64}),
    ("CastLike", 15, [INTEGERS, FLOATS], {}),
    ("CastLike", 15, [FLOATS, INTEGERS], {}),
    ("ConstantOfShape", 13, [ints(2, 3)], {}),
    ("ConstantOfShape", 13, [ints()], {}),
    ("ConstantOfShape", 13, [ints(*[1] * 8)], {}),
    (
        "ConstantOfShape",
        13,
        [ints(4)],
        {"value": numpy_helper.from_array(np.array([7], np.int64), "")},
    ),
    ("Constant", 13, [], {"value_int": 5}),
    ("Constant", 13, [], {"value_int": 0}),
    ("Constant", 13, [], {"value_ints": [5, 6]}),
    ("Constant", 13, [], {"value_float": 0.5}),
    ("Constant", 13, [], {"value": numpy_helper.from_array(FLOATS, "")}),
)


@pytest.mark.parametrize(
    ("operator", "version", "inputs", "attributes"),
    COMPUTED,
    ids=[f"{index}-{each[0]}" for index, each in enumerate(COMPUTED)],
)
def test_results_equal_onnxruntimes(
    operator: str,
    version: int,
    inputs: list[NDArray[Any]],
    attributes: dict[str, Any],
    tmp_path: Path,
) -> None:
    names = [f"input{index}" for index in range(len(inputs))]
    node = helper.make_node(operator, names, ["result"], **attributes)
    tensors = [
        numpy_helper.from_array(array, name) for name, array in zip(names, inputs, strict=True)
    ]
    floats = not inputs or any(array.dtype == np.float32 for array in inputs)
    kinds = (TensorProto.FLOAT, TensorProto.INT64)
    last: Exception | None = None
    for kind in kinds if floats else kinds[::-1]:
        output = helper.make_tensor_value_info("result", kind, None)
        model = helper.make_model(
            helper.make_graph([node], "graph", [], [output], tensors),
            opset_imports=[helper.make_opsetid("", version)],
            ir_version=8,
        )
        path = saved(model, tmp_path)
        try:
            (expected,) = onnxruntime.InferenceSession(path).run(None, {})
            break
        except Exception as error:
            last = error
    else:
        pytest.fail(str(last))
    graph = read_graph(path)
    constants = Constants(graph, lambda _: [])
    assert constants.take(graph.nodes[0])
    got = constants.get("result")
    assert got is not None
    np.testing.assert_array_equal(got, expected)
    assert got.shape == expected.shape
    assert got.dtype == expected.dtype


def constants_of(**arrays: NDArray[Any]) -> Constants:
    sizes: dict[str, Dimensions] = {"map": [None, 3, 40, 50]}
    return Constants(Graph(constants=arrays), lambda name: sizes.get(name, []))


def node(operator: str, *inputs: str, output: str = "result", **attributes: Any) -> Node:
    return Node(operator, "", list(inputs), [output], attributes)


MANY = np.zeros(1 << 14, np.int64)

IMPOSSIBLE: tuple[tuple[Node, dict[str, NDArray[Any]], str], ...] = (
    (node("Neg", "a"), {"a": np.zeros((1 << 14) + 1)}, "a computation with a few numbers"),
    (node("Add", "a", "b"), {"a": MANY, "b": ints(1)}, "a computation with a few numbers"),
    (node("Expand", "a", "b"), {"a": ints(1), "b": ints(1 << 7, 1 << 8)}, "32768 numbers are too"),
    (
        node("Add", "a", "b"),
        {"a": np.zeros((1 << 8, 1)), "b": np.zeros(1 << 7)},
        "32768 numbers are too many",
    ),
    (
        node("Gather", "a", "b"),
        {"a": ints(*range(200)), "b": MANY[:100]},
        "100 places of 200 numbers are too many",
    ),
    (node("Gather", "a", "b"), {"a": ints(1), "b": ints(1)}, "a computation that is possible"),
    (node("Squeeze", "a", "b"), {"a": SQUARE, "b": ints(1)}, "a computation that is possible"),
    (node("Reshape", "a", "b"), {"a": ints(1, 2), "b": ints(3)}, "a computation that is possible"),
    (node("Transpose", "a", perm=[0, 0]), {"a": INTEGERS}, "an order of axes, got [0, 0]"),
    (node("Transpose", "a", perm=[0]), {"a": INTEGERS}, "an order of axes, got [0]"),
    (node("Cast", "a", to=[7]), {"a": INTEGERS}, "an integer as to, got [7]"),
    (node("Constant"), {}, "a tensor or a number"),
    (node("Constant", value="text"), {}, "a tensor or a number"),
    (
        node("ConstantOfShape", "a"),
        {"a": ints(1 << 11, (1 << 11) + 1)},
        "at most 4194304 times one number, got [2048, 2049]",
    ),
    (
        node("ConstantOfShape", "a"),
        {"a": ints(0, (1 << 22) + 1)},
        "at most 4194304 times one number",
    ),
    (node("ConstantOfShape", "a"), {"a": ints(-1)}, "at most 4194304 times one number, got [-1]"),
    (node("ConstantOfShape", "a"), {"a": ints(*[1] * 9)}, "at most 4194304 times one number"),
    (
        node("ConstantOfShape", "a", value=ints(1, 2)),
        {"a": ints(1)},
        "at most 4194304 times one number",
    ),
    (
        node("ConstantOfShape", "a"),
        {"a": np.ones(1, np.float32)},
        "a short list of integers, got 1 numbers",
    ),
    (node("Unsqueeze", "a", "b"), {"a": ints(1), "b": MANY[:4097]}, "a short list of integers"),
)


@pytest.mark.parametrize(("impossible", "arrays", "message"), IMPOSSIBLE)
def test_computations_that_are_refused(
    impossible: Node, arrays: dict[str, NDArray[Any]], message: str
) -> None:
    with pytest.raises(WeightsError) as caught:
        constants_of(**arrays).take(impossible)
    assert f"node result ({impossible.operator}): expected " in str(caught.value)
    assert message in str(caught.value)


def test_computations_at_the_bounds() -> None:
    constants = constants_of(
        most=MANY, one=ints(1), square=ints(1 << 7, 1 << 7), full=ints(1 << 11, 1 << 11)
    )
    for possible in (
        node("Neg", "most", output="a"),
        node("Expand", "one", "square", output="b"),
        node("Gather", "square", "one", output="c"),
        node("ConstantOfShape", "full", output="d"),
    ):
        assert constants.take(possible)
    filled = constants.get("d")
    assert filled is not None
    assert filled.size == MAX_FILLED
    assert filled.strides == (0, 0)


def test_casts_to_other_floats_leave_numbers_as_they_are() -> None:
    constants = constants_of(a=FLOATS, many=np.zeros((1 << 14) + 1, np.int64))
    for kind in (TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE, 999):
        assert constants.take(node("Cast", "a", output=f"b{kind}", to=kind))
        assert constants.get(f"b{kind}") is constants.get("a")
    assert constants.take(node("CastLike", "a", "absent", output="c"))
    assert constants.get("c") is constants.get("a")
    # Many integers, which no network has, are not copied.
    assert constants.take(node("Cast", "many", output="d", to=TensorProto.FLOAT))
    assert constants.get("d") is constants.get("many")


def test_integers_that_become_floats_are_divided_as_such() -> None:
    constants = constants_of(a=ints(7), two=np.full(1, 2, np.float32))
    assert constants.take(node("Cast", "a", output="b", to=TensorProto.BFLOAT16))
    assert constants.take(node("Div", "b", "two"))
    np.testing.assert_array_equal(constants.get("result"), [3.5])


def test_bfloat16_is_widened() -> None:
    half = np.array([0x3F80, 0xC000], "<u2").view(BFLOAT16)
    constants = constants_of(a=half)
    assert constants.take(node("Neg", "a"))
    np.testing.assert_array_equal(constants.get("result"), np.array([-1, 2], np.float32))
    assert constants.take(node("Cast", "a", output="whole", to=TensorProto.INT64))
    np.testing.assert_array_equal(constants.get("whole"), ints(1, -2))


class TestSizes:
    """The sizes of values, of which the number of images is unknown."""

    def test_sizes_that_are_known(self) -> None:
        constants = constants_of(places=ints(1, 3), none=ints(0), one=ints(1), three=ints(3))
        assert constants.take(node("Shape", "map", output="shape"))
        assert constants.take(node("Cast", "shape", output="cast", to=7))
        assert constants.take(node("Identity", "cast", output="same"))
        assert constants.take(node("Gather", "same", "places", output="known"))
        np.testing.assert_array_equal(constants.get("known"), [3, 50])
        assert constants.take(node("Slice", "same", "one", "three", output="middle"))
        np.testing.assert_array_equal(constants.get("middle"), [3, 40])
        assert not constants.is_size("known")

    def test_sizes_that_are_not(self) -> None:
        constants = constants_of(none=ints(0), minus=ints(-1))
        assert constants.take(node("Shape", "map", output="shape"))
        assert constants.take(node("Gather", "shape", "none", output="count"))
        assert constants.take(node("Concat", "count", "minus", output="target"))
        for name in ("shape", "count", "target"):
            assert constants.is_size(name)
            assert constants.get(name) is None
        assert not constants.is_size("minus")
        assert not constants.take(node("Concat", "target", "map"))

    def test_part_of_a_shape(self) -> None:
        constants = constants_of(none=ints(0))
        assert constants.take(node("Shape", "map", output="sides", start=2))
        assert constants.take(node("Gather", "sides", "none"))
        np.testing.assert_array_equal(constants.get("result"), [40])
        assert constants.take(node("Shape", "map", output="channels", start=1, end=2))
        assert constants.take(node("Gather", "channels", "none", output="three"))
        np.testing.assert_array_equal(constants.get("three"), [3])

    def test_shape_of_a_value_that_is_not_known(self) -> None:
        constants = constants_of(none=ints(0))
        assert constants.take(node("Shape", "absent", output="shape"))
        assert constants.take(node("Gather", "shape", "none"))
        assert constants.is_size("result")

    @pytest.mark.parametrize("place", [4, -5])
    def test_place_of_no_size(self, place: int) -> None:
        constants = constants_of(place=ints(place))
        assert constants.take(node("Shape", "map", output="shape"))
        with pytest.raises(WeightsError, match=r"\(Gather\): expected a computation that is poss"):
            constants.take(node("Gather", "shape", "place"))


class TestRoom:
    """Arrays of a network take no more memory than their file has reason for."""

    def test_conversions_are_counted(self) -> None:
        doubles = np.ones(10)
        converted = Arrays(40).of(doubles)
        assert converted.dtype == np.float32
        with pytest.raises(WeightsError, match="the tensors take more room than their file"):
            Arrays(39).of(doubles)

    def test_views_and_arrays_that_are_taken_again_are_not(self) -> None:
        arrays = Arrays(40)
        floats = np.ones(100, np.float32)
        assert arrays.of(floats) is floats
        doubles = np.ones(10)
        assert arrays.of(doubles) is arrays.of(doubles)
        with pytest.raises(WeightsError, match="take more room"):
            arrays.of(np.ones(1))

    def test_one_number_many_times(self) -> None:
        """Two large ones have room, and smaller ones of the same numbers are parts of them."""
        arrays = Arrays(0)
        for number in (0, 1):
            filled = arrays.of(np.broadcast_to(np.float32(number), (1 << 11, 1 << 11)))
            assert filled.shape == (1 << 11, 1 << 11)
            assert (filled[0] == number).all()
            part = arrays.of(np.broadcast_to(np.float32(number), 3))
            assert np.may_share_memory(part, filled)
        with pytest.raises(WeightsError, match="too many large constants of one number each"):
            arrays.of(np.broadcast_to(np.float32(2), 2))
