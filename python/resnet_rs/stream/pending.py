"""Images that were submitted to an engine and have no result yet, and their futures."""

from __future__ import annotations

import queue
import threading
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Any, Generic

from ..images.batches import Views
from .pipeline import Pipeline
from .tasks import One, Task


class EngineClosedError(RuntimeError):
    """The engine was closed before an image had its result."""


class _Cancelled(ValueError):
    """A future was cancelled before its image was loaded."""


class Request(Generic[One]):
    """An image that was submitted, and its future."""

    def __init__(self, image: Any) -> None:
        self.future: Future[One] = Future()
        self._image = image
        self._begun = False

    def begin(self) -> bool:
        """Take the image's turn; False if its future was cancelled."""
        self._begun = True
        return self.future.set_running_or_notify_cancel()

    def load(self, task: Task[One, Any]) -> Views:
        """Load the image, and let go of it."""
        if not self.begin():
            raise _Cancelled
        image, self._image = self._image, None
        return task.load(image)

    def fail(self, error: BaseException) -> None:
        """Make an error of what has no result."""
        if self._begun or self.begin():
            # A cancelled future stays so.
            with suppress(InvalidStateError):
                self.future.set_exception(error)


class Pending(Generic[One]):
    """The requests without a result, which the engine shares with the thread that delivers.

    Attributes:
        requests: those that were taken and have no result.
        room: held while any of this is read or written; told when there may be room.
    """

    def __init__(self, capacity: int) -> None:
        self.requests: set[Request[One]] = set()
        self.room = threading.Condition()
        self._capacity = capacity
        self._closed = False
        self._cause: BaseException | None = None

    def wait_for_room(self, timeout: float | None) -> None:
        """Wait until there is room for a request; `room` is held.

        Raises:
            queue.Full: there was none in time.
            EngineClosedError: there will be none.
        """
        has_room = self.room.wait_for(
            lambda: self._closed or len(self.requests) < self._capacity, timeout
        )
        if self._closed:
            raise self._closed_error()
        if not has_room:
            raise queue.Full(f"{self._capacity} images are waiting for their results already")

    def close(self) -> None:
        """Take no more requests."""
        with self.room:
            self._closed = True
            self.room.notify_all()

    def take(self, request: Request[One]) -> None:
        """Count a request as done."""
        with self.room:
            self.requests.discard(request)
            self.room.notify()

    def end(self, cause: BaseException | None) -> None:
        """Fail every request that is left: with `cause` if that has ended the engine."""
        with self.room:
            self._closed, self._cause = True, cause
            left, self.requests = self.requests, set()
            self.room.notify_all()
        for request in left:
            request.fail(self._closed_error() if cause is None else cause)

    def _closed_error(self) -> EngineClosedError:
        if self._cause is None:
            return EngineClosedError("the engine was closed, and takes and computes no more images")
        error = EngineClosedError(f"the engine was ended by an error: {self._cause!r}")
        error.__cause__ = self._cause
        return error


def deliver(pipeline: Pipeline, pending: Pending[Any]) -> None:
    """Hand every outcome to its future, until there are no more."""
    cause: BaseException | None = None
    try:
        for outcome in pipeline:
            request = outcome.item
            pending.take(request)
            if outcome.error is not None:
                request.fail(outcome.error)
            else:
                request.future.set_result(outcome.value)
    except BaseException as error:
        cause = error
    pending.end(cause)
