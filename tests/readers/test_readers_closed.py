"""A result that is closed while other threads read its tiles."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import fasttile
from fasttile.errors import SourceError

THREADS = 3


def read_until_closed(result: fasttile.PyramidReader, begun: threading.Barrier) -> None:
    """Read a tile again and again, until that is an error."""
    begun.wait()
    for _ in range(1_000_000):
        result.tile(9, 1, 0)


@pytest.mark.parametrize("name", ["a.dzi", "a.szi", "a.pmtiles", "a.mbtiles", "a.tif"])
def test_closing_waits_for_tiles_and_ends_the_reading(name: str, tmp_path: Path) -> None:
    path = fasttile.cut(np.zeros((300, 300), np.uint8), tmp_path / name).path
    for _ in range(20):
        result = fasttile.open_pyramid(path)
        begun = threading.Barrier(THREADS + 1)
        with ThreadPoolExecutor(THREADS) as threads:
            futures = [threads.submit(read_until_closed, result, begun) for _ in range(THREADS)]
            begun.wait()
            result.close()
            result.close()  # does nothing
        for future in futures:
            with pytest.raises(
                SourceError, match=rf"{name}: the pyramid is closed; open it again$"
            ):
                future.result()
