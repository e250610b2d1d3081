"""Comparison of a result with its image: the walk of a cut, each tile encoded again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from fasttile.abc.layout import Layout
from fasttile.abc.source import Source
from fasttile.encode.codecs import Png
from fasttile.encode.encoder import BlankCriterion, Encoder
from fasttile.errors import SourceError
from fasttile.formats.jpeg import JpegTableExtractor
from fasttile.geometry import Pyramid, Tile
from fasttile.jobs.cut_job import CutJob, WholeLevels, open_for_cut
from fasttile.jobs.pipeline import Pipeline
from fasttile.jobs.plan import Plan, read_background
from fasttile.layouts import LayoutSpec
from fasttile.options.cut import BLANK_THRESHOLD, CutOptions
from fasttile.sinks import Target
from fasttile.sinks.memory import MemorySink
from fasttile.types import Pixels
from fasttile.verify.check import Checker
from fasttile.verify.encoding import TileEncoding, guess_encoding, tile_bit_depth
from fasttile.verify.report import Fault
from fasttile.verify.similarity import (
    ExactMatchVote,
    has_alpha,
    is_lossless,
    is_opaque,
    is_within_loss,
    match_bands,
)
from fasttile.verify.tiles import StoredTiles, decode_or_flaw, ordered_map
from fasttile.walk import TileRun

Result = TypeVar("Result")

ENCODING_DIFFERS = "differs from the encoded source"
PIXELS_DIFFER = "differs from the source"


class ExpectedTile(NamedTuple):
    """The right content of a tile.

    Attributes:
        pixels: The pixels of the walk, before colour conversion.
        data: The encoded tile.
    """

    pixels: Pixels
    data: bytes


@contextmanager
def open_comparison(checker: Checker, source: object, options: CutOptions) -> Iterator[Comparison]:
    """Open the image of a result for a comparison.

    Raises:
        OptionError: The options do not fit the image.
        SourceError: The image cannot be read, or has another size.
    """
    options = replace(options, bits=tile_bit_depth(checker.tiles))
    encoding = guess_encoding(checker.tiles, options.format_text, options.quality)
    with open_for_cut(source, options) as image:
        yield Comparison.for_source(checker, image, options, encoding)


def compare(checker: Checker, source: object, options: CutOptions) -> Comparison:
    """Compare a result with its image, and check descriptors and extra files."""
    with open_comparison(checker, source, options) as comparison:
        comparison.run()
    checker.check_extras()
    return comparison


@dataclass
class Comparison:
    """A result and its image.

    Attributes:
        checker: The checker of the result.
        job: The cut of the image that makes the result.
        encoding: The encoding of the tiles.
        blank: Criterion of tiles that may be missing, where the layout allows it.
        vote: Decides on tiles with a small difference.
        bad_level_images: Paths of wrong images of levels.
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
            SourceError: The image has another size than the result.
        """
        tiles = checker.tiles
        layout = fit_layout(tiles.layout, source, str(tiles.reader.path))
        target = Target(Path(tiles.target), tiles.reader.container, LayoutSpec(type(layout)))
        background = read_background(options, target, encoding.codec)
        plan = Plan(replace(options, overwrite=True), target, encoding.codec, background, None)
        threshold = BLANK_THRESHOLD if options.skip_blank is None else options.skip_blank
        job = CutJob.for_source(plan, source, layout)
        return cls(checker, job, encoding, BlankCriterion(background, threshold))

    @property
    def tiles(self) -> StoredTiles:
        """The tiles of the result."""
        return self.checker.tiles

    def run(self) -> None:
        """Compare all tiles and images of levels."""
        whole_levels = self.job.whole_levels()
        with self.job.open_pipeline(MemorySink()) as pipeline:

            def compare_run(run: TileRun) -> None:
                for tile, pixels in run.tiles():
                    self._compare_tile(tile, pixels, pipeline)

            for _ in self.map_runs(compare_run, whole_levels):
                pass
            for image, pixels in whole_levels.images():
                level = whole_levels.level_of(image)
                expected = ExpectedTile(pixels, pipeline.encode_image(level, pixels))
                for path in image.paths:
                    self._compare_level_image(path, expected)
        self.vote.report_to(self.checker.findings)
        if not self.vote.is_majority_exact:
            self.checker.findings.notes.append(
                "most tiles come from another encoder or other parameters: their pixels were "
                "compared, with the loss of encoding as tolerance"
            )

    def map_runs(
        self, work: Callable[[TileRun], Result], whole_levels: WholeLevels
    ) -> Iterator[Result]:
        """Results of a function for each run of the walk, in order; it releases the runs."""
        job = self.job
        runs = job.walk(job.converted_source, job.layout.pyramid)

        def collected() -> Iterator[TileRun]:
            for run in runs:
                whole_levels.add_run(run)
                yield run

        def work_and_release(run: TileRun) -> Result:
            try:
                return work(run)
            finally:
                run.release()

        return ordered_map(
            work_and_release, collected(), self.checker.threads, self.checker.on_wait
        )

    def _compare_tile(self, tile: Tile, pixels: Pixels, pipeline: Pipeline) -> None:
        tiles, findings = self.tiles, self.checker.findings
        name = tiles.tile_name(tile)
        expected = ExpectedTile(pixels, pipeline.encode_image(tile.level, pixels))
        data = tiles.valid_tile(tile, expected.data)
        if data is None:
            may_be_missing = tiles.shares_file(tile) or findings.is_bad(tile)
            if not may_be_missing and self._encoder_for("blank").encode(pixels) is not None:
                findings.mark_missing(Fault(tile, name, "is missing, though it is not blank"))
            return
        self._compare_file(tile, name, data, expected)
        half = pipeline.encode_half(tile.level, pixels)
        if half is not None:
            flaw, data = tiles.half_flaw(tile)
            if flaw is None and data is not None:
                expected = ExpectedTile(self.job.halve(pixels), half)
                self._compare_file(tile, tiles.layout.half_path(tile), data, expected)

    def _compare_file(self, tile: Tile, name: str, data: bytes, expected: ExpectedTile) -> None:
        """Compare a file of a tile that has no flaw."""
        if self._is_identical(data, expected.data):
            self.vote.add_vote(Fault(tile, name, ENCODING_DIFFERS), is_exact=True)
            return
        tiles, findings = self.tiles, self.checker.findings
        stored = tiles.decode(tile, data)
        if isinstance(stored, str):
            findings.add(Fault(tile, name, stored))
        elif self._is_similar(stored, tiles.decode(tile, expected.data), expected):
            lossless = is_lossless(self.encoding.codec)  # then all pixels are equal
            self.vote.add_vote(Fault(tile, name, ENCODING_DIFFERS), is_exact=lossless)
        else:
            findings.add(Fault(tile, name, PIXELS_DIFFER))

    def _compare_level_image(self, path: str, expected: ExpectedTile) -> None:
        data, level = self.tiles.read_file(path), expected.pixels.shape
        flaw: str | None
        if isinstance(data, Fault):
            flaw = data.problem
        else:
            flaw = self.tiles.level_image_flaw(data, (level[1], level[0]))
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

    def _is_identical(self, data: bytes, expected: bytes) -> bool:
        """True if a tile has the expected bytes; in a TIFF its tables may be elsewhere."""
        if data == expected:
            return True
        reader = self.tiles.reader
        if reader.container != "tiff" or reader.extension != "jpg":
            return False
        first, second = JpegTableExtractor(), JpegTableExtractor()
        own_parts = b"".join(map(bytes, first.extract(data)))
        return (
            own_parts == b"".join(map(bytes, second.extract(expected)))
            and first.shared == second.shared
        )

    def _is_similar(self, stored: Pixels, decoded: Pixels | str, expected: ExpectedTile) -> bool:
        """True if the pixels of a tile differ by the loss of encoding at most."""
        assert not isinstance(decoded, str)
        if not has_alpha(decoded) and not is_opaque(stored):
            return False
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
        """Encoder of the calling thread; "blank": blank tiles are None; "truth": lossless."""
        encoder: Encoder | None = getattr(self._thread_local, purpose, None)
        if encoder is None:
            plan, transform = self.job.plan, self.job.colour_plan.transform
            if purpose == "blank":
                encoder = Encoder(
                    plan.codec, plan.background, transform=transform, blank=self.blank
                )
            else:
                encoder = Encoder(Png(compress_level=1), plan.background, transform=transform)
            setattr(self._thread_local, purpose, encoder)
        return encoder


def fit_layout(layout: Layout, source: Source, result_name: str) -> Layout:
    """The layout of a result on the canvas of the image, which may have larger levels too.

    Raises:
        SourceError: The image has another size than the result.
    """
    old = layout.pyramid
    size, canvas = (source.width, source.height), old.canvas
    if not canvas.padded:
        canvas = replace(canvas, width=size[0], height=size[1])
    elif canvas.placement[2:] != size:
        parameters = {one.name: getattr(layout, one.name) for one in layout.parameter_fields()}
        canvas = layout.make_canvas(*size, old.tile_size, **parameters)
    if canvas.level_count >= old.level_count:
        pyramid = Pyramid(canvas, old.tile_size, old.overlap, old.first_level, old.last_level)
        if pyramid.size == old.size and _level_geometry(pyramid) == _level_geometry(old):
            return replace(layout, pyramid=pyramid)
    raise SourceError(
        f"{source.name}: {size[0]}×{size[1]} pixels, but {result_name} has "
        f"{old.size[0]}×{old.size[1]}; give the image and the region of the cut"
    )


def _level_geometry(pyramid: Pyramid) -> list[tuple[int, ...]]:
    return [
        (level.width, level.height, level.first_col, level.first_row)
        for level in pyramid.stored_levels
    ]
