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

    path: Path
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
    return cut_plan(Plan.of(CutOptions.of(options), dest, source), source, progress)


def cut_plan(
    plan: Plan,
    source: Any,
    progress: ProgressCallback | None = None,
    accept: Callable[[Cutting], object] | None = None,
) -> CutReport:
    """Do what is planned; see `cut`.

    Args:
        plan, source, progress: As there.
        accept: Called before anything is written; may raise to end it.
    """
    started = time.perf_counter()
    with _opened(source, plan.wishes) as opened:
        cutting = Cutting.of(plan, opened)
        if accept is not None:
            accept(cutting)
        before = stamp(source)
        identity = identity_of(plan, cutting.layout, source) if plan.wishes.resume else None
        sink = plan.sink(cutting.layout, opened, cutting.colours, identity)
        try:
            counts = _stored(cutting, sink, progress)
            check_unchanged(source, before)
            sink.finish()
        except BaseException:
            sink.abort()
            raise
    return CutReport(
        plan.target.path,
        *cutting.layout.pyramid.size,
        len(cutting.layout.pyramid.kept),
        counts.tiles,
        counts.bytes,
        time.perf_counter() - started,
        _notes(cutting, counts),
        counts.blanks,
        counts.resumed,
    )


def _stored(cutting: Cutting, sink: Sink, progress: ProgressCallback | None) -> Counts:
    """Store what is not stored yet."""
    told = Teller(progress, cutting.layout.pyramid.tile_count)
    if not isinstance(sink, ResumableSink):
        return cutting.fill(sink, None, told)
    if sink.published:
        return Counts.of(sink.journal)
    return cutting.fill(sink, sink.journal, told)


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
        for run in walk(converted(opened, colours), pyramid, wishes.shrink, pad):
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


def reading_of(wishes: CutOptions) -> Reading:
    """What of a user's wishes concerns whoever opens the picture."""
    return Reading(
        page=wishes.page,
        max_pixels=wishes.max_pixels,
        allow_truncated=wishes.allow_truncated,
        background=parse_colour(wishes.background),
        keep_cmyk=wishes.icc != "drop",
    )
