"""Class activation maps: how much each place of a photo speaks for a class.

A ResNet ends with an average over the last feature map and a matrix product:

    mean[channel] = mean over cells of map[cell, channel]
    logit[class]  = sum over channels of mean[channel] * weight[class, channel]  +  bias[class]

If the product comes before the mean, each cell has a number of its own: the sum over channels.
These numbers are the class activation map (Zhou et al., "Learning Deep Features for Discriminative
Localization", 2016). They are exact: their mean plus the bias is the logit. If the network ends
with a maximum in place of the average, a channel counts at the place of its largest value only.

A small input has few cells: 64 x 64 pixels give 2 x 2. For such an input the network also sees the
photo moved by a few pixels at a time, with its edges repeated, and the cells of all these maps are
put at their places. The mean of the whole map, plus the bias, is then the mean of the logits over
the moved photos.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...images.preprocess import load_pixels
from ...weights.loaded import HasLoaded, Loaded, real_weights
from .geometry import stride

if TYPE_CHECKING:
    from ...images.decode import ImageLike

# A map with this many cells along its shorter side needs no shifts: 224 pixels give 7 cells.
_ENOUGH_CELLS = 7
_ENOUGH_WITH_SHIFTS = 16
# The number of pixels that go through the network at once.
_CHUNK_PIXELS = 16 * 224 * 224


@dataclass(frozen=True)
class ActivationMap:
    """The evidence for one class at each place of a photo.

    Attributes:
        index: the class.
        label: the class's name.
        values: `[rows, columns]` float32, in logits; their mean plus `bias` is `logit`.
        rows: the cells' places along the height, as fractions of the crop's height.
        columns: the cells' places along the width, as fractions of the crop's width.
        cell: the height and width of one of the network's cells, as such fractions.
        bias: the last layer's bias, which belongs to no place.
        logit: the class's logit, the mean over the shifts.
        shifts: the number of places that the photo was moved to along each side; 1 means that it
            was not moved.
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
    model: HasLoaded, image: ImageLike, classes: Sequence[int], *, shifts: int | None = None
) -> list[ActivationMap]:
    """Compute the class activation maps of one image.

    Args:
        model: any network of the family with a last layer.
        image: one image of any kind that `model.predict` takes.
        classes: the indices of the classes.
        shifts: the number of places that the photo is moved to along each side, so that each side
            of the map has that many times as many cells; 1 moves nothing. The default is 1 if the
            map has 7 x 7 cells or more, otherwise the number that gives about 16 x 16.

    Returns:
        A map for each class, in that order.

    Raises:
        ImageError, OSError, TypeError: as `model.predict` does.
        ValueError: as `model.predict` does; also for a network without a last layer, and for a
            class or a number of shifts out of range.
    """
    loaded = model.loaded
    head = last_layer(loaded)
    bias = head.get("fc.bias")
    weights = head["fc.weight"].astype(np.float32)
    for index in classes:
        if not 0 <= index < len(weights):
            raise ValueError(f"expected classes from 0 to {len(weights) - 1}; got {index}")
    config = loaded.config
    pixels = load_pixels(image, config.preprocessing, config.in_channels, loaded.options)
    height, width = pixels.shape[:2]
    operations = loaded.network.operations(height, width)
    cells_y, cells_x, _ = _shape(operations, loaded.last_map)
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
    maps, logits = _run(loaded, _moved(pixels, offsets_y, offsets_x))
    if _pool(operations)["kind"] == "global_max_pool":
        maps = _largest_only(maps)
    shares = _share_of_each_cell(operations, weights[list(classes)], cells_y, cells_x)
    found = []
    for index, share in zip(classes, shares, strict=True):
        values = np.einsum("nyxc,yxc->nyx", maps, share) * (cells_y * cells_x)
        # n counts the shifts of y and x; the cells of a shift go between those of the others.
        grid = values.reshape(shifts, shifts, cells_y, cells_x).transpose(2, 0, 3, 1)
        found.append(
            ActivationMap(
                index=index,
                label=loaded.labels[index],
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


def last_layer(loaded: Loaded) -> dict[str, NDArray[Any]]:
    """Read the tensors of the last layer: `fc.weight`, and `fc.bias` if there is one.

    Raises:
        ValueError: the network has no last layer.
    """
    tensors = loaded.tensors()
    if loaded.config.num_classes == 0 or "fc.weight" not in tensors:
        raise ValueError("this network has no last layer (num_classes=0), so there are no classes")
    weights = {"fc.weight": real_weights(tensors, "fc.weight")}
    return {**weights, **({"fc.bias": tensors["fc.bias"]} if "fc.bias" in tensors else {})}


def _shape(operations: Sequence[dict[str, Any]], name: str) -> tuple[int, int, int]:
    height, width, channels = next(
        operation["output_shape"] for operation in operations if operation["name"] == name
    )
    return height, width, channels


def _offsets(step: int, shifts: int) -> list[int]:
    """List the distances in pixels to move the crop by: evenly over a cell, 0 among them."""
    return [round((k - shifts // 2) * step / shifts) for k in range(shifts)]


def _moved(
    pixels: NDArray[np.uint8], offsets_y: list[int], offsets_x: list[int]
) -> NDArray[np.uint8]:
    """Move the crop by each pair of offsets, its edges repeated: `[n, height, width, channels]`."""
    height, width = pixels.shape[:2]
    rows = [np.clip(np.arange(height) + offset, 0, height - 1) for offset in offsets_y]
    columns = [np.clip(np.arange(width) + offset, 0, width - 1) for offset in offsets_x]
    return np.stack([pixels[y][:, x] for y in rows for x in columns])


def _run(
    loaded: Loaded, pixels: NDArray[np.uint8]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Compute the last feature map and the logits of each image, a few images at a time."""
    size = max(1, _CHUNK_PIXELS // (pixels.shape[1] * pixels.shape[2]))
    maps, logits = [], []
    for start in range(0, len(pixels), size):
        chunk = np.ascontiguousarray(pixels[start : start + size])
        maps += loaded.network.features(chunk, [loaded.last_map])
        logits.append(loaded.network.logits(chunk))
    return np.concatenate(maps), np.concatenate(logits)


def _pool(operations: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Find the operation between the last map and fc."""
    return next(operation for operation in operations if operation["name"] == "avgpool")


def _largest_only(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Keep the largest value of each channel at its place, and put 0 at all other places."""
    flat = maps.reshape(len(maps), -1, maps.shape[3])
    places = flat.argmax(axis=1)[:, None]
    kept = np.zeros_like(flat)
    np.put_along_axis(kept, places, np.take_along_axis(flat, places, axis=1), axis=1)
    return kept.reshape(maps.shape)


def _share_of_each_cell(
    operations: Sequence[dict[str, Any]],
    weights: NDArray[np.float32],
    cells_y: int,
    cells_x: int,
) -> NDArray[np.float32]:
    """Compute what each channel of a cell adds to a logit: `[classes, cells_y, cells_x, channels]`.

    A channel's value times its share is what it adds.
    """
    pool = _pool(operations)
    if pool["kind"] == "global_max_pool":
        # The map has one value of each channel, and that counts as it is.
        return np.broadcast_to(
            weights[:, None, None], (len(weights), cells_y, cells_x, weights.shape[1])
        )
    if pool["kind"] == "global_avg_pool":
        flat = weights[:, None, None] / np.float32(cells_y * cells_x)
        return np.broadcast_to(flat, (len(weights), cells_y, cells_x, weights.shape[1]))
    # A pool with a window leaves several places, each with weights of its own, channels first.
    pooled_y, pooled_x, channels = pool["output_shape"]
    placed = weights.reshape(len(weights), channels, pooled_y, pooled_x).transpose(0, 2, 3, 1)
    kernel, step, padding = pool["kernel"], pool["stride"], pool["padding"]
    share = np.zeros((len(weights), cells_y, cells_x, channels), np.float32)
    for y in range(pooled_y):
        for x in range(pooled_x):
            # Cells outside the map are zeros, and count in the mean.
            top, left = y * step - padding, x * step - padding
            window = (
                slice(max(top, 0), max(top + kernel, 0)),
                slice(max(left, 0), max(left + kernel, 0)),
            )
            share[:, window[0], window[1]] += placed[:, y : y + 1, x : x + 1] / kernel**2
    return share


def _places(cells: int, step: int, offsets: list[int], side: int) -> NDArray[np.float64]:
    """Find the places of the cells along a side, as fractions of it.

    Every layer pads its windows evenly, so a cell's window is centred on the pixel `step` times
    its index: the first cell lies on the first pixel and not half a step inside.
    """
    pixels = [cell * step + offset + 0.5 for cell in range(cells) for offset in offsets]
    return np.array(pixels) / side
