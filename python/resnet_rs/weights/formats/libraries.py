"""Libraries that read parts of a format: optional ones, and the errors of all of them."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..._core import WeightsError


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
        raise ImportError(
            f'{path}: this format needs {module}: pip install "resnet_rs[{extra}]"', name=module
        ) from error


@contextlib.contextmanager
def library_errors(expected: str) -> Iterator[None]:
    """Turn whatever a library raises about a damaged file into a `WeightsError`.

    Damage that it does not foresee shows as any exception: an assertion, a struct.error, an
    IndexError, a MemoryError.

    Args:
        expected: what the file is not, for the message.
    """
    try:
        yield
    except WeightsError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".removesuffix(": ")[:200]
        raise WeightsError(f"{expected}, or one that is damaged or cut off: {reason}") from None
