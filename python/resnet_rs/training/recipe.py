"""`Recipe`: all choices of a training, checked, with the defaults that were not given."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from .. import arguments
from ..datasets.augment import Augment
from .numbers import METHODS, PRECISIONS, number
from .schedule import SCHEDULES, Schedule

_SCRATCH_EPOCHS = 50
_TUNE_EPOCHS = 12
_SIZE = 224
_SCRATCH_LR = {"sgd": 0.05, "adamw": 2e-3}
_TUNE_LR = {"sgd": 0.02, "adamw": 5e-4}
_BACKBONE = 0.1


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The choices of a training: checked, never changed. None takes the default of its kind.

    Attributes:
        epochs: the number of passes over the photos; by default 50 from random weights and 12 from
            weights that exist.
        time: the time that the training may take, in seconds or as `10m`, `1h30m`; in place of
            `epochs`. The learning rate follows the clock, so two runs are not the same to the bit.
        size: the side of the network's input in pixels; by default that of the weights, or 224.
        batch_size: photos of a step.
        optimizer: `sgd` (with Nesterov's momentum) or `adamw`.
        lr: the largest learning rate.
        schedule: `one_cycle`, `cosine`, `step` or `constant`.
        warmup: the part of the training during which the rate rises (not of `one_cycle`).
        momentum: SGD's.
        weight_decay: the decay of weights; batch norms and biases do not decay.
        label_smoothing: the part of each label that is shared among all classes.
        balanced: weigh the loss of each class by the inverse of its number of photos.
        clip_norm: the largest norm of all gradients together; None for no bound.
        average: the part of the running averages of weights that a step keeps; None for none.
        freeze: parameters that do not learn: `backbone`, `norms`, or beginnings of names.
        frozen_epochs: the epochs at the beginning in which only the last layer learns; by default 1
            from weights that exist if the last layer is new and `epochs` is 2 or more, else 0.
        backbone_lr: the factor of the learning rate of all layers but the last one; by default 0.1
            from weights that exist, else 1.
        patience: end the training after so many epochs without a better result; None never does.
        precision: of the products of convolutions, `f32` or `bf16`, as for `Trainer`.
        augment: the random changes of photos.
        seed: of random weights, of the order of photos and of their changes.

    Raises:
        TypeError, ValueError: a choice of another kind or out of range; the message begins with its
            name.
    """

    epochs: int | None = None
    time: float | str | None = None
    size: int | None = None
    batch_size: int = 32
    optimizer: str = "sgd"
    lr: float | None = None
    schedule: str = "one_cycle"
    warmup: float = 0.0
    momentum: float = 0.9
    weight_decay: float | None = None
    label_smoothing: float = 0.1
    balanced: bool = False
    clip_norm: float | None = None
    average: float | None = None
    freeze: tuple[str, ...] = ()
    frozen_epochs: int | None = None
    backbone_lr: float | None = None
    patience: int | None = None
    precision: str = "f32"
    augment: Augment = field(default_factory=Augment)
    seed: int = 0

    def __post_init__(self) -> None:
        # Plain numbers in place of NumPy's, as JSON takes them.
        put = object.__setattr__
        for name, least in (
            ("epochs", 1),
            ("size", 8),
            ("batch_size", 2),
            ("frozen_epochs", 0),
            ("patience", 1),
        ):
            value = getattr(self, name)
            if value is not None:
                put(self, name, arguments.count(name, value, least=least))
        for name in ("lr", "weight_decay", "clip_norm", "backbone_lr", "warmup"):
            value = getattr(self, name)
            if value is not None:
                put(self, name, number(name, value))
        put(self, "label_smoothing", number("label_smoothing", self.label_smoothing, most=1.0))
        # With a part of 1 a step would change nothing, or all steps would add up for ever.
        for name in ("momentum", "average"):
            value = getattr(self, name)
            if value is not None:
                put(self, name, number(name, value, below=1.0))
        arguments.choice("optimizer", self.optimizer, METHODS)
        arguments.choice("precision", self.precision, PRECISIONS)
        arguments.choice("schedule", self.schedule, SCHEDULES)
        Schedule(self.schedule, 1.0, self.warmup)
        arguments.flag("balanced", self.balanced)
        put(self, "seed", arguments.count("seed", self.seed, least=0, most=None))
        if self.time is not None and self.epochs is not None:
            raise ValueError("time: expected in place of epochs; found both")
        freeze = (self.freeze,) if isinstance(self.freeze, str) else tuple(self.freeze)
        put(self, "freeze", freeze)
        put(self, "time", None if self.time is None else seconds(self.time))
        if not isinstance(self.augment, Augment):
            raise TypeError(f"augment: expected an Augment; got {type(self.augment).__name__}")

    def completed(self, *, fresh: bool, new_head: bool, size: int | None) -> Recipe:
        """Fill in the defaults.

        Args:
            fresh: True for random weights.
            new_head: True if the last layer is a new one.
            size: the side of the weights' input.
        """
        epochs = self.epochs
        if epochs is None and self.time is None:
            epochs = _SCRATCH_EPOCHS if fresh else _TUNE_EPOCHS
        rates = _SCRATCH_LR if fresh else _TUNE_LR
        decay = {"sgd": 5e-4, "adamw": 0.05}[self.optimizer]
        frozen = self.frozen_epochs
        if frozen is None:
            frozen = 1 if new_head and not fresh and self.time is None and epochs != 1 else 0
        return replace(
            self,
            epochs=epochs,
            size=self.size or size or _SIZE,
            lr=rates[self.optimizer] if self.lr is None else self.lr,
            weight_decay=decay if self.weight_decay is None else self.weight_decay,
            frozen_epochs=frozen,
            backbone_lr=(1.0 if fresh else _BACKBONE)
            if self.backbone_lr is None
            else self.backbone_lr,
        )

    def schedule_of(self) -> Schedule:
        """The learning rate over the training."""
        assert self.lr is not None
        return Schedule(self.schedule, self.lr, self.warmup)

    def as_dict(self) -> dict[str, Any]:
        """All choices, as JSON takes them."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        values["augment"] = {
            one.name: getattr(self.augment, one.name) for one in fields(self.augment)
        }
        values["freeze"] = list(self.freeze)
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """Read what `as_dict` returned, after a way through JSON."""
        augment = dict(values["augment"])
        for name in ("scale", "ratio"):
            augment[name] = None if augment[name] is None else tuple(augment[name])
        known = {one.name for one in fields(cls)}
        rest = {name: value for name, value in values.items() if name in known}
        return cls(**{**rest, "augment": Augment(**augment), "freeze": tuple(values["freeze"])})


def seconds(value: float | str) -> float:
    """Read a duration: a number of seconds, or text such as `90s`, `10m`, `1h30m`.

    Raises:
        TypeError, ValueError: something else.
    """
    wrong = f"time: expected seconds, or text such as '90s', '10m' or '1h30m'; got {value!r}"
    if isinstance(value, str):
        found = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?", value.strip())
        if not found or not any(found.groups()):
            raise ValueError(wrong)
        hours, minutes, rest = (int(part or 0) for part in found.groups())
        value = 3600 * hours + 60 * minutes + rest
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(wrong)
    if not 0 < value < float("inf"):
        raise ValueError(wrong)
    return float(value)
