"""Every code block in docs/ runs as it stands, and the site builds without a warning.

- A page's `python` blocks run in order in one namespace, in a directory where `examples` is the
  repository's, `weights` is the demo model, and `photo.jpg` and `cat.jpg` are photos. In the book
  what a block prints is shown: it must be the `text` block right after it.
- The commands of a `console` block (the lines with `$`) run in a shell, and must print what is
  shown below them.
- The commands of a `sh` block take too long, or depend on the machine: each `resnet-rs` among
  them must be understood, and each file of the repository that it names must be there.
- What follows a line `<!-- no-run -->` is left out.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import ROOT
from markdown_blocks import Block, blocks

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
BOOK = [page for page in PAGES if page.parent.name in ("book", "zh")]
CHINESE = [page for page in PAGES if page.parent.name == "zh"]
# Its Python blocks run in `test_docs.py`.
WITH_README = [ROOT / "README.md", *PAGES]


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix().removeprefix("docs/")


def of(page: Path, *languages: str) -> list[Block]:
    found = blocks(page.read_text(encoding="utf-8"))
    return [block for block in found if block.language in languages and block.run]


@pytest.fixture
def desk(tmp_path: Path, demo_dir: Path, demo_photo: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory in which blocks run."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "weights").symlink_to(demo_dir)
    for photo in ("photo.jpg", "cat.jpg"):
        (tmp_path / photo).symlink_to(demo_photo)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_pages_are_found() -> None:
    names = [name(page) for page in PAGES]
    assert "index.md" in names
    assert len(BOOK) > 20
    for page in CHINESE:
        assert (DOCS / "book" / page.name).is_file(), f"{name(page)} has no English page"


def test_blocks_are_read_right() -> None:
    text = (
        "a\n```python\nprint(1)\n```\n\n```text\n1\n```\n"
        "- b\n  ```sh\n  c\n  ```\nd\n<!-- no-run -->\n```python\nno\n```\n"
    )
    assert list(blocks(text)) == [
        Block("python", "print(1)\n", 3, run=True, follows=False),
        Block("text", "1\n", 7, run=True, follows=True),
        Block("sh", "c\n", 11, run=True, follows=False),
        Block("python", "no\n", 16, run=False, follows=False),
    ]


@pytest.mark.parametrize("page", [p for p in PAGES if of(p, "python")], ids=name)
def test_python_blocks_run(page: Path, desk: Path) -> None:
    found = list(blocks(page.read_text(encoding="utf-8")))
    namespace: dict[str, object] = {"__name__": "__main__"}
    for block, after in zip(found, [*found[1:], None], strict=True):
        if block.language != "python" or not block.run:
            continue
        # Empty lines first, so that a traceback has the page's own line numbers.
        source = "\n" * (block.line - 1) + block.code
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(source, str(page), "exec"), namespace)
        if page in BOOK and printed.getvalue():
            where = f"{name(page)}:{block.line}"
            assert after is not None, f"{where} prints, and nothing is shown"
            assert after.language == "text", f"{where} prints, and nothing is shown"
            assert after.follows, f"{where} prints, and nothing is shown"
            assert after.code == printed.getvalue(), where


@pytest.mark.parametrize("page", [p for p in WITH_README if of(p, "console")], ids=name)
def test_console_blocks_print_what_they_show(page: Path, desk: Path) -> None:
    bin_dir = desk / "bin"
    bin_dir.mkdir()
    for command, arguments in {"resnet-rs": "-m resnet_rs", "python": ""}.items():
        script = bin_dir / command
        script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {arguments} "$@"\n')
        script.chmod(0o755)
    environment = {**os.environ, "PATH": f"{bin_dir}{os.pathsep}{os.environ['PATH']}"}
    for block in of(page, "console"):
        for command, shown in commands(block.code):
            done = subprocess.run(
                command, shell=True, capture_output=True, text=True, env=environment, timeout=120
            )
            assert done.stdout == shown, f"{name(page)}:{block.line}: $ {command}\n{done.stderr}"


def commands(console: str) -> list[tuple[str, str]]:
    """The commands of a `console` block, and what is shown below each."""
    parts = re.split(r"^\$ ", console, flags=re.MULTILINE)[1:]
    # A command that ends with a backslash goes on.
    return [tuple(re.split(r"(?<!\\)\n", part, maxsplit=1)) for part in parts]  # type: ignore[misc]


@pytest.mark.parametrize("page", [p for p in WITH_README if of(p, "sh", "bash")], ids=name)
def test_shell_commands_exist(page: Path) -> None:
    for block in of(page, "sh", "bash"):
        for line in block.code.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            while words and re.fullmatch(r"\w+=\S*", words[0]):
                words = words[1:]
            where = f"{name(page)}:{block.line}: {line}"
            if not words:
                continue
            if words[0] in ("resnet-rs", ".venv/bin/resnet-rs"):
                assert is_understood(words[1:]), where
            for word in words:
                if re.fullmatch(r"(tools|benches|examples|docs)/\S+", word):
                    assert list(ROOT.glob(word)), where


def is_understood(arguments: list[str]) -> bool:
    """Tell whether the command line accepts these arguments, ignoring shell syntax."""
    from resnet_rs.cli import _parser

    end = next((i for i, word in enumerate(arguments) if word in ("|", ">", ">>", "&&")), None)
    arguments = arguments[:end]
    try:
        _parser(arguments).parse_args(arguments)
    except SystemExit as stop:
        return not stop.code  # --help and --version stop with 0
    return True


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built strictly: any warning is an error."""
    out = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        # The theme's own advertisement, which is no warning about this site.
        env={**os.environ, "NO_MKDOCS_2_WARNING": "true"},
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return out


def test_site_builds_strictly(site: Path) -> None:
    for page in PAGES:
        assert (site / name(page)).with_suffix(".html").is_file()


def test_site_needs_nothing_from_elsewhere(site: Path) -> None:
    fetched = re.compile(r"<(?:script|link|img|iframe)\b[^>]*(?:src|href)=\"?(?:https?:)?//[^>]*>")
    for html in site.rglob("*.html"):
        assert not fetched.findall(html.read_text(encoding="utf-8")), html


def test_every_page_is_in_the_contents(site: Path) -> None:
    contents = (site / "index.html").read_text(encoding="utf-8")
    for page in PAGES:
        link = name(page).removesuffix(".md") + ".html"
        assert f'href="{link}"' in contents or link == "index.html", f"{name(page)}: not in nav"


def test_folded_parts_are_rendered(site: Path) -> None:
    folded = [page for page in BOOK if "<details" in page.read_text(encoding="utf-8")]
    assert folded
    for page in folded:
        html = (site / name(page)).with_suffix(".html").read_text(encoding="utf-8")
        parts = re.findall(r"<details>(.*?)</details>", html, re.DOTALL)
        assert len(parts) == page.read_text(encoding="utf-8").count("<details"), name(page)
        for part in parts:
            assert "```" not in part, name(page)
            assert 'class="highlight"' in part, f"{name(page)}: no code in a folded part"


def test_chinese_pages_say_their_language(site: Path) -> None:
    for page in CHINESE:
        html = (site / name(page)).with_suffix(".html").read_text(encoding="utf-8")
        assert '<div lang="zh-Hans">' in html


@pytest.mark.parametrize(
    ("page", "text", "expected"),
    [
        ("weights.md", "[a](../README.md#use)", "[a](repository/README.md#use)"),
        ("book/loops.md", "[a](../performance.md)", "[a](../performance.md)"),
        ("repository/README.md", "![a](docs/images/ladder.png)", "![a](../images/ladder.png)"),
        ("repository/benches/README.md", "[a](../README.md)", "[a](../README.md)"),
        ("repository/README.md", "[a](LICENSE-MIT)", "a"),
        ("weights.md", "[a](../rust/lib.rs)", "a"),
        ("weights.md", "[a](nothing.md) [b](#b)", "[a](nothing.md) [b](#b)"),
        ("weights.md", "`x[0](../rust/lib.rs)`", "`x[0](../rust/lib.rs)`"),
        (
            "weights.md",
            "```text\n[a](../rust/lib.rs)\n```\n",
            "```text\n[a](../rust/lib.rs)\n```\n",
        ),
    ],
)
def test_links_fit_the_site(page: str, text: str, expected: str) -> None:
    links = runpy.run_path(str(ROOT / "tools" / "book_links.py"))
    of_page = SimpleNamespace(file=SimpleNamespace(src_uri=page))
    assert links["on_page_markdown"](text, page=of_page, config=None, files=None) == expected
