"""Paths: errors of the system in one line, folders to make, names to replace, media types."""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fasttile.errors import (
    FasttileError,
    OptionError,
    TargetError,
    TargetExistsError,
    escape_unprintable,
    printable,
)


@contextmanager
def wrap_os_errors(action: str, path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn an OSError of the block into a TargetError: "cannot `action` `path`: reason"."""
    try:
        yield
    except FasttileError:  # some are OSErrors too
        raise
    except OSError as error:
        raise os_target_error(action, path, error) from error


def os_target_error(action: str, path: str | os.PathLike[str], error: OSError) -> TargetError:
    """A TargetError that names the action, the path and the reason."""
    return TargetError(f"cannot {action} {path}: {error.strerror or error}")


# Where results go: folders that have to be made, and names that are taken.


def target_text(dest: object) -> str:
    """A destination as text; "" for None.

    Raises:
        OptionError: It is neither a str nor an os.PathLike of one.
    """
    if dest is None:
        return ""
    text = os.fspath(dest) if isinstance(dest, str | os.PathLike) else None
    if not isinstance(text, str):
        raise OptionError(
            f"dest: an object of type {type(dest).__qualname__} is no path; pass a str or a "
            "pathlib.Path (for tiles in memory: iter_tiles, or a sink)"
        )
    return text


def absolute_target(target: Path) -> Path:
    """A target as an absolute path, because programs change their current folder.

    Raises:
        TargetError: It is not a valid path.
    """
    if "\0" in str(target):
        raise TargetError(f"target {target} has a zero character in its path")
    try:
        os.fsencode(target)
    except UnicodeEncodeError as error:
        raise TargetError(f"{target}: no file can have this name; choose another one") from error
    with wrap_os_errors("find", target):  # the current folder may be gone
        return target.absolute()


_AMBIGUOUS = re.compile(r"%(?=[0-9A-Fa-f]{2})|\\")


def encode_name(name: str) -> str:
    r"""A file's name for places that hold text: archives, XML, JSON and SQLite.

    Nearly all names stay as they are. Percent-encoded are bytes that are not UTF-8, characters
    that are not printable, names of dots only, backslashes, and "%" before two hexadecimal
    digits. So `urllib.parse.unquote(text, errors="surrogateescape")` returns the name.

    Example:
        >>> encode_name("a map"), encode_name("a\udcff"), encode_name("..")
        ('a map', 'a%FF', '%2E%2E')
    """
    if not name.strip("."):
        return "%2E" * len(name)
    return escape_unprintable(
        _AMBIGUOUS.sub(lambda match: f"%{ord(match[0]):02X}", name),
        lambda one: "".join(f"%{byte:02X}" for byte in one.encode("utf-8", "surrogateescape")),
    )


def already_exists_error(path: str | Path) -> TargetExistsError:
    """The error for an existing file that must not be replaced."""
    return TargetExistsError(f"{path} exists already; choose another name, or use --overwrite")


def note_published(target: str | Path, work_path: Path | None = None) -> None:
    """Add a note to the exception that is being handled, if any: the result is complete.

    Args:
        target: The path or the address of the result.
        work_path: The work folder, if something is left in it.
    """
    error = sys.exception()
    if error is not None:
        note = f"{target} is complete"
        if work_path is not None:
            note += f"; the next run on it removes what is left in {work_path.name}"
        error.add_note(printable(note))


def folded_name(path: str) -> str:
    """A key that is equal for names, or paths, that some file systems treat as one."""
    if path.isascii():
        return path.lower()
    import unicodedata

    folded = unicodedata.normalize("NFC", path).casefold()
    return unicodedata.normalize("NFC", folded)


def nearest_folder(path: Path) -> Path:
    """The folder that holds a path, or the nearest one above it that exists."""
    folder = path.parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def make_folders(folder: Path, created: list[Path]) -> None:
    """Make a folder and the missing ones above it; append each to `created`, topmost first."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for path in reversed(missing):
        with suppress(FileExistsError):  # another run was faster
            path.mkdir()
            created.append(path)


def remove_folders(created: list[Path]) -> None:
    """Remove the folders that `make_folders` made, if they are empty, and clear the list."""
    for folder in reversed(created):
        with suppress(OSError):  # another program uses it
            folder.rmdir()
    created.clear()


def check_replaceable(path: Path, *, is_folder: bool = False) -> None:
    """Refuse a name that leads to something that cannot be replaced.

    Raises:
        TargetError: It is a symbolic link, or a folder instead of a file, or the reverse.
        OSError: It cannot be examined.
    """
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return
    if stat.S_ISLNK(mode):
        raise TargetError(f"{path} is a symbolic link; remove it, or name what it leads to")
    if not (stat.S_ISDIR(mode) if is_folder else stat.S_ISREG(mode)):
        kind = "a folder" if is_folder else "a plain file"
        raise TargetError(f"{path} exists and is not {kind}; choose another name")
    if _is_mount_point(path):
        raise TargetError(
            f"{path} is a mount point, which cannot be replaced; choose a name in "
            "it, or mount the folder above it"
        )


def _is_mount_point(path: Path) -> bool:
    """True if a file system, or a part of one, is mounted at this path."""
    if path.is_mount():
        return True
    # A folder that is mounted from the same file system only shows in the list of mounts.
    try:
        lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    except OSError:
        return False
    real = os.fsencode(path.resolve())
    for byte in b"\\ \t\n":
        real = real.replace(bytes([byte]), b"\\%03o" % byte)
    return any(line.split(b" ")[4:5] == [real] for line in lines)


def tile_media_type(extension: str) -> str:
    """The media type of a tile, by its extension without the dot."""
    names = {"jpg": "jpeg", "deflate": "png"}
    return f"image/{names.get(extension, extension)}"


def guess_media_type(name: str) -> str:
    """The media type of a file, by its extension."""
    ending = name.rpartition(".")[2].lower()
    return _MEDIA_TYPES.get(ending, "application/octet-stream")


_MEDIA_TYPES = {
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
    "avif": "image/avif",
    "dzi": "application/xml",
    "xml": "application/xml",
    "json": "application/json",
    "js": "text/javascript",
    "html": "text/html; charset=utf-8",
    "zip": "application/zip",
    "szi": "application/zip",
    "pmtiles": "application/vnd.pmtiles",
    "mbtiles": "application/vnd.sqlite3",
    "tif": "image/tiff",
    "tiff": "image/tiff",
}
