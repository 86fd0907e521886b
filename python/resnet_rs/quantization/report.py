"""A quantised network beside its f32 network: errors by layer, agreement, size, speed."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .._core import Network
from ..inspect.compare.numbers import ratio_in_decibels
from ..terminal.tables import plural, text_table
from ..weights.loaded import HasLoaded
from .errors import relative_error
from .images import Batch, CalibrationImages

_WORST = 5
_ROUNDS = 5


@dataclass(frozen=True)
class LayerError:
    """One layer's outputs in both networks.

    Attributes:
        name: the layer's.
        snr_db: the signal-to-noise ratio in decibels, `10 * log10(sum of f32^2 / sum of
            (int8 - f32)^2)`; None if there is no noise, or no signal.
    """

    name: str
    snr_db: float | None


@dataclass(frozen=True)
class Report:
    """A quantised network beside the f32 network that it was made of.

    Attributes:
        architecture: the network's name.
        method: the method that chose the scales.
        calibration_images: how many images calibrated.
        images: how many images were compared.
        agreement: the part of them whose largest logit is the same class; None without classes.
        relative_error: of all logits (without classes, of the pooled features): the length of the
            differences, divided by that of the f32 ones.
        layers: the layers that both networks have, in order.
        bytes_before: the size of the f32 tensors.
        bytes_after: the size of the quantised tensors.
        seconds_before: of a forward of one image in f32; None if it was not measured.
        seconds_after: of a forward of one image in int8; None if it was not measured.
        calibration_skipped: how many images could not be read when the scales were made.
        bf16: the layers that stayed in bf16, in order.
    """

    architecture: str
    method: str | None
    calibration_images: int | None
    images: int
    agreement: float | None
    relative_error: float
    layers: tuple[LayerError, ...]
    bytes_before: int
    bytes_after: int
    seconds_before: float | None = None
    seconds_after: float | None = None
    calibration_skipped: int = 0
    bf16: tuple[str, ...] = ()

    @property
    def speedup(self) -> float | None:
        """How many times as fast int8 is; None if it was not measured."""
        if not self.seconds_before or not self.seconds_after:
            return None
        return self.seconds_before / self.seconds_after

    def worst(self, count: int = _WORST) -> list[LayerError]:
        """The layers with the least signal-to-noise ratio, the worst first."""
        noisy = [layer for layer in self.layers if layer.snr_db is not None]
        return sorted(noisy, key=lambda layer: layer.snr_db or 0.0)[:count]

    def to_dict(self) -> dict[str, Any]:
        """All figures by name, in types that JSON has; an infinite error is None."""
        values = asdict(self)
        if not math.isfinite(self.relative_error):
            values["relative_error"] = None
        lists = {name: list(values[name]) for name in ("layers", "bf16")}
        return {**values, **lists, "speedup": self.speedup}

    def to_json(self) -> str:
        """The same as JSON."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n"

    def text(self, *, layers: bool = False) -> str:
        """Lay the figures out for a terminal.

        Args:
            layers: list every layer, in place of the worst ones.
        """
        lines = [
            f"{self.architecture} in int8, scales by {self.method or 'an unknown method'} from "
            f"{_counted(self.calibration_images)}{_left_out(self.calibration_skipped)}",
            f"compared with f32 on {plural(self.images, 'image')}:",
        ]
        if self.agreement is not None:
            lines.append(f"  same class      {self.agreement:.1%}")
        lines.append(f"  relative error  {self.relative_error:.2%} of the logits")
        if self.bf16:
            lines.append(f"  in bf16         {', '.join(self.bf16)}")
        lines.append(
            f"  size            {_mb(self.bytes_before)} -> {_mb(self.bytes_after)} MB, "
            f"{self.bytes_before / max(self.bytes_after, 1):.1f} times as small"
        )
        if self.speedup is not None and self.seconds_before and self.seconds_after:
            is_slower = self.speedup < 1
            ratio = 1 / self.speedup if is_slower else self.speedup
            lines.append(
                f"  an image        {self.seconds_before * 1e3:.1f} -> "
                f"{self.seconds_after * 1e3:.1f} ms, {ratio:.1f} times as "
                f"{'slow' if is_slower else 'fast'}"
            )
            if is_slower:
                lines.append(
                    "  int8 is slower than f32 on this processor; it pays where there is VNNI"
                )
        shown = self.layers if layers else self.worst()
        title = "layers" if layers else "the layers with the most noise"
        rows = [(layer.name, _decibels(layer.snr_db)) for layer in shown]
        table = text_table([(title, "signal to noise"), *rows], left=1)
        return "\n".join([*lines, "", table])

    def __str__(self) -> str:
        return self.text()


def report(before: HasLoaded, after: HasLoaded, images: Any, *, rounds: int = _ROUNDS) -> Report:
    """Compare a quantised network with the f32 network that it was made of.

    Args:
        before: the f32 model.
        after: the quantised model.
        images: to compare on, as `ResNet.quantize` takes them.
        rounds: forwards to time, of which the fastest counts; 0 measures no time.

    Raises:
        ImageError, OSError, TypeError, ValueError: as `ResNet.quantize` does.
    """
    calibration = CalibrationImages(before.loaded, images)
    alone = [image[None] for batch in calibration.batches() for image in batch]
    return report_on(before, after, alone, rounds=rounds)


def report_on(
    before: HasLoaded, after: HasLoaded, images: Sequence[Batch], *, rounds: int = _ROUNDS
) -> Report:
    """As `report`, on inputs `[1, height, width, channels]` of the network."""
    old, new = before.loaded.network, after.loaded.network
    names = [name for name in new.layer_names if name in set(old.layer_names)]
    signal, noise = np.zeros(len(names)), np.zeros(len(names))
    logits: tuple[list[Any], list[Any]] = ([], [])
    for x in images:
        # Image by image: the outputs of all layers of a batch would need much memory.
        pairs = zip(old.features(x, names), new.features(x, names), strict=True)
        for place, (expected, found) in enumerate(pairs):
            wide = expected.astype(np.float64)
            signal[place] += np.square(wide).sum()
            noise[place] += np.square(found - wide).sum()
        logits[0].append(old.logits(x))
        logits[1].append(new.logits(x))
    same = [a.argmax() == b.argmax() for a, b in zip(*logits, strict=True)]
    record = after.loaded.config.quantization or {}
    seconds = _seconds((old, new), images[0], rounds) if rounds else (None, None)
    return Report(
        architecture=before.loaded.config.architecture,
        method=record.get("method"),
        calibration_images=record.get("images"),
        images=len(images),
        agreement=float(np.mean(same)) if old.num_classes else None,
        relative_error=relative_error(logits[1], logits[0]),
        layers=tuple(
            LayerError(name, ratio_in_decibels(s, n))
            for name, s, n in zip(names, signal, noise, strict=True)
        ),
        bytes_before=_bytes(before),
        bytes_after=_bytes(after),
        seconds_before=seconds[0],
        seconds_after=seconds[1],
        calibration_skipped=record.get("skipped", 0),
        bf16=tuple(record.get("bf16", ())),
    )


def _seconds(networks: tuple[Network, Network], x: Batch, rounds: int) -> tuple[float, float]:
    """The fastest forward of each, taking turns, so that both meet the same machine."""
    best = [math.inf, math.inf]
    for network in networks:
        network.logits(x)
    for _ in range(rounds):
        for place, network in enumerate(networks):
            start = time.perf_counter()
            network.logits(x)
            best[place] = min(best[place], time.perf_counter() - start)
    return best[0], best[1]


def _bytes(model: HasLoaded) -> int:
    return sum(tensor.nbytes for tensor in model.loaded.tensors().values())


def _counted(images: int | None) -> str:
    return "unknown images" if images is None else plural(images, "image")


def _left_out(skipped: int) -> str:
    return f"; {plural(skipped, 'image')} could not be read" if skipped else ""


def _mb(count: int) -> str:
    return f"{count / 1e6:.1f}"


def _decibels(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} dB"
