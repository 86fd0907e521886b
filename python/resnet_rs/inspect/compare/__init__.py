"""Comparison of two networks, step by step, to find the first wrong number.

`resnet_rs.compare` and `resnet-rs compare` are made of these files:

- `sides.py`: models, torch modules, dumps and traces behind one interface;
- `steps.py`: the comparison itself;
- `diagnose.py`: the likely mistake. It computes a `segment.py` of the network again under each of
  the `hypotheses.py`, which come from `mistakes.py`, `inputs.py` and `arrangements.py`;
- `table.py`: the result.

`resnet_rs.compare_step` compares a training step, and shares the result with it:

- `training_step.py`: the comparison;
- `step_values.py`, `step_files.py`: the values of a step from models, torch modules and files;
- `step_diagnosis.py`: the likely mistake, from `step_mistakes.py`, and from wrong
  `backward_formulas.py` that are followed on the `way_back.py`.

`resnet_rs.compare_precision` (`precision.py`) shows where a quantised network loses most against
its f32 network.
"""

from ..dumps import Dump, DumpError, write_dump
from .diagnose import Diagnosis
from .precision import PrecisionLayer, PrecisionLosses, compare_precision
from .steps import compare
from .table import Comparison, Row
from .training_step import compare_step

__all__ = [
    "Comparison",
    "Diagnosis",
    "Dump",
    "DumpError",
    "PrecisionLayer",
    "PrecisionLosses",
    "Row",
    "compare",
    "compare_precision",
    "compare_step",
    "write_dump",
]
