"""A web server on this machine for tests of downloads: it cuts, refuses and redirects on demand.

Under `/<owner>/<name>/resolve/` it answers as a Hugging Face hub does.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Request:
    """A request: the path, the headers by their lower-case names, and the method."""

    path: str
    headers: dict[str, str]
    method: str = "GET"


@dataclass
class FileServer:
    """The files of the server, and the faults of its next answers.

    Attributes:
        files: the bytes by path, such as `/models/a.pth`.
        headers: more headers by path, or by status.
        redirects: the address that a path is redirected to, and headers of that redirect.
        ranges: whether a part of a file may be asked for.
        tags: whether answers have an ETag.
        lengths: whether answers state their length.
        commit: the commit that a hub's answers name; empty where they name none.
        statuses: the next requests are answered with these statuses, in place of the file.
        cuts: the next answers end after so many bytes of their body.
        requests: what was asked, in order.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    headers: dict[str, dict[str, str]] = field(default_factory=dict)
    redirects: dict[str, tuple[str, dict[str, str]]] = field(default_factory=dict)
    ranges: bool = True
    tags: bool = True
    lengths: bool = True
    commit: str = "0123456789abcdef0123456789abcdef01234567"
    statuses: list[int] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)

    def asked(self, path: str) -> list[Request]:
        """The requests for one path."""
        return [request for request in self.requests if request.path == path]

    @property
    def paths(self) -> list[str]:
        """The paths whose content was asked for; a HEAD asks for none."""
        return [request.path for request in self.requests if request.method == "GET"]


@contextmanager
def file_server() -> Iterator[FileServer]:
    """A server that runs until the block ends."""
    state = FileServer()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            state.requests.append(Request(self.path, headers, self.command))
            if state.statuses:
                status = state.statuses.pop(0)
                return self.say(status, state.headers.get(str(status)))
            if self.path in state.redirects:
                location, more = state.redirects[self.path]
                return self.say(302, {"Location": location, **more})
            if self.path not in state.files:
                return self.say(404, {"X-Error-Code": "EntryNotFound"} if self.is_hub else {})
            body = state.files[self.path]
            tag = f'"{hashlib.md5(body).hexdigest()}"'
            more = dict(state.headers.get(self.path, {}))
            if state.tags:
                more.setdefault("ETag", tag)
            start = self.start_of_range(headers, more)
            if start is None:
                status = 200
            elif start >= len(body):
                return self.say(416, {"Content-Range": f"bytes */{len(body)}"})
            else:
                status = 206
                more["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
                body = body[start:]
            if state.lengths:
                more["Content-Length"] = str(len(body))
            self.send(status, more)
            if self.command == "GET":
                self.wfile.write(body[: state.cuts.pop(0)] if state.cuts else body)

        @property
        def is_hub(self) -> bool:
            return "/resolve/" in self.path and state.commit != ""

        def start_of_range(self, headers: dict[str, str], ours: dict[str, str]) -> int | None:
            """Return the start of the requested range; None for the whole file."""
            if not state.ranges or "range" not in headers:
                return None
            if headers.get("if-range", ours.get("ETag")) != ours.get("ETag"):
                return None
            return int(headers["range"].removeprefix("bytes=").removesuffix("-"))

        def say(self, status: int, headers: dict[str, str] | None = None) -> None:
            self.send(status, {"Content-Length": "0", **(headers or {})})

        def send(self, status: int, headers: dict[str, str]) -> None:
            if self.is_hub:
                headers = {"X-Repo-Commit": state.commit, **headers}
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass  # a client that hangs up is what some tests are about

    with Server(("127.0.0.1", 0), Handler) as server:
        state.url = f"http://127.0.0.1:{server.server_address[1]}"
        # It looks for the end of its work this often, in seconds.
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()
