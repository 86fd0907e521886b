"""The most pixels of a picture, and of all pictures that are decoded at once."""

from __future__ import annotations

import io
import os
import struct
import threading
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import resnet_rs
from resnet_rs import ImageError
from resnet_rs.cli import main
from resnet_rs.images import open_rgb
from resnet_rs.images.budget import Budget, Share, budget_pixels
from resnet_rs.images.options import MAX_PIXELS


def png_of(width: int, height: int) -> bytes:
    """A PNG of grey zeros, which compress to nearly nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes((width + 1) * height)) if width * height < 1e6 else b""
    start = b"\x89PNG\r\n\x1a\n"
    return start + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


class TestBound:
    def test_the_default_is_stated(self) -> None:
        assert MAX_PIXELS == 134_217_728

    @pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
    def test_the_default_is_checked_from_the_header(self) -> None:
        data = png_of(11_586, 11_585)  # it has no pixels, and is refused before that is found
        with pytest.raises(ImageError, match="11586 x 11585 are 134223810 pixels, more than"):
            open_rgb(data)
        with pytest.raises(ImageError, match=r"truncated|damaged"):
            open_rgb(data, max_pixels=134_223_810)

    def test_a_bound_of_ones_own(self) -> None:
        data = png_of(40, 30)
        assert open_rgb(data, max_pixels=1200).size == (40, 30)
        with pytest.raises(ImageError) as caught:
            open_rgb(data, max_pixels=1199)
        assert "pass max_pixels=1200 (--max-pixels 1200)" in str(caught.value)

    def test_pictures_that_are_opened_and_not_decoded(self) -> None:
        image = Image.open(io.BytesIO(png_of(40, 30)))
        with pytest.raises(ImageError, match="40 x 30 are 1200 pixels"):
            open_rgb(image, max_pixels=1199)
        image.load()
        assert open_rgb(image, max_pixels=1199).size == (40, 30)

    def test_models_and_commands_follow(
        self, demo_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "a.png"
        path.write_bytes(png_of(40, 30))
        model = resnet_rs.load(demo_dir, max_pixels=1199)
        for ask in (model.predict, model.embed, model.preprocess, model.features):
            with pytest.raises(ImageError, match="more than the bound of 1199"):
                ask(path)
        (result,) = model.stream([path])
        assert "more than the bound of 1199" in str(result.error)
        words = f"predict {path} --weights {demo_dir} --max-pixels"
        assert main([*words.split(), "1199"]) == 1
        assert "--max-pixels 1200" in capsys.readouterr().err
        assert main([*words.split(), "1200"]) == 0

    def test_a_command_raises_pillows_bound_too(
        self, demo_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
        path = tmp_path / "a.png"
        path.write_bytes(png_of(40, 30))
        words = f"predict {path} --weights {demo_dir}"
        assert main([*words.split(), "--max-pixels", "134217729"]) == 0


class TestBudget:
    def test_it_grows_with_the_cpus(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for cpus, pixels in ((1, 1 << 27), (4, 1 << 27), (64, 1 << 31)):
            monkeypatch.setattr("resnet_rs.images.budget.default_threads", lambda n=cpus: n)
            assert budget_pixels() == pixels

    def test_it_is_never_exceeded_and_all_come_through(self) -> None:
        budget, lock = Budget(100), threading.Lock()
        used, most, done = 0, 0, []

        def decode(pixels: int) -> None:
            nonlocal used, most
            with Share(budget) as share:
                share.take(pixels)
                with lock:
                    used += pixels
                    most = max(most, used if pixels <= 100 else 0)
                    if pixels > 100:
                        assert used == pixels, "a picture above the bound is not alone"
                time.sleep(0.002)
                with lock:
                    used -= pixels
                    done.append(pixels)

        sizes = [int(size) for size in np.random.default_rng(0).integers(1, 130, 60)]
        threads = [threading.Thread(target=decode, args=(size,)) for size in sizes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(done) == sorted(sizes)
        assert most <= 100

    def test_a_large_picture_has_its_turn(self) -> None:
        budget = Budget(100)
        budget.take(60)
        order: list[int] = []

        def decode(pixels: int) -> None:
            with Share(budget) as share:
                share.take(pixels)
                order.append(pixels)

        threads = []
        for size in (90, 10):  # the small one has room now, and comes later
            threads.append(threading.Thread(target=decode, args=(size,)))
            threads[-1].start()
            time.sleep(0.05)
        assert order == []
        budget.give(60)
        for thread in threads:
            thread.join()
        assert order[0] == 90

    def test_a_share_is_taken_and_given_back_once(self) -> None:
        budget = Budget(200)
        with Share(budget) as share:
            share.take(60)
            share.take(60)
            assert budget._used == 60
        assert budget._used == 0

    def test_a_wait_that_is_interrupted_has_taken_nothing(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupt(pixels: int) -> None:
            raise KeyboardInterrupt

        budget = Budget(100)
        monkeypatch.setattr(budget, "take", interrupt)
        with pytest.raises(KeyboardInterrupt), Share(budget) as share:
            share.take(60)
        assert budget._used == 0

    def test_errors_give_room_back(self, monkeypatch: pytest.MonkeyPatch) -> None:
        budget = Budget(1000)
        monkeypatch.setattr("resnet_rs.images.budget._budget", budget)
        cut = png_of(40, 30)[:-20]
        for _ in range(5):
            with pytest.raises(ImageError):
                open_rgb(cut)
        assert budget._used == 0
        assert open_rgb(png_of(20, 30)).size == (20, 30)

    @pytest.mark.timeout(60)
    def test_a_forked_child_has_a_budget_of_its_own(self) -> None:
        data = png_of(40, 30)
        with Share() as share:
            share.take(budget_pixels())
            child = os.fork()
            if child == 0:
                try:
                    open_rgb(data)
                    os._exit(0)
                finally:
                    os._exit(1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
