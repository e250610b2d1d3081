"""A real browser for tests of pages, or a reason that is told."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial, wraps
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self, TypeVar

import pytest
from PIL import Image

from fasttile.viewers.scripts import Script, known_scripts

T = TypeVar("T")

ROOT = Path(__file__).resolve().parent.parent
MODULES = (ROOT / "tools/viewers/node_modules", ROOT / "tests/browser/node_modules")
REQUIRED = os.environ.get("FASTTILE_BROWSER") == "required"

WINDOW = (640, 440)
LIGHT, DARK = (0xEF, 0xEE, 0xEB), (0x15, 0x15, 0x17)


def missing(reason: str) -> None:
    """Skip what cannot be tested here, or fail where it has to be."""
    if REQUIRED:
        pytest.fail(f"FASTTILE_BROWSER=required, but {reason}")
    pytest.skip(reason)


def npm_file(script: Script) -> Path | None:
    """A script's file where npm has put it."""
    for modules in MODULES:
        path = modules / script.package / script.path
        if path.is_file() and script.matches(path.read_bytes()):
            return path
    return None


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
        self.do(self._start)
        return self

    def __exit__(self, *_: object) -> None:
        with self._thread:
            self.do(self._stop)

    def do(self, work: Callable[[], T]) -> T:
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


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    """A browser; its tests have to be `on_its_thread`."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if find_spec("playwright") is None:
        missing("the Python package playwright is not installed")
    if program is None:
        missing("there is no chromium here")
    with Chromium(str(program)) as browser:
        yield browser


def on_its_thread(test: Callable[..., None]) -> Callable[..., None]:
    """A test that runs on the thread of its fixture `chromium`."""

    @wraps(test)
    def run(**given: Any) -> None:
        given["chromium"].do(partial(test, **given))

    return run


@pytest.fixture
def bundled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The viewers' scripts, in the package or else from where npm has put them."""
    for script in known_scripts().values():
        if script.bundled() is None:
            path = npm_file(script)
            if path is None:
                missing("there are no scripts of viewers; tools/fetch_viewers.py brings them")
    monkeypatch.setattr(Script, "bundled", _bundled)


def _bundled(script: Script, own: Any = Script.bundled) -> str | None:
    found: str | None = own(script)
    path = npm_file(script)
    return path.read_text("utf-8") if found is None and path is not None else found


class Tab:
    """A page in the browser, which may ask for files and for nothing on the network."""

    def __init__(self, chromium: Chromium, **wishes: Any) -> None:
        width, height = WINDOW
        wishes = {"color_scheme": "light", "reduced_motion": "reduce", **wishes}
        self.context = chromium.browser.new_context(
            viewport={"width": width, "height": height}, **wishes
        )
        self.page = self.context.new_page()
        self.faults: list[str] = []
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("requestfailed", lambda request: self.faults.append(request.url))
        self.page.on("console", self._said)

    def _said(self, message: Any) -> None:
        # OpenSeadragon warns of tiles that come when their picture is no longer on the wall.
        if message.type in ("error", "warning") and "loaded before reset" not in message.text:
            self.faults.append(message.text)

    def open(self, url: str) -> None:
        """Go there, and wait until all is drawn."""
        self.page.goto(url)
        try:
            self.settle()
        except Exception as error:
            error.add_note(f"what went wrong in the page: {self.faults}")
            raise

    def settle(self) -> None:
        """Wait until all tiles in view have come and were drawn."""
        self.page.wait_for_selector("#stage[aria-busy=false]", timeout=30_000)
        # Twice in a row, for what is drawn may ask for more.
        self.page.evaluate(
            "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
        )
        self.page.wait_for_selector("#stage[aria-busy=false]", timeout=30_000)

    def shot(self) -> Image.Image:
        """What is seen, without what lies on the picture."""
        data = self.page.screenshot(style="#caption, #controls { visibility: hidden }")
        return Image.open(io.BytesIO(data)).convert("RGB")

    def close(self) -> None:
        self.context.close()
