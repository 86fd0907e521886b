"""NumPy arrays inside pickles: those of detectron2's files, and of `torch.save` of arrays."""

from __future__ import annotations

import pickle
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch_pickles as tp
from checkpoints import TOLERANCE, relative_error
from tiny_torch import TinyResNet, tiny_variant

from resnet_rs import WeightsError
from resnet_rs.weights import formats
from resnet_rs.weights.formats.torch_file import read_torch

RNG = np.random.default_rng(0)
ARRAYS: dict[str, Any] = {
    "short": RNG.standard_normal((3, 5)).astype("<f4"),
    "long": RNG.standard_normal((600, 700)).astype("<f4"),
    "fortran": np.asfortranarray(RNG.standard_normal((200, 300))),
    "half": RNG.standard_normal(7).astype("<f2"),
    "big endian": RNG.standard_normal(5).astype(">f4"),
    "empty": np.zeros((0, 3), "<f4"),
    "scalar": np.float32(1.5),
    "n.num_batches_tracked": np.int64(3),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "arrays.pkl"


def assert_read(path: Path, *remarks: str, key: str | None = None) -> None:
    found = read_torch(path, key)
    assert list(found.tensors) == [name for name in ARRAYS if "batches" not in name]
    for name, array in found.tensors.items():
        assert array.dtype == (np.float16 if name == "half" else np.float32)
        np.testing.assert_array_equal(array, ARRAYS[name].astype(array.dtype), err_msg=name)
    assert found.remarks == remarks


@pytest.mark.parametrize("protocol", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("key", ["", "model", "blobs"])
def test_plain_pickles_give_the_arrays(protocol: int, key: str, path: Path) -> None:
    content: Any = {key: ARRAYS, "__author__": "me"} if key else ARRAYS
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    assert_read(path, *([f"took the state dict under {key!r}"] if key else []))


@pytest.mark.parametrize("fix_imports", [True, False])
def test_no_bytes_at_all_by_the_name_of_either_python(fix_imports: bool, path: Path) -> None:
    """Protocol 2 writes b"" as a call of `__builtin__.bytes`, or of `builtins.bytes`."""
    content = {"empty": ARRAYS["empty"], "short": ARRAYS["short"]}
    path.write_bytes(pickle.dumps(content, protocol=2, fix_imports=fix_imports))
    assert list(read_torch(path).tensors) == ["empty", "short"]


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_torch_save_of_arrays_gives_the_arrays(legacy: bool, path: Path) -> None:
    torch.save(ARRAYS, path, _use_new_zipfile_serialization=not legacy)
    assert_read(path)


def test_arrays_beside_a_state_dict_are_not_taken_for_it(path: Path) -> None:
    state = {"w": torch.ones(2)}
    torch.save({"my_net": state, "mean": np.ones(3), "history": {"loss": np.ones(9)}}, path)
    assert list(read_torch(path).tensors) == ["w"]


def test_the_question_which_arrays_names_the_whole_way(path: Path) -> None:
    arrays = {"w": np.ones(2, np.float32)}
    torch.save({"run": {"model": {"one": arrays, "two": arrays}}}, path)
    with pytest.raises(WeightsError, match="run/model/one"):
        read_torch(path, "run/model")


def python2(size: int) -> bytes:
    """A pickle as Python 2 wrote it: the numbers are a string of bytes."""
    numbers = np.arange(size, dtype="<f4").tobytes()
    string = b"T" + struct.pack("<I", len(numbers)) + numbers
    return (
        b"\x80\x02}U\x01w"
        + b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85U\x01b\x87R"
        b"(K\x01J" + struct.pack("<i", size) + b"\x85cnumpy\ndtype\nU\x02f4K\0K\x01\x87R"
        b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb\x89" + string + b"tbs."
    )


@pytest.mark.parametrize("size", [3, 100_000])
def test_python_2s_pickles_give_the_arrays(size: int, path: Path) -> None:
    path.write_bytes(python2(size))
    assert np.array_equal(pickle.loads(path.read_bytes(), encoding="latin1")["w"], range(size))
    np.testing.assert_array_equal(read_torch(path).tensors["w"], np.arange(size))


def test_detectron2s_file_gives_torchs_logits(path: Path) -> None:
    """Its names, and the way in which its converters write them."""
    module = TinyResNet()
    arrays = {}
    for name, tensor in module.state_dict().items():
        theirs = name.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm")
        for number in "123":
            theirs = theirs.replace(f".bn{number}.", f".conv{number}.norm.")
        theirs = theirs.replace("bn1.", "stem.conv1.norm.") if theirs.startswith("bn1") else theirs
        theirs = f"stem.{theirs}" if name.startswith("conv1") else theirs
        for stage in "4321":
            theirs = theirs.replace(f"layer{stage}.", f"res{int(stage) + 1}.")
        arrays[theirs.replace("fc.", "linear.")] = tensor.numpy()
    content = {"model": arrays, "__author__": "torchvision", "matching_heuristics": True}
    path.write_bytes(pickle.dumps(content))
    variant = tiny_variant(stride_on="conv2")
    checkpoint = formats.read(path, architecture="resnet50", variant=variant)
    assert relative_error(checkpoint, module) <= TOLERANCE


def test_protocol_0_is_refused_with_the_remedy(path: Path) -> None:
    path.write_bytes(pickle.dumps(ARRAYS, protocol=0))
    with pytest.raises(WeightsError, match=r"protocol 0.*protocol=4") as caught:
        read_torch(path)
    assert str(path) in str(caught.value)


def array_call(shape: Any, numbers: Any, code: str = "f4", order: str = "C", *more: Any) -> Any:
    dtype = tp.call("numpy", "dtype", code, False, True)
    return tp.call("numpy._core.numeric", "_frombuffer", numbers, dtype, shape, order, *more)


def test_newer_calls_have_an_order_of_axes(path: Path) -> None:
    """Newer versions of NumPy write one more argument, which is None for C and Fortran order."""
    numbers = np.arange(6, dtype="<f4")
    text = numbers.tobytes().decode("latin-1")
    arrays = {"c": array_call((2, 3), text, "f4", "C", None)}
    arrays["f"] = array_call((2, 3), text, "f4", "F", None)
    arrays["most axes"] = array_call((1,) * 31 + (6,), text)
    tp.zip_file(path, tp.dumps(arrays))
    tensors = read_torch(path).tensors
    for name, order in (("c", "C"), ("f", "F")):
        np.testing.assert_array_equal(tensors[name], numbers.reshape((2, 3), order=order))
    assert tensors["most axes"].shape == (1,) * 31 + (6,)


def test_references_out_of_a_plain_pickle_are_refused(path: Path) -> None:
    """Beside arrays there are no storages, so only a tensor without numbers can be read."""
    array = array_call((1,), "x" * 4)
    path.write_bytes(tp.dumps({"a": array, "w": tp.tensor((0, 3))}))
    assert read_torch(path).tensors["w"].shape == (0, 3)
    path.write_bytes(tp.dumps({"a": array, "w": tp.tensor()}))
    with pytest.raises(WeightsError, match=r"arrays\.pkl: no storage 0 in the file"):
        read_torch(path)


DAMAGE = ["short", "huge", "cut", "long", "characters", "negative", "objects", "rank"]
DAMAGE += ["axes", "float", "text", "scalar"]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (array_call((7,), "x" * 24), "w: a damaged array: expected 28 bytes, got 24"),
        (array_call((1 << 40,), "x" * 200_000), "more than twice its size"),
        (array_call((50_001,), "x" * 200_000), "w: a damaged array: a text of 200000 char"),
        (array_call((40_000,), "x" * 200_000), "w: a damaged array: a text of other than 160000"),
        (array_call((6,), "\u20ac" * 24), "w: a damaged array"),
        (array_call((-6,), "x" * 24), "expected a dict of tensors"),
        (array_call((6,), ["x"], "O8"), "expected a dict of tensors"),
        (array_call((1,) * 33, "x" * 4), "expected a dict of tensors"),
        (array_call((6,), "x" * 24, "f4", "C", (0,)), "got other things: w"),
        (array_call((6.0,), "x" * 24), "got other things: w"),
        (array_call((6,), 24), "got other things: w"),
        (tp.call("numpy._core.multiarray", "scalar", "f4"), "got other things: w"),
    ],
    ids=DAMAGE,
)
def test_damaged_arrays_are_refused(array: Any, message: str, path: Path) -> None:
    tp.zip_file(path, tp.dumps({"w": array}))
    with pytest.raises(WeightsError) as caught:
        read_torch(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_one_text_for_many_arrays_stays_within_the_budget(path: Path) -> None:
    text = "x" * (1 << 20)
    arrays = {f"w{i}": array_call((1 << 18,), text) for i in range(100)}
    tp.zip_file(path, tp.dumps(arrays))
    tracemalloc.start()
    try:
        with pytest.raises(WeightsError, match="more than twice its size"):
            read_torch(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20 << 20


@pytest.mark.parametrize("protocol", [2, 4])
def test_memory_is_at_most_the_file(protocol: int, path: Path) -> None:
    """Texts unfold to bytes once, and bytes are read once."""
    arrays = {name: RNG.standard_normal(1 << 20).astype("<f4") for name in "abcd"}
    path.write_bytes(pickle.dumps(arrays, protocol=protocol))
    tracemalloc.start()
    try:
        tensors = read_torch(path).tensors
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert all(np.array_equal(tensors[name], arrays[name]) for name in arrays)
    assert peak <= path.stat().st_size + (1 << 18)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_lazily_negated_tensors_have_their_sign(
    dtype: torch.dtype, legacy: bool, path: Path
) -> None:
    state = {"w": torch.randn(4, 3).to(dtype)._neg_view()}
    state["p"] = torch.nn.Parameter(state["w"].mT)
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    expected = torch.load(path)
    for name, array in read_torch(path).tensors.items():
        np.testing.assert_array_equal(array, expected[name].detach().resolve_neg().float().numpy())
        assert array[0, 0] != 0


def test_imaginary_parts_of_lazy_conjugates_have_their_sign(path: Path) -> None:
    state = {"w": torch.view_as_complex(torch.randn(5, 2)).conj().imag}
    torch.save(state, path)
    np.testing.assert_array_equal(read_torch(path).tensors["w"], state["w"].resolve_neg().numpy())
