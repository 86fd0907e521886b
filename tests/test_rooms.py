"""The package's rooms: imports go down the drawing in docs/architecture.md, and never in a circle.

An import counts wherever it stands: at the top of a file, in a function, or under `TYPE_CHECKING`.
Only the sources are read; nothing is imported. The one import that is made at run time, that of a
command by `cli/__init__.py`, is not seen.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import ROOT

PACKAGE = ROOT / "python" / "resnet_rs"
DRAWING = ROOT / "docs" / "architecture.md"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


@dataclass(frozen=True)
class Arrow:
    """One import of one file by another; files are paths in the package."""

    source: str
    target: str
    line: int

    def __str__(self) -> str:
        return f"{self.source}:{self.line} imports {self.target}"


def sources(package: Path) -> dict[str, str]:
    """The text of every file, by its path in the package; a compiled module has its stub."""
    paths = (path for path in package.rglob("*") if path.suffix in (".py", ".pyi"))
    return {
        path.relative_to(package).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(paths)
    }


def module_name(file: str) -> str:
    """`resnet_rs.weights.load` of `weights/load.py`."""
    parts = ["resnet_rs", *Path(file).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def arrows(files: Mapping[str, str]) -> list[Arrow]:
    """Every import of a file of the package by another one."""
    by_module = {module_name(file): file for file in files}
    found: dict[Arrow, None] = {}
    for file, text in files.items():
        module = module_name(file)
        package = module if file.endswith("__init__.py") else module.rpartition(".")[0]
        for node in ast.walk(ast.parse(text, file)):
            for name in imported_modules(node, package, by_module):
                if by_module[name] != file:
                    found[Arrow(file, by_module[name], node.lineno)] = None
    return list(found)


def imported_modules(node: ast.AST, package: str, known: Iterable[str]) -> Iterator[str]:
    """The modules of the package that a statement names.

    `from .. import arguments` names the module `arguments`, and `from .. import __version__` the
    package itself, as Python resolves them.
    """
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name in known)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            parts = package.split(".")
            parts = parts[: len(parts) - node.level + 1]
            base = ".".join([*parts, base] if base else parts)
        for alias in node.names:
            whole = f"{base}.{alias.name}"
            if whole in known:
                yield whole
            elif base in known:
                yield base


def circles(found: Sequence[Arrow]) -> list[list[Arrow]]:
    """The arrows of each group of files that can all be reached from each other."""
    targets: dict[str, set[str]] = {}
    for arrow in found:
        targets.setdefault(arrow.source, set()).add(arrow.target)
        targets.setdefault(arrow.target, set())

    def reachable(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            for target in targets[waiting.pop()] - seen:
                seen.add(target)
                waiting.append(target)
        return seen

    reach = {file: reachable(file) for file in targets}
    groups = {
        frozenset(other for other in reach[file] if file in reach[other])
        for file in targets
        if file in reach[file]
    }
    return [
        [arrow for arrow in found if arrow.source in group and arrow.target in group]
        for group in sorted(groups, key=sorted)
    ]


def floors(page: str, rooms: str) -> dict[str, int]:
    """Read a drawing: the floor of each room, counted from the top.

    The drawing is the fenced block after the comment `<!-- rooms: NAME -->`. Each of its boxes is a
    floor. The words inside a box are rooms: folders, which end in `/`, and files. The words beside
    a box are explanations.
    """
    match = re.search(rf"<!-- rooms: {rooms} -->\s*```\w*\n(.*?)```", page, re.DOTALL)
    assert match, f"no drawing <!-- rooms: {rooms} -->"
    found: dict[str, int] = {}
    floor = 0
    for line in match[1].splitlines():
        if line.startswith("├"):
            floor += 1
        elif line.startswith("│"):
            for room in line.split("│")[1].split():
                assert room not in found, f"{room} is drawn twice"
                found[room] = floor
    return found


def room_of(file: str, rooms: Mapping[str, int]) -> str:
    """The room that a file is in: the file itself, or the innermost folder that is drawn."""
    parents = [f"{parent.as_posix()}/" for parent in Path(file).parents]
    return next((room for room in (file, *parents) if room in rooms), "")


def upward(found: Sequence[Arrow], rooms: Mapping[str, int]) -> list[Arrow]:
    """The arrows that lead up, or to another room on the same floor."""
    result = []
    for arrow in found:
        source, target = room_of(arrow.source, rooms), room_of(arrow.target, rooms)
        if source and target and source != target and rooms[source] >= rooms[target]:
            result.append(arrow)
    return result


def lines(found: Iterable[object]) -> str:
    return "".join(f"\n  {item}" for item in found)


@pytest.fixture(scope="module")
def package_files() -> dict[str, str]:
    return sources(PACKAGE)


@pytest.fixture(scope="module")
def rooms() -> dict[str, int]:
    return floors(DRAWING.read_text(encoding="utf-8"), "python")


def test_no_file_is_in_a_circle_of_imports(package_files: dict[str, str]) -> None:
    found = circles(arrows(package_files))
    text = "".join(f"\na circle:{lines(circle)}" for circle in found)
    assert not found, f"{len(found)} circle(s) of imports{text}"


def test_no_import_leads_up_the_drawing(
    package_files: dict[str, str], rooms: dict[str, int]
) -> None:
    every = arrows(package_files)
    assert len(every) > 300, "the package has more imports than this"
    found = upward(every, rooms)
    assert not found, f"{len(found)} import(s) lead up or sideways:{lines(found)}"


def test_every_file_and_folder_at_the_top_is_drawn_and_every_room_exists(
    package_files: dict[str, str], rooms: dict[str, int]
) -> None:
    folders = {
        f"{parent.as_posix()}/"
        for file in package_files
        for parent in Path(file).parents
        if parent != Path()
    }
    at_the_top = {file for file in package_files if "/" not in file}
    missing = sorted((folders | at_the_top) - rooms.keys())
    assert not missing, f"not in the drawing:{lines(missing)}"
    stale = sorted(rooms.keys() - folders - package_files.keys())
    assert not stale, f"in the drawing only:{lines(stale)}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_paths_in_the_docs_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"(?<![\w/.-])(?:\.\./)*((?:python/resnet_rs|rust)/[\w./-]*)", text)
    missing = sorted({path.rstrip(".") for path in named if not (ROOT / path.rstrip(".")).exists()})
    assert not missing, f"{page.name} names what is not there:{lines(missing)}"


FILES = {
    "__init__.py": "from ._core import __version__\nfrom .model import ResNet",
    "_core.pyi": "",
    "model.py": (
        "import os\nfrom typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from .inspect.trace import Trace\n"
    ),
    "inspect/__init__.py": "",
    "inspect/trace.py": "from .. import _core\ndef f():\n    from ..model import ResNet\n",
    "inspect/deep/__init__.py": "from ..trace import Trace",
    "inspect/deep/one.py": (
        "from . import two\nimport resnet_rs.model\nfrom ... import __version__"
    ),
    "inspect/deep/two.py": "from numpy import array",
}
PAGE = """text
<!-- rooms: python -->

```text
┌──────────────┐
│ __init__.py  │  the package, with model.json
├──────────────┤
│ model.py     │
├──────────────┤
│ inspect/deep/│  looking
│ inspect/     │  inside
├──────────────┤
│ _core.pyi    │
└──────────────┘
```
"""


class TestReading:
    """The reader itself, on sources and drawings that are made up."""

    def test_imports_are_resolved_as_python_does(self) -> None:
        assert {str(arrow) for arrow in arrows(FILES)} == {
            "__init__.py:1 imports _core.pyi",
            "__init__.py:2 imports model.py",
            "model.py:4 imports inspect/trace.py",
            "inspect/trace.py:1 imports _core.pyi",
            "inspect/trace.py:3 imports model.py",
            "inspect/deep/__init__.py:1 imports inspect/trace.py",
            "inspect/deep/one.py:1 imports inspect/deep/two.py",
            "inspect/deep/one.py:2 imports model.py",
            "inspect/deep/one.py:3 imports __init__.py",
        }

    def test_imports_in_functions_and_for_types_make_a_circle(self) -> None:
        (circle,) = circles(arrows(FILES))
        assert [str(arrow) for arrow in circle] == [
            "model.py:4 imports inspect/trace.py",
            "inspect/trace.py:3 imports model.py",
        ]

    def test_a_drawing_has_a_floor_for_each_box(self) -> None:
        drawn = floors(PAGE, "python")
        assert list(drawn) == ["__init__.py", "model.py", "inspect/deep/", "inspect/", "_core.pyi"]
        assert drawn["inspect/deep/"] == drawn["inspect/"] > drawn["model.py"]
        assert room_of("inspect/deep/one.py", drawn) == "inspect/deep/"
        assert room_of("inspect/trace.py", drawn) == "inspect/"

    def test_arrows_up_and_sideways_are_found(self) -> None:
        found = upward(arrows(FILES), floors(PAGE, "python"))
        assert {str(arrow) for arrow in found} == {
            "inspect/trace.py:3 imports model.py",
            "inspect/deep/__init__.py:1 imports inspect/trace.py",
            "inspect/deep/one.py:2 imports model.py",
            "inspect/deep/one.py:3 imports __init__.py",
        }
