"""TIFF and BigTIFF: mapped where the samples lie in the file as they are, else decoded by blocks.

Written after TIFF 6.0 and the BigTIFF proposal; where those leave a choice, the answer is
Pillow's and libtiff's, so that a picture looks the same whether it is compressed or not.
"""

from __future__ import annotations

from dataclasses import replace

from ..errors import SourceError
from .base import Source
from .blocks import Grid, cut_off_of, left_out_of, open_grid
from .convert import Converted
from .mapping import PictureFile
from .pixels import picked
from .raster import prepared
from .reading import Reading, likely_pixels
from .tiffcolour import meaning_of
from .tiffpages import chosen, chosen_page
from .tifftags import CMYK, RGB, UNCOMPRESSED, YCBCR, Tags, tags_of

_TALL = 2**25  # bytes; a line of blocks that takes more, and of which there are but a few
_FEW = 3
_TILE_WIDTH, _TILE_HEIGHT = 322, 323
_PILLOWS = (2, 3, 4, 5, 7, 8, 32773, 32946, 34925, 50000, 50001)  # compressions that it knows


def open_tiff(file: PictureFile, reading: Reading) -> Source | None:
    """A source over the picture of a TIFF that a reading means, or None if it is Pillow's to read.

    Samples that lie in the file as they are, of 8, 16, 32 or 64 bits, are mapped. All others
    are decoded line by line of blocks. That is left to Pillow where imagecodecs is not installed
    (`pip install fasttile[tiff]`); where the compression, or what the samples mean, is
    unknown here; and where a few blocks make up a large picture, a single strip for example, and
    Pillow can read it: a block has to be decoded at once, and nobody holds less of it than
    Pillow. What Pillow cannot read is decoded even then.

    Raises:
        SourceError: The file is broken, smaller than its tags say, or of a kind that nobody here
            can read.
    """
    choice = chosen(file, reading)
    tags = tags_of(file, choice)
    source = None
    if tags is not None:
        source = _mapped(file, tags, reading) or _coded(file, tags, reading, inner=choice.inner)
    if source is None and choice.inner:
        # Pillow knows pages only, and would give the thumbnail.
        page = choice.index + 1
        raise SourceError(
            f"{file.name}: the largest picture of page {page} is of a kind that nobody here reads; "
            + (_hint() or f"page={page} takes the page itself, which is smaller")
        )
    return source


def open_by_pillow(file: PictureFile, reading: Reading) -> Source:
    """A source over the picture of a TIFF that a reading means, decoded by Pillow.

    Raises:
        SourceError: Pillow cannot read it; the message says what may help.
    """
    from .picture import open_picture

    index, _ = chosen_page(file, reading)
    _refuse_giant_tiles(file, reading)
    try:
        return open_picture(file, replace(reading, page=index + 1))
    except SourceError as error:
        if not _hint():
            raise
        raise SourceError(f"{error}; {_hint()}") from error


def _refuse_giant_tiles(file: PictureFile, reading: Reading) -> None:
    """Refuse tiles that claim more pixels than the picture may: libtiff takes memory for them."""
    directory = chosen(file, reading).directory
    sides = [directory.numbers(tag) for tag in (_TILE_WIDTH, _TILE_HEIGHT)]
    width, height = (0 if side is None else int(side[0]) for side in sides)
    reading.check_pixels(f"{file.name}: a tile of it", width, height, likely_pixels(file.size))


def _hint() -> str:
    """What may help where nobody can read a TIFF; empty if that is there already."""
    from .tiffcodecs import imagecodecs_is_there

    return "" if imagecodecs_is_there() else "pip install fasttile[tiff] may read it"


def _mapped(file: PictureFile, tags: Tags, reading: Reading) -> Source | None:
    """A source over the map, if the samples lie in the file as they are, and all of them do."""
    as_they_are = tags.compression == UNCOMPRESSED and tags.fill_order == 1
    if not as_they_are or tags.bits != tags.grid.dtype.itemsize * 8 or tags.photometric == YCBCR:
        return None
    if not _all_there(file, tags.grid, lenient=reading.allow_truncated):
        return None
    meaning = meaning_of(tags, reading)
    source = prepared(open_grid(file, tags.grid, tags.metadata))
    if len(meaning.order) < source.bands:
        source = Converted(source, picked(meaning.order, source.dtype, meaning.left_out))
    for conversion in meaning.conversions:
        source = Converted(source, conversion)
    source.cmyk = meaning.cmyk
    return source


def _all_there(file: PictureFile, grid: Grid, *, lenient: bool) -> bool:
    """Whether no block is missing that may be; else it is for `open_grid` to say what is wrong."""
    if len(grid.offsets) != len(grid.counts):
        return True
    missing = bool(left_out_of(grid).any())
    return not missing and not (lenient and bool(cut_off_of(grid, file.size).any()))


def _coded(file: PictureFile, tags: Tags, reading: Reading, *, inner: bool) -> Source | None:
    """A source that decodes the blocks, if that can and should be done here."""
    from .tiffblocks import blocks_of
    from .tiffcodecs import decoder_of
    from .tiffcoded import CodedSource

    decode = decoder_of(tags)
    if decode is None or not len(tags.grid.counts):
        return None  # old programs left out how many bytes a strip has
    if not inner and _better_by_pillow(tags):
        return None
    meaning = meaning_of(tags, reading)
    blocks, missing = blocks_of(file, tags, meaning, decode, reading)
    done = [conversion.note for conversion in meaning.conversions]
    notes = [note for note in (*missing, meaning.left_out, *done) if note is not None]
    metadata = replace(
        tags.metadata,
        notes=(*tags.metadata.notes, *notes),
        way=f"decoded line by line of {blocks.kind}s, on threads",
    )
    return CodedSource(blocks, metadata, reading.background)


def _better_by_pillow(tags: Tags) -> bool:
    """Whether Pillow can read it, and whole blocks would take as much memory as it does."""
    grid = tags.grid
    line_bytes = grid.width * grid.block_height * grid.bands * grid.dtype.itemsize
    colours = {CMYK: 4, RGB: 3, YCBCR: 3}.get(tags.photometric, 1)
    return (
        line_bytes > _TALL
        and grid.lines <= _FEW
        and not grid.planar
        and tags.fill_order == 1
        and tags.compression in _PILLOWS
        and grid.dtype.kind == "u"
        and tags.bits in (1, 8)
        and grid.bands - colours <= 1
    )
