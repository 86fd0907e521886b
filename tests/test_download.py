"""Downloads of pretrained weights: cuts, resumption, wrong hashes, busy and missing servers."""

from __future__ import annotations

import hashlib
import io
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from file_server import FileServer
from pretrained_case import CONTENT, PATH, ROW, SHA256, visible

from resnet_rs.weights.pretrained import download, fetch
from resnet_rs.weights.pretrained.errors import DownloadError, NotFoundError

pytest_plugins = ["pretrained_fixtures"]

# A cut loses less than this, so a file that is cut at a multiple of it is continued there.
BLOCK = download._BLOCK_BYTES


class TestDownload:
    def test_file_arrives_whole_and_is_not_fetched_twice(
        self, server: FileServer, folder: Path
    ) -> None:
        for _ in range(2):
            file = fetch("IMAGENET1K_V2", architecture="resnet50", progress=False)
            assert file.path == folder / ROW.file
            assert file.path.read_bytes() == CONTENT
        assert server.paths == [PATH]
        assert visible(folder) == [ROW.file]
        assert file.config["architecture"] == "resnet50"
        assert file.config["num_classes"] == 1000
        assert file.config["preprocessing"]["resize"] == 232
        assert file.config["source"]["sha256"] == SHA256

    def test_cache_dir_is_the_argument(self, server: FileServer, tmp_path: Path) -> None:
        path = fetch("resnet50.DEFAULT", cache_dir=tmp_path / "other").path
        assert path == tmp_path / "other" / "torchvision" / ROW.file
        assert path.read_bytes() == CONTENT

    def test_cut_is_resumed_where_it_ended(self, server: FileServer, folder: Path) -> None:
        server.cuts = [15 * BLOCK, 10 * BLOCK]
        assert fetch("resnet50.DEFAULT").path.read_bytes() == CONTENT
        ranges = [request.headers.get("range") for request in server.requests]
        assert ranges == [None, f"bytes={15 * BLOCK}-", f"bytes={25 * BLOCK}-"]
        assert visible(folder) == [ROW.file]

    def test_cut_loses_less_than_a_block(self, server: FileServer) -> None:
        server.cuts = [1_000_000]
        assert fetch("resnet50.DEFAULT").path.read_bytes() == CONTENT
        start = int(server.requests[1].headers["range"].removeprefix("bytes=").removesuffix("-"))
        assert 1_000_000 - BLOCK < start <= 1_000_000

    def test_length_need_not_be_told(self, server: FileServer) -> None:
        server.lengths = False
        assert fetch("resnet50.DEFAULT").path.read_bytes() == CONTENT

    def test_cut_without_a_length_is_not_taken_for_the_end(
        self, server: FileServer, folder: Path
    ) -> None:
        server.lengths = False
        server.cuts = [1_000_000]
        with pytest.raises(DownloadError, match="expected a file whose sha256"):
            fetch("resnet50.DEFAULT")
        assert visible(folder) == []

    def test_part_of_an_earlier_run_is_continued(self, server: FileServer, folder: Path) -> None:
        server.cuts = [BLOCK] * 5
        with pytest.raises(DownloadError, match="given up after 5 attempts") as caught:
            fetch("resnet50.DEFAULT")
        assert f"the connection ended after {5 * BLOCK} of" in str(caught.value)
        assert "the next attempt continues there" in str(caught.value)
        assert visible(folder) == [f"{ROW.file}.part"]
        server.requests.clear()
        assert fetch("resnet50.DEFAULT").path.read_bytes() == CONTENT
        assert [request.headers["range"] for request in server.requests] == [f"bytes={5 * BLOCK}-"]

    def test_server_without_ranges_starts_anew(self, server: FileServer, folder: Path) -> None:
        server.ranges = False
        server.cuts = [2_000_000]
        assert fetch("resnet50.DEFAULT").path.read_bytes() == CONTENT
        assert len(server.requests) == 2

    def test_part_of_another_version_is_dropped(self, server: FileServer, folder: Path) -> None:
        server.files[PATH] = b"old" * 1_000_000
        server.cuts = [BLOCK] * 5
        with pytest.raises(DownloadError):
            fetch("resnet50.DEFAULT")
        server.files[PATH] = CONTENT
        assert fetch("resnet50.DEFAULT").path.read_bytes() == CONTENT

    def test_part_of_unknown_origin_is_tried_once(self, server: FileServer, folder: Path) -> None:
        (folder / f"{ROW.file}.part").write_bytes(b"rubbish")
        assert fetch("resnet50.DEFAULT").path.read_bytes() == CONTENT
        # The rest fitted the length and not the hash, so the whole came after all.
        assert [request.headers.get("range") for request in server.requests] == ["bytes=7-", None]

    def test_part_that_is_whole_needs_no_more(self, server: FileServer, folder: Path) -> None:
        (folder / f"{ROW.file}.part").write_bytes(CONTENT)
        assert fetch("resnet50.DEFAULT").path.read_bytes() == CONTENT
        assert len(server.requests) == 1

    def test_part_that_is_too_long_is_dropped(self, server: FileServer, folder: Path) -> None:
        (folder / f"{ROW.file}.part").write_bytes(CONTENT * 2)
        assert fetch("resnet50.DEFAULT").path.read_bytes() == CONTENT

    def test_server_that_refuses_every_range_is_told(
        self, server: FileServer, folder: Path
    ) -> None:
        server.statuses = [416]
        with pytest.raises(DownloadError, match="the server refuses"):
            fetch("resnet50.DEFAULT")

    def test_wrong_hash_is_refused_and_removed(self, server: FileServer, folder: Path) -> None:
        server.files[PATH] = b"something else"
        with pytest.raises(DownloadError) as caught:
            fetch("resnet50.DEFAULT")
        message = str(caught.value)
        assert f"sha256 begins with {SHA256[:8]}" in message
        assert hashlib.sha256(b"something else").hexdigest() in message
        assert visible(folder) == []

    def test_wrong_file_in_the_cache_is_refused(self, server: FileServer, folder: Path) -> None:
        (folder / ROW.file).write_bytes(b"put here by hand")
        with pytest.raises(DownloadError, match=r"remove it to have it fetched again") as caught:
            fetch("resnet50.DEFAULT", offline=True)
        assert hashlib.sha256(b"put here by hand").hexdigest() in str(caught.value)
        assert server.requests == []

    def test_busy_server_is_asked_again(self, server: FileServer, folder: Path) -> None:
        server.statuses = [503, 429, 500, 502]
        assert fetch("resnet50.DEFAULT").path.read_bytes() == CONTENT
        assert len(server.requests) == 5

    def test_pauses_grow(self, server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
        pauses: list[float] = []
        monkeypatch.setattr(download.time, "sleep", pauses.append)
        monkeypatch.setattr(download, "_FIRST_PAUSE_S", 1.0)
        server.statuses = [503] * 4
        fetch("resnet50.DEFAULT")
        assert pauses == [1, 2, 4, 8]

    def test_server_says_how_long_to_wait(
        self, server: FileServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pauses: list[float] = []
        monkeypatch.setattr(download.time, "sleep", pauses.append)
        monkeypatch.setattr(download, "_LONGEST_PAUSE_S", 20.0)
        server.statuses = [429, 503]
        server.headers["503"] = {"Retry-After": "7"}
        server.headers["429"] = {"Retry-After": "3600"}
        fetch("resnet50.DEFAULT")
        assert pauses == [20, 7]

    def test_a_cut_itself_asks_for_no_wait(
        self, server: FileServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pauses: list[float] = []
        monkeypatch.setattr(download.time, "sleep", pauses.append)
        monkeypatch.setattr(download, "_FIRST_PAUSE_S", 0.25)
        server.cuts = [10]
        server.statuses = [503, 503]  # without Retry-After, and with a date instead of seconds
        server.headers["503"] = {"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT"}
        fetch("resnet50.DEFAULT")
        assert pauses == [0.25, 0.5, 1.0]

    @pytest.mark.parametrize(
        ("error", "words"),
        [
            (requests.Timeout("read"), "no answer for 30 s"),
            (requests.ConnectionError("the connection was reset"), "the connection was reset"),
            (requests.ConnectionError(), "the connection failed"),
        ],
    )
    def test_a_server_that_falls_silent_is_asked_five_times(
        self,
        error: requests.RequestException,
        words: str,
        server: FileServer,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        timeouts: list[float] = []

        def get(url: str, *, timeout: float, **_: object) -> requests.Response:
            timeouts.append(timeout)
            raise error

        monkeypatch.setattr(download.requests, "get", get)
        with pytest.raises(DownloadError) as caught:
            fetch("resnet50.DEFAULT")
        assert timeouts == [30.0] * 5
        assert f"{ROW.file}: given up after 5 attempts, the last one: {words}; fetch it" in str(
            caught.value
        )
        assert f"put it at {folder / ROW.file}, or try again later" in str(caught.value)

    def test_a_body_of_unknown_length_that_breaks_off_is_continued(
        self, server: FileServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = requests.Response.iter_content
        breaks = iter([True])

        def iter_content(reply: requests.Response, size: int) -> Iterator[bytes]:
            for block in whole(reply, size):
                yield block
                if next(breaks, False):
                    raise requests.exceptions.ChunkedEncodingError("the chunk ended early")

        server.lengths = False
        monkeypatch.setattr(requests.Response, "iter_content", iter_content)
        assert fetch("resnet50.DEFAULT").path.read_bytes() == CONTENT
        assert [request.headers.get("range") for request in server.requests] == [
            None,
            f"bytes={BLOCK}-",
        ]

    def test_busy_server_is_not_asked_for_ever(self, server: FileServer) -> None:
        server.statuses = [503] * 99
        with pytest.raises(DownloadError, match="after 5 attempts, the last one: HTTP 503"):
            fetch("resnet50.DEFAULT")
        assert len(server.requests) == 5

    def test_progress_starts_the_attempts_anew(self, server: FileServer) -> None:
        server.cuts = [1 << 20, 10, 10, BLOCK, 1 << 20, 10, 10, BLOCK]
        assert fetch("resnet50.DEFAULT").path.read_bytes() == CONTENT
        assert len(server.requests) == 9

    def test_missing_file_is_told_at_once(self, server: FileServer) -> None:
        server.files.clear()
        with pytest.raises(NotFoundError, match=rf"{ROW.file}: the server has no such file"):
            fetch("resnet50.DEFAULT")
        assert len(server.requests) == 1

    def test_no_network_is_told_with_the_way_out(
        self, server: FileServer, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Nobody listens on port 9 of this machine, and a name that ends with .invalid has no
        # address anywhere.
        for mirror in ("http://127.0.0.1:9", "http://nowhere.invalid"):
            monkeypatch.setenv("RESNET_RS_MIRROR", mirror)
            with pytest.raises(DownloadError, match="cannot be reached") as caught:
                fetch("resnet50.DEFAULT")
            message = str(caught.value)
            assert f"{mirror}/{ROW.file}" in message
            assert f"put it at {folder / ROW.file}" in message
            assert "RESNET_RS_OFFLINE=1" in message

    def test_other_addresses_are_refused(
        self, server: FileServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("RESNET_RS_MIRROR", "file:///etc")
        with pytest.raises(DownloadError, match=r"expected an address that starts with https"):
            fetch("resnet50.DEFAULT")

    def test_redirects_are_followed(self, server: FileServer) -> None:
        server.redirects[PATH] = (f"{server.url}/elsewhere", {})
        server.files["/elsewhere"] = CONTENT
        assert fetch("resnet50.DEFAULT").path.read_bytes() == CONTENT
        assert server.paths == [PATH, "/elsewhere"]

    def test_redirects_in_a_circle_end(self, server: FileServer) -> None:
        server.redirects[PATH] = (f"{server.url}{PATH}", {})
        with pytest.raises(DownloadError, match="the server refuses"):
            fetch("resnet50.DEFAULT")

    @pytest.mark.parametrize(
        ("hops", "refused"),
        [
            (["https://a.invalid/x", "https://b.invalid/x"], False),
            (["http://a.invalid/x", "http://b.invalid/x"], False),
            (["https://a.invalid/x", "http://b.invalid/x"], True),
            (["https://a.invalid/x", "http://b.invalid/x", "https://c.invalid/x"], True),
        ],
    )
    def test_redirect_to_an_open_line_is_refused(self, hops: list[str], refused: bool) -> None:
        replies = []
        for url in hops:
            reply = requests.Response()
            reply.url = url
            replies.append(reply)
        last = replies.pop()
        last.history = replies
        if not refused:
            return download._refuse_open_line(hops[0], last)
        with pytest.raises(DownloadError, match="redirected from https to http://"):
            download._refuse_open_line(hops[0], last)

    def test_every_redirect_is_looked_at(
        self, server: FileServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: list[tuple[str, int]] = []
        monkeypatch.setattr(
            download,
            "_refuse_open_line",
            lambda url, reply: seen.append((url, len(reply.history))),
        )
        server.redirects[PATH] = (f"{server.url}/elsewhere", {})
        server.files["/elsewhere"] = CONTENT
        fetch("resnet50.DEFAULT")
        assert seen == [(f"{server.url}{PATH}", 1)]

    def test_full_disk_is_told_before(
        self, server: FileServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        usage = type("Usage", (), {"free": 1_000_000})
        monkeypatch.setattr(download.shutil, "disk_usage", lambda path: usage)
        with pytest.raises(DownloadError, match=r"needs 3\.2 MB and the disk has 1\.0 MB free"):
            fetch("resnet50.DEFAULT")

    def test_many_at_once_fetch_once(self, server: FileServer) -> None:
        found: list[bytes] = []

        def one() -> None:
            found.append(fetch("resnet50.DEFAULT").path.read_bytes())

        threads = [threading.Thread(target=one) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [CONTENT] * 8
        assert server.paths == [PATH]

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
    def test_killed_process_leaves_a_part_to_continue(
        self, server: FileServer, folder: Path
    ) -> None:
        target = folder / ROW.file
        # It holds the lock, has a part of the file, and waits for a server that asks it to.
        code = (
            "import sys\n"
            "from pathlib import Path\n"
            "from resnet_rs.weights.pretrained import download\n"
            "download._FIRST_PAUSE_S = download._LONGEST_PAUSE_S = 60\n"
            "download.download(sys.argv[1], Path(sys.argv[2]), sha256=sys.argv[3])\n"
        )
        server.cuts = [20 * BLOCK]
        child = subprocess.Popen(
            [sys.executable, "-c", code, f"{server.url}{PATH}", str(target), SHA256]
        )
        part = folder / f"{ROW.file}.part"
        while not (part.exists() and part.stat().st_size == 20 * BLOCK):
            assert child.poll() is None, "the child ended before the cut"
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert fetch("resnet50.DEFAULT").path.read_bytes() == CONTENT
        assert server.requests[-1].headers["range"] == f"bytes={20 * BLOCK}-"


class TestMeter:
    def test_bar_is_shown_on_a_terminal_only(
        self, server: FileServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return True

        for stream, progress, shown in (
            (Terminal(), True, True),
            (Terminal(), False, False),
            (io.StringIO(), True, False),
        ):
            monkeypatch.setattr(sys, "stderr", stream)
            fetch("resnet50.DEFAULT", cache_dir=tmp_path / str(id(stream)), progress=progress)
            assert (ROW.file in stream.getvalue()) == shown
            assert ("B/s" in stream.getvalue()) == shown

    @pytest.mark.parametrize(
        ("terminal", "progress", "said"),
        [(True, True, True), (True, False, False), (False, True, False)],
    )
    def test_a_pause_is_told_on_a_terminal_only(
        self,
        terminal: bool,
        progress: bool,
        said: bool,
        server: FileServer,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        stream = io.StringIO()
        monkeypatch.setattr(stream, "isatty", lambda: terminal)
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setattr(download.time, "sleep", lambda seconds: None)
        server.statuses = [503]
        server.headers["503"] = {"Retry-After": "7"}
        fetch("resnet50.DEFAULT", progress=progress)
        text = f"{ROW.file}: HTTP 503 Service Unavailable; again in 7 s\n"
        assert (text in stream.getvalue()) == said
