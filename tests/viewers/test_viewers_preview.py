"""The preview in a page: small, of the right colours, the same bytes again, and seen at once."""

from __future__ import annotations

import base64
import io
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

import fasttile
from fasttile.serve.content import open_content
from fasttile.viewers import VIEWERS, Script
from support.viewer_browser import WINDOW_SIZE, BrowserTab, Chromium, on_browser_thread
from support.viewer_results import IMAGE_SIZE, WindowView, colour_at, colour_fields

pytestmark = pytest.mark.slow

FIELDS = np.asarray(colour_fields(*IMAGE_SIZE))


def find_preview(page: bytes) -> Image.Image | None:
    """The preview of a page."""
    found = re.search(rb'<img id="preview" alt="" src="data:image/webp;base64,([^"]+)"', page)
    if found is None:
        return None
    assert len(found[0]) < 1300
    return Image.open(io.BytesIO(base64.b64decode(found[1])))


def check_fields(page: bytes) -> None:
    """Check that the preview of a page has the colours of the fields in their places."""
    image = find_preview(page)
    assert image is not None
    assert max(image.size) == 40
    for x, y in ((0.15, 0.25), (0.5, 0.25), (0.85, 0.25), (0.15, 0.75), (0.5, 0.75), (0.85, 0.75)):
        at = int(x * image.width), int(y * image.height)
        pixel: Any = image.convert("RGB").getpixel(at)
        assert np.abs(np.subtract(pixel, colour_at(x, y))).max() < 30, (x, y)


@pytest.mark.parametrize(
    "case",
    [
        ("map.dzi", {"overlap": 3}),
        ("map.dzi", {"tile_size": 2000}),
        ("map", {"layout": "xyz:centre"}),
        ("map", {"layout": "xyz:scale=2"}),
        ("map", {"layout": "gsiv", "format": "png"}),
        ("map", {"layout": "iiif3:id=https://example.org/map"}),
        ("map.zip", {"layout": "zoomify"}),
        ("map.pmtiles", {"format": "webp"}),
    ],
)
def test_each_result_has_one(case: tuple[str, dict[str, Any]], tmp_path: Path) -> None:
    name, options = case
    pages = []
    for number, threads in enumerate((1, 3)):
        folder = tmp_path / str(number)
        folder.mkdir()
        fasttile.cut(FIELDS, folder / name, viewer="leaflet:cdn", threads=threads, **options)
        if name.endswith(".zip"):
            with zipfile.ZipFile(folder / name) as archive:
                (page,) = (path for path in archive.namelist() if path.endswith(".html"))
                pages.append(archive.read(page))
        else:
            (path,) = folder.rglob("*.html")
            pages.append(path.read_bytes())
    check_fields(pages[0])
    assert pages[0] == pages[1]


def test_workers_and_resumed_cuts_make_the_same_page(tmp_path: Path) -> None:
    Image.fromarray(FIELDS).save(tmp_path / "map.png")
    pages = []
    for number, options in enumerate(({}, {"workers": 2}, {"resume": True})):
        dest = tmp_path / str(number) / "map.dzi"
        dest.parent.mkdir()
        options = {"tile_size": 32, "overlap": 0, "viewer": "leaflet:cdn", **options}
        if "resume" in options:
            with pytest.raises(fasttile.CancelledError):
                fasttile.cut(
                    tmp_path / "map.png", dest, progress=lambda now: now.tiles < 20, **options
                )
        fasttile.cut(tmp_path / "map.png", dest, **options)
        pages.append(dest.with_suffix(".html").read_bytes())
    assert pages[0] == pages[1] == pages[2]
    assert find_preview(pages[0]) is not None


def test_conversions_and_served_results_have_it_too(tmp_path: Path) -> None:
    fasttile.cut(FIELDS, tmp_path / "map.dzi")
    fasttile.convert(tmp_path / "map.dzi", tmp_path / "map.zip", viewer="leaflet:cdn", layout="dzi")
    with zipfile.ZipFile(tmp_path / "map.zip") as archive:
        check_fields(archive.read("map.html"))
    with open_content(tmp_path / "map.dzi") as content:
        check_fields(content.page)
    Image.fromarray(FIELDS).save(tmp_path / "map.png")
    with open_content(tmp_path / "map.png") as content:  # without reading the image
        assert find_preview(content.page) is None


def cut_page(folder: Path, pixels: Any, **options: Any) -> bytes:
    fasttile.cut(pixels, folder / "a.dzi", viewer="leaflet:cdn", overwrite=True, **options)
    return (folder / "a.html").read_bytes()


def test_kinds_of_pixels(tmp_path: Path) -> None:
    deep = FIELDS.astype(np.uint16) * 257
    grey = find_preview(cut_page(tmp_path, deep[:, :, :1], format="png", bits=16))
    assert grey is not None
    assert abs(grey.convert("L").getpixel((6, 7)) - FIELDS[100, 100, 0]) < 8  # type: ignore[operator]
    alpha = np.dstack([FIELDS, np.where(np.arange(1025) < 512, 255, 0)[None].repeat(700, 0)])
    clear = find_preview(cut_page(tmp_path, alpha.astype(np.uint8), format="png"))
    assert clear is not None
    assert (clear.getpixel((5, 5))[3], clear.getpixel((34, 5))[3]) == (255, 0)  # type: ignore[index]
    noise = np.random.default_rng(1).integers(0, 256, (40, 30, 3), np.uint8)
    image = find_preview(cut_page(tmp_path, noise))
    assert image is not None
    assert image.size == (30, 40)
    for size in ((1, 1), (1, 700), (700, 1)):
        assert find_preview(cut_page(tmp_path, np.zeros((*size, 3), np.uint8))) is not None
    assert find_preview(cut_page(tmp_path, FIELDS, levels="10-11")) is None  # of many tiles each
    white = np.full((500, 500, 3), 255, np.uint8)
    fasttile.cut(white, tmp_path / "map", layout="xyz", skip_blank=0, viewer="leaflet:cdn")
    assert b"preview-->" in (tmp_path / "map.html").read_bytes()  # there is no tile


def test_a_kept_profile_is_converted(tmp_path: Path) -> None:
    from PIL import features

    assert features.check("webp")
    swapped = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    at = {name: swapped.index(name, 128) for name in (b"rXYZ", b"bXYZ")}
    places = {name: swapped[place + 4 : place + 12] for name, place in at.items()}
    data = bytearray(swapped)
    for name, other in ((b"rXYZ", b"bXYZ"), (b"bXYZ", b"rXYZ")):  # red is blue in this profile
        data[at[name] + 4 : at[name] + 12] = places[other]
    Image.fromarray(FIELDS[:, :, ::-1]).save(tmp_path / "b.tif", icc_profile=bytes(data))
    check_fields(cut_page(tmp_path, tmp_path / "b.tif", icc="keep"))


@pytest.mark.usefixtures("bundled_scripts")
@pytest.mark.parametrize("viewer", [*VIEWERS, "plain"])
@on_browser_thread
def test_it_is_seen_before_any_tile(
    viewer: str, chromium: Chromium, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if viewer == "plain":
        monkeypatch.setattr(Script, "bundled_text", lambda self: None)
    fasttile.cut(FIELDS, tmp_path / "map.dzi", viewer=viewer.replace("plain", "leaflet"))
    tab = BrowserTab(chromium)
    held: list[Any] = []
    tab.page.route(re.compile(r"\.jpg$"), lambda route: held.append(route))
    fitted = min(WINDOW_SIZE[0] / IMAGE_SIZE[0], WINDOW_SIZE[1] / IMAGE_SIZE[1])
    for place, view in (
        ("", WindowView(WINDOW_SIZE, IMAGE_SIZE)),
        ("#0.9/400/300", WindowView(WINDOW_SIZE, IMAGE_SIZE, 0.9 / fitted, (-0.1582, -0.1023))),
    ):
        tab.page.goto("about:blank")
        tab.page.goto((tmp_path / "map.html").as_uri() + place, wait_until="commit")
        tab.page.wait_for_selector("#controls")
        seen = tab.screenshot()
        for x, y in ((0.2, 0.3), (0.5, 0.3), (0.4, 0.7), (0.2, 0.7)):
            left, top = view.to_screen(x, y)
            pixel: Any = seen.getpixel((int(left), int(top)))
            assert np.abs(np.subtract(pixel, colour_at(x, y))).max() < 40, (place, x, y)
    tab.close()
    assert held
    tab = BrowserTab(chromium)
    tab.open((tmp_path / "map.html").as_uri())
    tab.page.wait_for_selector("#preview", state="detached")
    assert tab.page_errors == []
    tab.close()
