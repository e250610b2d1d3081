"""Tiles of one and of two sizes on dense and on usual screens: are those requested sharp?"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import fasttile
from fasttile.kernels import shrink
from fasttile.layouts import LayoutSpec
from fasttile.viewers import VIEWERS, Script, build_page, known_scripts
from support.reference import Array
from support.viewer_browser import (
    WINDOW_SIZE,
    BrowserTab,
    Chromium,
    find_npm_file,
    on_browser_thread,
)

pytestmark = pytest.mark.slow

LAYOUT = "xyz:scale=2"
TILE_SIZE, TOP_ZOOM = 128, 3

LEAFLET = """
const map = L.map("stage", { crs: L.CRS.Simple, zoomControl: false, attributionControl: false,
  zoomAnimation: false, fadeAnimation: false }).setView([-220 / 8, 320 / 8], 3);
L.tileLayer("map/{z}/{x}/{y}{r}.png", { tileSize: 128, noWrap: true, maxZoom: 3,
  bounds: [[0, 0], [-440 / 8, 640 / 8]] })
  .on("load", () => document.getElementById("stage").setAttribute("aria-busy", "false")).addTo(map);
"""

OPENLAYERS = """
const dense = window.devicePixelRatio > 1;
const extent = [0, -1024, 1024, 0];
const projection = new ol.proj.Projection({ code: "css", units: "pixels", extent });
const source = new ol.source.XYZ({ projection, wrapX: false, interpolate: false, transition: 0,
  url: `map/{z}/{x}/{y}${dense ? "@2x" : ""}.png`, tilePixelRatio: dense ? 2 : 1,
  tileGrid: new ol.tilegrid.TileGrid({ extent, tileSize: 128, resolutions: [8, 4, 2, 1] }) });
const map = new ol.Map({ target: "stage", controls: [],
  layers: [new ol.layer.Tile({ source, extent: [0, -440, 640, 0] })],
  view: new ol.View({ projection, center: [320, -220], resolution: 1, maxResolution: 8 }) });
map.once("rendercomplete", () =>
  document.getElementById("stage").setAttribute("aria-busy", "false"));
"""


@pytest.fixture(scope="module")
def pixels() -> Array:
    """An image that fills a dense screen: noise, of which nothing is left if it is stretched."""
    width, height = WINDOW_SIZE
    return np.random.default_rng(7).integers(0, 256, (2 * height, 2 * width, 3), np.uint8)


@pytest.fixture(scope="module")
def folder(pixels: Array, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that holds the result."""
    folder = tmp_path_factory.mktemp("retina")
    fasttile.cut(pixels, folder / "map", layout=LAYOUT, tile_size=TILE_SIZE, format="png")
    return folder


def open_tab(chromium: Chromium, density: float, address: str) -> tuple[BrowserTab, list[str]]:
    """A page on a screen with this number of pixels for each of CSS, and all its requests."""
    tab = BrowserTab(chromium, device_scale_factor=density)
    requests: list[str] = []
    tab.page.on("request", lambda request: requests.append(request.url))
    tab.open(address)
    return tab, requests


def tile_names(requests: list[str]) -> set[str]:
    return {found[0] for url in requests if (found := re.search(r"\d+/\d+/\d+(@2x)?\.png", url))}


def assert_shown(tab: BrowserTab, wanted: Array, *, is_exact: bool = True) -> None:
    """Assert that a screenshot has these pixels, but for a few at borders of tiles.

    OpenSeadragon stretches each tile by a pixel, so that no seams show: of its noise two thirds of
    the contrast are left, and of noise that was enlarged from half the size less than one.
    """
    seen = np.asarray(tab.screenshot()).astype(int)
    assert seen.shape == wanted.shape
    if is_exact:
        wrong = (abs(seen - wanted) > 2).any(axis=2).mean()
        assert wrong < 0.02, f"{wrong:.1%} of the pixels"
    else:
        assert 0.5 < seen.std() / wanted.std() < 1.1


def page_address(folder: Path, viewer: str) -> str:
    layout = LayoutSpec.parse(LAYOUT).bind(
        "map", 2 * WINDOW_SIZE[0], 2 * WINDOW_SIZE[1], "png", tile_size=TILE_SIZE
    )
    ((name, data),) = build_page(layout, viewer).items()
    (folder / name).write_bytes(data)
    return (folder / name).as_uri()


@pytest.mark.usefixtures("bundled_scripts")
@pytest.mark.parametrize("viewer", VIEWERS)
@on_browser_thread
def test_a_page_shows_the_tiles_of_the_screen(
    viewer: str, chromium: Chromium, folder: Path, pixels: Array
) -> None:
    address, is_exact = page_address(folder, viewer), viewer != "openseadragon"
    tab, requests = open_tab(chromium, 2, address)
    assert any(name.startswith(f"{TOP_ZOOM}/") for name in tile_names(requests))
    assert all("@2x" in name for name in tile_names(requests))
    assert_shown(tab, pixels, is_exact=is_exact)
    assert tab.page_errors == []
    tab.close()

    tab, requests = open_tab(chromium, 1, address)
    if is_exact:
        assert any(name.startswith(f"{TOP_ZOOM}/") for name in tile_names(requests))
        assert not any("@2x" in name for name in tile_names(requests))
        assert_shown(tab, shrink(pixels))
    tab.page.keyboard.press("+")
    tab.page.wait_for_timeout(200)
    tab.wait_until_drawn()
    # At the full size, the tiles are quarters of those for dense screens.
    assert any(name.endswith("@2x.png") for name in tile_names(requests))
    width, height = WINDOW_SIZE
    top, left = height // 2, width // 2
    assert_shown(tab, pixels[top : top + height, left : left + width], is_exact=is_exact)
    assert tab.page_errors == []
    tab.close()


@pytest.mark.usefixtures("bundled_scripts")
@pytest.mark.parametrize("viewer", [*VIEWERS, "plain"])
@on_browser_thread
def test_usual_tiles_are_sharp_on_a_dense_screen(
    viewer: str,
    chromium: Chromium,
    pixels: Array,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All of the image fits: each of its pixels is one of the screen, half a pixel of CSS wide."""
    if viewer == "plain":
        monkeypatch.setattr(Script, "bundled_text", lambda self: None)
    viewer, is_exact = viewer.replace("plain", "leaflet"), viewer != "openseadragon"
    fasttile.cut(pixels, tmp_path / "map", layout="zoomify", format="png", viewer=viewer)
    (page,) = tmp_path.rglob("*.html")
    tab, requests = open_tab(chromium, 2, page.as_uri())
    assert {url.rpartition("/")[2] for url in requests} >= {
        f"3-{x}-{y}.png" for x in range(5) for y in range(4)
    }
    assert_shown(tab, pixels, is_exact=is_exact)
    assert tab.page_errors == []
    tab.close()


@pytest.mark.usefixtures("bundled_scripts")
@pytest.mark.parametrize("viewer", VIEWERS)
@on_browser_thread
def test_no_seams_and_no_enlarged_tiles_between_densities(
    viewer: str, chromium: Chromium, tmp_path: Path
) -> None:
    """1.25 pixels for each of CSS."""
    pixels = np.full((2 * WINDOW_SIZE[1], 2 * WINDOW_SIZE[0], 3), 77, np.uint8)
    fasttile.cut(pixels, tmp_path / "a.dzi", tile_size=128, format="png", viewer=viewer)
    tab, requests = open_tab(chromium, 1.25, (tmp_path / "a.html").as_uri())
    assert {url.split("/")[-2] for url in requests if url.endswith(".png")} >= {"11"}
    seen = np.asarray(tab.screenshot())
    assert np.ptp(seen[5:-5, 5:-5].reshape(-1, 3), 0).max() <= 1
    assert tab.page_errors == []
    tab.close()


@pytest.mark.usefixtures("bundled_scripts")
@on_browser_thread
def test_openseadragon_requests_smaller_tiles_where_they_suffice(
    chromium: Chromium, folder: Path
) -> None:
    """It takes the full size from half of it on, as it does with all tiles."""
    tab, requests = BrowserTab(chromium), list[str]()
    tab.page.on("request", lambda request: requests.append(request.url))
    tab.page.set_viewport_size({"width": WINDOW_SIZE[0] - 20, "height": WINDOW_SIZE[1] - 20})
    tab.open(page_address(folder, "openseadragon"))
    assert f"{TOP_ZOOM}/0/0.png" in tile_names(requests)
    assert not any("@2x" in name for name in tile_names(requests))
    assert tab.page_errors == []
    tab.close()


@pytest.mark.parametrize(
    ("script", "styles", "code"),
    [("leaflet.js", "leaflet.css", LEAFLET), ("ol.js", None, OPENLAYERS)],
)
@on_browser_thread
def test_viewers_of_others_show_them(
    script: str, styles: str | None, code: str, chromium: Chromium, folder: Path, pixels: Array
) -> None:
    """Leaflet by its `{r}`, OpenLayers by `tilePixelRatio`: each 1x tile has an @2x one."""
    files = [find_npm_file(known_scripts()[name]) for name in (script, styles) if name]
    if None in files:
        pytest.skip("there are no scripts of viewers; tests/browser/setup.sh installs them")
    page = folder / f"own-{script}.html"
    style = f'<link rel="stylesheet" href="{files[-1].as_uri()}">' if styles else ""  # type: ignore[union-attr]
    page.write_text(
        f'<!doctype html><meta charset="utf-8">{style}<style>html, body, #stage '
        "{ margin: 0; height: 100% } img { image-rendering: pixelated }</style>"
        f'<div id="stage"></div><script src="{files[0].as_uri()}"></script>'  # type: ignore[union-attr]
        f"<script>{code}</script>"
    )
    for density, wanted in ((2, pixels), (1, shrink(pixels))):
        tab, requests = open_tab(chromium, density, page.as_uri())
        names = tile_names(requests)
        assert names == {
            f"{TOP_ZOOM}/{x}/{y}{'@2x' * (density == 2)}.png" for x in range(5) for y in range(4)
        }
        assert_shown(tab, wanted)
        assert tab.page_errors == []
        tab.close()
