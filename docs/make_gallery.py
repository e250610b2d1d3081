"""Cut the pyramids of docs/gallery.md, and write its sections: a hook of mkdocs.yml.

    python docs/make_gallery.py FOLDER      # cuts them into a folder, without the site

Images are generated, or photographs in the public domain that scikit-image ships (group photos).
Each pyramid is cut by the command that the page shows, once for each viewer. None is committed.
"""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.pages import Page

PAGE = "gallery.md"
MARK = "<!-- exhibits -->"
VIEWERS = {"openseadragon": "OpenSeadragon", "openlayers": "OpenLayers", "leaflet": "Leaflet"}


class Exhibit(NamedTuple):
    """A pyramid of the gallery, once for each viewer.

    Attributes:
        name: Its folder.
        title: Heading of its section.
        text: What there is to see, and where the image comes from.
        sources: Names of its images, which are keys of `IMAGES`.
        command: The command, with `{viewer}` in place of the viewer's name.
        viewers: Names of the viewers; the page shows the first.
    """

    name: str
    title: str
    text: str
    sources: tuple[str, ...]
    command: str
    viewers: tuple[str, ...]

    def page(self, viewer: str) -> str:
        """Address of the page of a viewer, from that of the gallery."""
        words = self.command.split()
        stem = Path(words[words.index("-o") + 1] if "-o" in words else words[3]).stem
        return f"{self.name}/{viewer}/{stem}.html"


ALL = tuple(VIEWERS)
OPENLAYERS_FIRST = ("openlayers", "leaflet", "openseadragon")
LEAFLET_FIRST = ("leaflet", "openseadragon", "openlayers")

EXHIBITS = (
    Exhibit(
        "deep-zoom",
        "Deep Zoom",
        "A mosaic of photographs by NASA, SpaceX, Rachel Michetti and Stefan van der Walt.",
        ("photographs.tif",),
        "fasttile cut photographs.tif -o photographs.dzi --viewer {viewer}",
        ALL,
    ),
    Exhibit(
        "zoomify",
        "Zoomify",
        "The Hubble Deep Field, by NASA. Levels are means of light, so that stars keep their "
        "brightness.",
        ("hubble.jpg",),
        "fasttile cut hubble.jpg -o hubble --layout zoomify --shrink linear --viewer {viewer}",
        OPENLAYERS_FIRST,
    ),
    Exhibit(
        "xyz",
        "XYZ",
        "A generated plan, in lossless WebP. The paper around it is transparent.",
        ("plan.png",),
        "fasttile cut plan.png -o plan --layout xyz --format webp:lossless "
        "--background transparent --viewer {viewer}",
        LEAFLET_FIRST,
    ),
    Exhibit(
        "xyz-dense",
        "XYZ for dense screens",
        "The same plan with tiles of twice the size, which phones show sharply.",
        ("plan.png",),
        "fasttile cut plan.png -o plan --layout xyz:scale=2 --format png --viewer {viewer}",
        LEAFLET_FIRST,
    ),
    Exhibit(
        "tms",
        "TMS",
        "Generated labels, in the colours of a palette: no level has a blended label.",
        ("labels.png",),
        "fasttile cut labels.png -o labels --layout tms --shrink mode --bands 1=viridis "
        "--window 0,15 --format png --viewer {viewer}",
        OPENLAYERS_FIRST,
    ),
    Exhibit(
        "tilecache",
        "TileCache",
        "Chelsea the cat, by Stefan van der Walt (CC0).",
        ("chelsea.png",),
        "fasttile cut chelsea.png -o chelsea --layout tilecache --tile-size 128 --viewer {viewer}",
        OPENLAYERS_FIRST,
    ),
    Exhibit(
        "gsiv",
        "GSIV",
        "Generated heights: an array of floats, in the colours of a palette.",
        ("heights.npy",),
        "fasttile cut heights.npy -o heights --layout gsiv --bands 1=magma --window 0,1 "
        "--quality 90 --viewer {viewer}",
        ALL,
    ),
    Exhibit(
        "iiif2",
        "IIIF Image API 2",
        "A cup of coffee, by Rachel Michetti (CC0).",
        ("coffee.png",),
        "fasttile cut coffee.png -o coffee --layout iiif2:id=https://iiif.example.org/coffee "
        "--tile-size 256 --viewer {viewer}",
        ALL,
    ),
    Exhibit(
        "iiif3",
        "IIIF Image API 3",
        "The retina of an eye, by Mikael Häggström (CC0).",
        ("retina.jpg",),
        "fasttile cut retina.jpg -o retina --layout iiif3:id=https://iiif.example.org/retina "
        "--viewer {viewer}",
        LEAFLET_FIRST,
    ),
    Exhibit(
        "pmtiles",
        "PMTiles",
        "The Mandelbrot set, generated; one file, of which the page reads pieces.",
        ("mandelbrot.png",),
        "fasttile cut mandelbrot.png -o mandelbrot.pmtiles --format webp --viewer {viewer}",
        LEAFLET_FIRST,
    ),
    Exhibit(
        "collection",
        "A collection",
        "Four of these photographs on a wall. A click zooms to one.",
        ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg"),
        "fasttile collection create wall.dzc astronaut.png chelsea.png coffee.png rocket.jpg "
        "--viewer {viewer}",
        ("openseadragon",),
    ),
)


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Hook of mkdocs: the sections of all exhibits, in place of the mark."""
    if page.file.src_uri != PAGE:
        return markdown
    return markdown.replace(MARK, "\n".join(map(write_section, EXHIBITS)))


def on_post_build(config: MkDocsConfig) -> None:
    """Hook of mkdocs: cut all pyramids into the site, beside the page."""
    make(Path(config.site_dir) / "gallery")


def write_section(exhibit: Exhibit) -> str:
    """The section of an exhibit, in Markdown: a frame, links for the viewers, the command."""
    first, *others = exhibit.viewers
    links = " · ".join(
        f'<a href="{exhibit.page(viewer)}" target="{exhibit.name}">{VIEWERS[viewer]}</a>'
        for viewer in (first, *others)
    )
    title = escape(f"{exhibit.title} in {VIEWERS[first]}", quote=True)
    return f"""
## {exhibit.title}

{exhibit.text}

<iframe name="{exhibit.name}" src="{exhibit.page(first)}" title="{title}" loading="lazy"
  allow="fullscreen" style="width: 100%; height: 26rem; border: 0"></iframe>
<p>{links}</p>

```sh
{exhibit.command.format(viewer=first)}
```
"""


def make(folder: Path) -> None:
    """Cut all exhibits into a folder.

    Args:
        folder: A new or an empty folder.

    Raises:
        RuntimeError: A command fails.
    """
    with tempfile.TemporaryDirectory() as name:
        images = Path(name)
        for source, draw in IMAGES.items():
            draw(images / source)
        with ThreadPoolExecutor(2) as pool:
            jobs = [
                pool.submit(_cut, exhibit, viewer, images, folder)
                for exhibit in EXHIBITS
                for viewer in exhibit.viewers
            ]
            for job in jobs:
                job.result()


def _cut(exhibit: Exhibit, viewer: str, images: Path, folder: Path) -> None:
    """Run the command of an exhibit where its images are, and remove them afterwards."""
    place = folder / exhibit.name / viewer
    place.mkdir(parents=True)
    for source in exhibit.sources:
        shutil.copyfile(images / source, place / source)
    words = exhibit.command.format(viewer=viewer).split()
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=place, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{exhibit.name}: {' '.join(words)}: {done.stderr.strip()}")
    for source in exhibit.sources:
        (place / source).unlink()


def _module(folder: str, name: str) -> Any:
    """A module of a folder of the repository. mkdocs resets the path after it has loaded a hook."""
    if str(ROOT / folder) not in sys.path:
        sys.path.insert(0, str(ROOT / folder))
    return importlib.import_module(name)


def _photographs(path: Path) -> None:
    _module("bench", "images").mosaic(path, 2400, 1600)


def _plan(path: Path) -> None:
    _module("bench", "images").mosaic(path, 2000, 1400, kind="flat")


def _shipped(name: str) -> Callable[[Path], None]:
    """An image of scikit-image, as a function that writes it."""

    def write(path: Path) -> None:
        import skimage.data

        Image.fromarray(getattr(skimage.data, name)()).save(path, quality=92)

    return write


def _waves(height: int, width: int) -> np.ndarray:
    """Sums of waves from 0 to 1, as float32 of (height, width)."""
    y, x = np.mgrid[0:height, 0:width] / 150.0
    total = np.zeros((height, width))
    for octave in range(6):
        turn, size = 1.1 * octave, 2.0**octave
        along = (x * np.cos(turn) + y * np.sin(turn)) * size
        across = (y * np.cos(turn) - x * np.sin(turn)) * size
        total += (np.sin(along + octave) + np.sin(1.7 * across)) / size
    total -= total.min()
    return (total / total.max()).astype(np.float32)


def _heights(path: Path) -> None:
    np.save(path, _waves(1000, 1400))


def _labels(path: Path) -> None:
    Image.fromarray((_waves(900, 1300) * 15.99).astype(np.uint8)).save(path)


def _mandelbrot(path: Path) -> None:
    import fasttile

    draw = _module("examples", "mandelbrot").draw
    Image.fromarray(draw(fasttile.Region(0, 0, 1024, 1024), 2**30)).save(path)


IMAGES: dict[str, Callable[[Path], None]] = {
    "photographs.tif": _photographs,
    "plan.png": _plan,
    "labels.png": _labels,
    "heights.npy": _heights,
    "mandelbrot.png": _mandelbrot,
    "hubble.jpg": _shipped("hubble_deep_field"),
    "retina.jpg": _shipped("retina"),
    "astronaut.png": _shipped("astronaut"),
    "chelsea.png": _shipped("chelsea"),
    "coffee.png": _shipped("coffee"),
    "rocket.jpg": _shipped("rocket"),
}
"""The images by their names, each as a function that writes it to a path."""


if __name__ == "__main__":
    make(Path(sys.argv[1]))
