"""Things in the place of an image or a path that are none: named at once, with the remedy."""

from __future__ import annotations

import base64
import io
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
import pytest
from PIL import Image

import resnet_rs
from resnet_rs import ImageError, ResNet50
from resnet_rs.images import open_rgb
from resnet_rs.images.kinds import unknown_kind

PIXELS = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)


def encoded(kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, kind)
    return file.getvalue()


def make_socket(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)


class Upload:
    """As the upload of an asynchronous web framework: `read` and `seek` are coroutines."""

    async def read(self, size: int = -1) -> bytes:
        return b""

    async def seek(self, offset: int) -> None:
        pass


class Awaitable:
    """Its `read` returns a coroutine without being one."""

    def read(self) -> Any:
        return Upload().read()


class Decoder:
    """A reader of text that is no text file of Python's."""

    def read(self) -> str:
        return "text"


class NotReady:
    """A file that does not block and has nothing yet."""

    def read(self) -> None:
        return None


TEXTS = (
    ("HTTPS://host/x.jpg", "a URL, and images are not downloaded: fetch it and pass the bytes"),
    ("s3://bucket/x.jpg", "a URL"),
    ("gs://bucket/x.jpg?a=1", "a URL"),
    ("file:///tmp/x.jpg", "a file: URL: pass the path itself"),
    ("FILE:/tmp/x.jpg", "a file: URL"),
    ("data:image/png;base64,iVBORw0KGgo=", "a data: URI: pass base64.b64decode"),
    (base64.b64encode(encoded("JPEG")).decode(), "base64 of an image: pass base64.b64decode(text)"),
    (base64.b64encode(encoded("PNG")).decode(), "base64 of an image"),
    ("a\0b.jpg", "a path holds no NUL"),
)


class TestTexts:
    @pytest.mark.parametrize(("text", "message"), TEXTS, ids=[text[:12] for text, _ in TEXTS])
    def test_it_is_said_what_they_are(self, text: str, message: str, model: ResNet50) -> None:
        with pytest.raises(ImageError) as caught:
            model.predict(text)
        assert message in str(caught.value)
        assert len(str(caught.value)) < 1300
        (result,) = model.stream([text])
        assert message in str(result.error)
        if "\0" not in text:  # the same as the content of a file
            with pytest.raises(ImageError) as caught:
                open_rgb(text.encode())
            assert message in str(caught.value)

    def test_a_file_of_such_a_name_is_a_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        Path("data:x.png").write_bytes(encoded("PNG"))
        np.testing.assert_array_equal(np.asarray(open_rgb("data:x.png")), PIXELS)

    def test_a_name_that_is_too_long(self, model: ResNet50) -> None:
        with pytest.raises(OSError, match="too long"):
            model.predict("x" * 5000)

    def test_a_link_to_itself(self, model: ResNet50, tmp_path: Path) -> None:
        (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
        with pytest.raises(OSError, match=r"symbolic links.*loop\.jpg"):
            model.predict(tmp_path / "loop.jpg")

    def test_weights(self, tmp_path: Path) -> None:
        for text in ("https://host/x.pth", "S3://bucket/x", "file:///x"):
            with pytest.raises(ValueError, match=r"weights is a URL.*download it"):
                resnet_rs.load(text)
        with pytest.raises(ValueError, match="weights must be a path, and a path holds no NUL"):
            resnet_rs.load("a\0b")
        (tmp_path / "loop").symlink_to(tmp_path / "loop")
        with pytest.raises(resnet_rs.WeightsError, match=r"loop: a symbolic link.*back to itself"):
            resnet_rs.load(tmp_path / "loop")


class TestSpecialFiles:
    """Reading them may never end, so it is not begun."""

    MAKERS: tuple[tuple[str, Callable[[str], Any]], ...] = (
        ("a pipe", os.mkfifo),
        ("a socket", make_socket),
    )

    @pytest.mark.timeout(20)
    @pytest.mark.parametrize(("kind", "make"), MAKERS, ids=["pipe", "socket"])
    def test_in_a_directory(
        self,
        kind: str,
        make: Callable[[str], Any],
        model: ResNet50,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.chdir(tmp_path)  # the path of a socket has about a hundred bytes at most
        make("x.jpg")
        with pytest.raises(ImageError, match=rf"'x\.jpg': {kind}, expected a file"):
            model.predict("x.jpg")
        (result,) = model.stream(["x.jpg"])
        assert kind in str(result.error)

    @pytest.mark.timeout(20)
    @pytest.mark.parametrize("path", ["/dev/zero", "/dev/tty", "/dev/null"])
    def test_devices(self, path: str) -> None:
        with pytest.raises(ImageError, match=f"'{path}': a device, expected a file"):
            open_rgb(path)

    @pytest.mark.timeout(20)
    def test_a_pipe_that_takes_the_place_of_a_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "file.jpg").write_bytes(encoded("JPEG"))
        seen = os.stat(tmp_path / "file.jpg")
        os.mkfifo(tmp_path / "x.jpg")
        closed: list[int] = []

        class System:
            """Stands for the module `os`: it saw a file there a moment ago."""

            def __getattr__(self, name: str) -> Any:
                return getattr(os, name)

            def stat(self, path: str) -> os.stat_result:
                return seen

            def close(self, descriptor: int) -> None:
                closed.append(descriptor)
                os.close(descriptor)

        monkeypatch.setattr("resnet_rs.images.source.os", System())
        with pytest.raises(ImageError, match=r"x\.jpg': a pipe, expected a file"):
            open_rgb(tmp_path / "x.jpg")
        assert len(closed) == 1

    @pytest.mark.timeout(60)
    def test_a_command_ends(self, demo_dir: Path, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "x.jpg")
        words = ["predict", str(tmp_path / "x.jpg"), "--weights", str(demo_dir)]
        run = subprocess.run(
            [sys.executable, "-m", "resnet_rs", *words], capture_output=True, text=True, timeout=50
        )
        assert run.returncode == 1
        assert "a pipe, expected a file: read it, and pass the bytes" in run.stderr


class TestObjects:
    @pytest.mark.parametrize("make", [Upload, Awaitable])
    def test_asynchronous_uploads(self, make: type, model: ResNet50) -> None:
        message = r"asynchronous, such as an upload: pass the bytes, `await upload\.read\(\)`"
        with pytest.raises(TypeError, match=message):
            model.predict(make())

    def test_a_reader_of_text(self) -> None:
        message = r"file object 'Decoder': open in text mode; open it with mode 'rb'"
        with pytest.raises(TypeError, match=message):
            open_rgb(Decoder())  # type: ignore[arg-type]

    def test_a_file_that_is_not_ready(self) -> None:
        with pytest.raises(ImageError, match="not ready"):
            open_rgb(NotReady())  # type: ignore[arg-type]


CONTENTS = (
    (b"<!DOCTYPE html><html>", "a web page"),
    (b"\xef\xbb\xbf  <svg xmlns=''>", "SVG, which is a drawing"),
    (b"version https://git-lfs.github.com/spec/v1\n", "a git-lfs pointer: run `git lfs pull`"),
    (b"%PDF-1.7", "a PDF: convert it to JPEG or PNG, page by page"),
    (b"\xff\x0a\x00\x00", "JPEG XL: convert it"),
    (b"\0\0\0\x18ftypmp42\0\0\0\0", "a video"),
    (b"\x93NUMPY\x01\x00", "a NumPy file: pass numpy.load"),
    (b"II*\0\xff\xff\xff\x7f", "a TIFF that is cut off"),
    (bytes(128) + b"DICM", "DICOM"),
    (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript is a program"),
)


@pytest.mark.parametrize(("data", "message"), CONTENTS, ids=[row[1][:12] for row in CONTENTS])
def test_files_of_other_kinds_are_named(data: bytes, message: str) -> None:
    with pytest.raises(ImageError) as caught:
        open_rgb(data)
    assert message in str(caught.value)


@pytest.mark.parametrize("brand", [b"avif", b"avis"])
@pytest.mark.parametrize(
    ("known", "message"),
    [
        ({"AVIF"}, "AVIF that cannot be decoded (truncated or damaged?)"),
        (
            {"HEIF"},
            "AVIF, which this Pillow cannot read: pip install --upgrade pillow, or convert it to "
            "JPEG or PNG",
        ),
    ],
)
def test_avif_is_named_by_what_pillow_knows(brand: bytes, known: set[str], message: str) -> None:
    assert unknown_kind(b"\0\0\0\x20ftyp" + brand, 100, known) == message


class TestHeic:
    @pytest.fixture
    def heic(self, demo_photo: Path) -> bytes:
        file = io.BytesIO()
        pillow_heif.from_pillow(Image.open(demo_photo)).save(file, quality=-1)
        return file.getvalue()

    def test_it_is_read_without_a_word(
        self, heic: bytes, demo_photo: Path, demo_dir: Path, tmp_path: Path
    ) -> None:
        """In a process of its own, where nobody has registered the reader."""
        (tmp_path / "IMG_1.HEIC").write_bytes(heic)
        words = ["predict", str(tmp_path), "--weights", str(demo_dir), "--format", "csv"]
        run = subprocess.run(
            [sys.executable, "-m", "resnet_rs", *words], capture_output=True, text=True
        )
        assert (run.returncode, run.stderr) == (0, "")
        assert run.stdout.splitlines()[1].split(",")[2] == demo_photo.name[0]

    def test_without_the_extra_it_is_named(
        self, heic: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for table in (Image.OPEN, Image.ID):
            kept = table.copy()
            monkeypatch.setattr(Image, "OPEN" if table is Image.OPEN else "ID", kept)
        for name in ("HEIF", "AVIF"):
            Image.OPEN.pop(name, None)
            if name in Image.ID:
                Image.ID.remove(name)
        monkeypatch.setitem(sys.modules, "pillow_heif", None)
        with pytest.raises(ImageError, match=r'HEIC.*pip install "resnet_rs\[heif\]", or convert'):
            open_rgb(heic)

    def test_its_reader_is_registered_once(
        self, heic: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse() -> None:
            raise AssertionError("registered again")

        open_rgb(heic)
        monkeypatch.setattr(pillow_heif, "register_heif_opener", refuse)
        open_rgb(heic)

    def test_a_damaged_one_is_not_said_to_need_it(self, heic: bytes) -> None:
        with pytest.raises(ImageError, match="damaged"):
            open_rgb(heic[: len(heic) // 2])


class TestNumbers:
    """Counts of more digits than any machine word has."""

    def test_top_k(self, model: ResNet50, demo_photo: Path) -> None:
        everything = model.predict(demo_photo, top_k=10)
        assert model.predict(demo_photo, top_k=2**64) == everything
        (result,) = model.stream([demo_photo], top_k=2**64)
        assert result.predictions == everything
        assert len(model.predict(demo_photo, 2**64, tta="hflip")) == 10

    @pytest.mark.parametrize("name", ["batch_size", "workers"])
    def test_stream(self, name: str, model: ResNet50, demo_photo: Path) -> None:
        with pytest.raises(ValueError, match=f"{name} must be at most"):
            model.stream([demo_photo], **{name: 2**64})

    def test_threads(self, demo_dir: Path) -> None:
        with pytest.raises(ValueError, match="threads must be at most"):
            resnet_rs.load(demo_dir, threads=2**64)
