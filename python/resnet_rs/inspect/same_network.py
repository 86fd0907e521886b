"""A check that two sets of weights are of one network, so that their results can be compared."""

from __future__ import annotations

from ..weights.loaded import Loaded

_FIELDS = ("architecture", "variant", "num_classes", "in_channels", "preprocessing")


def require_same_network(one: Loaded, other: Loaded) -> None:
    """Check that two networks differ in their precision at most.

    Raises:
        ValueError: they differ in a field of their configs; the message names it.
    """
    for field in _FIELDS:
        first, second = (getattr(loaded.config, field) for loaded in (one, other))
        if first != second:
            raise ValueError(
                f"{other.options.origin}: expected the {field} of {one.options.origin}, "
                f"{first!r}; got {second!r}. Only precisions of one network can be compared"
            )
