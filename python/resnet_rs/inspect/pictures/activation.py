"""Class activation maps: which places of a photo speak for a class, and how much.

A ResNet ends with an average over the last feature map and a matrix product:

    mean[channel] = mean over cells of map[cell, channel]
    logit[class]  = sum over channels of mean[channel] * weight[class, channel]  +  bias[class]

Do the product before the mean, and each cell has a number of its own: the sum over channels.
Those numbers are the class activation map (Zhou et al., "Learning Deep Features for
Discriminative Localization", 2016). Nothing is approximated: their mean plus the bias is the
logit.

A small input leaves few cells: 64 x 64 pixels leave 2 x 2. Then the photo is also shown to the
network moved by a few pixels at a time, its edges repeated, and the cells of all those maps are put
where they lie. The mean of the whole is then the mean of the logits over the moved photos.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .geometry import stride

if TYPE_CHECKING:
    from ...images.decode import ImageLike
    from ...model import ResNet

# A map with as many cells along its shorter side is fine enough by itself: 224 pixels leave 7.
_ENOUGH_CELLS = 7
_ENOUGH_WITH_SHIFTS = 16
# How many pixels go through the network at once.
_CHUNK_PIXELS = 16 * 224 * 224


@dataclass(frozen=True)
class ActivationMap:
    """What speaks for one class, and where.

    Attributes:
        index: the class.
        label: its name.
        values: `[rows, columns]` float32, in logits; their mean plus `bias` is `logit`.
        rows: the cells' places along the height, as shares of the crop's height.
        columns: the same along the width.
        cell: the height and width of one of the network's cells, as such shares.
        bias: the last layer's, which belongs to no place.
        logit: the class's logit, the mean over the shifts.
        shifts: how many places the photo was moved to along each side; 1 is the photo as it is.
    """

    index: int
    label: str
    values: NDArray[np.float32]
    rows: NDArray[np.float64]
    columns: NDArray[np.float64]
    cell: tuple[float, float]
    bias: float
    logit: float
    shifts: int


def activation_maps(
    model: ResNet, image: ImageLike, classes: Sequence[int], *, shifts: int | None = None
) -> list[ActivationMap]:
    """Compute the class activation maps of one image.

    Args:
        model: any network of the family with a last layer.
        image: one image of any kind that `model.predict` takes.
        classes: which classes, by index.
        shifts: how many places the photo is moved to along each side, for a map with so many
            times as many cells; 1 moves nothing. By default 1 where the map has 7 x 7 cells or
            more, else as many as give about 16 x 16.

    Returns:
        A map for each class, in that order.

    Raises:
        ImageError, OSError, TypeError: as `model.predict` does.
        ValueError: as `model.predict` does; also where there is no last layer, and for a class or
            a number of shifts that cannot be.
    """
    bias = _head(model).get("fc.bias")
    weights = _head(model)["fc.weight"].astype(np.float32)
    for index in classes:
        if not 0 <= index < len(weights):
            raise ValueError(f"expected classes from 0 to {len(weights) - 1}; got {index}")
    (pixels,) = model._batches([image], True)
    height, width = pixels.shape[1:3]
    operations = model.loaded.network.operations(height, width)
    cells_y, cells_x, _ = _shape(operations, model.loaded.last_map)
    step_y, step_x = stride(height, cells_y), stride(width, cells_x)
    if shifts is None:
        fewest = min(cells_y, cells_x)
        shifts = 1 if fewest >= _ENOUGH_CELLS else -(-_ENOUGH_WITH_SHIFTS // fewest)
    if not 1 <= shifts <= min(step_y, step_x):
        raise ValueError(
            f"shifts must be from 1 to {min(step_y, step_x)}, the cells' distance in pixels; "
            f"got {shifts}"
        )
    offsets_y, offsets_x = _offsets(step_y, shifts), _offsets(step_x, shifts)
    maps, logits = _run(model, _moved(pixels[0], offsets_y, offsets_x))
    shares = _share_of_each_cell(operations, weights[list(classes)], cells_y, cells_x)
    found = []
    for index, share in zip(classes, shares, strict=True):
        values = np.einsum("nyxc,yxc->nyx", maps, share) * (cells_y * cells_x)
        # n counts the shifts of y and x; a shift's cells go between those of the other shifts.
        grid = values.reshape(shifts, shifts, cells_y, cells_x).transpose(2, 0, 3, 1)
        found.append(
            ActivationMap(
                index=index,
                label=model.labels[index],
                values=grid.reshape(cells_y * shifts, cells_x * shifts),
                rows=_places(cells_y, step_y, offsets_y, height),
                columns=_places(cells_x, step_x, offsets_x, width),
                cell=(step_y / height, step_x / width),
                bias=0.0 if bias is None else float(bias[index]),
                logit=float(logits[:, index].mean(dtype=np.float64)),
                shifts=shifts,
            )
        )
    return found


def _head(model: ResNet) -> dict[str, NDArray[Any]]:
    """The last layer's tensors."""
    tensors = model.loaded.tensors()
    if model.config.num_classes == 0 or "fc.weight" not in tensors:
        raise ValueError("this network has no last layer (num_classes=0), so there are no classes")
    return {name: tensors[name] for name in ("fc.weight", "fc.bias") if name in tensors}


def _shape(operations: Sequence[dict[str, Any]], name: str) -> tuple[int, int, int]:
    height, width, channels = next(
        operation["output_shape"] for operation in operations if operation["name"] == name
    )
    return height, width, channels


def _offsets(step: int, shifts: int) -> list[int]:
    """By how many pixels the crop is moved: evenly over a cell, and 0 among them."""
    return [round((k - shifts // 2) * step / shifts) for k in range(shifts)]


def _moved(
    pixels: NDArray[np.uint8], offsets_y: list[int], offsets_x: list[int]
) -> NDArray[np.uint8]:
    """The crop moved down and right by each pair of offsets, its edges repeated: `[n, h, w, c]`."""
    height, width = pixels.shape[:2]
    rows = [np.clip(np.arange(height) + offset, 0, height - 1) for offset in offsets_y]
    columns = [np.clip(np.arange(width) + offset, 0, width - 1) for offset in offsets_x]
    return np.stack([pixels[y][:, x] for y in rows for x in columns])


def _run(
    model: ResNet, pixels: NDArray[np.uint8]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The last feature map and the logits of each image, a few images at a time."""
    size = max(1, _CHUNK_PIXELS // (pixels.shape[1] * pixels.shape[2]))
    maps, logits = [], []
    for start in range(0, len(pixels), size):
        chunk = np.ascontiguousarray(pixels[start : start + size])
        maps += model.loaded.network.features(chunk, [model.loaded.last_map])
        logits.append(model.loaded.network.logits(chunk))
    return np.concatenate(maps), np.concatenate(logits)


def _share_of_each_cell(
    operations: Sequence[dict[str, Any]],
    weights: NDArray[np.float32],
    cells_y: int,
    cells_x: int,
) -> NDArray[np.float32]:
    """How much a channel of a cell adds to each logit: `[classes, cells_y, cells_x, channels]`."""
    pool = next(operation for operation in operations if operation["name"] == "avgpool")
    if pool["kind"] == "global_avg_pool":
        flat = weights[:, None, None] / np.float32(cells_y * cells_x)
        return np.broadcast_to(flat, (len(weights), cells_y, cells_x, weights.shape[1]))
    # A pool with a window, and a weight for each of its cells: torch's order is channels first.
    pooled_y, pooled_x, channels = pool["output_shape"]
    placed = weights.reshape(len(weights), channels, pooled_y, pooled_x).transpose(0, 2, 3, 1)
    kernel, step, padding = pool["kernel"], pool["stride"], pool["padding"]
    share = np.zeros((len(weights), cells_y, cells_x, channels), np.float32)
    for y in range(pooled_y):
        for x in range(pooled_x):
            # Cells outside the map are zeros that count in the mean.
            top, left = y * step - padding, x * step - padding
            window = (
                slice(max(top, 0), max(top + kernel, 0)),
                slice(max(left, 0), max(left + kernel, 0)),
            )
            share[:, window[0], window[1]] += placed[:, y : y + 1, x : x + 1] / kernel**2
    return share


def _places(cells: int, step: int, offsets: list[int], side: int) -> NDArray[np.float64]:
    """Where the cells lie along a side, as shares of it.

    Every layer pads its windows evenly, so a cell's window is centred on the pixel `step` times
    its index, and the first cell lies on the first pixel and not half a step inside.
    """
    pixels = [cell * step + offset + 0.5 for cell in range(cells) for offset in offsets]
    return np.array(pixels) / side
