"""Zoom, scale bar, measuring line and the small map of pages; the size of a pixel they go by."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fasttile
from fasttile.abc.source import Metadata
from fasttile.formats.geotiff import GeoReference
from fasttile.viewers import pixel_size
from support.viewer_browser import WINDOW_SIZE, BrowserTab, Chromium, on_browser_thread
from support.viewer_results import FIELD_COLOURS, IMAGE_SIZE, colour_fields

pytestmark = pytest.mark.slow

WIDTH, HEIGHT = WINDOW_SIZE
DPI = 50_800
"""Half a micrometre for each pixel."""


def cut_page(folder: Path, viewer: str, dpi: float = DPI, **options: Any) -> Path:
    """The page of coloured fields with this resolution."""
    colour_fields(*IMAGE_SIZE).save(folder / "fields.tif", dpi=(dpi, dpi))
    fasttile.cut(folder / "fields.tif", folder / "map", layout="zoomify", viewer=viewer, **options)
    (page,) = folder.rglob("*.html")
    return page


def described(page: Path) -> Any:
    """The values for the script of a page."""
    found = re.search('id="picture">(.*?)</script>', page.read_text("utf-8"), re.S)
    assert found is not None
    return json.loads(found[1])


@on_browser_thread
def test_zoom_and_scale_bar(viewer: str, chromium: Chromium, tmp_path: Path) -> None:
    tab = BrowserTab(chromium)
    tab.open(cut_page(tmp_path, viewer).as_uri() + "#0.5/500/300")
    zoom = tab.page.get_by_role("button", name="show at 100 %")
    bar = tab.page.locator("#scale")
    assert zoom.inner_text() == "50 %"
    assert bar.inner_text() == "100 µm"  # 200 pixels of the image
    assert bar.bounding_box()["width"] == 100
    zoom.click()
    tab.page.wait_for_function("location.hash === '#1/500/300'")
    assert (zoom.inner_text(), bar.inner_text()) == ("100 %", "50 µm")
    assert bar.bounding_box()["width"] == 100
    tab.page.keyboard.press("+")
    tab.page.wait_for_function("location.hash === '#2/500/300'")
    assert (zoom.inner_text(), bar.inner_text()) == ("200 %", "20 µm")
    assert bar.bounding_box()["width"] == 80
    tab.page.keyboard.press("1")
    assert zoom.inner_text() == "100 %"
    assert tab.page_errors == []
    tab.close()


@on_browser_thread
def test_measuring(viewer: str, chromium: Chromium, tmp_path: Path) -> None:
    tab = BrowserTab(chromium)
    tab.open(cut_page(tmp_path, viewer).as_uri() + "#0.5/500/300")
    mouse, keys = tab.page.mouse, tab.page.keyboard
    text = tab.page.locator("#ruler text")

    def check(length: str, path: str) -> None:
        assert text.text_content() == length
        drawn = tab.page.locator("#ruler path").first.get_attribute("d")
        numbers = [float(number) for number in re.findall(r"[-\d.]+", str(drawn))]
        wanted = [float(number) for number in path.split()]
        assert np.abs(np.subtract(numbers, wanted)).max() < 1, drawn

    tab.page.get_by_role("button", name="Measure").click()
    assert tab.page.get_by_role("button", name="Measure", pressed=True).count() == 1
    mouse.click(100, 100)
    mouse.move(150, 100)
    assert text.text_content() == "100 px · 50 µm"
    mouse.click(220, 260)
    check("400 px · 200 µm", "100 100 220 260")
    keys.press("+")  # the line stays where it is on the image
    check("400 px · 200 µm", f"{100 * 2 - WIDTH / 2} {200 - HEIGHT / 2} {440 - WIDTH / 2} 300")
    mouse.move(300, 200)  # in one move
    mouse.down()
    mouse.move(330, 240, steps=3)
    mouse.up()
    check("50 px · 25 µm", "300 200 330 240")
    tab.page.locator("#stage").focus()
    keys.press("Enter")
    keys.press("ArrowRight")
    check("128 px · 64 µm", f"{WIDTH / 2 - 128} {HEIGHT / 2} {WIDTH / 2} {HEIGHT / 2}")
    keys.press("Enter")
    assert tab.page.get_by_role("status").inner_text() == "128 px · 64 µm"
    place = tab.page.evaluate("location.hash")
    keys.press("Escape")
    assert not tab.page.locator("#ruler").is_visible()
    mouse.move(300, 200)  # and the mouse moves the image again
    mouse.down()
    mouse.move(200, 200, steps=3)
    mouse.up()
    tab.page.wait_for_function("place => location.hash !== place", arg=place)
    assert tab.page_errors == []
    tab.close()


@on_browser_thread
def test_the_small_map(viewer: str, chromium: Chromium, tmp_path: Path) -> None:
    tab = BrowserTab(chromium)
    requests: list[str] = []
    tab.page.on("request", lambda request: requests.append(request.url))
    tab.open(cut_page(tmp_path, viewer).as_uri())
    small = tab.page.locator("#navigator")
    assert not small.is_visible()
    tab.page.keyboard.press("+")
    small.wait_for()
    box = small.bounding_box()
    assert (box["width"], box["height"]) == (162, 111)  # with its edges
    tab.wait_until_drawn()
    tab.page.wait_for_timeout(300)
    seen = np.asarray(Image.open(io.BytesIO(small.screenshot())).convert("RGB")).astype(int)
    for number, colour in enumerate(FIELD_COLOURS):
        pixel = seen[20 + number // 3 * 68, 27 + number % 3 * 53]
        assert np.abs(pixel - colour).max() < 12, number
    small.click(position={"x": 40, "y": 80})
    tab.page.wait_for_function("location.hash && !location.hash.endsWith('/512.5/350')")
    x, y = (float(number) for number in tab.page.url.split("/")[-2:])
    assert x == pytest.approx(40 * IMAGE_SIZE[0] / 160, abs=8)
    assert y == pytest.approx(80 * IMAGE_SIZE[0] / 160, abs=8)
    tab.page.go_back()
    tab.page.wait_for_function("location.hash.endsWith('/512.5/350')")
    tab.page.keyboard.press("0")
    tab.page.wait_for_selector("#navigator", state="hidden")
    assert tab.page_errors == []
    tab.close()


@pytest.mark.usefixtures("bundled_scripts")
@on_browser_thread
def test_an_image_without_a_measured_resolution_has_pixels_only(
    chromium: Chromium, tmp_path: Path
) -> None:
    page = cut_page(tmp_path, "leaflet", dpi=72)
    assert "pixelSize" not in described(page)
    tab = BrowserTab(chromium)
    tab.open(page.as_uri() + "#1/500/300")
    assert not tab.page.locator("#scale").is_visible()
    tab.page.keyboard.press("m")
    tab.page.mouse.click(100, 100)
    tab.page.mouse.click(130, 140)
    assert tab.page.locator("#ruler text").text_content() == "50 px"
    tab.close()


def test_pixels_of_a_page_without_the_largest_level(tmp_path: Path) -> None:
    page = cut_page(tmp_path, "leaflet:cdn", levels="0-1")
    assert described(page)["pixelSize"] == [1, 1]  # of half the size


def test_conversions_of_a_tiff_keep_the_size_of_pixels(tmp_path: Path) -> None:
    Image.new("RGB", (600, 400)).save(tmp_path / "a.tif", dpi=(DPI, DPI))
    fasttile.cut(tmp_path / "a.tif", tmp_path / "cut.tif", tile_size=256)
    fasttile.convert(tmp_path / "cut.tif", tmp_path / "xyz", layout="xyz", viewer="leaflet:cdn")
    (page,) = tmp_path.rglob("*.html")
    assert described(page)["pixelSize"] == [0.5, 0.5]


UTM = GeoReference(
    (0.25, 0.5, 0.0), (0.0,) * 6, keys=(1, 1, 0, 2, 3072, 0, 1, 32632, 3076, 0, 1, 9001)
)


@pytest.mark.parametrize(
    ("metadata", "wanted"),
    [
        (Metadata("x"), None),
        (Metadata("x", resolution=(254.0, 508.0)), (100, 50)),
        (Metadata("x", resolution=(72.0, 72.0)), None),
        (Metadata("x", resolution=(96.0, 95.9999)), None),
        (Metadata("x", resolution=(1.0, 1.0)), None),
        (Metadata("x", resolution=(float("nan"), 300.0)), None),
        (Metadata("x", resolution=(float("inf"), 300.0)), None),
        (Metadata("x", resolution=(72.0, 72.0), georeference=UTM), (250_000, 500_000)),
        (Metadata("x", georeference=replace(UTM, keys=UTM.keys[:8])), None),  # of unknown units
        (
            Metadata(
                "x",
                georeference=replace(
                    UTM, pixel_scale=(), transformation=(0.0, 3.0, 0, 0, 4.0, 0, *[0.0] * 10)
                ),
            ),
            (4e6, 3e6),
        ),
        (Metadata("x", georeference=replace(UTM, keys=(*UTM.keys[:7], 3857, *UTM.keys[8:]))), None),
        (Metadata("x", georeference=replace(UTM, pixel_scale=(0.0, 1.0))), None),
    ],
)
def test_size_of_a_pixel(metadata: Metadata, wanted: tuple[float, float] | None) -> None:
    assert pixel_size(metadata) == wanted
