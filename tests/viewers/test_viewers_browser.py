"""Pages in a real browser, opened from the disk: do they show the image, and obey?"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fasttile
from fasttile.viewers import VIEWERS, build_page, known_scripts
from support.sampling import sampled
from support.viewer_browser import (
    DARK_BACKGROUND,
    LIGHT_BACKGROUND,
    WINDOW_SIZE,
    BrowserTab,
    Chromium,
    find_npm_file,
    on_browser_thread,
)
from support.viewer_results import IMAGE_SIZE, WindowView, colour_fields, cut_result

pytestmark = pytest.mark.slow

SPECIAL_NAME = "a b%41#x?&\"'<é😀-{{size}};=+,!"

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "dzi": ("dzi", {}),
    "dzi without its ends": ("dzi", {"levels": "4-10"}),
    "zoomify": ("zoomify", {}),
    "xyz in the middle": ("xyz:centre,template={z}-{y}_{x} 100%", {"levels": "1-3"}),
    "tms": ("tms", {}),
    "tilecache": ("tilecache", {}),
    "gsiv": ("gsiv", {}),
    "iiif2": ("iiif2:id=https://example.org/{name}", {}),
    "iiif3": ("iiif3:id=https://example.org/{name}", {}),
}


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Any]]:
    """A result of each case: its folder and its layout."""
    found = {}
    for number, (case, (spelling, options)) in enumerate(CASES.items()):
        folder = tmp_path_factory.mktemp("results")
        name = SPECIAL_NAME if number % 2 == 0 else "map"
        found[case] = folder, cut_result(folder, name, spelling, **options)
    return found


@pytest.mark.usefixtures("bundled_scripts")
@pytest.mark.parametrize("viewer", sampled(VIEWERS, []))
@on_browser_thread
def test_each_layout_is_shown_from_the_disk(
    viewer: str, chromium: Chromium, results: dict[str, tuple[Path, Any]]
) -> None:
    view = WindowView(WINDOW_SIZE, IMAGE_SIZE)
    tab = BrowserTab(chromium, color_scheme="dark")
    faults = {}
    for case, (folder, layout) in results.items():
        path = _write_page(folder, build_page(layout, viewer))
        tab.open(path.as_uri())
        if found := view.find_faults(tab.screenshot(), DARK_BACKGROUND) + tab.page_errors:
            faults[case] = found
        assert tab.page.title() == f"{layout.name} – 1,025 × 700 pixels".replace(
            "1,025 × 700", "{:,} × {:,}".format(*layout.pyramid.size)
        )
    tab.close()
    assert not faults


@pytest.mark.usefixtures("bundled_scripts")
@pytest.mark.parametrize("viewer", sampled(VIEWERS, ["openseadragon"]))
@on_browser_thread
def test_avif_is_shown(viewer: str, chromium: Chromium, tmp_path: Path) -> None:
    pixels = np.asarray(colour_fields(*IMAGE_SIZE))
    fasttile.cut(pixels, tmp_path / "map", layout="zoomify", format="avif", viewer=viewer)
    tab = BrowserTab(chromium, color_scheme="dark")
    (page,) = tmp_path.rglob("*.html")
    tab.open(page.as_uri())
    assert not WindowView(WINDOW_SIZE, IMAGE_SIZE).find_faults(tab.screenshot(), DARK_BACKGROUND)
    assert not tab.page_errors
    tab.close()


@pytest.mark.usefixtures("bundled_scripts")
@pytest.mark.parametrize("viewer", sampled(VIEWERS, ["openseadragon"]))
@on_browser_thread
def test_keys_and_buttons(
    viewer: str, chromium: Chromium, results: dict[str, tuple[Path, Any]]
) -> None:
    folder, layout = results["zoomify"]
    tab = BrowserTab(chromium)
    tab.open(_write_page(folder, build_page(layout, viewer)).as_uri())
    overview = WindowView(WINDOW_SIZE, IMAGE_SIZE)

    def seen(view: WindowView) -> None:
        faults: list[str] = []
        for _ in range(40):
            tab.wait_until_drawn()
            faults = view.find_faults(tab.screenshot(), LIGHT_BACKGROUND)
            if not faults:
                return
            time.sleep(0.05)
        raise AssertionError(faults)

    keys = tab.page.keyboard
    _check_tab_order(tab)
    seen(overview)
    keys.press("+")
    seen(overview._replace(zoom=2))
    keys.press("ArrowRight")
    keys.press("ArrowUp")
    seen(overview._replace(zoom=2, shift=(0.2, -0.2)))
    keys.press("-")
    keys.press("Home")
    seen(overview)
    tab.page.get_by_role("button", name="Zoom in").click()
    seen(overview._replace(zoom=2))
    tab.page.get_by_role("button", name="Show all").click()
    seen(overview)
    keys.press("f")
    tab.page.wait_for_function("document.fullscreenElement !== null")
    tab.page.wait_for_selector("[data-action=fullscreen][aria-pressed=true]")
    keys.press("f")
    tab.page.wait_for_function("document.fullscreenElement === null")
    assert tab.page_errors == []
    tab.close()


def _check_tab_order(tab: BrowserTab) -> None:
    """The image, then all buttons in their order, can be reached by the tabulator."""
    where = "document.activeElement.id || document.activeElement.dataset.action"
    buttons = "[...document.querySelectorAll('#controls button')].filter(it => !it.hidden)"
    wanted = ["stage", *tab.page.evaluate(f"{buttons}.map((it) => it.dataset.action)")]
    assert {"closer", "farther", "home", "link", "fullscreen"} <= set(wanted)
    reached = []
    for _ in wanted:
        tab.page.keyboard.press("Tab")
        reached.append(tab.page.evaluate(where))
    assert reached == wanted


@pytest.mark.usefixtures("bundled_scripts")
@on_browser_thread
def test_what_is_missing_is_said(
    chromium: Chromium, results: dict[str, tuple[Path, Any]], tmp_path: Path
) -> None:
    tab = BrowserTab(chromium)
    folder, layout = results["tilecache"]
    path = _write_page(tmp_path, build_page(layout, "openseadragon"))
    tab.page.goto(path.as_uri())
    tab.page.wait_for_selector("text=No tiles are found: this page has to lie beside")
    tab.close()
    tab = BrowserTab(chromium, java_script_enabled=False)
    tab.page.goto(_write_page(folder, build_page(layout, "leaflet")).as_uri())
    assert tab.page.locator("#still p").is_visible()
    assert tab.page.locator("#still img").bounding_box()["width"] == 256
    tab.close()


@pytest.mark.usefixtures("bundled_scripts")
@pytest.mark.parametrize("viewer", VIEWERS)
@on_browser_thread
def test_tiles_left_out_are_of_one_colour(viewer: str, chromium: Chromium, tmp_path: Path) -> None:
    layout = cut_result(tmp_path, "map", "xyz")
    for zoom in ("2", "3"):
        shutil.rmtree(tmp_path / "map" / zoom)
    tab = BrowserTab(chromium)
    tab.page.goto(
        _write_page(tmp_path, build_page(layout, viewer, blank_colour="#abcdef")).as_uri()
    )
    tab.wait_until_drawn()
    assert tab.screenshot().getpixel((450, 320)) == (0xAB, 0xCD, 0xEF)
    tab.close()


@pytest.mark.slow
@on_browser_thread
def test_a_viewer_from_the_network_is_what_its_hash_says(
    chromium: Chromium, results: dict[str, tuple[Path, Any]]
) -> None:
    from support.viewer_browser import skip_or_fail

    script = known_scripts()["leaflet.js"]
    if find_npm_file(script) is None:
        skip_or_fail("there are no scripts of viewers from npm")
    folder, layout = results["tms"]
    path = _write_page(folder, build_page(layout, "leaflet:cdn"))
    answers: list[Callable[[Any], None]] = [
        _fulfil_from_npm,
        _fulfil_forged,
        lambda route: route.abort(),
    ]
    for number, answer in enumerate(answers):
        tab = BrowserTab(chromium)
        tab.page.route(re.compile("^https:"), answer)
        tab.page.goto(path.as_uri())
        if number == 0:
            tab.wait_until_drawn()
            assert (
                WindowView(WINDOW_SIZE, IMAGE_SIZE).find_faults(tab.screenshot(), LIGHT_BACKGROUND)
                == []
            )
        else:
            tab.page.wait_for_selector("text=The viewer's script did not come.")
        tab.close()


def _fulfil_from_npm(route: Any) -> None:
    """Answer as the CDN does, with the package's own file."""
    (script,) = (s for s in known_scripts().values() if s.url == route.request.url)
    path = find_npm_file(script)
    kind = "text/css" if script.name.endswith(".css") else "text/javascript"
    route.fulfill(path=path, content_type=kind, headers={"Access-Control-Allow-Origin": "*"})


def _fulfil_forged(route: Any) -> None:
    headers = {"Access-Control-Allow-Origin": "*"}
    route.fulfill(body="window.L = {}", content_type="text/javascript", headers=headers)


def _write_page(folder: Path, files: dict[str, bytes]) -> Path:
    ((name, data),) = files.items()
    (folder / name).write_bytes(data)
    return folder / name
