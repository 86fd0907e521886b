"""Libraries that only some formats need: optional dependencies of this package."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any


def require_extra(module: str, path: Path, extra: str) -> Any:
    """Import a module of an optional dependency.

    Args:
        module: its name.
        path: the file that it reads, for the message.
        extra: the extra of this package that installs it.

    Raises:
        ImportError: it is not installed; the message says what to run.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ImportError(
            f'{path}: this format needs {package}: pip install "resnet_rs[{extra}]"', name=package
        ) from error
