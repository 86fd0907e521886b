"""A process under load: a changing environment, many callers, little memory, Ctrl-C."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from tiny_model import write_tiny_model

HANG_SECONDS = 120
"""No program here takes this long on any machine."""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


def run_program(program: str, *arguments: object) -> str:
    """Run Python code in a process of its own and return what it prints.

    A process that a signal ends fails, with the signal's number as a negative return code.
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
    )
    assert result.returncode == 0, f"{result.returncode}: {result.stderr}"
    return result.stdout.strip()


class TestEnvironment:
    def test_forwards_while_the_environment_changes(self, tiny: Path) -> None:
        program = """
            import os, sys, threading, time
            import numpy as np
            from resnet_rs import ResNet50

            model = ResNet50(sys.argv[1], threads=1)
            x = np.zeros((1, 1, 1, 3), np.float32)
            end = time.monotonic() + 2

            def work():
                while time.monotonic() < end:
                    model.forward(x)

            threads = [threading.Thread(target=work) for _ in range(2)]
            for thread in threads:
                thread.start()
            names = [f"RESNET_RS_TEST_{i}" for i in range(20_000)]
            while time.monotonic() < end:
                os.environ.update(dict.fromkeys(names, "x" * 50))
                for name in names:
                    del os.environ[name]
            for thread in threads:
                thread.join()
            print("ok")
        """
        assert run_program(program, tiny) == "ok"
