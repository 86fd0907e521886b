"""The Ray Data example on a local cluster, against a single process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, THREAD_VARIABLES
from PIL import Image

from resnet_rs import ResNet

EXAMPLE = ROOT / "examples" / "ray-data" / "classify_folder.py"

# Not skipped without Ray: who asks for the slow tests is to hear that it is missing.
pytestmark = pytest.mark.slow

# The example, with two columns more: who classified a file, and on how many threads. No actor goes
# on before there are two: a fast one could else do all the work while the other starts.
WITNESSES = """
    import os
    import sys
    import time
    from pathlib import Path

    import classify_folder
    import numpy

    ACTORS = Path(sys.argv.pop(1))

    class Witness(classify_folder.Classifier):
        def __call__(self, batch):
            (ACTORS / str(os.getpid())).touch()
            end = time.monotonic() + 60
            while len(list(ACTORS.iterdir())) < 2 and time.monotonic() < end:
                time.sleep(0.05)
            done = super().__call__(batch)
            about = {"actor": os.getpid(), "threads": self.model.threads}
            return done | {name: numpy.full(len(done["path"]), n) for name, n in about.items()}

    classify_folder.Classifier = Witness
    sys.exit(classify_folder.main())
"""


def run(*command: object) -> subprocess.CompletedProcess[str]:
    """Run Python in a process of its own: Ray's threads and warnings stay out of this one."""
    environment = {k: v for k, v in os.environ.items() if k not in THREAD_VARIABLES}
    environment |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    environment["PYTHONPATH"] = str(EXAMPLE.parent)
    return subprocess.run(
        [sys.executable, *map(str, command)],
        capture_output=True,
        text=True,
        timeout=240,
        env=environment,
    )


@pytest.mark.parametrize("send_weights", [False, True], ids=["path", "bytes"])
def test_two_actors_give_what_one_process_gives(
    send_weights: bool, model: ResNet, demo_dir: Path, demo_photos: list[Path], tmp_path: Path
) -> None:
    import pyarrow.parquet

    photos = tmp_path / "photos"
    shutil.copytree(demo_dir / "photos", photos)
    broken = photos / "broken.jpg"
    broken.write_bytes(b"no image")
    (tmp_path / "actors").mkdir()
    options = ["--send-weights"] if send_weights else []
    result = run(
        *("-c", textwrap.dedent(WITNESSES), tmp_path / "actors"),
        *(photos, "--weights", demo_dir, "--actors", 2, "--threads", 2, "--batch-size", 2),
        *("--out", tmp_path / "out", *options),
    )
    assert result.returncode == 1, result.stderr  # because of the broken one
    assert str(broken) in result.stdout
    written = pyarrow.parquet.read_table(tmp_path / "out").to_pylist()
    assert len({row["actor"] for row in written}) == 2
    assert {row["threads"] for row in written} == {2}
    rows = {row["path"]: (row["label"], row["score"], row["error"]) for row in written}
    label, score, error = rows.pop(str(broken))
    assert (label, score) == ("", 0)
    assert "no image" in error
    expected = {}
    for path, (best,) in zip(demo_photos, model.predict(demo_photos, top_k=1), strict=True):
        expected[str(photos / path.name)] = (best.label, best.score, "")
    assert rows == expected


def test_read_only_batches_of_arrays_are_accepted(
    model: ResNet, demo_dir: Path, demo_photos: list[Path], tmp_path: Path
) -> None:
    """Pixels where they lie in Ray's shared memory: no actor may write to them."""
    pixels = np.stack([np.asarray(Image.open(path)) for path in demo_photos])
    np.save(tmp_path / "pixels.npy", pixels)
    script = f"""
        import numpy
        import ray
        import resnet_rs

        class Embedder:
            def __init__(self, model):
                self.model = model

            def __call__(self, batch):
                images = batch["data"]
                writable = numpy.full(len(images), images.flags.writeable)
                return {{"vector": self.model.embed(images), "writable": writable}}

        ray.init(num_cpus=3, include_dashboard=False)
        ray.data.DataContext.get_current().execution_options.preserve_order = True
        pixels = numpy.load({str(tmp_path / "pixels.npy")!r})
        rows = ray.data.from_numpy(numpy.split(pixels, 4)).map_batches(
            Embedder,
            fn_constructor_kwargs={{"model": resnet_rs.load({str(demo_dir)!r}, threads=1)}},
            batch_size=None,
            zero_copy_batch=True,
            num_cpus=1,
            compute=ray.data.ActorPoolStrategy(size=2),
        ).take_all()
        assert not any(row["writable"] for row in rows), "a batch could be written to"
        numpy.save({str(tmp_path / "vectors.npy")!r}, [row["vector"] for row in rows])
    """
    result = run("-c", textwrap.dedent(script))
    assert result.returncode == 0, result.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "vectors.npy"), model.embed(pixels))
