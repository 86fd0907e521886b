"""A copy of the repository's files, as they are now, for tools that change them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CORE = "python/resnet_rs/_core.abi3.so"


def copy_repository(tree: Path) -> None:
    """Copy all files that git does not ignore, and the compiled core, to an empty folder."""
    shutil.rmtree(tree, ignore_errors=True)
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, check=True).stdout.decode()
    for name in (*filter(None, names.split("\0")), CORE):
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)
