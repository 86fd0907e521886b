"""Models that travel: small pickles, and one copy of the weights in each process.

A pickled model holds its options (among them the path, or the bytes, of the weights) and the
SHA-256 of the files. It never holds the packed network, whose form depends on the machine's
instructions, nor a tier or a number of threads that the caller did not ask for: a restored model
takes those of its new machine.

A restored model must find files with the same hash: other weights under the same path are an
error, never a different answer. A process keeps a restored network for as long as a model uses it,
so that a thousand tasks with the same pickle read and pack the weights once.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, replace
from typing import TypeAlias
from weakref import WeakValueDictionary

from .._core import WeightsError, default_threads
from ..options import Options
from .files import Fingerprint, fingerprint_of, sha256_of, stamp_of
from .load import load
from .loaded import Loaded

# The content, the class's architecture, the options, and the environment's values for those that
# were left open.
_Key: TypeAlias = "tuple[Fingerprint, str | None, str, str | None, int]"

_restored: WeakValueDictionary[_Key, Loaded] = WeakValueDictionary()
_lock = threading.Lock()


@dataclass(frozen=True)
class Recipe:
    """The content of a pickle: how to load the same network on another machine.

    Attributes:
        options: the caller's choices, the path or the bytes of the weights among them.
        fingerprint: the hashes of the weights.
        pretrained: the published name that they can be fetched by again, and the architecture.
    """

    options: Options
    fingerprint: Fingerprint
    pretrained: tuple[str, str | None] | None


def recipe_of(loaded: Loaded) -> Recipe:
    """Describe a network for a pickle.

    Raises:
        WeightsError: the files on disk have changed since the network was loaded.
        FileNotFoundError: they are gone.
    """
    return Recipe(loaded.options, fingerprint(loaded), loaded.pretrained)


def fingerprint(loaded: Loaded) -> Fingerprint:
    """Return the hashes of a network's files, computed once.

    Raises:
        WeightsError, FileNotFoundError: as `recipe_of`.
    """
    if loaded.fingerprint is None:
        path = loaded.options.path
        if path is None:
            data = loaded.options.weights
            assert isinstance(data, bytes)
            loaded.fingerprint = (("bytes", sha256_of(data)),)
        else:
            found = fingerprint_of(path)
            if stamp_of(path) != loaded.stamp:
                raise WeightsError(
                    f"{path}: the files have changed since the model was loaded, so a pickle "
                    "of it would bring other weights: load it again"
                )
            loaded.fingerprint = found
    return loaded.fingerprint


def restore(recipe: Recipe, architecture: str | None) -> Loaded:
    """Load a pickled network on the machine that this is, or find it in memory.

    Args:
        recipe: the content of the pickle.
        architecture: the architecture of the model's class; None for any.

    Raises:
        WeightsError: the weights under the path are not those that were pickled.
        FileNotFoundError: there are none.
    """
    with _lock:
        key = _key(recipe, architecture)
        loaded = _restored.get(key)
        if loaded is None:
            options = _at_hand(recipe)
            if options.path is not None:
                _check(options.path, recipe.fingerprint)
            loaded = load(options, architecture)
            loaded.fingerprint = recipe.fingerprint
            loaded.pretrained = recipe.pretrained
            _restored[key] = loaded
    return loaded


def _key(recipe: Recipe, architecture: str | None) -> _Key:
    options = recipe.options
    tier = options.isa or os.environ.get("RESNET_RS_ISA")
    threads = options.threads or default_threads()
    return recipe.fingerprint, architecture, options.identity(), tier, threads


def _at_hand(recipe: Recipe) -> Options:
    """The options with weights that are on this machine: pretrained ones are fetched."""
    options = recipe.options
    if recipe.pretrained is None or options.path is None or os.path.exists(options.path):
        return options
    from .pretrained import fetch

    name, architecture = recipe.pretrained
    return replace(options, weights=os.fspath(fetch(name, architecture=architecture).path))


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
    """Replace the lock in a forked child: another thread of the parent may have held it."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_lock)
