"""The CPU time of making batches of labelled photos: from the cache and without one.

    python benches/loading.py PHOTOS --size 64 224

The processor's time is that of all threads, in milliseconds a photo.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from resnet_rs.datasets import Augment, Labelled, Loader, PhotoCache, read_part
from resnet_rs.terminal.tables import text_table

_COLORS: dict[str, Any] = {"brightness": 0.3, "contrast": 0.3, "saturation": 0.3}
_KINDS = {
    "random crop": Augment(),
    "crop, flip, colours, erasing": Augment(flip=True, erasing=0.25, **_COLORS),
    "all options": Augment(flip=True, erasing=0.25, rotation=10, mixup=0.2, cutmix=1.0, **_COLORS),
    "validation": None,
}


def main() -> None:
    """Measure each kind of batch at each size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", help="labelled photos, as resnet_rs.datasets.read takes them")
    parser.add_argument("--size", type=int, nargs="+", default=[64, 224])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    photos, _ = read_part(arguments.photos)
    rows = [["ms a photo", *(f"{size} x {size}" for size in arguments.size)]]
    for limit, place in ((None, "cached"), (0, "decoded")):
        for name, augment in _KINDS.items():
            cells = [
                milliseconds(photos, size, arguments.batch, augment, limit, arguments.repeats)
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
