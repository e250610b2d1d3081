"""TIFF and BigTIFF: uncompressed samples are mapped, others decoded.

Sources: TIFF 6.0 and the BigTIFF proposal. Where they leave a choice, the source agrees with Pillow
and libtiff, so that compressed and uncompressed images have the same pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

import numpy as np

from fasttile.abc.source import Metadata, Source
from fasttile.errors import OptionError, SourceError, TruncatedError
from fasttile.formats.jpeg import MAX_JPEG_PIXELS
from fasttile.formats.tiff import Ifd
from fasttile.options.read import ReadOptions
from fasttile.sources.arrays import as_native_contiguous
from fasttile.sources.conversions import ConvertedSource, select_bands
from fasttile.sources.tiff.grid import (
    BlockGrid,
    find_absent_blocks,
    find_truncated_blocks,
    open_grid,
)
from fasttile.sources.tiff.masks import MaskFile, apply_mask, find_mask
from fasttile.sources.tiff.pages import SelectedImage, check_camera_raw, select_image
from fasttile.sources.tiff.samples import check_bands, derive_sample_layout, sample_metadata
from fasttile.sources.tiff.tags import (
    CMYK,
    JPEG,
    RGB,
    UNCOMPRESSED,
    YCBCR,
    Tags,
    check_claims,
    declares_extra_samples,
    describe_samples,
    has_plain_samples,
    read_nodata,
    read_tags,
    with_georeference,
)
from fasttile.storage.random_access import SourceFile
from fasttile.types import Pixels

_LARGE_LINE_BYTES = 2**25  # a line of blocks that takes more is left to Pillow,
_FEW_LINES = 3  # if the image has at most as many lines
# CCITT (2, 3, 4), LZW, JPEG, PackBits, LZMA, Zstandard, WebP. Not Deflate: libtiff accepts a
# damaged block that becomes too many bytes, as it does not reach the checksum.
_PILLOW_COMPRESSIONS = (2, 3, 4, 5, 7, 32773, 34925, 50000, 50001)


def open_tiff(file: SourceFile, read_options: ReadOptions) -> Source | None:
    """Open an image of a TIFF; None if it is left to Pillow.

    Uncompressed samples of 8, 16, 32 or 64 bits are mapped. All others are decoded line by line of
    blocks, with three exceptions that are left to Pillow: if imagecodecs is not installed
    (`pip install fasttile[tiff]`) and the compression is not Deflate, if the compression or the
    meaning of the samples is unknown here, and if a large image consists of a few blocks, for
    example of a single strip: a block is decoded at once, and Pillow takes no more memory for it.
    An image in SubIFDs is never left to Pillow, which reads only pages.

    Raises:
        SourceError: The file is broken, smaller than its tags say, or not supported.
    """
    check_camera_raw(file, read_options)
    choice = _select_image(file, read_options)
    return _open_with_mask(file, choice, read_options, partial(_open_image, file, choice))


def _open_with_mask(
    file: SourceFile,
    choice: SelectedImage,
    read_options: ReadOptions,
    open_image: Callable[[ReadOptions], Source | None],
) -> Source | None:
    """Open an image, and make it transparent where it has a mask that is 0."""
    mask = find_mask(file, choice, read_options)
    if mask is None:
        return open_image(read_options)
    with ExitStack() as on_error:
        on_error.callback(mask.file.close)
        if read_options.nodata is None:  # a mask replaces the tag, as in GDAL
            read_options = replace(read_options, nodata="none")
        source = open_image(read_options)
        if source is None:
            return None
        on_error.callback(source.close)
        result = apply_mask(source, _open_mask(mask, read_options), mask.note)
        on_error.pop_all()
        return result


def _open_mask(mask: MaskFile, read_options: ReadOptions) -> Source:
    """Open a mask; blocks that are left out in its file are 0, as in GDAL."""
    options = ReadOptions(
        max_pixels=read_options.max_pixels,
        allow_truncated=read_options.allow_truncated,
        background=(0, 0, 0),
        nodata="none",
    )
    tags = read_tags(mask.file, mask.selected, is_mask=True)
    source = None
    if tags is not None:
        source = _open_mapped_tiff(mask.file, tags, options)
    if tags is not None and source is None:
        check_claims(mask.file, mask.selected.directory, options)
        source = _open_compressed(mask.file, tags, options, needs_samples=True)
    if source is None:
        hint = _install_hint() or f"it is {describe_samples(mask.selected.directory)}"
        raise SourceError(
            f"{mask.file.name}: its mask cannot be decoded: {hint}; --nodata none (nodata) "
            "ignores it"
        )
    return source


def _open_image(
    file: SourceFile, choice: SelectedImage, read_options: ReadOptions
) -> Source | None:
    """Open the selected image without its mask; None if it is left to Pillow."""
    tags = read_tags(file, choice)
    source = None
    if tags is not None:
        if read_options.band_spec is not None:
            check_bands(file.name, tags, read_options.band_spec)
        source = _open_mapped_tiff(file, tags, read_options)
    if tags is not None and source is None:
        check_claims(file, choice.directory, read_options)
        has_value = read_options.nodata is None and tags.nodata is not None
        needs_samples = choice.is_sub_image or has_value or read_options.takes_samples
        source = _open_compressed(file, tags, read_options, needs_samples=needs_samples)
    if source is None and choice.is_sub_image:
        # Pillow reads only pages: it returns the thumbnail.
        page = choice.page_index + 1
        raise SourceError(
            f"{file.name}: the largest image of page {page} is of an unsupported kind; "
            + (_install_hint() or f"page={page} reads the page itself, which is smaller")
        )
    return source


def open_with_pillow(file: SourceFile, read_options: ReadOptions) -> Source:
    """Open an image of a TIFF with Pillow.

    Raises:
        SourceError: Pillow cannot read the image.
    """
    from fasttile.sources.pillow import open_image_file

    choice = _select_image(file, read_options)
    place = with_georeference(Metadata("TIFF"), choice.directory)
    tags = read_tags(file, choice)
    if tags is None or derive_sample_layout(tags, read_options).conversions:
        place = place.without_values()
    # libtiff allocates memory for a tile of the claimed size.
    likely_max = check_claims(file, choice.directory, read_options)
    on_page = replace(read_options, page=choice.page_index + 1)

    def open_image(options: ReadOptions) -> Source:
        if options.nodata is None:
            options = replace(options, nodata=read_nodata(choice.directory))
        if not options.takes_samples:
            return open_image_file(file, on_page, likely_max)
        from fasttile.sources.bands import take_samples

        declares_alpha = _check_plain(file, choice.directory, options)
        opened = open_image_file(file, on_page, likely_max)
        return take_samples(opened, options, declares_alpha=declares_alpha)

    try:
        opened = _open_with_mask(file, choice, read_options, open_image)
        assert opened is not None  # Pillow raises
        if opened.metadata.has_missing or read_options.band_spec is not None:
            place = place.without_values()
        metadata = opened.metadata.with_notes(*place.notes)
        opened.metadata = replace(metadata, georeference=place.georeference)
        return opened
    except SourceError as error:
        if not _install_hint():
            if error.__cause__ is not None or isinstance(error, TruncatedError):
                raise  # by a decoder: the file is damaged
            raise SourceError(
                f"{file.name}: a TIFF of {describe_samples(choice.directory)} is not supported; "
                "convert it to RGB of 8 or 16 bits with another program"
            ) from error
        raise SourceError(f"{error}; {_install_hint()}") from error


def _check_plain(file: SourceFile, directory: Ifd, read_options: ReadOptions) -> bool:
    """Refuse samples that Pillow converts, so that neither bands nor values are those of the file.

    Returns:
        True if the file declares its alpha.
    """
    if not has_plain_samples(directory):
        option = "bands" if read_options.band_spec is not None else "nodata"
        raise OptionError(
            f"{file.name}: {option}: not possible for {describe_samples(directory)}; "
            + (_install_hint() or "convert it to grey or RGB, or use --nodata none")
        )
    return declares_extra_samples(directory)


def _select_image(file: SourceFile, read_options: ReadOptions) -> SelectedImage:
    """Select the image to read, with the content of pages compared."""
    plain = replace(read_options, bands=None, nodata="none")

    def has_same_content(small: Ifd, large: Ifd) -> bool:
        from fasttile.sources.tiff.blocks import are_alike, open_blocks, read_overview
        from fasttile.sources.tiff.codecs import make_decoder

        overviews: list[Pixels] = []
        width = 0
        for scale, directory in ((1, small), (2, large)):
            tags = read_tags(file, SelectedImage(directory, 0, 1))
            decode = None if tags is None else make_decoder(tags)
            if tags is None or decode is None:
                return False
            check_claims(file, directory, read_options)
            layout = derive_sample_layout(tags, plain)
            blocks, _ = open_blocks(file, tags, layout, decode, read_options)
            width = width or blocks.grid.width
            overviews.append(read_overview(blocks, scale, width))
        return are_alike(*overviews)

    return select_image(file, read_options, has_same_content)


def _install_hint() -> str:
    """Advice for an unreadable TIFF; empty if imagecodecs is installed."""
    from fasttile.sources.tiff.codecs import has_imagecodecs

    return "" if has_imagecodecs() else "pip install fasttile[tiff] may read it"


def _open_mapped_tiff(file: SourceFile, tags: Tags, read_options: ReadOptions) -> Source | None:
    """Open uncompressed samples through the map, if no block is missing."""
    plain = tags.compression == UNCOMPRESSED and tags.fill_order == 1
    if not plain or tags.bits != tags.grid.dtype.itemsize * 8 or tags.photometric == YCBCR:
        return None
    grid = tags.grid
    if len(grid.offsets) == len(grid.byte_counts):  # else `open_grid` raises
        if find_absent_blocks(grid).any():
            return None
        if read_options.allow_truncated and find_truncated_blocks(grid, file.size).any():
            return None
    layout = derive_sample_layout(tags, read_options)
    grid, order = _used_planes(grid, layout.sample_order)
    metadata = sample_metadata(tags, layout, read_options)
    source = as_native_contiguous(open_grid(file, grid, metadata))
    if order != tuple(range(source.bands)):
        source = ConvertedSource(source, select_bands(order, source.dtype))
    for conversion in layout.conversions:
        source = ConvertedSource(source, conversion)
    source.is_cmyk, source.channels = layout.is_cmyk, layout.channels
    return source


def _used_planes(grid: BlockGrid, order: tuple[int, ...]) -> tuple[BlockGrid, tuple[int, ...]]:
    """The grid of the planes that are used, and the order of bands in it."""
    count = grid.lines * grid.cols
    if not grid.is_planar or {len(grid.offsets), len(grid.byte_counts)} != {grid.bands * count}:
        return grid, order  # `open_grid` refuses a wrong number of blocks
    places = np.concatenate([np.arange(band * count, (band + 1) * count) for band in order])
    used = replace(
        grid,
        bands=len(order),
        is_planar=len(order) > 1,
        offsets=grid.offsets[places],
        byte_counts=grid.byte_counts[places],
    )
    return used, tuple(range(len(order)))


def _open_compressed(
    file: SourceFile, tags: Tags, read_options: ReadOptions, *, needs_samples: bool
) -> Source | None:
    """Open blocks that are decoded here; None if Pillow is to decode them.

    Args:
        file, tags, read_options: The image.
        needs_samples: True if it is not left to Pillow where that saves memory.
    """
    from fasttile.sources.tiff.blocks import CompressedTiffSource, open_blocks
    from fasttile.sources.tiff.codecs import make_decoder

    decode = make_decoder(tags)
    if decode is None:
        return None
    if not needs_samples and _prefers_pillow(tags):
        return None
    sample_layout = derive_sample_layout(tags, read_options)
    blocks, missing = open_blocks(file, tags, sample_layout, decode, read_options)
    tags = replace(tags, metadata=tags.metadata.with_notes(*missing))
    metadata = sample_metadata(tags, sample_layout, read_options)
    if sample_layout.conversions:
        metadata = metadata.without_values()
    way = f"decoded line by line of {blocks.block_name}s, on threads"
    metadata = replace(metadata, read_mode=way).with_notes(
        *(conversion.note for conversion in sample_layout.conversions)
    )
    return CompressedTiffSource(blocks, metadata, read_options.any_background)


def _prefers_pillow(tags: Tags) -> bool:
    """True if Pillow reads the image with as little memory as its blocks."""
    grid = tags.grid
    line_bytes = grid.width * grid.block_height * grid.bands * grid.dtype.itemsize
    if tags.compression == JPEG and len(grid.byte_counts):
        # libtiff fills the memory of a strip, however few bytes it has; decoders here do not.
        block_pixels = grid.block_width * grid.block_height
        if block_pixels > MAX_JPEG_PIXELS * int(grid.byte_counts.min()):
            return False
    colours = {CMYK: 4, RGB: 3, YCBCR: 3}.get(tags.photometric, 1)
    return (
        line_bytes > _LARGE_LINE_BYTES
        and grid.lines <= _FEW_LINES
        and not grid.is_planar
        and tags.fill_order == 1
        and tags.compression in _PILLOW_COMPRESSIONS
        and grid.dtype.kind == "u"
        and tags.bits in (1, 8)
        and grid.bands - colours <= (tags.photometric != CMYK)
    )
