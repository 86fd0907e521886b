"""examples/ray-train: processes that share a batch, beside one process that has all of it."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, THREAD_VARIABLES
from PIL import Image

import resnet_rs
from resnet_rs import Trainer

EXAMPLE = ROOT / "examples" / "ray-train"

STEPS = 3
BATCH = 5
"""Odd, so that the parts differ in size."""

OPTIONS = {"num_classes": 3, "seed": 1, "freeze": "norms", "threads": 1, "weight_decay": 1e-3}

WORKER = f"""
import sys
import numpy as np
import torch.distributed as dist
import train_parallel
from resnet_rs import Trainer

sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_train_parallel import OPTIONS, batches

dist.init_process_group("gloo")
rank = dist.get_rank()
trainer = Trainer("cifar_resnet20", **OPTIONS)
losses = [
    train_parallel.step(trainer, x[rank::2], y[rank::2], lr=0.05) for x, y in batches()
]
np.savez(f"{{sys.argv[1]}}/{{rank}}.npz", losses=losses, **trainer.state_dict())
dist.destroy_process_group()
"""


def batches() -> list[tuple[np.ndarray, np.ndarray]]:
    random = np.random.default_rng(0)
    return [
        (
            random.standard_normal((BATCH, 20, 20, 3), dtype=np.float32),
            random.integers(3, size=BATCH),
        )
        for _ in range(STEPS)
    ]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def environment(rank: int, port: int) -> dict[str, str]:
    """The variables that torchrun sets for a process."""
    paths = [str(EXAMPLE), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **{k: v for k, v in os.environ.items() if k not in THREAD_VARIABLES},
        "PYTHONPATH": os.pathsep.join(paths),
        "RANK": str(rank),
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }


def run_pair(*command: object) -> list[str]:
    """Run two processes that find each other; the texts that they print."""
    port = free_port()
    processes = [
        subprocess.Popen(
            [sys.executable, *map(str, command)],
            env=environment(rank, port),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        texts = [process.communicate(timeout=240)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, text in zip(processes, texts, strict=True):
        assert process.returncode == 0, text
    return texts


def test_two_processes_equal_one(tmp_path: Path) -> None:
    run_pair("-c", WORKER, tmp_path)
    first, second = (dict(np.load(tmp_path / f"{rank}.npz")) for rank in range(2))
    for name, values in first.items():
        assert np.array_equal(values, second[name]), name
    alone = Trainer("cifar_resnet20", **OPTIONS)
    begin = alone.state_dict()
    losses = [alone.step(x, y, lr=0.05) for x, y in batches()]
    assert first["losses"] == pytest.approx(losses, rel=1e-6)
    moved = 0.0
    for name, whole in alone.state_dict().items():
        error = np.linalg.norm(first[name] - whole) / max(float(np.linalg.norm(whole)), 1e-12)
        assert error <= 1e-6, name
        moved = max(moved, float(np.abs(whole - begin[name]).max()))
    assert moved > 1e-3


def test_the_example_trains_on_photos(tmp_path: Path) -> None:
    """Bright and dark squares: two processes learn them, and the first one saves."""
    random = np.random.default_rng(0)
    for name, level in {"dark": 60, "bright": 190}.items():
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for number in range(11):
            pixels = random.normal(level, 20, (24, 24, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    (tmp_path / "photos" / "dark" / "broken.png").write_bytes(b"no photo")
    out = tmp_path / "trained"
    recipe = ["--weights", "cifar_resnet20", "--size", 16, "--batch-size", 6, "--epochs", 4]
    command = [EXAMPLE / "train_parallel.py", tmp_path / "photos", "-o", out, "--threads", 1]
    texts = run_pair(*command, *recipe)
    assert texts[0].splitlines()[-1] == f"wrote {out}"
    assert "train: 1 photo cannot be read and is left out: " in texts[0]
    assert "validation: 5 of 23 photos, drawn from each class by the seed 0" in texts[0]
    assert "each process: 2 of 8 photos left out of each epoch" in texts[0]
    last = texts[0].splitlines()[-2]
    found = re.fullmatch(
        r"epoch 4 of 4: loss 0\.\d{4}, (.*)% of 5 photos for validation right", last
    )
    assert found, last
    assert float(found[1]) >= 80
    assert texts[1] == ""
    model = resnet_rs.load(out)
    assert model.labels == ("bright", "dark")
    (best,) = model.predict(tmp_path / "photos" / "dark" / "0.png", top_k=1)
    assert best.label == "dark"
