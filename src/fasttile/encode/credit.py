"""Title and credit line in tiles, as Exif.

Source: Exif 2.32, section 4.6: ImageDescription and Copyright are texts of TIFF. Their type is
ASCII; as most programs do, texts beyond ASCII are in UTF-8.
"""

from __future__ import annotations

from dataclasses import replace

from fasttile.abc.layout import ResultTexts
from fasttile.colour.convert import ColourPlan
from fasttile.formats.tiff_tags import ASCII, TiffTag, encode_directory, encode_header

_IMAGE_DESCRIPTION, _COPYRIGHT = 270, 33432
_HEADER = encode_header(8, large=False)


def encode_exif(texts: ResultTexts) -> bytes | None:
    """A block of Exif with title and credit line; None if there is neither.

    Example:
        >>> len(encode_exif(ResultTexts(credit="Museum")))
        40
    """
    given = {_IMAGE_DESCRIPTION: texts.title, _COPYRIGHT: texts.credit}
    tags = [TiffTag(tag, ASCII, text.encode() + b"\0") for tag, text in given.items() if text]
    return _HEADER + encode_directory(tags, len(_HEADER), 0, large=False) if tags else None


def with_credit(colours: ColourPlan, texts: ResultTexts) -> ColourPlan:
    """The plan of an image's colours, whose tiles have the texts too."""
    metadata = colours.tile_metadata._replace(exif=encode_exif(texts))
    return replace(colours, tile_metadata=metadata)
