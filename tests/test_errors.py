"""Bad input of every kind: which exception, and a message that says what to do.

Each row of a table is one mistake. A panic in the core would be a `BaseException` that no
`pytest.raises` here lets through, and a crash would end the test run.
"""

from __future__ import annotations

import codecs
import errno
import io
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from resnet_rs import ImageError, ResNet50, UnsupportedIsaError, WeightsError
from resnet_rs._core import Network, available_isas, top_k
from resnet_rs.images.errors import decoding

GREY = np.full((6, 5, 3), 128, np.uint8)
X = np.zeros((1, 8, 8, 3), np.float32)


def encoded(suffix: str, **options: Any) -> bytes:
    """A sound image file of 40 x 30 pixels."""
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    Image.fromarray(noise).save(file, suffix, **options)
    return file.getvalue()


def png_that_claims(width: int, height: int) -> bytes:
    """A PNG header without the pixels that it speaks of."""
    ihdr = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + ihdr + struct.pack(">I", zlib.crc32(ihdr))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT" + bytes(4)


def closed(file: Any) -> Any:
    file.close()
    return file


class TestImages:
    """Files and pictures that cannot be classified."""

    FILES = (
        ("empty.jpg", b"", "is empty"),
        ("text.png", b"this is no image at all", "no image in a format that Pillow knows"),
        ("cut.jpg", encoded("jpeg")[:700], "truncated or damaged"),
        ("cut.png", encoded("png")[:700], "truncated or damaged"),
        ("cut.webp", encoded("webp", lossless=True)[:700], "cut.webp"),
        ("header.jpg", encoded("jpeg")[:4], "no image"),
        ("flipped.png", encoded("png")[:60] + b"\xff" * 900, "truncated or damaged"),
        ("bomb.png", png_that_claims(60_000, 60_000), "MAX_IMAGE_PIXELS"),
    )

    @pytest.mark.parametrize(("name", "data", "message"), FILES, ids=[row[0] for row in FILES])
    def test_bad_file_is_named_with_its_fault(
        self, name: str, data: bytes, message: str, model: ResNet50, tmp_path: Path
    ) -> None:
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(ImageError, match=message) as caught:
            model.predict(path)
        assert name in str(caught.value)
        with pytest.raises(ImageError, match=f"image of {len(data)} bytes: "):
            model.predict(data)

    CASES = (
        pytest.param(lambda d: d / "missing.jpg", FileNotFoundError, "missing.jpg", id="missing"),
        pytest.param(lambda d: str(d), IsADirectoryError, "directory", id="directory"),
        pytest.param(lambda d: d / "f" / "x.jpg", NotADirectoryError, "x.jpg", id="not-a-dir"),
        pytest.param(lambda d: "", FileNotFoundError, "No such file", id="empty-name"),
        pytest.param(lambda d: "a\0b.jpg", ImageError, "holds no NUL", id="nul-in-name"),
        pytest.param(lambda d: "https://x/y.jpg", ImageError, "not downloaded", id="url"),
        pytest.param(lambda d: (d / "f").open(), TypeError, "mode 'rb'", id="text-file"),
        pytest.param(
            lambda d: codecs.getreader("latin-1")((d / "f").open("rb")),
            TypeError,
            "mode 'rb'",
            id="text-of-codecs",
        ),
        pytest.param(lambda d: io.StringIO("x"), TypeError, "mode 'rb'", id="text-stream"),
        pytest.param(lambda d: closed(io.BytesIO(b"x")), ImageError, "open it", id="closed-file"),
        pytest.param(
            lambda d: Image.new("F", (4, 4)), ImageError, "scale it to 0..255", id="mode-F"
        ),
        pytest.param(
            lambda d: Image.fromarray(np.array([[0, 70_000]], np.int32)),
            ImageError,
            r"32-bit integers.* from 0 to 70000.*image\.convert",
            id="mode-I",
        ),
        pytest.param(lambda d: Image.new("RGB", (0, 4)), ImageError, "empty", id="no-pixels"),
        pytest.param(
            lambda d: closed(Image.open(io.BytesIO(encoded("png")))),
            ImageError,
            "closed",
            id="closed-image",
        ),
    )

    @pytest.mark.parametrize(("make", "error", "message"), CASES)
    def test_bad_source(
        self,
        make: Callable[[Path], Any],
        error: type[Exception],
        message: str,
        model: ResNet50,
        tmp_path: Path,
    ) -> None:
        (tmp_path / "f").write_text("text")
        source = make(tmp_path)
        with pytest.raises(error, match=message) as caught:
            model.predict(source)
        assert caught.type is error
        with pytest.raises(error, match="image 1 of the list") as caught:
            model.predict([GREY, source])
        assert caught.type is error
        if hasattr(source, "close"):
            source.close()

    def test_error_in_a_list_names_place_and_file(self, model: ResNet50, tmp_path: Path) -> None:
        path = tmp_path / "bad.jpg"
        path.write_bytes(b"bad")
        with pytest.raises(ImageError, match=r"image 2 of the list: '.*bad\.jpg': no image"):
            model.logits([GREY, GREY, path])
        with pytest.raises(FileNotFoundError) as caught:
            model.logits([GREY, tmp_path / "gone.jpg"])
        assert caught.value.filename == str(tmp_path / "gone.jpg") or caught.value.filename == (
            tmp_path / "gone.jpg"
        )


class TestDecoding:
    """Errors of Pillow's decoders, and those that are no fault of the data."""

    @pytest.mark.parametrize("error", [MemoryError(), OSError(errno.EIO, "Input/output error")])
    def test_those_of_the_machine_stay(self, error: Exception) -> None:
        with pytest.raises(type(error)) as caught, decoding("'a.jpg'"):
            raise error
        assert caught.value is error

    @pytest.mark.parametrize(
        ("error", "message"),
        [
            (OSError("broken data"), "cannot be decoded (truncated or damaged?): broken data"),
            (IndexError("no table"), "cannot be decoded (truncated or damaged?): no table"),
            (
                ValueError("unknown raw mode for given image mode"),
                "a layout of pixels that Pillow does not decode (unknown raw mode for given image "
                "mode): save it with 8 bits a channel, without extra bands",
            ),
            (ImageError("is empty"), "is empty"),
        ],
    )
    def test_those_of_the_data_name_the_picture(self, error: Exception, message: str) -> None:
        with pytest.raises(ImageError) as caught, decoding("'a.jpg'"):
            raise error
        assert str(caught.value) == f"'a.jpg': {message}"


class TestArrays:
    """Arrays that are no image."""

    CASES = (
        pytest.param(GREY / 255, TypeError, r"float64.*forward\(\)", id="float64"),
        pytest.param(GREY.astype("f"), TypeError, r"float32.*forward\(\)", id="float32"),
        pytest.param(GREY.astype(int), TypeError, "must be uint8", id="int64"),
        pytest.param(GREY.astype(np.uint16), TypeError, "must be uint8", id="uint16"),
        pytest.param(GREY > 0, TypeError, "must be uint8", id="bool"),
        pytest.param(GREY[0, 0], ValueError, r"\[height, width, 3\]", id="one-axis"),
        pytest.param(GREY[None, None], ValueError, r"\[height, width, 3\]", id="five-axes"),
        pytest.param(
            GREY.transpose(2, 0, 1), ValueError, r"transpose\(1, 2, 0\)", id="channels-first"
        ),
        pytest.param(GREY[:3], ValueError, "PIL.Image.fromarray", id="ambiguous"),
        pytest.param(GREY[..., :2], ValueError, r"got shape \[6, 5, 2\]", id="two-channels"),
        pytest.param(np.dstack([GREY, GREY]), ValueError, r"\[6, 5, 6\]", id="six-channels"),
        pytest.param(GREY[:0], ImageError, "at least one pixel", id="no-rows"),
        pytest.param(GREY[:, :0], ImageError, "at least one pixel", id="no-columns"),
        pytest.param(
            GREY[None].transpose(0, 3, 1, 2), ValueError, "image 0 of the list", id="NCHW"
        ),
    )

    @pytest.mark.parametrize(("array", "error", "message"), CASES)
    def test_bad_array(
        self, array: np.ndarray, error: type[Exception], message: str, model: ResNet50
    ) -> None:
        for method in (model.predict, model.logits, model.embed, model.preprocess):
            with pytest.raises(error, match=message):
                method(array)


class TestArguments:
    """Calls that make no sense."""

    CASES = (
        pytest.param(lambda m: m.predict(None), TypeError, "got NoneType", id="none"),
        pytest.param(lambda m: m.predict(7), TypeError, "got int", id="number"),
        pytest.param(lambda m: m.predict({"a": GREY}), TypeError, "got dict", id="dict"),
        pytest.param(
            lambda m: m.predict(x for x in [GREY]), TypeError, "list of images", id="generator"
        ),
        pytest.param(
            lambda m: m.predict([GREY, None]), TypeError, "image 1 of the list", id="none-in-list"
        ),
        pytest.param(
            lambda m: m.predict([[GREY]]), TypeError, "image 0.*got list", id="list-in-list"
        ),
        pytest.param(lambda m: m.predict(GREY, top_k=0), ValueError, "at least 1", id="top-0"),
        pytest.param(lambda m: m.predict(GREY, top_k=-3), ValueError, "got -3", id="top-minus"),
        pytest.param(lambda m: m.predict(GREY, top_k=2.0), TypeError, "an int", id="top-float"),
        pytest.param(lambda m: m.predict(GREY, top_k=True), TypeError, "an int", id="top-bool"),
        pytest.param(lambda m: m.predict(GREY, top_k="5"), TypeError, "an int", id="top-str"),
        pytest.param(lambda m: m.predict(GREY, top_k=None), TypeError, "an int", id="top-none"),
        pytest.param(lambda m: m.predict([], top_k=0), ValueError, "at least 1", id="top-0-empty"),
        pytest.param(lambda m: m.preprocess([]), ValueError, "at least one", id="preprocess-none"),
        pytest.param(lambda m: m.forward([[1.0]]), TypeError, "got list", id="forward-list"),
        pytest.param(lambda m: m.forward("x.jpg"), TypeError, r"logits\(\)", id="forward-path"),
        pytest.param(lambda m: m.forward(GREY[None]), TypeError, r"logits\(\)", id="forward-u8"),
        pytest.param(
            lambda m: m.forward(X.astype(float)), TypeError, "astype", id="forward-float64"
        ),
        pytest.param(
            lambda m: m.forward(X.astype(">f4")), TypeError, "astype", id="forward-big-endian"
        ),
        pytest.param(lambda m: m.forward(X[0]), ValueError, r"x\[None\]", id="forward-no-batch"),
        pytest.param(
            lambda m: m.forward(X.transpose(0, 3, 1, 2)),
            ValueError,
            r"transpose\(0, 2, 3, 1\)",
            id="forward-NCHW",
        ),
        pytest.param(lambda m: m.forward(X[..., :2]), ValueError, "3", id="forward-2-channels"),
        pytest.param(lambda m: m.forward(X[:, :0]), ValueError, "height", id="forward-height-0"),
        pytest.param(lambda m: m.forward(X[:, :, :0]), ValueError, "width", id="forward-width-0"),
        pytest.param(lambda m: m.forward(X[0, 0]), ValueError, "shape", id="forward-2-axes"),
        pytest.param(
            lambda m: m.forward(np.broadcast_to(X[:, :1, :1], (1 << 12, 1 << 12, 1 << 12, 3))),
            MemoryError,
            None,
            id="forward-too-large",
        ),
    )

    @pytest.mark.parametrize(("call", "error", "message"), CASES)
    def test_bad_call(
        self,
        call: Callable[[ResNet50], Any],
        error: type[Exception],
        message: str,
        model: ResNet50,
    ) -> None:
        with pytest.raises(error, match=message):
            call(model)

    CORE_CASES = (
        pytest.param(lambda n: n.logits(X.astype(float)), TypeError, "float64", id="float64"),
        pytest.param(lambda n: n.logits(X[0]), ValueError, "shape", id="no-batch"),
        pytest.param(
            lambda n: n.logits(np.zeros((1, 8, 8, 6), "f")[..., ::2]),
            ValueError,
            "ascontiguousarray",
            id="strided",
        ),
        pytest.param(lambda n: n.normalize(X), TypeError, "uint8", id="normalize-float"),
        pytest.param(lambda n: n.plan(0, 8, 8), ValueError, "batch", id="plan-batch-0"),
        pytest.param(lambda n: n.schedule(0, 8, 8, 1), ValueError, "batch", id="schedule-batch-0"),
        pytest.param(
            lambda n: n.schedule(1, 8, 8, 0), ValueError, "at least 1, found 0", id="schedule-0"
        ),
        pytest.param(
            lambda n: top_k(X, 1, "softmax"), (TypeError, ValueError), None, id="top-4-axes"
        ),
        pytest.param(
            lambda n: top_k(X[0, 0], 1, "relu"),
            ValueError,
            "softmax, sigmoid or none",
            id="top-relu",
        ),
        pytest.param(
            lambda n: top_k(np.zeros((4, 6), "f")[::2, ::2], 1, "softmax"),
            (TypeError, ValueError),
            "contiguous",
            id="top-strided",
        ),
        pytest.param(
            lambda n: n.plan(1 << 40, 1 << 40, 1 << 40),
            (ValueError, MemoryError, OverflowError),
            None,
            id="plan-huge",
        ),
    )

    @pytest.mark.parametrize(("call", "error", "message"), CORE_CASES)
    def test_core_checks_for_itself(
        self,
        call: Callable[[Network], Any],
        error: type[Exception],
        message: str,
        model: ResNet50,
    ) -> None:
        with pytest.raises(error, match=message):
            call(model.loaded.network)

    def test_huge_batch_of_nothing_does_not_end_the_process(self, demo_dir: Path) -> None:
        """No element is there, but 2^40 rows of logits would be: more than any memory."""
        script = """if True:
            import sys
            import numpy as np
            from resnet_rs._core import Network

            network = Network(sys.argv[1], threads=1)
            for call in (network.logits, network.embed, network.activations):
                try:
                    call(np.zeros((1 << 40, 0, 0, 3), np.float32))
                except (ValueError, MemoryError):
                    continue
                sys.exit("accepted")
        """
        command = [sys.executable, "-c", script, str(demo_dir)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert (result.returncode, result.stderr) == (0, "")


class TestConstructor:
    CASES = (
        pytest.param({"weights": "missing"}, FileNotFoundError, "missing", id="missing"),
        pytest.param({"weights": None}, TypeError, "must be a path", id="none"),
        pytest.param({"weights": {"fc": 1}}, TypeError, "must be a path", id="state-dict"),
        pytest.param({"weights": b"weights"}, WeightsError, "7 bytes are too few", id="bytes"),
        pytest.param({"isa": "sse9"}, ValueError, "portable, avx2.*avx512", id="isa-unknown"),
        pytest.param({"isa": "AVX2 "}, ValueError, "portable, avx2.*avx512", id="isa-spelling"),
        pytest.param({"isa": 2}, TypeError, "isa", id="isa-int"),
        pytest.param({"threads": 0}, ValueError, "at least 1", id="threads-0"),
        pytest.param({"threads": -1}, ValueError, "at least 1", id="threads-minus"),
        pytest.param({"threads": 1.5}, TypeError, "an int", id="threads-float"),
        pytest.param({"threads": True}, TypeError, "an int", id="threads-bool"),
        pytest.param({"threads": "2"}, TypeError, "an int", id="threads-str"),
    )

    @pytest.mark.parametrize(("arguments", "error", "message"), CASES)
    def test_bad_argument(
        self, arguments: dict[str, Any], error: type[Exception], message: str, demo_dir: Path
    ) -> None:
        with pytest.raises(error, match=message):
            ResNet50(**({"weights": demo_dir} | arguments))

    def test_missing_path_is_named_as_python_names_it(self, tmp_path: Path) -> None:
        path = str(tmp_path / "missing")
        with pytest.raises(FileNotFoundError) as caught:
            ResNet50(path)
        assert str(caught.value) == f"[Errno 2] No such file or directory: {path!r}"
        assert caught.value.filename == path

    def test_more_threads_than_can_be_had(self, demo_dir: Path) -> None:
        with pytest.raises((ValueError, OverflowError), match="threads"):
            ResNet50(demo_dir, threads=1 << 70)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("RESNET_RS_ISA", "sse9"),
            ("RESNET_RS_NUM_THREADS", "many"),
            ("RESNET_RS_NUM_THREADS", "0"),
            ("RESNET_RS_NUM_THREADS", "-2"),
        ],
    )
    def test_environment_variable_that_makes_no_sense(
        self, name: str, value: str, demo_dir: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(name, value)
        with pytest.raises(ValueError, match=name) as caught:
            ResNet50(demo_dir)
        assert value in str(caught.value)

    def test_absent_isa_is_an_error_not_a_fallback(
        self, demo_dir: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        absent = {"portable", "avx2", "avx512"} - set(available_isas())
        if not absent:
            pytest.skip("this machine has every tier, so none can be asked for in vain")
        for isa in absent:
            with pytest.raises(UnsupportedIsaError, match=isa):
                ResNet50(demo_dir, isa=isa)
            monkeypatch.setenv("RESNET_RS_ISA", isa)
            with pytest.raises(UnsupportedIsaError, match=isa):
                ResNet50(demo_dir)
