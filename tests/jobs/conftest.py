"""Fixtures of interrupted jobs."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from fasttile.jobs import progress
from fasttile.storage import journal
from support.reading import noise
from support.resume_runs import UninterruptedResults


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise around a white field: some tiles are blank."""
    pixels = noise(640, 840, 3)
    pixels[100:500, 150:800] = 255
    path = tmp_path_factory.mktemp("in") / "x.png"
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def short_journal_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "PAUSE_SECONDS", (0.001, 0.001))
    monkeypatch.setattr(progress, "PROGRESS_SECONDS", 0.0)


@pytest.fixture(scope="module")
def uninterrupted(image: Path, tmp_path_factory: pytest.TempPathFactory) -> UninterruptedResults:
    return UninterruptedResults(tmp_path_factory.mktemp("complete"), image)
