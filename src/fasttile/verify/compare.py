"""A result compared with its image: walked as a cut walks it, each tile encoded once more."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np

from fasttile.abc.layout import Layout
from fasttile.abc.source import Source
from fasttile.encode.codecs import Png
from fasttile.encode.encoder import BlankCriterion, Encoder, parse_colour
from fasttile.errors import SourceError
from fasttile.formats.jpeg import JpegTableExtractor
from fasttile.geometry import Pyramid, Tile
from fasttile.jobs.cut_job import CutJob, WholeLevels, open_for_cut
from fasttile.jobs.pipeline import Pipeline
from fasttile.jobs.plan import Plan
from fasttile.layouts import LayoutSpec
from fasttile.options.cut import BLANK_THRESHOLD, CutOptions
from fasttile.readers.tiff import TiffReader
from fasttile.sinks import Target
from fasttile.sinks.memory import MemorySink
from fasttile.types import Pixels
from fasttile.verify.check import Checker
from fasttile.verify.encoding import TileEncoding, guess_encoding, tile_bit_depth
from fasttile.verify.report import Fault
from fasttile.verify.similarity import ExactMatchVote, is_lossless, is_within_loss, match_bands
from fasttile.verify.tiles import StoredTiles, decode_or_flaw, ordered_map
from fasttile.walk import TileRun, walk

Result = TypeVar("Result")

ENCODING_DIFFERS = "is not as this encoder makes it of the source"
PIXELS_DIFFER = "differs from the source"


class ExpectedTile(NamedTuple):
    """A tile as it should be.

    Attributes:
        pixels: As the walk gives them.
        data: Encoded.
    """

    pixels: Pixels
    data: bytes


@contextmanager
def open_comparison(checker: Checker, source: object, options: CutOptions) -> Iterator[Comparison]:
    """A result and its image, which is open meanwhile, ready to be compared.

    Raises:
        OptionError: The options do not go with the image.
        SourceError: The image cannot be read, or has another size.
    """
    options = replace(options, bits=tile_bit_depth(checker.tiles))
    encoding = guess_encoding(checker.tiles, options.format, options.quality)
    with open_for_cut(source, options) as image:
        yield Comparison.for_source(checker, image, options, encoding)


def compare(checker: Checker, source: object, options: CutOptions) -> Comparison:
    """Compare a result with its image, and look at what is beside the tiles; see `beside`."""
    with open_comparison(checker, source, options) as found:
        found.run()
    checker.check_extras()
    return found


@dataclass
class Comparison:
    """A result beside its image.

    Attributes:
        look: At the result.
        cutting: How the image becomes tiles.
        encoding: How these are encoded.
        blank: What tiles may be left out, where the layout allows it.
        ballot: On tiles that are nearly right.
        bad_level_images: Paths of level images that differ.
    """

    checker: Checker
    job: CutJob
    encoding: TileEncoding
    blank: BlankCriterion
    vote: ExactMatchVote = field(default_factory=lambda: ExactMatchVote(ENCODING_DIFFERS))
    bad_level_images: set[str] = field(default_factory=set)
    _thread_local: threading.local = field(default_factory=threading.local)

    @classmethod
    def for_source(
        cls, checker: Checker, source: Source, options: CutOptions, encoding: TileEncoding
    ) -> Comparison:
        """The comparison with an open image.

        Raises:
            SourceError: It has not the size that the result shows.
        """
        tiles = checker.tiles
        layout = fit_layout(tiles.layout, source, str(tiles.reader.path))
        background = parse_colour(options.background)
        target = Target(tiles.target, tiles.container, LayoutSpec(type(layout)))
        replacing = replace(options, overwrite=True)  # should it be repaired
        plan = Plan(replacing, target, encoding.codec, background, None)
        threshold = BLANK_THRESHOLD if options.skip_blank is None else options.skip_blank
        cutting = CutJob.for_source(plan, source, layout)
        return cls(checker, cutting, encoding, BlankCriterion(background, threshold))

    @property
    def tiles(self) -> StoredTiles:
        """Of the result."""
        return self.checker.tiles

    def run(self) -> None:
        """Compare all tiles and images of whole levels."""
        whole_levels = WholeLevels(self.job.layout)
        with self.job.open_pipeline(MemorySink()) as pipeline:
            for _ in self.map_runs(partial(self._compare_run, pipeline), whole_levels):
                pass
            for level, paths, pixels in whole_levels.level_images():
                made = ExpectedTile(pixels, pipeline.encode_level_image(level, pixels))
                for path in paths:
                    self._compare_level_image(path, made)
        self.vote.report_to(self.checker.findings)
        if not self.vote.is_majority_exact:
            self.checker.findings.notes.append(
                "most tiles are of another encoder, or of other parameters: they were compared "
                "by what is seen, within what encoding loses"
            )

    def map_runs(
        self, work: Callable[[TileRun], Result], whole_levels: WholeLevels
    ) -> Iterator[Result]:
        """What a function makes of each run of the walk, in its order; it releases them."""
        cutting = self.job
        runs = walk(
            cutting.converted_source,
            cutting.layout.pyramid,
            cutting.plan.options.shrink,
            cutting.fill_values,
        )
        return ordered_map(
            work,
            _collect_level_images(runs, whole_levels),
            self.checker.threads,
            self.checker.on_wait,
        )

    def is_blank(self, pixels: Pixels) -> bool:
        """Whether a tile shows nothing, so that it may be left out."""
        return self._encoder_for("blank").encode(pixels) is None

    def _compare_run(self, pipeline: Pipeline, run: TileRun) -> None:
        try:
            for tile, pixels in run.tiles():
                self._compare_tile(tile, pixels, pipeline)
        finally:
            run.release()

    def _compare_tile(self, tile: Tile, pixels: Pixels, pipeline: Pipeline) -> None:
        tiles, findings = self.tiles, self.checker.findings
        name, made = (
            tiles.tile_name(tile),
            ExpectedTile(pixels, pipeline.encode_level_image(tile.level, pixels)),
        )
        data = tiles.valid_tile(tile, made.data)
        if data is None:
            there = tiles.shares_file(tile) or findings.is_bad(tile)
            if not there and not self.is_blank(pixels):
                findings.mark_missing(Fault(tile, name, "is missing, though it shows something"))
            return
        if self._is_identical(tile, data, made.data):
            self.vote.add_vote(Fault(tile, name, ENCODING_DIFFERS), is_exact=True)
            return
        stored = tiles.valid_pixels(tile, data)
        if stored is None:
            return
        if self._is_similar(stored, tiles.decode(tile, made.data), made):
            lossless = is_lossless(self.encoding.codec)  # then it is as good, to the bit
            self.vote.add_vote(Fault(tile, name, ENCODING_DIFFERS), is_exact=lossless)
        else:
            findings.add(Fault(tile, name, PIXELS_DIFFER))

    def _compare_level_image(self, path: str, expected: ExpectedTile) -> None:
        data, level = self.tiles.read_file(path), expected.pixels.shape
        flaw: str | None
        if isinstance(data, Fault):
            flaw = data.problem
        else:
            flaw = self.tiles.check_level_image(data, (level[1], level[0]))
        if flaw is None and data != expected.data:
            assert isinstance(data, bytes)
            stored = decode_or_flaw(data, max(level))
            if isinstance(stored, str):
                flaw = stored
            elif not self._is_similar(stored, decode_or_flaw(expected.data, max(level)), expected):
                flaw = PIXELS_DIFFER
            elif self.vote.is_majority_exact and not is_lossless(self.encoding.codec):
                flaw = ENCODING_DIFFERS
        if flaw is not None:
            self.bad_level_images.add(path)
            self.checker.findings.add(Fault(None, path, flaw))

    def _is_identical(self, tile: Tile, data: bytes, expected: bytes) -> bool:
        """Whether a tile is stored as it was made, to the byte."""
        if data == expected:
            return True
        if not isinstance(self.tiles.reader, TiffReader) or self.tiles.reader.extension != "jpg":
            return False
        one, other = JpegTableExtractor(), JpegTableExtractor()
        parts = [
            b"".join(map(bytes, each.extract(of))) for each, of in ((one, data), (other, expected))
        ]
        return parts[0] == parts[1] and one.shared == other.shared

    def _is_similar(self, stored: Pixels, decoded: Pixels | str, expected: ExpectedTile) -> bool:
        """Whether a tile shows what it should, if not to the byte."""
        assert not isinstance(decoded, str)
        stored = match_bands(stored, decoded.shape[2])
        if stored.dtype != decoded.dtype:
            return False
        if np.array_equal(stored, decoded):
            return True
        if is_lossless(self.encoding.codec):
            return False
        data = self._encoder_for("truth").encode(expected.pixels)
        truth = decode_or_flaw(data or b"", max(decoded.shape[:2]))
        assert not isinstance(truth, str)
        return is_within_loss(stored, decoded, match_bands(truth, decoded.shape[2]))

    def _encoder_for(self, purpose: str) -> Encoder:
        """The calling thread's own encoder: to see what is blank, or what a tile should show."""
        found: Encoder | None = getattr(self._thread_local, purpose, None)
        if found is None:
            plan, transform = self.job.plan, self.job.colour_plan.transform
            if purpose == "blank":
                found = Encoder(plan.codec, plan.background, transform=transform, blank=self.blank)
            else:
                found = Encoder(Png(compress_level=1), plan.background, transform=transform)
            setattr(self._thread_local, purpose, found)
        return found


def fit_layout(layout: Layout, source: Source, result_name: str) -> Layout:
    """A result's layout on the canvas of the image, which may have larger levels besides.

    Raises:
        SourceError: The result shows another image: it has not this size.
    """
    old = layout.pyramid
    size, canvas = (source.width, source.height), old.canvas
    if not canvas.padded:
        canvas = replace(canvas, width=size[0], height=size[1])
    elif canvas.placement[2:] != size:
        parameters = {one.name: getattr(layout, one.name) for one in fields(layout)[3:]}
        canvas = layout.make_canvas(*size, old.tile_size, **parameters)
    if canvas.level_count >= old.level_count:
        pyramid = Pyramid(canvas, old.tile_size, old.overlap, old.first_level, old.last_level)
        if pyramid.size == old.size and _level_geometry(pyramid) == _level_geometry(old):
            return replace(layout, pyramid=pyramid)
    raise SourceError(
        f"{source.name} has {size[0]}×{size[1]} pixels, but {result_name} shows "
        f"{old.size[0]}×{old.size[1]}: it was cut of another image, or another region"
    )


def _level_geometry(pyramid: Pyramid) -> list[tuple[int, ...]]:
    return [
        (level.width, level.height, level.first_col, level.first_row)
        for level in pyramid.stored_levels
    ]


def _collect_level_images(runs: Iterator[TileRun], whole_levels: WholeLevels) -> Iterator[TileRun]:
    for run in runs:
        whole_levels.add_run(run)
        yield run
