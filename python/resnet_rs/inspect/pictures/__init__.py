"""Pictures of a network: class activation maps, feature maps, filters.

```python
from resnet_rs import ResNet50
from resnet_rs.inspect.pictures import explain, feature_grid, stem_filters

model = ResNet50("weights")
explain(model, "photo.jpg").savefig("explained.png")
feature_grid(model, "photo.jpg", "layer2.0").savefig("maps.png")
stem_filters(model).savefig("filters.png")
```

Each function returns a matplotlib figure. `pip install "resnet_rs[pictures]"` installs matplotlib.
`activation_maps` gives the numbers behind `explain` and works without it.
"""

from .activation import ActivationMap, activation_maps
from .explanation import explain
from .grids import feature_grid, stem_filters

__all__ = ["ActivationMap", "activation_maps", "explain", "feature_grid", "stem_filters"]
