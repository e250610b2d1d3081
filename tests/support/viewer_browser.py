"""A real browser for tests of pages, or a reason why there is none."""

from __future__ import annotations

import io
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial, wraps
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self, TypeVar

import pytest
from PIL import Image

from fasttile.serve import ViewerServer
from fasttile.serve.gallery import open_paths
from fasttile.viewers import Script

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[2]
NODE_MODULES = (ROOT / "tools/viewers/node_modules", ROOT / "tests/browser/node_modules")
REQUIRED = os.environ.get("FASTTILE_BROWSER") == "required"

WINDOW_SIZE = (640, 440)
LIGHT_BACKGROUND, DARK_BACKGROUND = (0xEF, 0xEE, 0xEB), (0x15, 0x15, 0x17)


def skip_or_fail(reason: str) -> None:
    """Skip what cannot be tested here, or fail where it has to be."""
    if REQUIRED:
        pytest.fail(f"FASTTILE_BROWSER=required, but {reason}")
    pytest.skip(reason)


def find_npm_file(script: Script) -> Path | None:
    """A script's file where npm has put it."""
    for modules in NODE_MODULES:
        path = modules / script.package / script.path
        if path.is_file() and script.matches(path.read_bytes()):
            return path
    return None


def axe_source() -> str:
    """The script of axe-core, from where npm has put it."""
    for modules in NODE_MODULES:
        path = modules / "axe-core/axe.min.js"
        if path.is_file():
            return path.read_text("utf-8")
    skip_or_fail("axe-core is not there; tests/browser/setup.sh installs it")
    raise AssertionError


def find_chromium() -> str:
    """The system's Chromium; skips the test, or fails it, where something is missing."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if find_spec("playwright") is None:
        skip_or_fail("the Python package playwright is not installed")
    if program is None:
        skip_or_fail("there is no chromium here")
    return str(program)


class Chromium:
    """The system's Chromium, without a window, driven from a thread of its own.

    Playwright keeps an event loop running on the thread that it is used on, where nothing else
    that needs one could run any more.
    """

    FLAGS = (
        *("--no-sandbox", "--force-color-profile=srgb", "--hide-scrollbars"),
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    )

    def __init__(self, program: str) -> None:
        self._program = program
        self._thread = ThreadPoolExecutor(1, "chromium")

    def __enter__(self) -> Self:
        self.run_on_thread(self._start)
        return self

    def __exit__(self, *_: object) -> None:
        with self._thread:
            self.run_on_thread(self._stop)

    def run_on_thread(self, work: Callable[[], T]) -> T:
        """Do something on the browser's thread, and wait for it."""
        return self._thread.submit(work).result()

    def _start(self) -> None:
        from playwright.sync_api import sync_playwright

        self._playwright = sync_playwright().start()
        self.browser: Any = self._playwright.chromium.launch(
            executable_path=self._program, args=list(self.FLAGS)
        )

    def _stop(self) -> None:
        self.browser.close()
        self._playwright.stop()


def on_browser_thread(test: Callable[..., None]) -> Callable[..., None]:
    """A test that runs on the thread of its fixture `chromium`."""

    @wraps(test)
    def run(**given: Any) -> None:
        given["chromium"].run_on_thread(partial(test, **given))

    return run


class BrowserTab:
    """A page in the browser, which may ask for files and for nothing on the network."""

    def __init__(self, chromium: Chromium, **options: Any) -> None:
        width, height = WINDOW_SIZE
        options = {"color_scheme": "light", "reduced_motion": "reduce", **options}
        self.context = chromium.browser.new_context(
            viewport={"width": width, "height": height}, **options
        )
        self.page = self.context.new_page()
        self.page_errors: list[str] = []
        self.page.on("pageerror", lambda error: self.page_errors.append(str(error)))
        self.page.on("requestfailed", lambda request: self.page_errors.append(request.url))
        self.page.on("console", self._record_console_message)

    def _record_console_message(self, message: Any) -> None:
        # OpenSeadragon warns of tiles that come when their image is no longer on the wall.
        if message.type in ("error", "warning") and "loaded before reset" not in message.text:
            self.page_errors.append(message.text)

    def open(self, url: str) -> None:
        """Go there, and wait until all is drawn."""
        self.page.goto(url)
        try:
            self.wait_until_drawn()
        except Exception as error:
            error.add_note(f"what went wrong in the page: {self.page_errors}")
            raise

    def wait_until_drawn(self) -> None:
        """Wait until all tiles in view have come and were drawn."""
        self.page.wait_for_selector("#stage[aria-busy=false]", timeout=30_000)
        # Twice in a row, for what is drawn may ask for more.
        self.page.evaluate(
            "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
        )
        self.page.wait_for_selector("#stage[aria-busy=false]", timeout=30_000)

    def screenshot(self) -> Image.Image:
        """What is seen, without what lies on the image."""
        data = self.page.screenshot(
            style="#caption, #controls, #tools, #navigator, #said { visibility: hidden }"
        )
        return Image.open(io.BytesIO(data)).convert("RGB")

    def close(self) -> None:
        self.context.close()


@contextmanager
def served(path: Path) -> Iterator[str]:
    """The address of a page of `fasttile view`."""
    with open_paths(path) as content, ViewerServer(content, report=lambda _: None) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.url
        finally:
            server.shutdown()
            thread.join()
