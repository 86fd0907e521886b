"""Classify a folder of photos with Ray Data: several actors, a model in each.

Ray reads the files and gives each actor batches of them. An actor decodes and classifies its
batches on the threads that Ray has set aside for it. The model travels to the actors as a pickle
of some hundred bytes, a path and a hash; `--send-weights` sends the weights instead, for machines
that share no disk.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import ray

import resnet_rs

Batch = dict[str, np.ndarray]


class Classifier:
    """The classifier in an actor: Ray makes one in each, and calls it with every batch."""

    def __init__(self, model: resnet_rs.ResNet) -> None:
        """Take a model, unpickled on the actor's machine with the best kernels it has."""
        self.model = model

    def __call__(self, batch: Batch) -> Batch:
        """Classify one batch.

        Args:
            batch: `path`, and `bytes` with the content of the files. Ray's arrays are read-only,
                and that is fine: images are never written to.

        Returns:
            `path`, `label` and `score` of the best class; for a file that is no image, `error`.
        """
        rows = []
        # A stream rather than `predict`: there, one damaged file would fail the whole batch.
        with self.model.stream(batch["bytes"], top_k=1, workers=self.model.threads) as results:
            for result in results:
                if result.predictions is None:
                    rows.append(("", 0.0, result.reason))
                else:
                    (best,) = result.predictions
                    rows.append((best.label, best.score, ""))
        labels, scores, errors = zip(*rows, strict=True)
        return {
            "path": batch["path"],
            "label": np.array(labels),
            "score": np.array(scores),
            "error": np.array(errors),
        }


def classify(
    folder: Path, model: resnet_rs.ResNet, *, actors: int, batch_size: int = 32
) -> ray.data.Dataset:
    """Name what is in every file of a folder.

    Args:
        folder: read with its subfolders; any path that Ray reads, such as one in S3, will do.
        model: its `threads` are what each actor sets aside.
        actors: how many work side by side.
        batch_size: files that an actor is given at a time.

    Returns:
        A dataset with the columns of `Classifier`, in no order; it is computed when it is read.
    """
    files = ray.data.read_binary_files(str(folder), include_paths=True)
    return files.map_batches(
        Classifier,
        fn_constructor_kwargs={"model": model},
        batch_size=batch_size,
        # Ray counts CPUs, and does not stop an actor from using more: the two numbers must agree.
        num_cpus=model.threads,
        compute=ray.data.ActorPoolStrategy(size=actors),
    )


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="a folder of photos")
    parser.add_argument("--weights", type=Path, required=True, metavar="DIR")
    parser.add_argument("--actors", type=int, default=2, metavar="N", help="(default: 2)")
    parser.add_argument(
        "--threads", type=int, default=1, metavar="N", help="of each actor (default: 1)"
    )
    parser.add_argument(
        "--batch-size",
        type=int,
        default=32,
        metavar="N",
        help="files that an actor is given at a time (default: 32)",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="write Parquet files (default: print lines)"
    )
    parser.add_argument(
        "--send-weights",
        action="store_true",
        help="send the weights file itself, for machines without the same path",
    )
    parser.add_argument(
        "--address", help="of a Ray cluster, such as auto (default: start one on this machine)"
    )
    return parser.parse_args(argv)


def load(weights: Path, *, threads: int, send_weights: bool) -> resnet_rs.ResNet:
    """Load a model that pickles as its path, or with all its weights."""
    model = resnet_rs.load(weights, threads=threads)
    if send_weights:
        data = (weights / "model.safetensors").read_bytes()
        model = resnet_rs.load(data, config=model.config.as_dict(), threads=threads)
    return model


def main(argv: Sequence[str] | None = None) -> int:
    """Classify a folder.

    Returns:
        0 if every file was classified, 1 if any was not.
    """
    arguments = parse_arguments(argv)
    if arguments.address is None:
        # One more than the actors have: reading needs a CPU too, and without any Ray waits for
        # one forever.
        ray.init(num_cpus=arguments.actors * arguments.threads + 1, include_dashboard=False)
    else:
        ray.init(address=arguments.address)
    model = load(arguments.weights, threads=arguments.threads, send_weights=arguments.send_weights)
    results = classify(
        arguments.folder, model, actors=arguments.actors, batch_size=arguments.batch_size
    ).materialize()
    if arguments.out is not None:
        results.write_parquet(str(arguments.out))
    failed = 0
    for row in results.iter_rows():
        failed += row["error"] != ""
        if arguments.out is None or row["error"]:
            print(row["path"], row["error"] or f"{row['score']:.2%} {row['label']}", sep="\t")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
