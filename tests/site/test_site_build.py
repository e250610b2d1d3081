"""The documentation site: builds without a warning, and requests nothing from other hosts."""

from __future__ import annotations

import os
import subprocess
import sys
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path

import pytest

from support.doc_blocks import DOCS, ROOT, nav_pages
from support.viewer_browser import skip_or_fail

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if find_spec("material") is None or find_spec("mkdocstrings") is None:
        skip_or_fail("mkdocs-material and mkdocstrings are not installed (the group docs)")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=170,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stderr
    return folder


class Loads(HTMLParser):
    """The addresses that a browser requests for a page, without those that are followed."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("src", "srcset", "poster", "data") or (name, tag) == ("href", "link"):
                self.addresses.append(value or "")


def test_each_page_of_docs_is_in_the_nav(site: Path) -> None:
    assert {file.relative_to(DOCS).as_posix() for file in DOCS.rglob("*.md")} == set(nav_pages())
    for name in nav_pages():
        path = name.removesuffix("index.md").removesuffix(".md")
        assert (site / path / "index.html").is_file()


def test_no_page_loads_from_another_host(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 15
    for page in pages:
        loads = Loads()
        loads.feed(page.read_text("utf-8"))
        assert len(loads.addresses) > 3 or "viewer" in page.name
        for address in loads.addresses:
            assert not address.startswith(("http:", "https:", "//")), f"{page}: {address}"
    for style in site.rglob("*.css"):
        text = style.read_text("utf-8")
        assert "url(http" not in text
        assert "@import" not in text
