"""The line on a terminal that says how far something is."""

from __future__ import annotations

from typing import Any

import pytest

from resnet_rs.terminal.progress import Meter, Progress, duration_text, meter_text


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
        assert meter_text(*arguments) == text

    @pytest.mark.parametrize(
        ("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (3599, "59:59"), (3661, "1:01:01")]
    )
    def test_duration(self, seconds: float, text: str) -> None:
        assert duration_text(seconds) == text

    def test_meter_leaves_out_what_was_done_before(self) -> None:
        terminal: Any = self.Terminal()
        meter = Meter(Progress(terminal), start=1000)
        meter.total = 2000
        meter.show(1000)
        assert " 0.0 images/s" in terminal.text

    def test_line_fits_the_terminal(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLUMNS", "20")
        terminal: Any = self.Terminal()
        Meter(Progress(terminal)).show(1_000_000_000_000)
        assert len(terminal.text.removeprefix("\r\x1b[K")) == 19

    def test_line_is_refreshed_only_so_often(self) -> None:
        terminal: Any = self.Terminal()
        meter = Meter(Progress(terminal))
        for done in range(1000):
            meter.show(done)
        assert terminal.text.count("\r") < 100

    def test_rate_is_that_of_the_last_seconds(self, monkeypatch: pytest.MonkeyPatch) -> None:
        now = 100.0
        monkeypatch.setattr("resnet_rs.terminal.progress.time.monotonic", lambda: now)
        terminal: Any = self.Terminal()
        meter = Meter(Progress(terminal))
        texts = []
        # 10 images/s for 20 seconds, and 110 from then on.
        for second in range(41):
            now = 100.0 + second
            terminal.text = ""
            meter.show(10 * second + 100 * max(0, second - 20))
            texts.append(terminal.text)
        assert " 10.0 images/s" in texts[20]
        # The oldest sample is the last one that is 15 seconds old or more: (530 - 70) / 16.
        assert " 28.8 images/s" in texts[23]
        assert " 110.0 images/s" in texts[40]

    def test_a_line_that_is_turned_off_stays_as_it_is(self) -> None:
        terminal: Any = self.Terminal()
        with Progress(terminal) as progress:
            progress.say("one")
            assert progress.is_on
            progress.turn_off()
            assert not progress.is_on
            progress.say("two")
            Meter(progress).show(1)
        assert terminal.text == "\r\x1b[Kone"

    def test_nothing_is_written_where_nobody_looks(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with Progress() as progress:
            Meter(progress).show(1)
        assert capsys.readouterr() == ("", "")
