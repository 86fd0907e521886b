"""The one file that the tests' server has, in place of torchvision's."""

from __future__ import annotations

import hashlib
from pathlib import Path

from resnet_rs.weights.pretrained import TorchvisionWeights

# Long enough for several blocks, and no whole number of them.
CONTENT = bytes(range(256)) * 12_345 + b"end"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
ROW = TorchvisionWeights("resnet50", "IMAGENET1K_V2", SHA256[:8], 3.0, 1, 80.0, 95.0, 232)
PATH = f"/{ROW.file}"
# How much `huggingface_hub` reads at once in these tests: a cut loses less than this.
HUB_BLOCK_BYTES = 1 << 16


def visible(folder: Path) -> list[str]:
    """The names in a folder, without the hidden ones."""
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
