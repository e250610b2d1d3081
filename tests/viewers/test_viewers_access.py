"""All kinds of pages in Chromium: WCAG 2.2 AA by axe-core, no other host, and on paper."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

import fasttile
from fasttile.serve.content import collection_page
from fasttile.viewers import VIEWERS, Script
from support.sampling import sampled
from support.viewer_browser import Chromium, axe_source, on_browser_thread, served
from support.viewer_results import IMAGE_SIZE, colour_fields
from support.wall_results import make_collection

pytestmark = pytest.mark.slow

LEVELS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
RUN_AXE = """levels => axe
    .run({ runOnly: levels, rules: { "target-size": { enabled: true } } })
    .then((found) => found.violations)"""
PHONE, DESKTOP = {"width": 390, "height": 740}, {"width": 1000, "height": 640}
CREDIT = "© 2026 Museum of Maps"


def cut_pages(folder: Path) -> dict[str, str]:
    """Pages on the disk: each viewer, the plain one, both walls, and a page without its tiles."""
    pixels, pages = np.asarray(colour_fields(*IMAGE_SIZE)), {}
    options: dict[str, Any] = {"title": "Six fields", "credit": CREDIT}
    for viewer in VIEWERS:
        fasttile.cut(pixels, folder / f"{viewer}.dzi", viewer=viewer, **options)
        pages[viewer] = folder / f"{viewer}.html"
    collection = make_collection(folder, "wall", ["first", "second", "third"])
    ((name, data),) = collection_page(collection).items()
    (folder / name).write_bytes(data)
    pages["wall"] = folder / name
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Script, "bundled_text", lambda _: None)
        fasttile.cut(pixels, folder / "plain.dzi", viewer="openseadragon", **options)
        ((_, data),) = collection_page(collection).items()
    (folder / "plain_wall.html").write_bytes(data)
    pages |= {"plain": folder / "plain.html", "plain wall": folder / "plain_wall.html"}
    (folder / "lost").mkdir()
    pages["without tiles"] = (folder / "plain.html").rename(folder / "lost/plain.html")
    fasttile.cut(pixels, folder / "plain.dzi", overwrite=True)
    (folder / "plain.html").write_bytes((folder / "lost/plain.html").read_bytes())
    return {kind: path.as_uri() for kind, path in pages.items()}


def folder_of_images(folder: Path) -> Path:
    """A folder for `fasttile view`: an image with texts, one in a folder, and a damaged one."""
    (folder / "scans/inner").mkdir(parents=True)
    image = colour_fields(*IMAGE_SIZE)
    image.save(folder / "scans/a.jpg", exif=_exif())
    image.save(folder / "scans/inner/b.png")
    (folder / "scans/bad.jpg").write_bytes((folder / "scans/a.jpg").read_bytes()[:2000])
    return folder / "scans"


def _exif() -> Image.Exif:
    exif = Image.Exif()
    exif[270] = "Six fields of colour, for a test."
    exif[33432] = "Museum of Maps"
    return exif


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The address of a page of each kind."""
    folder = tmp_path_factory.mktemp("pages")
    found = cut_pages(folder)
    with ExitStack() as stack:
        gallery = stack.enter_context(served(folder_of_images(folder)))
        found |= {
            "gallery": gallery,
            "image of a gallery": f"{gallery}show/0/",
            "damaged image": f"{gallery}show/1/",
            "not found": f"{gallery}nothing",
            "forbidden": f"{gallery[: gallery.rindex('/', 0, -1)]}/",
            "served wall": stack.enter_context(served(folder / "wall.dzc")),
        }
        yield found


def open_page(page: Any, address: str) -> None:
    """Go there, and wait until all has come."""
    page.goto(address)
    page.wait_for_load_state("load")
    if page.locator("#stage").count():
        page.wait_for_selector("#stage[aria-busy=false]", timeout=30_000)


@pytest.mark.usefixtures("bundled_scripts")
@pytest.mark.parametrize("window", sampled(["desktop", "phone"], ["desktop"]))
@on_browser_thread
def test_no_page_has_a_violation_of_wcag(
    window: str, chromium: Chromium, pages: dict[str, str]
) -> None:
    axe, faults, is_phone = axe_source(), {}, window == "phone"
    context = chromium.browser.new_context(
        viewport=PHONE if is_phone else DESKTOP,
        color_scheme="dark" if is_phone else "light",
        reduced_motion="reduce",
        has_touch=is_phone,
    )
    page = context.new_page()
    for kind, address in pages.items():
        open_page(page, address)
        if page.locator("details").count():
            page.locator("summary").click()
        page.evaluate(axe)
        for violation in page.evaluate(RUN_AXE, LEVELS):
            nodes = [f"{one['html'][:150]}: {one['failureSummary']}" for one in violation["nodes"]]
            faults[f"{kind}: {violation['id']}"] = nodes[:3]
    context.close()
    assert not faults


@pytest.mark.usefixtures("bundled_scripts")
@on_browser_thread
def test_no_page_requests_another_host(chromium: Chromium, pages: dict[str, str]) -> None:
    context = chromium.browser.new_context(viewport=DESKTOP, reduced_motion="reduce")
    page = context.new_page()
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    for kind, address in pages.items():
        requested.clear()
        open_page(page, address)
        for key in ("+", "+", "ArrowRight", "0"):
            page.keyboard.press(key)
        page.wait_for_timeout(100)
        parts = urlsplit(address)
        own = (f"{parts.scheme}://{parts.netloc}/", "data:", "blob:")
        assert address in requested, kind
        assert [url for url in requested if not url.startswith(own)] == [], kind
    context.close()


@pytest.mark.usefixtures("bundled_scripts")
@pytest.mark.parametrize("kind", sampled([*VIEWERS, "plain"], ["leaflet"]))
@on_browser_thread
def test_on_paper_are_the_image_its_title_and_its_credit(
    kind: str, chromium: Chromium, pages: dict[str, str]
) -> None:
    context = chromium.browser.new_context(
        viewport=DESKTOP, color_scheme="dark", reduced_motion="reduce"
    )
    page = context.new_page()
    open_page(page, pages[kind])
    before = _screenshot(page)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    shown = page.evaluate(
        """() => [...document.querySelectorAll("main *")]
            .filter((one) => one.checkVisibility() && one.closest("main > *").id !== "stage")
            .map((one) => one.id || one.localName)"""
    )
    assert shown == ["caption", "h1", "p", "credit"]
    assert page.inner_text("#credit") == CREDIT
    after = _screenshot(page)
    # The image as on the screen, in the same shape: 1000 pixels became 700.
    for x, y in ((100, 100), (500, 160), (900, 480), (500, 500), (140, 250)):
        there = after.getpixel((round(x * 0.7), round(y * 0.7)))
        assert np.abs(np.subtract(there, before.getpixel((x, y)))).max() <= 8, (x, y)
    assert after.getpixel((5, 100)) == (255, 255, 255)
    assert page.evaluate("document.documentElement.scrollWidth") <= 1000
    assert page.pdf(format="A4").count(b"/Type /Page\n") == 1
    context.close()


def _screenshot(page: Any) -> Image.Image:
    page.wait_for_timeout(300)
    page.wait_for_selector("#stage[aria-busy=false]")
    style = "@media screen { #caption, #controls { visibility: hidden } }"
    return Image.open(io.BytesIO(page.screenshot(style=style))).convert("RGB")
