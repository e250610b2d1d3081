"""Public functions of collections: create, append, remove."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from fasttile.collection.build import CollectionBuild, CollectionProgressCallback, CollectionReport
from fasttile.collection.descriptor import COLLECTION_SUFFIXES, Collection, read, tile_folder_of
from fasttile.collection.members import Member, replaceable_stems
from fasttile.collection.thumbnail_grid import ThumbnailGrid
from fasttile.collection.workspace import CollectionWorkspace, check_target_free
from fasttile.encode.codecs import Avif, Codec, Jpeg, Png, Webp, parse_codec
from fasttile.errors import OptionError, SourceError
from fasttile.jobs.footprint import Footprint, check_sources
from fasttile.jobs.progress import CancelToken, with_cancel
from fasttile.options.cut import CutOptions
from fasttile.sources.files import check_is_local
from fasttile.storage.paths import absolute_target, target_text
from fasttile.types import Icc, Shrink, Window

if TYPE_CHECKING:
    from typing import Unpack

    from fasttile.geometry import Region
    from fasttile.options.read import RawFormat

DEFAULT_MAX_LEVEL, DEFAULT_TILE_SIZE = 7, 256
"""The defaults of the tools of 2008."""

_CODEC_NAMES = {"jpg": "jpeg", "jpeg": "jpeg", "png": "png", "webp": "webp", "avif": "avif"}
"""The codec of each Format of a descriptor."""


class MemberKeywords(TypedDict, total=False):
    """How images are read and cut that are not cut yet: those of `CutOptions`, by its words."""

    overlap: int | None
    raw: str | RawFormat | None
    region: Region | tuple[int, int, int, int] | None
    bands: str | None
    nodata: float | str | None
    window: Window
    page: int | None
    icc: Icc
    shrink: Shrink
    max_pixels: int | None
    allow_truncated: bool
    threads: int | None


def create(
    dest: str | os.PathLike[str],
    sources: Iterable[object],
    *,
    max_level: int = DEFAULT_MAX_LEVEL,
    tile_size: int = DEFAULT_TILE_SIZE,
    format: str | None = None,
    quality: int | None = None,
    background: str | None = None,
    images: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    progress: CollectionProgressCallback | bool | None = None,
    cancel: CancelToken | None = None,
    options: CutOptions | None = None,
    **keywords: Unpack[MemberKeywords],
) -> CollectionReport:
    """Make a Deep Zoom collection of images: all of it, or nothing.

    Args:
        dest: The .dzc to write. The shared tiles go to the folder `<stem>_files` beside it.
        sources: An image that is cut already, a path of a .dzi (or .xml, as some tools name it),
            stays where it is. Any other source of `fasttile.cut` is cut first, to
            `<stem>.dzi` in `images`; the second of that name to `<stem>-2.dzi`.
        max_level: The largest level with shared tiles, whose thumbnails have 2^max_level pixels a
            side.
        tile_size: Side of a shared tile in pixels: a power of two, at least 2^max_level.
        format: "jpeg", "png", "webp" or "avif", with parameters as for `cut`; of the shared
            tiles, and of images that are cut. Default: "jpeg".
        quality: 1 to 100, of the same.
        background: The colour between thumbnails and below pixels with alpha.
            Default: "white".
        images: The folder for cut images. Default: the folder `<stem>_images` beside dest.
        overwrite: True to replace an existing collection, and those of its images in `images` that
            have the name of an image that is cut now.
        progress: Called now and then, from the calling thread. True shows it, as in `fasttile.cut`.
        cancel: A token by which another thread cancels.
        options: Options for several calls; format, quality, background and keywords override its
            fields. It may set these and the fields of `MemberKeywords` only.
        **keywords: For images that are cut: icc="keep", page=2 …, see `MemberKeywords`.

    Raises:
        OptionError: An option cannot be used.
        SourceError: An image cannot be read.
        TargetError: The result cannot be written, would replace an image, or exists and overwrite
            is off.
        CancelledError: The callback returned False, or the token is cancelled.

    Example:
        >>> create("wall.dzc", ["cat.dzi", "dog.jpg"]).items  # doctest: +SKIP
        2
    """
    started = time.perf_counter()
    progress = with_cancel(progress, cancel)
    descriptor = _descriptor_path(dest, (".dzc",))  # an .xml may be anything
    cut_options = _member_options(keywords, options, format, quality, background)
    codec = _tile_codec(cut_options.format_text or "jpeg", cut_options.quality)
    grid = ThumbnailGrid(max_level, tile_size)
    given = _members(sources, descriptor)
    if not given:
        raise OptionError("a collection of no images was asked for")
    folder = _image_folder(descriptor, images)
    place = descriptor.with_name(f".{descriptor.name}.fasttile")
    if not os.path.lexists(place):  # else a killed run's result may have to be finished first
        check_target_free(descriptor, overwrite=overwrite)
    with CollectionWorkspace(descriptor, folder, must_exist=False) as work:
        check_target_free(descriptor, overwrite=overwrite)
        old = None
        with suppress(SourceError):  # a damaged one may be replaced too
            old = read(descriptor)
        sizes = (grid.max_level, grid.tile_size)
        empty = Collection(descriptor, *sizes, codec.extension, _quality_fraction(codec), 0, ())
        build = CollectionBuild(work, empty, codec, cut_options, progress)
        build.add_members(given, folder, replaceable_stems(old, folder, given))
        return build.publish(started, replaces=overwrite)


def append(
    dest: str | os.PathLike[str],
    sources: Iterable[object],
    *,
    format: str | None = None,
    background: str | None = None,
    images: str | os.PathLike[str] | None = None,
    progress: CollectionProgressCallback | bool | None = None,
    cancel: CancelToken | None = None,
    options: CutOptions | None = None,
    **keywords: Unpack[MemberKeywords],
) -> CollectionReport:
    """Add images to a collection, behind those that it has: all of them, or none.

    Shared tiles that get thumbnails are made again from the images' own tiles, so those images
    must exist; the few tiles of the smallest levels hold all images. Other tiles stay unchanged.

    Args:
        dest: The descriptor: a .dzc, or Deep Zoom Composer's dzc_output.xml.
        images, progress, cancel, options, **keywords: As for `create`. An image that is
            cut never replaces another.
        format: The format that the collection has, for its parameters ("jpeg:progressive"),
            which the descriptor does not say. The quality is the descriptor's.
        background: The background of `create`.

    Raises:
        OptionError, TargetError, CancelledError: As for `create`.
        SourceError: The collection, or an image whose thumbnails are needed, cannot be read.
    """
    started = time.perf_counter()
    progress = with_cancel(progress, cancel)
    descriptor = _descriptor_path(dest)
    given = _members(sources, descriptor)
    if not given:
        raise OptionError("there is no image to append")
    folder = _image_folder(descriptor, images)
    with CollectionWorkspace(descriptor, folder, must_exist=True) as work:
        old = read(descriptor)
        codec, chosen = _existing_codec(old, format or (options.format_text if options else None))
        cut_options = _member_options(keywords, options, chosen, _quality_percent(old), background)
        first = old.items[-1].n + 1 if old.items else 0
        build = CollectionBuild(work, old, codec, cut_options, progress, first)
        build.add_members(given, folder)
        return build.publish(started)


def remove(
    dest: str | os.PathLike[str],
    items: Iterable[int | str | os.PathLike[str]],
    *,
    format: str | None = None,
    background: str | None = None,
    progress: CollectionProgressCallback | bool | None = None,
    cancel: CancelToken | None = None,
) -> CollectionReport:
    """Take images out of a collection: all of them, or none.

    Later images move up, for the numbers of a collection's cells have no gaps; so the shared
    tiles from there on are made again, as by `append`. The images' own files stay.

    Args:
        dest: As for `append`.
        items: The Ids of images, as whole numbers; or their Sources, or paths of their .dzi.
        format, background, progress, cancel: As for `append`.

    Raises:
        OptionError: The collection has no such image.
        SourceError, TargetError, CancelledError: As for `append`.
    """
    started = time.perf_counter()
    progress = with_cancel(progress, cancel)
    descriptor = _descriptor_path(dest)
    folder = _image_folder(descriptor, None)
    with CollectionWorkspace(descriptor, folder, must_exist=True) as work:
        old = read(descriptor)
        codec, chosen = _existing_codec(old, format)
        cut_options = _member_options({}, None, chosen, _quality_percent(old), background)
        gone = _select_ids(old, _reject_single_path(items))
        stay = [item for item in old.items if item.id not in gone]
        moved = (number for number, item in enumerate(stay) if item.n != number)
        first = next(moved, len(stay))
        renumbered = tuple(replace(item, n=number) for number, item in enumerate(stay))
        build = CollectionBuild(
            work, replace(old, items=renumbered), codec, cut_options, progress, first
        )
        return build.publish(started)


def _descriptor_path(
    dest: str | os.PathLike[str], suffixes: tuple[str, ...] = COLLECTION_SUFFIXES
) -> Path:
    text = target_text(dest)
    check_is_local(text, "a collection")
    path = absolute_target(Path(text))
    if path.suffix.lower() not in suffixes:
        raise OptionError(f"{path}: the name of a collection ends in {' or '.join(suffixes)}")
    return path


def _reject_single_path(values: Iterable[Any]) -> Iterable[Any]:
    """What was given, if it is not one path by mistake, which would be taken letter by letter."""
    if isinstance(values, str | bytes | os.PathLike):
        raise TypeError(f"{values!r} is one name; a list of them is wanted")
    return values


def _members(sources: Iterable[object], descriptor: Path) -> list[Member]:
    """The images of a call.

    Raises:
        TargetError: The collection's own files would replace one of them.
    """
    images = list(_reject_single_path(sources))
    tiles = tile_folder_of(descriptor).name
    check_sources(images, Footprint("", str(descriptor.parent), (descriptor.name,), tiles))
    return [Member.from_source(image) for image in images]


def _image_folder(descriptor: Path, images: str | os.PathLike[str] | None) -> Path:
    """The folder that images are cut to."""
    if images is None:
        return descriptor.with_name(f"{descriptor.stem}_images")
    check_is_local(images, "the images of a collection")
    folder, files = absolute_target(Path(images)), tile_folder_of(descriptor)
    if files in (folder, *folder.parents):
        raise OptionError(f"{folder} is for the collection's shared tiles, not for images")
    return folder


def _member_options(
    keywords: Any,
    options: CutOptions | None,
    format: str | None,
    quality: int | None,
    background: str | None,
) -> CutOptions:
    """The options of a call, for images that are cut first.

    Raises:
        TypeError: A keyword is none of MemberKeywords.
        OptionError: The object sets a field that a collection does not take.
    """
    known = MemberKeywords.__annotations__
    for name in keywords:
        if name not in known:
            raise TypeError(f"no option {name!r}; for images there are {', '.join(known)}")
    own = {"format": format, "quality": quality, "background": background}
    for field in fields(CutOptions):
        is_known = field.name in known or field.name in own
        if options is not None and not is_known and getattr(options, field.name) != field.default:
            raise OptionError(f"options: a collection takes no {field.name}; leave it out")
    given = {name: value for name, value in own.items() if value is not None}
    return CutOptions.from_keywords({**keywords, **given}, options)


def _tile_codec(format: str, quality: int | None) -> Codec:
    codec = parse_codec(format, quality)
    if not isinstance(codec, Jpeg | Png | Webp | Avif):
        raise OptionError(
            f"a collection holds no {codec.name} tiles; expected jpeg, png, webp or avif"
        )
    return codec


def _quality_fraction(codec: Codec) -> float:
    """The quality as descriptors have it."""
    lossless = isinstance(codec, Webp) and codec.lossless
    return codec.quality / 100 if isinstance(codec, Jpeg | Webp | Avif) and not lossless else 1.0


def _existing_codec(old: Collection, format: str | None) -> tuple[Codec, str]:
    """How an older collection's tiles are encoded, and that in one word."""
    name = _CODEC_NAMES.get(old.format.lower())
    if name is None:
        raise SourceError(
            f"{old.path} has {old.format} tiles, which cannot be made here; "
            f"{', '.join(_CODEC_NAMES)} can"
        )
    chosen = format or name
    codec = _tile_codec(chosen, _quality_percent(old))
    if codec.name != name:
        raise OptionError(f"{old.path} has {old.format} tiles, not {codec.name}")
    return codec, chosen


def _quality_percent(old: Collection) -> int | None:
    """The quality of a collection's tiles, 1 to 100; None for PNG, which has none."""
    return None if old.format.lower() == "png" else max(1, round(100 * old.quality))


def _select_ids(old: Collection, wanted: Iterable[int | str | os.PathLike[str]]) -> set[int]:
    """The Ids of the items that are meant."""
    ids = {item.id for item in old.items}
    named: dict[str, set[int]] = {}
    for item in old.items:
        named.setdefault(item.source, set()).add(item.id)
        with suppress(SourceError):
            named.setdefault(os.path.normpath(old.item_descriptor(item)), set()).add(item.id)
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
