"""What the browser tests stand on: a Chromium, two servers, and results that are cut once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import lab_browser
import lab_servers
import pytest
from lab_browser import Chromium, Window
from lab_results import Results
from lab_servers import Server
from lab_views import SIDE

REQUIRED = os.environ.get("FASTTILE_BROWSER") == "required"


@pytest.fixture(scope="session", autouse=True)
def equipped() -> None:
    """Skip everything where something is missing, or fail where it is required."""
    missing = lab_browser.missing()
    if missing:
        words = f"NO BROWSER TESTS: {', '.join(missing)} missing; tests/browser/setup.sh may help"
        if REQUIRED:
            pytest.fail(words, pytrace=False)
        pytest.skip(words)


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the servers serve: pages, viewers, and what the tests put there."""
    root = tmp_path_factory.mktemp("served")
    (root / "pages").symlink_to(lab_browser.HERE / "pages")
    (root / "lib").symlink_to(lab_browser.LIBRARIES)
    return root


@pytest.fixture(scope="session")
def nginx(equipped: None, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An nginx that serves the folder."""
    with lab_servers.nginx(root, tmp_path_factory.mktemp("nginx")) as server:
        yield server


@pytest.fixture(scope="session")
def python_server(root: Path) -> Iterator[Server]:
    """Python's own server for the same folder."""
    with lab_servers.python_server(root) as server:
        yield server


@pytest.fixture(scope="session")
def browser(equipped: None) -> Iterator[Chromium]:
    """A browser, one for each process of the tests."""
    with Chromium(SIDE) as browser:
        yield browser


@pytest.fixture
def window(browser: Chromium) -> Iterator[Window]:
    """The browser's page, for one test."""
    with Window(browser) as window:
        yield window


@pytest.fixture(scope="session")
def results(root: Path) -> Results:
    """Results under the servers' folder."""
    return Results(root)
