"""One giant image in many hands: its shards are tasks, and the crown is cut at the end.

Each worker opens the image for itself and walks one shard of it, puts the tiles where the result
is made, and the shard's block beside them. When all are there, the blocks are the raster of a
smaller level, from which the others are cut by the same walk.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fasttile.abc.sink import Sink
from fasttile.abc.source import Metadata, Source
from fasttile.errors import SourceError
from fasttile.geometry import Region, Tile
from fasttile.geometry.shards import Shard, Shards
from fasttile.jobs.cut_job import CutJob, WholeLevels, encode_all
from fasttile.jobs.fingerprint import stat_signature
from fasttile.jobs.plan import Plan
from fasttile.jobs.progress import ProgressReporter, TileCounts
from fasttile.options.cut import CutOptions
from fasttile.sinks import Target
from fasttile.sinks.shared import ShardedSink, ShardStore, SharedTarget
from fasttile.sources.conversions import crop
from fasttile.sources.files import STANDARD_INPUT, scheme_of
from fasttile.storage.journal import SHARD_LEVEL
from fasttile.types import Pixels
from fasttile.walk import TileRun, walk

if TYPE_CHECKING:
    from fasttile.abc.engine import Engine


@dataclass(frozen=True)
class ShardTask:
    """What a worker is sent: names and numbers.

    Attributes:
        source: The image's path.
        target: Where the result will be.
        options: How it is cut.
        depth: How many levels a shard has.
        number: Which shard.
        workplace: Where its tiles and its block go.
        stamp: What the image's file was when the job began.
    """

    source: str
    target: Target
    options: CutOptions
    depth: int
    number: int
    shared_target: SharedTarget
    stat_signature: tuple[int, ...]


def shard_depth(job: CutJob, source: object) -> int | None:
    """How many levels the shards of an image have; None if it is not cut so.

    It has to be a file that is read in place, and the result one of many files.
    """
    named = isinstance(source, str | os.PathLike) and source != STANDARD_INPUT
    if not named or scheme_of(source) is not None or not job.source.is_mapped:
        return None
    if job.plan.target.container != "folder":
        return None
    wanted = max(job.layout.level_image_paths(), default=0)
    return Shards.best_depth(job.layout.pyramid, wanted)


class ShardedCut:
    """A giant that is cut in shards.

    Args:
        cutting: How it is cut.
        source: Its path.
        sink: What its tiles go to.
        depth: How many levels a shard has.
        told: Who is told how far it is.
    """

    def __init__(
        self,
        job: CutJob,
        source: str | os.PathLike[str],
        sink: ShardedSink,
        depth: int,
        reporter: ProgressReporter,
    ) -> None:
        self._job = job
        self._source = os.path.abspath(source)  # noqa: PTH100 -- links are kept
        self._sink = sink
        self._shards = Shards(job.layout.pyramid, depth)
        self._reporter = reporter

    def write_tiles(self, engine: Engine) -> TileCounts:
        """Put every tile: those of the shards by workers, the others here.

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
        under_way: dict[int, TileCounts] = {}

        def on_progress(index: int, now: TileCounts) -> None:
            under_way[index] = now
            self._report([counts, *under_way.values()])

        with closing(self._run_tasks(engine, numbers, on_progress)) as done:
            for index, made in done:
                under_way.pop(index, None)
                counts = counts + made
                if journal is not None:
                    one = numbers[index]
                    journal.record(
                        SHARD_LEVEL, 0, one, one + 1, made.tiles, made.blanks, made.bytes
                    )
                self._report([counts, *under_way.values()])
        return counts + self._cut_upper_levels(counts)

    def _run_tasks(
        self, engine: Engine, numbers: list[int], on_progress: Callable[[int, TileCounts], None]
    ) -> Generator[tuple[int, TileCounts]]:
        first = self._first_task(engine)
        tasks = (replace(first, number=number) for number in numbers)
        for index, outcome in engine.run(cut_shard, tasks, on_progress):
            if isinstance(outcome, Exception):
                raise outcome
            yield index, outcome

    def _first_task(self, engine: Engine) -> ShardTask:
        plan = self._job.plan
        threads = plan.options.threads or engine.threads
        begun = stat_signature(self._source)
        if begun is None:
            raise SourceError(f"{self._source} cannot be read any more")
        return ShardTask(
            self._source,
            plan.target,
            replace(plan.options, threads=threads, resume=False),
            self._shards.depth,
            0,
            self._sink.shared_target,
            begun,
        )

    def _report(self, parts: list[TileCounts]) -> None:
        tiles = sum(part.tiles + part.blanks for part in parts)
        self._reporter(tiles, sum(part.bytes for part in parts))

    def _cut_upper_levels(self, counts: TileCounts) -> TileCounts:
        """Cut what is above the shards, from their blocks; gives what was made."""
        cutting, sink, shards = self._job, self._sink, self._shards
        before = TileCounts.from_journal(sink.journal)
        self._reporter.add_offset(
            counts.tiles + counts.blanks - before.tiles - before.blanks,
            counts.bytes - before.bytes,
        )
        regions = [shards[number].block for number in range(len(shards))]
        raster = ShardMosaicSource(
            sink.shared_target.shard_store, regions, cutting.converted_source
        )
        with cutting.open_pipeline(sink, sink.journal) as pipeline:
            runs = walk(
                raster, shards.upper_levels, cutting.plan.options.shrink, cutting.fill_values
            )
            encode_all(runs, pipeline, WholeLevels(cutting.layout), sink, self._reporter)
        made = TileCounts(pipeline.tiles, pipeline.blanks, pipeline.bytes, before.resumed)
        return made - before


def cut_shard(task: ShardTask) -> TileCounts:
    """Cut a shard in a worker."""
    from fasttile.jobs.cut_job import open_for_cut
    from fasttile.workers import send_progress

    plan = Plan.from_options(task.options, task.target, task.source)
    with open_for_cut(task.source, plan.options) as source:
        now = stat_signature(task.source)
        if (
            now is None or now[2:] != task.stat_signature[2:]
        ):  # each machine has its own device numbers
            raise SourceError(f"{task.source} was changed while it was read: cut it again")
        cutting = CutJob.for_source(plan, source)
        shard = Shards(cutting.layout.pyramid, task.depth)[task.number]
        tiles = _ShardTileSink(task.shared_target.open_tile_sink(cutting.layout), shard)
        told = ProgressReporter(
            lambda progress: send_progress(TileCounts(progress.tiles, 0, progress.bytes)), -1
        )
        part = crop(cutting.converted_source, shard.region)
        with cutting.open_pipeline(tiles) as pipeline:
            runs = walk(part, shard, plan.options.shrink, cutting.fill_values)
            ours = _divert_block(runs, shard, task.shared_target)
            encode_all(ours, pipeline, WholeLevels(cutting.layout, enabled=False), tiles, told)
        tiles.finish()
        return TileCounts(pipeline.tiles, pipeline.blanks, pipeline.bytes)


def _divert_block(
    runs: Iterator[TileRun], shard: Shard, shared_target: SharedTarget
) -> Iterator[TileRun]:
    """The runs of tiles; the block is put on the way."""
    for run in runs:
        if run.level.number != shard.block_level:
            yield run
            continue
        for _, pixels in run.tiles():
            shared_target.shard_store.put(shard.number, pixels.tobytes())
        run.release()


class _ShardTileSink:
    """A sink for the tiles of a shard, which are counted from its own first ones."""

    def __init__(self, sink: Sink, shard: Shard) -> None:
        self._sink = sink
        self._shard = shard

    def put(self, tile: Tile, data: bytes) -> None:
        self._sink.put(self._shard.to_pyramid_tile(tile), data)

    def finish(self) -> None:
        self._sink.finish()

    def abort(self) -> None:
        self._sink.abort()


# The reduced blocks of shards: a raster in pieces, from which the upper levels are cut.


class ShardMosaicSource(Source):
    """The raster that blocks make, read line by line of blocks.

    Args:
        blocks: Where they are.
        regions: Where each lies in the raster, line by line from the top; together they cover it.
        like: The image that they were made of.
    """

    def __init__(self, store: ShardStore, regions: Sequence[Region], image_like: Source) -> None:
        self.name = image_like.name
        self.width = max(region.right for region in regions)
        self.height = max(region.bottom for region in regions)
        self.bands, self.dtype, self.is_cmyk = (
            image_like.bands,
            image_like.dtype,
            image_like.is_cmyk,
        )
        self.metadata = Metadata("blocks")
        self.preferred_rows = regions[0].height
        self._store = store
        self._regions = regions
        self._next = 0
        self._top = 0
        self._block_row: Pixels = np.empty((0, self.width, self.bands), self.dtype)

    def rows(self, y0: int, y1: int) -> Pixels:
        """Rows y0 to y1-1, asked for from top to bottom."""
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
            self._block_row[:, region.x : region.right] = self._read_block(self._next, region)
            self._next += 1

    def _read_block(self, number: int, region: Region) -> Pixels:
        data = self._store.get(number)
        shape = (region.height, region.width, self.bands)
        found: np.ndarray[Any, Any] = np.frombuffer(data, self.dtype)
        if found.size != region.height * region.width * self.bands:
            raise SourceError(f"{self.name}: a block of shard {number} is damaged")
        return found.reshape(shape)
