"""Mirador and Universal Viewer open manifests and collections, and ask for nothing else."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from lab_browser import ChromiumPage
from lab_servers import StaticServer
from numpy.typing import NDArray
from PIL import Image

import fasttile

pytestmark = pytest.mark.slow

PAGE_SIZE = {"width": 1200, "height": 800}
COLOURS = np.array([(200, 30, 40), (30, 160, 60), (40, 60, 200), (220, 190, 30)])
"""Of the four quarters of each image, from left to right and from top to bottom."""

DRAWN_SHARE = 0.02
"""Share of the window that each colour has at least, once an image is drawn."""

WAIT_SECONDS = 20


def quarters(width: int, height: int) -> NDArray[np.uint8]:
    """An image of four colours."""
    right = (np.arange(width) >= width // 2).astype(int)
    below = (np.arange(height) >= height // 2).astype(int)
    return COLOURS[2 * below[:, None] + right].astype(np.uint8)


class ManifestWindow:
    """The browser's page with a large window, and every answer that it gets."""

    def __init__(self, chromium: ChromiumPage) -> None:
        self.answers: list[tuple[int, str]] = []
        self.errors: list[str] = []
        self._page = chromium.new_page(PAGE_SIZE)
        self._page.on("response", lambda got: self.answers.append((got.status, got.url)))
        self._page.on("requestfailed", lambda request: self.errors.append(request.url))
        self._page.on("pageerror", lambda error: self.errors.append(str(error)))

    def close(self) -> None:
        """Close the page."""
        self._page.close()

    def open(self, address: str) -> None:
        """Load a page."""
        self._page.goto(address)

    def wait_until_drawn(self) -> None:
        """Wait until each of the four colours fills its share of the window."""
        end = time.monotonic() + WAIT_SECONDS
        while (shares := self._shares()).min() < DRAWN_SHARE:
            assert time.monotonic() < end, (shares, self.answers[-20:], self.errors)
            self._page.wait_for_timeout(200)
        self._page.wait_for_timeout(1500)  # what else it asks for

    def _shares(self) -> NDArray[np.float64]:
        """The share of the window that has each colour, about."""
        with Image.open(io.BytesIO(self._page.screenshot())) as shot:
            pixels = np.asarray(shot.convert("RGB")).astype(int)
        return np.array([(abs(pixels - colour).max(axis=2) < 12).mean() for colour in COLOURS])

    def click(self, text: str) -> None:
        """Click the first element with a text, and wait for what it shows."""
        self._page.get_by_text(text, exact=False).first.click()
        self._page.wait_for_timeout(1000)

    def text(self) -> str:
        """All texts of the page."""
        return str(self._page.inner_text("body"))


@pytest.fixture
def window(browser: ChromiumPage) -> Iterator[ManifestWindow]:
    window = browser.run_on_thread(ManifestWindow, browser)
    yield window
    browser.run_on_thread(window.close)


@pytest.fixture(scope="module")
def site(root: Path, nginx: StaticServer) -> str:
    """The address of a batch of images with manifests."""
    scans = root / "scans"
    scans.mkdir()
    for name, size in {"wide": (3000, 1700), "tall": (700, 2600), "small": (300, 220)}.items():
        Image.fromarray(quarters(*size)).save(scans / f"{name}.png")
    (scans / "texts.csv").write_text(
        "file,label,summary,rights,provider,provider_url,attribution,Date\n"
        "wide,A wide sheet,Two lines,https://creativecommons.org/licenses/by/4.0/,"
        "Museum,https://museum.example/,Museum of Sheets,1890\n"
        "tall,A tall sheet,,© Museum,,,,\n"
        "small,A small sheet,,,,,,\n"
    )
    address = f"{nginx.origin}/site"
    layout = fasttile.Iiif3(
        id=f"{address}/{{name}}", thumbnails=[90, 200, 400], manifest=scans / "texts.csv"
    )
    done = [*fasttile.cut_all([str(scans)], root / "site", layout=layout, quality=95)]
    assert [one.error for one in done] == ["", "", ""]
    return address


def check_answers(window: ManifestWindow) -> None:
    """Fail if anything was asked for that is not there."""
    missing = [url for status, url in window.answers if status >= 400]
    # Universal Viewer takes the address of an image in itself for a file's name.
    assert [url for url in missing if "/images/data:image/gif" not in url] == []
    assert window.errors == []


@pytest.mark.slow
@pytest.mark.parametrize("viewer", ["mirador", "universalviewer"])
@pytest.mark.parametrize("name", ["wide", "tall", "small"])
def test_a_viewer_draws_an_image(
    viewer: str,
    name: str,
    site: str,
    nginx: StaticServer,
    window: ManifestWindow,
    browser: ChromiumPage,
) -> None:
    address = f"{nginx.origin}/pages/{viewer}.html?manifest={site}/{name}/manifest.json"
    browser.run_on_thread(window.open, address)
    browser.run_on_thread(window.wait_until_drawn)
    check_answers(window)
    asked = [url for _, url in window.answers if f"/site/{name}/" in url]
    assert f"{site}/{name}/info.json" in asked
    assert any(url.endswith(".jpg") for url in asked)
    assert f"A {name} sheet" in browser.run_on_thread(window.text)


@pytest.mark.slow
@pytest.mark.parametrize("viewer", ["mirador", "universalviewer"])
def test_a_viewer_opens_a_collection(
    viewer: str, site: str, nginx: StaticServer, window: ManifestWindow, browser: ChromiumPage
) -> None:
    address = f"{nginx.origin}/pages/{viewer}.html?manifest={site}/collection.json"
    browser.run_on_thread(window.open, address)
    if viewer == "mirador":  # it asks which one to show
        browser.run_on_thread(window.click, "Show collection")
        assert "A small sheet" in browser.run_on_thread(window.text)
        browser.run_on_thread(window.click, "A wide sheet")
    browser.run_on_thread(window.wait_until_drawn)
    if viewer == "universalviewer":
        text = browser.run_on_thread(window.text)
        assert all(f"A {name} sheet" in text for name in ("wide", "tall", "small"))
    check_answers(window)
