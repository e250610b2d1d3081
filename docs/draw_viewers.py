"""Screenshots for the README: the pages of the three viewers, and a wall, in a real browser.

python docs/draw_viewers.py      # needs the group test, chromium, and bench/'s photographs
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

import fasttile

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "bench"))

from images import mosaic  # noqa: E402

SIZE = {"width": 720, "height": 440}
GAP = 12


def main() -> None:
    """Cut a mosaic, photograph each viewer's page, and lay the photographs side by side."""
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        mosaic(folder / "mosaic.tif", 6_000, 4_000)
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        shots = [
            _shot(browser, _page(folder, viewer, layout), folder / f"{viewer}.png", scheme)
            for viewer, layout, scheme in (
                ("openseadragon", "dzi", "dark"),
                ("openlayers", "zoomify", "light"),
                ("leaflet", "xyz", "dark"),
            )
        ]
        browser.close()
        width = sum(shot.width for shot in shots) + GAP * (len(shots) - 1)
        sheet = Image.new("RGBA", (width, shots[0].height))
        for number, shot in enumerate(shots):
            sheet.paste(shot, (number * (shot.width + GAP), 0))
        sheet.resize((width // 2, sheet.height // 2), Image.Resampling.LANCZOS).save(
            HERE / "viewers.webp", quality=80, method=6
        )


def _page(folder: Path, viewer: str, layout: str) -> Path:
    """A result with its page."""
    dest = folder / viewer / ("mosaic.dzi" if layout == "dzi" else "mosaic")
    fasttile.cut(folder / "mosaic.tif", dest, layout=layout, viewer=viewer)
    return dest.with_name("mosaic.html")


def _shot(browser: Browser, page: Path, file: Path, scheme: str) -> Image.Image:
    """A page, once it has come to rest."""
    tab = browser.new_page(viewport=SIZE, color_scheme=scheme, device_scale_factor=1)
    tab.goto(page.as_uri())
    tab.wait_for_timeout(2500)
    tab.screenshot(path=file)
    tab.close()
    return Image.open(file).convert("RGBA")


if __name__ == "__main__":
    main()
