"""Which images a user means: files and addresses, folders of them, and lists."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from fasttile.errors import OptionError, SourceError
from fasttile.jobs.cut import CutReport
from fasttile.jobs.progress import CutProgress
from fasttile.options.cut import CutOptions
from fasttile.sinks import Target
from fasttile.sources.files import STANDARD_INPUT, scheme_of


@dataclass(frozen=True)
class BatchItem:
    """One of many: names and numbers, all that a worker is sent.

    Attributes:
        source: Its path or address.
        target: Where its result goes.
        options: How to cut it.
        every_page: Whether each page becomes a result of its own.
        fresh: Whether nothing stood there when it was handed out: what stands there later was made
            by a worker that was lost before it could say so.
        alone: Whether it may take as long as it likes; otherwise giants are handed back.
    """

    source: str
    target: Target
    options: CutOptions
    every_page: bool = False
    target_was_absent: bool = False
    allow_large_image: bool = False


@dataclass(frozen=True)
class BatchResult:
    """What has become of an image, or of a page of one.

    Attributes:
        source: Its path or address.
        target: What its result is, or would have been.
        report: What was made, or None.
        error: Why nothing was made, in one line; "" if it was.
        misused: Whether an option is wrong, not the image.
        trace: Where the error came from, for programmers.
        skipped: Whether an interrupted run before had made it.
    """

    source: str
    target: Path | str
    report: CutReport | None = None
    error: str = ""
    is_usage_error: bool = False
    trace: str = ""
    skipped: bool = False


@dataclass(frozen=True)
class BatchProgress:
    """How far a batch has come.

    Attributes:
        done, count: How many images are cut or have failed, and how many there are.
        source: The image that the rest is about: the one under way for the longest time.
        progress: How far that one is, if that is known.
    """

    done: int
    count: int
    source: str = ""
    progress: CutProgress | None = None


BatchProgressCallback = Callable[[BatchProgress], object]
"""Called now and then from the calling thread."""


# Which images a user means: files and addresses, folders of them, and lists.

LIST_PREFIX = "@"
"""What stands before the name of a list."""

_IMAGE_SUFFIX = re.compile(
    r"\.(avif|bif|bmp|czi|dcx|dib|gif|icns|ico|im|jfif|jp2|j2k|jpc|jpe|jpeg|jpg|jpx|mpo|mrxs|ndpi"
    r"|npy|pam|pbm|pcx|pgm|png|pnm|ppm|psd|qoi|ras|scn|sgi|sun|svs|svslide|tga|tif|tiff|vms|vmu"
    r"|webp|xbm|xpm|zvi)\Z",
    re.IGNORECASE,
)
"""What files are called that are taken for images where a folder is named."""

_DESCRIPTOR_NAMES = frozenset(
    {"ImageProperties.xml", "tilemapresource.xml", "info.json", "tiles.json"}
)
"""What lies in the folder of a result, whose tiles are no images to be cut."""


class InputImage(NamedTuple):
    """An image, and where it lies in the folder that was named.

    Attributes:
        source: Its path or address.
        place: The folders between that folder and the image, with forward slashes; or "".
    """

    source: str
    subfolder: str = ""


def expand_inputs(sources: Iterable[str]) -> Iterator[InputImage]:
    """The images that are meant, in order.

    Args:
        sources: Files and addresses, as they are; folders, for all images below them (by their
            endings; what is hidden is left out, and so are results of fasttile's); "@LIST" for
            the lines of a file, each a source, and "@-" for those of standard input.

    Raises:
        SourceError: A folder or a list cannot be read, or there is no image in it.
        OptionError: A list names a list.

    Example:
        >>> list(expand_inputs(["map.tif", "https://example.org/plan.png"]))[1].source
        'https://example.org/plan.png'
    """
    for source in sources:
        if source.startswith(LIST_PREFIX):
            yield from _expand_list(source)
        else:
            yield from _expand_source(source)


def may_be_several(source: str) -> bool:
    """Whether a source may stand for several images."""
    return source.startswith(LIST_PREFIX) or (scheme_of(source) is None and Path(source).is_dir())


def _expand_source(source: str) -> Iterator[InputImage]:
    # Slides in folders (.mrxs) are named by their file, so a folder always is one of images.
    if scheme_of(source) is not None or source == STANDARD_INPUT or not Path(source).is_dir():
        yield InputImage(source)
        return
    empty = True
    for image in _images_below(source, ""):
        empty = False
        yield image
    if empty:
        raise SourceError(f"{source}: no image lies in this folder, by the endings of its files")


def _images_below(folder: str, subfolder: str) -> Iterator[InputImage]:
    """The images of a folder, sorted, and then those of the folders in it."""
    try:
        with os.scandir(folder) as scan:
            entries = sorted(scan, key=lambda entry: entry.name)
    except OSError as error:
        raise SourceError(f"{folder} cannot be read: {error.strerror}") from error
    names = {entry.name for entry in entries}
    if not names.isdisjoint(_DESCRIPTOR_NAMES):
        return
    folders = []
    for entry in entries:
        name = entry.name
        if name.startswith("."):
            continue
        if entry.is_dir():
            if not _is_tile_folder(name, names):
                folders.append(name)
        elif _IMAGE_SUFFIX.search(name):
            yield InputImage(f"{folder.rstrip('/')}/{name}" if folder else name, subfolder)
    for name in folders:
        if not os.path.islink(f"{folder}/{name}"):  # noqa: PTH114 -- a link may lead back
            inner = f"{subfolder}/{name}" if subfolder else name
            yield from _images_below(f"{folder.rstrip('/')}/{name}", inner)


def _is_tile_folder(name: str, names: set[str]) -> bool:
    """Whether a folder holds the tiles of a Deep Zoom image or collection beside it."""
    stem = name.removesuffix("_files")
    return stem != name and not names.isdisjoint({f"{stem}.dzi", f"{stem}.dzc", f"{stem}.xml"})


def _expand_list(source: str) -> Iterator[InputImage]:
    name = source.removeprefix(LIST_PREFIX)
    try:
        lines = sys.stdin.buffer.read() if name == STANDARD_INPUT else Path(name).read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise SourceError(f"the list {name or source} cannot be read: {reason}") from error
    named = [os.fsdecode(line.rstrip(b"\r")) for line in lines.split(b"\n")]
    named = [line for line in named if line.strip()]
    if not named:
        raise SourceError(f"the list {name} names no image")
    for line in named:
        if line.startswith(LIST_PREFIX):
            raise OptionError(f"{line}: a list in a list ({name}); ./{line} would be a file")
        yield from _expand_source(line)
