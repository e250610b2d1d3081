"""The images of a batch: expanding inputs, and what each image's result is."""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from fasttile.errors import (
    FasttileError,
    OptionError,
    SourceError,
    as_fasttile_error,
    redact_url,
)
from fasttile.jobs.cut import CutReport
from fasttile.jobs.footprint import RESULT_DESCRIPTORS, source_name
from fasttile.jobs.plan import Plan
from fasttile.jobs.progress import CutProgress
from fasttile.layouts import RECORD_NAME
from fasttile.options.cut import CutOptions
from fasttile.sinks import Target
from fasttile.sources.files import (
    ARRAY_METADATA,
    STANDARD_INPUT,
    is_array_folder,
    parse_array_name,
    scheme_of,
)
from fasttile.storage.random_access import open_regular_file


@dataclass(frozen=True)
class BatchItem:
    """One image of a batch, as it is sent to a worker: paths, options and numbers.

    Attributes:
        source: Path or address of the image.
        plan: Target and options.
        every_page: True if each page becomes a result of its own.
        target_was_absent: True if no result existed when the item was handed out. A result that
            exists later was written by a worker that was lost before it could answer.
        error: Why the image cannot be cut, if that is known before.
        is_unchanged: True if the result is there, and made from the same image in the same way.
    """

    source: str
    plan: Plan
    every_page: bool = False
    target_was_absent: bool = False
    error: FasttileError | None = None
    is_unchanged: bool = False

    @property
    def target(self) -> Target:
        """Path and container of the result."""
        return self.plan.target

    @property
    def options(self) -> CutOptions:
        """The options of the cut."""
        return self.plan.options

    def with_threads(self, threads: int | None) -> BatchItem:
        """The same image, cut with this number of threads."""
        return replace(
            self, plan=replace(self.plan, options=replace(self.options, threads=threads))
        )


@dataclass(frozen=True)
class BatchResult:
    """Result of one image of a batch, or of one page of it.

    Attributes:
        source: Path or address of the image.
        target: Path or address of its result, even if there is none.
        report: The report, or None after an error.
        exception: The error, or None. Errors of other libraries are FasttileErrors here.
        trace: Traceback of the error, as text.
        skipped: True if an earlier run had written the result before.
    """

    source: str
    target: Path | str
    report: CutReport | None = None
    exception: FasttileError | None = None
    trace: str = ""
    skipped: bool = False

    @classmethod
    def of_error(cls, source: str, plan: Plan, error: Exception) -> BatchResult:
        """The result of an image that cannot be cut; other libraries' errors get a message."""
        trace = "".join(traceback.format_exception(error))
        exception = as_fasttile_error(error, source_name(source))
        return cls(source, plan.target.location, exception=exception, trace=trace)

    @property
    def error(self) -> str:
        """Text of the error in one line; "" if there is none."""
        return "" if self.exception is None else str(self.exception)


class LargeImage(NamedTuple):
    """Answer of a worker that returns an image to the batch because it is large.

    Attributes:
        pixels: Number of pixels of the image.
    """

    pixels: int


@dataclass(frozen=True)
class BatchProgress:
    """Progress of a batch.

    Attributes:
        done, count: Images that are cut or have failed, and number of all images.
        source: The image that has been running longest; "" if none is.
        progress: Its progress, if known.
    """

    done: int
    count: int
    source: str = ""
    progress: CutProgress | None = None


BatchProgressCallback = Callable[[BatchProgress], object]
"""Called from the calling thread at most every 0.1 s; returning False cancels the batch."""


LIST_PREFIX = "@"
"""Prefix of the name of a list of sources."""

IMAGE_SUFFIX = (
    r"(?i)\.(avif|bif|bmp|czi|dcx|dib|exr|gif|hdr|heic|heif|hif|icns|ico|im|jfif|jp2|j2k|jpc|jpe"
    r"|jpeg|jpf|jpg|jpx|mpo|mrxs|ndpi|npy|pam|pbm|pcx|pgm|png|pnm|ppm|psb|psd|qoi|ras|scn|sgi|sun"
    r"|svs|svslide|tga|tif|tiff|vms|vmu|webp|xbm|xpm|zarr\.zip|zvi)\Z"
)
"""Extensions of the images in an input folder, as a pattern."""


class InputImage(NamedTuple):
    """An image of the inputs.

    Attributes:
        source: Path or address.
        subfolder: Folders between the input folder and the image, with forward slashes; or "".
        error: Error of an entry of a folder that cannot be examined, or of a subfolder that cannot
            be read; the others are cut.
    """

    source: str
    subfolder: str = ""
    error: SourceError | None = None


def expand_inputs(sources: Iterable[str]) -> Iterator[InputImage]:
    """Expand folders and lists to images, in order.

    Args:
        sources: Files, results and addresses; folders, for all images below them (by extension,
            and folders of Zarr and N5; hidden files and results are skipped); "@LIST" for a file
            with one source in each line, and "@-" for such lines on standard input.

    Raises:
        SourceError: A folder or a list cannot be read, or has no image.
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
    """True if a source is a list or a folder."""
    return source.startswith(LIST_PREFIX) or _is_folder(source)


def _expand_source(source: str) -> Iterator[InputImage]:
    # A folder is always one of images: slides that consist of a folder are named by a file (.mrxs).
    if source == STANDARD_INPUT or not _is_folder(source):
        yield InputImage(source)
        return
    is_empty = True
    for image in _images_below(source):
        is_empty = False
        yield image
    if is_empty:
        is_array = source.rstrip("/").lower().endswith((".zarr", ".n5"))
        raise SourceError(
            f"{source}: no file in this folder has the extension of an image"
            + "; its zarr.json, .zarray, .zgroup or attributes.json is missing" * is_array
        )


def _is_folder(source: str) -> bool:
    """True for a folder of images; false for one that is a result, or an image of Zarr or N5."""
    try:
        is_folder = scheme_of(source) is None and Path(source).is_dir()
        is_folder = is_folder and parse_array_name(source) is None
        names = (*RESULT_DESCRIPTORS, RECORD_NAME)
        return is_folder and not any(Path(source, name).exists() for name in names)
    except OSError:  # a folder above it may not be entered
        return False


def _images_below(top: str) -> Iterator[InputImage]:
    """The images of a folder, sorted by name, then those of each of its subfolders."""
    top = top.rstrip("/") or top
    pending = [(top, "")]
    while pending:
        folder, subfolder = pending.pop()
        try:
            with os.scandir(folder) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
        except OSError as error:
            refusal = SourceError(f"{folder} cannot be read: {error.strerror}")
            if folder == top:
                raise refusal from error
            yield InputImage(folder, subfolder.rpartition("/")[0], refusal)
            continue
        names = {entry.name for entry in entries}
        if not names.isdisjoint((*RESULT_DESCRIPTORS, RECORD_NAME)):
            continue  # the images below it are tiles
        if not names.isdisjoint((*ARRAY_METADATA, "s0")) and is_array_folder(folder):
            yield InputImage(folder, subfolder.rpartition("/")[0])
            continue  # the files below it are chunks
        inner = []
        for entry in entries:
            name = entry.name
            if name.startswith("."):
                continue
            path = f"{folder.rstrip('/')}/{name}"
            try:
                is_folder = entry.is_dir()
            except OSError as error:  # of a symbolic link that leads to itself, for one
                refusal = SourceError(f"{path} cannot be read: {error.strerror}")
                yield InputImage(path, subfolder, refusal)
                continue
            if is_folder:
                stem = name.removesuffix("_files")
                descriptors = {f"{stem}.dzi", f"{stem}.dzc", f"{stem}.xml"}
                holds_tiles = stem != name and not names.isdisjoint(descriptors)
                if not holds_tiles and not entry.is_symlink():
                    inner.append((path, f"{subfolder}/{name}" if subfolder else name))
            elif name.lower().endswith(".hdr") and _is_text_header(path):
                continue
            elif re.search(IMAGE_SUFFIX, name) or _has_plugin(name):
                yield InputImage(path, subfolder)
        pending += reversed(inner)


def _is_text_header(path: str) -> bool:
    """True for the header of an ENVI or ESRI raster, which ends in .hdr as Radiance HDR does."""
    try:
        with open_regular_file(path) as file:
            head = file.read(16)
    except SourceError:  # it is named when it is cut
        return False
    return head[:2] != b"#?" and bytes(head).isascii() and b"\0" not in head and head != b""


def _has_plugin(name: str) -> bool:
    """True if a plug-in reads files with the extension of this one."""
    from fasttile.plugins import find_all

    _, dot, suffix = name.rpartition(".")
    return bool(dot) and any(plugin.name == suffix.lower() for plugin in find_all("source"))


def _expand_list(source: str) -> Iterator[InputImage]:
    name = source.removeprefix(LIST_PREFIX)
    shown = redact_url(name or source)
    try:
        data = sys.stdin.buffer.read() if name == STANDARD_INPUT else Path(name).read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise SourceError(f"the list {shown} cannot be read: {reason}") from error
    lines = [os.fsdecode(line.rstrip(b"\r")) for line in data.split(b"\n")]
    lines = [line for line in lines if line.strip()]
    if not lines:
        raise SourceError(f"the list {shown} names no image")
    for line in lines:
        if line.startswith(LIST_PREFIX):
            raise OptionError(
                f"{line}: list {shown} names another list; write ./{line} if it is a file"
            )
        yield from _expand_source(line)
