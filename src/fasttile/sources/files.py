"""Paths, URLs, streams and bytes as input files; spools for streams.

A caller's object stays open, and keeps its position if it can be restored.
"""

from __future__ import annotations

import io
import mmap
import os
import re
import stat
import sys
import weakref
from collections.abc import Callable, Generator, Hashable
from contextlib import closing, suppress
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard, TypeVar

from fasttile.errors import OptionError, SourceError, redact_url
from fasttile.storage.random_access import DiskFile, MemoryFile, SourceFile, open_regular_file

if TYPE_CHECKING:
    from fasttile.abc.reader import PyramidReader
    from fasttile.abc.source import Source

T = TypeVar("T")

STANDARD_INPUT = "-"
"""The path that means standard input."""

STORE_SCHEMES = ("s3", "gs", "az")
"""The schemes of object stores."""

URL_SCHEMES = ("http", "https", "file", *STORE_SCHEMES)
"""The schemes of all URLs that are read without a plug-in."""

DESCRIPTOR_SUFFIXES = (".dzi", ".xml", ".json", ".js")
RESULT_SUFFIXES = (*DESCRIPTOR_SUFFIXES, ".zip", ".szi", ".pmtiles", ".mbtiles")
"""Extensions of descriptors, and of all results; a TIFF may be an image instead."""

_ZARR_METADATA = ("zarr.json", ".zgroup", ".zarray")
ARRAY_METADATA = (*_ZARR_METADATA, ".zattrs", "attributes.json")
"""Names of the metadata files of Zarr and N5."""

_ARRAY_SUFFIXES = (".zarr", ".n5")

GRID_PREFIX, MOSAIC_PREFIX = "grid:", "mosaic:"
"""Before a pattern of names, and before a list of images, that are one source."""

TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""The first four bytes of TIFF and BigTIFF."""

MASK_SUFFIX = ".msk"
"""After the complete name of a TIFF: the file of its transparency mask, as GDAL names it."""

CHUNK_BYTES = 2**20
"""Bytes that are copied at a time."""

_MAX_DISK_SHARE = 9
"""Data of unknown size take at most this many times the disk space that they leave."""

_STANDARD_INPUT_NAME = "standard input"

# At least two letters: one is a Windows drive.
_SCHEME_PATTERN = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")

# Files that OpenSlide reads best, or that nothing else reads.
_SLIDE_SUFFIX_PATTERN = re.compile(
    r"\.(svs|ndpi|vms|vmu|scn|mrxs|svslide|bif|dcm|zvi|czi)\Z", re.IGNORECASE
)

# Standard input can be read only once: the second caller gets the same bytes, or the same error.
_standard_input: SpooledFile | SourceError | None = None
_standard_input_lock = Lock()

_open_spools: weakref.WeakValueDictionary[Hashable, SpooledFile] = weakref.WeakValueDictionary()
_retained: weakref.WeakKeyDictionary[Source, SpooledFile] = weakref.WeakKeyDictionary()


def has_slide_suffix(path: str | None) -> bool:
    """True if the suffix of a path is that of a whole-slide image."""
    return path is not None and _SLIDE_SUFFIX_PATTERN.search(path) is not None


def scheme_of(path: object) -> str | None:
    """The scheme of a URL in lower case, or None without "scheme://"."""
    # A Path is never a URL: it has only one of the two slashes.
    match = _SCHEME_PATTERN.match(path) if isinstance(path, str) else None
    return None if match is None else match.group(1).lower()


def may_be_mosaic(source: str | os.PathLike[str]) -> bool:
    """True if a path names many images that are one source; a file's content decides."""
    text = os.fspath(source)
    if isinstance(source, str) and text.startswith((GRID_PREFIX, MOSAIC_PREFIX)):
        return True
    return text.lower().endswith((".csv", ".txt", ".vrt")) and scheme_of(source) is None


def split_mosaic_prefix(source: str) -> tuple[str, str, str]:
    """Prefix, parameters, and pattern or path of a mosaic: `grid:allow-missing:r{row}.tif`.

    Example:
        >>> split_mosaic_prefix("mosaic:any-path:a:b.csv")
        ('mosaic:', 'any-path', 'a:b.csv')
        >>> split_mosaic_prefix("a.csv")
        ('', '', 'a.csv')
    """
    match = re.match(r"(grid:|mosaic:)(?:([a-z][a-z_-]+[a-z_=,-]*):(?!//))?", source)
    if match is None:
        return "", "", source
    return match[1], match[2] or "", source[match.end() :]


def mosaic_path(source: str) -> str:
    """The path that names a mosaic: of a pattern, the folder before its first number."""
    prefix, _, rest = split_mosaic_prefix(source)
    if prefix != GRID_PREFIX:
        return rest
    return os.path.dirname(rest.partition("{")[0])  # noqa: PTH120


def check_is_local(path: str | os.PathLike[str], name: str) -> None:
    """Refuse a URL as the name of a file or folder that is written on this machine only.

    Raises:
        OptionError: It is a URL.
    """
    text = os.fspath(path)
    if scheme_of(text) is not None:
        raise OptionError(f"{redact_url(text)}: {name} cannot be written there; use a path")


def is_open_pyramid(source: object) -> TypeGuard[PyramidReader]:
    """True if an object is an open pyramid; a program that has one has imported its class."""
    module = sys.modules.get("fasttile.abc.reader")
    return module is not None and isinstance(source, module.PyramidReader)


class TileTree(NamedTuple):
    """Tiles without a descriptor, as a path names them: `site/map/{z}/{x}/{y}.png#size=W,H`.

    Attributes:
        folder: Path or address of the folder of the tiles.
        template: Names of the tiles below it; "" if they are not given.
        size: Width and height of the image in pixels, if they are given.
    """

    folder: str
    template: str
    size: tuple[int, int] | None


def parse_tile_tree(path: object) -> TileTree | None:
    """The tiles without a descriptor that a path names; None for all other paths.

    Example:
        >>> parse_tile_tree("site/map/{z}/{y}/{x}.png#size=1000,600")
        TileTree(folder='site/map', template='{z}/{y}/{x}.png', size=(1000, 600))
    """
    if not isinstance(path, str | os.PathLike):
        return None
    text, size = os.fsdecode(path), None
    if match := re.fullmatch(r"(?s)(.*)#size=([0-9]{1,13}),([0-9]{1,13})", text):
        text, size = match[1], (int(match[2]), int(match[3]))
    if "{z}" in text and "{x}" in text and ("{y}" in text or "{-y}" in text):
        parts = text.split("/")
        first = next(index for index, part in enumerate(parts) if "{" in part)
        folder = "/".join(parts[:first]) or ("/" if first else os.curdir)
        return TileTree(folder, "/".join(parts[first:]), size)
    return None if size is None else TileTree(text, "", size)


class ArrayName(NamedTuple):
    """A folder of Zarr or N5, as a path or an address names it: `cells.zarr#axes=cyx`.

    Attributes:
        place: Path or address of the folder.
        axes: The axes of the array, a letter for each; "" if they are not given.
    """

    place: str
    axes: str


def parse_array_name(source: object) -> ArrayName | None:
    """The folder of Zarr or N5 that a path or an address names; None for all others.

    A folder is one by its metadata files; an address by the extension of a folder in it, or if it
    is that of a metadata file.

    Example:
        >>> parse_array_name("https://example.org/cells.zarr/0#axes=cyx")
        ArrayName(place='https://example.org/cells.zarr/0', axes='cyx')
        >>> parse_array_name("https://example.org/cells.zarr/image.png")
    """
    if not isinstance(source, str | os.PathLike) or source == STANDARD_INPUT:
        return None
    text, axes = os.fsdecode(source), ""
    if match := re.fullmatch(r"(?s)(.*)#axes=([a-zA-Z]{1,32})", text):
        text, axes = match[1], match[2].lower()
    scheme = scheme_of(source)
    if scheme is None or scheme == "file":
        path = text
        if scheme == "file":
            from urllib.parse import urlsplit
            from urllib.request import url2pathname

            path = url2pathname(urlsplit(text).path)
        parent, name = os.path.split(path)
        if name in ARRAY_METADATA and is_array_folder(parent or os.curdir):
            return ArrayName(parent or os.curdir, axes)
        return ArrayName(path, axes) if is_array_folder(path) else None
    if scheme not in URL_SCHEMES:
        return None
    address, mark, query = text.partition("?")
    address, _, name = address.rstrip("/").rpartition("/")
    if name in ARRAY_METADATA:
        return ArrayName(f"{address}{mark}{query}", axes)
    folders = address.split("/")[3:] if not name.lower().endswith(_ARRAY_SUFFIXES) else [name]
    inside = any(folder.lower().endswith(_ARRAY_SUFFIXES) for folder in folders)
    if not inside or (folders != [name] and "." in name):  # a file in it
        return None
    return ArrayName(f"{address}/{name}{mark}{query}", axes)


def is_array_folder(path: str | os.PathLike[str]) -> bool:
    """True if a folder is an array or a group of Zarr or N5, by the metadata files in it."""
    text = os.fsdecode(path)
    try:
        if not os.path.isdir(text):  # noqa: PTH112 -- for each source
            return False
        if any(os.path.isfile(f"{text}/{name}") for name in _ZARR_METADATA):  # noqa: PTH113
            return True
        return _is_n5_folder(text)
    except ValueError:  # a path with a zero in it
        return False


def _is_n5_folder(folder: str) -> bool:
    """True for a folder of N5; other programs have an attributes.json too."""
    # Groups need no attributes: s0 is the largest level by N5's custom.
    for path in (f"{folder}/attributes.json", f"{folder}/s0/attributes.json"):
        with suppress(SourceError, OSError), open_regular_file(path) as file:
            head = file.read(CHUNK_BYTES)
            if any(name in head for name in (b'"n5"', b'"blockSize"', b'"multiscales"')):
                return True
    return False


def without_tile_names(source: T) -> T | str:
    """A source; of tiles without a descriptor, and of Zarr and N5, the path of their folder."""
    tree = parse_tile_tree(source)
    if tree is not None:
        return tree.folder
    named = parse_array_name(source)
    return source if named is None else named.place


def may_be_result(path: object) -> bool:
    """True if a source may be a result: by its extension, or as it has none; not a TIFF."""
    if not isinstance(path, str | os.PathLike) or path == STANDARD_INPUT:
        return False
    if parse_tile_tree(path) is not None:
        return True
    if parse_array_name(path) is not None:
        return False
    _, suffix = os.path.splitext(os.fsdecode(path))  # noqa: PTH122 -- of addresses too
    if suffix.lower() in RESULT_SUFFIXES or not suffix:
        return True
    return scheme_of(path) is None and os.path.isdir(path)  # noqa: PTH112


def is_bytes(source: object) -> TypeGuard[bytes | bytearray | memoryview]:
    """True if an object is the bytes of a file."""
    return isinstance(source, bytes | bytearray | memoryview)


def is_stream(source: object) -> bool:
    """True if an object is a stream; arrays with a method `read` are not."""
    return callable(getattr(source, "read", None)) and not hasattr(source, "shape")


def stream_name(stream: object) -> str | None:
    """The name of a stream, or None."""
    name = getattr(stream, "name", None)
    if not isinstance(name, str | bytes | os.PathLike):
        return None  # a descriptor's number, for one
    text = os.fsdecode(name)
    return None if not text or text.startswith("<") else text  # <stdin> is not a name


def open_file_object(source: Any) -> SourceFile:
    """Open bytes or a stream as an input file.

    Raises:
        SourceError: The stream is empty, text, or cannot be read.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        return MemoryFile(source, type(source).__name__)
    name = stream_name(source) or f"a file object ({type(source).__name__})"
    file = _open_in_place(source, name)
    if file is not None:
        return file

    def position() -> int | None:
        seekable = getattr(source, "seekable", None)
        if callable(seekable):
            return source.tell() if seekable() else None
        return source.tell() if hasattr(source, "seek") and hasattr(source, "tell") else None

    start = _call_stream(name, position)

    def read_and_restore() -> Generator[bytes | memoryview]:
        try:
            yield from _read_chunks(source, name)
        finally:
            if start is not None:
                with suppress(Exception):  # the image was read; its stream may be broken
                    source.seek(start)

    return spool_once((id(source), start), name, read_and_restore, keep_alive=source)


def open_standard_input() -> SourceFile:
    """Open standard input as an input file, with the same bytes for each call.

    Raises:
        SourceError: Standard input is empty, closed, a terminal, text, or cannot be read.
    """
    global _standard_input
    if sys.stdin is None or sys.stdin.closed:
        raise SourceError(f"{_STANDARD_INPUT_NAME} is closed; redirect or pipe a file into it")
    if sys.stdin.isatty():
        raise SourceError(f"{_STANDARD_INPUT_NAME} is a terminal; redirect or pipe a file into it")
    stream = getattr(sys.stdin, "buffer", sys.stdin)
    with _standard_input_lock:
        if _standard_input is None:
            file = _open_in_place(stream, _STANDARD_INPUT_NAME)
            if file is not None:
                return file
            try:
                _standard_input = write_spool(
                    _STANDARD_INPUT_NAME, _read_chunks(stream, _STANDARD_INPUT_NAME)
                )
            except SourceError as error:
                _standard_input = error
        if isinstance(_standard_input, SourceError):
            raise _standard_input
        return _standard_input.open()


def _read_chunks(stream: Any, name: str) -> Generator[bytes | memoryview]:
    kept = 0
    while True:
        piece = _call_stream(name, lambda: stream.read(CHUNK_BYTES))
        if isinstance(piece, str):
            raise SourceError(f"{name} is read as text; open it in binary mode, 'rb'")
        if not isinstance(piece, bytes | bytearray | memoryview):
            kind = "nothing yet" if piece is None else f"an object of type {type(piece).__name__}"
            raise SourceError(f"{name} returns {kind} when it is read, instead of bytes")
        if not piece:
            return
        kept += len(piece)
        check_spare_space(name, kept)
        yield memoryview(piece)


def _open_in_place(stream: Any, name: str) -> SourceFile | None:
    """Open the memory or file under a stream; None if there is none.

    Only Python's own streams have one: others may return other bytes than the file below, as
    those of gzip do.
    """
    if type(stream).__module__ == "tempfile":
        stream = getattr(stream, "file", stream)
    if isinstance(stream, io.TextIOBase):
        raise SourceError(f"{name} is read as text; open it in binary mode, 'rb'")
    if type(stream) in (io.BytesIO, mmap.mmap):
        place = _call_stream(name, stream.tell)
        data = stream.getbuffer() if isinstance(stream, io.BytesIO) else memoryview(stream)
        return MemoryFile(data[place:], name)
    if type(stream) not in (io.FileIO, io.BufferedReader, io.BufferedRandom):
        return None
    if type(getattr(stream, "raw", stream)) is not io.FileIO:
        return None
    descriptor: int | None = _call_stream(name, lambda: _regular_file_descriptor(stream))
    return None if descriptor is None else DiskFile(descriptor, name)


def _regular_file_descriptor(
    stream: io.FileIO | io.BufferedReader | io.BufferedRandom,
) -> int | None:
    """Descriptor of a stream at the beginning of a regular file, or None."""
    if stream.writable():
        stream.flush()
    state = os.fstat(stream.fileno())
    # Files in /proc have a size of 0 and still contain bytes.
    regular = stat.S_ISREG(state.st_mode) and state.st_size > 0
    return stream.fileno() if regular and stream.readable() and stream.tell() == 0 else None


def _call_stream(name: str, call: Callable[[], Any]) -> Any:
    """Call a method of a stream, which may raise any exception."""
    try:
        return call()
    except Exception as error:
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        raise SourceError(f"{name} cannot be read: {reason or type(error).__name__}") from error


class SpooledFile:
    """An unlinked temporary file that is removed when nothing refers to it.

    Args:
        name: Name in messages of what it holds.
        keep_alive: An object that must live as long, if any.

    Raises:
        SourceError: There is no folder for temporary files.
    """

    def __init__(self, name: str, keep_alive: object = None) -> None:
        self.name = name
        self.size = 0
        self._keep_alive = keep_alive
        try:
            import tempfile

            with tempfile.TemporaryFile(prefix="fasttile-") as file:
                self._descriptor = os.dup(file.fileno())
        except OSError as error:
            raise self._full_error(error) from error
        weakref.finalize(self, os.close, self._descriptor)

    def write(self, chunk: bytes | memoryview) -> None:
        """Append a piece.

        Raises:
            SourceError: The disk is full.
        """
        left = memoryview(chunk).cast("B")
        try:
            while left:
                written = os.write(self._descriptor, left)
                self.size += written
                left = left[written:]
        except OSError as error:
            raise self._full_error(error) from error

    def open(self) -> SourceFile:
        """Open the bytes as an input file, which keeps the spool."""
        file = DiskFile(self._descriptor, self.name)
        file.spool = self
        return file

    def _full_error(self, error: OSError) -> SourceError:
        return _disk_full_error(self.name, f"{error.strerror or error}, after {self.size:,} bytes")


def spool_once(
    key: Hashable,
    name: str,
    read_chunks: Callable[[], Generator[bytes | memoryview]],
    keep_alive: object = None,
) -> SourceFile:
    """Spool all pieces, or return the spool that still exists for the key.

    An image may be opened a second time, to inspect its values, while the first is open.

    Args:
        key: Equal for the same bytes.
        name: Name in messages.
        read_chunks: Reads the pieces.
        keep_alive: An object whose identity is part of the key, if any.

    Raises:
        SourceError: The source is empty or cannot be read, or the disk is full.
    """
    spool = _open_spools.get(key)
    if spool is None:
        spool = write_spool(name, read_chunks(), keep_alive)
        _open_spools[key] = spool
    return spool.open()


def write_spool(
    name: str, chunks: Generator[bytes | memoryview], keep_alive: object = None
) -> SpooledFile:
    """Write all pieces into a new spool.

    Raises:
        SourceError: The source is empty or cannot be read, or the disk is full.
    """
    spool = SpooledFile(name, keep_alive)
    with closing(chunks):
        for piece in chunks:
            spool.write(piece)
    if not spool.size:
        raise SourceError(f"{name} is empty")
    return spool


def retain(source: Source, spool: SpooledFile) -> None:
    """Keep a spool as long as its source exists, open or closed."""
    _retained[source] = spool


def check_disk_space(name: str, size: int) -> None:
    """Check that the folder for temporary files can hold a number of bytes.

    Raises:
        SourceError: Its disk has less space left.
    """
    with suppress(OSError):
        import shutil
        import tempfile

        left = shutil.disk_usage(tempfile.gettempdir()).free
        if size > left:
            raise _disk_full_error(name, f"it has {size:,} bytes, and {left:,} are left")


def check_spare_space(name: str, kept: int) -> None:
    """Check that data of unknown size leave a tenth of the disk space that they found.

    Args:
        name: Name of the data in messages.
        kept: Bytes that are kept in the folder for temporary files so far.

    Raises:
        SourceError: The disk has less space left.
    """
    with suppress(OSError):
        import shutil
        import tempfile

        left = shutil.disk_usage(tempfile.gettempdir()).free
        if kept > _MAX_DISK_SHARE * left:
            why = f"its size is unknown: {kept:,} bytes have arrived, and {left:,} are left"
            raise _disk_full_error(name, why)


def _disk_full_error(name: str, why: str) -> SourceError:
    try:
        import tempfile

        folder = tempfile.gettempdir()
    except OSError:
        folder = "a folder for temporary files"
    return SourceError(
        f"{name} does not fit into {folder}, where it is kept while it is read ({why}); set "
        "TMPDIR to another folder"
    )
