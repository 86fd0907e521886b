"""The method that measures where a model's time goes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import arguments
from ..inference import PROFILE_ROUNDS, Inference

if TYPE_CHECKING:
    from ..images.decode import ImageLike
    from .profile import Profile


class Profiling(Inference):
    """The part of `ResNet` that measures its layers; not for use by itself."""

    def profile(
        self,
        images: ImageLike | list[Any] | tuple[Any, ...] | NDArray[np.float32],
        rounds: int = PROFILE_ROUNDS,
        *,
        detail: bool = False,
    ) -> Profile:
        """Measure where the time of a forward goes: a table of every layer.

        The environment variable `RESNET_RS_PROFILE=1`, set when a model is made, prints the same
        table to stderr after the model's first call at each input shape.

        Args:
            images: one image or several, as the class describes, or what `forward` takes. They
                run as one batch, so they must have one size after preprocessing.
            rounds: how often to run them, after a run that is not counted; times are medians over
                the faster half.
            detail: give a row to every step of the plan. Otherwise a Winograd layer's steps (the
                input's transform, the products, the output's transform) are one row.

        Returns:
            A `resnet_rs.inspect.profile.Profile`: print it, or read its `rows`.

        Raises:
            ImageError, OSError, TypeError, ValueError: as `preprocess` or `forward` does; also
                for `rounds` below 1.

        Example:
            ```python
            from resnet_rs import ResNet50

            print(ResNet50("weights").profile("photo.jpg"))
            ```
        """
        from .profile import measure_profile

        rounds = arguments.count("rounds", rounds)
        detail = arguments.flag("detail", detail)
        x = self._input_of(images)
        return measure_profile(self.loaded.network, x, rounds=rounds, detail=detail)

    def _input_of(self, images: Any) -> NDArray[np.float32]:
        """What `forward` takes: made of images, or `images` itself where it is such an array."""
        if isinstance(images, np.ndarray) and images.dtype == np.float32:
            return arguments.network_input(images, self.loaded.config.in_channels)
        return self.preprocess(images)


def wants_profiles() -> bool:
    """Whether `RESNET_RS_PROFILE` asks for profiles.

    Raises:
        ValueError: it is neither empty, 0 nor 1.
    """
    wish = os.environ.get("RESNET_RS_PROFILE", "")
    if wish not in ("", "0", "1"):
        raise ValueError(
            f"RESNET_RS_PROFILE must be 1 (print each input shape's profile) or 0; got {wish!r}"
        )
    return wish == "1"
