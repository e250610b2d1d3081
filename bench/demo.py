"""The main job on a fresh machine: prepare a large image, cut it, and print the page to open."""

from __future__ import annotations

from pathlib import Path

import fasttile
from images import has_photographs, mosaic

FOLDER = Path(__file__).resolve().parent.parent / ".demo"
WIDTH, HEIGHT = 16_000, 12_000


def main() -> None:
    """Prepare, cut, and report."""
    image = FOLDER / "mosaic.tif"
    if not image.exists():
        kind = "photographs" if has_photographs() else "noise"
        print(f"preparing a mosaic of {kind}, {WIDTH}×{HEIGHT} pixels, in {image} …")
        mosaic(image, WIDTH, HEIGHT)
    command = "fasttile cut .demo/mosaic.tif -o .demo/mosaic.dzi --viewer openseadragon"
    print(f"$ {command} --overwrite")
    dest = FOLDER / "mosaic.dzi"
    report = fasttile.cut(image, dest, viewer="openseadragon", overwrite=True)
    print(
        f"cut {report.width * report.height / 1e6:.0f} megapixels into {report.tiles} tiles on "
        f"{report.levels} levels in {report.seconds:.2f} s "
        f"({report.megapixels_per_second:.0f} MP/s)\n"
        f"the result: {report.path}\n"
        f"to see it, open {dest.with_suffix('.html').as_uri()} in a browser,\n"
        "or run: .venv/bin/fasttile view .demo/mosaic.dzi"
    )


if __name__ == "__main__":
    main()
