"""One open image and its plan: the walk over its tiles, and the sink that takes them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from fasttile.abc.layout import Layout, WholeImage
from fasttile.abc.sink import FileSink, PathSink, Sink
from fasttile.abc.source import FUNCTION_FORMAT, Source
from fasttile.colour import (
    canvas_fill,
    convert_deep_profile,
    convert_to_srgb,
    plan_colours,
    with_alpha,
)
from fasttile.colour.convert import ColourPlan
from fasttile.errors import OptionError, SourceError
from fasttile.geometry import Pyramid, Region, Tile
from fasttile.jobs.fingerprint import stat_signature
from fasttile.jobs.pipeline import HalvedTiles, Pipeline
from fasttile.jobs.plan import Plan
from fasttile.jobs.progress import ProgressReporter, TileCounts
from fasttile.jobs.record import recorded_options
from fasttile.kernels import shrink
from fasttile.options import opaque_colour, parse_background
from fasttile.options.cut import CutOptions
from fasttile.options.read import ReadOptions
from fasttile.sources import adapt_source, open_source
from fasttile.sources.conversions import ConvertedSource, crop, lookup_table
from fasttile.sources.files import is_open_pyramid, may_be_result
from fasttile.types import Pixels
from fasttile.walk import TileRun, draw_runs, walk

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from fasttile.abc.reader import PyramidReader
    from fasttile.geometry.shards import LevelRange
    from fasttile.kernels import LightTables
    from fasttile.sources.conversions import ProfileConverter
    from fasttile.storage.journal import Journal

MAX_DRAWN_PIXELS = 2**36
"""Most pixels of a function that are drawn for a cut, or for one tile, unless `max_pixels` says
another number: some hours of a simple one."""


@dataclass(frozen=True)
class CutJob:
    """An open image, its plan, its layout and its colour conversion.

    Attributes:
        plan: The checked options.
        source: The image; the caller closes it.
        layout: Path and geometry of each tile.
        colour_plan: Conversion of the colours.
        image: The source, with alpha if the canvas needs it and the source has none.
        origin: What the caller of `cut` passed as source: a path, an array, …
        signature: `stat_signature` of a file before it was opened.
        started: `time.perf_counter()` before the image was opened.
    """

    plan: Plan
    source: Source
    layout: Layout
    colour_plan: ColourPlan
    image: Source
    origin: object = None
    signature: tuple[int, ...] | None = None
    started: float = 0.0

    @classmethod
    def for_source(cls, plan: Plan, source: Source, layout: Layout | None = None) -> Self:
        """Join an open image to a plan.

        Args:
            plan: The plan.
            source: The image.
            layout: Layout of an existing result. Default: the plan's, fitted to the image.

        Raises:
            OptionError: The options cannot be used for this image.
        """
        layout = plan.layout_for(source) if layout is None else layout
        colours = plan_colours(source, plan.options.icc, keeps_grey=plan.codec.keeps_grey)
        if plan.codec.keeps_credit:
            from fasttile.encode.credit import with_credit

            colours = with_credit(colours, layout.texts)
        image = source
        if len(plan.background) == 4 and layout.pyramid.canvas.padded and not source.has_alpha:
            if source.dtype != np.uint8:
                raise OptionError(
                    f"{source.name}: background {plan.options.background!r}: tiles of 16 bits "
                    "have no alpha; use bits=8, or an opaque background"
                )
            image, colours = with_alpha(source, colours)
        job = cls(plan, source, layout, colours, image)
        _ = job.light  # raises if there is none
        return job

    @property
    def converted_source(self) -> Source:
        """The image with the grey table applied; the encoders do all other conversions."""
        if self.colour_plan.grey_lookup is None:
            return self.image
        alpha = np.arange(256, dtype=np.uint8)
        table = lookup_table(self.image.bands, self.colour_plan.grey_lookup, alpha)
        return ConvertedSource(self.image, table)

    @cached_property
    def fill_values(self) -> tuple[int, ...]:
        """Value of each band outside of the image."""
        return canvas_fill(self.image, self.colour_plan, self.plan.background)

    @cached_property
    def light(self) -> LightTables | None:
        """The tables of the method "linear"; None for other methods.

        Raises:
            OptionError: The image has no curve of light.
        """
        if self.plan.options.shrink != "linear":
            return None
        from fasttile.colour.light import light_tables  # few cuts need it

        return light_tables(self.image, self.colour_plan)

    def walk(self, source: Source, pyramid: Pyramid | LevelRange) -> Iterator[TileRun]:
        """Walk an image, or a part of it, by the method and the background of this job.

        Args:
            source: Pixels as those of `converted_source`.
            pyramid: The levels to make.
        """
        return walk(source, pyramid, self.plan.options.shrink, self.fill_values, self.light)

    def tile_runs(self) -> Iterator[TileRun]:
        """Walk the image: runs of tiles of all levels, in the order in which they are ready."""
        source, pyramid = self.converted_source, self.layout.pyramid
        if source.draw_level is not None:
            fill = np.array(self.fill_values, source.dtype)
            return draw_runs(source.draw_level, pyramid, fill)
        return self.walk(source, pyramid)

    def check_drawn_pixels(self) -> None:
        """Refuse to cut a function of more pixels than the limit: it may take years.

        Raises:
            SourceError: More pixels would be drawn than `max_pixels`, or MAX_DRAWN_PIXELS.
        """
        source, pyramid, limit = self.source, self.layout.pyramid, self.plan.options.max_pixels
        if source.metadata.format != FUNCTION_FORMAT:
            return
        sizes = [(source.width, source.height)]
        if source.draw_level is not None:
            sizes = [pyramid.image_size(number) for number in pyramid.stored_range]
        count = sum(width * height for width, height in sizes)
        limit = MAX_DRAWN_PIXELS if limit is None else limit
        if count > limit:
            fewer = "" if source.draw_level is None else ", cut small levels only (levels)"
            raise SourceError(
                f"{source.name}: a cut would draw {count:,} pixels, more than the limit "
                f"({limit:,}); look at it with open_pyramid{fewer}, or use max_pixels={count}"
            )

    def open_pipeline(
        self,
        sink: Sink,
        journal: Journal | None = None,
        to_pyramid_tile: Callable[[Tile], Tile] = lambda tile: tile,
    ) -> Pipeline:
        """Start the encoder threads, which pass the tiles to a sink.

        Args:
            sink: The sink.
            journal: See `Pipeline`.
            to_pyramid_tile: The tile of the pyramid that is a tile of the walk.
        """
        plan, halves = self.plan, None
        if self.layout.has_halves:
            halves = HalvedTiles(
                lambda tile: self.layout.half_path(to_pyramid_tile(tile)), self.halve
            )
        return Pipeline(
            sink,
            plan.codec,
            plan.background,
            min(plan.options.thread_count, self.layout.pyramid.tile_count),
            colour_plan=self.colour_plan,
            top_level=self.layout.pyramid.level_count - 1,
            blank=plan.blank,
            journal=journal,
            check_intact=self.source.check_intact,
            halves=halves,
        )

    def halve(self, pixels: Pixels) -> Pixels:
        """The pixels of a tile halved, as the walk halves a level."""
        method, alpha = self.plan.options.shrink, self.image.has_alpha
        pixels = np.ascontiguousarray(pixels)
        return shrink(pixels, method=method, alpha=alpha, light=self.light)

    def whole_levels(self, *, enabled: bool = True) -> WholeLevels:
        """Collector of the images of complete levels; see `WholeLevels`."""
        with_page = self.plan.options.viewer is not None
        return WholeLevels(self.layout, self.reduce_to, enabled=enabled, with_preview=with_page)

    def reduce_to(self, pixels: Pixels, width: int, height: int) -> Pixels:
        """The pixels of a level at a smaller size, by the method of this job."""
        from fasttile.scaling import reduce_to  # few cuts have thumbnails

        method, alpha = self.plan.options.shrink, self.image.has_alpha
        return reduce_to(pixels, width, height, method=method, alpha=alpha, light=self.light)

    def write_tiles(
        self, sink: Sink, journal: Journal | None, reporter: ProgressReporter
    ) -> TileCounts:
        """Write all tiles that the journal does not have, and the layout's level images.

        Raises:
            SourceError, TargetError: The image cannot be read, or the tiles not stored.
            CancelledError: The callback returned False.
        """
        with self.open_pipeline(sink, journal) as pipeline:
            whole_levels = self.whole_levels(enabled=isinstance(sink, PathSink | FileSink))
            encode_all(self.tile_runs(), pipeline, whole_levels, sink, reporter)
        before = TileCounts.from_journal(journal)
        return replace(before, tiles=pipeline.tiles, blanks=pipeline.blanks, bytes=pipeline.bytes)


def encode_all(
    runs: Iterator[TileRun],
    pipeline: Pipeline,
    whole_levels: WholeLevels,
    sink: Sink,
    reporter: ProgressReporter,
) -> None:
    """Encode and store the tiles of a walk, and the images of complete levels."""

    def report() -> None:
        reporter(pipeline.tiles + pipeline.blanks, pipeline.bytes)

    for run in runs:
        whole_levels.add_run(run)
        pipeline.put(run)
        report()
    pipeline.drain(report)
    for image, pixels in whole_levels.images():
        assert isinstance(sink, PathSink)  # containers of layouts with such images have paths
        sink.add(image.paths, pipeline.encode_image(whole_levels.level_of(image), pixels))
    if isinstance(sink, FileSink):
        whole_levels.add_preview(sink, pipeline)


class WholeLevels:
    """Collects the pixels of the levels of which a layout stores complete images.

    Args:
        layout: Lists them in `whole_images`; its tiles do not overlap.
        reduce_to: Makes an image of this width and height of a level.
        enabled: False for a shard, which has no complete level, and a sink without paths.
        with_preview: True if there is a page, which gets a preview of one more level.
    """

    def __init__(
        self,
        layout: Layout,
        reduce_to: Callable[[Pixels, int, int], Pixels],
        *,
        enabled: bool = True,
        with_preview: bool = False,
    ) -> None:
        self._layout = layout
        self._images = layout.whole_images() if enabled else ()
        self._levels = {image.level for image in self._images}
        self._preview: int | None = None
        if enabled and with_preview:
            from fasttile.viewers.preview import preview_level

            if (level := preview_level(layout.pyramid)) is not None:
                self._preview = level.number
                self._levels.add(level.number)
        self._pyramid = layout.pyramid
        self._reduce_to = reduce_to
        self._pixels: dict[int, Pixels] = {}

    def add_run(self, run: TileRun) -> None:
        """Copy a run's pixels if images are made of its level."""
        level = run.level
        if level.number not in self._levels:
            return
        for tile, pixels in run.tiles():
            image = self._pixels.get(level.number)
            if image is None:
                shape = (level.height, level.width, pixels.shape[2])
                image = self._pixels[level.number] = np.empty(shape, pixels.dtype)
            x, y, width, height = level.region(tile.col, tile.row)
            image[y : y + height, x : x + width] = pixels

    def images(self) -> Iterator[tuple[WholeImage, Pixels]]:
        """Each image and its pixels."""
        for image in self._images:
            pixels = self._pixels[image.level]
            if pixels.shape[:2] != (image.height, image.width):
                pixels = self._reduce_to(pixels, image.width, image.height)
            yield image, pixels

    def add_preview(self, sink: FileSink, pipeline: Pipeline) -> None:
        """Put a preview into the page beside the result, if there is one."""
        if self._preview is None or self._preview not in self._pixels:
            return
        from fasttile.viewers import page_name
        from fasttile.viewers.preview import add_preview

        data = pipeline.encode_single_tile(self._preview, self._pixels[self._preview])
        if data is None:
            return
        sink.change_file(
            page_name(self._layout), lambda page: add_preview(page, self._pyramid, data)
        )

    def level_of(self, image: WholeImage) -> float:
        """The level that an image is, between two of the pyramid: its resolution depends on it."""
        return image.level - math.log2(self._pyramid.levels[image.level].width / image.width)


@contextmanager
def open_job(plan: Plan, source: object) -> Iterator[CutJob]:
    """Open the image of a plan; it is closed at the end of the context.

    Raises:
        OptionError: The options cannot be used for this image.
        SourceError: The image cannot be read.
    """
    started = time.perf_counter()
    path = getattr(source, "path", None) if is_open_pyramid(source) else None
    origin = source if path is None else str(path)
    signature = stat_signature(origin)
    with open_for_cut(source, plan.options) as image:
        if plan.texts is None and plan.has_place_for_texts:
            from fasttile.jobs.descriptions import result_texts  # few cuts have texts

            plan = replace(plan, texts=result_texts(plan, origin))
        job = CutJob.for_source(plan, image)
        yield replace(job, origin=origin, signature=signature, started=started)


def open_for_cut(source: Any, options: CutOptions) -> AbstractContextManager[Source]:
    """Open a source as the options say; an open `Source` or pyramid is converted and stays open.

    Raises:
        OptionError: An option cannot be used, or not for a source that is open already.
        SourceError: The image cannot be read.
    """
    region = None if options.region is None else Region(*options.region)
    convert_profile = None
    if options.icc != "drop":
        convert_profile = partial(convert_deep_profile, keeps_rgb=options.icc == "keep")
    if is_open_pyramid(source) or (options.raw is None and may_be_result(source)):
        from fasttile.readers.source import is_result

        if is_result(source):
            return _open_result(source, options, region, convert_profile)
    if not isinstance(source, Source):
        return open_source(
            source,
            raw=options.raw,
            region=region,
            window=options.window,
            bits=options.bits,
            read_options=read_options_from(options),
            convert_profile=convert_profile,
            to_srgb=None if options.icc == "drop" else convert_to_srgb,
        )
    given = {
        "page": options.page is not None,
        "raw": options.raw is not None,
        "max_pixels": options.max_pixels is not None,
        "allow_truncated": options.allow_truncated,
    }
    for name, is_given in given.items():
        if is_given:
            raise OptionError(
                f"{source.name}: {name}: the source is open already; pass it to open_source"
            )
    return nullcontext(
        adapt_source(
            source,
            region=region,
            window=options.window,
            bits=options.bits,
            read_options=read_options_from(options),
            convert_profile=convert_profile,
        )
    )


@contextmanager
def _open_result(
    source: Any,
    options: CutOptions,
    region: Region | None,
    convert_profile: ProfileConverter | None,
) -> Iterator[Source]:
    """Open the largest level of a result; a reader of the caller stays open."""
    from fasttile.readers.source import open_result_source

    if options.page is not None:
        raise OptionError(f"{source}: page: a result has one image; leave it out")
    with open_result_source(source, partial(_read_options_of_result, options)) as image:
        yield adapt_source(
            image if region is None else crop(image, region),
            region=None,
            window=options.window,
            bits=options.bits,
            read_options=read_options_from(options),
            convert_profile=convert_profile,
        )


def _read_options_of_result(options: CutOptions, reader: PyramidReader) -> ReadOptions:
    """The options of reading a result, whose missing tiles have the background of their own cut."""
    found = read_options_from(options)
    made = recorded_options(reader.record()) if reader.allows_missing_tiles else {}
    if made.get("skip_blank") is None:
        return found
    return replace(found, **_read_background(made["background"]))


def read_options_from(options: CutOptions) -> ReadOptions:
    """The options that `open_source` needs."""
    nodata = None
    if options.nodata is not None:
        from fasttile.options.bands import nodata_value

        nodata = nodata_value(options.nodata_text)
    return ReadOptions(
        page=options.page,
        max_pixels=options.max_pixels,
        allow_truncated=options.allow_truncated,
        keep_cmyk=options.icc != "drop",
        bands=options.bands,
        nodata=nodata,
        **_read_background(options.background),
    )


def _read_background(text: str) -> dict[str, Any]:
    """The fields of `ReadOptions` for a background."""
    background = parse_background(text)
    rgba = background if len(background) == 4 else None
    return {"background": opaque_colour(background), "background_rgba": rgba}
