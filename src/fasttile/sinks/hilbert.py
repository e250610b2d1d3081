"""The numbers that PMTiles has for tiles: zoom after zoom, along Hilbert's curve in each."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def tile_ids(zooms: NDArray[Any], cols: NDArray[Any], rows: NDArray[Any]) -> NDArray[np.uint64]:
    """The numbers of tiles.

    Args:
        zooms: Shape (n,), whole numbers up to 31: larger ones have no numbers in 64 bits.
        cols, rows: Of the same shape, rows counted from the top.

    Example:
        >>> zooms, cols, rows = np.array([[0, 1, 1, 1, 1], [0, 0, 0, 1, 1], [0, 0, 1, 1, 0]])
        >>> tile_ids(zooms, cols, rows).tolist()
        [0, 1, 2, 3, 4]
    """
    ids = np.zeros(zooms.shape, np.uint64)
    for zoom in np.unique(zooms).tolist():
        chosen = zooms == zoom
        before = ((1 << 2 * zoom) - 1) // 3
        ids[chosen] = np.uint64(before) + _places(zoom, cols[chosen], rows[chosen])
    return ids


def _places(zoom: int, cols: NDArray[Any], rows: NDArray[Any]) -> NDArray[np.uint64]:
    """How far along the curve tiles of one zoom are."""
    places: NDArray[np.uint64] = np.zeros(cols.shape, np.uint64)
    cols, rows = cols.astype(np.uint32), rows.astype(np.uint32)
    for bit in range(zoom - 1, -1, -1):
        right, below = cols >> np.uint32(bit) & 1, rows >> np.uint32(bit) & 1
        quarters = (np.uint32(3) * right ^ below).astype(np.uint64)
        places = places << np.uint64(2) | quarters
        # The curve turns in the two upper quarters; in the right one it comes from behind, too.
        above = 1 - below
        behind = np.negative(right & above)
        cols, rows = cols ^ behind, rows ^ behind
        other = (cols ^ rows) & np.negative(above)
        cols, rows = cols ^ other, rows ^ other
    return places
