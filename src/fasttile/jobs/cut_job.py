"""One image that is open, and how its tiles come into a sink."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from fasttile.abc.layout import Layout
from fasttile.abc.sink import PathSink, Sink
from fasttile.abc.source import Source
from fasttile.colour import canvas_fill, plan_colours
from fasttile.colour.convert import ColourPlan
from fasttile.encode.encoder import parse_colour
from fasttile.geometry import Region
from fasttile.jobs.pipeline import Pipeline
from fasttile.jobs.plan import Plan
from fasttile.jobs.progress import ProgressReporter, TileCounts
from fasttile.options.cut import CutOptions
from fasttile.options.read import ReadOptions
from fasttile.sources import open_source
from fasttile.sources.conversions import ConvertedSource, lookup_table
from fasttile.types import Pixels
from fasttile.walk import TileRun, walk

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from fasttile.storage.journal import Journal


@dataclass(frozen=True)
class CutJob:
    """All that is known of a cut once its image is open.

    Attributes:
        plan: What the options come to.
        source: The image; whoever opened it closes it.
        layout: Where its tiles live.
        colours: What becomes of its colours.
    """

    plan: Plan
    source: Source
    layout: Layout
    colour_plan: ColourPlan

    @classmethod
    def for_source(cls, plan: Plan, source: Source) -> Self:
        """The cutting of an open image.

        Raises:
            OptionError: The image does not go with the options.
        """
        layout = plan.layout_for(source)
        colours = plan_colours(source, plan.options.icc, keeps_grey=plan.codec.keeps_grey)
        return cls(plan, source, layout, colours)

    @property
    def converted_source(self) -> Source:
        """The image as it is walked."""
        return apply_grey_table(self.source, self.colour_plan)

    @cached_property
    def fill_values(self) -> tuple[int, ...]:
        """What lies around the image, a value for each band."""
        return canvas_fill(self.source, self.colour_plan, self.plan.background)

    def open_pipeline(self, sink: Sink, journal: Journal | None = None) -> Pipeline:
        """What encodes the tiles and hands them to a sink."""
        plan = self.plan
        return Pipeline(
            sink,
            plan.codec,
            plan.background,
            plan.options.thread_count,
            colour_plan=self.colour_plan,
            top_level=self.layout.pyramid.level_count - 1,
            blank=plan.blank,
            journal=journal,
        )

    def write_tiles(
        self, sink: Sink, journal: Journal | None, reporter: ProgressReporter
    ) -> TileCounts:
        """Put every tile that the journal has not, and what else the layout wants of the pixels.

        Raises:
            SourceError, TargetError: The image cannot be read, or the tiles not stored.
            Cancelled: The callback gave False.
        """
        with self.open_pipeline(sink, journal) as pipeline:
            shrink = self.plan.options.shrink
            runs = walk(self.converted_source, self.layout.pyramid, shrink, self.fill_values)
            encode_all(runs, pipeline, WholeLevels(self.layout), sink, reporter)
        before = TileCounts.from_journal(journal)
        return replace(before, tiles=pipeline.tiles, blanks=pipeline.blanks, bytes=pipeline.bytes)


def encode_all(
    runs: Iterator[TileRun],
    pipeline: Pipeline,
    whole_levels: WholeLevels,
    sink: Sink,
    reporter: ProgressReporter,
) -> None:
    """Put the tiles of a walk, and the images of whole levels."""

    def report() -> None:
        reporter(pipeline.tiles + pipeline.blanks, pipeline.bytes)

    for run in runs:
        whole_levels.add_run(run)
        pipeline.put(run)
        report()
    pipeline.drain(report)
    for level, paths, pixels in whole_levels.level_images():
        assert isinstance(sink, PathSink)  # no other layout wants any
        sink.add(paths, pipeline.encode_level_image(level, pixels))


def apply_grey_table(source: Source, colour_plan: ColourPlan) -> Source:
    """The source with the plan's table applied; what else there is to convert, the encoders do."""
    if colour_plan.grey_lookup is None:
        return source
    alpha = np.arange(256, dtype=np.uint8)
    return ConvertedSource(source, lookup_table(source.bands, colour_plan.grey_lookup, alpha))


# Images of whole levels, which some layouts want beside the tiles: put together from these.


class WholeLevels:
    """Keeps the pixels of those levels that a layout wants as one image each.

    Args:
        layout: Whose `wholes` they are; its tiles do not overlap.
        wanted: Whether they are. Not of a part of the image.
    """

    def __init__(self, layout: Layout, *, enabled: bool = True) -> None:
        self._paths = layout.level_image_paths() if enabled else {}
        self._pyramid = layout.pyramid
        self._pixels: dict[int, Pixels] = {}

    def add_run(self, run: TileRun) -> None:
        """Copy a run's pixels, if its level is one of these."""
        level = run.level
        if level.number not in self._paths:
            return
        for tile, pixels in run.tiles():
            whole = self._pixels.get(level.number)
            if whole is None:
                shape = (level.height, level.width, pixels.shape[2])
                whole = self._pixels[level.number] = np.empty(shape, pixels.dtype)
            x, y, width, height = level.region(tile.col, tile.row)
            whole[y : y + height, x : x + width] = pixels

    def level_images(self) -> Iterator[tuple[int, tuple[str, ...], Pixels]]:
        """Level, paths and pixels of each."""
        for number, paths in self._paths.items():
            yield number, paths, self._pixels[number]


def open_for_cut(source: Any, options: CutOptions) -> AbstractContextManager[Source]:
    if isinstance(source, Source):
        return nullcontext(source)
    region = options.region
    return open_source(
        source,
        raw=options.raw,
        region=region if region is None else Region(*region),
        window=options.window,
        bits=options.bits,
        read_options=read_options_from(options),
    )


def read_options_from(options: CutOptions) -> ReadOptions:
    """What of a user's wishes concerns whoever opens the image."""
    return ReadOptions(
        page=options.page,
        max_pixels=options.max_pixels,
        allow_truncated=options.allow_truncated,
        background=parse_colour(options.background),
        keep_cmyk=options.icc != "drop",
    )
