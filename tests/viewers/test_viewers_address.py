"""The view in the address of a page: links to it, back and forward, rotation, all viewers alike."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fasttile
from support.viewer_browser import (
    LIGHT_BACKGROUND,
    WINDOW_SIZE,
    BrowserTab,
    Chromium,
    on_browser_thread,
)
from support.viewer_results import IMAGE_SIZE, WindowView, colour_at, colour_fields

pytestmark = pytest.mark.slow

FITTED = min(WINDOW_SIZE[0] / IMAGE_SIZE[0], WINDOW_SIZE[1] / IMAGE_SIZE[1])


def cut_page(folder: Path, viewer: str, layout: str = "xyz:centre") -> str:
    """The address of a page of coloured fields."""
    pixels = np.asarray(colour_fields(*IMAGE_SIZE))
    fasttile.cut(pixels, folder / "map", layout=layout, quality=95, viewer=viewer)
    (page,) = folder.rglob("*.html")
    return page.as_uri()


def view_at(zoom: float, x: float, y: float) -> WindowView:
    """What a window shows by the definition of an address."""
    shift = [
        (at - side / 2) * zoom / room
        for at, side, room in zip((x, y), IMAGE_SIZE, WINDOW_SIZE, strict=True)
    ]
    return WindowView(WINDOW_SIZE, IMAGE_SIZE, zoom / FITTED, (shift[0], shift[1]))


def wait_for_view(tab: BrowserTab, *place: float) -> None:
    """Wait until the address says this place, or nothing of the home view, and it is shown."""
    wanted = "#" + "/".join(f"{number:g}" for number in place) if place else ""
    tab.page.wait_for_function("wanted => location.hash === wanted", arg=wanted)
    tab.wait_until_drawn()
    view = view_at(*place) if place else WindowView(WINDOW_SIZE, IMAGE_SIZE)
    assert view.find_faults(tab.screenshot(), LIGHT_BACKGROUND) == []


@on_browser_thread
def test_back_and_forward(viewer: str, chromium: Chromium, tmp_path: Path) -> None:
    tab = BrowserTab(chromium)
    keys, length = tab.page.keyboard, "history.length"
    tab.open(cut_page(tmp_path, viewer) + "#1/700/300")
    wait_for_view(tab, 1, 700, 300)
    entries = tab.page.evaluate(length)
    keys.press("ArrowRight")  # after a view that was opened, an entry of its own
    wait_for_view(tab, 1, 828, 300)
    keys.press("ArrowDown")  # and from then on the same one
    wait_for_view(tab, 1, 828, 388)
    keys.press("+")
    wait_for_view(tab, 2, 828, 388)
    assert tab.page.evaluate(length) == entries + 1
    keys.press("0")  # all of the image is one more
    wait_for_view(tab)
    assert tab.page.evaluate(length) == entries + 2
    tab.page.go_back()
    wait_for_view(tab, 2, 828, 388)
    tab.page.go_back()
    wait_for_view(tab, 1, 700, 300)
    tab.page.go_forward()
    wait_for_view(tab, 2, 828, 388)
    tab.page.evaluate("location.hash = '#0.5/100/600'")
    wait_for_view(tab, 0.5, 100, 600)
    tab.page.evaluate("location.hash = '#nonsense/1/2'")
    wait_for_view(tab)
    assert tab.page_errors == []
    tab.close()


@on_browser_thread
def test_a_link_is_copied(viewer: str, chromium: Chromium, tmp_path: Path) -> None:
    tab = BrowserTab(chromium)
    tab.context.grant_permissions(["clipboard-read", "clipboard-write"])
    address = cut_page(tmp_path, viewer)
    tab.open(address)
    tab.page.keyboard.press("+")
    wanted = f"{address}#{2 * FITTED:.4g}/512.5/350"
    for act in (
        lambda: tab.page.get_by_role("button", name="Copy link").click(),
        lambda: tab.page.keyboard.press("l"),
    ):
        tab.page.evaluate("navigator.clipboard.writeText('')")
        act()
        tab.page.get_by_role("status").get_by_text("The link to this view is copied.").wait_for()
        assert tab.page.evaluate("navigator.clipboard.readText()") == wanted
    tab.page.keyboard.press("ArrowRight")
    tab.page.wait_for_function("wanted => location.href !== wanted", arg=wanted)
    tab.page.go_back()  # to the view of the link
    assert tab.page.url == wanted
    tab.page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    tab.page.keyboard.press("l")  # as on a page of a server without TLS
    tab.page.get_by_role("status").get_by_text("copied").wait_for()
    assert tab.page_errors == []
    tab.close()


@on_browser_thread
def test_the_view_stays_all_of_the_image_when_the_window_changes(
    viewer: str, chromium: Chromium, tmp_path: Path
) -> None:
    tab = BrowserTab(chromium)
    tab.open(cut_page(tmp_path, viewer, "zoomify"))
    for size in ((500, 440), (300, 440), (640, 200)):
        tab.page.set_viewport_size({"width": size[0], "height": size[1]})
        tab.page.wait_for_timeout(300)
        tab.wait_until_drawn()
        view = WindowView(size, IMAGE_SIZE)
        assert view.find_faults(tab.screenshot(), LIGHT_BACKGROUND) == []
        assert "#" not in tab.page.url
    tab.close()


@on_browser_thread
def test_thin_images(viewer: str, chromium: Chromium, tmp_path: Path) -> None:
    """Where a pixel of CSS is wider than the image, and viewers round the place."""
    pixels = np.full((3000, 1, 3), 90, np.uint8)
    fasttile.cut(pixels, tmp_path / "map.dzi", viewer=viewer)
    tab = BrowserTab(chromium)
    tab.open((tmp_path / "map.html").as_uri())
    for key in ("+", "+", "ArrowRight", "ArrowDown", "-", "-", "-", "-", "0"):
        tab.page.keyboard.press(key)
        tab.page.wait_for_timeout(50)
    tab.page.wait_for_function("location.hash === ''")
    assert tab.page_errors == []
    tab.close()


@pytest.mark.usefixtures("bundled_scripts")
@pytest.mark.parametrize("viewer", ["openseadragon", "openlayers"])
@on_browser_thread
def test_rotation(viewer: str, chromium: Chromium, tmp_path: Path) -> None:
    tab = BrowserTab(chromium)
    address = cut_page(tmp_path, viewer)
    tab.open(address)
    zoom = min(WINDOW_SIZE[0] / IMAGE_SIZE[1], WINDOW_SIZE[1] / IMAGE_SIZE[0])

    def check(turns: int) -> None:
        tab.wait_until_drawn()
        seen = tab.screenshot()
        for x, y in ((0.1, 0.1), (0.9, 0.1), (0.1, 0.9), (0.5, 0.7)):
            right, down = (x - 0.5) * IMAGE_SIZE[0] * zoom, (y - 0.5) * IMAGE_SIZE[1] * zoom
            for _ in range(turns):
                right, down = -down, right
            at = round(WINDOW_SIZE[0] / 2 + right), round(WINDOW_SIZE[1] / 2 + down)
            pixel: Any = seen.getpixel(at)
            assert np.abs(np.subtract(pixel, colour_at(x, y))).max() <= 8, (turns, x, y)

    tab.page.get_by_role("button", name="Rotate right").click()
    tab.page.wait_for_function("location.hash.endsWith('/512.5/350/90')")
    check(1)
    tab.page.reload()
    check(1)
    tab.page.keyboard.press("ArrowRight")  # what is seen moves to the left, as without rotation
    tab.page.wait_for_function("!location.hash.endsWith('/350/90')")
    place = re.search("#(.*)/(.*)/(.*)/90", tab.page.url)
    assert place is not None
    assert abs(float(place[2]) - 512.5) < 0.2
    assert float(place[3]) == pytest.approx(350 - 0.2 * WINDOW_SIZE[0] / zoom, abs=0.2)
    tab.page.keyboard.press("0")
    check(1)
    tab.page.keyboard.press("Shift+R")
    tab.page.keyboard.press("Shift+R")
    tab.page.wait_for_function("location.hash.endsWith('/512.5/350/270')")
    check(3)
    tab.page.keyboard.press("r")
    tab.page.wait_for_function("location.hash === ''")
    assert tab.page_errors == []
    tab.close()
