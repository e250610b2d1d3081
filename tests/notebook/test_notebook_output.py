"""The output of a cell without a kernel: thumbnail, name and size, in plain HTML."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fasttile
import profiles
from fasttile.abc.reader import PyramidReader
from support.cell_html import CellHtml
from support.cut_cases import LAYOUTS, any_format_in_iiif2
from support.reading import noise


def shown(pyramid: PyramidReader) -> CellHtml:
    """The HTML of a pyramid, the same in both of a notebook's ways to ask for it."""
    data, metadata = pyramid._repr_mimebundle_()
    assert data["text/plain"] == repr(pyramid)
    assert (data["text/html"], metadata) == (pyramid._repr_html_(), {})
    return CellHtml(data["text/html"])


@pytest.mark.parametrize(
    ("layout", "bands"),
    [*((layout, 4) for layout in [*LAYOUTS, "tiff"]), ("dzi", 1), ("dzi", 2), ("dzi", 3)],
)
def test_the_thumbnail_of_every_layout_is_the_image(
    layout: str, bands: int, tmp_path: Path
) -> None:
    pixels = noise(75, 101, bands)
    pixels[4:] = np.arange(101, dtype=np.uint8)[None, :, None]  # smaller as a PNG
    name = {"dzi": "image.dzi", "tiff": "image.tif"}.get(layout.partition(":")[0], "image")
    size = 16 if layout == "tiff" else 20
    options: dict[str, Any] = {"layout": layout, "tile_size": size}
    options["format"] = "deflate" if layout == "tiff" else "png"
    if layout.startswith("dzi"):
        options["overlap"] = 3
    with any_format_in_iiif2():
        path = fasttile.cut(pixels, tmp_path / name, **options).path
        for source, given in ((pixels, options), (path, {})):
            with fasttile.open_pyramid(source, **given) as pyramid:
                thumbnail = np.asarray(shown(pyramid).image())
                assert np.array_equal(thumbnail.reshape(pixels.shape), pixels)


def test_a_large_image_has_a_small_thumbnail() -> None:
    fields = np.zeros((1000, 3001, 3), np.uint8)
    fields[:500, :, 0] = fields[:, 1500:, 1] = 255
    with fasttile.open_pyramid(fields, layout="xyz:centre", format="png") as pyramid:
        found = shown(pyramid)
    assert found.text == "image · 3,001 × 1,000 pixels"
    assert found.images[0]["alt"] == "image, 3,001 × 1,000 pixels"
    image = found.image()
    assert image.size == (376, 125)
    places = [(5, 5), (370, 5), (5, 120), (370, 120)]
    colours = [(255, 0, 0), (255, 255, 0), (0, 0, 0), (0, 255, 0)]
    assert [image.convert("RGB").getpixel(place) for place in places] == colours


def test_photographs_are_shown_as_jpeg_with_their_profile() -> None:
    data = io.BytesIO()
    Image.fromarray(noise(300, 200, 3)).save(data, "JPEG", icc_profile=profiles.display_p3())
    with fasttile.open_pyramid(data.getvalue(), icc="keep") as pyramid:
        image = shown(pyramid).image()
    assert (image.format, image.size) == ("JPEG", (200, 300))
    assert image.info["icc_profile"] == profiles.display_p3()


def test_deep_pixels_are_reduced() -> None:
    deep = noise(20, 30, 1, dtype=np.uint16)
    with fasttile.open_pyramid(deep, bits=16, format="png", window="full") as pyramid:
        assert np.array_equal(np.asarray(shown(pyramid).image()), deep[:, :, 0] >> 8)


def test_a_pyramid_without_small_levels() -> None:
    fields = np.zeros((700, 1100, 3), np.uint8)
    with fasttile.open_pyramid(fields, levels="11-11", format="png") as pyramid:
        assert shown(pyramid).image().size == (512, 326)
    with fasttile.open_pyramid(fields, levels="11-11", tile_size=8) as pyramid:
        found = shown(pyramid)
        assert (found.images, found.text) == ([], "image · 1,100 × 700 pixels")


def test_names_are_escaped(tmp_path: Path) -> None:
    name = '<b>"&\u202e\x1b\udcff'
    path = tmp_path / f"{name}.png"
    Image.new("L", (3, 2)).save(path)
    with fasttile.open_pyramid(path) as pyramid:
        found = shown(pyramid)
    said = '<b>"&\\u202e\\x1b\\udcff'
    assert found.tags == {"figure", "img", "figcaption", "b"}
    assert found.images[0]["alt"] == f"{said}, 3 × 2 pixels"
    assert found.text == f"{said} · 3 × 2 pixels"


def test_errors_are_one_line(tmp_path: Path) -> None:
    pyramid = fasttile.open_pyramid(np.zeros((20, 30), np.uint8))
    pyramid.close()
    assert shown(pyramid).text == "image: the pyramid is closed; open it again"
    with fasttile.open_pyramid(_truncated(tmp_path)) as pyramid:
        found = shown(pyramid)
        assert found.tags == {"p"}
        assert "\n" not in found.text


def _truncated(folder: Path) -> Path:
    path = folder / "half.png"
    Image.fromarray(noise(200, 200, 3)).save(path)
    path.write_bytes(path.read_bytes()[:60_000])
    return path


def test_a_missing_tile_leaves_a_gap_and_a_line(tmp_path: Path) -> None:
    pixels = np.zeros((40, 40), np.uint8)
    path = fasttile.cut(pixels, tmp_path / "a.dzi", tile_size=20, overlap=0, format="png").path
    (tmp_path / "a_files/6/1_0.png").unlink()
    with fasttile.open_pyramid(path) as pyramid:
        found = shown(pyramid)
    assert "1_0.png is missing" in found.text
    expected = pixels.copy()
    expected[:20, 20:] = 255
    assert np.array_equal(np.asarray(found.image()), expected)


def run_in_new_process(*arguments: str) -> str:
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


PROGRAM = """
import sys, numpy, fasttile
pyramid = fasttile.open_pyramid(numpy.zeros((2, 3), "u1"))
"""


def test_nothing_is_imported_before_it_is_shown() -> None:
    line = 'print([name for name in sys.modules if "notebook" in name or "widget" in name])'
    assert run_in_new_process("-c", PROGRAM + line) == "[]\n"


@pytest.mark.slow
def test_a_terminal_shows_text_and_loads_no_widget(tmp_path: Path) -> None:
    pytest.importorskip("IPython")
    arguments = ["-m", "IPython", f"--ipython-dir={tmp_path}", "--colors=NoColor", "-c"]
    line = 'display(pyramid); print("anywidget" in sys.modules, "html" in sys.modules)'
    found = run_in_new_process(*arguments, PROGRAM + line).splitlines()
    assert found[0] == "<ImagePyramid 'image': 3×2 pixels>"
    assert found[1].startswith("False ")
