"""What a cut would make: numbers found from a sample of its tiles, and nothing is written.

Sampled tiles are encoded as `cut` encodes them. Where rows of an image come in order, and of images
of up to 2^28 pixels, the walk of the cut runs and some of its tiles are encoded. Of larger images
that are read anywhere, tiles are made on demand, and the walk is timed on a part of the image.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fasttile.geometry import Level, Pyramid, Region, Tile
from fasttile.jobs.cut import CutReport, described, further_files, report_notes
from fasttile.jobs.cut_job import CutJob, open_job
from fasttile.jobs.fingerprint import job_fingerprint
from fasttile.jobs.footprint import check_job
from fasttile.jobs.pipeline import ThreadEncoders
from fasttile.jobs.plan import Plan
from fasttile.jobs.progress import TileCounts
from fasttile.ondemand.levels import LevelPixels
from fasttile.options.cut import CutKeywords, CutOptions
from fasttile.sinks import Target
from fasttile.sources.conversions import crop
from fasttile.sources.transforms import pixel_bytes_of
from fasttile.storage.paths import nearest_folder
from fasttile.storage.system import cpu_count
from fasttile.types import Pixels
from fasttile.walk import TileRun, memory_bytes, walk

if TYPE_CHECKING:
    from typing import Unpack

SAMPLED_TILES, MIN_SAMPLED_TILES = 256, 8
"""Largest and smallest number of tiles of a level that are encoded, if it has more."""

SAMPLED_PIXELS = 2**24
"""About the number of pixels of the image that a level's sample is made from, where tiles are made
on demand; and of the pixels of its tiles, elsewhere."""

WALKED_PIXELS = 2**28
"""Images of at most this size are walked: the tiles on demand take as long, because blocks of a
compressed file are decoded for each tile that they touch."""

TIMED_PIXELS = 2**24
"""Pixels on which the walk of a larger image is timed."""

CACHE_BYTES = 2**27
"""Largest size of the blocks that are kept while tiles are made on demand."""

FILE_SECONDS, APPEND_SECONDS = 2e-4, 1e-5
"""Time to make a file, and to append a tile to one; measured."""

ZIP_ENTRY_BYTES = 76
"""Bytes of an archive for each entry, beside twice its name."""


@dataclass(frozen=True)
class CutEstimate(CutReport):
    """Report of a cut that was not done.

    Size and levels are those that a cut makes; so are tiles, blanks and bytes if all tiles were
    sampled, else they are estimates, as `seconds` always is.

    Attributes:
        layout, container, format: The result's kind, as in options: "dzi", "folder", "jpeg".
        sampled: Number of tiles that were encoded.
        disk_bytes: Space that the cut needs on the disk, temporary files included; 0 in a bucket.
        disk_free: Space that is free there; None in a bucket.
        memory_bytes: Memory that the cut takes, about.
    """

    layout: str = ""
    container: str = ""
    format: str = ""
    sampled: int = 0
    disk_bytes: int = 0
    disk_free: int | None = None
    memory_bytes: int = 0


def estimate(
    source: object,
    dest: str | os.PathLike[str] | Target | None = None,
    *,
    options: CutOptions | None = None,
    **keywords: Unpack[CutKeywords],
) -> CutEstimate:
    """Estimate what `cut` would make of an image, from a sample of its tiles; nothing is written.

    The arguments are those of `cut`, and what it would refuse before the first tile is refused.
    Images whose rows come in order (JPEG, PNG …) are read once, in as little memory as by `cut`.

    Args:
        source, dest, options, **keywords: As for `cut`.

    Raises:
        OptionError, SourceError, TargetError: As `cut`.

    Example:
        >>> pixels = np.zeros((600, 1000, 3), np.uint8)
        >>> made = fasttile.estimate(pixels, "tiles/map.dzi", tile_size=512, overlap=0)
        >>> made.levels, made.tiles, made.sampled
        (11, 14, 14)
    """
    checked = CutOptions.from_keywords(keywords, options)
    return estimate_plan(described(Plan.from_options(checked, dest, source), source), source)


def estimate_plan(plan: Plan, source: object) -> CutEstimate:
    """Estimate what the cut of an image by a plan would make; see `estimate`."""
    with open_job(plan, source) as job:
        plan = job.plan
        job.check_drawn_pixels()
        check_job(plan, job.origin)
        if plan.options.resume:
            job_fingerprint(plan, job.layout, job.origin)  # refuses sources that are no files
        files = further_files(job)
        plan.check_target(job.layout, files)
        opened = time.perf_counter() - job.started
        sampler = _Sampler(job)
        walk_seconds = sampler.take()
        job.source.check_intact()
        return _estimate_from(job, sampler, opened, walk_seconds, files)


@dataclass
class _Sums:
    """Sums over tiles of a level: of the sampled ones, or of all.

    Attributes:
        tiles, pixels: Their number, and that of their pixels, overlap included.
        blanks: How many of them are left out.
        bytes: Their encoded bytes.
        stored_bytes: Space of them on the disk, under all their names.
        seconds: Time to encode them by one thread.
    """

    tiles: float = 0
    pixels: float = 0
    blanks: float = 0
    bytes: float = 0
    stored_bytes: float = 0
    seconds: float = 0

    def scaled(self, factor: float) -> _Sums:
        """The sums times a factor."""
        return _Sums(*(value * factor for value in vars(self).values()))


class _Sampler:
    """Takes and encodes a sample of the tiles of an open image.

    Args:
        job: The image.

    Attributes:
        count: Number of the sampled tiles.
    """

    def __init__(self, job: CutJob) -> None:
        plan, pyramid = job.plan, job.layout.pyramid
        self._job = job
        self._pyramid = pyramid
        self._encoders = ThreadEncoders(
            plan.codec, plan.background, job.colour_plan, pyramid.level_count - 1, plan.blank
        )
        self._half_encoders = ThreadEncoders(
            plan.codec, plan.background, job.colour_plan, pyramid.level_count - 1, None
        )
        self._sums = {level.number: _Sums() for level in pyramid.stored_levels}
        # Each tile takes blocks of the disk, or pages of a database.
        has_blocks = plan.target.container in ("folder", "mbtiles")
        self._block_size = _block_size(_disk_folder(plan.target)) if has_blocks else 1

    @property
    def count(self) -> int:
        """Number of the sampled tiles."""
        return round(sum(sums.tiles for sums in self._sums.values()))

    def round_up(self, nbytes: int) -> int:
        """The space of a file or a tile on the disk, in bytes."""
        return -(-nbytes // self._block_size) * self._block_size

    def take(self) -> float:
        """Take the sample; returns the time in which a cut reads and halves the image."""
        source = self._job.source
        is_held = source.memory_bytes >= pixel_bytes_of(source)
        in_any_order = source.is_mapped or source.random_access or source.has_parallel_regions
        largest = self._pyramid.stored_levels[-1]
        is_walked = (
            source.width * source.height <= WALKED_PIXELS
            or is_held
            or not in_any_order
            or self._count_on_demand(largest) < MIN_SAMPLED_TILES
        )
        return self._take_of_walk() if is_walked else self._take_on_demand()

    def total(self, level: Level) -> _Sums:
        """The sums over all tiles of a level; of the next larger ones if it has no sample."""
        found = next(
            sums
            for number in range(level.number, self._pyramid.level_count)
            if (sums := self._sums[number]).tiles
        )
        if found is self._sums[level.number] and found.tiles == level.tile_count:
            return found
        pixels = _span_sum(level.col_span, level.cols) * _span_sum(level.row_span, level.rows)
        total = found.scaled(pixels / found.pixels)
        total.blanks = found.blanks / found.tiles * level.tile_count
        total.tiles = level.tile_count
        return total

    def _count_on_demand(self, level: Level) -> int:
        """Number of tiles of a level to make on demand: it costs more, the smaller the level."""
        times = 2 * self._pyramid.downscale_exponent(level.number)
        if self._job.source.draw_level is not None:  # each level by itself
            times = 0
        return min(SAMPLED_TILES, SAMPLED_PIXELS // (level.tile_size**2 << times))

    def _take_on_demand(self) -> float:
        job, drawing = self._job, 0.0
        levels = LevelPixels(job, CACHE_BYTES, keeps_source=True)
        try:
            for level in reversed(self._pyramid.stored_levels):
                tiles, spent = [*_spread(level, self._count_on_demand(level))], 0.0
                for tile in tiles:
                    began = time.perf_counter()
                    pixels = levels.read(level.number, self._pyramid.region(tile))
                    spent += time.perf_counter() - began
                    self._encode(tile, pixels)
                drawing += spent / max(1, len(tiles)) * level.tile_count
        finally:
            levels.close()
        return drawing if job.source.draw_level is not None else self._timed_walk()

    def _timed_walk(self) -> float:
        """The time to read and halve the image, by that of a part of it."""
        job, source = self._job, self._job.converted_source
        width = min(source.width, TIMED_PIXELS)
        height = min(source.height, max(1, TIMED_PIXELS // width))
        top = (source.height - height) // 2
        part = crop(source, Region(0, top, width, height))  # never closed: it is the source
        pyramid = Pyramid.from_size(width, height, tile_size=self._pyramid.tile_size)
        started = time.perf_counter()
        for run in walk(part, pyramid, job.plan.options.shrink, None, job.light):
            run.release()
        seconds = time.perf_counter() - started
        return seconds / (width * height) * source.width * source.height

    def _take_of_walk(self) -> float:
        wanted: dict[int, set[Tile]] = {}
        for level in self._pyramid.stored_levels:
            times = self._pyramid.downscale_exponent(level.number)
            count = min(SAMPLED_TILES >> times, SAMPLED_PIXELS // level.tile_size**2)
            wanted[level.number] = set(_spread(level, max(count, MIN_SAMPLED_TILES)))
        started, encoding = time.perf_counter(), 0.0
        for run in self._job.tile_runs():
            try:
                began = time.perf_counter()
                self._encode_some(run, wanted[run.level.number])
                encoding += time.perf_counter() - began
            finally:
                run.release()
        return time.perf_counter() - started - encoding

    def _encode_some(self, run: TileRun, wanted: set[Tile]) -> None:
        for tile, pixels in run.tiles():
            if tile in wanted:
                self._encode(tile, pixels)

    def _encode(self, tile: Tile, pixels: Pixels) -> None:
        sums = self._sums[tile.level]
        began = time.perf_counter()
        pieces = [self._encoders.for_level(tile.level).encode(pixels)]
        if pieces[0] is not None and self._job.layout.has_halves:
            half = self._job.halve(pixels)
            pieces.append(self._half_encoders.for_level(tile.level - 1).encode(half))
        sums.seconds += time.perf_counter() - began
        sums.tiles += 1
        sums.pixels += pixels.shape[0] * pixels.shape[1]
        sums.blanks += pieces[0] is None
        copies = max(1, len(self._job.layout.paths(tile)))  # a TIFF has no paths
        for piece in filter(None, pieces):
            sums.bytes += len(piece)
            sums.stored_bytes += self.round_up(len(piece)) * copies


def _spread(level: Level, count: int) -> Iterable[Tile]:
    """Tiles of a level, as many as `count`, spread evenly; all if it has no more.

    They follow the sequence R2 of Martin Roberts, "The Unreasonable Effectiveness of Quasirandom
    Sequences".
    """
    if level.tile_count <= count:
        return level.tiles()
    found: dict[Tile, None] = {}
    for number in range(4 * count):
        x, y = (0.5 + number * 0.7548776662466927) % 1, (0.5 + number * 0.5698402909980532) % 1
        found[Tile(level.number, int(x * level.cols), int(y * level.rows))] = None
        if len(found) == count:
            break
    return found


def _span_sum(span: Callable[[int], tuple[int, int]], count: int) -> int:
    """The sum of the sides of all columns or lines of tiles, overlap included."""
    edges = {0, 1, count - 2, count - 1}  # there may be billions of others, which are equal
    sides = {number: span(number)[1] - span(number)[0] for number in edges if 0 <= number < count}
    inner = count - len(sides)
    return sum(sides.values()) + (inner * (span(2)[1] - span(2)[0]) if inner else 0)


def _estimate_from(
    job: CutJob,
    sampler: _Sampler,
    opening: float,
    reading: float,
    files: Mapping[str, bytes],
) -> CutEstimate:
    """The estimate of a job from its sample.

    Args:
        job, sampler: The image, and its sample.
        opening, reading: Seconds to open the image, and to read and halve it.
        files: Further files of the result.
    """
    plan, pyramid = job.plan, job.layout.pyramid
    totals = {level.number: sampler.total(level) for level in reversed(pyramid.stored_levels)}
    sums = _Sums(*map(sum, zip(*(vars(total).values() for total in totals.values()), strict=True)))
    beside = 0.0
    for image in job.layout.whole_images():
        level = totals[image.level]
        size = image.width * image.height * level.bytes / level.pixels
        beside += sampler.round_up(int(size)) * len(image.paths)
    further = plan.with_page(job.layout, files, job.source.metadata)
    for data in (*further.values(), *job.layout.descriptors().values()):
        beside += sampler.round_up(len(data))
    tiles, blanks = round(sums.tiles - sums.blanks), round(sums.blanks)
    disk = _disk_folder(plan.target)
    report = CutReport.from_counts(
        plan.target,
        pyramid,
        TileCounts(tiles, blanks, round(sums.bytes)),
        0,
        report_notes(replace(job, plan=replace(plan, blank=None)), TileCounts(tiles, blanks, 0)),
        0 if job.source.draw_level is not None else job.source.width * job.source.height,
    )
    estimated = CutEstimate(
        **{
            **vars(report),
            "seconds": opening + _run_seconds(plan, sums, reading),
        },
        layout=plan.target.layout.name,
        container=plan.target.container,
        format=plan.codec.name,
        sampled=sampler.count,
        disk_bytes=0 if disk is None else round(beside + _disk_bytes(job, sums, totals)),
        disk_free=None if disk is None else shutil.disk_usage(disk).free,
        memory_bytes=memory_bytes(job.source, pyramid),
    )
    return replace(estimated, notes=(*estimated.notes, *_disk_notes(estimated)))


def _run_seconds(plan: Plan, sums: _Sums, reading: float) -> float:
    """Time of the cut: one thread reads and halves, others encode, one writes."""
    is_folder = plan.target.container == "folder"
    writing = sums.tiles * (FILE_SECONDS if is_folder else APPEND_SECONDS)
    shared = (reading + sums.seconds + writing) / cpu_count()
    return max(reading, writing, sums.seconds / plan.options.thread_count, shared)


def _disk_bytes(job: CutJob, sums: _Sums, totals: Mapping[int, _Sums]) -> float:
    """Space on the disk for the tiles of a result, at the time when it takes most."""
    container = job.plan.target.container
    largest = job.layout.pyramid.stored_range[-1]
    if container in ("zip", "szi"):
        name = len(job.layout.path(Tile(largest, 0, 0))) + len(job.layout.name)
        return sums.stored_bytes + sums.tiles * (ZIP_ENTRY_BYTES + 2 * name)
    if container == "pmtiles":  # a second file holds the tiles until the end
        return 2 * sums.stored_bytes
    is_cog = container == "tiff" and job.plan.target.layout.parameters.get("cog")
    return sums.stored_bytes + (totals[largest].stored_bytes if is_cog else 0)


def _disk_notes(estimated: CutEstimate) -> Iterator[str]:
    free = estimated.disk_free
    if free is not None and estimated.disk_bytes > free:
        yield f"the disk is too small: {estimated.disk_bytes - free:,} bytes are missing"


def _disk_folder(target: Target) -> Path | None:
    """The folder whose disk the cut fills; None if it fills none of this machine."""
    if not target.store:
        return nearest_folder(target.path.absolute())
    return None if target.container == "folder" else Path(tempfile.gettempdir())


def _block_size(folder: Path | None) -> int:
    """Size of the blocks that files take on a disk, in bytes."""
    if folder is None or not hasattr(os, "statvfs"):
        return 4096
    return os.statvfs(folder).f_frsize or 4096
