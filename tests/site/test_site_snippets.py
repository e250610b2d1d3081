"""Lines of HTML on the documentation site, each in a Chromium without network."""

from __future__ import annotations

import functools
import io
import json
import mimetypes
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from support.doc_blocks import ROOT, Block, nav_pages, read_page
from support.doc_images import QUARTERS
from support.doc_runs import run_blocks
from support.viewer_browser import Chromium, find_chromium, on_browser_thread, skip_or_fail

pytestmark = pytest.mark.slow

NODE_MODULES = ROOT / "tests" / "browser" / "node_modules"

CDN = re.compile(r"https://cdn\.jsdelivr\.net/npm/([\w-]+)@([\d.]+)/([\w./-]+)")

COPIES = {
    "leaflet.css": "leaflet/dist/leaflet.css",
    "leaflet.js": "leaflet/dist/leaflet.js",
    "images/marker-icon.png": "leaflet/dist/images/marker-icon.png",
    "images/marker-shadow.png": "leaflet/dist/images/marker-shadow.png",
    "mirador.min.js": "mirador/dist/mirador.min.js",
    "openseadragon.min.js": "openseadragon/build/openseadragon/openseadragon.min.js",
}
"""Files of npm that a page has beside it."""

DRAWN_SHARE = 0.04
"""Share of the window that each quarter of the image has at least."""

SNIPPETS = [
    pytest.param(
        block,
        id=f"{page.name}:{block.line}",
        marks=[pytest.mark.long] if page.is_long else [],
    )
    for page in map(read_page, nav_pages())
    for block in page.blocks
    if block.language == "html" and block.is_run
]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    if not (NODE_MODULES / ".package-lock.json").exists():
        skip_or_fail("the viewers are missing: tests/browser/setup.sh")
    with Chromium(find_chromium()) as chromium:
        yield chromium


@pytest.fixture(scope="module")
def folder_of_page(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a page, in which its commands are run once."""

    @functools.cache
    def folder_of_page(name: str) -> Path:
        folder = tmp_path_factory.mktemp("page")
        run_blocks(read_page(name), folder)
        return folder

    return folder_of_page


class Web:
    """All that a page's requests get: its own files, and those of npm."""

    def __init__(self, block: Block, folder: Path) -> None:
        served = block.comments.get("served", "https://example.org/=site")
        self.origin, _, place = served.rpartition("=")
        self.folder = folder / place
        self.page = f"<!doctype html><meta charset=utf-8><link rel=icon href=data:,>{block.text}"
        self.found: list[str] = []
        self.unknown: list[str] = []

    def answer(self, route: Any) -> None:
        """Answer a request of the browser."""
        address: str = route.request.url
        headers = {"access-control-allow-origin": "*"}
        body = self._file(address.partition("?")[0])
        if body is None:
            self.unknown.append(address)
            route.fulfill(status=404, headers=headers)
            return
        kind = mimetypes.guess_type(address)[0] or "application/octet-stream"
        headers["content-type"] = kind
        self.found.append(address)
        if asked := re.fullmatch(r"bytes=(\d+)-(\d+)", route.request.headers.get("range", "")):
            first, last = int(asked[1]), min(int(asked[2]), len(body) - 1)
            headers["content-range"] = f"bytes {first}-{last}/{len(body)}"
            route.fulfill(status=206, body=body[first : last + 1], headers=headers)
        else:
            route.fulfill(status=200, body=body, headers=headers)

    def _file(self, address: str) -> bytes | None:
        path = None
        if match := CDN.fullmatch(address):
            package = NODE_MODULES / match[1]
            version = json.loads((package / "package.json").read_text("utf-8"))["version"]
            path = package / match[3] if version == match[2] else None
        elif address == f"{self.origin}page.html":
            return self.page.encode()
        elif address.startswith(self.origin):
            name = address.removeprefix(self.origin)
            path = NODE_MODULES / COPIES[name] if name in COPIES else self.folder / name
        return path.read_bytes() if path is not None and path.is_file() else None


@pytest.mark.parametrize("block", SNIPPETS)
@on_browser_thread
def test_a_snippet_shows_the_image(
    chromium: Chromium, folder_of_page: Callable[[str], Path], block: Block
) -> None:
    web = Web(block, folder_of_page(block.page))
    errors: list[str] = []
    context = chromium.browser.new_context(viewport={"width": 900, "height": 640})
    try:
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda line: record_error(line, errors))
        page.route("**/*", web.answer)
        page.goto(f"{web.origin}page.html")
        end = time.monotonic() + 20
        while not (shows := is_shown(page, web, block)) and time.monotonic() < end:
            page.wait_for_timeout(100)
        page.wait_for_load_state("networkidle")
    finally:
        context.close()
    assert (errors, web.unknown) == ([], [])
    assert shows


def is_shown(page: Any, web: Web, block: Block) -> bool:
    """True if all requests that the block names were answered, or else all quarters are seen."""
    if names := block.comments.get("requests"):
        return all(any(name in found for found in web.found) for name in names.split(", "))
    return quarters_in_place(page.screenshot())


def record_error(line: Any, errors: list[str]) -> None:
    """Add an error on the console to a list, but for a warning of Mirador's React."""
    if line.type == "error" and "was removed in React 19" not in line.text:
        errors.append(line.text)


def quarters_in_place(screenshot: bytes) -> bool:
    """True if all quarters of the image are seen, each in its corner."""
    with Image.open(io.BytesIO(screenshot)) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    middles = []
    for colour in QUARTERS:
        mask = np.abs(pixels - colour).max(axis=-1) < 30
        if mask.mean() < DRAWN_SHARE:
            return False
        rows, columns = np.nonzero(mask)
        middles.append((rows.mean(), columns.mean()))
    red, green, blue, yellow = middles
    above = max(red[0], green[0]) < min(blue[0], yellow[0])
    return above and max(red[1], blue[1]) < min(green[1], yellow[1])
