"""`cut` and `iter_tiles`: one image to a pyramid of tiles, stored or yielded.

calling thread: reads, halves ──runs──▶ encoder threads ──bytes, in order──▶ writer thread
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from fasttile.abc.layout import Layout
from fasttile.abc.sink import ResumableSink, Sink
from fasttile.colour.convert import convert_pixels
from fasttile.errors import OptionError
from fasttile.geometry import Pyramid, Tile
from fasttile.jobs.cut_job import CutJob, open_job, read_options_from
from fasttile.jobs.fingerprint import check_unchanged, job_fingerprint
from fasttile.jobs.footprint import check_job
from fasttile.jobs.plan import Plan
from fasttile.jobs.progress import (
    CancelToken,
    CutProgress,
    CutProgressCallback,
    ProgressReporter,
    TileCounts,
    with_cancel,
)
from fasttile.jobs.record import encode_record
from fasttile.options.cut import CutKeywords, CutOptions
from fasttile.sinks import Target
from fasttile.sinks.registry import CONTAINER_NAMES
from fasttile.storage.system import log_notes
from fasttile.types import Pixels

if TYPE_CHECKING:
    from concurrent.futures import Executor
    from contextlib import AbstractContextManager
    from typing import Unpack

    from distributed import Client

    from fasttile.abc.engine import Engine

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
    """Result of a cut.

    Attributes:
        path: The result's entry point: the descriptor, the folder, or the one file. Of tiles that
            went to a program: the name of the image.
        width, height: Size of the largest level in pixels, without padding.
        levels, tiles: Number of levels and of stored tiles.
        bytes: Encoded bytes of all tiles.
        seconds: Duration.
        notes: One line each about conversions of the pixels, or missing ones.
        blanks: Number of blank tiles that were skipped.
        resumed: How many of the tiles an interrupted run had stored before.
        source_pixels: Pixels of the image at full size, also if `levels` leaves out its largest
            levels. 0 by `convert` and by functions that draw each level: then the rate is that of
            the largest level.
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
    source_pixels: int = 0

    @classmethod
    def from_counts(
        cls,
        target: Target,
        pyramid: Pyramid,
        counts: TileCounts,
        started: float,
        notes: Iterable[str],
        source_pixels: int = 0,
    ) -> Self:
        """The report of a result that is written.

        Args:
            target: Its place.
            pyramid: Its geometry.
            counts: Its tiles.
            started: When the run began, as by `time.perf_counter`.
            notes: One line each for the user.
            source_pixels: As the attribute.
        """
        return cls(
            target.location,
            *pyramid.size,
            len(pyramid.stored_range),
            counts.tiles,
            counts.bytes,
            time.perf_counter() - started,
            tuple(notes),
            counts.blanks,
            counts.resumed,
            source_pixels,
        )

    @property
    def megapixels_per_second(self) -> float:
        """Millions of pixels of the image, not of all levels, per second."""
        pixels = self.source_pixels or self.width * self.height
        return pixels / 1e6 / max(self.seconds, 1e-9)


class ShardPolicy(NamedTuple):
    """When an image is cut in shards, and by which engine.

    Attributes:
        open_engine: Opens the engine that runs the shards.
        min_pixels: Smallest image that is cut in shards, in pixels.
    """

    open_engine: Callable[[], AbstractContextManager[Engine]]
    min_pixels: int = 0


def cut(
    source: object,
    dest: str | os.PathLike[str] | Target | None = None,
    *,
    sink: Sink | None = None,
    store: Callable[[Tile, bytes], object] | None = None,
    progress: CutProgressCallback | bool | None = None,
    cancel: CancelToken | None = None,
    workers: str | int | Executor | Client | Engine | None = None,
    options: CutOptions | None = None,
    **keywords: Unpack[CutKeywords],
) -> CutReport:
    """Cut an image into a pyramid of tiles: the complete result, or nothing.

    The tiles are written to a hidden folder or file beside the target, which is renamed at the
    end. After an error or a cancellation the target is as it was before.

    Args:
        source: A path, an array (height, width) or (height, width, bands), or any other source
            of `open_source`; or a result: the path of one as for `open_pyramid`, or an open
            pyramid, whose largest level is the image. With 2 or 4 bands the last one is alpha. An
            open `Source` or pyramid stays open; page, raw format, max_pixels and allow_truncated
            of a `Source` are those of `open_source`.
        dest: The .dzi, .szi, .zip, .pmtiles, .mbtiles or .tif file to write, or a folder
            (created if missing). A folder gets a .dzi named after the source; in another layout
            it becomes the result itself, unless it ends in a slash. `jobs.plan.resolve_target`
            has the details. Default: the current folder.
        sink: Takes the encoded tiles in place of a path, in an order that depends only on the
            image's size and the options; see `fasttile.abc.Sink`.
        store: As sink, a function of a tile's address and its bytes, which is called in a thread
            of the cut, one call at a time. An exception of it ends the cut and is raised.
        progress: Called at most every 0.1 s from the calling thread; returning False cancels. True
            shows it: a bar in a notebook or on a terminal, else a line every 30 s.
        cancel: A token by which another thread cancels.
        workers: Where the shards of a large image are cut (of an uncompressed file, to a result
            of many files): a number of processes, "dask://HOST:PORT", "dask://local", or an
            object with the interface of concurrent.futures.Executor, which stays open. The
            result is the same. Default: threads of this process.
        options: Options for several calls; keywords override its fields.
        **keywords: Fields of `CutOptions`: layout="dzi", format="jpeg", …

    Returns:
        The report.

    Raises:
        OptionError: An option cannot be used, alone or for this image.
        SourceError: The image cannot be read; SourceNotFoundError (also a FileNotFoundError): it
            does not exist.
        TargetError: The result cannot be written, or it exists and overwrite is off.
        CancelledError: The callback returned False, or the token is cancelled.

    Example:
        >>> report = fasttile.cut("map.tif", "tiles/map.dzi", quality=85)  # doctest: +SKIP
        >>> report.levels, report.tiles  # doctest: +SKIP
        (16, 8397)
    """
    checked = CutOptions.from_keywords(keywords, options)
    begin_sink = None
    if sink is not None or store is not None:
        from fasttile.sinks.memory import program_sink

        begin_sink = program_sink(sink, store)
    if begin_sink is None:
        plan = described(Plan.from_options(checked, dest, source), source)
    elif dest is not None:
        raise OptionError("dest: the tiles go to sink or store; leave it out")
    else:
        plan = Plan.for_program(checked, source)
        if plan.target.layout.parameters.get("manifest"):
            raise OptionError("iiif3:manifest: the tiles go to the program; leave it out")
        for name in ("title", "credit"):
            if getattr(checked, name) is not None and not plan.codec.keeps_credit:
                raise OptionError(
                    f"{name}: the tiles go to the program; leave it out, or use --format "
                    f"{plan.codec.name}:credit (format) to have it in each tile"
                )
    progress = with_cancel(progress, cancel)
    if workers is None or begin_sink is not None:
        report = cut_plan(plan, source, progress, begin_sink=begin_sink)
    else:
        from fasttile.workers.choice import resolve_engine

        with resolve_engine(workers, plan.options.worker_timeout) as engine:
            policy = ShardPolicy(lambda: nullcontext(engine))
            report = cut_plan(plan, source, progress, policy)
    log_notes(report.path, report.notes)
    return report


def cut_plan(
    plan: Plan,
    source: Any,
    progress: CutProgressCallback | None = None,
    shard_policy: ShardPolicy | None = None,
    begin_sink: Callable[[Layout], Sink] | None = None,
) -> CutReport:
    """Cut an image by a plan; see `cut`."""
    with open_job(plan, source) as job:
        return run_job(job, progress, shard_policy, begin_sink)


def run_job(
    job: CutJob,
    progress: CutProgressCallback | None = None,
    shard_policy: ShardPolicy | None = None,
    begin_sink: Callable[[Layout], Sink] | None = None,
) -> CutReport:
    """Write the tiles of an open image to the plan's target; see `cut`.

    Args:
        job: The open image.
        progress: See `cut`.
        shard_policy: When and by which engine the image is cut in shards. Default: never.
        begin_sink: Begins the program's own sink. Default: the tiles go to the plan's target.
    """
    plan, pyramid = job.plan, job.layout.pyramid
    depth = None if shard_policy is None else _shard_depth(job, shard_policy)
    fingerprint = None
    job.check_drawn_pixels()
    if plan.options.resume:
        fingerprint = {**job_fingerprint(plan, job.layout, job.origin), "shards": depth}
        check_unchanged(job.origin, job.signature)
    if begin_sink is not None:
        sink = begin_sink(job.layout)
    else:
        check_job(plan, job.origin)
        record = encode_record(plan, job.origin, job.signature, job.colour_plan)
        files = further_files(job)
        sink = plan.open_sink(job.layout, job.source, job.colour_plan, fingerprint, record, files)
    try:
        reporter = ProgressReporter(progress, pyramid.tile_count)
        if isinstance(sink, ResumableSink) and sink.is_published:
            counts = TileCounts.from_journal(sink.journal)
        elif shard_policy is not None and depth is not None:
            counts = _write_in_shards(job, sink, depth, shard_policy, reporter)
        else:
            journal = sink.journal if isinstance(sink, ResumableSink) else None
            counts = job.write_tiles(sink, journal, reporter)
        check_unchanged(job.origin, job.signature)
        job.source.check_intact()
        sink.finish()
        notes = report_notes(job, counts)
        draws_levels = job.source.draw_level is not None
        source_pixels = 0 if draws_levels else job.source.width * job.source.height
        return CutReport.from_counts(
            plan.target, pyramid, counts, job.started, notes, source_pixels
        )
    except BaseException:
        sink.abort()
        raise


def further_files(job: CutJob) -> dict[str, bytes]:
    """Path and content of the layout's `further_files`.

    Raises:
        OptionError: The texts for them cannot be used.
    """
    if not job.layout.further_files():
        return {}
    from fasttile.jobs.descriptions import manifest_files  # few cuts have manifests

    return manifest_files(job.plan, job.layout, job.origin)


def _shard_depth(job: CutJob, shard_policy: ShardPolicy) -> int | None:
    """Number of levels of a shard; None: the image is not cut in shards."""
    if job.source.width * job.source.height < shard_policy.min_pixels:
        return None
    from fasttile.jobs.sharded import shard_depth  # loads the shard store and the journal

    return shard_depth(job)


def _write_in_shards(
    job: CutJob, sink: Sink, depth: int, shard_policy: ShardPolicy, reporter: ProgressReporter
) -> TileCounts:
    from fasttile.jobs.sharded import ShardedCut
    from fasttile.sinks.shared import ShardedSink

    assert isinstance(sink, ShardedSink)  # shard_depth allows folders only
    with shard_policy.open_engine() as engine:
        return ShardedCut(job, sink, depth, reporter).write_tiles(engine)


def report_notes(job: CutJob, counts: TileCounts) -> tuple[str, ...]:
    """The notes of the report of a cut: one line each for the user."""
    plan, metadata = job.plan, job.source.metadata
    notes = [*metadata.notes, *job.colour_plan.notes, *job.layout.notes, *metadata.warnings]
    notes += plan.page_notes
    if metadata.georeference is not None:
        from fasttile.jobs.georeference import map_notes

        size = job.source.width, job.source.height
        notes += map_notes(job.layout, metadata.georeference, size)
    if plan.blank is not None:
        notes.append(f"{counts.blanks:,} blank tiles skipped")
    if job.layout.further_files():
        from fasttile.jobs.descriptions import missing_row_note

        notes += missing_row_note(plan, job.source.name)
    return (*notes, *resume_notes(plan, counts, "the cut has started over"))


def described(plan: Plan, source: object) -> Plan:
    """The plan with the description of its image for a manifest, if the layout has one.

    Raises:
        OptionError: The CSV of descriptions cannot be used.
    """
    if not plan.target.layout.parameters.get("manifest"):
        return plan
    from fasttile.jobs.descriptions import with_description  # few cuts have manifests

    return with_description(plan, source)


def resume_notes(plan: Plan, counts: TileCounts, restart: str) -> Iterator[str]:
    """Notes for the user on a result that was resumed, or should have been.

    Args:
        plan: The container and the option `resume`.
        counts: The tiles, those of earlier runs too.
        restart: The consequence where a container cannot be resumed.
    """
    if counts.resumed:
        yield f"{counts.resumed:,} tiles were stored by an earlier run"
    if plan.options.resume and plan.target.container != "folder":
        yield f"{CONTAINER_NAMES[plan.target.container]} cannot be resumed: {restart}"


def iter_tiles(
    source: object, *, options: CutOptions | None = None, **keywords: Unpack[CutKeywords]
) -> Iterator[tuple[Tile, Pixels]]:
    """Yield every tile of an image's pyramid with its pixels, for other encoders and stores.

    Only one strip of each level and the current tile are in memory.

    Args:
        source: As for `cut`.
        options, **keywords: As for `cut`. Options for encoding and storing have no effect.

    Yields:
        The tile's address, and its pixels: a new array of shape (height, width, bands), uint8
        (uint16 with bits=16), overlap included. The order depends only on the image's size and
        the options.

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
    with open_job(Plan.for_pixels(CutOptions.from_keywords(keywords, options)), source) as job:
        job.check_drawn_pixels()
        for run in job.tile_runs():
            try:
                for tile, pixels in run.tiles():
                    converted = convert_pixels(job.colour_plan, pixels.copy())
                    job.source.check_intact()
                    yield tile, converted
            finally:
                run.release()
