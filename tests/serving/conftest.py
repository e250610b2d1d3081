"""What the tests of docs/SERVING.md stand on: nginx, Varnish before it, and results."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import serving_programs
from serving_origin import Origin, origin
from serving_programs import Server, Stage
from serving_results import make_site

REQUIRED = os.environ.get("FASTTILE_BROWSER") == "required"


@pytest.fixture(scope="session", autouse=True)
def equipped() -> None:
    """Skip everything where a program is missing, or fail where they are required."""
    missing = serving_programs.missing()
    if missing:
        words = (
            f"NO TESTS OF SERVING: {', '.join(missing)} missing; tests/serving/setup.sh may help"
        )
        if REQUIRED:
            pytest.fail(words, pytrace=False)
        pytest.skip(words)


@pytest.fixture(scope="session")
def site(equipped: None) -> Iterator[Path]:
    """A folder with results, which no test changes."""
    with serving_programs.work_folder() as root:
        make_site(root)
        yield root


@pytest.fixture(scope="session")
def nginx(site: Path) -> Iterator[Server]:
    """An nginx that serves them."""
    with serving_programs.nginx(site) as server:
        yield server


@pytest.fixture(scope="session")
def varnish(nginx: Server) -> Iterator[Server]:
    """A Varnish before it."""
    with serving_programs.varnish_before(nginx) as server:
        yield server


@pytest.fixture(scope="session")
def _stage(equipped: None) -> Iterator[tuple[Path, Server, Server]]:
    with (
        serving_programs.work_folder() as root,
        serving_programs.nginx(root) as nginx,
        serving_programs.varnish_before(nginx) as varnish,
    ):
        yield root, nginx, varnish


@pytest.fixture
def stage(_stage: tuple[Path, Server, Server]) -> Stage:
    """A folder for one test, that is served by both."""
    root, nginx, varnish = _stage
    place = f"/{len(list(root.iterdir()))}"
    (root / place[1:]).mkdir()
    return Stage(root / place[1:], place, nginx, varnish)


@pytest.fixture(scope="session")
def _pair(equipped: None) -> Iterator[tuple[Origin, Server]]:
    with origin() as behind, serving_programs.varnish_before(Server(behind.port)) as varnish:
        yield behind, varnish


@pytest.fixture
def pair(_pair: tuple[Origin, Server]) -> tuple[Origin, Server]:
    """An origin that can fail, and a Varnish before it, which has nothing."""
    behind, varnish = _pair
    behind.reset()
    for name in ("map", "other"):
        assert varnish.purge(f"/{name}.dzi").status == 200
    return _pair


@pytest.fixture
def root() -> Iterator[Path]:
    """A folder to be served, for one test."""
    with serving_programs.work_folder() as root:
        yield root
