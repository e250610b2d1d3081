"""Sizes a run over a petabyte of pixels: what is stored and paid, and how long workers take.

Prints the tables of docs/DISTRIBUTED.md. All assumptions are named below.
"""

from __future__ import annotations

import heapq
import math
import random
from dataclasses import dataclass

IMAGE_BYTES = 1e15
BYTES_PER_PIXEL = 3
TILE_SIZE, OVERLAP = 254, 1
TILE_BYTES = 20_000
"""A JPEG tile of a detailed photograph."""

DEPTHS = (5, 6, 7)
"""A shard is a block of 2^depth × 2^depth tiles."""

MEGAPIXELS_PER_SECOND = 107
"""Rate of one processor, all levels included: bench/RESULTS.md, 400-rgb, 1 core."""

WORKER_MEMORY = 63e6
"""Bytes of a process that cuts about as much as a shard: bench/RESULTS.md, 100-rgb, peak."""

SCHEDULER_SECONDS = 0.001
"""Time of the scheduler for one task; it handles tasks one after the other."""

PROCESSOR_HOUR_DOLLARS = 0.04
PUT_DOLLARS, GET_DOLLARS = 0.005 / 1000, 0.0004 / 1000
"""Price of one written object and of one read."""

CREATES_PER_SECOND = 50_000
"""Files that a large file system creates in a second, for all clients together."""

INODE_BYTES, BLOCK_BYTES, PAGE_BYTES = 512, 4096, 4096
EXT4_INODES = 2**32

# For the simulation.
WORKERS = (100, 1000, 4000)
TASKS_PER_WORKER = 100
"""Fewer than in reality, so the end of a run, where workers are idle, weighs more."""

HOURS_BETWEEN_LOSSES = 24.0
"""Mean life of a worker: cheap machines that may be taken away."""

SECONDS_UNTIL_REPLACED = 120.0
SLOW_SHARE, SLOW_FACTOR = 0.02, 5.0
"""Share of slow tasks, and how much longer they take."""

SEED = 1


@dataclass(frozen=True)
class Sizes:
    """A square image and its shards."""

    depth: int

    @property
    def side(self) -> int:
        return math.isqrt(int(IMAGE_BYTES / BYTES_PER_PIXEL))

    @property
    def shard_side(self) -> int:
        """Side of a shard's own pixels, without the overlap that it also reads."""
        return TILE_SIZE << self.depth

    @property
    def read_side(self) -> int:
        return self.shard_side + 2 * (OVERLAP << self.depth)

    @property
    def shards(self) -> int:
        return int(math.ceil(self.side / self.shard_side) ** 2)

    @property
    def seconds(self) -> float:
        """Seconds of one processor for a shard."""
        return self.read_side**2 / 1e6 / MEGAPIXELS_PER_SECOND

    @property
    def upper_levels_side(self) -> int:
        """Side of the raster that the shards' reduced blocks form."""
        return math.ceil(self.side / (1 << self.depth))


def tile_counts(side: int) -> list[int]:
    """The tiles of each level, the largest first."""
    counts = []
    while side > 1:
        counts.append(math.ceil(side / TILE_SIZE) ** 2)
        side = math.ceil(side / 2)
    return [*counts, 1]


@dataclass(frozen=True)
class Outcome:
    """Result of a simulation."""

    seconds: float
    ideal: float
    lost: float
    losses: int


def simulate(workers: int, task_seconds: float) -> Outcome:
    """Simulate workers that take tasks from one scheduler; some are slow, some are lost."""
    dice = random.Random(SEED)
    tasks = workers * TASKS_PER_WORKER
    rate = 1 / (HOURS_BETWEEN_LOSSES * 3600)
    free = [(0.0, dice.expovariate(rate)) for _ in range(workers)]
    heapq.heapify(free)
    scheduler = end = lost = worked = 0.0
    losses = 0
    while tasks:
        begin, death = heapq.heappop(free)
        scheduler = begin = max(begin, scheduler) + SCHEDULER_SECONDS
        took = task_seconds * (SLOW_FACTOR if dice.random() < SLOW_SHARE else 1)
        if begin + took <= death:
            tasks -= 1
            worked += took
            end = max(end, begin + took)
            heapq.heappush(free, (begin + took, death))
            continue
        lost += max(0.0, death - begin)
        losses += 1
        back = max(begin, death) + SECONDS_UNTIL_REPLACED
        heapq.heappush(free, (back, back + dice.expovariate(rate)))
    return Outcome(end, worked / workers, lost / worked, losses)


def stored() -> None:
    """Print the size of the tiles, as files and as objects."""
    side, counts = Sizes(DEPTHS[0]).side, tile_counts(Sizes(DEPTHS[0]).side)
    tiles = sum(counts)
    on_disk = tiles * (math.ceil(TILE_BYTES / BLOCK_BYTES) * BLOCK_BYTES + INODE_BYTES)
    per_processor = MEGAPIXELS_PER_SECOND * 1e6 * tiles / side**2
    print(f"image           {side:,} × {side:,} pixels, {len(counts)} levels")
    print(f"tiles             {tiles:,}, {counts[0]:,} of them in the largest level")
    print(f"their bytes       {tiles * TILE_BYTES / 1e12:,.0f} TB")
    print(f"as files          {on_disk / 1e12:,.0f} TB; inodes: {tiles / EXT4_INODES:.1f} × ext4's")
    print(f"  made            {tiles / CREATES_PER_SECOND / 3600:.1f} hours at the assumed rate")
    print(f"  by              {CREATES_PER_SECOND / per_processor:.0f} processors, no more help")
    print(f"as objects        ${tiles * PUT_DOLLARS:,.0f} to write them")


def shards() -> None:
    """What workers are handed and read."""
    print("depth  tiles       reads         each row  shards      seconds  GETs by row")
    for depth in DEPTHS:
        sizes = Sizes(depth)
        row = sizes.read_side * BYTES_PER_PIXEL
        gets = sizes.shards * sizes.read_side * GET_DOLLARS
        print(
            f"{depth:5}  {1 << depth:3} × {1 << depth:<3}  {sizes.read_side:6,} px²  "
            f"{row / 1e3:8.1f} kB  {sizes.shards:9,}  {sizes.seconds:7.2f}  ${gets:10,.0f}"
        )


def upper_levels() -> None:
    """What is left for the end, when all shards are done."""
    print("depth  blocks      image of     minutes  strip")
    for depth in DEPTHS:
        sizes = Sizes(depth)
        blocks = sizes.shards * TILE_SIZE**2 * BYTES_PER_PIXEL / 1e12
        pixels = sizes.upper_levels_side**2 / 1e9
        strip = sizes.upper_levels_side * (TILE_SIZE + 2 * OVERLAP) * BYTES_PER_PIXEL / 1e6
        minutes = pixels * 1e3 / MEGAPIXELS_PER_SECOND / 60
        print(f"{depth:5}  {blocks:7.2f} TB  {pixels:9.0f} GP  {minutes:9.0f}  {strip:5.0f} MB")


def paid() -> None:
    """What the processors cost."""
    hours = IMAGE_BYTES / BYTES_PER_PIXEL / 1e6 / MEGAPIXELS_PER_SECOND / 3600
    print(f"processor hours   {hours:,.0f}, ${hours * PROCESSOR_HOUR_DOLLARS:,.0f}")
    print(f"memory            {WORKER_MEMORY / 1e6:.0f} MB for each worker")


def simulated() -> None:
    """How workers fare with one scheduler."""
    print("depth  workers  scheduler busy  workers busy  work lost  lost  total run")
    for depth in DEPTHS:
        sizes = Sizes(depth)
        for workers in WORKERS:
            outcome = simulate(workers, sizes.seconds)
            tasks = workers * TASKS_PER_WORKER
            busy = min(1.0, tasks * SCHEDULER_SECONDS / outcome.seconds)
            total = outcome.seconds * sizes.shards / tasks / 3600
            print(
                f"{depth:5}  {workers:7,}  {busy:14.0%}  {outcome.ideal / outcome.seconds:12.0%}  "
                f"{outcome.lost:9.3%}  {outcome.losses:4,}  {total:6.2f} h"
            )


def main() -> None:
    """Print all tables."""
    for part in (stored, paid, shards, upper_levels, simulated):
        part()
        print()


if __name__ == "__main__":
    main()
