"""Files that a run reads, and names that its results take: no result may harm a source.

Both are compared before anything is written. Existing files are compared by device and inode, also
through links, and results that do not exist yet by their names.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

from fasttile.abc.source import Source
from fasttile.errors import FasttileError, OptionError, SourceError, TargetError, redact_url
from fasttile.jobs.plan import Plan
from fasttile.sinks import TARGET_SUFFIXES
from fasttile.sources import mosaic_of
from fasttile.sources.files import (
    GRID_PREFIX,
    STANDARD_INPUT,
    STORE_SCHEMES,
    may_be_mosaic,
    mosaic_path,
    scheme_of,
    without_tile_names,
)
from fasttile.storage.paths import folded_name
from fasttile.storage.random_access import open_regular_file

RESULT_DESCRIPTORS = frozenset(
    {"ImageProperties.xml", "tilemapresource.xml", "info.json", "tiles.json"}
)
"""Names of descriptors that are in the folder of a result."""

_RESULT_SUFFIXES = (*TARGET_SUFFIXES, ".dzc")

_PAGE_MARKER = b'<meta name="generator" content="fasttile">'
"""Part of the beginning of each page that fasttile writes."""

_HEAD_BYTES = 4096

_MAX_LINKS = 40
"""Longest chain of symbolic links that Linux follows."""

_PAGE_NUMBER = r"-[0-9]+(?=(?:_files|\.[^/]*)?(?:/|\Z))"


class Footprint(NamedTuple):
    """Names that a result takes.

    Attributes:
        store: Address of the bucket that holds the result; "" on a disk.
        parent: The folder that holds all of it.
        files: Names in it of the files that the result writes or replaces.
        tiles: Name in it of the folder that the result replaces, if there is one.
        descriptors: Names in that folder of the result's own descriptors.
        of_each_page: True if the names are those of page 1 of several, each with a result.
    """

    store: str
    parent: str
    files: tuple[str, ...]
    tiles: str | None = None
    descriptors: tuple[str, ...] = ()
    of_each_page: bool = False

    @classmethod
    def of_plan(cls, plan: Plan, *, of_each_page: bool = False) -> Footprint:
        """The names that the result of a plan takes."""
        if of_each_page:
            plan = replace(plan, target=plan.target.with_page(1))
        root, paths = plan.taken_paths
        inside = f"{root}/"
        return cls(
            plan.target.store,
            str(plan.target.path.parent),
            tuple(path for path in paths if root is None or not path.startswith(inside)),
            root,
            tuple(path.removeprefix(inside) for path in paths if path.startswith(inside)),
            of_each_page,
        )

    @classmethod
    def of_file(cls, path: str) -> Footprint:
        """The names of one file."""
        return cls("", str(Path(path).parent), (Path(path).name,))

    @property
    def folders(self) -> tuple[str, ...]:
        """Names of the folders that the result empties or replaces: tiles and work folders."""
        # A work folder is named after the file or the folder that a user opens.
        own = () if self.tiles is None else (self.tiles,)
        return (*own, *(f".{name}.fasttile" for name in (*self.files, *own)))

    def paths(self) -> Iterator[tuple[str, bool]]:
        """Paths of its files and folders, and if each is a folder; of pages those that exist."""
        names = dict.fromkeys(self.files, False) | dict.fromkeys(self.folders, True)
        if not self.of_each_page or self.store:
            for name, is_folder in names.items():
                yield name if self.parent == "." else f"{self.parent.rstrip('/')}/{name}", is_folder
            return
        patterns = {_without_page_number(name): is_folder for name, is_folder in names.items()}
        with suppress(OSError, ValueError):
            for path in Path(self.parent).iterdir():
                pattern = _without_page_number(path.name)
                if pattern in patterns:
                    yield str(path), patterns[pattern]


FileKey = tuple[int, int] | str
"""Device and inode of a file; address of an object in a store."""


class FilesRead:
    """Files that a run reads: images and lists, with the folders above them."""

    def __init__(self) -> None:
        self._files: dict[FileKey, str] = {}
        self._folders: dict[FileKey, str] = {}
        self._folders_above: dict[FileKey, str] = {}
        self._keys_above: dict[str, list[FileKey]] = {}
        self._real_folders: dict[str, str] = {}
        self._existing: dict[str, bool] = {}

    def add(self, source: object, label: str) -> None:
        """Add a source.

        Args:
            source: A source of `cut`: a path, an open file, a mapped array, …
            label: Name in messages: "the image map.tif".
        """
        for place in _places_of(source):
            entries: Iterable[str] = ()
            if isinstance(place, str):
                is_address = scheme_of(place) is not None
                entries = [place] if is_address else self._link_chain(place)
            for entry in entries:
                for folder in self._above(entry):
                    self._folders_above.setdefault(folder, label)
            status = _status(place)
            if status is not None:
                known = self._folders if stat.S_ISDIR(status.st_mode) else self._files
                known.setdefault((status.st_dev, status.st_ino), label)
            elif isinstance(place, str):  # an address, or a missing file
                self._files.setdefault(place, label)

    def check(self, footprint: Footprint, subject: str = "the result") -> None:
        """Refuse a result that would replace one of the files.

        Args:
            footprint: The names that it takes.
            subject: Its name in messages.

        Raises:
            TargetError: It would; the message names both.
        """
        if not footprint.store and not self._folders and not self._exists(footprint.parent):
            return
        for path, is_folder in footprint.paths():
            location = f"{footprint.store}/{path}" if footprint.store else path
            status = None if footprint.store else _status(path)
            if status is None and not footprint.store and not self._folders:
                continue
            key = location if status is None else (status.st_dev, status.st_ino)
            label = self._files.get(key)
            if label is None and is_folder:
                label = self._folders_above.get(key) or self._folders.get(key)
            if label is None and self._folders and not footprint.store:
                above = self._above(_real_path(path))
                label = next((self._folders[one] for one in above if one in self._folders), None)
            if footprint.store and label is None:
                above = [one for one in _prefixes(location) if one in self._files]
                label = self._files[above[0]] if above else None
            if label is not None:
                what = f"this folder, with {label} in it" if is_folder else label
                raise TargetError(
                    f"{location}: {subject} would replace {what}; choose another name for it"
                )

    def _link_chain(self, path: str) -> Iterator[str]:
        """A path, and those that it leads to by links; the folders above each are without links."""
        for _ in range(_MAX_LINKS):
            parent, name = os.path.split(path.rstrip(os.sep) or os.sep)
            if name in ("", os.curdir, os.pardir):
                yield self._real_folder(path)
                return
            folder = self._real_folder(parent)
            entry = os.path.join(folder, name)  # noqa: PTH118 -- faster than Path, for many files
            yield entry
            try:
                path = os.path.join(folder, os.readlink(entry))  # noqa: PTH115, PTH118
            except (OSError, ValueError):
                return

    def _real_folder(self, folder: str) -> str:
        """A folder's path without links."""
        if folder not in self._real_folders:
            self._real_folders[folder] = _real_path(folder or os.curdir)
        return self._real_folders[folder]

    def _exists(self, folder: str) -> bool:
        if folder not in self._existing:
            self._existing[folder] = _status(folder) is not None
        return self._existing[folder]

    def _above(self, path: str) -> list[FileKey]:
        """Keys of the folders above a path without links, or above an address."""
        parent = path.rpartition("/")[0] if scheme_of(path) else os.path.split(path)[0]
        if parent not in self._keys_above:
            keys: list[FileKey] = []
            if scheme_of(path) is not None:
                keys += _prefixes(path)
            else:
                for folder in (parent, *map(str, Path(parent).parents)):
                    status = _status(folder)
                    if status is not None:
                        keys.append((status.st_dev, status.st_ino))
            self._keys_above[parent] = keys
        return self._keys_above[parent]


def check_job(plan: Plan, source: object) -> None:
    """Refuse a cut whose result would harm its own source, or results of other images.

    Raises:
        TargetError: It would.
    """
    footprint = Footprint.of_plan(plan)
    check_sources([source], footprint)
    if not plan.options.overwrite:
        return
    for name in () if footprint.store else footprint.files:
        if name.endswith(".html"):
            check_own_page(Path(footprint.parent, name))
    if footprint.tiles is not None:
        tiles = Path(footprint.parent, footprint.tiles).as_posix()
        if footprint.store:
            other = _inner_object(footprint.store, tiles, footprint.descriptors)
            tiles = f"{footprint.store}/{tiles}"
        else:
            other = _inner_result(tiles, footprint.descriptors)
        if other is not None:
            raise TargetError(
                f"{tiles} holds another result, {other}: it is "
                "not replaced; choose another name, or move that result"
            )


def check_sources(sources: Iterable[object], footprint: Footprint) -> None:
    """Refuse a result that would replace a source.

    Raises:
        TargetError: It would; the message names both.
    """
    files = FilesRead()
    for source in sources:
        files.add(source, f"the image {source_name(source)}")
    files.check(footprint)


def source_name(source: object) -> str:
    """Name of a source in messages."""
    if isinstance(source, str) and source == STANDARD_INPUT:
        return "on standard input"
    if isinstance(source, Source):
        source = source.name
    if not isinstance(source, str | os.PathLike):
        return f"of the {type(source).__name__}"
    return redact_url(os.fspath(source))


def check_own_page(path: Path) -> None:
    """Refuse to replace a file that is no page of fasttile.

    Raises:
        TargetError: It is none, or cannot be read.
    """
    try:
        with open_regular_file(path) as file:
            if _PAGE_MARKER in file.read(_HEAD_BYTES):
                return
    except SourceError as error:
        if not os.path.lexists(path):
            return
        raise TargetError(str(error)) from error
    raise TargetError(
        f"{path}: it is no page of fasttile and is not replaced; choose another name, or remove it"
    )


class PlannedResult(NamedTuple):
    """A result of a run, or another file that it writes.

    Attributes:
        label: Its name in messages: the path or address of its image.
        location: The path or address that a user opens.
        footprint: The names that it takes.
    """

    label: str
    location: str
    footprint: Footprint


def find_collisions(results: Sequence[PlannedResult]) -> dict[int, OptionError]:
    """Results of one run that are the same file, or that contain one another.

    Returns:
        The error of each result concerned, by its number; the message names both images.
    """
    errors: dict[int, OptionError] = {}
    real_path = cache(lambda path: Path(_real_path(path)).as_posix())
    taken = _TakenPaths()
    parents = []
    for number, (label, location, footprint) in enumerate(results):
        parent = real_path(footprint.parent)
        if footprint.store:
            parent = f"{footprint.store}/{footprint.parent}".removesuffix("/.")
        normalize = _without_page_number if footprint.of_each_page else str
        parents.append(normalize(parent))
        names = dict.fromkeys(footprint.files, False) | dict.fromkeys(footprint.folders, True)
        for name, is_folder in names.items():
            path = f"{parents[-1].rstrip('/')}/{normalize(name)}"
            other = taken.add(path, number, is_folder=is_folder)
            if other is not None:
                error = OptionError(
                    f"{location}: both {results[other].label} and {label} would be written there; "
                    "use another name, such as -o 'site/{parent}-{name}-{ext}.dzi'"
                )
                errors.setdefault(other, error)
                errors.setdefault(number, error)
    result_around = cache(taken.result_around)
    for number, (parent, (label, location, _)) in enumerate(zip(parents, results, strict=True)):
        number_around = result_around(parent)
        if number_around is not None:
            around = results[number_around]
            error = OptionError(
                f"{location}: the place for {label} is within "
                f"{around.location}, the result of {around.label}; use another "
                "name, such as -o 'site/{name}-tiles'"
            )
            errors.setdefault(number_around, error)
            errors.setdefault(number, error)
    return errors


class _TakenPaths:
    """Paths that the results of a run take; equal names of a file system count as one."""

    def __init__(self) -> None:
        self._paths: dict[str, list[tuple[str, int, bool]]] = {}

    def add(self, path: str, number: int, *, is_folder: bool) -> int | None:
        """Add a path of a result; return the number of the result that has it already."""
        others = self._paths.setdefault(folded_name(path), [])
        for other_path, other, _ in others:
            if _is_same_path(other_path, path):
                return other
        others.append((path, number, is_folder))
        return None

    def result_around(self, folder: str) -> int | None:
        """The number of the result that replaces a folder, or one above it."""
        for path in (folder, *_prefixes(folder)):
            for other_path, number, is_folder in self._paths.get(folded_name(path), ()):
                if is_folder and _is_same_path(other_path, path):
                    return number
        return None


def _is_same_path(one: str, other: str) -> bool:
    """True if the file system treats two paths with the same folded form as one.

    Only a trial shows that, in the nearest folder that exists; it is removed at once.
    """
    if one == other or scheme_of(one) is not None:
        return one == other
    import tempfile

    folder = Path(os.path.commonpath((one, other)))
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        with tempfile.TemporaryDirectory(prefix=".fasttile-", dir=folder) as trial:
            for name, other_name in zip(one.split("/"), other.split("/"), strict=False):
                if name != other_name:
                    Path(trial, name).mkdir(exist_ok=True)
                    if not Path(trial, other_name).exists():
                        return False
    except OSError:  # nothing can be written there
        return False
    return True


def _inner_result(folder: str, own_descriptors: Collection[str]) -> str | None:
    """Path of a descriptor or file of another result in the folder of a result, if any."""
    pending = [folder]
    while pending:
        current = pending.pop()
        with suppress(OSError), os.scandir(current) as entries:
            for entry in entries:
                name = entry.name
                if name in own_descriptors and current == folder:
                    continue
                if _is_result_name(name):
                    return entry.path
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
    return None


def _inner_object(store: str, folder: str, own_descriptors: Collection[str]) -> str | None:
    """Address of a descriptor or file of another result below a prefix, if any."""
    from fasttile.storage.object_store import Bucket

    bucket = Bucket(store)
    for info in bucket.list_objects(folder):
        below = info.key.removeprefix(f"{folder}/")
        if below not in own_descriptors and _is_result_name(below.rpartition("/")[2]):
            return bucket.name_of(info.key)
    return None


def _is_result_name(name: str) -> bool:
    """True if a file of this name is a result, or its descriptor."""
    return name in RESULT_DESCRIPTORS or name.lower().endswith(_RESULT_SUFFIXES)


def _places_of(source: Any) -> Iterator[str | int]:
    """Paths, addresses of objects, and descriptors of the files that a source reads, if known."""
    yield from getattr(source, "member_paths", ())  # of an open mosaic
    if isinstance(source, Source):
        source = source.name
    if isinstance(source, str) and source == STANDARD_INPUT:
        source = sys.stdin
    if isinstance(source, str | os.PathLike) and may_be_mosaic(source):
        yield from _places_of_members(source)
        if isinstance(source, str) and source.startswith(GRID_PREFIX):
            return
        source = mosaic_path(os.fspath(source))
    source = without_tile_names(source)
    scheme = scheme_of(source)
    if scheme == "file":
        from urllib.parse import urlsplit
        from urllib.request import url2pathname

        with suppress(ValueError):
            yield url2pathname(urlsplit(str(source)).path)
    elif scheme is not None:
        if scheme in STORE_SCHEMES:
            yield str(source)
            yield from _tile_folders(str(source))
    elif isinstance(source, str | os.PathLike):
        path = os.fsdecode(source)
        yield path
        if path.lower().endswith(".mrxs"):  # its pixels are in a folder beside it
            yield path[: -len(".mrxs")]
        yield from _tile_folders(path)
    elif not isinstance(source, bytes | bytearray | memoryview):
        yield from _places_of_members(source)
        yield from _places_of_object(source)


def _tile_folders(path: str) -> Iterator[str]:
    """The folder of the tiles of a result that is named by its descriptor."""
    parent, name = os.path.split(path)
    stem, suffix = os.path.splitext(name)  # noqa: PTH122 -- of addresses too
    if name in RESULT_DESCRIPTORS:
        yield parent or os.curdir
    elif suffix.lower() in (".dzi", ".xml", ".json", ".js"):
        yield os.path.join(parent, f"{stem}_files")  # noqa: PTH118


def _places_of_members(source: Any) -> Iterator[str | int]:
    with suppress(FasttileError):  # it is named when it is cut
        mosaic = mosaic_of(source)
        for member in () if mosaic is None else mosaic.members:
            if member.path is not None:
                yield member.path
            else:
                yield from _places_of_object(member.image)


def _places_of_object(source: Any) -> Iterator[str | int]:
    """Places of a stream, a mapped array, a PIL image, or an array of h5py or zarr."""
    with suppress(Exception):  # of any class; a stream in memory has no descriptor
        descriptor = source.fileno()
        if isinstance(descriptor, int):
            yield descriptor
            yield f"/proc/self/fd/{descriptor}"
    for names in ("filename", "file.filename", "store.root", "store.path"):
        with suppress(Exception):
            value = attrgetter(names)(source)
            if isinstance(value, str | os.PathLike) and Path(value).exists():
                yield os.fsdecode(value)
    with suppress(Exception):  # an array may be a view of a mapped one
        if hasattr(source, "shape") and source.base is not None:
            yield from _places_of_object(source.base)


def _status(place: str | int) -> os.stat_result | None:
    """Status of a file or folder, through links; None if it does not exist."""
    try:
        return os.stat(place)  # noqa: PTH116 -- faster than Path, for many files
    except (OSError, ValueError):
        return None


def _real_path(path: str) -> str:
    """A path without links, as far as it exists."""
    try:
        return os.path.realpath(path)
    except (OSError, ValueError):
        return path


def _prefixes(path: str) -> Iterator[str]:
    """The folders above a path with forward slashes, or above an address."""
    while "/" in path and not path.endswith("://"):
        path = path.rpartition("/")[0]
        yield path or "/"


def _without_page_number(path: str) -> str:
    """A path in which all numbers of pages are the same."""
    return re.sub(_PAGE_NUMBER, "-#", path)
