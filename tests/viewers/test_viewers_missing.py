"""Missing tiles in a browser: a smaller level covers their area, or the page says that all miss."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

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
from support.viewer_results import IMAGE_SIZE, WindowView, colour_fields

pytestmark = pytest.mark.slow

LAYOUTS = {"dzi": 2, "xyz:centre": 0, "tms": 0}
"""Layouts, and the overlap of their tiles."""


def cut_page(folder: Path, layout: str, viewer: str) -> tuple[Path, Path]:
    """The page of coloured fields, and the folder of their tiles."""
    dest = folder / ("map.dzi" if layout == "dzi" else "map")
    fasttile.cut(
        np.asarray(colour_fields(*IMAGE_SIZE)),
        dest,
        layout=layout,
        overlap=LAYOUTS[layout],
        quality=95,
        viewer=viewer,
    )
    (page,) = folder.rglob("*.html")
    return page, folder / ("map_files" if layout == "dzi" else "map")


@on_browser_thread
def test_missing_tiles_are_parts_of_smaller_levels(
    viewer: str, chromium: Chromium, tmp_path: Path
) -> None:
    """Without half of the largest level, and without all of it and the level below."""
    faults = {}
    for number, layout in enumerate(LAYOUTS):
        (tmp_path / str(number)).mkdir()
        page, tiles = cut_page(tmp_path / str(number), layout, viewer)
        levels = sorted(
            (path for path in tiles.iterdir() if path.is_dir()), key=lambda p: int(p.name)
        )
        for path in sorted(levels[-1].rglob("*.jpg"))[::2]:
            path.unlink()
        tab = BrowserTab(chromium)
        for missing in ("some", "two levels"):
            tab.page.goto(page.as_uri())
            tab.page.locator("#controls").wait_for()  # then keys are heard
            tab.page.keyboard.press("+")
            tab.page.wait_for_timeout(100)
            tab.wait_until_drawn()
            view = WindowView(WINDOW_SIZE, IMAGE_SIZE, zoom=2)
            deadline = time.monotonic() + 5  # tiles may still fade in
            while found := view.find_faults(tab.screenshot(), LIGHT_BACKGROUND):
                if time.monotonic() > deadline:
                    faults[layout, missing] = found
                    break
            assert not tab.page.locator("#trouble").is_visible()
            for level in levels[-2:]:
                shutil.rmtree(level, ignore_errors=True)
        tab.close()
    assert not faults


@on_browser_thread
def test_a_page_without_any_tile_says_so(viewer: str, chromium: Chromium, tmp_path: Path) -> None:
    page, tiles = cut_page(tmp_path, "dzi", viewer)
    shutil.rmtree(tiles)
    tab = BrowserTab(chromium)
    tab.page.goto(page.as_uri())
    message = tab.page.get_by_role("alert")
    message.wait_for()
    assert message.inner_text() == "No tiles are found: this page has to lie beside map_files."
    tab.close()
