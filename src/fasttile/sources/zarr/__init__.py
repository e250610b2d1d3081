"""Images in Zarr (versions 2 and 3), OME-Zarr and N5: folders, ZIPs, and addresses of them.

The path may name an array, or a group with an image: of its levels the largest is read. Chunks are
decoded line by line, each once; `docs/ZARR.md` has the rules.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fasttile.abc.source import Metadata, Source
from fasttile.errors import MissingPageError, SourceError, redact_url
from fasttile.formats.ngff import n5_resolution
from fasttile.formats.zarr import ArrayHeader
from fasttile.geometry import Region
from fasttile.options.bands import MAX_TINTS
from fasttile.options.read import MIN_LIKELY_PIXELS, ReadOptions, note_on_pages
from fasttile.sources.arrays import MAX_COLOUR_BANDS, SlicedSource
from fasttile.sources.bands import banded_metadata, check_numbers
from fasttile.sources.conversions import ConvertedSource, bool_to_uint8
from fasttile.sources.files import ArrayName, scheme_of
from fasttile.sources.missing import mark_value
from fasttile.sources.zarr.chunks import ChunkedImage, check_budget
from fasttile.sources.zarr.groups import FoundArray, find_array
from fasttile.storage.budget import BUDGET
from fasttile.storage.file_trees import FileTree, ZipTree
from fasttile.storage.object_files import open_tree, place_of
from fasttile.storage.random_access import RandomAccessFile, SourceFile

_AXES = "tczyx"
_MOST_EXPANSION = 2**15  # bytes of samples for each byte of chunks, as many may be missing
_MAX_UNLISTED_PIXELS = 2**40  # of an array whose files a server cannot list
_RGB = ("#ff0000", "#00ff00", "#0000ff")
_METADATA_FILES = ("zarr.json", ".zarray", ".zgroup")


def open_zarr(named: ArrayName, read_options: ReadOptions) -> Source:
    """Open the image in a folder of Zarr or N5, or behind an address.

    Args:
        named: Path or address, and perhaps the axes.
        read_options: Pages are the planes along t and z; bands are those along c.

    Raises:
        SourceError: There is no image, or one that cannot be shown without a choice.
    """
    place = named.place.rstrip("/") or named.place
    name, scheme = redact_url(place), scheme_of(place)
    files: FileTree
    if scheme in ("http", "https"):
        from fasttile.sources.zarr.http_tree import HttpTree

        files = HttpTree(place)
    else:
        files = open_tree(place_of(place, scheme))
    is_remote = scheme not in (None, "file")
    return _open_image(files, name, named.axes, read_options, is_remote=is_remote)


def open_zarr_zip(file: SourceFile, read_options: ReadOptions) -> Source | None:
    """Open the image in a ZIP with an array or a group at its top; None for other ZIPs.

    Raises:
        SourceError: There is no image, or one that cannot be shown without a choice.
    """
    if file.path is None:
        if file.name.partition("?")[0].lower().endswith(".zarr.zip"):
            raise SourceError(f"{file.name}: a ZIP of Zarr is read from a disk; download it first")
        return None
    try:
        files = ZipTree(RandomAccessFile(Path(file.path)))
    except SourceError:  # it is no ZIP, or damaged
        return None
    if all(files.size(name) is None for name in _METADATA_FILES):
        files.close()
        return None
    source = _open_image(files, file.name, "", read_options, is_remote=False)
    file.close()
    return source


class ZarrSource(SlicedSource):
    """A source over an image in chunks, which it closes.

    Args:
        image: The image.
        name, metadata: As in `Source`.
        region: The part of it to read. Default: all.
    """

    def __init__(
        self, image: ChunkedImage, name: str, metadata: Metadata, region: Region | None = None
    ) -> None:
        super().__init__(image, name, region)
        self.metadata = metadata
        # A chunk is in memory as its file, decoded by codecs, and as samples.
        chunk_bytes = 3 * image.chunk_bytes
        line_bytes = self.preferred_rows * self.width * self.bands * self.dtype.itemsize
        self.memory_bytes = line_bytes + image.threads * chunk_bytes
        self.has_parallel_regions = True
        self._image = image

    def crop(self, region: Region) -> Source:
        """A source that reads only the chunks of the region."""
        inner = region.shifted(*self._region[:2])
        cropped = ZarrSource(self._image, self.name, self.metadata, inner)
        cropped.channels = self.channels
        return cropped

    def close(self) -> None:
        """End the threads, and close the files."""
        super().close()
        self._image.close()


def _open_image(
    files: FileTree, name: str, axes: str, read_options: ReadOptions, *, is_remote: bool
) -> Source:
    """Open the image in a folder; the source takes over the files."""
    try:
        found = find_array(files, name)
        header = found.header
        letters = axes or found.axes or _guessed_axes(header, name)
        _check_axes(header, letters, name)
        metadata, plane = _choose_plane(found, letters, read_options, name)
        bands = _Bands.choose(found, letters, read_options, name)
        _check_size(found, letters, bands.count, read_options, name)
        image = ChunkedImage(
            header,
            found.files,
            name,
            letters,
            plane,
            bands.picked,
            is_remote=is_remote,
            allow_damaged=read_options.allow_truncated,
            warnings=metadata.warnings,
        )
    except BaseException:
        files.close()
        raise
    source = ZarrSource(image, name, metadata)
    try:
        return bands.finish(source, read_options)
    except BaseException:
        source.close()
        raise


def _guessed_axes(header: ArrayHeader, name: str) -> str:
    """The axes of an array without names of them, as for arrays of NumPy.

    Raises:
        SourceError: Its shape may be that of several images.
    """
    shape = header.shape
    if len(shape) == 2:
        return "yx"
    if len(shape) == 3 and shape[2] <= MAX_COLOUR_BANDS:
        return "yxc"
    if len(shape) > 3 and math.prod(shape[:-2]) == 1:
        return "?" * (len(shape) - 2) + "yx"
    has_last_bands = len(shape) == 3 and shape[2] < shape[0]
    example = "yxc" if has_last_bands else {3: "cyx", 4: "czyx"}.get(len(shape), _AXES)
    raise SourceError(
        f"{name}: shape {shape} is not that of an image; expected (height, width) or (height, "
        f"width, 1 to 4 bands); name its axes, as in '{name}#axes={example}' (c: bands; z, t: "
        "--page)"
    )


def _check_axes(header: ArrayHeader, letters: str, name: str) -> None:
    """Refuse axes that are not those of the array, or that nothing says how to show.

    Raises:
        SourceError: They cannot be used.
    """
    shape = header.shape
    if len(letters) != len(shape):
        raise SourceError(f"{name}: axes {letters!r}, but its shape {shape} has {len(shape)}")
    known = letters.replace("?", "")
    is_valid = set(known) <= set(_AXES) and len(set(known)) == len(known)
    if not is_valid or "x" not in known or "y" not in known:
        raise SourceError(
            f"{name}: axes {letters!r}; expected y and x, and c (bands), z and t (--page), each "
            "once, slowest first"
        )
    unknown = [side for side, letter in zip(shape, letters, strict=True) if letter == "?"]
    if math.prod(unknown) != 1:
        raise SourceError(
            f"{name}: shape {shape} has an axis that is not t, c, z, y or x; name its axes, as in "
            f"'{name}#axes={letters.replace('?', 'z')}'"
        )
    if min(shape) < 1:
        raise SourceError(f"{name}: shape {shape} has no pixels")


def _choose_plane(
    found: FoundArray, letters: str, read_options: ReadOptions, name: str
) -> tuple[Metadata, list[int]]:
    """The metadata, and the index of the page along each axis: z varies fastest, then t.

    Raises:
        MissingPageError: There is no such page.
    """
    header = found.header
    stacked = [letters.index(letter) for letter in "zt" if letter in letters]
    pages = math.prod(header.shape[axis] for axis in stacked)
    page = read_options.page or 1
    if not 1 <= page <= pages:
        raise MissingPageError(f"{name} has no page {page}; it has {pages:,}")
    plane, rest = [0] * len(header.shape), page - 1
    for axis in stacked:
        rest, plane[axis] = divmod(rest, header.shape[axis])
    notes = list(found.notes)
    if read_options.page is None and pages > 1:
        notes.append(note_on_pages(pages))
    resolution = None
    if found.image is not None:
        resolution = found.image.resolution(found.level, letters)
    elif header.is_n5:
        resolution = n5_resolution(header.attributes, letters)
    version = "" if found.image is None else f"OME-Zarr {found.image.version}".strip()
    label = f"{version} ({header.version})" if version else header.version
    rows, cols = (header.chunks[letters.index(axis)] for axis in "yx")
    packed = f", {', '.join(header.codecs)}" if header.codecs else ""
    metadata = Metadata(
        label,
        resolution=resolution,
        notes=tuple(notes),
        pages=pages,
        page=page,
        read_mode=f"by lines of chunks of {cols}\u00d7{rows}{packed}",
    )
    return metadata, plane


def _check_size(
    found: FoundArray, letters: str, bands: int, read_options: ReadOptions, name: str
) -> None:
    """Refuse an image that its files cannot hold, or that needs too much memory.

    Raises:
        SourceError: It has too many pixels, or a chunk or a line of chunks is too large.
    """
    header = found.header
    check_budget(header, name)
    width, height = (header.shape[letters.index(axis)] for axis in "xy")
    likely = MIN_LIKELY_PIXELS
    if width * height > likely and read_options.max_pixels is None:
        likely = max(likely, _likely_pixels(found, bands, width * height))
    read_options.check_pixels(name, width, height, likely)
    rows = min(height, max(header.chunks[letters.index("y")], 64))
    line_bytes = rows * width * bands * header.dtype.itemsize
    if line_bytes > BUDGET.chunk_line_bytes:
        raise SourceError(
            f"{name}: a line of its chunks has {line_bytes:,} bytes, more than "
            f"{BUDGET.chunk_line_bytes:,}; write it in chunks of fewer rows"
        )


def _likely_pixels(found: FoundArray, bands: int, wanted: int) -> int:
    """The most pixels that the files of an array can hold; not all of them are looked at."""
    sizes, pixel_bytes = 0, bands * found.header.dtype.itemsize
    has_files = False
    for _, size in found.files.file_sizes():
        has_files = True
        sizes += size
        if sizes * _MOST_EXPANSION >= wanted * pixel_bytes:
            break
    return sizes * _MOST_EXPANSION // pixel_bytes if has_files else _MAX_UNLISTED_PIXELS


@dataclass(frozen=True)
class _Bands:
    """The bands that are read.

    Attributes:
        picked: Their indexes along c, from 0; None: all.
        count: Their number.
        stored: Number of those that have colours in the array.
        note: Line for the user, if the options say nothing and bands are left out.
    """

    picked: Sequence[int] | None
    count: int
    stored: int
    note: str | None = None

    @classmethod
    def choose(
        cls, found: FoundArray, letters: str, read_options: ReadOptions, name: str
    ) -> _Bands:
        """The bands of the options, else grey or RGB, perhaps with alpha, else the first.

        Channels of OME-Zarr are never alpha, and RGB only if they have no other colours.

        Raises:
            OptionError: The image has no such bands.
        """
        spec = read_options.band_spec
        stored = found.header.shape[letters.index("c")] if "c" in letters else 1
        has_alpha = found.image is None and stored in (2, 4)
        if spec is not None:
            check_numbers(name, spec, stored)
            keeps_alpha = has_alpha and not spec.is_coloured and stored not in spec.numbers
            picked = [number - 1 for number in spec.numbers] + [stored - 1] * keeps_alpha
            return cls(picked, len(picked), stored - has_alpha)
        colours = () if found.image is None else found.image.channels
        is_image = stored <= MAX_COLOUR_BANDS
        if found.image is not None:
            is_image = stored == 1 or (stored == 3 and colours in ((), _RGB))
        if is_image:
            return cls(None, stored, stored - has_alpha)
        advice = "--bands picks others"
        if len(colours) == stored <= MAX_TINTS:
            pairs = ",".join(f"{number}={colour}" for number, colour in enumerate(colours, 1))
            advice = f"--bands {pairs} shows all in their own colours"
        note = f"band 1 of {stored:,} shown, {stored - 1:,} left out; {advice}"
        return cls([0], 1, stored, note)

    def finish(self, source: Source, read_options: ReadOptions) -> Source:
        """A source of these bands, with missing samples marked; it takes the other one over."""
        spec, metadata = read_options.band_spec, source.metadata
        if source.dtype == np.bool_:
            source = ConvertedSource(source, bool_to_uint8(source.bands))
        if spec is not None:
            source.channels = len(spec.numbers) if spec.is_coloured else 0
            source.metadata = banded_metadata(metadata, spec, range(1, self.stored + 1))
        elif self.note is not None:
            source.metadata = replace(metadata, is_measured=True).with_notes(self.note)
        if isinstance(read_options.nodata, int | float):
            nodata = read_options.nodata
            source = mark_value(source, nodata, f"nodata {nodata}")
        return source
