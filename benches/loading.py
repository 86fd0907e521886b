"""The CPU time of making batches of labelled photos: from the cache and without one.

The processor's time is that of all threads, in milliseconds a photo.

Example:
  python benches/loading.py photos/ --size 64 224
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import Any

from peer_runtimes.arguments import positive
from resnet_rs.datasets import Augment, Labelled, Loader, PhotoCache, read_part
from resnet_rs.terminal.tables import text_table

_COLORS: dict[str, Any] = {"brightness": 0.3, "contrast": 0.3, "saturation": 0.3}
_KINDS = {
    "random crop": Augment(),
    "crop, flip, colours, erasing": Augment(flip=True, erasing=0.25, **_COLORS),
    "all options": Augment(flip=True, erasing=0.25, rotation=10, mixup=0.2, cutmix=1.0, **_COLORS),
    "validation": None,
}
# Random changes take as long after decoding as they do from the cache.
_PLACES = {"cached": (None, tuple(_KINDS)), "decoded each time": (0, ("random crop", "validation"))}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure each kind of batch at each size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("photos", help="labelled photos, as resnet_rs.datasets.read takes them")
    add(
        "--size",
        type=positive,
        nargs="+",
        default=[64, 224],
        metavar="N",
        help="sides of the network's input in pixels (default: 64 224)",
    )
    add("--batch", type=positive, default=32, metavar="N", help="photos of a batch (default: 32)")
    add(
        "--repeats",
        type=positive,
        default=3,
        metavar="N",
        help="epochs of which the fastest one counts (default: 3)",
    )
    arguments = parser.parse_args(argv)
    photos, _ = read_part(arguments.photos)
    rows = [["ms a photo", *(f"{size} x {size}" for size in arguments.size)]]
    for place, (limit, names) in _PLACES.items():
        for name in names:
            cells = [
                milliseconds(photos, size, arguments.batch, _KINDS[name], limit, arguments.repeats)
                for size in arguments.size
            ]
            rows.append([f"{name}, {place}", *(f"{cell:.2f}" for cell in cells)])
    print(text_table(rows, left=1))


def milliseconds(
    photos: Labelled,
    size: int,
    batch_size: int,
    augment: Augment | None,
    limit: int | None,
    repeats: int,
) -> float:
    """The least CPU time of several epochs, for each photo."""
    loader = Loader(
        photos, batch_size=batch_size, size=size, augment=augment, cache=PhotoCache(limit)
    )
    least = float("inf")
    # The first epoch of a loader with a cache decodes.
    for epoch in range(repeats + 1):
        before = time.process_time()
        for _ in loader.epoch(epoch):
            pass
        if epoch or limit == 0:
            least = min(least, time.process_time() - before)
    return 1e3 * least / len(photos)


if __name__ == "__main__":
    main()
