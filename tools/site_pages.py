"""Hook of mkdocs.yml: pages of the site that are made at build time, and files outside of docs/."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]

OUTSIDE = ("CHANGELOG.md", "bench/RESULTS.md", "examples/pyramids.ipynb")
"""Files outside of docs/ that the site has too, by their paths in the repository."""

_LINK = re.compile(r"(?<=\]\()(?![a-z]+:)([^)#\s]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files outside of docs/."""
    for name in OUTSIDE:
        files.append(File.generated(config, name, content=(ROOT / name).read_text("utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links between docs/ and files outside of it, which the site has in one folder."""
    place = page.file.src_uri
    folder = posixpath.dirname(place)
    in_repository = posixpath.dirname(place if place in OUTSIDE else f"docs/{place}")

    def in_site(match: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(in_repository, match[1]))
        if path in OUTSIDE or (place in OUTSIDE and path.startswith("docs/")):
            return posixpath.relpath(path.removeprefix("docs/"), folder or ".")
        return match[1]

    return _LINK.sub(in_site, markdown)
