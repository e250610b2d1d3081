"""The gallery of the site: each pyramid in Chromium, in each viewer, beside its image."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import matplotlib
import numpy as np
import pytest
from PIL import Image

from fasttile import cli
from fasttile.layouts import LAYOUTS
from fasttile.viewers import VIEWERS
from support.doc_blocks import DOCS, fasttile_calls
from support.viewer_browser import (
    LIGHT_BACKGROUND,
    WINDOW_SIZE,
    BrowserTab,
    Chromium,
    on_browser_thread,
)
from support.viewer_results import WindowView

pytestmark = pytest.mark.slow

MAKE = runpy.run_path(str(DOCS / "make_gallery.py"))
EXHIBITS: tuple[Any, ...] = MAKE["EXHIBITS"]
LARGE = [exhibit for exhibit in EXHIBITS if exhibit.name != "collection"]

CELL = 20
"""Side of the squares of the screen whose means are compared, in pixels."""


def test_each_layout_and_viewer_is_shown() -> None:
    commands = [exhibit.command for exhibit in EXHIBITS]
    words = {word.split(":")[0] for text in commands for word in text.split()}
    # A TIFF has no page, and dzi is what is cut without --layout.
    assert set(LAYOUTS) - {"tiff", "dzi"} <= words
    assert any("-o photographs.dzi" in text and "--layout" not in text for text in commands)
    assert set(MAKE["VIEWERS"]) == set(VIEWERS)
    assert all(set(exhibit.viewers) == set(VIEWERS) for exhibit in LARGE)
    assert {exhibit.viewers[0] for exhibit in EXHIBITS} == set(VIEWERS)
    assert len({exhibit.name for exhibit in EXHIBITS}) == len(EXHIBITS)


def test_each_command_is_parsed() -> None:
    parser = cli.command_parser(cli.COMMANDS, cli.COMMANDS)
    for exhibit in EXHIBITS:
        for viewer in exhibit.viewers:
            (arguments,) = fasttile_calls(exhibit.command.format(viewer=viewer))
            _, unknown = parser.parse_known_args(arguments)
            assert not unknown


def test_the_page_has_a_place_for_the_sections() -> None:
    page = (DOCS / MAKE["PAGE"]).read_text("utf-8")
    assert page.count(MAKE["MARK"]) == 1
    for exhibit in EXHIBITS:
        section = MAKE["write_section"](exhibit)
        assert section.count("<iframe") == 1
        assert all(exhibit.page(viewer) in section for viewer in exhibit.viewers)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for name, draw in MAKE["IMAGES"].items():
        draw(folder / name)
    return folder


def expected_pixels(exhibit: Any, images: Path) -> np.ndarray:
    """The image as RGB, of (height, width, 3), by Pillow, NumPy and matplotlib."""
    (name,) = exhibit.sources
    if name.endswith(".npy"):
        values = np.load(images / name)
    else:
        values = np.asarray(Image.open(images / name))
    palette = re.search(r"--bands 1=(\w+) --window 0,(\d+)", exhibit.command)
    if palette:
        colours = matplotlib.colormaps[palette[1]](values / float(palette[2]))
        return (colours[..., :3] * 255).round().astype(np.uint8)
    return values


def find_faults(shot: Image.Image, pixels: np.ndarray, zoom: float) -> list[str]:
    """Squares of the screen whose mean is not that of the same part of the image."""
    view = WindowView(WINDOW_SIZE, (pixels.shape[1], pixels.shape[0]), zoom)
    (left, top), (right, bottom) = view.to_screen(0, 0), view.to_screen(1, 1)
    scale = (right - left) / pixels.shape[1]
    seen = np.asarray(shot, np.float64)
    found, count = [], 0
    for x in range(20, WINDOW_SIZE[0] - CELL, 67):
        for y in range(20, WINDOW_SIZE[1] - CELL, 59):
            if not (
                left < x - 3 and x + CELL + 3 < right and top < y - 3 and y + CELL + 3 < bottom
            ):
                continue
            count += 1
            # Viewers round places: a square may be two pixels of the screen off.
            means = [
                part_mean(pixels, (x + dx - left) / scale, (y + dy - top) / scale, CELL / scale)
                for dx in (-2, 0, 2)
                for dy in (-2, 0, 2)
            ]
            mean = seen[y : y + CELL, x : x + CELL].mean(axis=(0, 1))
            if (mean < np.min(means, axis=0) - 8).any() or (mean > np.max(means, axis=0) + 8).any():
                found.append(f"at {x}, {y}: {mean.round()}, not {means[4].round()}")
    assert count > 12
    return found


def part_mean(pixels: np.ndarray, x: float, y: float, side: float) -> np.ndarray:
    """The mean colour of a square of the image, from its upper left corner on."""
    columns, rows = slice(round(x), round(x + side)), slice(round(y), round(y + side))
    return pixels[rows, columns].mean(axis=(0, 1), dtype=np.float64)


def is_local(url: str, origin: str) -> bool:
    return url.startswith((origin + "/", "blob:" + origin, "data:", "about:"))


@pytest.mark.long
@pytest.mark.parametrize("viewer", VIEWERS)
@on_browser_thread
def test_each_page_shows_its_image(
    viewer: str, chromium: Chromium, origin: str, images: Path
) -> None:
    faults: dict[str, list[str]] = {}
    for exhibit in LARGE:
        tab, requests = BrowserTab(chromium), list[str]()
        tab.page.on("request", lambda request, to=requests: to.append(request.url))
        tab.open(f"{origin}/gallery/{exhibit.page(viewer)}")
        pixels = expected_pixels(exhibit, images)
        found = find_faults(tab.screenshot(), pixels, 1)
        tab.page.keyboard.press("+")
        for _ in range(40):
            tab.wait_until_drawn()
            closer = find_faults(tab.screenshot(), pixels, 2)
            if not closer:
                break
            tab.page.wait_for_timeout(50)
        found += closer + [url for url in requests if not is_local(url, origin)] + tab.page_errors
        assert len(requests) > 2
        if found:
            faults[exhibit.name] = found
        tab.close()
    assert not faults


@pytest.mark.long
@on_browser_thread
def test_the_wall_shows_its_images(chromium: Chromium, origin: str, images: Path) -> None:
    from skimage.measure import label, regionprops

    exhibit = EXHIBITS[-1]
    tab = BrowserTab(chromium)
    tab.page.set_viewport_size({"width": 640, "height": 700})  # the plain wall scrolls in less
    tab.open(f"{origin}/gallery/{exhibit.page('openseadragon')}")
    seen = np.asarray(tab.screenshot())
    tab.close()
    different = abs(seen.astype(int) - LIGHT_BACKGROUND).max(axis=2) > 12
    areas = [found for found in regionprops(label(different)) if found.area > 2000]
    areas.sort(key=lambda found: (found.bbox[0] // 200, found.bbox[1]))
    assert len(areas) == len(exhibit.sources) == 4
    unmatched = set(exhibit.sources)
    for area in areas:
        y0, x0, y1, x1 = area.bbox
        part = Image.fromarray(seen[y0:y1, x0:x1]).resize((6, 6), Image.Resampling.BOX)
        for name in sorted(unmatched):
            image = Image.open(images / name).convert("RGB")
            small = image.resize((6, 6), Image.Resampling.BOX)
            if abs(np.asarray(part, float) - np.asarray(small, float)).mean() < 10:
                unmatched.remove(name)
                break
    assert not unmatched


@pytest.mark.long
@on_browser_thread
def test_the_gallery_embeds_each_page(chromium: Chromium, origin: str) -> None:
    tab, requests = BrowserTab(chromium), list[str]()
    tab.page.on("request", lambda request: requests.append(request.url))
    tab.page.goto(f"{origin}/gallery/")
    for exhibit in EXHIBITS:
        frame = tab.page.locator(f"iframe[name={exhibit.name}]")
        frame.scroll_into_view_if_needed()
        inner = tab.page.frame_locator(f"iframe[name={exhibit.name}]")
        inner.locator("#stage[aria-busy=false]").wait_for(timeout=30_000)
        for viewer in exhibit.viewers[1:]:
            tab.page.locator(f"a[target={exhibit.name}][href*='/{viewer}/']").click()
            tab.page.wait_for_function(
                "([name, address]) => frames[name].location.href.endsWith(address)",
                arg=[exhibit.name, exhibit.page(viewer)],
            )
            inner.locator("#stage[aria-busy=false]").wait_for(timeout=30_000)
    assert not tab.page_errors
    assert not [url for url in requests if not is_local(url, origin)]
    loaded = {unquote(urlsplit(url).path) for url in requests}
    for exhibit in EXHIBITS:
        for viewer in exhibit.viewers:
            assert f"/gallery/{exhibit.page(viewer)}" in loaded
    tab.close()
