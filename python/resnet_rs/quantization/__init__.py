"""Networks in 8 bits: int8 weights, scales from calibration images, a report of what it costs.

```python
from resnet_rs import ResNet50

model = ResNet50("weights")
small = model.quantize("photos/")  # a ResNet50 with int8 weights
small.save("weights-int8")
```

Read it in this order: `images.py` (what calibrates), `statistics.py` and `histogram.py` (what the
f32 network gives for it), `clipping.py` (the range of each layer's 8 bits), `weights.py` (the
tensors), `trial.py` (the choice of `auto`), `quantize.py` (all together), `report.py` (what became
worse, and how much smaller and faster it is). The arithmetic itself is in
`resnet_rs.reference.int8`.
"""

from .clipping import METHODS
from .options import options_of_quantized
from .quantize import Quantized, quantize
from .report import LayerError, Report, report

__all__ = [
    "METHODS",
    "LayerError",
    "Quantized",
    "Report",
    "options_of_quantized",
    "quantize",
    "report",
]
