"""`convert`: the tiles of a result in another layout or container, byte for byte.

Tiles can be taken as they are if both layouts divide each level into the same tiles: the same
size, the same pixels, and the same rows and columns up to a shift. The geometry of both decides
that; the tables of layouts are not compared.
"""

from __future__ import annotations

import os
import time
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fasttile.abc.layout import Layout
from fasttile.abc.reader import ResultReader
from fasttile.abc.sink import PathSink, ResumableSink, Sink
from fasttile.abc.source import Metadata
from fasttile.errors import OptionError, SourceError, TargetError
from fasttile.formats.images import TileFileCheck, read_image_size, read_tile_header
from fasttile.formats.jpeg import jpeg_frame
from fasttile.geometry import Level, Pyramid, Region, Tile
from fasttile.jobs.converted_files import (
    add_whole_images,
    converted_manifest,
    converted_page,
)
from fasttile.jobs.cut import CutReport, cut, described, resume_notes
from fasttile.jobs.fingerprint import check_unchanged, source_fingerprint, stat_signature
from fasttile.jobs.footprint import check_job
from fasttile.jobs.georeference import map_notes
from fasttile.jobs.plan import Plan, resolve_target
from fasttile.jobs.progress import (
    CancelToken,
    CutProgressCallback,
    ProgressReporter,
    TileCounts,
    with_cancel,
)
from fasttile.jobs.record import converted_record, recorded_options
from fasttile.jobs.texts import recorded_texts
from fasttile.layouts import LayoutSpec, layout_class
from fasttile.layouts.xyz import ZoomLayout
from fasttile.options import OptionObject
from fasttile.options.cut import CutOptions
from fasttile.readers import open_result
from fasttile.sinks import Target
from fasttile.sinks.registry import CONTAINER_NAMES, check_halves, create_sink
from fasttile.storage.object_files import ObjectPath
from fasttile.storage.paths import encode_name, target_text
from fasttile.storage.system import log_notes

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from fasttile.sinks.tiff import TiffSamples
    from fasttile.storage.journal import Journal

_CODECS = {"jpg": "jpeg", "jpeg": "jpeg", "png": "png", "webp": "webp", "avif": "avif"}
"""The codecs of tiles that fasttile also encodes, by their extension."""

_SPAN_TILES = 1024
"""Tiles of a row that are copied between two reports and lines of the journal."""

_REMOTE_SPAN_TILES, _REMOTE_REQUESTS = 128, 16
"""The same for results in object stores, and tiles that are requested at a time."""

_MANY_TILES, _MAX_EMPTY_SHARE = 2**22, 2**10
"""A result with places for more tiles has at least one tile for this number of places."""


def convert(
    source: str | os.PathLike[str] | ResultReader,
    dest: str | os.PathLike[str],
    *,
    layout: str | OptionObject | None = None,
    reencode: bool = False,
    viewer: str | None = None,
    overwrite: bool = False,
    resume: bool = False,
    progress: CutProgressCallback | bool | None = None,
    cancel: CancelToken | None = None,
) -> CutReport:
    """Move a result into another layout or container without decoding a tile.

    The new result appears when it is complete, as that of `cut`. Each tile has the bytes that it
    has in the source; tiles that are missing there because they show only the background stay
    missing.

    Args:
        source: The path or address of a result, as for `open_pyramid`, or an open one, which stays
            open.
        dest: As for `cut`.
        layout: See `cut`. Default: by the extension of dest, else the source's own.
        reencode: True to cut the source's largest level, in the format of its tiles, where these
            cannot be taken as they are; JPEG is compressed a second time then.
        viewer: "openseadragon", "openlayers" or "leaflet": also write a page that shows it.
        overwrite: Replace an existing result, only once the new one is complete.
        resume: Keep a journal, so that the same call continues after an interruption.
        progress: Called at most every 0.1 s from the calling thread; returning False cancels. True
            shows it: a bar in a notebook or on a terminal, else a line every 30 s.
        cancel: A token by which another thread cancels.

    Returns:
        The report; `blanks` are the tiles that are missing in the source.

    Raises:
        OptionError: The tiles cannot be taken as they are, or an option cannot be used.
        SourceError: There is no result, or a tile is missing or damaged.
        TargetError: The new result cannot be written, or one exists and overwrite is off.
        CancelledError: The callback returned False, or the token is cancelled.

    Example:
        >>> fasttile.convert("map.dzi", "map.szi").tiles  # doctest: +SKIP
        8397
    """
    progress = with_cancel(progress, cancel)
    layout = CutOptions(layout=layout).layout_text
    started = time.perf_counter()
    with ExitStack() as stack:
        if isinstance(source, ResultReader):
            reader = source
        elif isinstance(source, str | os.PathLike):
            reader = stack.enter_context(open_result(source))
        else:
            raise OptionError(f"{type(source).__name__}: no result; use cut for images")
        target = _resolve_target(dest, reader, layout)
        if layout is not None:
            target.layout.bind("image", 1, 1, "jpg")  # its parameters, for any source
        target.layout.layout_type.check_extension(reader.extension)
        codec = _CODECS.get(reader.extension, "png")
        named = codec if codec != "avif" else None  # a copy needs no encoder for it
        chosen = CutOptions(format=named, viewer=viewer, overwrite=overwrite, resume=resume)
        try:
            conversion = _match(reader, target, layout)
        except _MismatchError as mismatch:
            if not reencode:
                raise OptionError(
                    f"{reader.path}: its tiles cannot become those of {_describe(target)} as they "
                    f"are: {mismatch}; use --reencode (reencode) to cut them again"
                ) from mismatch
            made = recorded_options(reader.record())
            kept = made.get("format") or ""  # as in webp:lossless
            if target.container == "tiff" and codec != "jpeg":
                codec = kept = "deflate"
            bits: Any = made.get("bits", 8) if codec in ("png", "deflate") else 8
            form = kept if kept.partition(":")[0] == codec else codec
            chosen = replace(chosen, format=form, bits=bits)
            return cut(reader, target, progress=progress, options=chosen)
        report = _Run(conversion, target, chosen).write(progress, started)
    log_notes(report.path, report.notes)
    return report


class _MismatchError(Exception):
    """The reason why tiles cannot be taken as they are, for a message."""


class _LevelPair(NamedTuple):
    """A level of the new result, and the one of the source that has its tiles.

    Attributes:
        new: Of the new result.
        old: Of the source.
        cols, rows: Column and row in the source of the new level's first tile.
    """

    new: Level
    old: Level
    cols: int
    rows: int


@dataclass(frozen=True)
class _Conversion:
    """Two layouts with the same tiles.

    Attributes:
        reader: The source.
        layout: The layout of the new result.
        pairs: Its levels, the smallest first.
        notes: One line each for the user.
    """

    reader: ResultReader
    layout: Layout
    pairs: tuple[_LevelPair, ...]
    notes: tuple[str, ...]


def _describe(target: Target) -> str:
    name = target.layout.layout_type.title
    return name if target.container in ("folder", "tiff") else f"{name} in .{target.container}"


def _resolve_target(
    dest: str | os.PathLike[str], reader: ResultReader, layout: str | None
) -> Target:
    """The target; where its layout is free and not chosen, it is that of the source."""
    old = reader.layout
    text = target_text(dest)
    is_free = not os.path.splitext(text)[1] or text.endswith(("/", ".zip"))  # noqa: PTH122
    if layout is not None or not is_free or old.type_name == "tiff":
        return resolve_target(text, reader, layout)
    target = resolve_target(text, reader, old.type_name)
    parameters = {
        one.name: getattr(old, one.name) for one in old.parameter_fields() if one.name != "centre"
    }
    return replace(target, layout=LayoutSpec(layout_class(old.type_name), parameters))


def _match(reader: ResultReader, target: Target, given: str | None) -> _Conversion:
    """Find the layout of the target that has the tiles of a result.

    Raises:
        _MismatchError: There is none; the message is the reason.
    """
    try:
        _check_tiles_fit(reader, target)
        return _match_layout(reader, target)
    except _MismatchError as mismatch:
        spec = target.layout
        if spec.name == "zoomify" and (given is None or "rounding" not in given):
            other = "ceil" if spec.parameters.get("rounding", "floor") == "floor" else "floor"
            spec = replace(spec, parameters={**spec.parameters, "rounding": other})
            try:
                _match_layout(reader, replace(target, layout=spec))
            except _MismatchError:
                raise mismatch from None
            advice = f"(--layout {spec.option_text()} has the same tiles)"
            raise _MismatchError(f"{mismatch} {advice}") from None
        raise


def _check_tiles_fit(reader: ResultReader, target: Target) -> None:
    """Check that the files of tiles may be in a container."""
    extension, container = reader.extension, target.container
    if reader.container == "tiff" and extension not in ("jpg", "webp"):
        raise _MismatchError(f"its samples are stored as {extension}, and no files")
    if reader.metadata is not None and reader.metadata.icc_profile and container != "tiff":
        raise _MismatchError("their profile is in the tags of the TIFF")
    if container == "tiff" and _CODECS.get(extension) != "jpeg":
        raise _MismatchError(f"TIFF takes JPEG tiles, not {extension}")
    if container in ("pmtiles", "mbtiles") and extension not in _CODECS:
        raise _MismatchError(f"{CONTAINER_NAMES[container]} holds no {extension} tiles")
    if extension in target.layout.layout_type.refused_formats:
        raise _MismatchError(f"{_describe(target)} has no name for {extension}")
    if isinstance(reader.layout, ZoomLayout):
        level = reader.pyramid.stored_levels[-1]
        data = reader.raw_tile(Tile(level.number, level.cols - 1, level.rows - 1))
        with suppress(SourceError):  # a damaged tile is named when it is copied
            width, height = read_image_size(data or b"", "")
            if min(width, height) < level.tile_size - 1:
                raise _MismatchError(f"they have no padding at the edge: {width}×{height} pixels")


def _match_layout(reader: ResultReader, target: Target) -> _Conversion:
    old, kind = reader.layout, target.layout.layout_type
    in_archive = target.container in ("zip", "szi")
    name = encode_name(target.name) if in_archive else target.name
    is_short = old.extension == "jpeg" and target.container in ("pmtiles", "mbtiles", "tiff")
    extension = "jpg" if is_short else old.extension
    try:
        if isinstance(old, ZoomLayout) and issubclass(kind, ZoomLayout):
            layout = _zoom_layout(old, target.layout, name, extension)
        else:
            layout = _sized_layout(old, target.layout, name, extension)
    except OptionError as error:
        raise _MismatchError(str(error)) from error
    check_halves(target.container, layout)
    if layout.has_halves and not old.has_halves:
        raise _MismatchError("each tile of scale=2 has its half beside it")
    tops = layout.pyramid.stored_range[-1], old.pyramid.stored_range[-1]
    pairs = []
    for new in layout.pyramid.stored_levels:
        number = tops[1] - (tops[0] - new.number)
        pairs.append(_pair_levels(layout, old, new, old.pyramid.levels[number]))
    left_out = len(old.pyramid.stored_range) - len(pairs)
    notes = []
    if layout.type_name == "tiff" and old.pyramid.canvas.padded:
        notes.append("at the edges, smaller levels are blended with background, as in the source")
    if left_out:
        notes.append(f"{left_out} levels smaller than one tile are left out")
    if layout.type_name == "dzi" and layout.pyramid.first_level:
        notes.append("levels smaller than one tile are missing, as in the source")
    if reader.metadata is not None:
        notes += map_notes(layout, reader.metadata.georeference, old.pyramid.size)
    return _Conversion(reader, layout, tuple(pairs), tuple(notes))


def _zoom_layout(old: ZoomLayout, spec: LayoutSpec, name: str, extension: str) -> Layout:
    """A layout of square canvases for the canvas of another one."""
    kind, pyramid = spec.layout_type, old.pyramid
    assert issubclass(kind, ZoomLayout)
    canvas, parameters = pyramid.canvas, dict(spec.parameters)
    if canvas.padded and kind.cover == "canvas" and canvas.cover == "picture":
        raise _MismatchError(f"{kind.title} has all tiles of the square, {old.title} the image's")
    placement = canvas.placement
    size, tile_size = placement[2:], pyramid.tile_size
    middle = kind.make_canvas(*size, tile_size, centre=True).placement
    is_central = canvas.padded and placement == middle
    if hasattr(kind, "centre"):
        wanted = parameters.get("centre")
        if wanted is not None and canvas.padded and bool(wanted) != is_central:
            there = "not in the middle" if wanted else "in the middle"
            raise _MismatchError(f"the image is {there} of its square")
        parameters["centre"] = is_central
    canvas = replace(canvas, cover=kind.cover)
    kept = pyramid.stored_range
    return kind(name, Pyramid(canvas, tile_size, 0, kept[0], kept[-1]), extension, **parameters)


def _sized_layout(old: Layout, spec: LayoutSpec, name: str, extension: str) -> Layout:
    """A layout of an image of the same size, tiles and levels."""
    kind, pyramid = spec.layout_type, old.pyramid
    canvas = kind.make_canvas(*pyramid.size, pyramid.tile_size, **spec.parameters)
    if issubclass(kind, ZoomLayout) and not spec.parameters.get("centre"):
        # Where the first pixel of the image is the first one of a tile, as in the source.
        canvas = replace(canvas, image=Region(0, 0, *pyramid.size))
        if hasattr(kind, "centre"):
            spec = replace(spec, parameters={**spec.parameters, "centre": False})
    top = canvas.level_count - 1
    first = max(0, top + 1 - len(pyramid.stored_range))
    if kind.default_levels == "one-tile":
        first = max(first, canvas.single_tile_level(pyramid.tile_size))
    made = Pyramid(canvas, pyramid.tile_size, pyramid.overlap, first, top)
    layout = kind(name, made, extension, **spec.parameters)
    layout.check_small_levels()
    return layout


def _pair_levels(layout: Layout, old_layout: Layout, new: Level, old: Level) -> _LevelPair:
    """Find the tiles of a level among those of another result.

    Raises:
        _MismatchError: The tiles differ.
    """
    titles = layout.title, old_layout.title
    sizes = layout.pyramid.image_size(new.number), old_layout.pyramid.image_size(old.number)
    if sizes[0] != sizes[1]:
        (w0, h0), (w1, h1) = sizes
        raise _MismatchError(
            f"{titles[0]} has a level of {w0}×{h0} pixels where {titles[1]} has {w1}×{h1}"
        )
    shifts = [
        (there - here) / new.tile_size
        for here, there in zip(
            _image_offset(layout, new), _image_offset(old_layout, old), strict=True
        )
    ]
    if any(shift.denominator != 1 for shift in shifts):
        raise _MismatchError("their borders are elsewhere in the image")
    cols, rows = map(int, shifts)
    if cols + new.cols > old.cols or rows + new.rows > old.rows or min(cols, rows) < 0:
        raise _MismatchError(f"{titles[0]} has more tiles than {titles[1]}")
    for is_row in (False, True):
        shift, count = (rows, new.rows) if is_row else (cols, new.cols)
        for index in {0, count // 2, count - 1}:
            here = new.row_span(index) if is_row else new.col_span(index)
            there = old.row_span(index + shift) if is_row else old.col_span(index + shift)
            if here[1] - here[0] != there[1] - there[0]:
                raise _MismatchError(
                    f"those at the edge of the image have {there[1] - there[0]} pixels a side in "
                    f"{titles[1]}, and {here[1] - here[0]} in {titles[0]}"
                )
    return _LevelPair(new, old, cols, rows)


def _image_offset(layout: Layout, level: Level) -> tuple[Fraction, Fraction]:
    """Column and row of the image's first pixel in the raster of a level."""
    canvas = layout.pyramid.canvas
    if not canvas.padded:
        return Fraction(0), Fraction(0)
    unit, placement = 1 << layout.pyramid.downscale_exponent(level.number), canvas.placement
    return (
        Fraction(placement.x, unit) - level.first_col * level.tile_size,
        Fraction(placement.y, unit) - level.first_row * level.tile_size,
    )


class _Run:
    """Copies the tiles of a conversion.

    Args:
        conversion: The levels and their tiles.
        target: The place of the new result.
        options: Viewer, overwrite and resume.
    """

    def __init__(self, conversion: _Conversion, target: Target, options: CutOptions) -> None:
        self._conversion = conversion
        self._reader = conversion.reader
        texts = recorded_texts(self._reader.record())
        self._layout = replace(conversion.layout, texts=texts)
        self._origin = str(conversion.reader.path)
        pyramid = self._layout.pyramid
        options = replace(
            options,
            format=options.format or "png",  # of AVIF: nothing is encoded
            tile_size=pyramid.tile_size,
            overlap=pyramid.overlap,
        )
        # Checks the viewer, and knows the names that the result takes.
        plan = Plan.from_options(options, target, self._reader)
        self._plan = described(plan, Path(self._origin).name)
        self._frame: tuple[int, ...] | None = None
        self._pool: Executor | None = None
        self._file_check = TileFileCheck(self._reader.extension)

    def write(self, progress: CutProgressCallback | None, started: float) -> CutReport:
        """Write and publish the new result."""
        plan, layout, reader = self._plan, self._layout, self._reader
        signature, fingerprint = stat_signature(self._origin), None
        if plan.options.resume:
            fingerprint = {
                "conversion": 1,
                "viewer": plan.options.viewer,
                **source_fingerprint(self._origin),
                "layout in full": repr(layout),
            }
        check_job(plan, self._origin)
        self._check_not_empty()
        sink = create_sink(
            plan.target,
            layout,
            overwrite=plan.options.overwrite,
            files={
                **converted_page(plan, layout, reader),
                **converted_manifest(plan, layout, reader),
            },
            samples=self._tiff_samples(),
            fingerprint=fingerprint,
            record=converted_record(reader.record(), layout, reader, plan.options.viewer),
        )
        try:
            notes = [*self._conversion.notes, *layout.notes, *plan.page_notes]
            journal = sink.journal if isinstance(sink, ResumableSink) else None
            if isinstance(sink, ResumableSink) and sink.is_published:
                counts = TileCounts.from_journal(journal)
            else:
                reporter = ProgressReporter(progress, layout.pyramid.tile_count)
                counts = self._copy_tiles(sink, journal, reporter)
                notes += add_whole_images(sink, layout, reader, plan.codec)
            check_unchanged(self._origin, signature)
            sink.finish()
        except BaseException:
            sink.abort()
            raise
        if counts.blanks:
            notes.append(f"{counts.blanks:,} tiles are missing, as in the source")
        notes += resume_notes(plan, counts, "all tiles were copied")
        return CutReport.from_counts(plan.target, layout.pyramid, counts, started, notes)

    def _check_not_empty(self) -> None:
        """Refuse descriptions of far more tiles than there are."""
        reader, count = self._reader, self._reader.tile_count
        if count <= _MANY_TILES or not reader.allows_missing_tiles:
            return
        stored = sum(reader.level_stats(number).tiles for number in reader.pyramid.stored_range)
        if stored * _MAX_EMPTY_SHARE < count:
            raise SourceError(
                f"{reader.path}: it has places for {count:,} tiles, but {stored:,} tiles only; "
                "check its description"
            )

    def _copy_tiles(
        self, sink: Sink, journal: Journal | None, reporter: ProgressReporter
    ) -> TileCounts:
        counts = TileCounts.from_journal(journal)
        is_remote = isinstance(self._reader.path, ObjectPath)
        step = _REMOTE_SPAN_TILES if is_remote else _SPAN_TILES
        with nullcontext() if not is_remote else _request_threads() as self._pool:
            for pair in self._conversion.pairs:
                number, count = pair.new.number, pair.new.cols
                for row in range(pair.new.rows):
                    for first in range(0, count, step):
                        span = (number, row, first, min(count, first + step))
                        if journal is not None and journal.contains(*span):
                            continue
                        copied = self._copy_span(sink, pair, row, range(*span[2:]))
                        counts = counts + copied
                        if journal is not None:
                            journal.record(*span, copied.tiles, copied.blanks, copied.bytes)
                        reporter(counts.tiles + counts.blanks, counts.bytes)
        return counts

    def _copy_span(self, sink: Sink, pair: _LevelPair, row: int, cols: range) -> TileCounts:
        """Copy tiles of a row."""
        level, put, check = pair.new.number, sink.put, self._check_tile
        tiles = nbytes = 0
        old = [Tile(pair.old.number, pair.cols + col, pair.rows + row) for col in cols]
        read = self._read_files
        found = map(read, old) if self._pool is None else self._pool.map(read, old)
        for col, tile, (data, half) in zip(cols, old, found, strict=True):
            if data is None:
                self._check_may_miss(tile)
                continue
            check(tile, data)
            new = Tile(level, col, row)
            put(new, data)
            tiles += 1
            nbytes += len(data)
            if self._layout.has_halves:
                nbytes += self._copy_half(sink, tile, new, half)
        return TileCounts(tiles, len(cols) - tiles, nbytes)

    def _read_files(self, tile: Tile) -> tuple[bytes | None, bytes | None]:
        """A tile, and its half if that is copied; None: there is none."""
        reader = self._reader
        data, half = reader.raw_tile(tile), None
        if self._layout.has_halves and data is not None:
            half = reader.read_file(reader.layout.half_path(tile))
        return data, half

    def _copy_half(self, sink: Sink, tile: Tile, new: Tile, half: bytes | None) -> int:
        """Check and write the half of a tile; return its number of bytes."""
        side = self._layout.pyramid.tile_size // 2
        try:
            if half is None:
                raise ValueError("is missing")
            self._file_check.check(half, (side, side))
        except ValueError as error:
            path = self._reader.layout.half_path(tile)
            raise SourceError(
                f"{self._reader.path}: tile {path} {error}; fasttile verify lists all such tiles"
            ) from error
        assert isinstance(sink, PathSink)  # containers of layouts with halves have paths
        sink.add((self._layout.half_path(new),), half)
        return len(half)

    def _check_may_miss(self, tile: Tile) -> None:
        reader = self._reader
        if not reader.allows_missing_tiles:
            raise SourceError(
                f"{reader.tile_label(tile)} is missing; fasttile verify lists all such tiles"
            )
        if not self._layout.sparse:
            raise TargetError(
                f"{reader.tile_label(tile)} is missing, and {self._layout.title} needs all tiles; "
                "use fasttile cut, which fills in the background"
            )

    def _check_tile(self, tile: Tile, data: bytes) -> None:
        """Check that a tile is a complete image file, as the layout and the container need it."""
        try:
            self._file_check.check(data, self._reader.pyramid.region(tile)[2:])
            frame = jpeg_frame(data) if self._plan.target.container == "tiff" else None
        except ValueError as error:
            raise SourceError(
                f"{self._reader.tile_label(tile)} {error}; fasttile verify lists all such tiles"
            ) from error
        if self._plan.target.container == "tiff":
            self._check_frame(tile, frame)

    def _check_frame(self, tile: Tile, frame: tuple[int, ...] | None) -> None:
        """Check that a tile of a TIFF is like the first one: the tags describe all."""
        side = self._layout.pyramid.tile_size
        if self._frame is None:
            self._frame = frame
        if frame is None or frame != self._frame or frame[:2] != (side, side):
            raise OptionError(
                f"{self._reader.tile_label(tile)} is JPEG of another kind than a TIFF takes, or "
                "than the tiles before it; use fasttile cut instead"
            )

    def _tiff_samples(self) -> TiffSamples | None:
        """The samples of JPEG tiles for a TIFF's tags, by the smallest level's first tile."""
        if self._plan.target.container != "tiff":
            return None
        from fasttile.sinks.tiff import TiffSamples

        pair = self._conversion.pairs[0]
        tile = Tile(pair.old.number, pair.cols, pair.rows)
        data = self._reader.raw_tile(tile)
        if data is None:
            self._check_may_miss(tile)
            raise SourceError(f"{self._reader.tile_label(tile)} is missing")
        self._check_tile(tile, data)
        header = read_tile_header(data, self._reader.tile_label(tile))
        beside = self._reader.metadata or Metadata("")
        return TiffSamples(
            bands=header.bands,
            icc_profile=header.icc_profile or beside.icc_profile,
            resolution=beside.resolution,
            georeference=beside.georeference,
        )


def _request_threads() -> Any:
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(_REMOTE_REQUESTS, thread_name_prefix="fasttile-read")
