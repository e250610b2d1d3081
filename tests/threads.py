"""For tests of what runs on threads: nobody waits for ever, and no thread stays behind."""

from __future__ import annotations

import faulthandler
import os
import threading
from collections.abc import Iterator

import pytest

PATIENCE = 60
"""Seconds until a test counts as stuck; nothing here takes a tenth of it."""


@pytest.fixture(autouse=True)
def not_stuck(request: pytest.FixtureRequest) -> Iterator[None]:
    """End the whole run with a traceback of all threads if a test does not end."""
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        stderr = os.dup(2)
    faulthandler.dump_traceback_later(PATIENCE, exit=True, file=stderr)
    yield
    faulthandler.cancel_dump_traceback_later()
    os.close(stderr)


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    """Fail a test that leaves a thread alive; one of an earlier test's may end meanwhile."""
    before = set(threading.enumerate())
    yield
    assert not set(threading.enumerate()) - before
