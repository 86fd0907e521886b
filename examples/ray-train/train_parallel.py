"""Train on several processes or machines: each has a part of every batch.

Each process computes the gradients of its part, gloo adds them up, and all processes take the same
step. So all have the same weights at any time, and no process sends photos or activations.

torch is here for `torch.distributed` alone, which moves the gradients. `torchrun` starts the
processes; Ray Train does so too (README.md).
"""

import argparse
import os
from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.distributed as dist

from resnet_rs import Trainer
from resnet_rs.datasets import Augment, Labelled, Loader, Report, check, read
from resnet_rs.evaluation import Evaluation, measure
from resnet_rs.training.schedule import Schedule

Gradients = dict[str, np.ndarray]


def added_up(arrays: Mapping[str, np.ndarray]) -> Gradients:
    """Add arrays of all processes up, name by name.

    Args:
        arrays: float32, with the same names and shapes in every process.
    """
    # In one piece: gloo waits for the network once, and not once for each name.
    flat = torch.from_numpy(np.concatenate([array.ravel() for array in arrays.values()]))
    dist.all_reduce(flat)
    ends = np.cumsum([array.size for array in arrays.values()])[:-1]
    parts = np.split(flat.numpy(), ends)
    return {
        name: part.reshape(array.shape)
        for (name, array), part in zip(arrays.items(), parts, strict=True)
    }


def step(trainer: Trainer, x: np.ndarray, y: np.ndarray, *, lr: float) -> float:
    """Learn from a batch of which each process has a part.

    Args:
        trainer: this process's trainer, with the same weights as the others.
        x: this process's images, float32 `[part, height, width, channels]`.
        y: their labels.
        lr: the learning rate.

    Returns:
        The loss, the mean over the whole batch.
    """
    sizes = added_up({"size": np.array([len(y)], np.float32)})
    # The sum over the processes is then the mean over the batch, however it is divided.
    share = len(y) / float(sizes["size"][0])
    loss, _ = trainer.backward(x, y, share=share)
    values = added_up({**trainer.gradients(), "loss": np.array([loss], np.float32)})
    whole = float(values.pop("loss")[0])
    trainer.apply(values, lr=lr)
    return whole


def part_of(photos: Labelled, rank: int, processes: int) -> Labelled:
    """The photos of one process: as many as the others have, of all classes."""
    order = np.argsort(photos.labels, kind="stable")
    count = len(order) // processes * processes
    return photos.subset(np.sort(order[rank:count:processes]))


def checked(data: str) -> Report:
    """Read the photos, and find those that can be used: the same in every process.

    The first process reads every photo once, says what it finds, and tells the others.

    Args:
        data: a folder of photos, as `resnet-rs train` takes it.
    """
    found: list[Report | None] = [None]
    if dist.get_rank() == 0:
        split = read(data)
        found = [check(split)]
        say(*split.remarks, *found[0].remarks)
    dist.broadcast_object_list(found)
    return found[0]


def measured(trainer: Trainer, loader: Loader) -> Evaluation:
    """Measure the network on all photos of a loader."""
    logits = np.concatenate([trainer.logits(batch.x) for batch in loader.epoch()])
    return measure(logits, loader.photos.labels, loader.photos.classes)


def say(*lines: str) -> None:
    """Print lines, once for all processes."""
    if dist.get_rank() == 0:
        for line in lines:
            print(line, flush=True)


def train(
    data: str,
    out: str,
    *,
    weights: str = "resnet18",
    size: int = 64,
    batch_size: int = 32,
    epochs: int = 20,
    lr: float = 0.05,
    freeze: Sequence[str] = (),
    threads: int | None = None,
) -> None:
    """Train in this process, as one of several; the first one writes the weights.

    Args:
        data: a folder of photos, as `resnet-rs train` takes it.
        out: the directory to write.
        weights: an architecture, or weights to go on from.
        size: the side of the images.
        batch_size: the number of images in a step, in all processes together.
        epochs: how often each photo is seen.
        lr: the largest learning rate.
        freeze: as for `Trainer`.
        threads: the threads of this process.
    """
    rank, processes = dist.get_rank(), dist.get_world_size()
    photos = checked(data)
    loader = Loader(
        part_of(photos.train, rank, processes),
        batch_size=max(1, batch_size // processes),
        size=size,
        augment=Augment(),
        seed=rank,
        drop_last=True,
    )
    trainer = Trainer(
        weights,
        labels=photos.train.classes,
        preprocessing=loader.preprocessing,
        freeze=freeze,
        threads=threads,
    )
    say(*trainer.remarks, *(f"each process: {remark}" for remark in loader.remarks))
    val = Loader(photos.val, batch_size=batch_size, size=size) if len(photos.val) else None
    schedule = Schedule("one_cycle", lr)
    steps = epochs * len(loader)
    for epoch in range(epochs):
        losses = [
            step(trainer, batch.x, batch.y, lr=schedule.at(trainer.steps / steps))
            for batch in loader.epoch(epoch)
        ]
        line = f"epoch {epoch + 1} of {epochs}: loss {np.mean(losses):.4f}"
        # All have the same weights, so one of them measures; the others wait with their next step.
        if rank == 0 and val is not None:
            found = measured(trainer, val)
            line += f", {found.top1:.1%} of {found.count} photos for validation right"
        say(line)
    if rank == 0:
        trainer.save(out, force=True)
        say(f"wrote {out}")


def main(argv: Sequence[str] | None = None) -> None:
    """Join the processes that torchrun has started; alone, this is one process of one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("data", help="a folder of photos")
    add("-o", "--out", required=True, help="the directory to write")
    add("--weights", default="resnet18", help="an architecture, or weights (default: %(default)s)")
    add("--size", type=int, default=64, help="side of the images (default: %(default)s)")
    add("--batch-size", type=int, default=32, help="of all processes (default: %(default)s)")
    add("--epochs", type=int, default=20, help="(default: %(default)s)")
    add("--lr", type=float, default=0.05, help="(default: %(default)s)")
    add("--freeze", nargs="+", default=(), help="backbone, norms, or beginnings of names")
    add("--threads", type=int, help="of each process")
    arguments = vars(parser.parse_args(argv))
    for name, alone in {
        "RANK": "0",
        "WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "29500",
    }.items():
        os.environ.setdefault(name, alone)
    dist.init_process_group("gloo")
    try:
        train(**arguments)
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
