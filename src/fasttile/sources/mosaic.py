"""Mosaics: many images that are one source, and the rows and grids that describe them in Python.

A mosaic is described before any image is opened; `mosaic_source` opens it. Lists in files and
patterns of names are read by `mosaic_lists`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from fasttile.errors import OptionError, redact_url
from fasttile.geometry import Region
from fasttile.options import parse_colour
from fasttile.sources.files import STANDARD_INPUT, is_stream
from fasttile.types import Colour


class Stored(NamedTuple):
    """What the images of a VRT have to be: GDAL reads pixels as they are stored.

    Attributes:
        type_name: NumPy's name of a type that holds all their values.
        has_palette: Whether their pixels are numbers of colours.
    """

    type_name: str
    has_palette: bool


class Member(NamedTuple):
    """An image of a mosaic.

    Attributes:
        image: What `open_source` opens: a path, an array, a PIL image …
        x, y: Its place in pixels, which may be negative; in a grid, its column and row, from 0.
        part: The part of the image that is taken. Default: all.
        bands: Numbers of its bands that are taken, from 1. Default: all.
        is_complete: True if the part has to be all of the image; else the image is refused.
        stored: What the image has to be, and not turned; else it is refused. Default: anything.
    """

    image: Any
    x: int
    y: int
    part: Region | None = None
    bands: tuple[int, ...] = ()
    is_complete: bool = False
    stored: Stored | None = None

    @property
    def name(self) -> str:
        """Name in messages: its path, or its type."""
        if self.path is not None:
            return redact_url(self.path)
        return f"the {type(self.image).__name__} at {self.x}, {self.y}"

    @property
    def path(self) -> str | None:
        """Its path, or None for other objects."""
        return os.fspath(self.image) if isinstance(self.image, str | os.PathLike) else None

    def signature(self) -> tuple[int, int] | None:
        """Size in bytes and time of its file; None for other images, and for missing ones."""
        if self.path is None:
            return None
        with suppress(OSError, ValueError):
            status = os.stat(self.path)  # noqa: PTH116 -- faster than Path, for many files
            return status.st_size, status.st_mtime_ns
        return None


@dataclass(frozen=True)
class Mosaic:
    """Many images as one, for all that takes a source; see `mosaic`.

    Attributes:
        name: Name in messages: the pattern or the path of the list.
        members: The images; a later one covers those before it.
        grid: Number of columns and rows if places are those, whose sizes are those of the images.
            Default: places are in pixels.
        size: Width and height in pixels. Default: the box around the images.
        background: Red, green and blue of gaps. Default: the option `background`.
        allow_missing: True to leave a gap for an image that cannot be opened.
        way_out: How a user allows missing images, for messages.
        notes: One line each on the list.
    """

    name: str
    members: tuple[Member, ...]
    grid: tuple[int, int] | None = None
    size: tuple[int, int] | None = None
    background: Colour | None = None
    allow_missing: bool = False
    way_out: str = "allow_missing=True"
    notes: tuple[str, ...] = ()

    @property
    def has_only_paths(self) -> bool:
        """True if each image is a file, which other processes can open."""
        return all(member.path is not None for member in self.members)

    def identity(self) -> tuple[int, str]:
        """Sum of the sizes of all files in bytes, and a digest of their names, places and times.

        Both change when an image is replaced, moved, added or removed.
        """
        from hashlib import sha256

        total, digest = 0, sha256()
        for member in self.members:
            size, changed = member.signature() or (0, -1)
            total += size
            name = os.path.basename(os.fspath(member.image))  # noqa: PTH119
            parts = (name, *member[1:], size, changed)
            digest.update(repr(parts).encode("utf-8", "surrogateescape"))
        digest.update(repr(self.size).encode())
        return total, digest.hexdigest()


def mosaic(
    images: Iterable[Any],
    *,
    background: str | Colour | None = None,
    allow_missing: bool = False,
) -> Mosaic:
    """Many images as one source: a grid, or images at places in pixels.

    Args:
        images: Rows of images, from the top: `[[a, b], [c, None]]`, where None is a gap; all images
            of a row have one height, all of a column one width. Or images with the places of their
            upper left corners: `[(a, 0, 0), (b, 950, -3)]`; the mosaic is the box around them, and
            a later image covers those before it. Images are paths, addresses, arrays, PIL images
            and others that `open_source` takes more than once: streams are not.
        background: The colour of gaps: a name, "#rrggbb" or (red, green, blue). Default: that
            of the option `background` of the cut; transparent if an image has alpha.
        allow_missing: True to leave a gap for an image that is missing or damaged in its header.

    Returns:
        The mosaic, for `cut`, `open_source`, `open_pyramid` and all others that take a source. The
        images are opened there, and stay open no longer than they are read.

    Raises:
        OptionError: The images are neither rows nor places, or the colour is none.

    Example:
        >>> left, right = np.zeros((300, 400), np.uint8), np.zeros((300, 200, 3), np.uint8)
        >>> with fasttile.open_source(mosaic([[left, right]])) as source:
        ...     source.width, source.height, source.bands
        (600, 300, 3)
    """
    given = list(images)
    if not given:
        raise OptionError("mosaic: it has no image")
    placed = [_is_placed(one) for one in given]
    if any(placed) and not all(placed):
        raise OptionError("mosaic: rows of images and (image, x, y) cannot be mixed")
    members = (
        tuple(Member(image, int(x), int(y)) for image, x, y in given)
        if placed[0]
        else _grid_members(given)
    )
    for member in members:
        _check_image(member)
    count = f"{len(members):,} image{'s' if len(members) > 1 else ''}"
    return Mosaic(
        f"a mosaic of {count}",
        members,
        grid=None if placed[0] else (len(given[0]), len(given)),
        background=_parse_background(background),
        allow_missing=allow_missing,
    )


def _is_placed(one: Any) -> bool:
    """True for (image, x, y)."""
    numbers = one[1:] if isinstance(one, tuple | list) and len(one) == 3 else ()
    return bool(numbers) and all(_as_integer(number) is not None for number in numbers)


def _as_integer(value: object) -> int | None:
    """A whole number, of NumPy too; else None."""
    index = getattr(value, "__index__", None)
    if index is None or isinstance(value, bool):
        return None
    try:
        return int(index())
    except TypeError:  # an array of many values
        return None


def _grid_members(rows: Sequence[Any]) -> tuple[Member, ...]:
    for row in rows:
        if not isinstance(row, list | tuple):
            raise OptionError(
                f"mosaic: an object of type {type(row).__name__} is no row; expected "
                "[[image, …], …] or [(image, x, y), …] with whole numbers"
            )
        if len(row) != len(rows[0]):
            raise OptionError(
                f"mosaic: rows of {len(rows[0]):,} and of {len(row):,} images; put None in a gap"
            )
    members = tuple(
        Member(image, col, row)
        for row, images in enumerate(rows)
        for col, image in enumerate(images)
        if image is not None
    )
    if not members:
        raise OptionError("mosaic: it has no image")
    return members


def _check_image(member: Member) -> None:
    """Refuse an image that cannot be opened twice, or is a mosaic itself."""
    image = member.image
    if isinstance(image, Mosaic):
        raise OptionError("mosaic: a mosaic cannot be an image of another one; list its images")
    if is_stream(image) or (isinstance(image, str) and image == STANDARD_INPUT):
        raise OptionError(
            f"mosaic: {member.name}: a stream is read only once, and the images of a mosaic are "
            "opened more often; pass a path or bytes"
        )


def _parse_background(background: str | Colour | None) -> Colour | None:
    if background is None:
        return None
    if isinstance(background, str):
        try:
            return parse_colour(background)
        except OptionError as error:
            raise OptionError(f"mosaic: {error}") from None
    values = [_as_integer(value) for value in background]
    red, green, blue = ([*values, None, None, None])[:3]
    if len(values) != 3 or red is None or green is None or blue is None:
        raise OptionError(f"mosaic: background {background!r}; expected (red, green, blue)")
    if not all(0 <= value <= 255 for value in (red, green, blue)):
        raise OptionError(f"mosaic: background {background!r}; expected values of 0 to 255")
    return red, green, blue
