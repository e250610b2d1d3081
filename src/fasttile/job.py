"""The job: a source is walked, its tiles are encoded on threads, and a sink takes them in order.

calling thread: reads, halves ──runs──▶ encoder threads ──bytes, in order──▶ writer thread
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .colour import applied, managed
from .containers import NAMES
from .cutting import Counts, Cutting, Progress, ProgressCallback, Teller, converted
from .encoder import parse_colour
from .geometry import Region, Tile
from .identity import check_unchanged, identity_of, stamp
from .layouts.choice import LayoutChoice
from .options import CutOptions, OptionWords
from .padding import padding
from .plan import Plan
from .pyramid import Pixels, walk
from .sinks.base import ResumableSink, Sink
from .sources import Reading, open_source
from .sources.base import Source
from .targets import Target

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from typing import Unpack

    from .engines import Engine
    from .sharding import Sharding

__all__ = ["CutReport", "Progress", "ProgressCallback", "cut", "iter_tiles", "reading_of"]


@dataclass(frozen=True)
class CutReport:
    """What a cut has made.

    Attributes:
        path: What to open: the descriptor, the folder, or the one file.
        width, height: Size of the largest level in pixels, without padding.
        levels, tiles: How many there are.
        bytes: Encoded bytes of all tiles.
        seconds: How long it took.
        notes: One line each on what was done to the pixels, or is missing of them.
        blanks: How many tiles were left out because they are blank.
        resumed: How many tiles an interrupted run before had made; these were not made again.
    """

    path: Path | str
    width: int
    height: int
    levels: int
    tiles: int
    bytes: int
    seconds: float
    notes: tuple[str, ...] = ()
    blanks: int = 0
    resumed: int = 0

    @property
    def megapixels_per_second(self) -> float:
        """Pixels of the picture (not of all levels), in millions a second."""
        return self.width * self.height / 1e6 / max(self.seconds, 1e-9)


@dataclass(frozen=True)
class Sharing:
    """Who cuts the shards of a picture.

    Attributes:
        engine: Gives what runs them, for as long as that takes.
        least: How many pixels a picture has at least that is cut so.
    """

    engine: Callable[[], AbstractContextManager[Engine]]
    least: int = 0


def cut(
    source: Any,
    dest: str | os.PathLike[str] | Target | None = None,
    *,
    progress: ProgressCallback | None = None,
    workers: Any = None,
    **options: Unpack[OptionWords],
) -> CutReport:
    """Cut a picture into a pyramid of tiles on disk: all of it, or nothing.

    Everything is written beside the target and appears there only when it is whole. If
    anything goes wrong, or the callback cancels, the target is as it was before.

    Args:
        source: A path, an array (height, width) or (height, width, bands), or whatever else
            `open_source` takes. With 2 or 4 bands the last one is alpha.
        dest: The .dzi, .szi, .zip, .pmtiles, .mbtiles or .tif file to write, or a folder (made if
            missing): one that gets a .dzi named after the source, or with another layout the
            result itself, unless it ends in a slash; or what `targets.target_of` gives, which has
            the details. Default: the current folder.
        progress: Called now and then, from the calling thread.
        workers: Who cuts the shards of a giant (a file that is read in place, to a result of many
            files): a number of processes, "dask://HOST:PORT", "dask://local", or anything with
            the interface of concurrent.futures.Executor, which stays open. The result is the
            same. Default: threads of this process.
        **options: The fields of `CutOptions`: layout="dzi", format="jpeg", …

    Returns:
        What was made.

    Raises:
        OptionError: An option cannot be used, alone or for this picture.
        SourceError: The picture cannot be read.
        TargetError: The result cannot be written, or one stands there and overwrite is off.
        Cancelled: The callback gave False.

    Example:
        >>> report = fasttile.cut("map.tif", "tiles/map.dzi", quality=85)  # doctest: +SKIP
        >>> report.levels, report.tiles  # doctest: +SKIP
        (16, 8397)
    """
    plan = Plan.of(CutOptions.of(options), dest, source)
    if workers is None:
        return cut_plan(plan, source, progress)
    from .engines import engine_of

    with engine_of(workers) as engine:
        return cut_plan(plan, source, progress, sharing=Sharing(lambda: nullcontext(engine)))


def cut_plan(
    plan: Plan,
    source: Any,
    progress: ProgressCallback | None = None,
    accept: Callable[[Cutting], object] | None = None,
    sharing: Sharing | None = None,
) -> CutReport:
    """Do what is planned; see `cut`.

    Args:
        plan, source, progress: As there.
        accept: Called before anything is written; may raise to end it.
        sharing: Who cuts the shards, if the picture has any.
    """
    started = time.perf_counter()
    before = stamp(source)
    with opened(source, plan.wishes) as picture:
        cutting = Cutting.of(plan, picture)
        if accept is not None:
            accept(cutting)
        depth = None if sharing is None else _depth(cutting, source, sharing)
        identity = None
        if plan.wishes.resume:
            identity = {**identity_of(plan, cutting.layout, source), "shards": depth}
            check_unchanged(source, before)
        sink = plan.sink(cutting.layout, picture, cutting.colours, identity)
        try:
            told = Teller(progress, cutting.layout.pyramid.tile_count)
            if isinstance(sink, ResumableSink) and sink.published:
                counts = Counts.of(sink.journal)
            elif sharing is not None and depth is not None:
                with sharing.engine() as engine:
                    counts = _sharded(cutting, source, sink, depth, told).fill(engine)
            else:
                journal = sink.journal if isinstance(sink, ResumableSink) else None
                counts = cutting.fill(sink, journal, told)
            check_unchanged(source, before)
            sink.finish()
        except BaseException:
            sink.abort()
            raise
    return CutReport(
        plan.target.result,
        *cutting.layout.pyramid.size,
        len(cutting.layout.pyramid.kept),
        counts.tiles,
        counts.bytes,
        time.perf_counter() - started,
        _notes(cutting, counts),
        counts.blanks,
        counts.resumed,
    )


def _depth(cutting: Cutting, source: Any, sharing: Sharing) -> int | None:
    from .sharding import depth_for  # seldom needed

    large = cutting.source.width * cutting.source.height >= sharing.least
    return depth_for(cutting, source) if large else None


def _sharded(cutting: Cutting, source: Any, sink: Sink, depth: int, told: Teller) -> Sharding:
    from .sharding import Sharding
    from .sinks.workplace import ShardedSink

    assert isinstance(sink, ShardedSink)  # or there would be no depth
    return Sharding(cutting, source, sink, depth, told)


def _notes(cutting: Cutting, counts: Counts) -> tuple[str, ...]:
    """What there is to tell of a cut, one line each."""
    plan, metadata = cutting.plan, cutting.source.metadata
    notes = [*metadata.notes, *cutting.colours.notes, *metadata.remarks]
    if plan.blank is not None:
        notes.append(f"{counts.blanks:,} blank tiles left out")
    if counts.resumed:
        notes.append(f"{counts.resumed:,} tiles were there from a run before")
    if plan.wishes.resume and plan.target.container != "folder":
        notes.append(f"{NAMES[plan.target.container]} cannot be carried on: it was begun again")
    return tuple(notes)


def iter_tiles(source: Any, **options: Unpack[OptionWords]) -> Iterator[tuple[Tile, Pixels]]:
    """Every tile of a picture's pyramid with its pixels, for programs that store it themselves.

    Only the strips that the next tiles come from are in memory, and the tile at hand.

    Args:
        source: As for `cut`.
        **options: As for `cut`; what is about encoding and storing has no effect.

    Yields:
        The tile's address, and its pixels: an array of its own, shape (height, width, bands),
        uint8 (uint16 with bits=16), overlap included. The order depends on the picture's size
        and the options only, and the 1×1 tile of level 0 comes last.

    Raises:
        OptionError, SourceError: As for `cut`.

    Example:
        >>> picture = np.zeros((600, 1000, 3), np.uint8)
        >>> for tile, pixels in iter_tiles(picture, tile_size=512, overlap=0):
        ...     if tile.level == 10:
        ...         print(tile.col, tile.row, pixels.shape)
        0 0 (512, 512, 3)
        1 0 (512, 488, 3)
        0 1 (88, 512, 3)
        1 1 (88, 488, 3)
    """
    wishes = CutOptions.of(options)
    choice = LayoutChoice.parse(wishes.layout or "dzi")
    background = parse_colour(wishes.background)
    with opened(source, wishes) as picture:
        colours = managed(picture, wishes.icc)
        pyramid = choice.of(
            "picture",
            picture.width,
            picture.height,
            "jpg",
            tile_size=wishes.tile_size,
            overlap=wishes.overlap,
            levels=wishes.levels,
        ).pyramid
        pad = padding(picture, colours, background)
        for run in walk(converted(picture, colours), pyramid, wishes.shrink, pad):
            try:
                for tile, pixels in run.tiles():
                    yield tile, applied(colours, pixels.copy())
            finally:
                run.release()


def opened(source: Any, wishes: CutOptions) -> AbstractContextManager[Source]:
    if isinstance(source, Source):
        return nullcontext(source)
    region = wishes.region
    return open_source(
        source,
        raw=wishes.raw,
        region=region if region is None else Region(*region),
        window=wishes.window,
        bits=wishes.bits,
        reading=reading_of(wishes),
    )


def reading_of(wishes: CutOptions) -> Reading:
    """What of a user's wishes concerns whoever opens the picture."""
    return Reading(
        page=wishes.page,
        max_pixels=wishes.max_pixels,
        allow_truncated=wishes.allow_truncated,
        background=parse_colour(wishes.background),
        keep_cmyk=wishes.icc != "drop",
    )
