"""Trains plain and residual networks of 20 and 56 layers, and draws how they learn.

    python examples/residual-experiment/experiment.py -o experiment/
    python examples/residual-experiment/experiment.py -o experiment/ --data photos/

It is the experiment of the paper (He et al., 2015, figures 1 and 6), small enough for a few
minutes: plain networks beside networks with shortcuts of option A, and options B and C. All begin
with the same seed and see the same photos in the same order. `docs/book/why-residuals.md` reads the
result.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from drawing import Panel, draw
from drawn_shapes import drawn_shapes

from resnet_rs import Trainer
from resnet_rs.datasets import Augment, Loader, read
from resnet_rs.evaluation.pictures import save
from resnet_rs.training.schedule import Schedule

OPTION_A = {"pad": {"reduce": "slice", "zeros": "around"}}
# Name: the architecture, and the shortcut of config.json's variant.
NETWORKS = {
    "plain-20": ("cifar_resnet20", "none"),
    "plain-56": ("cifar_resnet56", "none"),
    "A-20": ("cifar_resnet20", OPTION_A),
    "A-56": ("cifar_resnet56", OPTION_A),
    "B-20": ("cifar_resnet20", "conv"),
    "C-20": ("cifar_resnet20", "conv_always"),
}


@dataclass
class Learning:
    """The learning of one network.

    Attributes:
        name: its name in `NETWORKS`.
        parameters: the number of its parameters.
        before: the norm of the gradient of each convolution before the first step, by name.
        after: the same after the last step.
        rows: for each epoch the mean loss and accuracy in training, the accuracy on the validation
            photos, and the seconds so far.
    """

    name: str
    parameters: int
    before: dict[str, float]
    after: dict[str, float] = field(default_factory=dict)
    rows: list[dict[str, float]] = field(default_factory=list)


def gradient_norms(trainer: Trainer, x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """The norm of the gradient of each convolution on the way from input to output, by name."""
    trainer.backward(x, y)
    return {
        name.removesuffix(".weight"): float(np.linalg.norm(gradient))
        for name, gradient in trainer.gradients().items()
        if gradient.ndim == 4 and "downsample" not in name
    }


def learn(name: str, data: Loader, val: Loader, options: argparse.Namespace) -> Learning:
    """Train one network."""
    architecture, shortcut = NETWORKS[name]
    trainer = Trainer(
        architecture,
        labels=data.photos.classes,
        variant={"shortcut": shortcut},
        seed=options.seed,
        momentum=0.9,
        weight_decay=1e-4,
        threads=options.threads,
    )
    schedule = Schedule("one_cycle", options.lr)
    with data.epoch(0) as batches:
        sample = next(batches)
    found = Learning(
        name,
        sum(gradient.size for gradient in trainer.gradients().values()),
        gradient_norms(trainer, sample.x, sample.y),
    )
    begin = time.monotonic()
    for epoch in range(options.epochs):
        loss, right, photos = 0.0, 0, 0
        for number, batch in enumerate(data.epoch(epoch)):
            batch_loss, seen = trainer.backward(batch.x, batch.y)
            trainer.update(lr=schedule.at((epoch + number / len(data)) / options.epochs))
            loss += batch_loss * len(seen)
            right += int((seen == batch.y).sum())
            photos += len(seen)
        val_right = sum(
            int((trainer.logits(batch.x).argmax(axis=1) == batch.y).sum()) for batch in val.epoch()
        )
        row = {
            "epoch": epoch + 1,
            "train_loss": loss / photos,
            "train_accuracy": right / photos,
            "val_accuracy": val_right / len(val.photos),
            "seconds": time.monotonic() - begin,
        }
        found.rows.append(row)
        print(
            f"{name:9} epoch {epoch + 1:3}  loss {row['train_loss']:6.3f}  "
            f"train {row['train_accuracy']:6.1%}  val {row['val_accuracy']:6.1%}  "
            f"{row['seconds']:5.0f} s",
            flush=True,
        )
    found.after = gradient_norms(trainer, sample.x, sample.y)
    return found


def write(learnings: Sequence[Learning], folder: Path) -> None:
    """Write `curves.csv` and `gradients.csv`, and draw both."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "curves.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["network", *learnings[0].rows[0]])
        for one in learnings:
            table.writerows([one.name, *row.values()] for row in one.rows)
    with (folder / "gradients.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["network", "layer", "before", "after"])
        for one in learnings:
            table.writerows(
                [one.name, layer, norm, one.after[layer]] for layer, norm in one.before.items()
            )
    curves = [
        Panel(
            title,
            "epoch",
            {one.name: [(row["epoch"], row[column]) for row in one.rows] for one in learnings},
            percent=percent,
        )
        for title, column, percent in (
            ("loss in training", "train_loss", False),
            ("accuracy on validation photos", "val_accuracy", True),
        )
    ]
    save(draw(curves), folder / "curves.png")
    norms = [
        Panel(
            f"norm of the gradient {when}",
            "convolution",
            {
                one.name: [(i + 1, norm) for i, norm in enumerate(getattr(one, which).values())]
                for one in learnings
            },
            log=True,
        )
        for when, which in (("before the first step", "before"), ("after the last step", "after"))
    ]
    save(draw(norms), folder / "gradients.png")


def show(learnings: Sequence[Learning]) -> None:
    """Print the last epoch of each network, and the gradients of some layers."""
    print("\nnetwork    parameters  train loss  train acc  val acc  seconds")
    for one in learnings:
        last = one.rows[-1]
        print(
            f"{one.name:9} {one.parameters:11,} {last['train_loss']:11.3f} "
            f"{last['train_accuracy']:10.1%} {last['val_accuracy']:8.1%} {last['seconds']:8.0f}"
        )
    for title, which in (("before the first step", "before"), ("after the last step", "after")):
        print(f"\nnorm of the gradient {title}")
        print("network    first conv  layer1.0  layer2.0  layer3.0  last conv")
        for one in learnings:
            norms = getattr(one, which)
            first, *_, last = norms.values()
            stages = [norms[f"layer{stage}.0.conv1"] for stage in (1, 2, 3)]
            values = "".join(f"{value:10.3g}" for value in (first, *stages, last))
            print(f"{one.name:9}   {values}")


def main() -> None:
    """Read the command line, train all networks, and show what was found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("-o", "--out", type=Path, required=True, help="the folder for tables and pictures")
    add("--data", help="labelled photos, as resnet-rs train takes them (default: drawn shapes)")
    add("--photos", type=int, default=1000, help="the number of drawn shapes (default: 1000)")
    add("--size", type=int, default=32, help="the side of the photos in pixels (default: 32)")
    add("--epochs", type=int, default=10, help="passes over the photos (default: 10)")
    add("--batch", type=int, default=32, help="photos of a step (default: 32)")
    add("--lr", type=float, default=0.03, help="the largest learning rate (default: 0.03)")
    add("--only", nargs="+", choices=NETWORKS, default=list(NETWORKS), help="the networks")
    add("--seed", type=int, default=0)
    add("--threads", type=int)
    options = parser.parse_args()

    photos = options.data or drawn_shapes(options.photos, options.size, options.seed)
    split = read(photos, seed=options.seed)
    augment = Augment(scale=(0.6, 1.0))
    data = Loader(
        split.train,
        batch_size=options.batch,
        size=options.size,
        augment=augment,
        seed=options.seed,
    )
    val = Loader(split.val, batch_size=64, size=options.size, resize=options.size)
    print(f"{len(split.train)} photos to learn from, {len(split.val)} to measure on")
    learnings = []
    for name in options.only:
        learnings.append(learn(name, data, val, options))
        write(learnings, options.out)
    show(learnings)


if __name__ == "__main__":
    main()
