"""Collections created and changed: what a caller wishes for, checked, and carried out."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from ..codec import Codec, Jpeg, Png, Webp, parse_codec
from ..errors import OptionError, SourceError
from ..options import CutOptions, Icc, Shrink, Window
from ..sinks.places import absolute
from .descriptor import ENDINGS, Collection, files_of
from .gallery import Picture, replaced_by
from .making import CollectionReport, Making, ProgressCallback
from .morton import Grid
from .reading import read
from .workplace import Workplace, refuse_taken

if TYPE_CHECKING:
    from typing import Unpack

    from ..geometry import Region
    from ..sources.rawformat import RawFormat

MAX_LEVEL, TILE_SIZE = 7, 256
"""What the tools of 2008 took, unless told otherwise."""

_FORMATS = {"jpg": "jpeg", "jpeg": "jpeg", "png": "png", "webp": "webp"}
"""What each Format of a descriptor is called here."""


class PictureWords(TypedDict, total=False):
    """How pictures are read and cut that are not cut yet: those of `CutOptions`, by its words."""

    overlap: int | None
    raw: str | RawFormat | None
    region: Region | tuple[int, int, int, int] | None
    window: Window
    page: int | None
    icc: Icc
    shrink: Shrink
    max_pixels: int | None
    allow_truncated: bool
    threads: int | None


def create(
    dest: str | os.PathLike[str],
    pictures: Iterable[Any],
    *,
    max_level: int = MAX_LEVEL,
    tile_size: int = TILE_SIZE,
    format: str = "jpeg",
    quality: int | None = None,
    background: str = "white",
    images: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
    **options: Unpack[PictureWords],
) -> CollectionReport:
    """Make a Deep Zoom collection of pictures: all of it, or nothing.

    Args:
        dest: The .dzc to write. The shared tiles go to the folder `<stem>_files` beside it.
        pictures: What is cut already, a path of a .dzi (or the .xml that some tools call it),
            stays where it is. Anything else that `fasttile.cut` takes is cut first, to
            `<stem>.dzi` in `images`; the second of that name to `<stem>-2.dzi`.
        max_level: The largest level with shared tiles, whose thumbnails have 2^max_level pixels a
            side.
        tile_size: Side of a shared tile in pixels: a power of two, at least 2^max_level.
        format: "jpeg", "png" or "webp", with parameters as for `cut`; of the shared tiles, and of
            pictures that are cut.
        quality: 1 to 100, of the same.
        background: What is between thumbnails, and what pixels with alpha are laid on.
        images: Where pictures are cut to. Default: the folder `<stem>_images` beside dest.
        overwrite: Whether a collection that stands there is replaced, and those of its pictures
            in `images` whose namesakes are cut now.
        progress: Called now and then, from the calling thread.
        **options: For pictures that are cut: icc="keep", page=2 …, see `PictureWords`.

    Raises:
        OptionError: An option cannot be used.
        SourceError: A picture cannot be read.
        TargetError: The result cannot be written, or one stands there and overwrite is off.
        Cancelled: The callback gave False.

    Example:
        >>> create("wall.dzc", ["cat.dzi", "dog.jpg"]).items  # doctest: +SKIP
        2
    """
    started = time.perf_counter()
    descriptor = _descriptor(dest, (".dzc",))  # an .xml may be anything
    wishes = _wishes(options, format, quality, background)
    codec = _codec(format, quality)
    grid = Grid(max_level, tile_size)
    given = [Picture.of(picture) for picture in _several(pictures)]
    if not given:
        raise OptionError("a collection of no pictures was asked for")
    place = descriptor.with_name(f".{descriptor.name}.fasttile")
    if not os.path.lexists(place):  # else a killed run's result may have to be finished first
        refuse_taken(descriptor, overwrite=overwrite)
    with Workplace(descriptor, exists=False) as work:
        refuse_taken(descriptor, overwrite=overwrite)
        old = None
        with suppress(SourceError):  # a damaged one may be replaced too
            old = read(descriptor)
        sizes = (grid.max_level, grid.tile_size)
        empty = Collection(descriptor, *sizes, codec.extension, _share(codec), 0, ())
        making = Making(work, empty, codec, wishes, progress)
        folder = _images(descriptor, images)
        making.add(given, folder, replaced_by(old, folder, given))
        return making.publish(started, replaces=overwrite)


def append(
    dest: str | os.PathLike[str],
    pictures: Iterable[Any],
    *,
    format: str | None = None,
    background: str = "white",
    images: str | os.PathLike[str] | None = None,
    progress: ProgressCallback | None = None,
    **options: Unpack[PictureWords],
) -> CollectionReport:
    """Add pictures to a collection, behind those that it has: all of them, or none.

    Shared tiles that get thumbnails are made anew from the pictures' own tiles, so those pictures
    have to be there; the smallest levels' few tiles hold all of them. The others stay as they are.

    Args:
        dest: The descriptor: a .dzc, or Deep Zoom Composer's dzc_output.xml.
        pictures, images, progress, **options: As for `create`. A picture that is cut never
            replaces another.
        format: The format that the collection has, for its parameters ("jpeg:progressive"),
            which the descriptor does not say. The quality is the descriptor's.
        background: What `create` was told.

    Raises:
        OptionError, TargetError, Cancelled: As for `create`.
        SourceError: The collection, or a picture whose thumbnails are needed, cannot be read.
    """
    started = time.perf_counter()
    descriptor = _descriptor(dest)
    given = [Picture.of(picture) for picture in _several(pictures)]
    if not given:
        raise OptionError("there is no picture to append")
    with Workplace(descriptor, exists=True) as work:
        old = read(descriptor)
        codec, wished = _same_codec(old, format)
        wishes = _wishes(options, wished, _percent(old), background)
        first = old.items[-1].n + 1 if old.items else 0
        making = Making(work, old, codec, wishes, progress, first)
        making.add(given, _images(descriptor, images))
        return making.publish(started)


def remove(
    dest: str | os.PathLike[str],
    items: Iterable[int | str | os.PathLike[str]],
    *,
    format: str | None = None,
    background: str = "white",
    progress: ProgressCallback | None = None,
) -> CollectionReport:
    """Take pictures out of a collection: all of them, or none.

    Later pictures move up, for the numbers of a collection's cells have no gaps; so the shared
    tiles from there on are made anew, as `append` does it. The pictures' own files stay.

    Args:
        dest: As for `append`.
        items: The Ids of pictures, as whole numbers; or their Sources, or paths of their .dzi.
        format, background, progress: As for `append`.

    Raises:
        OptionError: The collection has no such picture.
        SourceError, TargetError, Cancelled: As for `append`.
    """
    started = time.perf_counter()
    descriptor = _descriptor(dest)
    with Workplace(descriptor, exists=True) as work:
        old = read(descriptor)
        codec, wished = _same_codec(old, format)
        wishes = _wishes({}, wished, _percent(old), background)
        gone = _chosen(old, _several(items))
        stay = [item for item in old.items if item.id not in gone]
        moved = (number for number, item in enumerate(stay) if item.n != number)
        first = next(moved, len(stay))
        renumbered = tuple(replace(item, n=number) for number, item in enumerate(stay))
        making = Making(work, replace(old, items=renumbered), codec, wishes, progress, first)
        return making.publish(started)


def _descriptor(dest: str | os.PathLike[str], endings: tuple[str, ...] = ENDINGS) -> Path:
    path = absolute(Path(dest))
    if path.suffix.lower() not in endings:
        raise OptionError(f"{path}: the name of a collection ends in {' or '.join(endings)}")
    return path


def _several(values: Iterable[Any]) -> Iterable[Any]:
    """What was given, if it is not one path by mistake, which would be taken letter by letter."""
    if isinstance(values, str | bytes | os.PathLike):
        raise TypeError(f"{values!r} is one name; a list of them is wanted")
    return values


def _images(descriptor: Path, images: str | os.PathLike[str] | None) -> Path:
    """The folder that pictures are cut to."""
    if images is None:
        return descriptor.with_name(f"{descriptor.stem}_images")
    folder, files = absolute(Path(images)), files_of(descriptor)
    if files in (folder, *folder.parents):
        raise OptionError(f"{folder} is for the collection's shared tiles, not for pictures")
    return folder


def _wishes(words: Any, format: str, quality: int | None, background: str) -> CutOptions:
    """How pictures are cut that are not cut yet."""
    known = PictureWords.__annotations__
    for word in words:
        if word not in known:
            raise TypeError(f"no option {word!r}; for pictures there are {', '.join(known)}")
    return CutOptions.of({**words, "format": format, "quality": quality, "background": background})


def _codec(format: str, quality: int | None) -> Codec:
    codec = parse_codec(format, quality)
    if not isinstance(codec, Jpeg | Png | Webp):
        raise OptionError(f"a collection holds no {codec.name} tiles; jpeg, png or webp would do")
    return codec


def _share(codec: Codec) -> float:
    """The quality as descriptors have it."""
    lossless = isinstance(codec, Webp) and codec.lossless
    return codec.quality / 100 if isinstance(codec, Jpeg | Webp) and not lossless else 1.0


def _same_codec(old: Collection, format: str | None) -> tuple[Codec, str]:
    """How an older collection's tiles are encoded, and that in one word."""
    name = _FORMATS.get(old.format.lower())
    if name is None:
        raise SourceError(
            f"{old.path} has {old.format} tiles, which cannot be made here; "
            f"{', '.join(_FORMATS)} can"
        )
    wished = format or name
    codec = _codec(wished, _percent(old))
    if codec.name != name:
        raise OptionError(f"{old.path} has {old.format} tiles, not {codec.name}")
    return codec, wished


def _percent(old: Collection) -> int:
    return max(1, round(100 * old.quality))


def _chosen(old: Collection, wanted: Iterable[int | str | os.PathLike[str]]) -> set[int]:
    """The Ids of the items that are meant."""
    ids = {item.id for item in old.items}
    named: dict[str, set[int]] = {}
    for item in old.items:
        named.setdefault(item.source, set()).add(item.id)
        with suppress(SourceError):
            named.setdefault(os.path.normpath(old.picture(item)), set()).add(item.id)
    chosen: set[int] = set()
    for one in wanted:
        if isinstance(one, int):
            found = {one} & ids
        else:
            place = os.path.normpath(Path(one).absolute())
            found = named.get(os.fspath(one)) or named.get(place) or set()
        if not found:
            raise OptionError(f"{old.path} has no item {one}")
        chosen |= found
    if not chosen:
        raise OptionError("there is no item to remove")
    return chosen
