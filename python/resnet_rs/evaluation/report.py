"""An evaluation as text, as plain values and as JSON."""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np

from ..terminal.tables import plural, text_table
from ..terminal.visible import visible
from .figures import Figures, Mistake

# A table of more classes than this lists the worst ones only, and there is no matrix.
_MOST_CLASSES = 30
_MATRIX_CLASSES = 20
_MATRIX_LETTERS = 60
_PAIRS = 10


def as_dict(evaluation: Figures, mistakes: int | None = None) -> dict[str, Any]:
    """Make plain values of an evaluation, as `Evaluation.to_dict` describes."""
    one = evaluation
    return {
        "images": one.count,
        "correct": one.correct,
        "top1": one.top1,
        "top5": one.top5,
        "loss": one.loss,
        "calibration_error": one.calibration_error,
        "activation": one.activation,
        "macro": {
            "precision": one.macro_precision,
            "recall": one.macro_recall,
            "f1": one.macro_f1,
        },
        "classes": [
            {
                "label": name,
                "images": int(one.support[index]),
                "precision": float(one.precision[index]),
                "recall": float(one.recall[index]),
                "f1": float(one.f1[index]),
            }
            for index, name in enumerate(one.classes)
        ],
        "confusion": one.confusion.tolist(),
        "mistakes": [
            {
                "index": mistake.index,
                "image": image_name(mistake.image),
                "label": one.classes[mistake.label],
                "predicted": one.classes[mistake.predicted],
                "score": mistake.score,
                "label_score": mistake.label_score,
            }
            for mistake in one.mistakes(mistakes)
        ],
        "skipped": [
            {"image": image_name(skipped.image), "reason": skipped.reason}
            for skipped in one.skipped
        ],
        "remarks": list(one.remarks),
    }


def as_json(evaluation: Figures, mistakes: int | None = None) -> str:
    """Write an evaluation as JSON, as `Evaluation.to_json` describes."""
    fields = []
    for name, value in as_dict(evaluation, mistakes).items():
        text = json.dumps(value)
        if isinstance(value, list) and value:
            items = ",\n".join(f"    {json.dumps(item)}" for item in value)
            text = f"[\n{items}\n  ]"
        fields.append(f"  {json.dumps(name)}: {text}")
    return "{\n" + ",\n".join(fields) + "\n}\n"


def as_text(evaluation: Figures, mistakes: int = 10) -> str:
    """Write an evaluation for a terminal, as `Evaluation.text` describes."""
    parts = [_totals(evaluation), _class_table(evaluation)]
    if evaluation.correct < evaluation.count:
        many = len(evaluation.occurring) > _MATRIX_CLASSES
        parts.append(_pairs(evaluation) if many else _matrix(evaluation))
    if worst := evaluation.mistakes(mistakes):
        parts.append(_mistake_table(evaluation, worst))
    if evaluation.skipped:
        lines = [f"{image_name(one.image)}: {one.reason}" for one in evaluation.skipped]
        parts.append("\n  ".join(["not read, and left out:", *map(visible, lines)]))
    parts.extend(f"note: {visible(remark)}" for remark in evaluation.remarks)
    return "\n\n".join(parts)


def image_name(image: Any) -> str | None:
    """Name an image: its path, if it has one; None for an array and other data."""
    return os.fsdecode(image) if isinstance(image, (str, os.PathLike)) else None


def percent(share: float) -> str:
    """Write a share between 0 and 1 in percent, with two decimals."""
    return f"{share:.2%}"


def _totals(evaluation: Figures) -> str:
    one = evaluation
    rows = [
        ["images", str(one.count), ""],
        ["top-1", percent(one.top1), f"({one.correct} of {one.count})"],
    ]
    if one.skipped:
        rows.insert(1, ["not read", str(len(one.skipped)), ""])
    if len(one.classes) > 5:
        rows.append(["top-5", percent(one.top5), ""])
    if one.loss is not None:
        rows.append(["loss", f"{one.loss:.4f}", ""])
    if one.calibration_error is not None:
        rows.append(["calibration error", f"{one.calibration_error:.4f}", ""])
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    return "\n".join(
        f"{name.ljust(widths[0])}  {value.rjust(widths[1])}  {more}".rstrip()
        for name, value, more in rows
    )


def _class_table(evaluation: Figures) -> str:
    one = evaluation
    chosen = one.occurring
    heading = ""
    if len(chosen) > _MOST_CLASSES:
        order = np.argsort(one.f1[chosen], kind="stable")[:_MOST_CLASSES]
        heading = f"the {_MOST_CLASSES} of {len(chosen)} classes with the lowest F1:\n"
        chosen = chosen[order]
    rows = [["class", "images", "precision", "recall", "F1"]]
    for index in chosen.tolist():
        shares = (one.precision[index], one.recall[index], one.f1[index])
        rows.append([one.classes[index], str(one.support[index]), *map(percent, shares)])
    means = (one.macro_precision, one.macro_recall, one.macro_f1)
    rows.append(["mean", str(one.count), *map(percent, means)])
    table = text_table(rows, left=1)
    absent = len(one.classes) - len(one.occurring)
    if absent:
        table += f"\n({plural(absent, 'class', 'classes')} without images and answers left out)"
    return heading + table


def _matrix(evaluation: Figures) -> str:
    """Draw the confusion matrix of the classes that occur; a dot is a 0."""
    one = evaluation
    chosen = one.occurring.tolist()
    names = [one.classes[index] for index in chosen]
    # Long names would make columns too wide, so numbers stand for them.
    numbered = sum(map(len, names)) > _MATRIX_LETTERS
    rows = [["", *(map(str, chosen) if numbered else names)]]
    for index, name in zip(chosen, names, strict=True):
        counts = one.confusion[index, chosen].tolist()
        rows.append(
            [
                f"{index} {name}" if numbered else name,
                *(str(count) if count else "." for count in counts),
            ]
        )
    return "confusion matrix (rows: labels, columns: answers):\n" + text_table(rows, left=1)


def _pairs(evaluation: Figures) -> str:
    """List the most frequent confusions."""
    one = evaluation
    wrong = one.confusion.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:_PAIRS]
    rows = [["label", "answer", "images"]]
    for place in order.tolist():
        label, answer = divmod(place, len(one.classes))
        if wrong[label, answer]:
            names = [one.classes[label], one.classes[answer]]
            rows.append([*names, str(wrong[label, answer])])
    return "the most frequent confusions:\n" + text_table(rows, left=2)


def _mistake_table(evaluation: Figures, mistakes: list[Mistake]) -> str:
    one = evaluation
    total = one.count - one.correct
    heading = f"{plural(total, 'mistake')}, the most confident first"
    if len(mistakes) < total:
        heading += f" (the first {len(mistakes)})"
    rows = [["answer", "score", "label", "score", "image"]]
    for mistake in mistakes:
        rows.append(
            [
                one.classes[mistake.predicted],
                _score(mistake.score, one.activation),
                one.classes[mistake.label],
                _score(mistake.label_score, one.activation),
                image_name(mistake.image) or f"image {mistake.index}",
            ]
        )
    return f"{heading}:\n" + _columns(rows)


def _score(score: float, activation: str) -> str:
    return f"{score:.4g}" if activation == "none" else percent(score)


def _columns(rows: list[list[str]]) -> str:
    """Lay the mistakes out: scores aligned right, everything else left."""
    rows = [[visible(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if place in (1, 3) else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
