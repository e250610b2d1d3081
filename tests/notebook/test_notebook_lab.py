"""A real JupyterLab in a real browser: two pyramids in a notebook, their pixels, and what is left.

The kernel and the browser share no port of fasttile's: tiles come by the notebook's own connection.
"""

from __future__ import annotations

import base64
import io
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import fasttile
from support.cell_html import CellHtml
from support.viewer_browser import Chromium, find_chromium, on_browser_thread, skip_or_fail

pytestmark = pytest.mark.long

TIMEOUT_SECONDS = 60

IMAGE_SIZE = (701, 599)

CELLS = (
    'import fasttile\nimage = fasttile.open_pyramid("image.npy", format="png")\nimage',
    'result = fasttile.open_pyramid("result.pmtiles")\nresult',
)

KERNEL_IS_IDLE = (
    "window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
)
TWO_FRAMES = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"


def write_files(folder: Path) -> NDArray[np.uint8]:
    """An image, a result and the notebook that shows both; returns the pixels."""
    width, height = IMAGE_SIZE
    steps = np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)
    pixels = (np.arange(width, dtype=np.uint8)[None, :, None] // 2 + steps // 2).astype(np.uint8)
    np.save(folder / "image.npy", pixels)
    fasttile.cut(pixels, folder / "result.pmtiles", layout="xyz:centre", format="png")
    cells = [
        {"id": f"cell{number}", "cell_type": "code", "source": source}
        | {"metadata": {}, "outputs": [], "execution_count": None}
        for number, source in enumerate(CELLS)
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4}
    (folder / "test.ipynb").write_text(json.dumps({**notebook, "nbformat_minor": 5}))
    return pixels


@contextmanager
def run_jupyterlab(folder: Path, state: Path) -> Iterator[str]:
    """JupyterLab for a folder; yields the address of its notebook, with the token."""
    names = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "HOME")
    environment = {**os.environ, **{name: str(state / name.lower()) for name in names}}
    token = secrets.token_hex(16)
    unused = {"jupyter_lsp": False, "jupyter_server_terminals": False}
    config = state / "jupyter_config_dir" / "jupyter_server_config.json"
    config.parent.mkdir()
    config.write_text(json.dumps({"ServerApp": {"jpserver_extensions": unused}}))
    command = [
        *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--port=0"),
        *("--ip=127.0.0.1", "--expose-app-in-browser", f"--ServerApp.root_dir={folder}"),
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        "--LabApp.news_url=None",
    ]
    with (state / "log").open("w") as log:
        environment["JUPYTER_TOKEN"] = token
        server = subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log)
    try:
        end = time.monotonic() + TIMEOUT_SECONDS
        while True:
            for path in (state / "jupyter_runtime_dir").glob("jpserver-*.json"):
                text = path.read_text()
                if text.endswith("}"):  # else it is being written
                    yield f"{json.loads(text)['url']}doc/tree/test.ipynb?token={token}"
                    return
            assert server.poll() is None, (state / "log").read_text()
            assert time.monotonic() < end, (state / "log").read_text()
            time.sleep(0.05)
    finally:
        server.terminate()
        server.wait()


class NotebookPage:
    """A notebook in JupyterLab.

    Attributes:
        other_hosts: Hosts that were asked for anything, but for this machine.
        errors: Errors that no script caught.
    """

    def __init__(self, page: Any) -> None:
        self.page = page
        self.other_hosts: set[str | None] = set()
        self.errors: list[str] = []
        page.on("request", self._record_host)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.set_default_timeout(TIMEOUT_SECONDS * 1000)

    def _record_host(self, request: Any) -> None:
        address = urlsplit(request.url)
        if address.scheme not in ("data", "blob") and address.hostname != "127.0.0.1":
            self.other_hosts.add(address.hostname)

    def run(self, url: str) -> None:
        """Open the notebook and run its cells."""
        self.page.goto(url)
        self.page.wait_for_function(KERNEL_IS_IDLE)
        self.page.evaluate("jupyterapp.commands.execute('notebook:run-all-cells')")
        self.canvas(1).wait_for()

    def canvas(self, number: int) -> Any:
        """The canvas of one of the pyramids."""
        return self.page.locator(".fasttile canvas").nth(number)

    def press(self, *keys: str) -> None:
        """Press keys, one after another."""
        for key in keys:
            self.page.keyboard.press(key)

    def pixels(self, number: int) -> NDArray[np.uint8]:
        """The pixels of a canvas when all tiles have come: shape (height, width, 4)."""
        self.page.evaluate(TWO_FRAMES)
        self.page.locator(".fasttile").nth(number).locator("canvas[aria-busy=false]").wait_for()
        self.page.evaluate(TWO_FRAMES)
        url: str = self.canvas(number).evaluate("(canvas) => canvas.toDataURL()")
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))))


def expected_view(
    pixels: NDArray[np.uint8], shape: tuple[int, ...], centre: tuple[float, float]
) -> NDArray[np.uint8]:
    """A canvas that shows pixels one to one, with one of their places in its middle."""
    height, width = pixels.shape[:2]
    left, top = (int(np.floor(shape[1 - at] / 2 - centre[at] + 0.5)) for at in (0, 1))
    around = np.zeros((height + 2 * shape[0], width + 2 * shape[1], 4), np.uint8)
    around[shape[0] : -shape[0], shape[1] : -shape[1], :3] = pixels
    around[shape[0] : -shape[0], shape[1] : -shape[1], 3] = 255
    return around[shape[0] - top :, shape[1] - left :][: shape[0], : shape[1]]


def halved(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Each 2×2 pixels as one; the last column and row of odd sides count twice."""
    height, width = pixels.shape[:2]
    even = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge").astype(int)
    total = even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]
    return ((total + 2) // 4).astype(np.uint8)


def check_pixels(notebook: NotebookPage, number: int, pixels: NDArray[np.uint8]) -> None:
    """Each step of zooming and moving shows the pixels of the level's tiles."""
    width, height = IMAGE_SIZE
    middle = width / 2, height / 2
    canvas = notebook.canvas(number)
    canvas.click()
    notebook.press("1")
    found = notebook.pixels(number)
    assert np.array_equal(found, expected_view(pixels, found.shape, middle))

    notebook.press("ArrowRight", "ArrowUp", "ArrowUp")
    moved = middle[0] + found.shape[1] / 5, middle[1] - found.shape[0] / 5 * 2
    found = notebook.pixels(number)
    assert np.array_equal(found, expected_view(pixels, found.shape, moved))

    notebook.press("0", "1")
    box = canvas.bounding_box()
    mouse = int(box["x"]) + 100, int(box["y"]) + 50  # events of the wheel have whole pixels
    notebook.page.mouse.move(*mouse)
    notebook.page.mouse.wheel(0, -240)
    x = mouse[0] - box["x"] - found.shape[1] / 2
    y = mouse[1] - box["y"] - found.shape[0] / 2
    twice = pixels.repeat(2, axis=0).repeat(2, axis=1)
    found = notebook.pixels(number)
    assert np.array_equal(
        found, expected_view(twice, found.shape, (2 * middle[0] + x, 2 * middle[1] + y))
    )


def check_smaller_level(notebook: NotebookPage, pixels: NDArray[np.uint8]) -> None:
    """At half of the size, the pixels of the next smaller level; the wheel needs the focus."""
    notebook.canvas(0).click()
    notebook.press("0", "1", "-")
    found = notebook.pixels(0)
    expected = expected_view(halved(pixels), found.shape, (IMAGE_SIZE[0] / 4, IMAGE_SIZE[1] / 4))
    height, width = found.shape[:2]
    # Without the last column and row, which are cut at the end of the image.
    inner = np.s_[: height // 2 + 145, : width // 2 + 170]
    assert np.array_equal(found[inner], expected[inner])
    notebook.press("Escape")
    assert notebook.page.evaluate("document.activeElement?.matches('.fasttile canvas')") is not True
    notebook.canvas(0).hover()
    notebook.page.mouse.wheel(0, -1)
    assert np.array_equal(notebook.pixels(0), found)


def check_keys_stay_in_the_viewer(notebook: NotebookPage) -> None:
    """Keys that are commands of the notebook are none while the viewer has the focus."""
    notebook.canvas(0).click()
    notebook.press("a", "0", "0", "d", "d")
    assert notebook.page.locator(".jp-Cell").count() == len(CELLS)
    assert notebook.page.locator(".jp-Dialog").count() == 0


def check_fingers(notebook: NotebookPage, pixels: NDArray[np.uint8]) -> None:
    """Two fingers that move apart by a factor zoom by it, around the middle between them."""
    canvas = notebook.canvas(0)
    canvas.click()
    notebook.press("0", "1")
    before = notebook.pixels(0)
    box = canvas.bounding_box()
    x, y = box["x"] + before.shape[1] // 2, box["y"] + before.shape[0] // 2
    protocol = notebook.page.context.new_cdp_session(notebook.page)
    for kind, apart in (("touchStart", 40), ("touchMove", 60), ("touchMove", 80), ("touchEnd", 0)):
        points = [{"x": x - apart, "y": y, "id": 0}, {"x": x + apart, "y": y, "id": 1}]
        touches = {"type": kind, "touchPoints": points if apart else []}
        protocol.send("Input.dispatchTouchEvent", touches)
    twice = pixels.repeat(2, axis=0).repeat(2, axis=1)
    found = notebook.pixels(0)
    expected = expected_view(twice, found.shape, (twice.shape[1] / 2, twice.shape[0] / 2))
    assert np.array_equal(found, expected)


def check_closed_pyramid(notebook: NotebookPage) -> None:
    """A view says in one line that its pyramid is closed, when it needs another tile."""
    notebook.page.evaluate(
        "jupyterapp.shell.currentWidget.sessionContext.session.kernel"
        ".requestExecute({ code: 'result.close()' }).done"
    )
    notebook.canvas(1).click()
    notebook.press("0", "-")
    line = "result.pmtiles: the pyramid is closed; open it again"
    notebook.page.locator(".fasttile-note").nth(1).get_by_text(line).wait_for()


def check_saved_notebook(notebook: NotebookPage, folder: Path) -> None:
    """Converted to HTML, the notebook shows the thumbnails."""
    notebook.page.evaluate("jupyterapp.commands.execute('docmanager:save')")
    command = [sys.executable, "-m", "nbconvert", "--to", "html", "--template", "basic"]
    subprocess.run([*command, "test.ipynb"], cwd=folder, check=True, capture_output=True)
    converted = CellHtml((folder / "test.html").read_text("utf-8"))
    images = []
    for name, options in (("image.npy", {"format": "png"}), ("result.pmtiles", {})):
        with fasttile.open_pyramid(folder / name, **options) as pyramid:
            expected = CellHtml(pyramid._repr_html_())
        images += expected.images
        assert expected.text in converted.text
    assert [(image["src"], image["alt"]) for image in converted.images] == [
        (image["src"], image["alt"]) for image in images
    ]


def check_without_a_kernel(notebook: NotebookPage, pixels: NDArray[np.uint8]) -> None:
    """After a restart of the kernel the thumbnail is left, and one line."""
    notebook.page.evaluate("jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    line = "The kernel has ended; run the cell again."
    for number in (0, 1):
        notebook.page.locator(".fasttile-note").nth(number).get_by_text(line).wait_for()
    notebook.canvas(1).click()
    notebook.press("0")
    notebook.page.evaluate(TWO_FRAMES)
    url: str = notebook.canvas(1).evaluate("(canvas) => canvas.toDataURL()")
    found = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))
    small = Image.fromarray(pixels).resize((8, 8), Image.Resampling.BOX)
    shown = found.crop(found.getbbox()).convert("RGB").resize((8, 8), Image.Resampling.BOX)
    assert np.abs(np.asarray(small, int) - np.asarray(shown, int)).max() < 12


@pytest.fixture
def chromium() -> Iterator[Chromium]:
    """A browser; its tests have to be `on_browser_thread`."""
    for name in ("anywidget", "ipykernel", "jupyterlab", "nbconvert"):
        if find_spec(name) is None:
            skip_or_fail(f"the Python package {name} is not installed")
    with Chromium(find_chromium()) as browser:
        yield browser


@on_browser_thread
def test_two_pyramids_in_a_notebook(chromium: Chromium, tmp_path: Path) -> None:
    folder, state = tmp_path / "work", tmp_path / "state"
    folder.mkdir()
    state.mkdir()
    pixels = write_files(folder)
    with run_jupyterlab(folder, state) as url:
        context = chromium.browser.new_context(viewport={"width": 1100, "height": 1200})
        notebook = NotebookPage(context.new_page())
        notebook.run(url)
        check_pixels(notebook, 0, pixels)
        check_pixels(notebook, 1, pixels)
        check_smaller_level(notebook, pixels)
        check_keys_stay_in_the_viewer(notebook)
        check_fingers(notebook, pixels)
        check_closed_pyramid(notebook)
        check_saved_notebook(notebook, folder)
        check_without_a_kernel(notebook, pixels)
        assert (notebook.other_hosts, notebook.errors) == (set(), [])
        context.close()
