"""One pass over all images that a command line names, into an output."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from ...results import Result
from ...terminal.progress import Meter, Progress
from ...weights.loaded import HasLoaded
from ..iterator import stream
from .outputs import Output
from .paths import Sources


@dataclass(frozen=True)
class RunReport:
    """The outcome of a run.

    Attributes:
        images: the number of results that it wrote, errors included.
        seconds: its duration.
        others: the number of files that were not read, by the kinds of `Sources.on_other`.
        stopped_by: the error that ended it early; None if it came to its end.
    """

    images: int
    seconds: float
    others: Counter[str]
    stopped_by: Result | None = None


def run(
    model: HasLoaded,
    sources: Sources,
    output: Output,
    *,
    progress: Progress,
    stop_on_error: bool = False,
    warn: Callable[[str], None] = lambda message: None,
    **options: Any,
) -> RunReport:
    """Work through all images that the output has no record of.

    Args:
        model: a `ResNet`.
        sources: the images' paths.
        output: the place for the results. It is finished if the run comes to its end, and otherwise
            left so that a later run can go on; it is closed in any case.
        progress: shows how far the run is.
        stop_on_error: True if the first image that fails ends the run; it is not recorded then,
            so that a later run tries it again.
        warn: called with each warning.
        options: the options of `resnet_rs.stream.stream`.
    """
    start, before = time.monotonic(), output.done
    # Filled by the thread that reads the sources.
    unlisted: deque[Result] = deque()
    empty: deque[str] = deque()
    others: Counter[str] = Counter()

    def cannot_list(path: str, error: OSError) -> None:
        if path not in output:
            unlisted.append(Result(-1, path, error=error))

    def count_other(kind: str) -> None:
        others[kind] += 1

    found = replace(sources, on_error=cannot_list, on_empty=empty.append, on_other=count_other)
    paths = (path for path in found if path not in output)
    meter = Meter(progress, start=before)
    stopped_by: Result | None = None

    def take(result: Result) -> bool:
        """Record a result; False if it ends the run."""
        nonlocal stopped_by
        if result.error is not None:
            progress.say("")  # the output may have something to say on the same terminal
            if stop_on_error:
                stopped_by = result
                return False
        output.write(result)
        meter.show(output.done, output.failed)
        return True

    def take_notes() -> bool:
        while empty:
            progress.say("")
            warn(f"no images in {empty.popleft()}")
        while unlisted:
            if not take(unlisted.popleft()):
                return False
        return True

    try:
        with progress, stream(model, paths, **options) as results, _counting(sources, meter):
            going_on = all(take_notes() and take(result) for result in results) and take_notes()
            if going_on:
                progress.say("finishing ...")
                output.finish()
    finally:
        output.close()
    return RunReport(output.done - before, time.monotonic() - start, others, stopped_by)


@contextlib.contextmanager
def _counting(sources: Sources, meter: Meter) -> Iterator[None]:
    """Count the sources in a thread beside the run, so that the meter can say how long it takes.

    It lists every directory a second time, so it is done only if somebody looks.
    """
    stopped = threading.Event()

    def count() -> None:
        # The run itself meets the same error, and tells it.
        with contextlib.suppress(OSError):
            meter.total = sources.count(stopped.is_set)

    if meter.is_on:
        threading.Thread(target=count, name="resnet_rs-count", daemon=True).start()
    try:
        yield
    finally:
        stopped.set()
