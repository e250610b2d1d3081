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

import numpy as np

from .colour import Colours, applied, managed
from .encoder import parse_colour
from .errors import Cancelled
from .geometry import Region, Tile
from .layouts.base import Layout
from .layouts.choice import LayoutChoice
from .options import CutOptions, OptionWords
from .padding import padding
from .pipeline import Pipeline
from .plan import Plan
from .pyramid import Pixels, Run, walk
from .sinks.base import PathSink, Sink
from .sources import Reading, open_source
from .sources.base import Source
from .sources.convert import Converted
from .sources.pixels import looked_up
from .targets import Target
from .wholes import Wholes

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from typing import Unpack

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
    """

    path: Path
    width: int
    height: int
    levels: int
    tiles: int
    bytes: int
    seconds: float
    notes: tuple[str, ...] = ()
    blanks: int = 0

    @property
    def megapixels_per_second(self) -> float:
        """Pixels of the picture (not of all levels), in millions a second."""
        return self.width * self.height / 1e6 / max(self.seconds, 1e-9)


def cut(
    source: Any,
    dest: str | os.PathLike[str] | Target | None = None,
    *,
    progress: ProgressCallback | None = None,
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
    started = time.perf_counter()
    plan = Plan.of(CutOptions.of(options), dest, source)
    wishes = plan.wishes
    with _opened(source, wishes) as opened:
        layout = plan.layout(opened)
        pyramid = layout.pyramid
        colours = managed(opened, wishes.icc, keeps_grey=plan.codec.keeps_grey)
        sink = plan.sink(layout, opened, colours)
        try:
            with Pipeline(
                sink,
                plan.codec,
                plan.background,
                wishes.thread_count,
                colours=colours,
                top_level=pyramid.level_count - 1,
                blank=plan.blank,
            ) as pipeline:
                pad = padding(opened, colours, plan.background)
                runs = walk(_converted(opened, colours), pyramid, wishes.shrink, pad)
                _fill(runs, layout, pipeline, sink, progress or _nobody)
            sink.finish()
        except BaseException:
            sink.abort()
            raise
    blanks = (f"{pipeline.blanks:,} blank tiles left out",) if plan.blank else ()
    return CutReport(
        plan.target.path,
        *pyramid.size,
        len(pyramid.kept),
        pipeline.tiles,
        pipeline.bytes,
        time.perf_counter() - started,
        (*opened.metadata.notes, *colours.notes, *opened.metadata.remarks, *blanks),
        pipeline.blanks,
    )


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
    with _opened(source, wishes) as opened:
        colours = managed(opened, wishes.icc)
        pyramid = choice.of(
            "picture",
            opened.width,
            opened.height,
            "jpg",
            tile_size=wishes.tile_size,
            overlap=wishes.overlap,
            levels=wishes.levels,
        ).pyramid
        pad = padding(opened, colours, background)
        for run in walk(_converted(opened, colours), pyramid, wishes.shrink, pad):
            try:
                for tile, pixels in run.tiles():
                    yield tile, applied(colours, pixels.copy())
            finally:
                run.release()


def _opened(source: Any, wishes: CutOptions) -> AbstractContextManager[Source]:
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


def _converted(source: Source, colours: Colours) -> Source:
    """The source with the plan's table applied; what else there is to convert, the encoders do."""
    if colours.table is None:
        return source
    alpha = np.arange(256, dtype=np.uint8)
    return Converted(source, looked_up(source.bands, colours.table, alpha))


def reading_of(wishes: CutOptions) -> Reading:
    """What of a user's wishes concerns whoever opens the picture."""
    return Reading(
        page=wishes.page,
        max_pixels=wishes.max_pixels,
        allow_truncated=wishes.allow_truncated,
        background=parse_colour(wishes.background),
        keep_cmyk=wishes.icc != "drop",
    )


def _nobody(progress: Progress) -> None:
    """The callback of a caller who does not want to know."""


def _fill(
    runs: Iterator[Run],
    layout: Layout,
    pipeline: Pipeline,
    sink: Sink,
    progress: ProgressCallback,
) -> None:
    """Put every tile of the walk, and what else the layout wants of the pixels."""
    tile_count = layout.pyramid.tile_count
    wholes = Wholes(layout)
    last = 0.0

    def report() -> None:
        nonlocal last
        now = time.monotonic()
        done = pipeline.tiles + pipeline.blanks
        if now - last < PROGRESS_SECONDS and done < tile_count:
            return
        last = now
        if progress(Progress(done, tile_count, pipeline.bytes)) is False:
            raise Cancelled(f"cancelled after {done} of {tile_count} tiles")

    for run in runs:
        wholes.take(run)
        pipeline.put(run)
        report()
    pipeline.drain(report)
    for level, paths, pixels in wholes.pictures():
        assert isinstance(sink, PathSink)  # no other layout wants any
        sink.add(paths, pipeline.encoded(level, pixels))
