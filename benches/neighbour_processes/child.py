"""A process of `benches/neighbours.py`: forwards of noise in a loop, when it is told to.

`python child.py WEIGHTS THREADS BATCH SIZE` prints `started` and waits for a line before it imports
anything: its parent may put it under a quota meanwhile. With 0 THREADS it takes the default. It
prints the number of threads and the file of the package. Then, for each line with a number of
seconds, it runs forwards for so long, and prints images a second and the 50th and 99th percentile
of a call in seconds.
"""

from __future__ import annotations

import sys
import time
import warnings


def main(weights: str, threads: str, batch: str, size: str) -> int:
    """Serve the parent until it closes its end."""
    print("started", flush=True)
    sys.stdin.readline()
    import numpy as np

    import resnet_rs

    warnings.simplefilter("ignore")
    # Algorithms are chosen for the size that the config names.
    preprocessing = {"resize": int(size), "crop": int(size)}
    model = resnet_rs.load(weights, threads=int(threads) or None, preprocessing=preprocessing)
    x = np.random.default_rng(0).standard_normal(
        (int(batch), int(size), int(size), 3), dtype=np.float32
    )
    for _ in range(3):
        model.forward(x)
    print(model.threads, resnet_rs.__file__, flush=True)
    for line in sys.stdin:
        calls, seconds = [], float(line)
        end = start = time.perf_counter()
        while end - start < seconds:
            model.forward(x)
            now = time.perf_counter()
            calls.append(now - end)
            end = now
        p50, p99 = np.percentile(calls, [50, 99])
        print(len(calls) * int(batch) / (end - start), p50, p99, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
