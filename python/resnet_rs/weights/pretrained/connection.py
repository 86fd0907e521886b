"""One request over HTTP: redirects that keep secrets, and errors that say what happened."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Mapping
from email.message import Message
from http.client import HTTPException, HTTPResponse
from typing import IO, Any
from urllib.parse import urlsplit

from ..._core import __version__
from .errors import DownloadError, NotFoundError

TIMEOUT_S = 30.0

# What passes by itself: a busy server, a gateway without its server, too many requests.
_TRANSIENT = {408, 429, 500, 502, 503, 504}

# There is a server, but it hung up.
_LOST = (ConnectionResetError, ConnectionAbortedError, BrokenPipeError)


class InterruptedDownload(Exception):
    """A connection failed in a way that may pass by itself.

    Attributes:
        wait_s: how long the server asks to be left alone, in seconds.
        unreachable: no connection came about at all.
    """

    def __init__(self, reason: str, *, wait_s: float = 0.0, unreachable: bool = False) -> None:
        super().__init__(reason)
        self.wait_s = wait_s
        self.unreachable = unreachable


class Reply:
    """A server's answer with its body still to come.

    Attributes:
        response: the open connection; `read` reads from it.
        hops: the headers of the redirects before it, the first hop's first.
    """

    def __init__(self, response: HTTPResponse, hops: list[Message]) -> None:
        self.response = response
        self.hops = hops

    @property
    def status(self) -> int:
        """200 for the whole file, 206 for the rest of it."""
        return int(self.response.status)

    def header(self, name: str) -> str | None:
        """A header of the answer itself."""
        return self.response.headers.get(name)

    def first_header(self, name: str) -> str | None:
        """A header of the first hop that has it: a hub states a file's hash before it redirects."""
        values = (headers.get(name) for headers in [*self.hops, self.response.headers])
        return next((value for value in values if value is not None), None)

    def read(self, most: int) -> bytes:
        """Read what has come, up to `most` bytes; empty at the end.

        Raises:
            InterruptedDownload: the connection broke or fell silent.
        """
        try:
            return self.response.read1(most)
        except (OSError, HTTPException) as error:
            raise InterruptedDownload(_reason(error)) from error


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never from https to http, and takes no token to another host."""

    def __init__(self) -> None:
        self.hops: list[Message] = []

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: Any,
        newurl: str,
    ) -> urllib.request.Request | None:
        self.hops.append(headers)
        old, new = urlsplit(req.full_url), urlsplit(newurl)
        if old.scheme == "https" and new.scheme != "https":
            raise DownloadError(f"{req.full_url}: redirected from https to {newurl}: refused")
        # Python 3.10 does not know 308, which for a GET means what 307 does.
        code = 307 if code == 308 else code
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        if request is not None and (old.scheme, old.netloc) != (new.scheme, new.netloc):
            request.remove_header("Authorization")
        return request

    http_error_308 = urllib.request.HTTPRedirectHandler.http_error_302


def get(url: str, headers: Mapping[str, str]) -> Reply:
    """Ask for a file.

    Args:
        url: http or https.
        headers: sent along with ours.

    Raises:
        NotFoundError: the server has no such file.
        DownloadError: the server refuses for good, or `url` is of another kind.
        InterruptedDownload: it may work later.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise DownloadError(f"{url}: expected an address that starts with https:// or http://")
    redirects = _Redirects()
    request = urllib.request.Request(url, headers=dict(headers))
    request.add_header("User-Agent", f"resnet_rs/{__version__}")
    # A body that is compressed on the way has another length and other byte ranges.
    request.add_header("Accept-Encoding", "identity")
    try:
        response = urllib.request.build_opener(redirects).open(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        with error:
            raise _refusal(url, error) from None
    except DownloadError:
        raise
    except (OSError, HTTPException) as error:
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        # urllib wraps what happens before the request is sent, and nothing after it.
        unreachable = cause is not error and not isinstance(cause, _LOST)
        raise InterruptedDownload(_reason(cause), unreachable=unreachable) from error
    return Reply(response, redirects.hops)


def _refusal(url: str, error: urllib.error.HTTPError) -> Exception:
    """What an HTTP status from 400 up means for us."""
    said = f"HTTP {error.code} {error.reason}"
    if error.code in (404, 410):
        return NotFoundError(f"{url}: the server has no such file ({said})")
    if error.code in (401, 403):
        return DownloadError(
            f"{url}: the server refuses ({said}): there is no such file, or it is not public; for "
            "a private or gated repository of a hub set HF_TOKEN"
        )
    if error.code == 416:
        return RangeRefused(error.headers.get("Content-Range"))
    if error.code in _TRANSIENT:
        after = error.headers.get("Retry-After", "")
        return InterruptedDownload(said, wait_s=float(after) if after.isdecimal() else 0.0)
    return DownloadError(f"{url}: the server refuses ({said})")


class RangeRefused(Exception):
    """The server has nothing from the asked byte on (416).

    Attributes:
        total: the file's length in bytes, where the server says it.
    """

    def __init__(self, content_range: str | None) -> None:
        super().__init__("the range that was asked for lies outside the file")
        length = (content_range or "").rpartition("/")[2]
        self.total = int(length) if length.isdecimal() else None


def _reason(error: object) -> str:
    """A failure of the network in a few words."""
    if isinstance(error, TimeoutError):
        return f"no answer for {TIMEOUT_S:g} s"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
