"""Teaches a network new classes from a few photos each, in five ways.

    python examples/few-photos/few_photos.py signs -o few/
    python examples/few-photos/few_photos.py photos/ -o few/ --known cat dog --photos 5 10
    python examples/few-photos/few_photos.py photos/ -o few/ --weights imagenet/ --size 224

A network first learns half of the classes. The others are new: it has never seen them. They are
then learnt from 10, 20 and 50 photos of each, several draws of them:

- nearest neighbours: the answer is the class of the photos with the most similar embeddings;
- linear probe: a last layer fitted to the embeddings;
- frozen backbone: the same by `resnet-rs train --freeze backbone`, as a network to keep;
- fine-tuning: all layers go on learning, `resnet-rs train --weights`;
- from scratch: a network with random weights, for comparison.

Accuracies are those of the last epoch on the validation photos of the new classes, so no choice was
made by them. `docs/hand-signs.md` shows the result for hand signs.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from resnet_rs import ResNet, load, train
from resnet_rs.datasets import Augment, Labelled, read
from resnet_rs.evaluation import knn, linear_probe

# With a few photos an epoch has few steps: smaller batches make more of them.
BATCH = 16


@dataclass
class Task:
    """The new classes: a few photos to learn from, and the photos to measure on."""

    few: Labelled
    val: Labelled
    val_embeddings: np.ndarray
    base: Path
    model: ResNet
    seed: int
    options: argparse.Namespace


def of_classes(photos: Labelled, classes: Sequence[str]) -> Labelled:
    """The photos of some classes, with labels that are indices of these."""
    places = {photos.classes.index(name): place for place, name in enumerate(classes)}
    chosen = [i for i, label in enumerate(photos.labels.tolist()) if label in places]
    labels = np.array([places[int(photos.labels[i])] for i in chosen], np.int64)
    return Labelled(photos.subset(chosen).images, labels, tuple(classes))


def drawn(photos: Labelled, each: int, seed: int) -> Labelled:
    """Draw `each` photos of each class."""
    random = np.random.default_rng(seed)
    chosen = [
        random.permutation(np.flatnonzero(photos.labels == label))[:each]
        for label in range(len(photos.classes))
    ]
    return photos.subset(np.sort(np.concatenate(chosen)))


def neighbours(task: Task) -> float:
    """The accuracy of the nearest neighbours."""
    found = task.model.embed(list(task.few.images))
    return knn(found, task.few.labels, task.val_embeddings, task.val.labels).top1


def probe(task: Task) -> float:
    """The accuracy of a linear probe."""
    found = task.model.embed(list(task.few.images))
    probe = linear_probe(found, task.few.labels, task.val_embeddings, task.val.labels)
    return probe.evaluation.top1


def frozen(task: Task) -> float:
    """The accuracy of a new last layer on the network as it is."""
    run = train(
        task.few,
        weights=task.base,
        val=task.val,
        freeze="backbone",
        seed=task.seed,
        threads=task.options.threads,
        progress=False,
    )
    assert run.evaluation is not None
    return run.evaluation.top1


def tuned(task: Task) -> float:
    """The accuracy after all layers went on learning."""
    return learnt(task, task.base, task.options.tune_epochs)


def scratch(task: Task) -> float:
    """The accuracy of a network that begins with random weights."""
    return learnt(task, task.options.architecture, task.options.epochs)


def learnt(task: Task, weights: Path | str, epochs: int) -> float:
    """Train a network, and take the accuracy of its last epoch."""
    run = train(
        task.few,
        weights=weights,
        val=task.val,
        epochs=epochs,
        size=task.options.size,
        batch_size=BATCH,
        augment=augment(task.options),
        seed=task.seed,
        threads=task.options.threads,
        progress=False,
    )
    return float(run.history[-1]["val_accuracy"])


WAYS: dict[str, Callable[[Task], float]] = {
    "nearest neighbours": neighbours,
    "linear probe": probe,
    "frozen backbone": frozen,
    "fine-tuning": tuned,
    "from scratch": scratch,
}


def augment(options: argparse.Namespace) -> Augment:
    """The random changes of photos."""
    return Augment(scale=(options.crop, 1.0), rotation=options.rotation)


def base_weights(photos: Labelled, val: Labelled, options: argparse.Namespace) -> Path:
    """Train the network of the known classes, or take one that is there already."""
    out = Path(options.out) / "known"
    if (out / "best" / "config.json").exists():
        print(f"{out / 'best'} is there already, and is used as it is")
        return out / "best"
    run = train(
        photos,
        out,
        weights=options.architecture,
        val=val,
        epochs=options.epochs,
        size=options.size,
        augment=augment(options),
        seed=options.seed,
        threads=options.threads,
    )
    assert run.evaluation is not None
    print(f"known classes: {run.evaluation.top1:.1%} of {len(val)} photos, {run.seconds:.0f} s")
    return out / "best"


def measured(
    new: tuple[Labelled, Labelled], base: Path, options: argparse.Namespace
) -> Iterator[tuple[int, str, int, float, float]]:
    """Measure each way with each number of photos and each draw of them."""
    photos, val = new
    model = load(base, threads=options.threads)
    val_embeddings = model.embed(list(val.images))
    for each in options.photos:
        for seed in range(options.draws):
            few = drawn(photos, each, seed)
            task = Task(few, val, val_embeddings, base, model, seed, options)
            for way in options.ways:
                begin = time.monotonic()
                accuracy = WAYS[way](task)
                seconds = time.monotonic() - begin
                print(f"{each:4} photos  draw {seed}  {way:20} {accuracy:6.1%} {seconds:7.1f} s")
                yield each, way, seed, accuracy, seconds


def table(rows: Sequence[tuple[int, str, int, float, float]]) -> str:
    """Lay out the means of all draws, a row for each way."""
    found = defaultdict(list)
    for each, way, _, accuracy, seconds in rows:
        found[way, each].append((accuracy, seconds))
    counts = sorted({each for each, *_ in rows})
    ways = list(dict.fromkeys(way for _, way, *_ in rows))
    lines = [
        "| | " + " | ".join(f"{each} photos" for each in counts) + " |",
        "|---|" + "---:|" * len(counts),
    ]
    for way in ways:
        cells = []
        for each in counts:
            accuracies, seconds = zip(*found[way, each], strict=True)
            mean, time_each = statistics.mean(accuracies), statistics.mean(seconds)
            cells.append(
                f"{mean:.1%} ({min(accuracies):.1%} to {max(accuracies):.1%}), {time_each:.1f} s"
            )
        lines.append(f"| {way} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Read the command line, train, measure, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("data", help="labelled photos, as resnet-rs train takes them")
    add("-o", "--out", required=True, help="the folder for the first network and few-photos.csv")
    add(
        "--known",
        nargs="+",
        metavar="CLASS",
        help="classes to begin with (default: the first half)",
    )
    add(
        "--weights",
        help="a network that has learnt something already, in place of the known classes",
    )
    add("--photos", type=int, nargs="+", default=[10, 20, 50], help="of each new class")
    add("--draws", type=int, default=3, help="draws of photos (default: 3)")
    add("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="(default: all)")
    add("--architecture", default="resnet50", help="(default: resnet50)")
    add("--size", type=int, default=64, help="the side of the photos in pixels (default: 64)")
    add("--epochs", type=int, default=40, help="from random weights (default: 40)")
    add("--tune-epochs", type=int, default=12, help="of fine-tuning (default: 12)")
    add("--crop", type=float, default=0.7, help="the least part of a photo (default: 0.7)")
    add("--rotation", type=float, default=15, help="degrees (default: 15)")
    add("--seed", type=int, default=0, help="of the first network (default: 0)")
    add("--threads", type=int)
    options = parser.parse_args()

    split = read(options.data, seed=options.seed)
    classes = split.train.classes
    known = options.known or ([] if options.weights else classes[: len(classes) // 2])
    new = [name for name in classes if name not in known]
    print(f"known: {', '.join(known) or options.weights}; new: {', '.join(new)}")
    if options.weights:
        base = Path(options.weights)
    else:
        parts = (of_classes(part, known) for part in (split.train, split.val))
        base = base_weights(*parts, options)

    Path(options.out).mkdir(parents=True, exist_ok=True)
    rows = []
    with (Path(options.out) / "few-photos.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["photos", "way", "draw", "accuracy", "seconds"])
        parts = (of_classes(split.train, new), of_classes(split.val, new))
        for row in measured(parts, base, options):
            writer.writerow(row)
            file.flush()
            rows.append(row)
    print(f"\n{table(rows)}")


if __name__ == "__main__":
    main()
