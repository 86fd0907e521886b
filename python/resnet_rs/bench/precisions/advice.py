"""The precision that pays on this machine, in a sentence."""

from __future__ import annotations

from collections.abc import Collection, Sequence

MARGIN = 0.03
"""Medians that differ less than this differ by chance."""

FEW_CHANGES = 0.99
"""The part of labels that a precision keeps, at least, to be advised without a warning."""

_NEEDS = {
    "int8": ("VNNI", frozenset({"avxvnni", "avx512vnni", "dotprod", "i8mm"})),
    "bf16": ("bf16 products", frozenset({"avx512bf16", "bf16"})),
}
# The instructions that make a precision fast: their name, and the features that have them.


def advise(rows: Sequence[tuple[str, float, float | None]], features: Collection[str]) -> str:
    """Say which precision pays.

    Args:
        rows: precision, its speed by that of f32, and the part of the labels that are those of f32
            (None if it is not known); f32 first, and at least one other.
        features: the processor's, as `cpu_features` lists them.
    """
    others = rows[1:]
    precision, speedup, agreement = max(others, key=lambda row: row[1])
    if speedup >= 1 + MARGIN:
        return f"{precision} pays here: {speedup:.2f} times as fast as f32{_labels(agreement)}."
    if speedup > 1 - MARGIN:
        return (
            f"{precision} is as fast as f32 here: it pays for its size only"
            f"{_reason(precision, features)}{_labels(agreement)}."
        )
    slower = [
        f"{name} takes {1 / speed:.2f} times as long{_reason(name, features)}"
        for name, speed, _ in others
    ]
    return f"f32 pays here: {', and '.join(slower)}."


def _reason(precision: str, features: Collection[str]) -> str:
    name, fast = _NEEDS.get(precision, ("", frozenset()))
    if not name or fast & set(features):
        return ""
    return f", for this processor has no {name}"


def _labels(agreement: float | None) -> str:
    if agreement is None:
        return ""
    if agreement >= FEW_CHANGES:
        return f", with {agreement:.1%} of the labels the same"
    return (
        f", but {1 - agreement:.1%} of the labels are others: "
        "see with resnet-rs evaluate whether they are worse"
    )
