"""One network, one batch and one recipe, the same for every trainer."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from resnet_rs.training import Trainer

CLASSES = 10
LR = 1e-5
"""So small that the loss falls by the gradient times the step, and stays a number for ever."""

MOMENTUM = 0.9
WEIGHT_DECAY = 1e-4
"""SGD's. Every tensor decays, as torch's optimiser does it without groups."""

SEED = 0


@dataclass(frozen=True)
class Task:
    """A network and a batch to train on.

    Attributes:
        architecture: the network's name.
        batch: images in a step.
        size: the side of the images, in pixels.
    """

    architecture: str
    batch: int
    size: int

    @cached_property
    def nhwc(self) -> NDArray[np.float32]:
        """Normal noise, f32 `[batch, size, size, 3]`."""
        shape = (self.batch, self.size, self.size, 3)
        return np.random.default_rng(SEED).standard_normal(shape, dtype=np.float32)

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """Random labels, int64 `[batch]`."""
        return np.random.default_rng(SEED).integers(CLASSES, size=self.batch)

    def trainer(
        self,
        threads: int,
        isa: str | None = None,
        winograd: bool = True,
        precision: str = "f32",
    ) -> Trainer:
        """Make a trainer of resnet_rs with the recipe; its first weights are everyone's."""
        return Trainer(
            self.architecture,
            num_classes=CLASSES,
            seed=SEED,
            optimizer="sgd",
            lr=LR,
            momentum=MOMENTUM,
            weight_decay=WEIGHT_DECAY,
            decay_norms=True,
            isa=isa,
            threads=threads,
            winograd=winograd,
            precision=precision,
        )
