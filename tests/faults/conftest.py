"""Folders, images and faults for the tests in this folder."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from process_tree import ProcessTree
from shim import build_shim

collect_ignore_glob: list[str] = []
if not sys.platform.startswith("linux"):
    collect_ignore_glob.append("test_*.py")


@pytest.fixture(scope="session")
def shim_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that lets calls fail."""
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    return build_shim(tmp_path_factory.mktemp("shim"))


@pytest.fixture(scope="session")
def process_tree(shim_library: Path) -> Iterator[ProcessTree]:
    """Children that are `fasttile`."""
    tree = ProcessTree(shim_library)
    yield tree
    tree.close()


@pytest.fixture
def scratch_folder(tmp_path: Path) -> Iterator[Path]:
    """An empty folder, in memory where there is one: these tests write thousands of files."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with TemporaryDirectory(dir=memory) as name:
        yield Path(name)


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small image: 23 tiles of 254 pixels."""
    return save_noise(tmp_path_factory.mktemp("small") / "small.npy", 400, 700)


@pytest.fixture(scope="session")
def large_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image that takes about a second, of some 400 tiles."""
    return save_noise(tmp_path_factory.mktemp("large") / "large.npy", 4000, 4500)


def save_noise(path: Path, height: int, width: int) -> Path:
    """Write an image whose tiles all differ."""
    noise = np.random.default_rng(7).integers(0, 256, (height // 4, width // 4, 3), np.uint8)
    np.save(path, noise.repeat(4, axis=0).repeat(4, axis=1))
    return path
