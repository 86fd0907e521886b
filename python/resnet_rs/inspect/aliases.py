"""Further names of operations: those of torchvision's and timm's modules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def aliases(operations: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Map the further names that torchvision's and timm's modules have to operations' names."""
    names = {operation["name"] for operation in operations}
    found: dict[str, str] = {}
    for operation in operations:
        name: str = operation["name"]
        parts = name.split(".")
        if name.startswith("layer") and len(parts) == 2:  # a block: its last ReLU
            found[parts[0]] = name
            found[f"{name}.relu"] = name
            last_inner = sum(f"{name}.relu{i}" in names for i in (1, 2, 3))
            found[f"{name}.act{last_inner + 1}"] = name
        elif name.startswith("layer") and parts[2].startswith("relu"):
            found[name.replace("relu", "act")] = name
        elif name.startswith("layer") and parts[2] == "downsample":
            block = f"{parts[0]}.{parts[1]}"
            found[f"{block}.downsample"] = found[f"{block}.shortcut"] = name
            if parts[3:] == ["1"] and operation["kind"] == "conv":
                # A stage of stride 1 pools nothing: its `downsample.0` hands the input on.
                pool = name.removesuffix("1") + "0"
                if pool not in names:
                    found[pool] = operation["inputs"][0]
        elif parts[0] == "conv1" and len(parts) == 2:
            found["conv1"] = name
        elif name == "relu":
            found["act1"] = name
        elif name == "avgpool":
            found["global_pool"] = name
        found[""] = name
    return {alias: name for alias, name in found.items() if alias not in names}
