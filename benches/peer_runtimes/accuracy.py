"""The cost of low precision: a runtime's logits beside torch's in f64."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from peer_runtimes.runtime import Runtime
from peer_runtimes.workload import Workload
from torch_reference import relative_l2

LARGEST_ERROR = {"f32": 1e-4, "int8": 0.5, "bf16": 0.5}
"""In f32, a runtime further from torch in f64 computes something else. In low precision errors are
results, and only a broken conversion is beyond the limit."""

LEAST_ERROR = {"f32": 0.0, "int8": 1e-5, "bf16": 1e-5}
"""A runtime that is nearer computes in f32, whatever it was told."""


@dataclass(frozen=True)
class Accuracy:
    """A runtime's distance from torch in f64.

    Attributes:
        relative_error: L2, of all logits.
        agreement: the part of the held-out images whose largest logit is the same class; None in
            f32, which has no such images.
    """

    relative_error: float
    agreement: float | None = None


def measure_accuracy(runtime: Runtime, workload: Workload) -> Accuracy:
    """Run a loaded runtime on the workload's input in f32, else on all held-out images.

    Raises:
        ValueError: its logits are not those of this network in this precision.
    """
    if workload.network is None:
        accuracy = Accuracy(relative_l2(runtime(), workload.expected))
    else:
        found = held_out_logits(runtime, workload)
        expected = workload.network.held_out_logits
        same = float(np.mean(found.argmax(axis=1) == expected.argmax(axis=1)))
        accuracy = Accuracy(relative_l2(found, expected), same)
    if not accuracy.relative_error <= LARGEST_ERROR[workload.precision]:
        raise ValueError(f"wrong logits: relative error {accuracy.relative_error:.1e}")
    if accuracy.relative_error < LEAST_ERROR[workload.precision]:
        raise ValueError(
            f"not in {workload.precision}: relative error {accuracy.relative_error:.1e} is that "
            "of f32"
        )
    return accuracy


def held_out_logits(runtime: Runtime, workload: Workload) -> NDArray[np.float32]:
    """Run all held-out images in batches of the workload's size, the last one filled up.

    The runtime has its own input again afterwards.
    """
    images = workload.calibrated.images.held_out
    found = []
    for start in range(0, len(images), workload.batch):
        chosen = np.arange(start, start + workload.batch) % len(images)
        runtime.set_input(images[chosen])
        # A copy: some runtimes write the next result to the same place.
        found.append(np.array(runtime()))
    runtime.set_input(workload.nhwc)
    return np.concatenate(found)[: len(images)]
