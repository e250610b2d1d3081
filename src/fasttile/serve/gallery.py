"""All images and results below a folder: a page of thumbnails, and a viewer of each."""

from __future__ import annotations

import io
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from PIL import Image

from fasttile.batch.items import IMAGE_SUFFIX
from fasttile.colour.convert import convert_pixels
from fasttile.errors import (
    FasttileError,
    OptionError,
    SourceError,
    SourceNotFoundError,
    redact_url,
)
from fasttile.jobs.cut_job import open_job
from fasttile.jobs.footprint import RESULT_DESCRIPTORS
from fasttile.jobs.plan import Plan
from fasttile.ondemand import CACHE_BYTES, ImagePyramid, open_pyramid
from fasttile.options.cut import CutOptions
from fasttile.readers import is_pyramid, open_result
from fasttile.serve.content import (
    BACK_LINK,
    HTML_TYPE,
    OptionalFile,
    ViewerContent,
    open_content,
    render_pyramid,
)
from fasttile.sources.files import (
    is_array_folder,
    may_be_mosaic,
    parse_array_name,
    scheme_of,
)
from fasttile.storage.budget import BUDGET
from fasttile.storage.random_access import missing_file_advice
from fasttile.viewers import render_gallery, to_utf8

if TYPE_CHECKING:
    from typing import Unpack

    from fasttile.abc.reader import PyramidReader
    from fasttile.options.cut import CutKeywords
    from fasttile.types import Pixels

PREVIEW_SIDE = 256
"""Longest side of a thumbnail, in pixels; it is made from a level of at most twice that."""

MAX_LEVEL_PIXELS, MAX_LEVEL_TILES = 2**24, 2**12
"""Largest level that a thumbnail is made from, in pixels and in tiles."""

_PREVIEW_BYTES = 2**26  # of thumbnails that are kept
_RESULT_FILES = re.compile(r"(?i)\.(dzi|szi|zip|pmtiles|mbtiles)\Z")


class Item(NamedTuple):
    """An image or a result.

    Attributes:
        path: Its path.
        folder: The folder that holds it, as its heading; "" for the one that is shown.
    """

    path: str
    folder: str

    @property
    def name(self) -> str:
        """Its name on the page."""
        path = redact_url(self.path)
        return to_utf8(path.rstrip("/").rpartition("/")[2] or path)


def find_items(top: str, heading: str = "") -> Iterator[Item | None]:
    """The images and results below a folder, folder by folder, sorted by name.

    Hidden files and links are left out, and the tiles of results are no images. After as many
    entries as the budget allows, the last item is None.

    Args:
        top: The folder.
        heading: Its heading.

    Raises:
        SourceError: The folder cannot be read.
    """
    pending, entries_left = [(top, heading)], BUDGET.listed_entries
    while pending:
        folder, heading = pending.pop()
        try:
            with os.scandir(folder) as scan:
                entries = [*islice(scan, entries_left + 1)]
        except OSError as error:
            if folder == top:
                raise SourceError(f"{folder} cannot be read: {error.strerror}") from error
            continue
        entries_left -= len(entries)
        names = {entry.name for entry in entries}
        if folder != top and is_array_folder(folder):
            yield Item(folder, heading.rpartition("/")[0])
            continue
        inner = []
        for entry in sorted(entries, key=lambda entry: entry.name):
            name = entry.name
            if name.startswith(".") or entry.is_symlink():
                continue
            if entry.is_dir(follow_symlinks=False):
                stem = name.removesuffix("_files")
                if stem != name and not names.isdisjoint({f"{stem}.dzi", f"{stem}.xml"}):
                    continue
                below = f"{heading}/{name}" if heading else name
                if _is_result_folder(entry.path):
                    yield Item(entry.path, heading)
                else:
                    inner.append((entry.path, below))
            elif entry.is_file(follow_symlinks=False) and (
                re.search(IMAGE_SUFFIX, name) or _RESULT_FILES.search(name)
            ):
                yield Item(entry.path, heading)
        if entries_left < 0:
            yield None
            return
        pending += reversed(inner)


def is_folder_of_images(path: str) -> bool:
    """True for a folder that is not itself a result; a lone .dzi in it is one."""
    try:
        if not Path(path).is_dir() or _is_result_folder(path):
            return False
        if parse_array_name(path) is not None:
            return False
        with open_result(path) as reader:
            if reader.layout.type_name != "dzi":
                return False
    except (SourceError, OSError):
        return True
    return len([*islice(find_items(path), 2)]) > 1


def _is_result_folder(path: str) -> bool:
    return any(os.path.isfile(f"{path}/{name}") for name in RESULT_DESCRIPTORS)  # noqa: PTH113


def open_paths(
    path: object, *more: str | os.PathLike[str], **keywords: Unpack[CutKeywords]
) -> ViewerContent:
    """Open a path as `open_content` does; a folder, or several, as a page of thumbnails.

    Args:
        path, more: The paths.
        **keywords: Options of images, as for `open_pyramid`.

    Raises:
        SourceError: A path has none of these.
        OptionError: An option cannot be used, or there are options for a result or collection.
    """
    if isinstance(path, str | os.PathLike):
        paths = [os.fspath(other) for other in (path, *more)]
        if more or is_folder_of_images(paths[0]):
            return FolderContent(paths, keywords)
    elif more:
        raise OptionError(f"an object of type {type(path).__qualname__} is shown alone")
    return open_content(path, **keywords)


class FolderContent(ViewerContent):
    """A page of thumbnails. They are made when the page asks for them.

    Args:
        paths: Folders, results and images.
        keywords: Options of images; results have none.

    Raises:
        SourceError: There is neither an image nor a result.
    """

    def __init__(self, paths: Sequence[str], keywords: CutKeywords) -> None:
        title = Path(redact_url(paths[0])).absolute().name or paths[0]
        self.title = to_utf8(title if len(paths) == 1 else f"{title} and {len(paths) - 1} more")
        self._keywords = keywords
        self._items: list[Item] = []
        has_more = False
        for path in paths:
            found: Iterable[Item | None] = (Item(path, ""),)
            if is_folder_of_images(path):
                found = find_items(path, path.rstrip("/") if len(paths) > 1 else "")
            elif not (
                scheme_of(path)
                or may_be_mosaic(path)
                or Path(path).exists()
                or parse_array_name(path) is not None
            ):
                advice = missing_file_advice(path)
                raise SourceNotFoundError(f"{path}: there is no such file{advice}")
            for item in found:
                if item is None or len(self._items) == BUDGET.shown_items:
                    has_more = True
                    break
                self._items.append(item)
        if not self._items:
            raise SourceError(
                f"{paths[0]}: there is neither an image nor a result in this folder; name another, "
                "or a file"
            )
        count = len(self._items)
        size = f"{'the first ' * has_more}{count:,} image" + ("" if count == 1 else "s")
        sections: list[tuple[str, list[str]]] = []
        for item in self._items:
            if not sections or sections[-1][0] != to_utf8(item.folder):
                sections.append((to_utf8(item.folder), []))
            sections[-1][1].append(item.name)
        self.page = render_gallery(self.title, size, sections)
        self._lock = threading.Lock()
        self._opened: OrderedDict[int, _Opened] = OrderedDict()
        self._previews: OrderedDict[int, tuple[bytes, str] | FasttileError] = OrderedDict()
        self._preview_bytes = 0

    def preview(self, item: int) -> OptionalFile:
        """The thumbnail of an image.

        Raises:
            FasttileError: It cannot be made.
        """
        if item >= len(self._items):
            return None
        with self._lock:
            found = self._previews.get(item)
            if found is not None:
                self._previews.move_to_end(item)
        if found is None:
            try:
                found = self._make_preview(item)
            except FasttileError as error:
                found = error.with_traceback(None)
            with self._lock:
                self._keep_preview(item, found)
        if isinstance(found, FasttileError):
            raise found
        return found

    def item_page(self, item: int) -> OptionalFile:
        """The page that shows an image.

        Raises:
            FasttileError: It cannot be opened.
        """
        if item >= len(self._items):
            return None
        with self._open(item) as reader:
            name, root = self._items[item].name, f"../../item/{item}"
            page = render_pyramid(reader, name, root, extra_html=BACK_LINK)
        return page, HTML_TYPE

    def item_tile(self, item: int, level: int, col: int, row: int) -> OptionalFile:
        """A tile of an image."""
        if item >= len(self._items):
            return None
        with self._open(item) as reader:
            data = reader.tile(level, col, row)
            return None if data is None else (data, reader.media_type)

    def close(self) -> None:
        """Close all pyramids."""
        for opened in self._opened.values():
            opened.close()

    def _keep_preview(self, item: int, found: tuple[bytes, str] | FasttileError) -> None:
        if item in self._previews:  # two threads have made it
            return
        self._previews[item] = found
        self._preview_bytes += _size_of(found)
        while self._preview_bytes > _PREVIEW_BYTES:
            _, oldest = self._previews.popitem(last=False)
            self._preview_bytes -= _size_of(oldest)

    def _make_preview(self, item: int) -> tuple[bytes, str]:
        path = self._items[item].path
        with open_pyramid(path, **self._options_of(path)) as reader:
            if not isinstance(reader, ImagePyramid):
                return _encode_preview(_image_of_result(reader))
        # Read once from top to bottom, which takes little memory.
        options = CutOptions.from_keywords(self._keywords)
        options = replace(options, layout="dzi", tile_size=2 * PREVIEW_SIDE, overlap=0, levels=None)
        with open_job(Plan.for_pixels(options), path) as job:
            pyramid = job.layout.pyramid
            number = pyramid.single_tile_level
            small = replace(pyramid, first_level=0, last_level=number)
            image = None
            for run in replace(job, layout=replace(job.layout, pyramid=small)).tile_runs():
                if run.level.number == number:
                    ((_, pixels),) = run.tiles()
                    image = _to_image(convert_pixels(job.colour_plan, pixels.copy()))
                run.release()
            job.source.check_intact()
        assert image is not None  # the level has one tile
        return _encode_preview(image)

    def _options_of(self, path: str) -> CutKeywords:
        return {} if is_pyramid(path) else self._keywords

    @contextmanager
    def _open(self, item: int) -> Iterator[PyramidReader]:
        """An image's pyramid, which stays open until others are used."""
        with self._lock:
            opened = self._opened.get(item)
            if opened is None:
                opened = self._opened[item] = _Opened()
            self._opened.move_to_end(item)
            opened.users += 1
        try:
            with opened.lock:
                if opened.reader is None:
                    path = self._items[item].path
                    cache_bytes = CACHE_BYTES // BUDGET.open_pyramids
                    opened.reader = open_pyramid(
                        path, cache_bytes=cache_bytes, **self._options_of(path)
                    )
            yield opened.reader
        finally:
            unused = []
            with self._lock:
                opened.users -= 1
                for number, other in [*self._opened.items()]:
                    is_over = len(self._opened) > BUDGET.open_pyramids
                    if not other.users and (is_over or other.reader is None):
                        unused.append(self._opened.pop(number))
            for other in unused:
                other.close()


class _Opened:
    """A pyramid that is open, or about to be, and the number of threads that use it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0
        self.reader: PyramidReader | None = None

    def close(self) -> None:
        if self.reader is not None:
            self.reader.close()


def _size_of(found: tuple[bytes, str] | FasttileError) -> int:
    return len(found[0]) if isinstance(found, tuple) else 1024


def _image_of_result(reader: PyramidReader) -> Image.Image:
    """The image of the largest level that is small enough, or of the smallest stored level.

    Raises:
        SourceError: A tile cannot be read, or all levels are large.
    """
    pyramid = reader.pyramid
    number = pyramid.stored_range[0]
    for other in pyramid.stored_range:
        if max(pyramid.image_size(other)) <= 2 * PREVIEW_SIDE:
            number = other
    level, place = pyramid.levels[number], pyramid.placement(number)
    if place.width * place.height > MAX_LEVEL_PIXELS or level.tile_count > MAX_LEVEL_TILES:
        raise SourceError(
            f"{reader.name}: its smallest level has {place.width}×{place.height} pixels in "
            f"{level.tile_count} tiles, too many for a thumbnail; open its viewer"
        )
    image = Image.new("RGBA", (place.width, place.height))
    for tile in level.tiles():
        region = level.region(tile.col, tile.row)
        inner = region.intersection(place)
        if not inner.width or not inner.height:
            continue
        pixels = reader.pixels(*tile)
        if pixels is not None:
            image.paste(_to_image(pixels), (region.x - place.x, region.y - place.y))
    return image


def _to_image(pixels: Pixels) -> Image.Image:
    if pixels.dtype.itemsize == 2:
        pixels = (pixels >> 8).astype("uint8")
    bands = pixels.shape[2]
    mode = ("L", "LA", "RGB", "RGBA")[bands - 1]
    size = pixels.shape[1], pixels.shape[0]
    return Image.frombytes(mode, size, pixels.tobytes()).convert("RGBA")


def _encode_preview(image: Image.Image) -> tuple[bytes, str]:
    image.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
    extrema: Any = image.getchannel("A").getextrema()
    data = io.BytesIO()
    if extrema[0] == 255:
        image.convert("RGB").save(data, "JPEG", quality=85)
        return data.getvalue(), "image/jpeg"
    image.save(data, "PNG")
    return data.getvalue(), "image/png"
