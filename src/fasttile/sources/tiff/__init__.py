"""TIFF and BigTIFF: uncompressed samples are mapped, others decoded.

Sources: TIFF 6.0 and the BigTIFF proposal. Where they leave a choice, the source agrees with Pillow
and libtiff, so that compressed and uncompressed images have the same pixels.
"""

from __future__ import annotations

from dataclasses import replace

from fasttile.abc.source import Metadata, Source
from fasttile.errors import SourceError, TruncatedError
from fasttile.formats.jpeg import MAX_JPEG_PIXELS
from fasttile.formats.tiff import Ifd
from fasttile.options.read import ReadOptions
from fasttile.sources.arrays import as_native_contiguous
from fasttile.sources.conversions import ConvertedSource, select_bands
from fasttile.sources.tiff.grid import (
    find_absent_blocks,
    find_truncated_blocks,
    open_grid,
)
from fasttile.sources.tiff.pages import SelectedImage, check_camera_raw, select_image
from fasttile.sources.tiff.tags import (
    CMYK,
    JPEG,
    RGB,
    UNCOMPRESSED,
    YCBCR,
    Tags,
    check_claims,
    derive_sample_layout,
    describe_samples,
    read_tags,
    with_georeference,
)
from fasttile.storage.random_access import SourceFile
from fasttile.types import Pixels

_LARGE_LINE_BYTES = 2**25  # a line of blocks that takes more is left to Pillow,
_FEW_LINES = 3  # if the image has at most as many lines
# CCITT (2, 3, 4), LZW, JPEG, Deflate, PackBits, LZMA, Zstandard, WebP
_PILLOW_COMPRESSIONS = (2, 3, 4, 5, 7, 8, 32773, 32946, 34925, 50000, 50001)


def open_tiff(file: SourceFile, read_options: ReadOptions) -> Source | None:
    """Open an image of a TIFF; None if it is left to Pillow.

    Uncompressed samples of 8, 16, 32 or 64 bits are mapped. All others are decoded line by line of
    blocks, with three exceptions that are left to Pillow: if imagecodecs is not installed
    (`pip install fasttile[tiff]`), if the compression or the meaning of the samples is unknown
    here, and if a large image consists of a few blocks, for example of a single strip: a block is
    decoded at once, and Pillow takes no more memory for it. An image in SubIFDs is never left to
    Pillow, which reads only pages.

    Raises:
        SourceError: The file is broken, smaller than its tags say, or not supported.
    """
    check_camera_raw(file, read_options)
    choice = _select_image(file, read_options)
    tags = read_tags(file, choice)
    source = None
    if tags is not None:
        source = _open_mapped_tiff(file, tags, read_options)
    if tags is not None and source is None:
        check_claims(file, choice.directory, read_options)
        source = _open_compressed(file, tags, read_options, is_sub_image=choice.is_sub_image)
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
    try:
        opened = open_image_file(
            file, replace(read_options, page=choice.page_index + 1), likely_max
        )
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


def _select_image(file: SourceFile, read_options: ReadOptions) -> SelectedImage:
    """Select the image to read, with the content of pages compared."""

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
            layout = derive_sample_layout(tags, read_options)
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
    sample_layout = derive_sample_layout(tags, read_options)
    source = as_native_contiguous(open_grid(file, grid, tags.metadata))
    if len(sample_layout.sample_order) < source.bands:
        source = ConvertedSource(
            source,
            select_bands(sample_layout.sample_order, source.dtype, sample_layout.skipped_note),
        )
    for conversion in sample_layout.conversions:
        source = ConvertedSource(source, conversion)
    source.is_cmyk = sample_layout.is_cmyk
    return source


def _open_compressed(
    file: SourceFile, tags: Tags, read_options: ReadOptions, *, is_sub_image: bool
) -> Source | None:
    """Open blocks that are decoded here; None if Pillow is to decode them."""
    from fasttile.sources.tiff.blocks import CompressedTiffSource, open_blocks
    from fasttile.sources.tiff.codecs import make_decoder

    decode = make_decoder(tags)
    if decode is None:
        return None
    if not is_sub_image and _prefers_pillow(tags):
        return None
    sample_layout = derive_sample_layout(tags, read_options)
    blocks, missing = open_blocks(file, tags, sample_layout, decode, read_options)
    values = tags.metadata.without_values() if sample_layout.conversions else tags.metadata
    metadata = replace(
        values, read_mode=f"decoded line by line of {blocks.block_name}s, on threads"
    ).with_notes(
        *missing,
        sample_layout.skipped_note,
        *(conversion.note for conversion in sample_layout.conversions),
    )
    return CompressedTiffSource(blocks, metadata, read_options.background)


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
