"""Weights for `benches/int8.py`: one network in f32 and in int8.

`python -m int8_processes.files SCRATCH PHOTOS [WEIGHTS]`, in `benches/`, prints a JSON object:
`f32` and `int8` to the paths of directories. The f32 one is WEIGHTS, or has random weights of
ResNet-50.

It is a process of its own because torch and the networks would make its parent large: see
`cold_start.py`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

from peers import random_weights

FEW = 8
"""Photos of the calibration here: sizes and times do not depend on the scales."""


def main(scratch: str, photos: str, weights: str | None = None) -> None:
    """Make the directories under `scratch` and print where they are."""
    import resnet_rs

    source = Path(weights) if weights else random_weights(Path(scratch) / "f32")
    model = resnet_rs.load(source)
    # Written as it is packed: the given weights may be of another format or dtype.
    f32, int8 = Path(scratch) / "f32-directory", Path(scratch) / "int8-directory"
    model.save(f32)
    model.quantize(photos, method="minmax", count=FEW, progress=False).save(int8)
    print(json.dumps({"f32": str(f32), "int8": str(int8)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
