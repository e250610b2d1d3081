"""TIFF and BigTIFF: mapped where the samples lie in the file as they are, else decoded by blocks.

Written after TIFF 6.0 and the BigTIFF proposal; where those leave a choice, the answer is
Pillow's and libtiff's, so that an image looks the same whether it is compressed or not.
"""

from __future__ import annotations

from dataclasses import replace

from fasttile.abc.source import Source
from fasttile.errors import SourceError
from fasttile.options.read import ReadOptions, likely_pixels
from fasttile.sources.arrays import as_native_contiguous
from fasttile.sources.conversions import ConvertedSource, select_bands
from fasttile.sources.tiff.grid import (
    BlockGrid,
    find_absent_blocks,
    find_truncated_blocks,
    open_grid,
)
from fasttile.sources.tiff.pages import select_image, select_page
from fasttile.sources.tiff.tags import (
    CMYK,
    RGB,
    UNCOMPRESSED,
    YCBCR,
    Tags,
    derive_sample_layout,
    read_tags,
)
from fasttile.storage.random_access import SourceFile

_LARGE_LINE_BYTES = (
    2**25
)  # bytes; a line of blocks that takes more, and of which there are but a few
_FEW_LINES = 3
_TILE_WIDTH, _TILE_HEIGHT = 322, 323
_PILLOW_COMPRESSIONS = (
    2,
    3,
    4,
    5,
    7,
    8,
    32773,
    32946,
    34925,
    50000,
    50001,
)  # compressions that it knows


def open_tiff(file: SourceFile, read_options: ReadOptions) -> Source | None:
    """A source over the image of a TIFF that a reading means, or None if it is Pillow's to read.

    Samples that lie in the file as they are, of 8, 16, 32 or 64 bits, are mapped. All others
    are decoded line by line of blocks. That is left to Pillow where imagecodecs is not installed
    (`pip install fasttile[tiff]`); where the compression, or what the samples mean, is
    unknown here; and where a few blocks make up a large image, a single strip for example, and
    Pillow can read it: a block has to be decoded at once, and nobody holds less of it than
    Pillow. What Pillow cannot read is decoded even then.

    Raises:
        SourceError: The file is broken, smaller than its tags say, or of a kind that nobody here
            can read.
    """
    choice = select_image(file, read_options)
    tags = read_tags(file, choice)
    source = None
    if tags is not None:
        source = _open_mapped_tiff(file, tags, read_options) or _open_compressed(
            file, tags, read_options, is_sub_image=choice.is_sub_image
        )
    if source is None and choice.is_sub_image:
        # Pillow knows pages only, and would give the thumbnail.
        page = choice.page_index + 1
        raise SourceError(
            f"{file.name}: the largest image of page {page} is of a kind that nobody here reads; "
            + (_install_hint() or f"page={page} takes the page itself, which is smaller")
        )
    return source


def open_with_pillow(file: SourceFile, read_options: ReadOptions) -> Source:
    """A source over the image of a TIFF that a reading means, decoded by Pillow.

    Raises:
        SourceError: Pillow cannot read it; the message says what may help.
    """
    from fasttile.sources.pillow import open_image_file

    index, _ = select_page(file, read_options)
    _check_tile_size(file, read_options)
    try:
        return open_image_file(file, replace(read_options, page=index + 1))
    except SourceError as error:
        if not _install_hint():
            raise
        raise SourceError(f"{error}; {_install_hint()}") from error


def _check_tile_size(file: SourceFile, read_options: ReadOptions) -> None:
    """Refuse tiles that claim more pixels than the image may: libtiff takes memory for them."""
    directory = select_image(file, read_options).directory
    sides = [directory.numbers(tag) for tag in (_TILE_WIDTH, _TILE_HEIGHT)]
    width, height = (0 if side is None else int(side[0]) for side in sides)
    read_options.check_pixels(f"{file.name}: a tile of it", width, height, likely_pixels(file.size))


def _install_hint() -> str:
    """What may help where nobody can read a TIFF; empty if that is there already."""
    from fasttile.sources.tiff.codecs import has_imagecodecs

    return "" if has_imagecodecs() else "pip install fasttile[tiff] may read it"


def _open_mapped_tiff(file: SourceFile, tags: Tags, read_options: ReadOptions) -> Source | None:
    """A source over the map, if the samples lie in the file as they are, and all of them do."""
    as_they_are = tags.compression == UNCOMPRESSED and tags.fill_order == 1
    if not as_they_are or tags.bits != tags.grid.dtype.itemsize * 8 or tags.photometric == YCBCR:
        return None
    if not _has_all_blocks(file, tags.grid, allow_truncated=read_options.allow_truncated):
        return None
    meaning = derive_sample_layout(tags, read_options)
    source = as_native_contiguous(open_grid(file, tags.grid, tags.metadata))
    if len(meaning.sample_order) < source.bands:
        source = ConvertedSource(
            source, select_bands(meaning.sample_order, source.dtype, meaning.skipped_note)
        )
    for conversion in meaning.conversions:
        source = ConvertedSource(source, conversion)
    source.is_cmyk = meaning.is_cmyk
    return source


def _has_all_blocks(file: SourceFile, grid: BlockGrid, *, allow_truncated: bool) -> bool:
    """Whether no block is missing that may be; else it is for `open_grid` to say what is wrong."""
    if len(grid.offsets) != len(grid.byte_counts):
        return True
    missing = bool(find_absent_blocks(grid).any())
    return not missing and not (
        allow_truncated and bool(find_truncated_blocks(grid, file.size).any())
    )


def _open_compressed(
    file: SourceFile, tags: Tags, read_options: ReadOptions, *, is_sub_image: bool
) -> Source | None:
    """A source that decodes the blocks, if that can and should be done here."""
    from fasttile.sources.tiff.blocks import CompressedTiffSource, open_blocks
    from fasttile.sources.tiff.codecs import make_decoder

    decode = make_decoder(tags)
    if decode is None or not len(tags.grid.byte_counts):
        return None  # old programs left out how many bytes a strip has
    if not is_sub_image and _prefers_pillow(tags):
        return None
    meaning = derive_sample_layout(tags, read_options)
    blocks, missing = open_blocks(file, tags, meaning, decode, read_options)
    done = [conversion.note for conversion in meaning.conversions]
    notes = [note for note in (*missing, meaning.skipped_note, *done) if note is not None]
    metadata = replace(
        tags.metadata,
        notes=(*tags.metadata.notes, *notes),
        read_mode=f"decoded line by line of {blocks.block_name}s, on threads",
    )
    return CompressedTiffSource(blocks, metadata, read_options.background)


def _prefers_pillow(tags: Tags) -> bool:
    """Whether Pillow can read it, and whole blocks would take as much memory as it does."""
    grid = tags.grid
    line_bytes = grid.width * grid.block_height * grid.bands * grid.dtype.itemsize
    colours = {CMYK: 4, RGB: 3, YCBCR: 3}.get(tags.photometric, 1)
    return (
        line_bytes > _LARGE_LINE_BYTES
        and grid.lines <= _FEW_LINES
        and not grid.is_planar
        and tags.fill_order == 1
        and tags.compression in _PILLOW_COMPRESSIONS
        and grid.dtype.kind == "u"
        and tags.bits in (1, 8)
        and grid.bands - colours <= 1
    )
