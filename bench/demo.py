"""The main job on a fresh machine: prepare a large picture, cut it, and say what to open."""

from __future__ import annotations

import json
from pathlib import Path

import fasttile
from pictures import has_photographs, mosaic

FOLDER = Path(__file__).resolve().parent.parent / ".demo"
WIDTH, HEIGHT = 16_000, 12_000

# The viewer comes from a public CDN, pinned by its hash: the browser refuses anything else.
VIEWER = "https://cdn.jsdelivr.net/npm/openseadragon@6.1.1/build/openseadragon"
VIEWER_HASH = "sha384-KKly+4vqqBHitr2XfNKWa3+0asIVpzYs2HijkM/zz0X6rgnyLuQEVERX9HqkM5/P"

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>fasttile: a mosaic of {megapixels} megapixels</title>
<style>html, body, #picture {{ height: 100%; margin: 0; background: #222 }}</style>
<div id="picture" role="img" aria-label="a mosaic of photographs"></div>
<script src="{viewer}/openseadragon.min.js" integrity="{hash}" crossorigin="anonymous"></script>
<script>
OpenSeadragon({{
  id: "picture", prefixUrl: "{viewer}/images/", showNavigator: true, tileSources: {source}
}});
</script>
</html>
"""


def main() -> None:
    """Prepare, cut, and tell."""
    picture = FOLDER / "mosaic.tif"
    if not picture.exists():
        kind = "photographs" if has_photographs() else "noise"
        print(f"preparing a mosaic of {kind}, {WIDTH}×{HEIGHT} pixels, in {picture} …")
        mosaic(picture, WIDTH, HEIGHT)
    print("$ fasttile cut .demo/mosaic.tif -o .demo/mosaic.dzi --overwrite")
    report = fasttile.cut(picture, FOLDER / "mosaic.dzi", overwrite=True)
    page = FOLDER / "index.html"
    page.write_text(_page(), "utf-8")
    print(
        f"cut {report.width * report.height / 1e6:.0f} megapixels into {report.tiles} tiles on "
        f"{report.levels} levels in {report.seconds:.2f} s "
        f"({report.megapixels_per_second:.0f} MP/s)\n"
        f"the picture lies in {report.path}\n"
        f"to look at it, open {page.as_uri()} in a browser\n"
        "(the page takes its viewer, OpenSeadragon, from the network; the tiles are your own)"
    )


def _page() -> str:
    """A page that shows the picture also when it is opened from the disk, without a server."""
    source = {
        "Image": {
            "xmlns": "http://schemas.microsoft.com/deepzoom/2008",
            "Url": "mosaic_files/",
            "Format": "jpg",
            "Overlap": "1",
            "TileSize": "254",
            "Size": {"Width": str(WIDTH), "Height": str(HEIGHT)},
        }
    }
    return PAGE.format(
        megapixels=WIDTH * HEIGHT // 10**6,
        viewer=VIEWER,
        hash=VIEWER_HASH,
        source=json.dumps(source),
    )


if __name__ == "__main__":
    main()
