"""The network of a run: made for its photos, with a recipe whose choices are complete."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..datasets.errors import DataError
from ..datasets.labelled import Labelled
from ..datasets.loader import measuring
from ..images.spec import Preprocessing
from .recipe import Recipe
from .start import has_new_head, is_architecture, open_weights
from .trainer import Trainer


def network_for(
    photos: Labelled,
    weights: Any,
    recipe: Recipe,
    *,
    zero_last: bool,
    threads: int | None,
    isa: str | None,
) -> tuple[Trainer, Recipe]:
    """Make the network that learns the classes of photos.

    Args:
        photos: the photos to learn from.
        weights: as for `train`, like the other arguments.
        recipe: the choices of the caller.
        zero_last: see `weights`.
        threads: see `weights`.
        isa: see `weights`.

    Returns:
        The network, and the recipe with all defaults.

    Raises:
        DataError: the photos have other channels than the weights.
        FileNotFoundError, WeightsError, TypeError, ValueError: as for `Trainer`.
    """
    fresh = is_architecture(weights)
    found = photos.images.shape[3] if isinstance(photos.images, np.ndarray) else None
    variant = {"in_channels": found} if fresh and found not in (None, 3) else {}

    def make(recipe: Recipe, preprocessing: Preprocessing | None) -> Trainer:
        assert recipe.lr is not None
        assert recipe.weight_decay is not None
        assert recipe.backbone_lr is not None
        return Trainer(
            weights,
            labels=photos.classes,
            seed=recipe.seed,
            preprocessing=preprocessing,
            variant=variant,
            zero_last=zero_last,
            optimizer=recipe.optimizer,
            lr=recipe.lr,
            momentum=recipe.momentum,
            nesterov=recipe.optimizer == "sgd" and recipe.momentum > 0,
            weight_decay=recipe.weight_decay,
            clip_norm=recipe.clip_norm,
            average=recipe.average,
            label_smoothing=recipe.label_smoothing,
            lr_scales={"backbone": recipe.backbone_lr} if recipe.backbone_lr != 1 else {},
            threads=threads,
            isa=isa,
            precision=recipe.precision,
        )

    if fresh:
        complete = recipe.completed(fresh=True, new_head=True, size=None)
        channels = variant.get("in_channels", 3)
        return make(complete, _preprocessing(complete, channels, None)), complete
    loaded = open_weights(weights)
    weights = _Holder(loaded)
    channels = loaded.config.in_channels
    if found not in (None, channels):
        hint = ": repeat them, images.repeat(3, axis=-1)" if (found, channels) == (1, 3) else ""
        raise DataError(
            f"expected photos of {channels} channels, as the weights have; found {found}{hint}"
        )
    own = loaded.config.preprocessing
    height, width = own.input_size
    size = height if height == width else None
    complete = recipe.completed(
        fresh=False, new_head=has_new_head(loaded.config, photos.classes), size=size
    )
    own_size = complete.size == size and own.has_one_size
    spec = own if own_size else _preprocessing(complete, channels, own)
    return make(complete, spec), complete


@dataclass(frozen=True)
class _Holder:
    """A loaded network, in the form that a trainer takes."""

    loaded: Any


def _preprocessing(recipe: Recipe, channels: int, own: Preprocessing | None) -> Preprocessing:
    assert recipe.size is not None
    if own is None:
        return measuring(recipe.size, channels=channels)
    return measuring(recipe.size, channels=channels, mean=own.mean, std=own.std)
