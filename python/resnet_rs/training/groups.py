"""Groups of parameters: those that are frozen, learn slowly, or do not decay."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

BACKBONE = "backbone"
"""All layers but the last one."""

NORMS = "norms"
"""All batch norms, which then normalise with their running statistics."""


def frozen_names(
    freeze: str | Iterable[str], names: Sequence[str], norms: frozenset[str]
) -> set[str]:
    """Find the parameters that are frozen.

    Args:
        freeze: `backbone`, `norms`, or prefixes of names such as `conv1` and `layer1.0`; one or
            several.
        names: those of all parameters.
        norms: those of the batch norms among them.

    Raises:
        TypeError: something else than text.
        ValueError: nothing has such a name.
    """
    wanted = [freeze] if isinstance(freeze, str) else list(freeze)
    frozen: set[str] = set()
    for prefix in wanted:
        if not isinstance(prefix, str):
            raise TypeError(f"freeze: expected names (str); got {prefix!r}")
        frozen |= matching("freeze", prefix, names, norms)
    return frozen


def matching(argument: str, prefix: str, names: Sequence[str], norms: frozenset[str]) -> set[str]:
    """The names that a prefix, or the name of a group, means."""
    if prefix == BACKBONE:
        return {name for name in names if not name.startswith("fc.")}
    if prefix == NORMS:
        return set(norms)
    found = {name for name in names if name == prefix or name.startswith(f"{prefix}.")}
    if not found:
        tops = sorted({name.split(".")[0] for name in names})
        raise ValueError(
            f"{argument}: expected {BACKBONE}, {NORMS}, or the beginning of a parameter's name, "
            f"such as {', '.join(tops)} or layer1.0; found {prefix!r}"
        )
    return found


def step_groups(
    names: Sequence[str],
    norms: frozenset[str],
    lr_scales: Mapping[str, float],
    *,
    decay_norms: bool,
) -> list[tuple[str, float, bool]]:
    """The factor of the learning rate of each parameter, and True if it decays.

    Of several prefixes that match a name, the longest counts, and `backbone` before them all.
    """
    factors = dict.fromkeys(names, 1.0)
    order = sorted(lr_scales, key=lambda prefix: (prefix not in (BACKBONE, NORMS), len(prefix)))
    for prefix in order:
        for name in matching("lr_scales", prefix, names, norms):
            factors[name] = float(lr_scales[prefix])
    return [
        (name, factors[name], decay_norms or not (name in norms or name.endswith(".bias")))
        for name in names
    ]
