"""One giant picture in many hands: its shards are tasks, and the crown is cut at the end.

Each worker opens the picture for itself and walks one shard of it, puts the tiles where the result
is made, and the shard's block beside them. When all are there, the blocks are the raster of a
smaller level, from which the others are cut by the same walk.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .blocks import BlockSource
from .cutting import Counts, Cutting, Teller, put_all
from .errors import SourceError
from .geometry import Tile
from .identity import stamp
from .journal import SHARDS
from .options import CutOptions
from .plan import Plan
from .pyramid import Run, walk
from .shards import Shard, Shards
from .sinks.base import Sink
from .sinks.workplace import ShardedSink, Workplace
from .sources.convert import crop
from .sources.ways import STANDARD_INPUT, scheme_of
from .targets import Target
from .wholes import Wholes

if TYPE_CHECKING:
    from .engines import Engine


@dataclass(frozen=True)
class ShardTask:
    """What a worker is sent: names and numbers.

    Attributes:
        source: The picture's path.
        target: Where the result will be.
        options: How it is cut.
        depth: How many levels a shard has.
        number: Which shard.
        workplace: Where its tiles and its block go.
        stamp: What the picture's file was when the job began.
    """

    source: str
    target: Target
    options: CutOptions
    depth: int
    number: int
    workplace: Workplace
    stamp: tuple[int, ...]


def depth_for(cutting: Cutting, source: object) -> int | None:
    """How many levels the shards of a picture have; None if it is not cut so.

    It has to be a file that is read in place, and the result one of many files.
    """
    named = isinstance(source, str | os.PathLike) and source != STANDARD_INPUT
    if not named or scheme_of(source) is not None or not cutting.source.mapped:
        return None
    if cutting.plan.target.container != "folder":
        return None
    wanted = max(cutting.layout.wholes(), default=0)
    return Shards.best_depth(cutting.layout.pyramid, wanted)


class Sharding:
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
        cutting: Cutting,
        source: str | os.PathLike[str],
        sink: ShardedSink,
        depth: int,
        told: Teller,
    ) -> None:
        self._cutting = cutting
        self._source = os.path.abspath(source)  # noqa: PTH100 -- links stay as they are
        self._sink = sink
        self._shards = Shards(cutting.layout.pyramid, depth)
        self._told = told

    def fill(self, engine: Engine) -> Counts:
        """Put every tile: those of the shards by workers, the others here.

        Raises:
            FasttileError: A shard cannot be cut.
        """
        journal = self._sink.journal
        counts = Counts.of(journal)
        numbers = [
            number
            for number in range(len(self._shards))
            if journal is None or not journal.holds(SHARDS, 0, number, number + 1)
        ]
        under_way: dict[int, Counts] = {}

        def heard(index: int, now: Counts) -> None:
            under_way[index] = now
            self._tell([counts, *under_way.values()])

        with closing(self._run(engine, numbers, heard)) as done:
            for index, made in done:
                under_way.pop(index, None)
                counts = counts + made
                if journal is not None:
                    one = numbers[index]
                    journal.note(SHARDS, 0, one, one + 1, made.tiles, made.blanks, made.bytes)
                self._tell([counts, *under_way.values()])
        return counts + self._crowned(counts)

    def _run(
        self, engine: Engine, numbers: list[int], heard: Callable[[int, Counts], None]
    ) -> Generator[tuple[int, Counts]]:
        first = self._task(engine)
        tasks = (replace(first, number=number) for number in numbers)
        for index, outcome in engine.run(cut_shard, tasks, heard):
            if isinstance(outcome, Exception):
                raise outcome
            yield index, outcome

    def _task(self, engine: Engine) -> ShardTask:
        plan = self._cutting.plan
        threads = plan.wishes.threads or engine.threads
        begun = stamp(self._source)
        if begun is None:
            raise SourceError(f"{self._source} cannot be read any more")
        return ShardTask(
            self._source,
            plan.target,
            replace(plan.wishes, threads=threads, resume=False),
            self._shards.depth,
            0,
            self._sink.workplace,
            begun,
        )

    def _tell(self, parts: list[Counts]) -> None:
        tiles = sum(part.tiles + part.blanks for part in parts)
        self._told(tiles, sum(part.bytes for part in parts))

    def _crowned(self, counts: Counts) -> Counts:
        """Cut what is above the shards, from their blocks; gives what was made."""
        cutting, sink, shards = self._cutting, self._sink, self._shards
        before = Counts.of(sink.journal)
        self._told.beyond(
            counts.tiles + counts.blanks - before.tiles - before.blanks,
            counts.bytes - before.bytes,
        )
        regions = [shards[number].block for number in range(len(shards))]
        raster = BlockSource(sink.workplace.blocks, regions, cutting.converted)
        with cutting.pipeline(sink, sink.journal) as pipeline:
            runs = walk(raster, shards.crown, cutting.plan.wishes.shrink, cutting.pad)
            put_all(runs, pipeline, Wholes(cutting.layout), sink, self._told)
        made = Counts(pipeline.tiles, pipeline.blanks, pipeline.bytes, before.resumed)
        return made - before


def cut_shard(task: ShardTask) -> Counts:
    """Cut a shard in a worker."""
    from .engines import tell
    from .job import opened

    plan = Plan.of(task.options, task.target, task.source)
    with opened(task.source, plan.wishes) as source:
        now = stamp(task.source)
        if now is None or now[2:] != task.stamp[2:]:  # each machine has its own device numbers
            raise SourceError(f"{task.source} was changed while it was read: cut it again")
        cutting = Cutting.of(plan, source)
        shard = Shards(cutting.layout.pyramid, task.depth)[task.number]
        tiles = _Offset(task.workplace.tiles(cutting.layout), shard)
        told = Teller(lambda progress: tell(Counts(progress.tiles, 0, progress.bytes)), -1)
        part = crop(cutting.converted, shard.region)
        with cutting.pipeline(tiles) as pipeline:
            runs = walk(part, shard, plan.wishes.shrink, cutting.pad)
            ours = _without_block(runs, shard, task.workplace)
            put_all(ours, pipeline, Wholes(cutting.layout, wanted=False), tiles, told)
        tiles.finish()
        return Counts(pipeline.tiles, pipeline.blanks, pipeline.bytes)


def _without_block(runs: Iterator[Run], shard: Shard, workplace: Workplace) -> Iterator[Run]:
    """The runs of tiles; the block is put on the way."""
    for run in runs:
        if run.level.number != shard.block_level:
            yield run
            continue
        for _, pixels in run.tiles():
            workplace.blocks.put(shard.number, pixels.tobytes())
        run.release()


class _Offset:
    """A sink for the tiles of a shard, which are counted from its own first ones."""

    def __init__(self, sink: Sink, shard: Shard) -> None:
        self._sink = sink
        self._shard = shard

    def put(self, tile: Tile, data: bytes) -> None:
        self._sink.put(self._shard.whole(tile), data)

    def finish(self) -> None:
        self._sink.finish()

    def abort(self) -> None:
        self._sink.abort()
