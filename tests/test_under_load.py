"""A process under load: a changing environment, many callers, little memory, Ctrl-C."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from tiny_model import write_tiny_model

HANG_SECONDS = 120
# An interrupt is answered in a fifth of a second, and later on a busy machine; the calls take far
# longer.
ANSWER_SECONDS = 8
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
        cwd=Path(__file__).parent,  # for the helpers of tests
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


class TestManyCallers:
    def test_callers_that_wait_need_no_memory(self, tiny: Path) -> None:
        """Fifty callers of one model take turns in the memory of one."""
        program = """
            import sys, threading
            import numpy as np
            from mutations import reset_resident_peak, resident_peak
            from resnet_rs import ResNet50

            model = ResNet50(sys.argv[1], threads=2)
            x = np.zeros((1, 400, 400, 3), np.float32)
            model.forward(x)
            together = threading.Barrier(50)

            def work():
                together.wait()
                model.forward(x)

            threads = [threading.Thread(target=work) for _ in range(50)]
            before = reset_resident_peak()
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            print(resident_peak() - before)
        """
        assert int(run_program(program, tiny)) < 24 << 20  # each would take 12 MiB

    def test_callers_that_ran_at_once_give_their_memory_back(self, tiny: Path) -> None:
        program = """
            import sys, threading
            import numpy as np
            from mutations import reset_resident_peak
            from resnet_rs import ResNet50

            model = ResNet50(sys.argv[1], threads=1)
            x = np.zeros((1, 400, 400, 3), np.float32)
            small = np.zeros((1, 1, 1, 3), np.float32)
            model.forward(x)
            before = reset_resident_peak()
            threads = [threading.Thread(target=model.forward, args=(x,)) for _ in range(12)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            for _ in range(200):
                model.forward(small)
            print(reset_resident_peak() - before)
        """
        assert int(run_program(program, tiny)) < 24 << 20  # twelve would take 140 MiB


@pytest.mark.skipif(sys.platform == "win32", reason="a signal to this process alone")
class TestInterrupt:
    """Ctrl-C ends a call long before its work is done; the model works afterwards."""

    PROGRAM = """
        import os, signal, sys, threading, time
        import numpy as np
        from resnet_rs import ResNet50

        shape, call, threads = eval(sys.argv[2]), sys.argv[3], int(sys.argv[4])
        model = ResNet50(sys.argv[1], threads=threads)
        x = np.zeros((1, 64, 64, 3), np.float32)
        expected = model.forward(x)
        sent = []

        def interrupt():
            time.sleep(1)
            sent.append(time.monotonic())
            os.kill(os.getpid(), signal.SIGINT)

        images = np.zeros(shape, np.uint8)
        x = np.zeros((1, 64, 64, 3), np.float32)
        threading.Thread(target=interrupt).start()
        try:
            if call == "features":
                model.loaded.network.features(images, ["layer4"])
            else:
                model.loaded.network.logits(images)
        except KeyboardInterrupt:
            print(time.monotonic() - sent[0])
        assert np.array_equal(model.forward(x), expected)
    """

    @pytest.mark.parametrize(
        ("shape", "call", "threads"),
        [
            ((3000, 224, 224, 3), "logits", 1),
            ((3000, 224, 224, 3), "logits", 2),
            ((1, 6000, 6000, 3), "logits", 1),
            ((1, 6000, 6000, 3), "logits", 3),
            ((1, 5000, 5000, 3), "features", 2),
        ],
        ids=str,
    )
    def test_one_call(
        self, shape: tuple[int, ...], call: str, threads: int, demo_dir: Path
    ) -> None:
        assert float(run_program(self.PROGRAM, demo_dir, shape, call, threads)) < ANSWER_SECONDS

    def test_a_caller_that_waits_for_its_turn(self, demo_dir: Path) -> None:
        program = """
            import os, signal, sys, threading, time
            import numpy as np
            from resnet_rs import ResNet50

            model = ResNet50(sys.argv[1], threads=2)
            image = np.zeros((1, 5000, 5000, 3), np.uint8)
            other = threading.Thread(target=model.loaded.network.logits, args=(image,), daemon=True)
            other.start()
            time.sleep(0.5)

            def interrupt():
                time.sleep(0.5)
                os.kill(os.getpid(), signal.SIGINT)

            threading.Thread(target=interrupt).start()
            begin = time.monotonic()
            try:
                model.forward(np.zeros((1, 64, 64, 3), np.float32))
            except KeyboardInterrupt:
                print(time.monotonic() - begin, flush=True)
                os._exit(0)
        """
        assert float(run_program(program, demo_dir)) < ANSWER_SECONDS

    def test_a_handler_may_use_the_model(self, demo_dir: Path) -> None:
        program = """
            import os, signal, sys, threading, time
            import numpy as np
            from resnet_rs import ResNet50

            model = ResNet50(sys.argv[1], threads=2)
            x = np.ones((1, 64, 64, 3), np.float32)
            expected = model.forward(x)
            found = []

            def handler(number, frame):
                found.append(model.forward(x))

            signal.signal(signal.SIGUSR1, handler)
            sender = threading.Timer(0.7, os.kill, (os.getpid(), signal.SIGUSR1))
            sender.start()
            image = np.zeros((1, 600, 600, 3), np.uint8)
            end = time.monotonic() + 1.5
            sums = []
            while time.monotonic() < end:
                sums.append(model.loaded.network.logits(image).sum())
            sender.join()
            assert len(set(sums)) == 1 and len(found) == 1
            assert np.array_equal(found[0], expected)
            print("ok")
        """
        assert run_program(program, demo_dir) == "ok"
