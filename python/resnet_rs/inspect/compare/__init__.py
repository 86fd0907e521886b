"""Comparison of two networks, step by step, to find the first wrong number.

`resnet_rs.compare` and `resnet-rs compare` are made of these files:

- `sides.py`: models, torch modules, dumps and traces behind one interface;
- `steps.py`: the comparison itself;
- `diagnose.py`: the likely mistake. It computes a `segment.py` of the network again under each of
  the `hypotheses.py`, which come from `mistakes.py`, `inputs.py` and `arrangements.py`;
- `table.py`: the result.
"""

from ..dumps import Dump, DumpError, write_dump
from .diagnose import Diagnosis
from .steps import compare
from .table import Comparison, Row

__all__ = ["Comparison", "Diagnosis", "Dump", "DumpError", "Row", "compare", "write_dump"]
