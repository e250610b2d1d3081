"""What the browser tests stand on: a Chromium, two servers, and results that are cut once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import lab_browser
import lab_servers
import pytest
from lab_browser import ChromiumPage, ViewerWindow
from lab_results import ResultCache
from lab_servers import StaticServer
from lab_views import WINDOW_SIDE

REQUIRED = os.environ.get("FASTTILE_BROWSER") == "required"


@pytest.fixture(scope="session", autouse=True)
def required_programs() -> None:
    """Skip everything where something is missing, or fail where it is required."""
    missing = lab_browser.missing_requirements()
    if missing:
        words = f"NO BROWSER TESTS: {', '.join(missing)} missing; tests/browser/setup.sh may help"
        if REQUIRED:
            pytest.fail(words, pytrace=False)
        pytest.skip(words)


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the servers serve: pages, viewers, and what the tests put there."""
    root = tmp_path_factory.mktemp("served")
    (root / "pages").symlink_to(lab_browser.BROWSER_FOLDER / "pages")
    (root / "lib").symlink_to(lab_browser.NODE_MODULES)
    return root


@pytest.fixture(scope="session")
def nginx(
    required_programs: None, root: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StaticServer]:
    """An nginx that serves the folder."""
    with lab_servers.run_nginx(root, tmp_path_factory.mktemp("nginx")) as server:
        yield server


@pytest.fixture(scope="session")
def python_server(root: Path) -> Iterator[StaticServer]:
    """Python's own server for the same folder."""
    with lab_servers.run_python_server(root) as server:
        yield server


@pytest.fixture(scope="session")
def browser(required_programs: None) -> Iterator[ChromiumPage]:
    """A browser, one for each process of the tests."""
    with ChromiumPage(WINDOW_SIDE) as browser:
        yield browser


@pytest.fixture
def window(browser: ChromiumPage) -> Iterator[ViewerWindow]:
    """The browser's page, for one test."""
    with ViewerWindow(browser) as window:
        yield window


@pytest.fixture(scope="session")
def results(root: Path) -> ResultCache:
    """Results under the servers' folder."""
    return ResultCache(root)
