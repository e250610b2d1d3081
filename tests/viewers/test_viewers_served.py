"""In a real browser, from a server: `fasttile view`, and pages that read one file in pieces."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fasttile
from fasttile.layouts import LayoutSpec
from fasttile.serve import ViewerServer
from fasttile.serve.content import collection_page, open_content
from fasttile.viewers import VIEWERS, build_page
from support.sampling import sampled
from support.viewer_browser import (
    DARK_BACKGROUND,
    LIGHT_BACKGROUND,
    WINDOW_SIZE,
    BrowserTab,
    Chromium,
    on_browser_thread,
)
from support.viewer_results import IMAGE_SIZE, WindowView, colour_fields
from support.wall_results import make_collection, member_colour

pytestmark = pytest.mark.slow

RESULTS: dict[str, dict[str, Any]] = {
    "a <map> %41.dzi": {"overlap": 3, "levels": "3-11"},
    "zoomify": {"layout": "zoomify"},
    "tms": {"layout": "tms", "levels": "1-3"},
    "gsiv": {"layout": "gsiv"},
    "a.szi": {},
    "a.mbtiles": {"format": "png"},
    "a.tif": {"tile_size": 128},
    "avif.dzi": {"format": "avif"},
    "avif.pmtiles": {"format": "avif"},
}


@contextmanager
def run_server(server: ThreadingHTTPServer) -> Iterator[None]:
    """A server on a thread of its own."""
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()


@pytest.mark.long
@pytest.mark.usefixtures("bundled_scripts")
@on_browser_thread
def test_an_image_is_shown_before_it_is_cut(chromium: Chromium, tmp_path: Path) -> None:
    for name in ("map.png", "map.tif"):
        colour_fields(*IMAGE_SIZE).save(tmp_path / name)
        tab, messages = BrowserTab(chromium, color_scheme="dark"), list[str]()
        with (
            open_content(tmp_path / name, quality=95) as show,
            ViewerServer(show, report=messages.append) as server,
            run_server(server),
        ):
            tab.open(server.url)
            view = WindowView(WINDOW_SIZE, IMAGE_SIZE)
            assert not view.find_faults(tab.screenshot(), DARK_BACKGROUND)
            assert not tab.page_errors + messages


@pytest.mark.long
@pytest.mark.usefixtures("bundled_scripts")
@on_browser_thread
def test_each_kind_of_result_is_shown(chromium: Chromium, tmp_path: Path) -> None:
    faults: dict[str, object] = {}
    tab = BrowserTab(chromium, color_scheme="dark")
    for name, options in RESULTS.items():
        quality = None if options.get("format") == "png" else 95
        pixels = np.asarray(colour_fields(*IMAGE_SIZE))
        fasttile.cut(pixels, tmp_path / name, quality=quality, **options)
        messages: list[str] = []
        with (
            open_content(tmp_path / name) as show,
            ViewerServer(show, report=messages.append) as server,
            run_server(server),
        ):
            tab.open(server.url)
            found = (
                WindowView(WINDOW_SIZE, IMAGE_SIZE).find_faults(tab.screenshot(), DARK_BACKGROUND)
                + tab.page_errors
                + messages
            )
        if found:
            faults[name] = found
    tab.close()
    assert not faults


@pytest.mark.usefixtures("bundled_scripts")
@on_browser_thread
def test_tiles_of_two_sizes_are_sharp_on_a_dense_screen(chromium: Chromium, tmp_path: Path) -> None:
    width, height = WINDOW_SIZE
    pixels = np.random.default_rng(7).integers(0, 256, (2 * height, 2 * width, 3), np.uint8)
    fasttile.cut(pixels, tmp_path / "map", layout="xyz:scale=2", format="png")
    messages: list[str] = []
    tab = BrowserTab(chromium, device_scale_factor=2)
    with (
        open_content(tmp_path / "map") as show,
        ViewerServer(show, report=messages.append) as server,
        run_server(server),
    ):
        tab.open(server.url)
        # OpenSeadragon stretches each tile by a pixel; enlarged, a third would be left.
        contrast = np.asarray(tab.screenshot()).std() / pixels.std()
    assert 0.5 < contrast < 1.1
    assert not tab.page_errors + messages
    tab.close()


TITLES = ["plain", "a b%41#x?&\"'<é😀", "-dash", "tiny", "odd", "tall", "{{size}}"]


@pytest.mark.usefixtures("bundled_scripts")
@pytest.mark.parametrize("served", sampled([False, True], [True]))
@on_browser_thread
def test_a_wall_shows_all_and_each(served: bool, chromium: Chromium, tmp_path: Path) -> None:
    collection = make_collection(tmp_path, "a wall %", TITLES)
    (tmp_path / "images/odd.dzi").unlink()  # of which only the thumbnails are left
    ((name, data),) = collection_page(collection).items()
    (tmp_path / name).write_bytes(data)
    messages: list[str] = []
    with (
        open_content(collection.path) as show,
        ViewerServer(show, report=messages.append) as server,
        run_server(server),
    ):
        tab = BrowserTab(chromium, color_scheme="dark")
        asked: list[str] = []
        tab.page.on("request", lambda request: asked.append(request.url))
        tab.open(server.url if served else (tmp_path / name).as_uri())
        assert tab.page.title() == "a wall % – 7 images"
        colours = {colour for _, colour in tab.screenshot().getcolors(10**6) or []}
        for number, title in enumerate(TITLES):
            assert _has_colour(colours, member_colour(number)), title
        for number, title in enumerate(TITLES):
            tab.page.keyboard.press("0")
            tab.wait_until_drawn()
            tab.page.locator("#labels").get_by_role("button", name=title, exact=True).click()
            _wait_for_middle(tab, member_colour(number))
        tab.close()
    own = [url for url in asked if ("/item/" if served else "/images/") in url]
    assert any(url.endswith("/10/2/0" if served else "/10/2_0.jpg") for url in own)
    assert tab.page_errors == messages == []


def _has_colour(colours: set[Any], wanted: tuple[int, int, int]) -> bool:
    return any(max(abs(a - b) for a, b in zip(c, wanted, strict=True)) <= 6 for c in colours)


def _wait_for_middle(tab: BrowserTab, wanted: tuple[int, int, int]) -> None:
    """Wait until the middle of the window has a colour."""
    seen = None
    for _ in range(60):
        seen = tab.screenshot().getpixel((WINDOW_SIZE[0] // 2, WINDOW_SIZE[1] // 2))
        if _has_colour({seen}, wanted):
            return
        time.sleep(0.05)
    raise AssertionError(f"{seen}, not {wanted}")


class RangeHandler(SimpleHTTPRequestHandler):
    """Answers requests for a range of a file's bytes, as servers of PMTiles have to."""

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        said = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if not said or not path.is_file() or path.name.startswith("plain"):
            super().do_GET()
            return
        first, last = int(said[1]), int(said[2])
        data = path.read_bytes()[first : last + 1]
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{last}/{path.stat().st_size}")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.mark.usefixtures("bundled_scripts")
@pytest.mark.parametrize("viewer", sampled(VIEWERS, ["openseadragon"]))
@on_browser_thread
def test_one_file_is_read_in_pieces(viewer: str, chromium: Chromium, tmp_path: Path) -> None:
    name = "a 100% map"
    fasttile.cut(np.asarray(colour_fields(*IMAGE_SIZE)), tmp_path / f"{name}.pmtiles", quality=95)
    layout = LayoutSpec.parse("xyz").bind(name, *IMAGE_SIZE, "jpg")
    ((file, data),) = build_page(layout, viewer, in_pmtiles=True).items()
    (tmp_path / file).write_bytes(data)
    view = WindowView(WINDOW_SIZE, IMAGE_SIZE)
    with (
        ThreadingHTTPServer(
            ("127.0.0.1", 0), lambda *all_: RangeHandler(*all_, directory=str(tmp_path))
        ) as server,
        run_server(server),
    ):
        tab = BrowserTab(chromium)
        tab.open(f"http://127.0.0.1:{server.server_port}/{file.replace('%', '%25')}")
        assert view.find_faults(tab.screenshot(), LIGHT_BACKGROUND) + tab.page_errors == []
        tab.close()
    tab = BrowserTab(chromium)  # and from the disk, where the user has to choose it
    tab.page.goto((tmp_path / file).as_uri())
    tab.page.get_by_label(f"Choose {name}.pmtiles here").set_input_files(
        tmp_path / f"{name}.pmtiles"
    )
    tab.wait_until_drawn()
    assert view.find_faults(tab.screenshot(), LIGHT_BACKGROUND) + tab.page_errors == []
    tab.close()


@pytest.mark.slow
@pytest.mark.usefixtures("bundled_scripts")
@on_browser_thread
def test_a_server_without_ranges_is_reported(chromium: Chromium, tmp_path: Path) -> None:
    layout = LayoutSpec.parse("xyz").bind("plain", *IMAGE_SIZE, "jpg")
    (tmp_path / "plain.html").write_bytes(
        build_page(layout, "leaflet", in_pmtiles=True)["plain.html"]
    )
    (tmp_path / "plain.pmtiles").write_bytes(b"PMTiles" * 99)
    with (
        ThreadingHTTPServer(
            ("127.0.0.1", 0), lambda *all_: RangeHandler(*all_, directory=str(tmp_path))
        ) as server,
        run_server(server),
    ):
        tab = BrowserTab(chromium)
        tab.page.goto(f"http://127.0.0.1:{server.server_port}/plain.html")
        tab.page.wait_for_selector("text=it has to answer range requests")
        box = tab.page.get_by_label("Choose plain.pmtiles here")
        box.set_input_files(tmp_path / "plain.pmtiles")
        tab.page.wait_for_selector("text=That file cannot be shown: this is no PMTiles 3")
        tab.close()
