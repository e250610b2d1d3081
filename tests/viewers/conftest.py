"""Fixtures of the pages: a browser, and the viewers' scripts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from fasttile.viewers import VIEWERS, Script, known_scripts
from support.viewer_browser import Chromium, find_chromium, find_npm_file, skip_or_fail


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    """A browser; its tests have to be `on_its_thread`."""
    with Chromium(find_chromium()) as browser:
        yield browser


@pytest.fixture
def bundled_scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The viewers' scripts, in the package or else from where npm has put them."""
    for script in known_scripts().values():
        if script.bundled_text() is None:
            path = find_npm_file(script)
            if path is None:
                skip_or_fail("there are no scripts of viewers; tools/fetch_viewers.py brings them")
    monkeypatch.setattr(Script, "bundled_text", _script_text)


@pytest.fixture(params=[*VIEWERS, "plain"])
def viewer(
    request: pytest.FixtureRequest, bundled_scripts: None, monkeypatch: pytest.MonkeyPatch
) -> str:
    """The value of `--viewer` of each viewer, and of one without its script."""
    if request.param == "plain":
        monkeypatch.setattr(Script, "bundled_text", lambda self: None)
        return "openlayers"
    return str(request.param)


def _script_text(script: Script, own: Any = Script.bundled_text) -> str | None:
    found: str | None = own(script)
    path = find_npm_file(script)
    return path.read_text("utf-8") if found is None and path is not None else found
