"""Paths of images from files, directories, patterns and lists."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest

from resnet_rs.stream.folder.paths import LINKED_DIRECTORY, SPECIAL_FILE, SUFFIXES, Sources


class TestSources:
    @pytest.fixture
    def tree(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.chdir(tmp_path)
        for name in ("b.jpg", "a.PNG", "note.txt", "sub/d.webp", "sub/deep/e.tiff", "z/c.jpeg"):
            path = tmp_path / "tree" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        for name in (".hidden.jpg", "._b.jpg", ".cache/x.jpg"):
            path = tmp_path / "tree" / name
            path.parent.mkdir(exist_ok=True)
            path.touch()
        (tmp_path / "tree/empty").mkdir()
        return tmp_path / "tree"

    def test_directory_is_searched_in_order(self, tree: Path) -> None:
        expected = ["a.PNG", "b.jpg", "sub/d.webp", "sub/deep/e.tiff", "z/c.jpeg"]
        assert list(Sources(["tree"])) == [f"tree/{name}" for name in expected]
        assert list(Sources(["tree/"])) == [f"tree/{name}" for name in expected]
        assert Sources(["tree"]).count() == len(expected)

    def test_without_recursion(self, tree: Path) -> None:
        assert list(Sources(["tree"], recursive=False)) == ["tree/a.PNG", "tree/b.jpg"]

    def test_links_to_files_are_followed_and_those_to_directories_not(self, tree: Path) -> None:
        (tree / "l.jpg").symlink_to(tree / "b.jpg")
        (tree / "round").symlink_to(tree)
        (tree / "gone.jpg").symlink_to(tree / "nothing")
        assert list(Sources(["tree"], recursive=False)) == [
            f"tree/{name}" for name in ("a.PNG", "b.jpg", "gone.jpg", "l.jpg")
        ]
        assert next(iter(Sources(["tree/round"], recursive=False))) == "tree/round/a.PNG"

    def test_files_are_taken_whatever_their_suffix(self, tree: Path) -> None:
        assert list(Sources(["tree/note.txt", "missing", "tree/b.jpg"])) == [
            "tree/note.txt",
            "missing",
            "tree/b.jpg",
        ]

    def test_patterns(self, tree: Path) -> None:
        assert list(Sources(["tree/*.jpg"])) == ["tree/b.jpg"]
        assert list(Sources(["tree/**/*.[jt]*g"])) == ["tree/b.jpg", "tree/z/c.jpeg"]
        # A directory that matches is searched, as if the shell had named it.
        assert list(Sources(["tree/s*"])) == ["tree/sub/d.webp", "tree/sub/deep/e.tiff"]
        assert list(Sources(["tree/*.bmp"])) == ["tree/*.bmp"]

    def test_name_that_looks_like_a_pattern_or_list(self, tree: Path) -> None:
        (tree / "x[1].jpg").touch()
        (tree.parent / "@home").mkdir()
        (tree.parent / "@home/y.jpg").touch()
        assert list(Sources(["tree/x[1].jpg", "@home"])) == ["tree/x[1].jpg", "@home/y.jpg"]

    @pytest.mark.parametrize("separator", ["\n", "\r\n", "\0"])
    @pytest.mark.parametrize("last", [True, False])
    def test_lists(self, tree: Path, separator: str, last: bool) -> None:
        names = ["b.jpg", "caf\udce9.jpg", "字.jpg", "with space.jpg"]
        if separator == "\0":
            names.append("new\nline\r.jpg")
        text = separator.join(["", *names]) + (separator if last else "")
        Path("list.txt").write_bytes(os.fsencode(text))
        sources = Sources(["@list.txt"], nul=separator == "\0")
        sources.check()
        assert list(sources) == names
        assert sources.count() == len(names)

    def test_long_list_is_read_in_pieces(self, tree: Path) -> None:
        names = [f"{i:060}.jpg" for i in range(5000)]
        Path("list.txt").write_text("\n".join(names), encoding="utf-8")
        assert list(Sources(["@list.txt"])) == names

    def test_missing_list(self, tree: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"nothing\.txt"):
            Sources(["@nothing.txt"]).check()

    def test_pipe_as_a_list_is_read_once(self, tree: Path) -> None:
        os.mkfifo("pipe")
        sources = Sources(["@pipe"])
        # Neither of these may open it: that would wait for a writer.
        sources.check()
        assert sources.count() is None
        writer = threading.Thread(target=Path("pipe").write_text, args=("a.jpg\nb.jpg\n",))
        writer.start()
        assert list(sources) == ["a.jpg", "b.jpg"]
        writer.join()

    def test_stdin_cannot_be_counted(self) -> None:
        assert Sources(["-", "x.jpg"]).count() is None

    def test_counting_stops_when_it_is_told(self, tree: Path) -> None:
        assert Sources(["tree"]).count(lambda: True) is None

    def test_empty_directory_is_told(self, tree: Path) -> None:
        told: list[str] = []
        assert next(iter(Sources(["tree/empty", "tree"], on_empty=told.append))) == "tree/a.PNG"
        assert told == ["tree/empty"]

    def test_directory_that_cannot_be_listed_is_told(
        self, tree: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        scandir = os.scandir

        def refuse(path: str) -> Any:
            if path.endswith("sub"):
                raise PermissionError(13, "Permission denied", path)
            return scandir(path)

        monkeypatch.setattr(os, "scandir", refuse)
        told: list[tuple[str, str]] = []
        sources = Sources(["tree"], on_error=lambda path, error: told.append((path, str(error))))
        assert list(sources) == ["tree/a.PNG", "tree/b.jpg", "tree/z/c.jpeg"]
        assert [path for path, _ in told] == ["tree/sub"]
        assert "Permission denied" in told[0][1]

    def test_suffixes_are_those_that_pillow_reads(self) -> None:
        from PIL import Image, features

        known = Image.registered_extensions()
        for suffixes, extra in ((".avif .avifs", "avif"), (".heic .heif .hif", "heif")):
            if extra == "heif" or not features.check(extra):
                known.update(dict.fromkeys(suffixes.split(), extra.upper()))
        assert set(SUFFIXES) <= known.keys()
        assert list(SUFFIXES) == sorted(SUFFIXES)


def test_pipes_in_a_folder_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"")
    os.mkfifo(tmp_path / "b.jpg")
    told: list[str] = []
    found = Sources([str(tmp_path)], on_other=told.append)
    assert [os.path.basename(path) for path in found] == ["a.jpg"]
    assert told == [SPECIAL_FILE]


def test_files_that_are_left_out_are_told_by_their_kinds(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("a.JPG", "b.txt", "c.TXT", "README", "sub/d.ico", ".hidden.txt"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "link").symlink_to(tmp_path / "sub")
    told: list[str] = []
    assert len(list(Sources([str(tmp_path)], on_other=told.append))) == 1
    assert sorted(told) == sorted([".txt", ".txt", "", ".ico", LINKED_DIRECTORY])
    told.clear()
    # A file that is named outright is read.
    assert list(Sources([str(tmp_path / "b.txt")], on_other=told.append)) == [
        str(tmp_path / "b.txt")
    ]
    assert told == []


def test_a_list_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbfa.jpg\nb.jpg\n")
    assert list(Sources([f"@{tmp_path / 'list.txt'}"])) == ["a.jpg", "b.jpg"]


def test_a_byte_order_mark_further_on_belongs_to_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list is read in pieces: a mark at the start of a later one is none."""
    monkeypatch.setattr("resnet_rs.stream.folder.paths._CHUNK_BYTES", 6)
    (tmp_path / "list.txt").write_bytes(b"a.jpg\n\xef\xbb\xbfb.jpg\n")
    assert list(Sources([f"@{tmp_path / 'list.txt'}"])) == ["a.jpg", "\ufeffb.jpg"]


def test_a_list_in_another_encoding_is_named(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes("a.jpg\n".encode("utf-16"))
    with pytest.raises(ValueError, match=r"list\.txt: expected UTF-8, found UTF-16"):
        list(Sources([f"@{tmp_path / 'list.txt'}"]))


def test_a_nul_in_a_line_is_said_to_want_another_option(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"a.jpg\0b.jpg\0")
    with pytest.raises(ValueError, match=r"list\.txt: .*add -0"):
        list(Sources([f"@{tmp_path / 'list.txt'}"]))
