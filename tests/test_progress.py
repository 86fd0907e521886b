"""The line on a terminal that says how far something is."""

from __future__ import annotations

from typing import Any

import pytest

from resnet_rs.terminal.progress import (
    BYTES,
    IMAGES,
    Meter,
    Progress,
    Unit,
    duration_text,
    meter_text,
)


class TestProgress:
    class Terminal:
        """A stream that is one."""

        def __init__(self) -> None:
            self.text = ""

        def isatty(self) -> bool:
            return True

        def write(self, text: str) -> None:
            self.text += text

        def flush(self) -> None:
            pass

    @pytest.mark.parametrize(
        ("arguments", "text"),
        [
            ((312, None, 41.25, 0), "312 images  41.2 images/s"),
            (
                (312, 1000, 41.25, 2),
                "[#######-----------------]   312/1000 images  41.2 images/s  0:17 left  2 failed",
            ),
            ((5, 5, 2.0, 0), "[########################]  5/5 images  2.0 images/s  0:00 left"),
            ((0, 9, 0.0, 0), "[------------------------]  0/9 images  0.0 images/s"),
            ((7, 5, 1.0, 0), "[########################]  7/5 images  1.0 images/s  0:00 left"),
            ((0, 0, 1.0, 0), "0 images  1.0 images/s"),
        ],
    )
    def test_images(self, arguments: tuple[Any, ...], text: str) -> None:
        assert meter_text(*arguments, IMAGES) == text

    @pytest.mark.parametrize(
        ("arguments", "text"),
        [
            (
                (25_000_000, 100_000_000, 10e6, 0),
                "[######------------------]   25.0/100.0 MB  10.0 MB/s  0:08 left",
            ),
            ((100, 100, 200.0, 0), "[########################]  0.0/0.0 MB  0.0 MB/s  0:00 left"),
            ((0, 600_000_000, 0.0, 0), "[------------------------]    0.0/600.0 MB  0.0 MB/s"),
            (
                (1_000_000, 10_000_000_000, 1e6, 0),
                "[------------------------]      1.0/10000.0 MB  1.0 MB/s  2:46:39 left",
            ),
            ((5_000_000, None, 2.5e6, 0), "5.0 MB  2.5 MB/s"),
        ],
    )
    def test_bytes(self, arguments: tuple[Any, ...], text: str) -> None:
        assert meter_text(*arguments, BYTES) == text

    def test_unit(self) -> None:
        assert Unit("GB", 1e9, 2).text(1_234_000_000) == "1.23"

    @pytest.mark.parametrize(
        ("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (3599, "59:59"), (3661, "1:01:01")]
    )
    def test_duration(self, seconds: float, text: str) -> None:
        assert duration_text(seconds) == text

    def test_meter_leaves_out_what_was_done_before(self) -> None:
        terminal: Any = self.Terminal()
        meter = Meter(Progress(terminal), IMAGES, start=1000)
        meter.total = 2000
        meter.show(1000)
        assert " 0.0 images/s" in terminal.text

    def test_meter_begins_anew_behind_its_name(self) -> None:
        terminal: Any = self.Terminal()
        meter = Meter(Progress(terminal), BYTES, name="a.pth")
        meter.begin(4_000_000, 8_000_000)
        assert not meter.advanced
        meter.show(4_000_000)
        assert terminal.text.endswith(
            "\x1b[Ka.pth  [############------------]  4.0/8.0 MB  0.0 MB/s"
        )
        meter.show(5_000_000)
        meter.begin(0, None)
        assert meter.advanced

    def test_line_is_refreshed_only_so_often(self) -> None:
        terminal: Any = self.Terminal()
        meter = Meter(Progress(terminal), IMAGES)
        for done in range(1000):
            meter.show(done)
        assert terminal.text.count("\r") < 100

    def test_nothing_is_written_where_nobody_looks(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with Progress() as progress:
            Meter(progress, IMAGES).show(1)
        assert capsys.readouterr() == ("", "")
