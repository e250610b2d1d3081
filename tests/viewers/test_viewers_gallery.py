"""In a real browser: the thumbnails of a folder, and an image of 2^40 pixels a side."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fasttile
from fasttile.serve import ViewerServer
from fasttile.serve.gallery import open_paths
from support.viewer_browser import WINDOW_SIZE, BrowserTab, Chromium, on_browser_thread
from support.viewer_results import IMAGE_SIZE, colour_fields

pytestmark = pytest.mark.slow


@contextmanager
def serve(source: Any, **options: Any) -> Iterator[tuple[str, list[str]]]:
    """The address of a server on a thread of its own, and what it reports."""
    messages: list[str] = []
    with (
        open_paths(source, **options) as content,
        ViewerServer(content, report=messages.append) as server,
    ):
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.url, messages
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.usefixtures("bundled_scripts")
@on_browser_thread
def test_a_folder_is_shown_as_thumbnails(chromium: Chromium, tmp_path: Path) -> None:
    image = colour_fields(*IMAGE_SIZE)
    (tmp_path / "inner").mkdir()
    odd = "<b>&amp; \"x' %41#?.png"
    for name in (odd, "c.jpg"):
        image.save(tmp_path / name)
    for number in range(120):
        image.resize((90, 40)).save(tmp_path / f"inner/{number:03}.jpg")
    fasttile.cut(image, tmp_path / "map.dzi", format="png")
    (tmp_path / "bad.jpg").write_bytes((tmp_path / "c.jpg").read_bytes()[:2000])
    tab = BrowserTab(chromium)
    with serve(tmp_path) as (url, messages):
        page, requested = tab.page, []
        page.on("request", lambda request: requested.append(request.url))
        page.goto(url)
        page.wait_for_selector("li .error")
        assert page.title() == f"{tmp_path.name} – 124 images"
        error = page.inner_text("li .error")
        assert error.startswith(f"{tmp_path}/bad.jpg: broken JPEG")
        assert page.get_by_role("link", name="bad.jpg").count() == 1
        assert [*page.locator("h2").all_inner_texts()] == ["inner"]
        loaded = "n => document.querySelectorAll('img')[n].naturalWidth > 0"
        page.wait_for_function(loaded, arg=0)
        assert page.get_by_role("img", name=odd, exact=True).count() == 1
        # Those far below are requested when they come into view.
        previews = {address for address in requested if "/preview/" in address}
        assert 4 <= len(previews) < 60
        assert f"{url}preview/123" not in previews
        page.get_by_role("link", name="119.jpg").scroll_into_view_if_needed()
        page.wait_for_function(loaded, arg=122)
        # By the keyboard: the first link, its viewer, and back.
        page.evaluate("scrollTo(0, 0)")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.querySelector('.name').textContent") == odd
        page.keyboard.press("Enter")
        page.wait_for_url(f"{url}show/0/")
        tab.wait_until_drawn()
        assert page.inner_text("h1") == odd
        assert np.ptp(np.asarray(tab.screenshot())[100:300, 100:500]) > 100
        page.go_back()
        page.get_by_role("link", name="map.dzi").click()
        tab.wait_until_drawn()
        assert page.inner_text("h1") == "map.dzi"
        assert not messages
        # The browser itself reports the thumbnail that cannot be made.
        assert {line for line in tab.page_errors if "422" not in line} == set()
    tab.close()


MARKED_COL = int((0.5 - 0.2 * WINDOW_SIZE[0] / WINDOW_SIZE[1]) * 2**40)
"""In the middle of the window after the arrow key to the left."""


def draw(region: fasttile.Region, scale: int) -> Any:
    """Red grows with the scale; there is a line in green, 3 pixels wide."""
    x = np.arange(region.x, region.right) - MARKED_COL // scale
    pixels = np.zeros((region.height, region.width, 3), np.uint8)
    pixels[:, :, 0] = 5 * scale.bit_length()
    pixels[:, abs(x) <= 1, 1] = 255
    return pixels


@pytest.mark.usefixtures("bundled_scripts")
@on_browser_thread
def test_a_function_of_2_to_the_40_pixels_is_shown(chromium: Chromium) -> None:
    source = fasttile.from_function(draw, 2**40, 2**40, per_level=True, name="deep")
    tab = BrowserTab(chromium)
    with serve(source, format="png") as (url, messages):
        tab.open(url)
        assert tab.page.inner_text("#caption p") == "1,099,511,627,776 × 1,099,511,627,776 pixels"
        # Near a corner: there, OpenSeadragon's own arithmetic is too coarse.
        for key in ("ArrowLeft", "ArrowUp", "ArrowUp"):
            tab.page.keyboard.press(key)
        tab.wait_until_drawn()
        reds = []
        for _ in range(9):
            pixels = np.asarray(tab.screenshot())
            reds.append(int(pixels[230, 330, 0]))
            green = np.flatnonzero((pixels[230, :, 1] > 128) & (pixels[230, :, 2] < 100))
            assert 1 <= len(green) <= 40, (len(reds), green)
            assert abs(green.mean() - 320) <= 4, (len(reds), green)
            for _ in range(4):
                tab.page.keyboard.press("+")
            tab.wait_until_drawn()
        assert reds == sorted(reds, reverse=True)
        assert reds[0] > 130
        assert reds[-1] == 5  # the largest level
        assert not tab.page_errors + messages
    tab.close()
