"""A calibration beside the forwards of its photos, in turns, for `benches/int8.py`.

`python -m int8_processes.calibration WEIGHTS PHOTOS COUNT ROUNDS THREADS`, in `benches/`, prints a
JSON object: `forwards` and `quantize` to the seconds of each round, `method` to the choice of
`auto`. Photos are decoded before; a folder with fewer than COUNT gives some again, moved sideways.
"""

from __future__ import annotations

import json
import sys
import time
import warnings

import numpy as np
from numpy.typing import NDArray

import resnet_rs
from resnet_rs.images.batches import single_batch
from resnet_rs.quantization import quantize
from resnet_rs.quantization.images import spread

STEP = 7
"""Pixels that a photo moves each time it comes again."""


def main(weights: str, photos: str, count: str, rounds: str, threads: str) -> None:
    """Time both in every round, after a small one that is not counted."""
    warnings.simplefilter("ignore")
    model = resnet_rs.load(weights, threads=int(threads))
    x = pixels(model, photos, int(count))
    network = model.loaded.network
    network.logits(x[:1])
    method = quantize(model, x[:2]).method
    forwards, calibrations = [], []
    for turn in range(int(rounds)):
        print(f"calibration, round {turn + 1} of {rounds} ...", file=sys.stderr, flush=True)
        start = time.perf_counter()
        network.logits(x)
        forwards.append(time.perf_counter() - start)
        start = time.perf_counter()
        method = quantize(model, x).method
        calibrations.append(time.perf_counter() - start)
    print(json.dumps({"forwards": forwards, "quantize": calibrations, "method": method}))


def pixels(model: resnet_rs.ResNet, photos: str, count: int) -> NDArray[np.uint8]:
    """The network's input of `count` photos: `[count, height, width, channels]`."""
    config = model.config
    found = single_batch(
        spread(photos, count),
        config.preprocessing,
        channels=config.in_channels,
        choices=model.loaded.options,
    )
    return np.stack(
        [
            np.roll(found[place % len(found)], STEP * (place // len(found)), axis=1)
            for place in range(count)
        ]
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
