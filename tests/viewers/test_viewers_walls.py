"""Walls and thumbnails in Chromium: clicks, taps and Escape, and controls beside the images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fasttile.serve.content import collection_page
from fasttile.viewers import Script
from support.sampling import sampled
from support.viewer_browser import BrowserTab, Chromium, on_browser_thread, served
from support.viewer_results import IMAGE_SIZE, colour_fields
from support.wall_results import make_collection, member_colour

pytestmark = pytest.mark.slow

TITLES = [f"Map {number} of a very long atlas" for number in range(7)]
PHONE = {"width": 390, "height": 740}
PLACES = """() => ["#stage", "#caption", "#controls"].map((name) => {
    const { left, top, right, bottom } = document.querySelector(name).getBoundingClientRect();
    return [left, top, right, bottom];
})"""


def write_wall(folder: Path) -> str:
    """The address of the page of a collection on the disk."""
    collection = make_collection(folder, "atlas", TITLES)
    ((name, data),) = collection_page(collection).items()
    (folder / name).write_bytes(data)
    return (folder / name).as_uri()


def wait_for_caption(tab: BrowserTab, title: str) -> None:
    """Wait until the caption has a title, and all is drawn."""
    tab.page.wait_for_function(
        "title => document.querySelector('h1').innerText === title", arg=title
    )
    tab.wait_until_drawn()


def middle_colour(tab: BrowserTab) -> Any:
    """The colour in the middle of the stage."""
    left, top, right, bottom = tab.page.evaluate(PLACES)[0]
    return np.asarray(tab.screenshot())[int(top + bottom) // 2, int(left + right) // 2]


def check_nothing_is_covered(tab: BrowserTab) -> None:
    """Caption and controls are within the window, below the stage, and beside each other."""
    stage, caption, controls = tab.page.evaluate(PLACES)
    size = tab.page.viewport_size
    assert caption[1] >= stage[3]
    assert controls[1] >= stage[3]
    assert caption[2] <= controls[0]
    assert controls[2] <= size["width"]
    assert max(caption[3], controls[3]) <= size["height"]


@pytest.mark.usefixtures("bundled_scripts")
@pytest.mark.parametrize("pointer", sampled(["mouse", "finger"], ["finger"]))
@on_browser_thread
def test_a_click_or_tap_shows_an_image_and_escape_all(
    pointer: str, chromium: Chromium, tmp_path: Path
) -> None:
    touch = pointer == "finger"
    options: dict[str, Any] = {"has_touch": True, "is_mobile": True} if touch else {}
    tab = BrowserTab(chromium, **options)
    if touch:
        tab.page.set_viewport_size(PHONE)
    tab.open(write_wall(tmp_path))
    check_nothing_is_covered(tab)
    labels = tab.page.locator("#labels button")
    assert labels.all_inner_texts() == TITLES
    assert min(box["height"] for box in map(_box, labels.all())) >= 24
    for number in (5, 2):  # one is a few pixels wide: its cell counts
        box = _box(tab.page.get_by_role("button", name=TITLES[number], exact=True))
        x, y = box["x"] + box["width"] / 2, box["y"] - 20
        # The second click of a double click does nothing more.
        press = tab.page.touchscreen.tap if touch else tab.page.mouse.dblclick
        press(x, y)
        wait_for_caption(tab, TITLES[number])
        assert np.abs(middle_colour(tab).astype(int) - member_colour(number)).max() <= 8
        check_nothing_is_covered(tab)
        before = tab.screenshot()
        press(PHONE["width"] / 2, 300) if touch else tab.page.mouse.click(320, 180)  # again
        tab.page.wait_for_timeout(200)
        assert np.array_equal(np.asarray(before), np.asarray(tab.screenshot()))
        tab.page.keyboard.press("Escape")
        wait_for_caption(tab, "atlas")
        assert labels.all_inner_texts() == TITLES
    press(3, 3) if touch else tab.page.mouse.click(3, 3)  # where no image is
    tab.page.wait_for_timeout(200)
    assert tab.page.inner_text("h1") == "atlas"
    assert tab.page_errors == []
    tab.close()


def _box(locator: Any) -> dict[str, float]:
    found: dict[str, float] = locator.bounding_box()
    return found


@on_browser_thread
def test_the_plain_wall_goes_back_too(
    chromium: Chromium, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Script, "bundled_text", lambda _: None)
    tab = BrowserTab(chromium, has_touch=True)
    tab.page.set_viewport_size(PHONE)
    tab.open(write_wall(tmp_path))
    check_nothing_is_covered(tab)
    tab.page.get_by_role("button", name=TITLES[2], exact=True).tap()
    wait_for_caption(tab, TITLES[2])
    check_nothing_is_covered(tab)
    tab.page.keyboard.press("Escape")
    wait_for_caption(tab, "atlas")
    assert tab.page.evaluate("document.activeElement.innerText.trim()") == TITLES[2]
    assert tab.page_errors == []
    tab.close()


@pytest.mark.usefixtures("bundled_scripts")
@on_browser_thread
def test_escape_leads_from_an_image_to_its_thumbnail(chromium: Chromium, tmp_path: Path) -> None:
    for number in range(30):
        colour_fields(*IMAGE_SIZE).resize((90, 60)).save(tmp_path / f"scan-{number:02}.png")
    tab = BrowserTab(chromium)
    tab.page.set_viewport_size(PHONE)
    with served(tmp_path) as url:
        for way in ("key", "link"):
            tab.page.goto(url)
            link = tab.page.get_by_role("link", name="scan-27.png")
            link.click()
            tab.page.wait_for_url(f"{url}show/27/")
            tab.wait_until_drawn()
            assert tab.page.locator("#keys").text_content().endswith("Escape goes back.")
            if way == "key":
                tab.page.keyboard.press("Escape")
            else:
                tab.page.get_by_role("link", name="All images").click()
            tab.page.wait_for_url(url)
            assert tab.page.evaluate("document.activeElement.getAttribute('href')") == "show/27/"
            box = _box(link)
            assert 0 <= box["y"] <= PHONE["height"] - 50
            assert link.locator(".name").inner_text() == "scan-27.png"
    tab.close()
