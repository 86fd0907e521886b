"""The Python examples in the README and in the package's docstrings run as they stand.

An example runs in a directory where `weights` is the demo model and `photo.jpg` and `cat.jpg` are
photos. One that follows a line `<!-- no-run -->` is left out. Those in docs/ are in `test_book.py`.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT
from markdown_blocks import blocks

import resnet_rs


def examples(text: str) -> list[str]:
    """The fenced Python blocks of a Markdown text, without their indentation."""
    return [block.code for block in blocks(text) if block.language == "python" and block.run]


def docstrings() -> Iterator[tuple[str, str]]:
    """Every docstring of the package with its name."""
    for info in pkgutil.walk_packages(resnet_rs.__path__, "resnet_rs."):
        if info.name == "resnet_rs._core":
            continue
        module = importlib.import_module(info.name)
        yield info.name, module.__doc__ or ""
        for name, value in vars(module).items():
            if getattr(value, "__module__", None) != info.name:
                continue
            yield f"{info.name}.{name}", inspect.getdoc(value) or ""
            if inspect.isclass(value):
                for member_name, member in vars(value).items():
                    yield f"{info.name}.{name}.{member_name}", inspect.getdoc(member) or ""
    yield "resnet_rs", resnet_rs.__doc__ or ""


def collect() -> list[tuple[str, str]]:
    sources = [("README.md", (ROOT / "README.md").read_text(encoding="utf-8")), *docstrings()]
    return [
        (f"{name}[{number}]", code)
        for name, text in sources
        for number, code in enumerate(examples(text))
    ]


EXAMPLES = collect()


def test_examples_are_found() -> None:
    names = [name for name, _ in EXAMPLES]
    assert "README.md[0]" in names
    assert "resnet_rs[0]" in names
    assert "resnet_rs.model.ResNet[0]" in names


def test_fences_are_read_right() -> None:
    text = (
        "a\n```python\nx = 1\n```\n<!-- no-run -->\n```python\nno\n```\n  ```python\n  y\n  ```\n"
    )
    assert examples(text) == ["x = 1\n", "y\n"]


@pytest.mark.parametrize(("name", "code"), EXAMPLES, ids=[name for name, _ in EXAMPLES])
def test_example_runs(
    name: str,
    code: str,
    demo_dir: Path,
    demo_photo: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "weights").symlink_to(demo_dir)
    for photo in ("photo.jpg", "cat.jpg"):
        (tmp_path / photo).symlink_to(demo_photo)
    (tmp_path / "photos").symlink_to(demo_photo.parent)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, name, "exec"), {"__name__": "__main__"})
