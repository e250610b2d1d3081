"""The headers of the images of a mosaic: sizes, places, and what they have in common.

Each image is opened once before anything is read. If kinds or profiles differ, all images are
converted to 8 bits of sRGB.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from fasttile.abc.source import Metadata, Source
from fasttile.errors import OptionError, SourceError
from fasttile.options.read import MIN_LIKELY_PIXELS, ReadOptions
from fasttile.sources.conversions import (
    ConvertedSource,
    ProfileConverter,
    crop,
    select_bands,
    to_output_depth,
)
from fasttile.sources.mosaic import Member, Mosaic, Stored
from fasttile.sources.transforms import colour_pixel, pixel_bytes_of
from fasttile.sources.windows import auto_window, guess_window, sample_values
from fasttile.types import Background, Pixels, Window

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fasttile.options.bands import BandSpec

MAX_OPEN = 32
"""Images that stay open at the same time, beside those that threads are reading. Each has one file
descriptor, or two if it is mapped."""

MAX_OPEN_BYTES = 2**27
"""Bytes that images keep in memory, about, which stay open."""

_MAX_GAPS = 16  # times the pixels of all images that a mosaic may have without max_pixels
_MAX_SAMPLED = 64  # images whose values are inspected for window "auto"
MAX_WARNINGS = 20  # lines about damage that one mosaic keeps
_MAX_EMPTY = 10_000  # columns or rows of a grid without an image

SrgbConverter = Callable[[Source], Source]
"""Makes a source of sRGB of one of 8 bits with a profile, or of CMYK; it takes it over."""


@dataclass(frozen=True)
class MemberOptions:
    """How the images of a mosaic are opened.

    Attributes:
        open_image: Opens one as it is stored.
        bits, window, convert_profile: As for `open_source`.
        read_options: The background of gaps, and the limit of pixels.
        to_srgb: Converts the images if their profiles differ. Default: profiles are ignored then.
    """

    open_image: Callable[[Any], Source]
    bits: Literal[8, 16]
    window: Window
    convert_profile: ProfileConverter | None
    read_options: ReadOptions
    to_srgb: SrgbConverter | None


class ImageKind(NamedTuple):
    """Properties in which images have to agree, or are converted."""

    bands: int
    is_cmyk: bool
    profile: bytes | None

    @property
    def has_alpha(self) -> bool:
        return self.bands in (2, 4) and not self.is_cmyk


class MemberHead(NamedTuple):
    """An image after its header was read."""

    member: Member
    kind: ImageKind
    width: int
    height: int
    window: Window | None  # None: it depends on the values of all such images
    signature: tuple[int, int] | None
    notes: tuple[str, ...]
    resolution: tuple[float, float] | None
    memory_bytes: int
    random_access: bool
    is_read_fully: bool  # a region of it takes as much memory as all of it
    parallel: bool


@dataclass(frozen=True)
class MosaicParts:
    """A mosaic whose images are known; other processes get a copy.

    Attributes:
        name, metadata: As in `Source`.
        members: The images, whose places count from the upper left corner.
        boxes: Left, top, right and bottom of each, shape (images, 4).
        options: How they are opened.
        kind: That of the mosaic.
        fill: The pixel of gaps, shape (bands,).
        to_srgb: True if images are converted to sRGB.
        has_gaps: False if the images cover all of it.
    """

    name: str
    metadata: Metadata
    members: Sequence[MemberHead]
    boxes: NDArray[np.int64]
    options: MemberOptions
    kind: ImageKind
    fill: Pixels
    to_srgb: bool
    has_gaps: bool

    @cached_property
    def random_access(self) -> bool:
        """True if all images have random access."""
        return all(one.random_access for one in self.members)

    @cached_property
    def has_parallel_regions(self) -> bool:
        """True if many threads may read regions of all images."""
        return self.random_access and all(one.parallel for one in self.members)

    @cached_property
    def memory_bytes(self) -> int:
        """Bytes of the images that are open at the same time, about."""
        held = sorted((one.memory_bytes for one in self.members), reverse=True)[:MAX_OPEN]
        if self.random_access:
            return min(sum(held), MAX_OPEN_BYTES)
        pixel_bytes = self.kind.bands * self.fill.itemsize
        events = []  # of images that are decoded completely
        for one, box in zip(self.members, self.boxes.tolist(), strict=True):
            if not one.random_access:
                nbytes = one.width * one.height * pixel_bytes
                events += [(box[1], 1, nbytes), (box[3], 0, -nbytes)]
        most, now = 0, 0
        for _, _, nbytes in sorted(events):
            now += nbytes
            most = max(most, now)
        return most + held[0]


def mosaic_read_options(mosaic: Mosaic, read_options: ReadOptions) -> ReadOptions:
    """The options of reading the images of a mosaic.

    Raises:
        OptionError: Bands are given, and a VRT has chosen them already.
    """
    if not any(member.bands for member in mosaic.members):
        return read_options
    if read_options.band_spec is not None:
        raise OptionError(
            f"{mosaic.name}: bands: a VRT chooses the bands; make another with gdal_translate -b"
        )
    # As in GDAL, whose VRT takes the values of its images as they are.
    return replace(read_options, nodata="none") if read_options.nodata is None else read_options


def read_parts(mosaic: Mosaic, options: MemberOptions) -> tuple[MosaicParts, tuple[int, int]]:
    """Read the headers of all images of a mosaic, and place them; returns its size too.

    Raises:
        OptionError: The bits cannot be used.
        SourceError: An image is missing or damaged in its header, has another size than its
            neighbours in a grid, or the mosaic is too large; the message names the image.
    """
    seen, notes = read_headers(mosaic, options)
    seen, window_note = _with_windows(seen, options)
    boxes, (width, height) = _place(mosaic, seen)
    areas = int(sum(one.width * one.height for one in seen))
    likely = max(MIN_LIKELY_PIXELS, _MAX_GAPS * areas)
    options.read_options.check_pixels(mosaic.name, width, height, likely)
    has_gaps = mosaic.grid is None or areas < width * height
    background = mosaic.background or options.read_options.any_background
    is_plain = len(set(background)) == 1 and background[0] in (0, 255)
    has_clear_gaps = has_gaps and len(background) == 4
    kind, to_srgb, kind_note = _common_kind(
        seen, options, needs_srgb=has_gaps and not is_plain, needs_alpha=has_clear_gaps
    )
    resolutions = {one.resolution for one in seen}
    metadata = Metadata(
        "mosaic",
        icc_profile=kind.profile,
        resolution=resolutions.pop() if len(resolutions) == 1 else None,
        notes=tuple(
            note
            for note in (*mosaic.notes, *notes, window_note, kind_note, *_count_notes(seen))
            if note
        ),
        members=len(seen),
    )
    dtype = np.dtype(np.uint16 if options.bits == 16 else np.uint8)
    parts = MosaicParts(
        mosaic.name,
        metadata,
        seen,
        boxes,
        options,
        kind,
        _fill_pixel(kind, dtype, background, opaque=mosaic.background is not None),
        to_srgb,
        has_gaps,
    )
    return parts, (width, height)


def read_headers(mosaic: Mosaic, options: MemberOptions) -> tuple[list[MemberHead], list[str]]:
    """Open each image for its header; returns them, and notes on those that are left out."""
    seen: list[MemberHead] = []
    failures: list[tuple[str, SourceError]] = []
    profiles: dict[bytes, bytes] = {}
    for member in mosaic.members:
        try:
            one = _examine_member(member, options)
        except SourceError as error:
            failures.append((member.name, error))
            continue
        if one.kind.profile is not None:  # one copy of each profile
            profile = profiles.setdefault(one.kind.profile, one.kind.profile)
            one = one._replace(kind=one.kind._replace(profile=profile))
        seen.append(one)
    if not failures:
        return seen, []
    name, first = failures[0]
    text = str(first) if name in str(first) else f"{name}: {first}"
    others = f" ({len(failures):,} of {len(mosaic.members):,} images)" * (len(failures) > 1)
    if not mosaic.allow_missing or not seen:
        advice = f"; {mosaic.way_out} leaves a gap" if seen else ""
        owner = "" if text.startswith(mosaic.name) else f"{mosaic.name}: "
        raise SourceError(f"{owner}{text}{others}{advice}") from first
    names = ", ".join(name for name, _ in failures[:3]) + " …" * (len(failures) > 3)
    return seen, [f"{len(failures):,} of {len(mosaic.members):,} images are missing: {names}"]


def _examine_member(member: Member, options: MemberOptions) -> MemberHead:
    signature = member.signature()
    with options.open_image(member.image) as opened:
        if opened.draw_level is not None:
            raise SourceError(
                f"{opened.name}: each level of it is drawn by itself, so it cannot be a part of a "
                "mosaic; leave per_level out"
            )
        window = options.window if options.window != "auto" else auto_window(opened, options.bits)
        spec = options.read_options.band_spec
        if spec is not None and spec.is_coloured:
            window = _window_of_colours(opened, spec, options)
        source = convert_member(opened, member, options, "full" if window is None else window)
        metadata = source.metadata
        _, _, width, height = member.part or (0, 0, source.width, source.height)
        held = opened.memory_bytes
        return MemberHead(
            member,
            ImageKind(source.bands, source.is_cmyk, metadata.icc_profile or None),
            width,
            height,
            window,
            signature,
            metadata.notes,
            metadata.resolution,
            held,
            # What is decoded completely is kept only while the walk is within it.
            opened.random_access and held < max(2**22, pixel_bytes_of(opened) // 2),
            held >= pixel_bytes_of(opened),
            opened.has_parallel_regions,
        )


def _window_of_colours(opened: Source, spec: BandSpec, options: MemberOptions) -> Window:
    """The window of bands that get colours, which has to be the same for all images."""
    from fasttile.sources.bands import needs_values

    if needs_values(opened, spec, options.window):
        what = "percentages of a colour file" if spec.table else "window auto"
        raise OptionError(
            f"{opened.name}: bands: {what} would differ between the images of a mosaic; "
            + ("use values" if spec.table else "use --window LOW,HIGH or full (window)")
        )
    known = auto_window(opened, 8) if options.window == "auto" else options.window
    return "full" if known is None else known


def convert_member(
    opened: Source, member: Member, options: MemberOptions, window: Window
) -> Source:
    """Take the part and the bands of an open image, and bring it to the bits of the mosaic."""
    if member.stored is not None:
        _check_stored(opened, member, member.stored)
    if member.part is not None:
        if member.is_complete and member.part[2:] != (opened.width, opened.height):
            raise SourceError(
                f"{member.name}: it has {opened.width}×{opened.height} pixels, and its place "
                f"{member.part.width}×{member.part.height}; images are not resampled, write a TIFF "
                "with gdal_translate"
            )
        try:
            opened = crop(opened, member.part)
        except OptionError as error:
            raise SourceError(f"{member.name}: {error}") from error
    if member.bands and member.bands != tuple(range(1, opened.bands + 1)):
        if max(member.bands) > opened.bands:
            raise SourceError(
                f"{member.name}: it has no band {max(member.bands)}, as it has {opened.bands}"
            )
        order = [band - 1 for band in member.bands]
        if opened.metadata.has_missing and opened.bands not in member.bands:
            order.append(opened.bands - 1)  # the alpha of missing samples
        opened = ConvertedSource(opened, select_bands(order, opened.dtype))

    def reopen() -> Source:
        raise AssertionError("the window of an image of a mosaic is chosen before")

    spec = options.read_options.band_spec
    if spec is not None and spec.is_coloured:
        from fasttile.sources.bands import colour_bands

        opened, window = colour_bands(opened, spec, window, reopen), "full"
    return to_output_depth(opened, options.bits, window, reopen, options.convert_profile)


def _check_stored(opened: Source, member: Member, expected: Stored) -> None:
    """Refuse an image whose pixels are not those that GDAL would read."""
    metadata, notes, problem = opened.metadata, opened.metadata.notes, ""
    stored_type, known_type = opened.dtype, np.dtype(expected.type_name)
    if metadata.orientation != 1:
        problem = f"it is turned as its orientation {metadata.orientation} says, and not in a VRT"
    elif opened.has_alpha and opened.bands in member.bands and "left out" in " ".join(notes):
        problem = f"band {opened.bands} of its VRT may be one that is left out"
    elif ("palette" in metadata.stored_as) != expected.has_palette:
        has, wanted = ("no", "has") if expected.has_palette else ("a", "has not")
        problem = f"it has {has} palette, and its VRT {wanted}"
    elif not (np.can_cast(stored_type, known_type) or stored_type.kind == known_type.kind == "f"):
        problem = f"its values are {stored_type}, and those of its VRT {known_type}"
    if problem:
        raise SourceError(f"{member.name}: {problem}; write a TIFF with gdal_translate")


def _with_windows(
    seen: list[MemberHead], options: MemberOptions
) -> tuple[list[MemberHead], str | None]:
    """Choose one window for all images whose values have to be inspected for it."""
    deep = [one for one in seen if one.window is None]
    if not deep:
        return seen, None
    count = min(len(deep), _MAX_SAMPLED)
    values = []
    for number in range(count):
        member = deep[number * len(deep) // count].member
        with options.open_image(member.image) as opened:
            found = sample_values(opened, partial(options.open_image, member.image))
            values.append(found[:: max(1, count // 4)])
    window, note = guess_window(np.concatenate(values))
    return [one._replace(window=window) if one.window is None else one for one in seen], note


def _place(mosaic: Mosaic, seen: list[MemberHead]) -> tuple[NDArray[np.int64], tuple[int, int]]:
    """The boxes of all images in pixels, and the size of the mosaic."""
    if mosaic.grid is not None:
        cols = np.array([one.member.x for one in seen])
        rows = np.array([one.member.y for one in seen])
        lefts = _edges(mosaic.name, seen, cols, mosaic.grid[0], "column", "width")
        tops = _edges(mosaic.name, seen, rows, mosaic.grid[1], "row", "height")
        boxes = np.stack([lefts[cols], tops[rows], lefts[cols + 1], tops[rows + 1]], axis=1)
        return boxes, (int(lefts[-1]), int(tops[-1]))
    corners = [(one.member.x, one.member.y) for one in seen]
    left, top = (0, 0) if mosaic.size else (min(axis) for axis in zip(*corners, strict=True))
    places = [
        (x - left, y - top, x - left + one.width, y - top + one.height)
        for (x, y), one in zip(corners, seen, strict=True)
    ]
    if max(max(map(abs, place)) for place in places) >= 2**53:
        raise SourceError(f"{mosaic.name}: an image is too far from the others")
    boxes = np.array(places, np.int64)
    return boxes, mosaic.size or (int(boxes[:, 2].max()), int(boxes[:, 3].max()))


def _edges(
    name: str,
    seen: list[MemberHead],
    lines: NDArray[np.int64],
    count: int,
    line: Literal["column", "row"],
    side: Literal["width", "height"],
) -> NDArray[np.int64]:
    """Edges of the columns or rows of a grid, one more than there are.

    Raises:
        SourceError: An image has another size than the others of its line, or a line has none.
    """
    by_line: dict[int, list[MemberHead]] = {}
    for number, one in zip(lines.tolist(), seen, strict=True):
        by_line.setdefault(number, []).append(one)
    sides = np.zeros(count + 1, np.int64)
    for number, ones in by_line.items():
        sizes = Counter(getattr(one, side) for one in ones)
        usual = sizes.most_common(1)[0][0]
        odd = next((one for one in ones if getattr(one, side) != usual), None)
        if odd is not None:
            raise SourceError(
                f"{odd.member.name}: its {side} is {getattr(odd, side):,} pixels, and that of the "
                f"other images in its {line} of the grid {usual:,}; crop it, or place the images "
                "by a CSV file,x,y"
            )
        sides[number + 1] = usual
    empty = [number for number in range(count) if number not in by_line]
    usual_sides = {int(value) for value in sides[1:] if value}
    if empty and (len(usual_sides) != 1 or len(empty) > _MAX_EMPTY):
        raise SourceError(
            f"{name}: {line} {empty[0] + 1:,} of the grid has no image, so that its {side} is not "
            "known; place the images by a CSV file,x,y"
        )
    for number in empty:
        sides[number + 1] = max(usual_sides)
    return np.cumsum(sides)


def _common_kind(
    seen: list[MemberHead], options: MemberOptions, *, needs_srgb: bool, needs_alpha: bool
) -> tuple[ImageKind, bool, str | None]:
    """The kind of the mosaic, whether images are converted to sRGB for it, and a note.

    Args:
        seen: The images.
        options: How they are opened.
        needs_srgb: True if the background of gaps is a colour in sRGB, other than black and white.
        needs_alpha: True if gaps are not opaque.

    Raises:
        OptionError: Gaps are not opaque, and the images have 16 bits.
    """
    kinds = {one.kind for one in seen}
    colours = {kind[1:] for kind in kinds}
    is_eight = options.bits == 8
    to_srgb = is_eight and options.to_srgb is not None
    needs_srgb = needs_srgb and colours != {(False, None)}
    needs_srgb = needs_srgb or (needs_alpha and any(kind.is_cmyk for kind in kinds))
    to_srgb = to_srgb and (len(colours) > 1 or needs_srgb)
    if needs_alpha and not is_eight:
        raise OptionError(
            "background: 16-bit tiles have no alpha, which gaps need; use bits=8, or an opaque "
            "background"
        )
    has_alpha = any(kind.has_alpha for kind in kinds)
    if len(kinds) == 1 and not to_srgb and has_alpha >= needs_alpha:
        return kinds.pop(), False, None
    has_colour = any(kind.bands >= 3 for kind in kinds)
    has_alpha = has_alpha or needs_alpha
    bands = (3 if has_colour else 1) + has_alpha
    is_same = len(colours) == 1 and colours != {(True, None)} and not to_srgb
    profile = None
    if is_same and all((kind.bands >= 3) == has_colour for kind in kinds):
        profile = next(iter(kinds)).profile
    name = {1: "grey", 2: "grey with alpha", 3: "RGB", 4: "RGB with alpha"}[bands]
    note = (
        f"images of {len(kinds)} kinds become {name}" if len(kinds) > 1 else f"images become {name}"
    )
    if to_srgb:
        note += " in sRGB"
    elif len(colours) > 1:
        note += "; their profiles are ignored"
    return ImageKind(bands, is_cmyk=False, profile=profile), to_srgb, note


def _count_notes(seen: list[MemberHead]) -> Iterator[str]:
    """The notes of all images, each with their number."""
    counts = Counter(note for one in seen for note in one.notes)
    for note, count in counts.most_common(MAX_WARNINGS):
        yield note if count == len(seen) else f"{note} ({count:,} of {len(seen):,} images)"


def _fill_pixel(
    kind: ImageKind, dtype: np.dtype[Any], background: Background, *, opaque: bool
) -> Pixels:
    """The pixel of gaps: transparent if the mosaic has alpha and no background of its own."""
    if kind.has_alpha and not opaque and len(background) == 3:
        return np.zeros(kind.bands, dtype)
    red, green, blue, *alpha = background
    colours = (red, green, blue)
    pixel = colour_pixel(colours, kind.bands - kind.has_alpha, dtype, is_cmyk=kind.is_cmyk)
    opacity = alpha[0] if alpha else np.iinfo(dtype).max
    return np.append(pixel, opacity).astype(dtype) if kind.has_alpha else pixel
