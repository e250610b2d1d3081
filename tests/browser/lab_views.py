"""Where tests look at a picture, and how a result is shown by a viewer."""

from __future__ import annotations

from typing import Any

from lab_browser import Window
from lab_picture import View, check
from lab_results import Cut

SIDE = 300
"""The windows' sides: more than a tile of 256 pixels with a margin on each side."""

MARGIN = 16


def close_views(cut: Cut) -> list[View]:
    """Views at full resolution: the corners, and where four tiles meet near the middle."""
    cols, rows = _starts(cut.width), _starts(cut.height)
    places = [(x, y) for y in rows for x in cols]
    if len(places) > 1:
        seams = _seam(cut.width, cut.step), _seam(cut.height, cut.step)
        places.append((seams[0] - SIDE // 2, seams[1] - SIDE // 2))
    return [View(x, y, SIDE, SIDE) for x, y in places]


def whole_view(cut: Cut) -> View:
    """The view of the whole picture, on the pixels' grid of the level that fits the window."""
    shrunk = 0
    while max(cut.width, cut.height) >> shrunk > SIDE - 2 * MARGIN:
        shrunk += 1
    scale = 1 << shrunk
    # TMS counts from below, so there its levels' pixels stand on the picture's lower edge.
    below = cut.height % scale if cut.kind == "tms" else 0
    return View(-MARGIN * scale, below - MARGIN * scale, SIDE, SIDE, shrunk)


def show_all(window: Window, viewer: str, cut: Cut) -> None:
    """Look at all views, at full resolution first, and check each."""
    for view in close_views(cut):
        check(window.show(view), view, cut.width, cut.height)
    whole = whole_view(cut)
    if whole.shrunk:
        slack, edge = _tolerance(viewer, cut)
        slack <<= whole.shrunk
        check(window.show(whole), whole, cut.width, cut.height, slack=slack, edge=edge)


def spec(cut: Cut, address: str, drawer: str = "canvas") -> dict[str, Any]:
    """What a viewer's page is told about a result.

    OpenSeadragon has two drawers: a canvas, and WebGL, its default, which takes seconds a picture
    where there is no graphics card.
    """
    return {
        "layout": cut.kind,
        "rounding": "ceil" if "rounding=ceil" in cut.layout else "floor",
        "url": address,
        "width": cut.width,
        "height": cut.height,
        "drawer": drawer,
    }


def _starts(length: int) -> list[int]:
    """Where views start that show the picture's both ends, with a margin."""
    last = length - SIDE + MARGIN
    return [-MARGIN] if last <= -MARGIN else [-MARGIN, last]


def _seam(length: int, step: int) -> int:
    """The place nearest the middle where two tiles meet; the middle, if there is none."""
    seams = range(step, length, step)
    return min(seams, key=lambda seam: abs(2 * seam - length), default=length // 2)


def _tolerance(viewer: str, cut: Cut) -> tuple[int, int]:
    """How exact a smaller level is, as a slack in its pixels and an edge, see `check`.

    Levels of a square canvas have no rounding. Leaflet and Modest Maps set their tiles on whole
    pixels; OpenLayers cuts the layer off where the picture ends, within a pixel. Where a side is
    rounded, viewers squeeze or stretch the last tiles by less than a pixel, and the last pixel of
    the level may show something of its own.
    """
    if cut.kind in ("xyz", "tms", "pmtiles") and viewer != "openseadragon":
        return 0, 1 if viewer == "openlayers" else 0
    return 1, 2
