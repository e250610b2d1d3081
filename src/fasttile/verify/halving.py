"""The method by which the levels of a result were made: as its record states, else the best fit."""

from __future__ import annotations

from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, get_args

import numpy as np

from fasttile.colour.light import tables_for_profile
from fasttile.jobs.record import parse_record, recorded_options
from fasttile.kernels import LightTables, shrink
from fasttile.types import Pixels, Shrink
from fasttile.verify.encoding import tile_profile
from fasttile.verify.similarity import has_alpha, mean_distance

if TYPE_CHECKING:
    from fasttile.verify.tiles import StoredTiles


class Halving:
    """Halves blocks of tiles as the cut of a result did; any thread may call the methods.

    Args:
        tiles: The stored tiles.
    """

    def __init__(self, tiles: StoredTiles) -> None:
        self._tiles = tiles
        record = tiles.reader.record()
        self._was_converted = bool((parse_record(record) or {}).get("colours_converted"))
        recorded = recorded_options(record).get("shrink")
        self._methods: tuple[Shrink, ...] = get_args(Shrink) if recorded is None else (recorded,)

    def is_rough(self, *, is_lossless: bool) -> bool:
        """True if right levels may differ from halved tiles by more than the loss of the encoder.

        The colours of tiles were converted after the levels were made; or the method chooses among
        values, so that it does not average the loss of the larger tiles.

        Args:
            is_lossless: True if the tiles have no loss.
        """
        averages = len(self._methods) > 1 or self._methods[0] in ("mean", "linear")
        return self._was_converted or not (averages or is_lossless)

    def best(self, block: Pixels, pixels: Pixels) -> Pixels | None:
        """A block halved by the method that fits best; None: the bands or types differ.

        Args:
            block: Pixels of the larger level.
            pixels: Pixels of the smaller level, from the position of the block.
        """
        best, least = None, np.inf
        for method in self._methods:
            light = self._light(block) if method == "linear" else None
            halved = shrink(block, method=method, alpha=has_alpha(block), light=light)
            part = pixels[: halved.shape[0], : halved.shape[1]]
            if part.shape != halved.shape or part.dtype != halved.dtype:
                return None  # written by another program
            distance = mean_distance(part, halved)
            if distance < least:
                best, least = halved, distance
            if distance == 0:
                break
        return best

    @cached_property
    def _profile(self) -> bytes | None:
        """The profile that the tiles carry, if its curves are known; else None, for sRGB."""
        profile = tile_profile(self._tiles)
        with suppress(Exception):  # damaged profiles raise many kinds
            tables_for_profile(profile, 256)
            return profile
        return None

    def _light(self, block: Pixels) -> LightTables:
        """The tables of light for pixels of tiles."""
        codes = 1 << 8 * block.dtype.itemsize
        tables = tables_for_profile(self._profile, codes)
        is_grey = block.shape[2] < 3
        return tables_for_profile(None, codes) if is_grey and len(tables.lights) > 1 else tables
