"""One picture that is open, and how its tiles come into a sink."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Self

import numpy as np

from .colour import Colours, managed
from .errors import Cancelled
from .layouts.base import Layout
from .padding import padding
from .pipeline import Pipeline
from .plan import Plan
from .pyramid import Run, walk
from .sinks.base import PathSink, Sink
from .sources.base import Source
from .sources.convert import Converted
from .sources.pixels import looked_up
from .wholes import Wholes

if TYPE_CHECKING:
    from .journal import Journal

PROGRESS_SECONDS = 0.1
"""How often the progress callback is called, at most."""


@dataclass(frozen=True)
class Progress:
    """How far a cut has come.

    Attributes:
        tiles: Tiles that the sink has taken, or that were left out.
        tile_count: How many there will be.
        bytes: Encoded bytes taken.
    """

    tiles: int
    tile_count: int
    bytes: int


ProgressCallback = Callable[[Progress], object]
"""Called now and then from the calling thread; the cut is cancelled if it gives False."""


@dataclass(frozen=True)
class Counts:
    """What came into a sink.

    Attributes:
        tiles, bytes: How many tiles, and their encoded bytes.
        blanks: How many were left out because they are blank.
        resumed: How many of the tiles a run before had stored.
    """

    tiles: int
    blanks: int
    bytes: int
    resumed: int = 0

    @classmethod
    def of(cls, journal: Journal | None) -> Self:
        """What a run before had stored."""
        if journal is None:
            return cls(0, 0, 0)
        return cls(journal.tiles, journal.blanks, journal.bytes, journal.tiles)

    def __add__(self, more: Counts) -> Counts:
        return Counts(
            self.tiles + more.tiles,
            self.blanks + more.blanks,
            self.bytes + more.bytes,
            self.resumed + more.resumed,
        )

    def __sub__(self, less: Counts) -> Counts:
        return Counts(
            self.tiles - less.tiles,
            self.blanks - less.blanks,
            self.bytes - less.bytes,
            self.resumed - less.resumed,
        )


@dataclass(frozen=True)
class Cutting:
    """All that is known of a cut once its picture is open.

    Attributes:
        plan: What the options come to.
        source: The picture; whoever opened it closes it.
        layout: Where its tiles live.
        colours: What becomes of its colours.
    """

    plan: Plan
    source: Source
    layout: Layout
    colours: Colours

    @classmethod
    def of(cls, plan: Plan, source: Source) -> Self:
        """The cutting of an open picture.

        Raises:
            OptionError: The picture does not go with the options.
        """
        layout = plan.layout(source)
        colours = managed(source, plan.wishes.icc, keeps_grey=plan.codec.keeps_grey)
        return cls(plan, source, layout, colours)

    @property
    def converted(self) -> Source:
        """The picture as it is walked."""
        return converted(self.source, self.colours)

    @cached_property
    def pad(self) -> tuple[int, ...]:
        """What lies around the picture, a value for each band."""
        return padding(self.source, self.colours, self.plan.background)

    def pipeline(self, sink: Sink, journal: Journal | None = None) -> Pipeline:
        """What encodes the tiles and hands them to a sink."""
        plan = self.plan
        return Pipeline(
            sink,
            plan.codec,
            plan.background,
            plan.wishes.thread_count,
            colours=self.colours,
            top_level=self.layout.pyramid.level_count - 1,
            blank=plan.blank,
            journal=journal,
        )

    def fill(self, sink: Sink, journal: Journal | None, told: Teller) -> Counts:
        """Put every tile that the journal has not, and what else the layout wants of the pixels.

        Raises:
            SourceError, TargetError: The picture cannot be read, or the tiles not stored.
            Cancelled: The callback gave False.
        """
        with self.pipeline(sink, journal) as pipeline:
            shrink = self.plan.wishes.shrink
            runs = walk(self.converted, self.layout.pyramid, shrink, self.pad)
            put_all(runs, pipeline, Wholes(self.layout), sink, told)
        before = Counts.of(journal)
        return replace(before, tiles=pipeline.tiles, blanks=pipeline.blanks, bytes=pipeline.bytes)


class Teller:
    """Tells a caller how far it is, not too often.

    Args:
        callback: Who wants to know, if anybody.
        tile_count: How many tiles there will be.
    """

    def __init__(self, callback: ProgressCallback | None, tile_count: int) -> None:
        self._callback = callback
        self._tile_count = tile_count
        self._last = 0.0
        self._before = (0, 0)

    def beyond(self, tiles: int, nbytes: int) -> None:
        """Add so many tiles and bytes to whatever is told from now on."""
        self._before = (tiles, nbytes)

    def __call__(self, tiles: int, nbytes: int) -> None:
        """So many tiles are done, with so many bytes.

        Raises:
            Cancelled: The callback gave False.
        """
        now = time.monotonic()
        if self._callback is None:
            return
        tiles, nbytes = tiles + self._before[0], nbytes + self._before[1]
        if now - self._last < PROGRESS_SECONDS and tiles != self._tile_count:
            return
        self._last = now
        if self._callback(Progress(tiles, self._tile_count, nbytes)) is False:
            raise Cancelled(f"cancelled after {tiles} of {self._tile_count} tiles")


def put_all(
    runs: Iterator[Run], pipeline: Pipeline, wholes: Wholes, sink: Sink, told: Teller
) -> None:
    """Put the tiles of a walk, and the pictures of whole levels."""

    def report() -> None:
        told(pipeline.tiles + pipeline.blanks, pipeline.bytes)

    for run in runs:
        wholes.take(run)
        pipeline.put(run)
        report()
    pipeline.drain(report)
    for level, paths, pixels in wholes.pictures():
        assert isinstance(sink, PathSink)  # no other layout wants any
        sink.add(paths, pipeline.encoded(level, pixels))


def converted(source: Source, colours: Colours) -> Source:
    """The source with the plan's table applied; what else there is to convert, the encoders do."""
    if colours.table is None:
        return source
    alpha = np.arange(256, dtype=np.uint8)
    return Converted(source, looked_up(source.bands, colours.table, alpha))
