"""The harness of damaged files notices a reader which crashes, hangs, hoards or fails unclearly.

The readers are here, and not beside those of torch's files: each of their processes imports this
module, and torch takes seconds.
"""

from __future__ import annotations

import mmap
from pathlib import Path

import mutations
import pytest

from resnet_rs import WeightsError


class TestHarness:
    """`assert_survives` can fail."""

    DATA = bytes(range(256)) * 4

    def survive(self, read: object, tmp_path: Path) -> None:
        mutations.assert_survives(read, self.DATA, ".bin", 20, tmp_path)

    def test_mutations_depend_on_the_seed_alone(self) -> None:
        first, again = (list(mutations.mutations(self.DATA, 50, 1)) for _ in range(2))
        assert first == again
        assert first != list(mutations.mutations(self.DATA, 50, 2))
        assert sum(damaged == self.DATA for damaged in first) < 10
        assert {len(damaged) > len(self.DATA) for damaged in first} == {True, False}

    def test_good_reader(self, tmp_path: Path) -> None:
        outcome = mutations.assert_survives(refusing, self.DATA, ".bin", 20, tmp_path)
        assert outcome.loaded + outcome.refused == 20
        assert outcome.refused > 5

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("raising", "expected WeightsError or OSError, got KeyError"),
            ("nameless", "the error does not name the file"),
            ("hoarding", "bytes of Python's memory"),
            ("hoarding_outside", "made the process grow"),
            ("dying", "the reader died"),
            ("hanging", "the reader died"),
        ],
    )
    def test_bad_reader(
        self, name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if name == "hanging":
            monkeypatch.setenv("MUTATIONS_FILE_SECONDS", "1")
        with pytest.raises(AssertionError, match=message):
            self.survive(globals()[name], tmp_path)


def is_sound(path: Path) -> bool:
    return path.read_bytes() == TestHarness.DATA


def refusing(path: Path) -> None:
    if not is_sound(path):
        raise WeightsError(f"{path}: damaged")


def raising(path: Path) -> None:
    if not is_sound(path):
        raise KeyError(path)


def nameless(path: Path) -> None:
    if not is_sound(path):
        raise WeightsError("damaged")


def hoarding(path: Path) -> None:
    if not is_sound(path):
        bytearray(64 << 20)
        raise WeightsError(f"{path}: damaged")


def hoarding_outside(path: Path) -> None:
    """Takes memory that Python's own count does not see."""
    if not is_sound(path):
        with mmap.mmap(-1, 256 << 20) as memory:
            for begin in range(0, len(memory), mmap.PAGESIZE):
                memory[begin] = 1
        raise WeightsError(f"{path}: damaged")


def dying(path: Path) -> None:
    if not is_sound(path):
        import os

        os.abort()


def hanging(path: Path) -> None:
    while not is_sound(path):
        pass
