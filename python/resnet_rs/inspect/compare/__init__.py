"""Two networks side by side, step by step, until the first wrong number is found.

`resnet_rs.compare` and `resnet-rs compare` are made here:

- `sources.py`: models, torch modules, dumps and traces, all seen the same way;
- `dumps.py`: the `.npz` convention for results of any implementation;
- `steps.py`: the comparison itself;
- `diagnose.py`: what mistake it looks like, by computing the `segment.py` where it must be under
  all `hypotheses.py`, which are made of `mistakes.py`, `inputs.py` and `arrangements.py`;
- `table.py`: what comes out.
"""

from ..dumps import Dump, DumpError, write_dump
from .diagnose import Diagnosis
from .steps import compare
from .table import Comparison, Row

__all__ = ["Comparison", "Diagnosis", "Dump", "DumpError", "Row", "compare", "write_dump"]
