"""Fixtures of all tests: a deadline, and no thread that outlives its test."""

from __future__ import annotations

import faulthandler
import os
import threading
from collections.abc import Iterator

import pytest
from hypothesis import settings

TEST_TIMEOUT_SECONDS = 180

# A machine that is busy elsewhere may need long for any example.
settings.register_profile("fasttile", deadline=None)
settings.load_profile("fasttile")


@pytest.fixture
def deadlock_timeout(request: pytest.FixtureRequest) -> Iterator[None]:
    """End the complete run with a traceback of all threads if a test does not end."""
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        stderr = os.dup(2)
    faulthandler.dump_traceback_later(TEST_TIMEOUT_SECONDS, exit=True, file=stderr)
    yield
    faulthandler.cancel_dump_traceback_later()
    os.close(stderr)


@pytest.fixture
def every_progress_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Report each step of a run: else a fast machine ends it before the second report."""
    monkeypatch.setattr("fasttile.jobs.progress.PROGRESS_SECONDS", 0.0)


@pytest.fixture
def no_leaked_thread() -> Iterator[None]:
    """Fail a test that leaves a thread alive; one of an earlier test's may end meanwhile."""
    before = set(threading.enumerate())
    yield
    assert not set(threading.enumerate()) - before
