"""Models that travel: small pickles, and one copy of the weights in each process.

A pickled model is what it was made by (a path, or the bytes of a weights file), the arguments, and
the SHA-256 of the files; never the packed network, whose form depends on the machine's
instructions. The tier and the number of threads are not in it either unless they were asked for,
so that a model takes what its new machine has.

Where it is restored, the files must have the same hash: a worker with other weights under the same
path is an error, not a different answer. What a process has restored once it keeps for as long as
any model uses it, so that a thousand tasks that each bring the same pickle read and pack it once.
"""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import WeakValueDictionary

from .. import _core
from .._core import WeightsError
from .files import Fingerprint, fingerprint_of, sha256_of, stamp_of
from .load import load
from .loaded import Loaded
from .request import Request

if TYPE_CHECKING:
    from ..model import ResNet

# The content, the class's architecture, the arguments, and what the environment makes of those
# that were left open.
_Key: TypeAlias = "tuple[Fingerprint, str | None, Request, str | None, int]"

_restored: WeakValueDictionary[_Key, Loaded] = WeakValueDictionary()
_lock = threading.Lock()


def reduce_model(model: ResNet) -> tuple[Any, ...]:
    """What `pickle` is to store of a model.

    Raises:
        WeightsError: the files on disk are no longer those that the model was loaded from.
        FileNotFoundError: they are gone.
    """
    loaded = model.loaded
    return restore, (type(model), loaded.request, fingerprint(loaded))


def fingerprint(loaded: Loaded) -> Fingerprint:
    """The hashes of what a network was loaded from, computed once.

    Raises:
        WeightsError, FileNotFoundError: as `reduce_model`.
    """
    if loaded.fingerprint is None:
        weights = loaded.request.weights
        if isinstance(weights, bytes):
            loaded.fingerprint = (("bytes", sha256_of(weights)),)
        else:
            found = fingerprint_of(weights)
            if stamp_of(weights) != loaded.stamp:
                raise WeightsError(
                    f"{weights}: the files have changed since the model was loaded, so a pickle "
                    "of it would bring other weights: load it again"
                )
            loaded.fingerprint = found
    return loaded.fingerprint


def restore(cls: type[ResNet], request: Request, expected: Fingerprint) -> ResNet:
    """Unpickle a model on the machine that this is.

    Raises:
        WeightsError: the weights under the path are not those that were pickled.
        FileNotFoundError: there are none.
    """
    with _lock:
        key = _key(cls, request, expected)
        loaded = _restored.get(key)
        if loaded is None:
            request = _at_hand(request)
            if isinstance(request.weights, str):
                _check(request.weights, expected)
            loaded = load(request, cls.architecture)
            loaded.fingerprint = expected
            _restored[key] = loaded
    return cls._of(loaded)


def _key(cls: type[ResNet], request: Request, content: Fingerprint) -> _Key:
    # The hash stands for the bytes: comparing a hundred megabytes would tell nothing more.
    weights = request.weights if isinstance(request.weights, str) else ""
    tier = request.isa or os.environ.get("RESNET_RS_ISA")
    threads = request.threads or _core.default_threads()
    return content, cls.architecture, replace(request, weights=weights), tier, threads


def _at_hand(request: Request) -> Request:
    """The same request where its weights are on this machine: a pretrained one is fetched."""
    if (
        request.pretrained is None
        or isinstance(request.weights, bytes)
        or os.path.exists(request.weights)
    ):
        return request
    from .pretrained import fetch

    name, architecture = request.pretrained
    return replace(request, weights=os.fspath(fetch(name, architecture=architecture).path))


def _check(path: str, expected: Fingerprint) -> None:
    try:
        found = fingerprint_of(path)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            error.errno,
            "a pickled model's weights are not on this machine. Put them there under the same "
            "path, or make the model from bytes, which travel with it",
            path,
        ) from error
    if found != expected:
        raise WeightsError(
            f"{path}: these are not the weights that were pickled: expected SHA-256 "
            f"{_shown(expected)}, found {_shown(found)}"
        )


def _shown(content: Fingerprint) -> str:
    return ", ".join(f"{digest} ({name})" for name, digest in content) or "of no file"


def _forget_lock() -> None:
    """Another thread may have held the lock at a fork; in the child nobody would release it."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_lock)
