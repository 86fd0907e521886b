"""Chooses among several networks in one file by their names, if the names can tell.

A training script keeps a moving average of its network beside the network itself, and contrastive
learning keeps a slow copy of the encoder. In these pairs the trained network is the favourite.
Other networks (student and teacher, base and momentum encoder, online and target, generators) have
no favourite among them, and the caller has to choose.
"""

from __future__ import annotations

from collections.abc import Sequence

TRAINED = frozenset(
    {"model", "state_dict", "model_state_dict", "model_state"}
    | {"net", "network", "module", "weights", "params", ""}
)
"""Names of the network that was trained; "" is one without a name."""

AVERAGES = frozenset(
    {"model_ema", "state_dict_ema", "model_ema_state_dict", "ema", "ema_model", "ema_state_dict"}
    | {"params_ema", "net_ema", "ema_net", "averaged_model", "swa_model"}
)
"""Names of a moving average of its weights."""

_ENCODERS = ("encoder_q", "encoder_k")


def favourite(names: Sequence[str]) -> str | None:
    """Choose among the networks of a file by their names.

    Args:
        names: the networks' names, one at least.

    Returns:
        The only name; or that of the trained network, if every other one is its moving average or
        MoCo's slow copy; else None.
    """
    if len(names) == 1:
        return names[0]
    if sorted(names) == sorted(_ENCODERS):
        return _ENCODERS[0]
    trained = [name for name in names if name not in AVERAGES]
    return trained[0] if len(trained) == 1 and trained[0] in TRAINED else None


def keys_to_pass(keys: Sequence[str], most: int = 6) -> str:
    """Spell arguments that choose: `key='student' or key='teacher'`."""
    shown = " or ".join(f"key={key[:200]!r}" for key in keys[:most])
    return shown if len(keys) <= most else f"{shown} or one of {len(keys) - most} more"
