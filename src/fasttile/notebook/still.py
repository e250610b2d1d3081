"""A pyramid as a small image with its name and size, in HTML without scripts."""

from __future__ import annotations

import base64
import html
import io
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from fasttile.errors import FasttileError, printable
from fasttile.formats.images import read_tile_header
from fasttile.geometry import Level, Pyramid, Region

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

THUMBNAIL_SIDE = 512
"""Longest side of a thumbnail, in pixels."""

_MAX_THUMBNAIL_TILES = 4096
"""A pyramid without small levels has no thumbnail if it would take more tiles than this."""


class ShownPyramid(Protocol):
    """A pyramid, as far as a cell shows it; see `abc.reader.PyramidReader`."""

    @property
    def name(self) -> str:
        """Name of the image."""

    @property
    def pyramid(self) -> Pyramid:
        """Geometry of the levels and tiles."""

    @property
    def media_type(self) -> str:
        """Media type of the tiles."""

    def tile(self, level: int, col: int, row: int) -> bytes | None:
        """A tile as a complete file."""

    def pixels(self, level: int, col: int, row: int) -> NDArray[Any] | None:
        """Pixels of a tile."""


class Thumbnail(NamedTuple):
    """A small image of a pyramid.

    Attributes:
        data: A PNG or JPEG file; b"" if the pyramid has no level that is small enough.
        media_type: Its media type.
        problem: One line about a tile that could not be read, or "".
    """

    data: bytes
    media_type: str
    problem: str = ""

    @property
    def url(self) -> str:
        """The file as a data: URL."""
        return f"data:{self.media_type};base64,{base64.b64encode(self.data).decode()}"


def describe_size(pyramid: Pyramid) -> str:
    """The size of a pyramid's image for users."""
    width, height = pyramid.size
    return f"{width:,} × {height:,} pixels"


def static_html(shown: ShownPyramid, thumbnail: Thumbnail, hint: str = "") -> str:
    """A thumbnail as HTML, with name and size.

    Args:
        shown: The pyramid.
        thumbnail: Its thumbnail.
        hint: One line for the user.
    """
    name, size = html.escape(printable(shown.name)), describe_size(shown.pyramid)
    lines = [f'<b dir="auto">{name}</b> · {size}', html.escape(thumbnail.problem), hint]
    image = (
        f'<img src="{thumbnail.url}" alt="{name}, {size}" style="max-width: 100%">'
        if thumbnail.data
        else ""
    )
    caption = "<br>".join(filter(None, lines))
    return f'<figure style="margin: 0">{image}<figcaption>{caption}</figcaption></figure>'


def error_line(error: BaseException) -> str:
    """An error as one printable line."""
    text = printable(str(error).partition("\n")[0])
    return text if isinstance(error, FasttileError) else f"{type(error).__name__}: {text}"


def error_html(error: BaseException) -> str:
    """An error as one line of HTML."""
    return f"<p>{html.escape(error_line(error))}</p>"


def make_thumbnail(shown: ShownPyramid) -> Thumbnail:
    """Join the tiles of the largest level that is small enough.

    A pyramid without such a level gets its smallest one, reduced, unless that has very many tiles.

    Raises:
        SourceError: No tile of the level can be read.
    """
    from PIL import Image

    pyramid = shown.pyramid
    number = pyramid.stored_range[0]
    while (
        number < pyramid.stored_range[-1] and max(pyramid.image_size(number + 1)) <= THUMBNAIL_SIDE
    ):
        number += 1
    level = pyramid.levels[number]
    width, height = pyramid.image_size(number)
    is_large = max(width, height) > THUMBNAIL_SIDE
    if level.tile_count > _MAX_THUMBNAIL_TILES or (is_large and width * height > 2**24):
        return Thumbnail(b"", "")
    image, profile, problem = _read_level(shown, level, pyramid.placement(number))
    if is_large:
        image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BOX)
    return Thumbnail(*_encode(image, profile), problem)


def _read_level(
    shown: ShownPyramid, level: Level, place: Region
) -> tuple[Image, bytes | None, str]:
    """A place on a level, the profile of its tiles, and a line about a tile that is damaged."""
    from PIL import Image

    image, profile, failure = None, None, None
    for tile in level.tiles():
        try:
            pixels = shown.pixels(*tile)
            if pixels is None:
                continue
            if image is None:
                data = shown.tile(*tile) or b""
                profile = read_tile_header(data, shown.name).icc_profile
        except Exception as error:  # codecs and stores raise anything
            failure = error
            continue
        if pixels.dtype.itemsize > 1:
            pixels = (pixels >> 8).astype("u1")
        part = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
        if image is None:
            image = Image.new(part.mode, place[2:], 0 if part.mode.endswith("A") else "white")
        left, top = level.region(tile.col, tile.row)[:2]
        image.paste(part.convert(image.mode), (left - place.x, top - place.y))
    if image is None and failure is not None:
        raise failure
    problem = "" if failure is None else error_line(failure)
    return image or Image.new("L", place[2:], "white"), profile, problem


def _encode(image: Image, profile: bytes | None) -> tuple[bytes, str]:
    """The smaller one of a PNG and a JPEG, and its media type; with alpha, a PNG."""
    png, jpeg = io.BytesIO(), io.BytesIO()
    image.save(png, "PNG", icc_profile=profile, optimize=True)
    if image.mode.endswith("A"):
        return png.getvalue(), "image/png"
    image.save(jpeg, "JPEG", icc_profile=profile, quality=90)
    if len(png.getvalue()) <= len(jpeg.getvalue()):
        return png.getvalue(), "image/png"
    return jpeg.getvalue(), "image/jpeg"
