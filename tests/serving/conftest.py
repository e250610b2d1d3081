"""What the tests of docs/SERVING.md stand on: nginx, Varnish before it, and results."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import serving_programs
from serving_origin import FailingOrigin, run_origin
from serving_programs import LocalServer, ServedFolder
from serving_results import make_site

REQUIRED = os.environ.get("FASTTILE_BROWSER") == "required"


@pytest.fixture(scope="session", autouse=True)
def required_programs() -> None:
    """Skip everything where a program is missing, or fail where they are required."""
    missing = serving_programs.missing_programs()
    if missing:
        words = (
            f"NO TESTS OF SERVING: {', '.join(missing)} missing; tests/serving/setup.sh may help"
        )
        if REQUIRED:
            pytest.fail(words, pytrace=False)
        pytest.skip(words)


@pytest.fixture(scope="session")
def site(required_programs: None) -> Iterator[Path]:
    """A folder with results, which no test changes."""
    with serving_programs.work_folder() as root:
        make_site(root)
        yield root


@pytest.fixture(scope="session")
def nginx(site: Path) -> Iterator[LocalServer]:
    """An nginx that serves them."""
    with serving_programs.run_nginx(site) as server:
        yield server


@pytest.fixture(scope="session")
def varnish(nginx: LocalServer) -> Iterator[LocalServer]:
    """A Varnish before it."""
    with serving_programs.run_varnish_before(nginx) as server:
        yield server


@pytest.fixture(scope="session")
def _served_root(required_programs: None) -> Iterator[tuple[Path, LocalServer, LocalServer]]:
    with (
        serving_programs.work_folder() as root,
        serving_programs.run_nginx(root) as nginx,
        serving_programs.run_varnish_before(nginx) as varnish,
    ):
        yield root, nginx, varnish


@pytest.fixture
def served_folder(_served_root: tuple[Path, LocalServer, LocalServer]) -> ServedFolder:
    """A folder for one test, that is served by both."""
    root, nginx, varnish = _served_root
    place = f"/{len(list(root.iterdir()))}"
    (root / place[1:]).mkdir()
    return ServedFolder(root / place[1:], place, nginx, varnish)


@pytest.fixture(scope="session")
def _origin_and_varnish(required_programs: None) -> Iterator[tuple[FailingOrigin, LocalServer]]:
    with (
        run_origin() as behind,
        serving_programs.run_varnish_before(LocalServer(behind.port)) as varnish,
    ):
        yield behind, varnish


@pytest.fixture
def origin_and_varnish(
    _origin_and_varnish: tuple[FailingOrigin, LocalServer],
) -> tuple[FailingOrigin, LocalServer]:
    """An origin that can fail, and a Varnish before it, which has nothing."""
    behind, varnish = _origin_and_varnish
    behind.reset()
    for name in ("map", "other"):
        assert varnish.purge(f"/{name}.dzi").status == 200
    return _origin_and_varnish


@pytest.fixture
def served_root() -> Iterator[Path]:
    """A folder to be served, for one test."""
    with serving_programs.work_folder() as root:
        yield root
