"""Real viewers show each source pixel where it belongs, and ask for nothing that is not there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from lab_browser import ViewerWindow
from lab_results import CutSpec, ResultCache
from lab_servers import StaticServer
from lab_views import check_all_views, page_spec

SMALL = (100, 70)
TALL = (61, 2050)
WIDE = (2051, 50)

SIZES = {
    # Below, on and above a tile; a last column of one pixel; a level that is rounded.
    "dzi": [(255, 509), (1027, 763), SMALL, TALL, WIDE, (253, 254), (508, 256)],
    "zoomify": [(513, 256), (1027, 300), SMALL, TALL, WIDE, (255, 257), (512, 511)],
    "zoomify:rounding=ceil": [(513, 256), (1025, 511), SMALL, TALL, WIDE, (1537, 257)],
    "xyz": [(257, 512), (1025, 300), SMALL, WIDE, TALL],
    "xyz:template={z}-{x}-{y}": [(257, 512), (1025, 1023), SMALL, TALL, WIDE],
    "tms": [(512, 257), (300, 1025), SMALL, TALL, WIDE],
    "pmtiles": [(513, 512), (1023, 1025), SMALL, TALL, WIDE, (256, 255)],
    "iiif2": [(1025, 300), (513, 1023), SMALL, TALL, WIDE, (511, 512)],
    "iiif3": [(1024, 513), (300, 1025), SMALL, WIDE, TALL, (512, 511)],
}

VIEWER_LAYOUTS = {
    "openseadragon": ["dzi", "zoomify", "xyz", "tms", "iiif2", "iiif3"],
    "openlayers": ["zoomify", "zoomify:rounding=ceil", "xyz", "tms", "iiif2", "iiif3"],
    "leaflet": ["xyz", "tms", "pmtiles"],
    "modestmaps": ["xyz:template={z}-{x}-{y}"],
}


@dataclass(frozen=True)
class Case:
    """A viewer, a result, and the server that it comes from."""

    viewer: str
    cut: CutSpec
    server: str = "nginx"
    drawer: str = "canvas"

    def __str__(self) -> str:
        drawer = "" if self.drawer == "canvas" else f"-{self.drawer}"
        return f"{self.viewer}{drawer}-{self.cut}-{self.server}"


def cases() -> list[Case]:
    """Each viewer with each of its layouts in all sizes, and with what else there is to try."""
    found = []
    for viewer, layouts in VIEWER_LAYOUTS.items():
        for layout in layouts:
            for at, (width, height) in enumerate(SIZES[layout]):
                # Python's server knows no ranges of bytes, so it cannot serve PMTiles.
                plain = at % 3 == 1 and layout != "pmtiles"
                cut = CutSpec(layout, width, height)
                found.append(Case(viewer, cut, "python" if plain else "nginx"))
    dzi = [
        CutSpec("dzi", 513, 256, tile_size=256, overlap=0),
        CutSpec("dzi", 201, 130, tile_size=64, overlap=8),
        CutSpec("dzi", 1021, 511, tile_size=510, overlap=1),
    ]
    found += [Case("openseadragon", cut) for cut in dzi]
    by_default = [CutSpec("dzi", 509, 300), CutSpec("zoomify", 513, 256)]
    found += [Case("openseadragon", cut, drawer="webgl") for cut in by_default]
    iiif = [CutSpec(kind, 513, 257, tile_size=256) for kind in ("iiif2", "iiif3")]
    found += [Case("openlayers", cut) for cut in iiif]
    # More tiles than one group holds, and a tile size that is not the number of tiles in a group.
    found.append(Case("openseadragon", CutSpec("zoomify", 1280, 1024, tile_size=64)))
    by_size = "zoomify:rounding=ceil,group=tile-size"
    found.append(Case("openlayers", CutSpec(by_size, 1025, 700, tile_size=64)))
    sizes = [CutSpec(f"{kind}:thumbnails=90+200+400", 1025, 300) for kind in ("iiif2", "iiif3")]
    found += [Case(viewer, cut) for cut in sizes for viewer in ("openlayers", "openseadragon")]
    # One after the other, those that can use the same page.
    return sorted(found, key=lambda case: (case.viewer, case.drawer, case.server))


@pytest.fixture
def server(request: pytest.FixtureRequest, case: Case) -> StaticServer:
    """The server that the case names."""
    name = {"nginx": "nginx", "python": "python_server"}[case.server]
    found: StaticServer = request.getfixturevalue(name)
    return found


def marked_cases() -> list[Any]:
    """All cases; of each viewer's with one layout only the first is tried when time is short."""
    seen = set()
    found = []
    for case in cases():
        kind = (case.viewer, case.drawer, case.cut.layout)
        found.append(pytest.param(case, marks=pytest.mark.long if kind in seen else []))
        seen.add(kind)
    return found


@pytest.mark.parametrize("case", marked_cases(), ids=str)
def test_each_source_pixel_is_where_it_belongs(
    case: Case, server: StaticServer, window: ViewerWindow, results: ResultCache
) -> None:
    address = results.result_url(results.result_path(case.cut, server), server)
    window.open_result(
        f"{server.origin}/pages/{case.viewer}.html", page_spec(case.cut, address, case.drawer)
    )
    check_all_views(window, case.viewer, case.cut)
    failed = {url.removeprefix(f"{address}/") for url in window.failed_requests}
    assert failed <= tolerated_requests(case)
    assert window.page_errors == []


def tolerated_requests(case: Case) -> set[str]:
    """What viewers ask for though Zoomify's rounding down leaves it away.

    OpenSeadragon and OpenLayers round tiers down, but find out which of their tiles are in sight
    as if they were not rounded. So they ask for one more column or row where rounding leaves a
    tier that ends with a tile.
    """
    cut = case.cut
    if cut.layout != "zoomify":
        return set()
    sizes = [(cut.width, cut.height)]
    while max(sizes[-1]) > 256:
        sizes.append((sizes[-1][0] // 2, sizes[-1][1] // 2))
    asked, there = set(), set()
    for tier, (width, height) in enumerate(reversed(sizes)):
        scale = 1 << (len(sizes) - 1 - tier)
        asked |= _grid(tier, -(-cut.width // (256 * scale)), -(-cut.height // (256 * scale)))
        there |= _grid(tier, -(-width // 256), -(-height // 256))
    # All of these sizes have fewer tiles than one group holds.
    return {f"TileGroup0/{name}.png" for name in asked - there}


def _grid(tier: int, cols: int, rows: int) -> set[str]:
    return {f"{tier}-{x}-{y}" for x in range(cols) for y in range(rows)}


def test_only_a_column_too_many_is_beside_the_point() -> None:
    """At 513 pixels this is the request that is known."""
    known = {"TileGroup0/0-1-0.png"}
    assert tolerated_requests(Case("openseadragon", CutSpec("zoomify", 513, 256))) == known
    assert tolerated_requests(Case("openlayers", CutSpec("zoomify", 513, 256))) == known
    assert tolerated_requests(Case("openlayers", CutSpec("zoomify", 512, 256))) == set()
    assert (
        tolerated_requests(Case("openlayers", CutSpec("zoomify:rounding=ceil", 513, 256))) == set()
    )
