"""The hook of mkdocs.yml: further work of `mkdocs build`.

Documents link to each other as files of the repository, so that links work in an editor and on a
code host. The site holds docs/ and a few documents from elsewhere (`ELSEWHERE`), so links are made
anew for it:

- to a document that is on the site: to its page;
- to any other file of the repository, a source file say: the text stays, the link goes;
- to nothing: left as it is, and `--strict` refuses it.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]

# Documents outside docs/ that become pages under repository/.
ELSEWHERE = (
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "benches/README.md",
    "examples/ray-data/README.md",
    "examples/ray-train/README.md",
    "examples/sign-digits/README.md",
)

# Code, which is left alone, or an inline link or picture.
_CODE_OR_LINK = re.compile(
    r"(?P<code>^[ \t]*```.*?^[ \t]*```|`[^`\n]+`)"
    r"|(?P<picture>!?)\[(?P<text>(?:[^\[\]]|`[^`]*`)*)\]\((?P<target>[^()\s]+)\)",
    re.DOTALL | re.MULTILINE,
)


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the documents from elsewhere in the repository."""
    from mkdocs.structure.files import File

    for name in ELSEWHERE:
        file = File.generated(config, f"repository/{name}", abs_src_path=str(ROOT / name))
        files.append(file)
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Make the page's links to files of the repository fit the site."""
    source = _repository_path(page.file.src_uri)

    def replace(match: re.Match[str]) -> str:
        if match["code"] or "://" in match["target"] or match["target"].startswith("#"):
            return match[0]
        path, _, anchor = match["target"].partition("#")
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        uri = _site_uri(target)
        if uri is not None:
            link = posixpath.relpath(uri, posixpath.dirname(page.file.src_uri) or ".")
            fragment = f"#{anchor}" if anchor else ""
            return f"{match['picture']}[{match['text']}]({link}{fragment})"
        return match["text"] if (ROOT / target).exists() else match[0]

    return _CODE_OR_LINK.sub(replace, markdown)


def on_page_content(html: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Say that the pages in zh/ are Chinese, for fonts, line breaks and screen readers."""
    if page.file.src_uri.startswith("zh/"):
        return f'<div lang="zh-Hans">{html}</div>'
    return html


def _repository_path(uri: str) -> str:
    """Return the place of a page of the site in the repository."""
    return uri.removeprefix("repository/") if uri.startswith("repository/") else f"docs/{uri}"


def _site_uri(path: str) -> str | None:
    """The site's source of a file of the repository; None where it is not on the site."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/") if (ROOT / path).exists() else None
    return f"repository/{path}" if path in ELSEWHERE else None
