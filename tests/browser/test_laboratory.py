"""The laboratory's checks bite: a spoiled result does not pass them."""

from __future__ import annotations

import numpy as np
import pytest
from lab_browser import ViewerWindow
from lab_image import SourceView, check_screen, position_image
from lab_results import CutSpec, ResultCache, shift_tile, swap_tiles, top_tiles
from lab_servers import StaticServer
from lab_views import check_all_views, page_spec

from support.sampling import sampled

SPOILABLE_RESULTS = [
    ("openseadragon", CutSpec("dzi", 1023, 1023)),
    ("openlayers", CutSpec("zoomify", 1023, 1023)),
    ("leaflet", CutSpec("xyz", 1023, 1023)),
    ("modestmaps", CutSpec("xyz:template={z}-{x}-{y}", 1023, 1023)),
]


@pytest.mark.parametrize(
    ("viewer", "cut"),
    sampled(SPOILABLE_RESULTS, SPOILABLE_RESULTS[:1]),
    ids=lambda value: str(value),
)
@pytest.mark.parametrize("fault", sampled(["swapped", "shifted", "missing"], ["swapped"]))
def test_a_spoiled_result_is_found_out(
    fault: str,
    viewer: str,
    cut: CutSpec,
    nginx: StaticServer,
    window: ViewerWindow,
    results: ResultCache,
) -> None:
    place = results.copy_result(cut, nginx)
    tiles = top_tiles(place)
    if fault == "swapped":
        swap_tiles(tiles[1, 1], tiles[2, 1])
    elif fault == "shifted":
        shift_tile(tiles[2, 1])
    else:
        tiles[2, 1].unlink()
    address = results.result_url(place, nginx)
    window.open_result(f"{nginx.origin}/pages/{viewer}.html", page_spec(cut, address))
    with pytest.raises(AssertionError, match="screen pixels are wrong"):
        check_all_views(window, viewer, cut)
    assert bool(window.failed_requests) == (fault == "missing")


def test_a_request_that_fails_is_noticed(nginx: StaticServer, window: ViewerWindow) -> None:
    window.load_page(f"{nginx.origin}/pages/openlayers.html")
    absent = f"{nginx.origin}/absent.png"
    window.evaluate("url => fetch(url).then(() => 0)", absent)
    assert window.failed_requests == [absent]


def test_no_address_elsewhere_is_reached(nginx: StaticServer, window: ViewerWindow) -> None:
    window.load_page(f"{nginx.origin}/pages/openlayers.html")
    window.evaluate("fetch('http://example.org/', {mode: 'no-cors'}).catch(() => 0)")
    assert window.failed_requests == ["http://example.org/"]


def test_an_error_in_a_page_is_noticed(nginx: StaticServer, window: ViewerWindow) -> None:
    window.load_page(f"{nginx.origin}/pages/openlayers.html")
    window.evaluate("void setTimeout(() => { throw new Error('on purpose'); })")
    window.evaluate("lab.painted()")
    assert window.page_errors == ["on purpose"]


def test_nginx_serves_ranges(nginx: StaticServer, window: ViewerWindow) -> None:
    window.load_page(f"{nginx.origin}/pages/openlayers.html")
    asked = (
        "fetch('lab.js', {headers: {range: 'bytes=0-9'}}).then(async r => (await r.blob()).size)"
    )
    assert window.evaluate(asked) == 10


@pytest.mark.parametrize(("width", "height"), [(4095, 2), (2, 4095)])
def test_each_pixel_has_its_own_colour(width: int, height: int) -> None:
    high, middle, low = np.moveaxis(position_image(width, height).astype(int), -1, 0)
    y, x = np.indices((height, width))
    assert (high * 16 + middle // 16 == x).all()
    assert (middle % 16 * 256 + low == y).all()


def test_the_check_takes_what_is_right_and_nothing_else() -> None:
    source = position_image(40, 30)
    screen = np.full((50, 60, 3), 255, np.uint8)
    screen[5:35, 10:50] = source
    view = SourceView(-10, -5, 60, 50)
    check_screen(screen, view, 40, 30)
    for y, x in ((5, 10), (34, 49), (20, 20)):
        spoiled = screen.copy()
        spoiled[y, x] = source[0, 1]
        with pytest.raises(AssertionError, match=rf"at \({x}, {y}\)"):
            check_screen(spoiled, view, 40, 30)
    spoiled = screen.copy()
    spoiled[0, 0] = 0
    with pytest.raises(AssertionError, match="not white"):
        check_screen(spoiled, view, 40, 30)


def test_the_check_wants_something_to_check() -> None:
    screen = np.full((10, 10, 3), 255, np.uint8)
    with pytest.raises(AssertionError, match="nothing of the image"):
        check_screen(screen, SourceView(100, 100, 10, 10), 40, 30)
