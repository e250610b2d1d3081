"""The plain viewer of a build without the libraries, in a real browser from the disk."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fasttile
from fasttile.serve import ViewerServer
from fasttile.serve.content import collection_page, open_content
from fasttile.viewers import Script
from support.viewer_browser import LIGHT_BACKGROUND, WINDOW_SIZE, BrowserTab, Chromium
from support.viewer_browser import on_browser_thread as on_thread
from support.viewer_results import IMAGE_SIZE, WindowView, colour_fields
from support.wall_results import make_collection, member_colour

pytestmark = pytest.mark.slow

WIDTH, HEIGHT = WINDOW_SIZE

LAYOUTS: dict[str, dict[str, Any]] = {
    "dzi": {"overlap": 2},
    "zoomify": {},
    "xyz:centre": {"levels": "1-3"},
    "xyz:scale=2": {},
    "tms": {},
    "tilecache": {},
    "gsiv": {},
    "iiif2:id=https://example.org/{name}": {"format": "jpg", "quality": 100},
    "iiif3:id=https://example.org/{name}": {},
}


@pytest.fixture(autouse=True)
def _no_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fasttile that was built without npm."""
    monkeypatch.setattr(Script, "bundled_text", lambda self: None)


def noise(width: int, height: int) -> np.ndarray[Any, Any]:
    """Grey blocks of 2×2 pixels, so that the half of it is certain, and JPEG is nearly right."""
    half = np.random.default_rng(5).integers(0, 256, (height // 2, width // 2, 1), np.uint8)
    return half.repeat(2, 0).repeat(2, 1).repeat(3, 2)


def cut_page(folder: Path, pixels: Any, **options: Any) -> Path:
    """Cut with a page; its path."""
    dest = folder / ("map.dzi" if options["layout"] == "dzi" else "map")
    options = {"format": "png", "viewer": "openseadragon", **options}
    report = fasttile.cut(pixels, dest, **options)
    assert any(note.startswith("the page shows a plain viewer") for note in report.notes)
    (page,) = folder.rglob("*.html")
    return page


def shown(tab: BrowserTab) -> np.ndarray[Any, Any]:
    tab.wait_until_drawn()
    return np.asarray(tab.screenshot())


@pytest.mark.slow
@on_thread
def test_pixels_are_those_of_the_source(chromium: Chromium, tmp_path: Path) -> None:
    """Fitted, of each pixel of the next level; nearer, the middle of the source."""
    pixels = noise(2 * WIDTH, 2 * HEIGHT)
    middle = pixels[HEIGHT // 2 : -HEIGHT // 2, WIDTH // 2 : -WIDTH // 2]
    faults = {}
    for number, (layout, options) in enumerate(LAYOUTS.items()):
        page = cut_page(tmp_path / str(number), pixels, layout=layout, **options)
        tab = BrowserTab(chromium)
        asked: list[str] = []
        tab.page.on("request", lambda request, asked=asked: asked.append(request.url))
        tab.open(page.as_uri())
        limit = 4 if options.get("format") == "jpg" else 0
        found = [np.abs(shown(tab).astype(int) - pixels[::2, ::2]).max() > limit]
        tab.page.keyboard.press("+")
        found += [np.abs(shown(tab).astype(int) - middle).max() > limit]
        found += [*tab.page_errors, *(url for url in asked if not re.match("file:|data:", url))]
        if any(found):
            faults[layout] = found
        tab.close()
    assert not faults


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (3000, 3), (257, 256)])
@on_thread
def test_odd_sizes_fill_the_window(
    size: tuple[int, int], chromium: Chromium, tmp_path: Path
) -> None:
    pixels = np.full((size[1], size[0], 3), (200, 30, 90), np.uint8)
    tab = BrowserTab(chromium)
    tab.open(cut_page(tmp_path, pixels, layout="dzi").as_uri())
    seen = shown(tab)
    own = np.abs(seen.astype(int) - LIGHT_BACKGROUND).max(2) > 2
    zoom = min(WIDTH / size[0], HEIGHT / size[1])
    if zoom > 1:
        assert (seen[own] == (200, 30, 90)).all()  # with sharp edges
    for axis, (side, room) in enumerate(((size[1], HEIGHT), (size[0], WIDTH))):
        assert abs(own.any(1 - axis).sum() - min(side * zoom, room)) <= 2
    assert not tab.page_errors
    tab.close()


@on_thread
def test_transparent_pixels_are_drawn_once(chromium: Chromium, tmp_path: Path) -> None:
    """Where tiles overlap too, and once the tiles of another level lay there."""
    pixels = np.full((2 * HEIGHT, 2 * WIDTH, 4), (0, 0, 0, 128), np.uint8)
    tab = BrowserTab(chromium)
    tab.open(cut_page(tmp_path, pixels, layout="dzi", overlap=5).as_uri())
    for key in ("0", "+", "-", "-", "0"):
        tab.page.keyboard.press(key)
        seen = shown(tab)[HEIGHT // 4 : -HEIGHT // 4, WIDTH // 4 : -WIDTH // 4 - 5].reshape(-1, 3)
        assert np.ptp(seen[5:], 0).max() <= 1, key
        assert abs(int(seen[5, 0]) - LIGHT_BACKGROUND[0] // 2) <= 2, key
    tab.close()


@on_thread
def test_keys_wheel_mouse_and_fingers(chromium: Chromium, tmp_path: Path) -> None:
    pixels = np.asarray(colour_fields(*IMAGE_SIZE))
    tab = BrowserTab(chromium, has_touch=True)
    tab.open(cut_page(tmp_path, pixels, layout="zoomify").as_uri())
    page, mouse, overview = tab.page, tab.page.mouse, WindowView(WINDOW_SIZE, IMAGE_SIZE)

    def check(**view: Any) -> None:
        page.evaluate("document.activeElement.blur()")  # its ring lies on the image
        tab.wait_until_drawn()
        assert overview._replace(**view).find_faults(tab.screenshot(), LIGHT_BACKGROUND) == []

    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "stage"
    ring = page.evaluate("getComputedStyle(stage, '::after').borderTopWidth")
    assert ring == "3px"  # the focus is seen
    assert page.get_by_role("application", name="map, 1,025 × 700 pixels").count() == 1
    check()
    page.keyboard.press("+")
    check(zoom=2)
    page.keyboard.press("ArrowRight")
    check(zoom=2, shift=(0.2, 0))
    page.keyboard.press("Home")
    check()
    mouse.move(WIDTH / 2, HEIGHT / 2)
    mouse.wheel(0, -200)
    page.wait_for_selector("#stage[aria-busy=false]")
    _wait_for(lambda: check(zoom=2))
    mouse.down()
    mouse.move(WIDTH / 2 - 64, HEIGHT / 2 - 44, steps=3)
    mouse.up()
    check(zoom=2, shift=(0.1, 0.1))
    page.get_by_role("button", name="Show all").click()
    check()
    mouse.dblclick(WIDTH / 2, HEIGHT / 2)
    check(zoom=2)
    page.keyboard.press("0")
    touch = tab.context.new_cdp_session(page)
    for kind, half in (("touchStart", 50), ("touchMove", 70), ("touchMove", 100)):
        points = [{"x": WIDTH / 2 + side * half, "y": HEIGHT / 2, "id": side} for side in (0, 1)]
        points[0]["x"] = WIDTH / 2 - half
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    _wait_for(lambda: check(zoom=2))
    page.keyboard.press("0")
    page.set_viewport_size({"width": 500, "height": 300})
    _wait_for(lambda: check(window=(500, 300)))
    assert tab.page_errors == []
    tab.close()


def _wait_for(check: Callable[[], None]) -> None:
    for _ in range(40):
        try:
            return check()
        except AssertionError:
            time.sleep(0.05)
    return check()


@on_thread
def test_what_is_missing_is_said_or_of_one_colour(chromium: Chromium, tmp_path: Path) -> None:
    pixels = np.full((900, 900, 3), 255, np.uint8)
    pixels[300:310] = 0
    page = cut_page(tmp_path, pixels, layout="xyz", skip_blank=0, background="white")
    tab = BrowserTab(chromium)
    tab.page.goto(page.as_uri())
    tab.page.locator("#controls").wait_for()  # then keys are heard
    tab.page.keyboard.press("+")
    tab.page.keyboard.press("+")
    assert (shown(tab)[HEIGHT // 2, WIDTH // 2] == 255).all()
    tab.page.goto(page.rename(tmp_path / "elsewhere.html").as_uri())
    tab.close()
    other = tmp_path / "other"
    other.mkdir()
    tab = BrowserTab(chromium)
    page = cut_page(tmp_path / "dzi", pixels, layout="dzi")
    tab.page.goto(page.rename(other / "map.html").as_uri())
    tab.page.wait_for_selector("text=No tiles are found: this page has to lie beside")
    tab.close()


@on_thread
def test_one_file_is_chosen_from_the_disk(chromium: Chromium, tmp_path: Path) -> None:
    path = tmp_path / "map.pmtiles"
    pixels = np.asarray(colour_fields(*IMAGE_SIZE))
    fasttile.cut(pixels, path, viewer="leaflet", quality=95)
    tab = BrowserTab(chromium)
    tab.page.goto(path.with_suffix(".html").as_uri())
    tab.page.get_by_label("Choose map.pmtiles here").set_input_files(path)
    tab.wait_until_drawn()
    view = WindowView(WINDOW_SIZE, IMAGE_SIZE)
    assert view.find_faults(tab.screenshot(), LIGHT_BACKGROUND) + tab.page_errors == []
    tab.close()


@on_thread
def test_view_shows_an_image_plainly(chromium: Chromium, tmp_path: Path) -> None:
    pixels = noise(2 * WIDTH, 2 * HEIGHT)
    Image.fromarray(pixels).save(tmp_path / "map.png")
    messages: list[str] = []
    with (
        open_content(tmp_path / "map.png", format="png") as show,
        ViewerServer(show, report=messages.append) as server,
    ):
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        tab = BrowserTab(chromium)
        tab.open(server.url)
        assert (shown(tab) == pixels[::2, ::2]).all()
        assert tab.page_errors + messages == []
        tab.close()
        server.shutdown()
        thread.join()


@on_thread
def test_a_wall_shows_thumbnails_and_each_image(chromium: Chromium, tmp_path: Path) -> None:
    titles = ["plain", "a b%41#x?&\"'<é😀", "tiny", "odd", "tall"]
    collection = make_collection(tmp_path, "wall", titles)
    (tmp_path / "images/odd.dzi").unlink()  # of which only the thumbnail is left
    ((name, data),) = collection_page(collection).items()
    (tmp_path / name).write_bytes(data)
    tab = BrowserTab(chromium)
    tab.open((tmp_path / name).as_uri())
    colours = {colour for _, colour in tab.screenshot().getcolors(10**6) or []}
    tab.page.evaluate("document.querySelector('#labels').scrollTo(0, 1e4)")  # the last line
    tab.wait_until_drawn()
    colours |= {colour for _, colour in tab.screenshot().getcolors(10**6) or []}
    for number, title in enumerate(titles):
        wanted = member_colour(number)
        assert any(np.abs(np.subtract(colour, wanted)).max() <= 6 for colour in colours), title
        button = tab.page.get_by_role("button", name=title, exact=True)
        if title == "odd":
            assert button.is_disabled()
            continue
        button.focus()
        tab.page.keyboard.press("Enter")
        tab.page.wait_for_selector("#labels", state="hidden")
        tab.page.wait_for_selector("#stage canvas")
        seen = shown(tab)[HEIGHT // 2, WIDTH // 2]
        assert np.abs(seen.astype(int) - wanted).max() <= 6, title
        tab.page.keyboard.press("0")
        tab.page.wait_for_selector("#labels")
        assert tab.page.evaluate("document.activeElement.innerText.trim()") == title
    assert tab.page_errors == []
    tab.close()


@on_thread
def test_no_seams_on_a_screen_with_pixels_of_an_odd_size(
    chromium: Chromium, tmp_path: Path
) -> None:
    pixels = np.full((2 * HEIGHT, 2 * WIDTH, 3), 77, np.uint8)
    tab = BrowserTab(chromium, device_scale_factor=1.25)
    tab.open(cut_page(tmp_path, pixels, layout="zoomify", tile_size=64).as_uri())
    tab.page.keyboard.press("-")  # to half of the window
    tab.page.evaluate("document.activeElement.blur()")
    assert (shown(tab)[HEIGHT // 2 : HEIGHT // 4 * 3, WIDTH // 2 : WIDTH // 4 * 3] == 77).all()
    tab.close()


def far_line(region: fasttile.Region, scale: int) -> np.ndarray[Any, Any]:
    """Green, with a red line 3 pixels wide in the middle, on each level."""
    x = np.arange(region.x, region.right) - 2**39 // scale
    pixels = np.full((region.height, region.width, 3), (0, 200, 0), np.uint8)
    pixels[:, abs(x) <= 1] = (250, 0, 0)
    return pixels


@on_thread
def test_tiles_of_a_huge_image_lie_where_they_belong(chromium: Chromium) -> None:
    source = fasttile.from_function(far_line, 2**40, 2**40, per_level=True, name="deep")
    tab = BrowserTab(chromium)
    with open_content(source, format="png") as show, ViewerServer(show) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        tab.open(server.url)
        for steps in (1, 20, 11):
            for _ in range(steps):
                tab.page.keyboard.press("+")
            seen = shown(tab)[HEIGHT // 2 + 9]
            red = np.flatnonzero(seen[:, 0] > 128)
            assert 1 <= len(red) <= 6
            assert abs(red.mean() - WIDTH / 2) <= 4
            assert (seen[: WIDTH // 2 - 9] == (0, 200, 0)).all()
        tab.close()
        server.shutdown()
        thread.join()


def test_notes_of_cut_and_convert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.zeros((30, 40, 3), np.uint8)
    note = (
        "the page shows a plain viewer: this fasttile was built without the script of OpenLayers; "
        "install npm and build it again, or use openlayers:cdn"
    )
    report = fasttile.cut(pixels, tmp_path / "a.dzi", viewer="openlayers")
    assert report.notes == (note,)
    report = fasttile.cut(pixels, tmp_path / "b.dzi", viewer="openlayers:cdn")
    assert report.notes == ()
    copied = fasttile.convert(tmp_path / "a.dzi", tmp_path / "c.dzi", viewer="openlayers")
    assert copied.notes == (note,)
    monkeypatch.setattr(Script, "bundled_text", lambda self: "/* it is here */")
    assert fasttile.cut(pixels, tmp_path / "d.dzi", viewer="openlayers").notes == ()
