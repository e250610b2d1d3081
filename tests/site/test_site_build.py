"""The documentation site: builds without a warning, and requests nothing from other hosts."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from support.doc_blocks import DOCS, nav_pages
from support.viewer_browser import Chromium, axe_source, on_browser_thread

pytestmark = pytest.mark.long


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


def test_docstrings_are_sections(site: Path) -> None:
    page = (site / "reference" / "python" / "index.html").read_text("utf-8")
    text = re.sub(r"<[^>]+>", "", page)
    assert "fasttile.cut(&#34;map.tif&#34;" in text or 'fasttile.cut("map.tif"' in text
    assert "doctest:" not in text
    assert 'class="admonition' not in page
    assert "<details" not in page


def test_no_page_loads_from_another_host(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 15
    for page in pages:
        loads = Loads()
        loads.feed(page.read_text("utf-8"))
        is_viewer = page.parent.parent.parent.name == "gallery" or "viewer" in page.name
        assert len(loads.addresses) > 3 or is_viewer
        for address in loads.addresses:
            assert not address.startswith(("http:", "https:", "//")), f"{page}: {address}"
    for style in site.rglob("*.css"):
        text = style.read_text("utf-8")
        assert "url(http" not in text
        assert "@import" not in text


RUN_AXE = """() => axe
    .run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"] })
    .then((found) => found.violations.map((one) => [one.id, one.nodes[0].html]))"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@on_browser_thread
def test_axe_finds_no_violation(chromium: Chromium, origin: str, scheme: str) -> None:
    context = chromium.browser.new_context(color_scheme=scheme)
    script = axe_source()
    try:
        page = context.new_page()
        for name in ("", "layouts/", "start/embed/", "reference/python/", "performance/"):
            page.goto(f"{origin}/{name}")
            page.wait_for_load_state("networkidle")
            page.evaluate(script)
            assert page.evaluate(RUN_AXE) == [], name
    finally:
        context.close()


@on_browser_thread
def test_pages_search_and_copy_without_another_host(chromium: Chromium, origin: str) -> None:
    context = chromium.browser.new_context()
    context.grant_permissions(["clipboard-read", "clipboard-write"], origin=origin)
    requests: list[str] = []
    errors: list[str] = []
    try:
        page = context.new_page()
        page.on("request", lambda request: requests.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
        for name in ("", "reference/python/", "OPTIONS/", "performance/", "start/first-image/"):
            page.goto(f"{origin}/{name}")
            page.wait_for_load_state("networkidle")
        page.locator(".language-console button").first.click()
        page.wait_for_function("document.querySelector('.md-dialog--active') !== null")
        copied = page.evaluate("navigator.clipboard.readText()")
        page.locator("input.md-search__input").press_sequentially("zoomify")
        page.wait_for_selector(".md-search-result__link")
        page.goto(f"{origin}/OPTIONS/")
        assert "A-B|one-tile|one-pixel" in page.inner_text("table")
    finally:
        context.close()
    assert copied == "fasttile cut photo.jpg --viewer openseadragon\n"
    assert errors == []
    assert len(requests) > 10
    assert {url for url in requests if not url.startswith((f"{origin}/", "data:"))} == set()
