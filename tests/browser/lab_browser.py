"""A real browser without a window, driven by Playwright; and what it needs that is missing."""

from __future__ import annotations

import base64
import importlib.util
import io
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np
from lab_image import SourceView
from lab_servers import find_nginx
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:
    from playwright.sync_api import Response

T = TypeVar("T")

BROWSER_FOLDER = Path(__file__).parent
NODE_MODULES = BROWSER_FOLDER / "node_modules"

PAGE_TIMEOUT_MS = 20_000
"""Milliseconds until a page counts as stuck."""

CHROMIUM_FLAGS = [
    # WebGL by the processor: the same everywhere.
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--force-color-profile=srgb",
    "--force-device-scale-factor=1",
    "--hide-scrollbars",
    # Nothing but this machine is reached: a page's other requests fail.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]


def missing_requirements() -> list[str]:
    """What the laboratory needs and does not find."""
    found = {
        "the Python package playwright": importlib.util.find_spec("playwright"),
        "chromium": find_chromium(),
        "nginx": find_nginx(),
        "the viewers (npm ci)": (NODE_MODULES / ".package-lock.json").exists(),
    }
    return [name for name, place in found.items() if not place]


def find_chromium() -> str | None:
    """Where the system's Chromium is."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((place for name in names if (place := shutil.which(name))), None)


class ChromiumPage:
    """A page in a Chromium of its own, driven from a thread of its own.

    Playwright leaves an event loop running on the thread that it is used on, where nothing else
    that needs one could run any more: no second Playwright, and no test of `asyncio`.

    Args:
        side: The page's height and width in pixels.
    """

    def __init__(self, side: int) -> None:
        self._side = side
        self._thread = ThreadPoolExecutor(1, "chromium")

    def __enter__(self) -> Self:
        self.run_on_thread(self._start)
        return self

    def __exit__(self, *error: object) -> None:
        with self._thread:
            self.run_on_thread(self._stop)

    def run_on_thread(self, call: Callable[..., T], *arguments: Any, **options: Any) -> T:
        """Call something of Playwright's."""
        return self._thread.submit(call, *arguments, **options).result()

    def screenshot(self) -> bytes:
        """What the page shows, as PNG. Playwright's own takes half as long again."""
        data: str = self._protocol.send("Page.captureScreenshot", {"format": "png"})["data"]
        return base64.b64decode(data)

    def new_page(self, size: dict[str, int]) -> Any:
        """Another page, with a window of this size, which the caller closes."""
        return self._browser.new_page(viewport=size, device_scale_factor=1)

    def _start(self) -> None:
        from playwright.sync_api import sync_playwright

        self._playwright = sync_playwright().start()
        try:
            self._browser = self._playwright.chromium.launch(
                executable_path=find_chromium(),  # none is ever downloaded
                args=CHROMIUM_FLAGS,
                chromium_sandbox=False,  # which root could not have
                timeout=PAGE_TIMEOUT_MS,
            )
            size = {"width": self._side, "height": self._side}
            self.page = self._browser.new_page(viewport=size, device_scale_factor=1)
            self.page.set_default_timeout(PAGE_TIMEOUT_MS)
            self._protocol = self.page.context.new_cdp_session(self.page)
        except BaseException:
            self._playwright.stop()
            raise

    def _stop(self) -> None:
        self._browser.close()
        self._playwright.stop()


class ViewerWindow:
    """A page with one viewer in it, and what goes wrong in it.

    Args:
        chromium: The browser, whose page many windows use in turn: a new one takes half a second.

    Attributes:
        failed: The addresses of all requests that were refused, aborted or not found.
        errors: What the page's own code did not catch.
    """

    def __init__(self, chromium: ChromiumPage) -> None:
        self.failed_requests: list[str] = []
        self.page_errors: list[str] = []
        self._chromium = chromium
        self._do = chromium.run_on_thread
        self._page = chromium.page
        self._listeners: dict[Any, Callable[[Any], None]] = {
            "response": self._record_response,
            "requestfailed": lambda request: self.failed_requests.append(request.url),
            "pageerror": lambda error: self.page_errors.append(str(error)),
        }

    def __enter__(self) -> Self:
        for event, listener in self._listeners.items():
            self._do(self._page.on, event, listener)
        return self

    def __exit__(self, *error: object) -> None:
        if self.failed_requests or self.page_errors:
            self._do(self._page.goto, "about:blank")  # the next one starts afresh
        for event, listener in self._listeners.items():
            self._do(self._page.remove_listener, event, listener)

    def load_page(self, address: str) -> None:
        """Load a page, if it is not there from the test before."""
        if self._page.url != address:
            self._do(self._page.goto, address)

    def evaluate(self, script: str, argument: object = None) -> Any:
        """What a script in the page gives, when it is done."""
        return self._do(self._page.evaluate, script, argument)

    def open_result(self, address: str, spec: dict[str, Any]) -> None:
        """Let a viewer's page open a result."""
        self.load_page(address)
        self.evaluate("spec => lab.soon(lab.open(spec))", spec)

    def capture_view(self, view: SourceView) -> NDArray[np.uint8]:
        """The window's pixels, of shape (height, width, 3), when all of the view is there."""
        self.evaluate("view => lab.soon(lab.show(view))", vars(view))
        with Image.open(io.BytesIO(self._do(self._chromium.screenshot))) as shot:
            return np.asarray(shot.convert("RGB"))

    def _record_response(self, response: Response) -> None:
        if response.status >= 400:
            self.failed_requests.append(response.url)
