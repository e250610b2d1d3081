"""A result compared with its picture: walked as a cut walks it, each tile encoded once more."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..blank import Blank
from ..codec import Png
from ..colour import managed
from ..cutting import Cutting
from ..encoder import Encoder, parse_colour
from ..errors import SourceError
from ..geometry import Pyramid, Region, Tile
from ..job import reading_of
from ..layouts.base import Layout
from ..layouts.choice import LayoutChoice
from ..options import CutOptions
from ..pipeline import Pipeline
from ..plan import Plan
from ..pyramid import Run, walk
from ..readers.tiff import TiffReader
from ..sinks.jpegstream import Shortener
from ..sinks.memory import MemorySink
from ..sources import open_source
from ..sources.base import Source
from ..targets import Target
from ..wholes import Wholes
from .intact import pixels_of
from .likeness import Ballot, alike, is_as_near, is_lossless
from .looking import Look
from .parameters import Encoding, bits_of, encoding_of
from .report import Fault
from .sidebyside import side_by_side
from .stored import Tiles

Pixels = NDArray[Any]
Result = TypeVar("Result")

BLANK_THRESHOLD = 5
"""By how much of 255 a tile that is left out may differ from the background."""

OTHERWISE = "is not as this encoder makes it of the source"
DIFFERENT = "differs from the source"


class Made(NamedTuple):
    """A tile as it should be.

    Attributes:
        pixels: As the walk gives them.
        data: Encoded.
    """

    pixels: Pixels
    data: bytes


@contextmanager
def beside(look: Look, source: object, wishes: CutOptions) -> Iterator[Comparison]:
    """A result and its picture, which is open meanwhile, ready to be compared.

    Raises:
        OptionError: The options do not go with the picture.
        SourceError: The picture cannot be read, or has another size.
    """
    wishes = replace(wishes, bits=bits_of(look.tiles))
    encoding = encoding_of(look.tiles, wishes.format, wishes.quality)
    with opened(source, wishes) as picture:
        yield Comparison.of(look, picture, wishes, encoding)


def compare(look: Look, source: object, wishes: CutOptions) -> Comparison:
    """Compare a result with its picture, and look at what is beside the tiles; see `beside`."""
    with beside(look, source, wishes) as found:
        found.run()
    look.around()
    return found


def opened(source: object, wishes: CutOptions) -> AbstractContextManager[Source]:
    """The picture, as a cut would open it."""
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


@dataclass
class Comparison:
    """A result beside its picture.

    Attributes:
        look: At the result.
        cutting: How the picture becomes tiles.
        encoding: How these are encoded.
        blank: What tiles may be left out, where the layout allows it.
        ballot: On tiles that are nearly right.
        bad_wholes: Paths of pictures of whole levels that are wrong.
    """

    look: Look
    cutting: Cutting
    encoding: Encoding
    blank: Blank
    ballot: Ballot = field(default_factory=lambda: Ballot(OTHERWISE))
    bad_wholes: set[str] = field(default_factory=set)
    _own: threading.local = field(default_factory=threading.local)

    @classmethod
    def of(cls, look: Look, picture: Source, wishes: CutOptions, encoding: Encoding) -> Comparison:
        """The comparison with an open picture.

        Raises:
            SourceError: It has not the size that the result shows.
        """
        tiles = look.tiles
        layout = fitting(tiles.layout, picture, str(tiles.reader.path))
        background = parse_colour(wishes.background)
        target = Target(tiles.target, tiles.container, LayoutChoice(type(layout)))
        replacing = replace(wishes, overwrite=True)  # should it be repaired
        plan = Plan(replacing, target, encoding.codec, background, None)
        keeps_grey = encoding.codec.keeps_grey
        colours = managed(picture, wishes.icc, keeps_grey=keeps_grey)
        threshold = BLANK_THRESHOLD if wishes.skip_blank is None else wishes.skip_blank
        cutting = Cutting(plan, picture, layout, colours)
        return cls(look, cutting, encoding, Blank(background, threshold))

    @property
    def tiles(self) -> Tiles:
        """Of the result."""
        return self.look.tiles

    def run(self) -> None:
        """Compare all tiles and pictures of whole levels."""
        wholes = Wholes(self.cutting.layout)
        with self.cutting.pipeline(MemorySink()) as pipeline:
            for _ in self.on_runs(partial(self._at_run, pipeline), wholes):
                pass
            for level, paths, pixels in wholes.pictures():
                made = Made(pixels, pipeline.encoded(level, pixels))
                for path in paths:
                    self._at_whole(path, made)
        self.ballot.count(self.look.findings)
        if not self.ballot.is_ours:
            self.look.findings.notes.append(
                "most tiles are of another encoder, or of other parameters: they were compared "
                "by what is seen, within what encoding loses"
            )

    def on_runs(self, work: Callable[[Run], Result], wholes: Wholes) -> Iterator[Result]:
        """What a function makes of each run of the walk, in its order; it releases them."""
        cutting = self.cutting
        runs = walk(
            cutting.converted, cutting.layout.pyramid, cutting.plan.wishes.shrink, cutting.pad
        )
        return side_by_side(work, _taken(runs, wholes), self.look.threads, self.look.meanwhile)

    def is_blank(self, pixels: Pixels) -> bool:
        """Whether a tile shows nothing, so that it may be left out."""
        return self._encoder("blank").encode(pixels) is None

    def _at_run(self, pipeline: Pipeline, run: Run) -> None:
        try:
            for tile, pixels in run.tiles():
                self._at_tile(tile, pixels, pipeline)
        finally:
            run.release()

    def _at_tile(self, tile: Tile, pixels: Pixels, pipeline: Pipeline) -> None:
        tiles, findings = self.tiles, self.look.findings
        name, made = tiles.name(tile), Made(pixels, pipeline.encoded(tile.level, pixels))
        data = tiles.whole(tile, made.data)
        if data is None:
            there = tiles.is_shared(tile) or findings.is_bad(tile)
            if not there and not self.is_blank(pixels):
                findings.miss(Fault(tile, name, "is missing, though it shows something"))
            return
        if self._same(tile, data, made.data):
            self.ballot.cast(Fault(tile, name, OTHERWISE), exact=True)
            return
        stored = tiles.pixels(tile, data)
        if stored is None:
            return
        if self._is_near(stored, tiles.decoded(tile, made.data), made):
            lossless = is_lossless(self.encoding.codec)  # then it is as good, to the bit
            self.ballot.cast(Fault(tile, name, OTHERWISE), exact=lossless)
        else:
            findings.add(Fault(tile, name, DIFFERENT))

    def _at_whole(self, path: str, made: Made) -> None:
        data, level = self.tiles.read(path), made.pixels.shape
        flaw: str | None
        if isinstance(data, Fault):
            flaw = data.what
        else:
            flaw = self.tiles.whole_flaw(data, (level[1], level[0]))
        if flaw is None and data != made.data:
            assert isinstance(data, bytes)
            stored = pixels_of(data, max(level))
            if isinstance(stored, str):
                flaw = stored
            elif not self._is_near(stored, pixels_of(made.data, max(level)), made):
                flaw = DIFFERENT
            elif self.ballot.is_ours and not is_lossless(self.encoding.codec):
                flaw = OTHERWISE
        if flaw is not None:
            self.bad_wholes.add(path)
            self.look.findings.add(Fault(None, path, flaw))

    def _same(self, tile: Tile, data: bytes, made: bytes) -> bool:
        """Whether a tile is stored as it was made, to the byte."""
        if data == made:
            return True
        if not isinstance(self.tiles.reader, TiffReader) or self.tiles.reader.extension != "jpg":
            return False
        one, other = Shortener(), Shortener()
        parts = [b"".join(map(bytes, each.parts(of))) for each, of in ((one, data), (other, made))]
        return parts[0] == parts[1] and one.shared == other.shared

    def _is_near(self, stored: Pixels, wanted: Pixels | str, made: Made) -> bool:
        """Whether a tile shows what it should, if not to the byte."""
        assert not isinstance(wanted, str)
        stored = alike(stored, wanted.shape[2])
        if stored.dtype != wanted.dtype:
            return False
        if np.array_equal(stored, wanted):
            return True
        if is_lossless(self.encoding.codec):
            return False
        data = self._encoder("truth").encode(made.pixels)
        truth = pixels_of(data or b"", max(wanted.shape[:2]))
        assert not isinstance(truth, str)
        return is_as_near(stored, wanted, alike(truth, wanted.shape[2]))

    def _encoder(self, use: str) -> Encoder:
        """The calling thread's own encoder: to see what is blank, or what a tile should show."""
        found: Encoder | None = getattr(self._own, use, None)
        if found is None:
            plan, transform = self.cutting.plan, self.cutting.colours.transform
            if use == "blank":
                found = Encoder(plan.codec, plan.background, transform=transform, blank=self.blank)
            else:
                found = Encoder(Png(compress_level=1), plan.background, transform=transform)
            setattr(self._own, use, found)
        return found


def fitting(layout: Layout, picture: Source, name: str) -> Layout:
    """A result's layout on the canvas of the picture, which may have larger levels besides.

    Raises:
        SourceError: The result shows another picture: it has not this size.
    """
    old = layout.pyramid
    size, canvas = (picture.width, picture.height), old.canvas
    if not canvas.padded:
        canvas = replace(canvas, width=size[0], height=size[1])
    elif canvas.placement[2:] != size:
        parameters = {one.name: getattr(layout, one.name) for one in fields(layout)[3:]}
        canvas = layout.canvas(*size, old.tile_size, **parameters)
    if canvas.level_count >= old.level_count:
        pyramid = Pyramid(canvas, old.tile_size, old.overlap, old.first, old.last)
        if pyramid.size == old.size and _grids(pyramid) == _grids(old):
            return replace(layout, pyramid=pyramid)
    raise SourceError(
        f"{picture.name} has {size[0]}×{size[1]} pixels, but {name} shows "
        f"{old.size[0]}×{old.size[1]}: it was cut of another picture, or another region"
    )


def _grids(pyramid: Pyramid) -> list[tuple[int, ...]]:
    return [
        (level.width, level.height, level.first_col, level.first_row)
        for level in pyramid.kept_levels
    ]


def _taken(runs: Iterator[Run], wholes: Wholes) -> Iterator[Run]:
    for run in runs:
        wholes.take(run)
        yield run
