"""Files of torch.save, read without torch: the same numbers as torch.load, and nothing runs."""

from __future__ import annotations

import argparse
import io
import pickle
import struct
import subprocess
import sys
import tracemalloc
import warnings
import zipfile
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch_pickles as tp

from resnet_rs import WeightsError
from resnet_rs.weights.formats import torch_state_dict
from resnet_rs.weights.formats.torch_file import read_torch
from resnet_rs.weights.remarks import warnings_of

FORMATS = [pytest.param(False, id="zip"), pytest.param(True, id="legacy")]
NUMBERS = np.arange(6, dtype="<f4").reshape(2, 3)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "checkpoint.pth"


def small_state() -> dict[str, torch.Tensor]:
    """A state dict with every kind of parameter that a ResNet has."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, bias=False),
        torch.nn.BatchNorm2d(4),
        torch.nn.Flatten(),
        torch.nn.Linear(4, 5),
    )
    return network.state_dict()


def save(content: Any, path: Path, *, legacy: bool = False) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)


def assert_same(actual: dict[str, np.ndarray], expected: dict[str, torch.Tensor]) -> None:
    """The same names, float32 or float16 as they were, and the same numbers to the last bit."""
    floats = {k: v for k, v in expected.items() if v.is_floating_point()}
    assert list(actual) == list(floats)
    for name, tensor in floats.items():
        array = actual[name]
        wide = tensor if tensor.dtype == torch.float16 else tensor.float()
        assert array.dtype == wide.numpy().dtype, name
        assert array.flags.c_contiguous, name
        assert array.flags.aligned, name
        np.testing.assert_array_equal(array, wide.contiguous().numpy(), err_msg=name)


def refuse(path: Path, *messages: str, key: str | None = None) -> None:
    with pytest.raises(WeightsError) as caught:
        read_torch(path, key)
    for message in [str(path), *messages]:
        assert message in str(caught.value)


KINDS = ["float32", "float16", "bfloat16", "float64", "int64", "int32", "int16", "int8", "uint8"]
KINDS += ["bool", "complex64", "complex128"]


@pytest.mark.parametrize("legacy", FORMATS)
class TestNumbers:
    """Against torch.load(weights_only=True)."""

    def test_state_dict(self, legacy: bool, path: Path) -> None:
        save(small_state(), path, legacy=legacy)
        found = read_torch(path)
        assert_same(found.tensors, torch.load(path, weights_only=True))
        assert found.config == {}
        assert found.remarks == ()

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
    def test_other_dtypes(self, dtype: torch.dtype, legacy: bool, path: Path) -> None:
        special = torch.tensor([0.0, -0.0, 1e-40, 3e38, -7e4, float("inf"), float("nan")])
        state = {k: v.to(dtype) for k, v in small_state().items()} | {"edge": special.to(dtype)}
        save(state, path, legacy=legacy)
        assert_same(read_torch(path).tensors, torch.load(path, weights_only=True))

    def test_strided_views_of_shared_storages(self, legacy: bool, path: Path) -> None:
        base = torch.arange(120.0).reshape(2, 3, 4, 5)
        state = {
            "whole": base,
            "transposed": base.permute(0, 3, 1, 2),
            "channels_last": base.to(memory_format=torch.channels_last),
            "part": base[1, :, 1:3, ::2],
            "row": base[0, 1, 2],
            "scalar": base[1, 2, 3, 4],
            "repeated": base[0, 0, 0].expand(7, 5),
            "half": base.half().mT,
        }
        save(state, path, legacy=legacy)
        assert_same(read_torch(path).tensors, state)

    def test_parameters_and_empty_tensors(self, legacy: bool, path: Path) -> None:
        state = {
            "parameter": torch.nn.Parameter(torch.ones(2, 3)),
            "buffer": torch.nn.Buffer(torch.full((3,), 2.0)),
            "empty": torch.empty(0, 3),
        }
        save(state, path, legacy=legacy)
        expected = {name: tensor.detach() for name, tensor in state.items()}
        assert_same(read_torch(path).tensors, expected)

    def test_whole_model(self, legacy: bool, path: Path) -> None:
        model = torch.nn.Sequential(
            OrderedDict(
                conv=torch.nn.Conv2d(3, 4, 3, bias=False),
                block=torch.nn.Sequential(torch.nn.BatchNorm2d(4), torch.nn.ReLU()),
            )
        )
        save(model, path, legacy=legacy)
        found = read_torch(path)
        assert_same(found.tensors, model.state_dict())
        assert "a whole saved model (torch.nn.modules.container.Sequential)" in found.remarks[0]
        model.register_module("absent", None)
        model.register_module("last", torch.nn.Linear(4, 5))
        save(model, path, legacy=legacy)
        found = read_torch(path)
        assert_same(found.tensors, model.state_dict())
        assert found.modules[""].children == ("conv", "block", "last")
        assert list(found.modules) == ["", "conv", "block", "block.0", "block.1", "last"]

    def test_integers_are_left_out(self, legacy: bool, path: Path) -> None:
        state = small_state() | {"epoch": torch.tensor(3), "mask": torch.ones(2, dtype=torch.bool)}
        save(state, path, legacy=legacy)
        found = read_torch(path)
        assert_same(found.tensors, small_state())
        assert found.remarks == ("left out tensors of integers: epoch, mask",)
        assert warnings_of(found.remarks) == []

    def test_weights_of_integers_are_warned_of(self, legacy: bool, path: Path) -> None:
        state = small_state() | {"fc.weight": torch.ones((2, 3), dtype=torch.int8)}
        save(state, path, legacy=legacy)
        found = read_torch(path)
        assert_same(found.tensors, small_state())
        assert warnings_of(found.remarks) == ["left out tensors of integers: fc.weight"]

    @pytest.mark.filterwarnings("ignore:.*quantize:UserWarning")
    @pytest.mark.parametrize("kind", [*KINDS, "quint8", "qint8", "qint32"])
    def test_storages_of_every_kind_may_lie_beside(
        self, kind: str, legacy: bool, path: Path
    ) -> None:
        """The size of each decides where the next one begins in a legacy file."""
        dtype = getattr(torch, kind)
        numbers = torch.arange(7.0)
        if kind.startswith("q"):
            beside = torch.quantize_per_tensor(numbers, 1.0, 0, dtype)
        else:
            beside = numbers.to(dtype)
        save({"model": small_state(), "beside": [beside]}, path, legacy=legacy)
        assert_same(read_torch(path).tensors, small_state())

    @pytest.mark.parametrize("kind", ["int64", "int32", "int16", "int8", "uint8", "bool"])
    def test_integers_of_every_kind_are_left_out(self, kind: str, legacy: bool, path: Path) -> None:
        state = small_state() | {"steps": torch.ones(3, dtype=getattr(torch, kind))}
        save(state, path, legacy=legacy)
        found = read_torch(path)
        assert_same(found.tensors, small_state())
        assert found.remarks == ("left out tensors of integers: steps",)

    @pytest.mark.filterwarnings("ignore:.*quantize:UserWarning")
    @pytest.mark.filterwarnings("ignore:Sparse CSR:UserWarning")
    @pytest.mark.parametrize(
        ("make", "function"),
        [
            (lambda: torch.eye(3).to_sparse(), "_rebuild_sparse_tensor"),
            (lambda: torch.eye(3).to_sparse_csr(), "_rebuild_sparse_tensor"),
            (lambda: torch.eye(3, device="meta"), "_rebuild_meta_tensor_no_storage"),
            (
                lambda: torch.quantize_per_tensor(torch.eye(3), 0.1, 0, torch.qint8),
                "_rebuild_qtensor",
            ),
        ],
    )
    def test_tensors_without_plain_numbers_are_refused_by_name(
        self, make: Callable[[], torch.Tensor], function: str, legacy: bool, path: Path
    ) -> None:
        state = small_state() | {"fc.weight": make()}
        save(state, path, legacy=legacy)
        with pytest.raises(WeightsError, match=rf"tensor fc\.weight is none .*{function}"):
            read_torch(path)


@pytest.mark.parametrize("legacy", FORMATS)
@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64], ids=str
)
def test_memory_is_at_most_twice_the_file(dtype: torch.dtype, legacy: bool, path: Path) -> None:
    """A large tensor, an equal one in another order, and one that is not asked for."""
    weights = torch.ones(512, 1024, dtype=dtype)
    save(
        {"model": {"w": weights, "v": weights.clone().mT}, "ema": weights + 1}, path, legacy=legacy
    )
    read_torch(path)
    tracemalloc.start()
    try:
        tensors = read_torch(path).tensors
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [array.shape for array in tensors.values()] == [(512, 1024), (1024, 512)]
    assert peak <= 2 * path.stat().st_size


class TestZip:
    def test_arrays_are_views_of_the_mapped_file(self, path: Path) -> None:
        save({"w": torch.ones(1000), "h": torch.ones(1000).half()}, path)
        for array in read_torch(path).tensors.values():
            assert not array.flags.owndata
            assert not array.flags.writeable

    def test_writer_without_checksums(self, path: Path) -> None:
        torch.serialization.set_crc32_options(False)
        try:
            save(small_state(), path)
        finally:
            torch.serialization.set_crc32_options(True)
        assert_same(read_torch(path).tensors, small_state())

    def test_damaged_number_is_noticed(self, path: Path) -> None:
        save({"w": torch.full((100,), 0.5)}, path)
        data = path.read_bytes()
        half = struct.pack("<f", 0.5)
        path.write_bytes(data.replace(half, struct.pack("<f", 0.75), 1))
        refuse(path, "checksum of checkpoint/data/0 is wrong")

    def test_packed_again_with_compression(self, path: Path) -> None:
        data = tp.saved(small_state())
        path.write_bytes(tp.repacked(data, tp.pickle_of(data), compress=True))
        assert_same(read_torch(path).tensors, small_state())

    def test_zip_bomb_is_refused_before_it_unfolds(self, path: Path) -> None:
        size = 64 << 20
        state = tp.dumps({"w": tp.tensor((size,), (1,), source=tp.storage("0", size))})
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("archive/data.pkl", state)
            archive.writestr("archive/data/0", bytes(4 * size))
        refuse(path, "more than twice its size")

    def test_members_of_one_name_are_refused(self, path: Path) -> None:
        with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as archive:
            warnings.simplefilter("ignore")
            for size in (2, 3):
                archive.writestr("archive/data.pkl", bytes(size))
        refuse(path, "archive/data.pkl twice")

    def test_encrypted_members_are_refused(self, path: Path) -> None:
        tp.zip_file(path, tp.dumps({"w": tp.tensor()}))
        data = bytearray(path.read_bytes())
        data[data.index(b"PK\x01\x02") + 8] |= 1
        path.write_bytes(data)
        refuse(path, "encrypted")

    def test_directory_of_nothing_but_entries_is_refused(self, path: Path) -> None:
        """zipfile would make 140 MB of objects of these 9 MB."""
        entry = b"PK\x01\x02" + bytes(24) + struct.pack("<H", 0) + bytes(16)
        count = 200_000
        end = b"PK\x05\x06" + struct.pack("<4x2HIIH", 0xFFFF, 0xFFFF, len(entry) * count, 4, 0)
        path.write_bytes(b"PK\x03\x04" + entry * count + end)
        refuse(path, "more members")

    def test_big_endian_writer(self, path: Path) -> None:
        state = tp.dumps({"w": tp.tensor()})
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", state)
            archive.writestr("archive/byteorder", "big")
            archive.writestr("archive/data/0", NUMBERS.astype(">f4").tobytes())
        np.testing.assert_array_equal(read_torch(path).tensors["w"], NUMBERS)

    def test_another_byte_order_is_refused(self, path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", tp.dumps({"w": tp.tensor()}))
            archive.writestr("archive/byteorder", "middle")
            archive.writestr("archive/data/0", NUMBERS.tobytes())
        refuse(path, "byteorder must be little or big, got b'middle'")

    def test_member_that_cannot_be_unpacked_is_named(self, path: Path) -> None:
        data = tp.saved({"w": torch.ones(500)})
        data = bytearray(tp.repacked(data, tp.pickle_of(data), compress=True))
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            member = archive.getinfo("archive/data/0")
        begin = member.header_offset + 30 + len(member.filename)
        data[begin] = 0xFF  # a block of a kind that deflate does not have
        path.write_bytes(data)
        refuse(path, "a damaged zip file: archive/data/0 cannot be unpacked", "invalid block type")

    def test_file_above_4_gib_has_its_sizes_in_zip64_fields(self, path: Path) -> None:
        storage = NUMBERS.tobytes()
        with zipfile.ZipFile(path, "w") as archive:
            with archive.open("archive/data.pkl", "w", force_zip64=True) as member:
                member.write(tp.dumps({"w": tp.tensor()}))
            archive.writestr("archive/data/0", storage)
        data = bytearray(path.read_bytes())
        # The directory's first entry: its sizes and place go to a zip64 field.
        entry = data.index(b"PK\x01\x02")
        packed, size = struct.unpack_from("<II", data, entry + 20)
        (header,) = struct.unpack_from("<I", data, entry + 42)
        name_bytes, extra_bytes = struct.unpack_from("<HH", data, entry + 28)
        data[entry + 20 : entry + 28] = b"\xff" * 8
        data[entry + 42 : entry + 46] = b"\xff" * 4
        field = struct.pack("<HHQQQ", 1, 24, size, packed, header)
        behind = entry + 46 + name_bytes + extra_bytes
        data[behind:behind] = field
        data[entry + 30 : entry + 32] = struct.pack("<H", extra_bytes + len(field))
        end = data.index(b"PK\x05\x06")
        (directory_bytes,) = struct.unpack_from("<I", data, end + 12)
        data[end + 12 : end + 16] = struct.pack("<I", directory_bytes + len(field))
        path.write_bytes(data)
        np.testing.assert_array_equal(read_torch(path).tensors["w"], NUMBERS)

    def test_torchscript_is_refused_with_the_way_out(self, path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("net/data.pkl", pickle.dumps({}))
            archive.writestr("net/constants.pkl", pickle.dumps(()))
            archive.writestr("net/code/__torch__.py", "")
        refuse(path, "TorchScript", "torch.save(model.state_dict(), path)")

    def test_other_zip_files_are_refused(self, path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("readme.txt", "hello")
        refuse(path, "a zip file that torch.save did not write")

    def test_cut_download_is_named_as_such(self, path: Path) -> None:
        save(small_state(), path)
        path.write_bytes(path.read_bytes()[:-100])
        refuse(path, "cut off")

    @pytest.mark.parametrize(
        ("storages", "message"),
        [
            ({}, "no member archive/data/0"),
            ({"0": bytes(20)}, "storage 0: expected 6 numbers (Float), got 20 bytes"),
        ],
    )
    def test_storages_must_fit(self, storages: dict[str, bytes], message: str, path: Path) -> None:
        refuse(tp.zip_file(path, tp.dumps({"w": tp.tensor()}), storages), message)


class TestLegacy:
    def test_views_of_other_storages(self, path: Path) -> None:
        """The form that torch before 0.4 wrote for storages that are parts of others."""
        part = tp.storage("0", 6, "FloatStorage", ("1", 2, 3))
        state = {"w": tp.tensor(source=tp.storage("0", 6, "FloatStorage", None))}
        state["part"] = tp.tensor((3,), (1,), source=part)
        tp.legacy_file(path, tp.dumps(state), {"0": NUMBERS.tobytes()})
        tensors = read_torch(path).tensors
        np.testing.assert_array_equal(tensors["w"], NUMBERS)
        np.testing.assert_array_equal(tensors["part"], [2, 3, 4])

    @pytest.mark.parametrize(
        ("storages", "message"),
        [
            ({}, "no storage 0"),
            ({"0": bytes(20)}, "storage 0: expected 6 numbers (Float), got 5"),
            ({"0": bytes(24), "1": bytes(4)}, "a storage that no tensor, or two, name"),
        ],
    )
    def test_storages_must_fit(self, storages: dict[str, bytes], message: str, path: Path) -> None:
        refuse(tp.legacy_file(path, tp.dumps({"w": tp.tensor()}), storages), message)

    @pytest.mark.parametrize(
        "other",
        [tp.storage("0", 5), tp.storage("0", 6, "IntStorage")],
        ids=["size", "kind"],
    )
    def test_storage_is_one_everywhere(self, other: Any, path: Path) -> None:
        state = {"w": tp.tensor(), "v": tp.tensor((1,), (1,), source=other)}
        tp.legacy_file(path, tp.dumps(state), {"0": NUMBERS.tobytes()})
        refuse(path, "storage 0 has two sizes")

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            (1001, 1002, "a legacy file of another protocol than 1001"),
            (["0"], {"0": 6}, "a damaged legacy file: no list of storages"),
            (["0"], [0], "a storage that no tensor, or two, name"),
            (["0"], ["0", "0"], "a storage that no tensor, or two, name"),
        ],
    )
    def test_pickles_around_the_state_dict_must_fit(
        self, old: Any, new: Any, message: str, path: Path
    ) -> None:
        tp.legacy_file(path, tp.dumps({"w": tp.tensor()}), {"0": NUMBERS.tobytes()})
        assert read_torch(path).tensors
        before, after = (pickle.dumps(value, protocol=2) for value in (old, new))
        data = path.read_bytes()
        assert data.count(before) == 1
        path.write_bytes(data.replace(before, after))
        refuse(path, message)

    def test_cut_file(self, path: Path) -> None:
        save(small_state(), path, legacy=True)
        path.write_bytes(path.read_bytes()[:-4])
        refuse(path, "bytes are there")

    def test_tar_file_is_refused_by_name(self, path: Path) -> None:
        path.write_bytes(bytes(257) + b"ustar" + bytes(1000))
        refuse(path, "before 0.1.10")

    @pytest.mark.parametrize(
        "data", [b"", b"x", b"no weights in here", bytes(1000), pickle.dumps({"w": 1})]
    )
    def test_other_files_are_refused(self, data: bytes, path: Path) -> None:
        path.write_bytes(data)
        refuse(path, "an empty file" if not data else "not a file of torch.save")

    def test_a_damaged_pickle_is_named_as_such(self, path: Path) -> None:
        path.write_bytes(b"\x80\x02]]]")
        refuse(path, "a damaged pickle at byte ")
        path.write_bytes(b"]]]")
        refuse(path, "not a file of torch.save")

    def test_missing_file(self, path: Path) -> None:
        with pytest.raises(FileNotFoundError, match="checkpoint"):
            read_torch(path)


class TestStateDict:
    """Which part of a checkpoint is taken."""

    @pytest.mark.parametrize("legacy", FORMATS)
    def test_training_checkpoint(self, legacy: bool, path: Path) -> None:
        model = torch.nn.DataParallel(torch.nn.Sequential(torch.nn.Linear(2, 3)))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        checkpoint = {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "lr_scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 30).state_dict(),
            "args": argparse.Namespace(lr=0.1, data=Path("photos"), device=torch.device("cpu")),
            "history": defaultdict(list, loss=[1.0, 0.5]),
            "rng": np.random.default_rng(0).bit_generator.state,
            "scores": np.arange(3.0),
            "best_acc": torch.tensor(0.9),
            "epoch": 3,
        }
        save(checkpoint, path, legacy=legacy)
        found = read_torch(path)
        assert_same(found.tensors, model.state_dict())
        assert list(found.tensors) == ["module.0.weight", "module.0.bias"]
        assert found.remarks == ("took the state dict under 'model'",)

    @pytest.mark.parametrize(
        ("wrap", "remarks"),
        [
            (lambda s: {"state_dict": s, "epoch": 3}, ["took the state dict under 'state_dict'"]),
            (lambda s: {"model_state_dict": s}, ["took the state dict under 'model_state_dict'"]),
            (
                lambda s: {"state": 1, "net": {"state_dict": s}},
                ["took the state dict under 'net'", "took the state dict under 'state_dict'"],
            ),
            (lambda s: {"my_resnet": s}, ["took the state dict under 'my_resnet'"]),
            (
                lambda s: {"mine": s, "loss": {"weight": torch.ones(3)}},
                ["took the state dict under 'mine'"],
            ),
            (
                lambda s: {"model_ema": {k: v + 1 for k, v in s.items()}, "model": s},
                ["took the state dict under 'model', not model_ema (key='model_ema' chooses)"],
            ),
            (lambda s: dict(s, epoch=3, lr=0.1), ["left out what is no tensor: epoch, lr"]),
        ],
        ids=["state_dict", "model_state_dict", "nested", "unknown", "loss", "ema", "beside"],
    )
    def test_wrappers(self, wrap: Any, remarks: list[str], path: Path) -> None:
        save(wrap(small_state()), path)
        found = read_torch(path)
        assert_same(found.tensors, small_state())
        assert found.remarks == tuple(remarks)

    def test_key_chooses(self, path: Path) -> None:
        ema = {name: tensor + 1 for name, tensor in small_state().items()}
        save({"model": small_state(), "extra": {"ema": {"module": ema}}}, path)
        for key in ("extra/ema/module", "extra/ema", "extra"):
            assert_same(read_torch(path, key).tensors, ema)
        refuse(path, "no 'teacher' in it", "the keys there are model, extra", key="teacher")
        refuse(path, "there are no keys there", key="model/0.weight/deeper")

    def test_modules_are_searched_up_to_a_bound(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each counts once, and an absent one does not."""
        layer = torch.nn.Linear(2, 3)
        model = torch.nn.Sequential(torch.nn.Sequential(layer), layer)
        model.register_module("absent", None)
        save({"mine": model}, path)
        monkeypatch.setattr(torch_state_dict, "MOST_PARTS", 3)
        assert list(read_torch(path).tensors)[-2:] == ["1.weight", "1.bias"]
        monkeypatch.setattr(torch_state_dict, "MOST_PARTS", 2)
        refuse(path, "more than 2 modules, more than any network has")

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ({}, "got an empty dict"),
            ({"epoch": 3, "lr": 0.1}, "got other things: epoch, lr"),
            ({0: torch.ones(1)}, "got other things: 0"),
            ([torch.ones(1)], "got a list"),
            (torch.ones(1), "got a single tensor"),
            (argparse.Namespace(a=1), "got an object of argparse.Namespace"),
            (3, "got a int"),
            ({"a": small_state(), "b": small_state()}, "under a, b: choose one with key='a' or k"),
        ],
        ids=["empty", "other", "number", "list", "tensor", "object", "int", "two"],
    )
    def test_what_holds_no_state_dict(self, content: Any, message: str, path: Path) -> None:
        save(content, path)
        refuse(path, message)

    @pytest.mark.parametrize(
        ("tensor", "message"),
        [
            (torch.ones(2, dtype=torch.complex64), "w: expected float32, float16, bfloat16"),
            (torch.ones(2).to(torch.float8_e4m3fn), "got float8_e4m3fn"),
        ],
    )
    def test_other_dtypes_are_refused(self, tensor: torch.Tensor, message: str, path: Path) -> None:
        save({"w": tensor}, path)
        refuse(path, message, ".float()")


def test_reading_needs_no_torch(path: Path) -> None:
    """In a process of its own, since this one has imported it."""
    torch.save({"w": torch.ones(2)}, path)
    source = (
        "import sys; from pathlib import Path;"
        "from resnet_rs.weights.formats.torch_file import read_torch;"
        "print(read_torch(Path(sys.argv[1])).tensors['w'], 'torch' in sys.modules)"
    )
    command = [sys.executable, "-W", "error", "-c", source, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[1. 1.] False\n"
