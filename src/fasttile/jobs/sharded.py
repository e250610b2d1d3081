"""One large image cut in shards by workers, and its upper levels cut from the shards' blocks.

Each worker opens the image, walks one shard, and writes the shard's tiles to the target and its
block (the pixels of the shard's smallest level) to the shard store. The blocks together are the
raster of a smaller level; the same walk cuts all levels above from it.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fasttile.abc.sink import PathSink, Sink
from fasttile.abc.source import Metadata, Source
from fasttile.errors import OptionError, SourceError
from fasttile.geometry import Region, Tile
from fasttile.geometry.shards import Shard, Shards
from fasttile.jobs.cut_job import CutJob, encode_all, open_job
from fasttile.jobs.fingerprint import stat_signature
from fasttile.jobs.plan import Plan
from fasttile.jobs.progress import ProgressReporter, TileCounts
from fasttile.sinks.shared import ShardedSink, ShardStore, SharedTarget
from fasttile.sources.conversions import crop
from fasttile.sources.files import STANDARD_INPUT, scheme_of
from fasttile.sources.functions import DrawnImage
from fasttile.sources.mosaic_source import MosaicSource
from fasttile.storage.journal import SHARD_LEVEL
from fasttile.types import Pixels
from fasttile.walk import TileRun

if TYPE_CHECKING:
    from fasttile.abc.engine import Engine, TaskProgressCallback


@dataclass(frozen=True)
class ShardTask:
    """Description of one shard, sent to a worker: paths, options and numbers.

    Attributes:
        source: Absolute path of the image, the function that draws it, or a mosaic with the images
            that the shard needs.
        plan: Target and options.
        depth: Number of levels of a shard.
        number: Number of the shard.
        shared_target: Receives its tiles and its block.
        stat_signature: `stat_signature` of the file when the job began; None of a
            function and of a mosaic, which checks its files itself.
    """

    source: str | DrawnImage | MosaicSource
    plan: Plan
    depth: int
    number: int
    shared_target: SharedTarget
    stat_signature: tuple[int, ...] | None


def shard_depth(job: CutJob) -> int | None:
    """Number of levels of a shard; None if the image is not cut in shards.

    The source has to be an uncompressed file, which each worker maps, a function whose levels are
    made by halving, or a mosaic of files with random access; and the result a folder.
    """
    source = job.origin
    if isinstance(source, DrawnImage):
        if source.per_level:
            return None
    elif isinstance(job.source, MosaicSource):
        if not job.source.is_sendable:
            return None
    else:
        is_path = isinstance(source, str | os.PathLike) and source != STANDARD_INPUT
        if not is_path or scheme_of(source) is not None or not job.source.is_mapped:
            return None
    if job.plan.target.container != "folder":
        return None
    highest_image = max((image.level for image in job.layout.whole_images()), default=0)
    return Shards.best_depth(job.layout.pyramid, highest_image)


class ShardedCut:
    """A cut in shards.

    Args:
        job: The open image; its origin is a path or a function, or it is a mosaic.
        sink: Receives the tiles.
        depth: Number of levels of a shard.
        reporter: Receives the progress.

    Raises:
        OptionError: The function cannot be sent to workers.
    """

    def __init__(
        self, job: CutJob, sink: ShardedSink, depth: int, reporter: ProgressReporter
    ) -> None:
        self._job = job
        self._source: str | DrawnImage | MosaicSource = str(Path(str(job.origin)).absolute())
        if isinstance(job.origin, DrawnImage):
            self._source = job.origin
            _check_sendable(job.origin)
        elif isinstance(job.source, MosaicSource):
            self._source = job.source
        self._sink = sink
        self._shards = Shards(job.layout.pyramid, depth)
        self._reporter = reporter

    def write_tiles(self, engine: Engine) -> TileCounts:
        """Write all tiles: workers cut the shards, this process the upper levels.

        Raises:
            FasttileError: A shard cannot be cut.
        """
        journal = self._sink.journal
        counts = TileCounts.from_journal(journal)
        numbers = [
            number
            for number in range(len(self._shards))
            if journal is None or not journal.contains(SHARD_LEVEL, 0, number, number + 1)
        ]
        running: dict[int, TileCounts] = {}

        def report() -> None:
            parts = [counts, *running.values()]
            tiles = sum(part.tiles + part.blanks for part in parts)
            self._reporter(tiles, sum(part.bytes for part in parts))

        def on_progress(index: int, now: TileCounts) -> None:
            running[index] = now
            report()

        with closing(self._run_tasks(engine, numbers, on_progress, report)) as results:
            for index, shard in results:
                running.pop(index, None)
                counts = counts + shard
                if journal is not None:
                    number = numbers[index]
                    journal.record(
                        SHARD_LEVEL, 0, number, number + 1, shard.tiles, shard.blanks, shard.bytes
                    )
                report()
        return counts + self._cut_upper_levels(counts)

    def _run_tasks(
        self,
        engine: Engine,
        numbers: list[int],
        on_progress: TaskProgressCallback,
        on_wait: Callable[[], object],
    ) -> Generator[tuple[int, TileCounts]]:
        plan = self._job.plan
        threads = plan.options.threads or engine.threads
        signature = stat_signature(self._source)
        if signature is None and isinstance(self._source, str):
            raise SourceError(f"{self._source}: the file cannot be read any more")
        first = ShardTask(
            self._source,
            replace(plan, options=replace(plan.options, threads=threads, resume=False)),
            self._shards.depth,
            0,
            self._sink.shared_target,
            signature,
        )
        mosaic = self._source if isinstance(self._source, MosaicSource) else None

        def make_task(number: int) -> ShardTask:
            if mosaic is None:
                return replace(first, number=number)
            part = mosaic.for_worker(self._shards[number].region)
            return replace(first, number=number, source=part)

        tasks = map(make_task, numbers)
        from fasttile.workers import LostWorkerError

        for index, result in engine.run(cut_shard, tasks, on_progress, on_wait):
            if isinstance(result, LostWorkerError):
                name = self._source if isinstance(self._source, str) else self._source.name
                raise LostWorkerError(f"{name}: {result}") from result
            if isinstance(result, Exception):
                raise result
            yield index, result

    def _cut_upper_levels(self, counts: TileCounts) -> TileCounts:
        """Cut the levels above the shards from their blocks; return the tiles of these levels."""
        job, sink, shards = self._job, self._sink, self._shards
        before = TileCounts.from_journal(sink.journal)
        self._reporter.add_offset(
            counts.tiles + counts.blanks - before.tiles - before.blanks,
            counts.bytes - before.bytes,
        )
        regions = [shards[number].block for number in range(len(shards))]
        store = sink.shared_target.shard_store
        raster = BlockRasterSource(store, regions, job.converted_source)
        with job.open_pipeline(sink, sink.journal) as pipeline:
            runs = job.walk(raster, shards.upper_levels)
            encode_all(runs, pipeline, job.whole_levels(), sink, self._reporter)
        return TileCounts(pipeline.tiles, pipeline.blanks, pipeline.bytes, before.resumed) - before


def _check_sendable(image: DrawnImage) -> None:
    """Refuse a function that workers cannot import: they do not run the program's main module."""
    try:
        is_sendable, reason = b"__main__" not in pickle.dumps(image), "it is in the main program"
    except Exception as error:
        is_sendable, reason = False, str(error).partition("\n")[0]
    if not is_sendable:
        raise OptionError(
            f"{image.name}: workers: the function cannot be sent to them: {reason}; define it at "
            "the top of a module, or cut without workers"
        )


def cut_shard(task: ShardTask) -> TileCounts:
    """Cut a shard in a worker.

    Raises:
        FasttileError: The shard cannot be cut, or the file has changed since the job began.
    """
    from fasttile.workers import send_progress

    with _open_task(task) as job:
        shard = Shards(job.layout.pyramid, task.depth)[task.number]
        sink = _ShardTileSink(task.shared_target.open_tile_sink(job.layout), shard)
        reporter = ProgressReporter(
            lambda progress: send_progress(TileCounts(progress.tiles, 0, progress.bytes)), -1
        )
        part = crop(job.converted_source, shard.region)
        with job.open_pipeline(sink, to_pyramid_tile=shard.to_pyramid_tile) as pipeline:
            tile_runs = _divert_block(job.walk(part, shard), shard, task.shared_target)
            no_levels = job.whole_levels(enabled=False)
            encode_all(tile_runs, pipeline, no_levels, sink, reporter)
        job.source.check_intact()
        sink.finish()
        return TileCounts(pipeline.tiles, pipeline.blanks, pipeline.bytes)


@contextmanager
def _open_task(task: ShardTask) -> Iterator[CutJob]:
    """Open the image of a shard.

    Raises:
        SourceError: The file has changed since the job began.
    """
    if isinstance(task.source, MosaicSource):
        with task.source as mosaic:
            yield CutJob.for_source(task.plan, mosaic)
        return
    with open_job(task.plan, task.source) as job:
        now, before = stat_signature(task.source), task.stat_signature
        # Device and inode numbers differ between machines: only size and mtime are compared.
        if before is not None and (now is None or now[2:] != before[2:]):
            raise SourceError(
                f"{task.source}: the file was changed while it was read; cut it again"
            )
        yield job


def _divert_block(
    runs: Iterator[TileRun], shard: Shard, shared_target: SharedTarget
) -> Iterator[TileRun]:
    """Yield the runs of tiles; put the run of the block into the shard store instead."""
    for run in runs:
        if run.level.number != shard.block_level:
            yield run
            continue
        for _, pixels in run.tiles():
            shared_target.shard_store.put(shard.number, pixels.tobytes())
        run.release()


class _ShardTileSink:
    """A sink that moves a shard's tiles to their columns and rows in the pyramid."""

    def __init__(self, sink: Sink, shard: Shard) -> None:
        self._sink = sink
        self._shard = shard
        self.finish = sink.finish
        self.abort = sink.abort
        if isinstance(sink, PathSink):
            self.add = sink.add

    def put(self, tile: Tile, data: bytes) -> None:
        self._sink.put(self._shard.to_pyramid_tile(tile), data)


class BlockRasterSource(Source):
    """The raster that the blocks of all shards make, read by rows of blocks.

    Args:
        store: Holds the blocks.
        regions: Region of each block, row by row from the top; together they cover the raster.
        image_like: The image; bands, dtype and name are the same.
    """

    def __init__(self, store: ShardStore, regions: Sequence[Region], image_like: Source) -> None:
        self.name = image_like.name
        self.width = max(region.right for region in regions)
        self.height = max(region.bottom for region in regions)
        self.bands, self.dtype = image_like.bands, image_like.dtype
        self.is_cmyk = image_like.is_cmyk
        self.metadata = Metadata("blocks")
        self.preferred_rows = regions[0].height
        self._store = store
        self._regions = regions
        self._next = 0
        self._top = 0
        self._block_row: Pixels = np.empty((0, self.width, self.bands), self.dtype)

    def rows(self, y0: int, y1: int) -> Pixels:
        """Rows y0 to y1-1, from top to bottom only."""
        parts = []
        while y0 < y1:
            while y0 >= self._top + len(self._block_row):
                self._read_block_row()
            end = min(y1, self._top + len(self._block_row))
            parts.append(self._block_row[y0 - self._top : end - self._top])
            y0 = end
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _read_block_row(self) -> None:
        first = self._regions[self._next]
        self._top = first.y
        self._block_row = np.empty((first.height, self.width, self.bands), self.dtype)
        while self._next < len(self._regions) and self._regions[self._next].y == first.y:
            region = self._regions[self._next]
            shape = (region.height, region.width, self.bands)
            data = self._store.get(self._next)
            pixels: np.ndarray[Any, Any] = np.frombuffer(data, self.dtype)
            if pixels.size != region.height * region.width * self.bands:
                raise SourceError(f"{self.name}: the block of shard {self._next} is damaged")
            self._block_row[:, region.x : region.right] = pixels.reshape(shape)
            self._next += 1
