"""What a repair has to do, wherever the tiles lie: which are cut anew, in the order of the walk."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple, Protocol

from ..geometry import Tile
from ..pipeline import Pipeline
from ..pyramid import Run
from ..sinks.memory import MemorySink
from ..wholes import Wholes
from .against import Comparison


class Anew(NamedTuple):
    """A tile, and its bytes if it was cut anew."""

    tile: Tile
    data: bytes | None


class Picture(NamedTuple):
    """A picture of a whole level: its paths, and how it should be."""

    paths: tuple[str, ...]
    data: bytes


class Mend(Protocol):
    """Where repaired tiles go."""

    def put(self, anew: Anew) -> None:
        """Take the next tile of the walk."""

    def add(self, picture: Picture) -> None:
        """Take a picture of a whole level, after all tiles."""

    def finish(self) -> int:
        """Take out what is too many, and publish; gives how much was repaired."""

    def abort(self) -> None:
        """Leave no more behind than what is whole already. Never raises."""


def mend(comparison: Comparison, place: Mend) -> int:
    """Walk a picture once more, and mend what was found to be wrong; gives how much it was.

    Args:
        comparison: With the picture, opened anew.
        place: Where the tiles go.
    """
    wholes = Wholes(comparison.cutting.layout)
    try:
        with comparison.cutting.pipeline(MemorySink()) as pipeline:
            work = partial(_anew, comparison, pipeline)
            for tiles in comparison.on_runs(work, wholes):
                for anew in tiles:
                    place.put(anew)
            for level, paths, pixels in wholes.pictures():
                place.add(Picture(paths, pipeline.encoded(level, pixels)))
        return place.finish()
    except BaseException:
        place.abort()
        raise


def _anew(comparison: Comparison, pipeline: Pipeline, run: Run) -> list[Anew]:
    """The tiles of a run, those that were wrong as they should be."""
    findings = comparison.look.findings
    try:
        return [
            Anew(tile, pipeline.encoded(tile.level, pixels) if findings.is_bad(tile) else None)
            for tile, pixels in run.tiles()
        ]
    finally:
        run.release()
