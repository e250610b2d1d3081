"""Where tests look at an image, and how a result is shown by a viewer."""

from __future__ import annotations

from typing import Any

from lab_browser import ViewerWindow
from lab_image import SourceView, check_screen
from lab_results import CutSpec

WINDOW_SIDE = 300
"""The windows' sides: more than a tile of 256 pixels with a margin on each side."""

MARGIN = 16


def close_views(cut: CutSpec) -> list[SourceView]:
    """Views at full resolution: the corners, and where four tiles meet near the middle."""
    cols, rows = _view_starts(cut.width), _view_starts(cut.height)
    places = [(x, y) for y in rows for x in cols]
    if len(places) > 1:
        seams = _seam_position(cut.width, cut.tile_step), _seam_position(cut.height, cut.tile_step)
        places.append((seams[0] - WINDOW_SIDE // 2, seams[1] - WINDOW_SIDE // 2))
    return [SourceView(x, y, WINDOW_SIDE, WINDOW_SIDE) for x, y in places]


def full_view(cut: CutSpec) -> SourceView:
    """The view of the whole image, on the pixels' grid of the level that fits the window."""
    shrunk = 0
    while max(cut.width, cut.height) >> shrunk > WINDOW_SIDE - 2 * MARGIN:
        shrunk += 1
    scale = 1 << shrunk
    # TMS counts from below, so there its levels' pixels stand on the image's lower edge.
    below = cut.height % scale if cut.kind == "tms" else 0
    return SourceView(-MARGIN * scale, below - MARGIN * scale, WINDOW_SIDE, WINDOW_SIDE, shrunk)


def check_all_views(window: ViewerWindow, viewer: str, cut: CutSpec) -> None:
    """Look at all views, at full resolution first, and check each."""
    for view in close_views(cut):
        check_screen(window.capture_view(view), view, cut.width, cut.height)
    overview = full_view(cut)
    if overview.shrunk:
        slack, edge = _tolerance(viewer, cut)
        slack <<= overview.shrunk
        check_screen(
            window.capture_view(overview),
            overview,
            cut.width,
            cut.height,
            tolerance=slack,
            ignored_edge=edge,
        )


def page_spec(cut: CutSpec, address: str, drawer: str = "canvas") -> dict[str, Any]:
    """A result's description for a viewer's page.

    OpenSeadragon has two drawers: a canvas, and WebGL, its default, which takes seconds an image
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


def _view_starts(length: int) -> list[int]:
    """Where views start that show the image's both ends, with a margin."""
    last = length - WINDOW_SIDE + MARGIN
    return [-MARGIN] if last <= -MARGIN else [-MARGIN, last]


def _seam_position(length: int, step: int) -> int:
    """The place nearest the middle where two tiles meet; the middle, if there is none."""
    seams = range(step, length, step)
    return min(seams, key=lambda seam: abs(2 * seam - length), default=length // 2)


def _tolerance(viewer: str, cut: CutSpec) -> tuple[int, int]:
    """How exact a smaller level is, as a slack in its pixels and an edge, see `check`.

    Levels of a square canvas have no rounding. Leaflet and Modest Maps place their tiles on full
    pixels; OpenLayers cuts the layer off where the image ends, within a pixel. Where a side is
    rounded, viewers squeeze or stretch the last tiles by less than a pixel, and the last pixel of
    the level may show something of its own.
    """
    if cut.kind in ("xyz", "tms", "pmtiles") and viewer != "openseadragon":
        return 0, 1 if viewer == "openlayers" else 0
    return 1, 2
