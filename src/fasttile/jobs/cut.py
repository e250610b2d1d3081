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

from fasttile.abc.sink import ResumableSink, Sink
from fasttile.colour import canvas_fill, plan_colours
from fasttile.colour.convert import convert_pixels
from fasttile.encode.encoder import parse_colour
from fasttile.geometry import Tile
from fasttile.jobs.cut_job import CutJob, apply_grey_table, open_for_cut, read_options_from
from fasttile.jobs.fingerprint import check_unchanged, job_fingerprint, stat_signature
from fasttile.jobs.plan import Plan
from fasttile.jobs.progress import CutProgress, CutProgressCallback, ProgressReporter, TileCounts
from fasttile.layouts import LayoutSpec
from fasttile.options.cut import CutKeywords, CutOptions
from fasttile.sinks import Target
from fasttile.sinks.registry import CONTAINER_NAMES
from fasttile.types import Pixels
from fasttile.walk import walk

if TYPE_CHECKING:
    from concurrent.futures import Executor
    from contextlib import AbstractContextManager
    from typing import Unpack

    from distributed import Client

    from fasttile.abc.engine import Engine
    from fasttile.jobs.sharded import ShardedCut

__all__ = [
    "CutProgress",
    "CutProgressCallback",
    "CutReport",
    "cut",
    "iter_tiles",
    "read_options_from",
]


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
        """Pixels of the image (not of all levels), in millions a second."""
        return self.width * self.height / 1e6 / max(self.seconds, 1e-9)


@dataclass(frozen=True)
class ShardPolicy:
    """Who cuts the shards of an image.

    Attributes:
        engine: Gives what runs them, for as long as that takes.
        least: How many pixels an image has at least that is cut so.
    """

    open_engine: Callable[[], AbstractContextManager[Engine]]
    min_pixels: int = 0


def cut(
    source: object,
    dest: str | os.PathLike[str] | Target | None = None,
    *,
    progress: CutProgressCallback | None = None,
    workers: str | int | Executor | Client | Engine | None = None,
    options: CutOptions | None = None,
    **keywords: Unpack[CutKeywords],
) -> CutReport:
    """Cut an image into a pyramid of tiles on disk: all of it, or nothing.

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
        options: Options for several calls; keywords override its fields.
        **keywords: The fields of `CutOptions`: layout="dzi", format="jpeg", …

    Returns:
        What was made.

    Raises:
        OptionError: An option cannot be used, alone or for this image.
        SourceError: The image cannot be read.
        TargetError: The result cannot be written, or one stands there and overwrite is off.
        Cancelled: The callback gave False.

    Example:
        >>> report = fasttile.cut("map.tif", "tiles/map.dzi", quality=85)  # doctest: +SKIP
        >>> report.levels, report.tiles  # doctest: +SKIP
        (16, 8397)
    """
    plan = Plan.from_options(CutOptions.from_keywords(keywords, options), dest, source)
    if workers is None:
        return cut_plan(plan, source, progress)
    from fasttile.workers.choice import resolve_engine

    with resolve_engine(workers) as engine:
        return cut_plan(
            plan, source, progress, shard_policy=ShardPolicy(lambda: nullcontext(engine))
        )


def cut_plan(
    plan: Plan,
    source: Any,
    progress: CutProgressCallback | None = None,
    before_write: Callable[[CutJob], object] | None = None,
    shard_policy: ShardPolicy | None = None,
) -> CutReport:
    """Do what is planned; see `cut`.

    Args:
        plan, source, progress: As there.
        accept: Called before anything is written; may raise to end it.
        sharing: Who cuts the shards, if the image has any.
    """
    started = time.perf_counter()
    before = stat_signature(source)
    with open_for_cut(source, plan.options) as image:
        cutting = CutJob.for_source(plan, image)
        if before_write is not None:
            before_write(cutting)
        depth = None if shard_policy is None else _shard_depth(cutting, source, shard_policy)
        identity = None
        if plan.options.resume:
            identity = {**job_fingerprint(plan, cutting.layout, source), "shards": depth}
            check_unchanged(source, before)
        sink = plan.open_sink(cutting.layout, image, cutting.colour_plan, identity)
        try:
            told = ProgressReporter(progress, cutting.layout.pyramid.tile_count)
            if isinstance(sink, ResumableSink) and sink.is_published:
                counts = TileCounts.from_journal(sink.journal)
            elif shard_policy is not None and depth is not None:
                with shard_policy.open_engine() as engine:
                    counts = _sharded_cut(cutting, source, sink, depth, told).write_tiles(engine)
            else:
                journal = sink.journal if isinstance(sink, ResumableSink) else None
                counts = cutting.write_tiles(sink, journal, told)
            check_unchanged(source, before)
            sink.finish()
        except BaseException:
            sink.abort()
            raise
    return CutReport(
        plan.target.location,
        *cutting.layout.pyramid.size,
        len(cutting.layout.pyramid.stored_range),
        counts.tiles,
        counts.bytes,
        time.perf_counter() - started,
        _report_notes(cutting, counts),
        counts.blanks,
        counts.resumed,
    )


def _shard_depth(job: CutJob, source: Any, shard_policy: ShardPolicy) -> int | None:
    if job.source.width * job.source.height < shard_policy.min_pixels:
        return None
    from fasttile.jobs.sharded import shard_depth  # only for large images

    return shard_depth(job, source)


def _sharded_cut(
    job: CutJob, source: Any, sink: Sink, depth: int, reporter: ProgressReporter
) -> ShardedCut:
    from fasttile.jobs.sharded import ShardedCut
    from fasttile.sinks.shared import ShardedSink

    assert isinstance(sink, ShardedSink)  # or there would be no depth
    return ShardedCut(job, source, sink, depth, reporter)


def _report_notes(job: CutJob, counts: TileCounts) -> tuple[str, ...]:
    """What there is to tell of a cut, one line each."""
    plan, metadata = job.plan, job.source.metadata
    notes = [*metadata.notes, *job.colour_plan.notes, *metadata.warnings]
    if plan.blank is not None:
        notes.append(f"{counts.blanks:,} blank tiles left out")
    if counts.resumed:
        notes.append(f"{counts.resumed:,} tiles were there from a run before")
    if plan.options.resume and plan.target.container != "folder":
        notes.append(
            f"{CONTAINER_NAMES[plan.target.container]} cannot be carried on: it was begun again"
        )
    return tuple(notes)


def iter_tiles(
    source: object, *, options: CutOptions | None = None, **keywords: Unpack[CutKeywords]
) -> Iterator[tuple[Tile, Pixels]]:
    """Every tile of an image's pyramid with its pixels, for programs that store it themselves.

    Only the strips that the next tiles come from are in memory, and the tile at hand.

    Args:
        source: As for `cut`.
        options, **keywords: As for `cut`; what is about encoding and storing has no effect.

    Yields:
        The tile's address, and its pixels: an array of its own, shape (height, width, bands),
        uint8 (uint16 with bits=16), overlap included. The order depends on the image's size
        and the options only, and the 1×1 tile of level 0 comes last.

    Raises:
        OptionError, SourceError: As for `cut`.

    Example:
        >>> image = np.zeros((600, 1000, 3), np.uint8)
        >>> for tile, pixels in iter_tiles(image, tile_size=512, overlap=0):
        ...     if tile.level == 10:
        ...         print(tile.col, tile.row, pixels.shape)
        0 0 (512, 512, 3)
        1 0 (512, 488, 3)
        0 1 (88, 512, 3)
        1 1 (88, 488, 3)
    """
    wishes = CutOptions.from_keywords(keywords, options)
    choice = LayoutSpec.parse(wishes.layout or "dzi")
    background = parse_colour(wishes.background)
    with open_for_cut(source, wishes) as image:
        colours = plan_colours(image, wishes.icc)
        pyramid = choice.bind(
            "image",
            image.width,
            image.height,
            "jpg",
            tile_size=wishes.tile_size,
            overlap=wishes.overlap,
            levels=wishes.levels,
        ).pyramid
        pad = canvas_fill(image, colours, background)
        for run in walk(apply_grey_table(image, colours), pyramid, wishes.shrink, pad):
            try:
                for tile, pixels in run.tiles():
                    yield tile, convert_pixels(colours, pixels.copy())
            finally:
                run.release()
