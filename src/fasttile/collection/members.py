"""Members of a collection: images that are cut already, and images to be cut."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fasttile.collection.descriptor import Collection, relative_source
from fasttile.collection.workspace import IMAGES_FOLDER, RESULT_NAME, CollectionWorkspace, Move
from fasttile.errors import OptionError, redact_url
from fasttile.jobs.plan import resolve_target
from fasttile.sources.files import (
    STANDARD_INPUT,
    STORE_SCHEMES,
    is_stream,
    scheme_of,
    stream_name,
)
from fasttile.storage.object_files import ResultPath, place_of
from fasttile.storage.paths import folded_name, wrap_os_errors

PYRAMID_SUFFIXES = (".dzi", ".xml")
"""The extensions of images that are cut already."""

_CUT_FOLDER = "cuts"  # the image that is being cut


@dataclass(frozen=True)
class Member:
    """An image as the caller has it.

    Attributes:
        source: A path, or another source that `fasttile.cut` takes.
        label: Its name in messages.
        descriptor: Its descriptor if it is cut already, an absolute path.
    """

    source: Any
    label: str
    descriptor: ResultPath | None

    @classmethod
    def from_source(cls, source: Any) -> Member:
        """The member of a source."""
        name = stream_name(source) if is_stream(source) else source
        if not isinstance(name, str | os.PathLike):
            return cls(source, f"an image ({type(source).__name__})", None)
        text = os.fspath(name)
        descriptor: ResultPath | None = None
        if name is source and text.lower().endswith(PYRAMID_SUFFIXES):
            scheme = scheme_of(text)
            if scheme is None:
                descriptor = Path(text).absolute()
            elif scheme in STORE_SCHEMES:
                descriptor = place_of(text, scheme)
        return cls(source, redact_url(text), descriptor)


class MemberCutter:
    """Provides the .dzi of each image, and cuts it first if need be.

    Args:
        workspace: The work folder for cut images, until they are published.
        folder: The folder for published images, an absolute path.
        cut: Cuts an image to a .dzi.
        replaceable: The stems of images in that folder that may be replaced.

    Raises:
        OptionError: The folder is on another disk than the collection's.
        TargetError: The folder cannot be read, or made.
    """

    def __init__(
        self,
        workspace: CollectionWorkspace,
        folder: Path,
        cut: Callable[[Any, Path], object],
        replaceable: Iterable[str] = (),
    ) -> None:
        self._workspace = workspace
        self._folder = folder
        self._cut = cut
        self._replaceable = {folded_name(stem) for stem in replaceable}
        self._stems: list[str] = []
        self._unique_names: _UniqueNames | None = None

    def prepare(self, member: Member) -> tuple[ResultPath, str]:
        """The path of an image's .dzi now, and its Source in the published collection.

        Raises:
            FasttileError: It cannot be cut.
        """
        descriptor = self._workspace.descriptor
        if member.descriptor is not None:
            return member.descriptor, relative_source(descriptor, member.descriptor)
        if self._unique_names is None:
            self._unique_names = self._open_folder()
        stem = self._unique_names.unique(_member_stem(member))
        name = f"{stem}.dzi"
        self._cut(member.source, self._workspace.new_folder / _CUT_FOLDER / name)
        for made in (f"{stem}_files", name):
            self._workspace.rename(f"{_CUT_FOLDER}/{made}", f"{IMAGES_FOLDER}/{made}")
        self._workspace.check_empty(_CUT_FOLDER)  # files left by a cut must not be published
        self._stems.append(stem)
        return self._workspace.new_folder / IMAGES_FOLDER / name, relative_source(
            descriptor, self._folder / name
        )

    def moves(self) -> list[Move]:
        """The moves of the cut images to their folder."""
        if not self._stems:
            return []
        if not os.path.lexists(self._folder):
            return [Move(IMAGES_FOLDER)]
        moves = []
        for stem in self._stems:
            replaces = folded_name(stem) in self._replaceable
            for name in (f"{stem}_files", f"{stem}.dzi"):
                moves.append(Move(f"{IMAGES_FOLDER}/{name}", name.endswith(".dzi"), replaces))
        return moves

    def _open_folder(self) -> _UniqueNames:
        """Check the folder before the first image is cut."""
        self._workspace.make_parents(self._folder)
        here = self._workspace.new_folder
        with wrap_os_errors("look at", self._folder):
            near = self._folder if self._folder.exists() else self._folder.parent
            if near.stat().st_dev != here.stat().st_dev:
                raise OptionError(
                    f"{self._folder} lies on another disk than the collection: "
                    "images can be cut there first, by fasttile cut"
                )
            there = self._folder.iterdir() if self._folder.exists() else ()
            matches = (RESULT_NAME.fullmatch(path.name) for path in there)
            taken = {folded_name(match[1]) for match in matches if match is not None}
        for name in (_CUT_FOLDER, IMAGES_FOLDER):
            self._workspace.make_folder(name)
        return _UniqueNames(taken - self._replaceable)


class _UniqueNames:
    """Unique names for images: the second of two gets a number.

    Args:
        taken: Keys of used names.
    """

    def __init__(self, taken: Iterable[str]) -> None:
        self._taken = set(taken)
        self._next: dict[str, int] = {}

    def unique(self, stem: str) -> str:
        """The stem itself, or with a number."""
        number = self._next.get(folded_name(stem), 1)
        while True:
            name = stem if number == 1 else f"{stem}-{number}"
            number += 1
            if folded_name(name) not in self._taken:
                self._taken.add(folded_name(name))
                self._next[folded_name(stem)] = number
                return name


def replaceable_stems(old: Collection | None, folder: Path, members: Iterable[Member]) -> set[str]:
    """The stems of an older collection's images that are replaced if they are cut again.

    These are in the folder for cut images, and are not members of the new collection.

    Args:
        old: The collection that is replaced, if it exists and can be read.
        folder: The folder for cut images, an absolute path.
        members: The images of the new collection.
    """
    if old is None:
        return set()
    folder = _normalized(folder)
    local = (one for one in old.items if one.source and scheme_of(one.source) is None)
    paths = (_normalized(old.item_descriptor(item)) for item in local)
    stems = {path.stem for path in paths if path.parent == folder and path.suffix == ".dzi"}
    own = (one.descriptor for one in members)
    given = (_normalized(path) for path in own if isinstance(path, Path))
    return stems - {path.stem for path in given if path.parent == folder}


def _normalized(path: ResultPath) -> Path:
    return Path(os.path.normpath(path))


def _member_stem(member: Member) -> str:
    given = member.source
    if isinstance(given, str) and given == STANDARD_INPUT:
        raise OptionError("standard input has no name: cut it first, fasttile cut - -o NAME.dzi")
    named = isinstance(given, str | os.PathLike) or (is_stream(given) and stream_name(given))
    return resolve_target("any/", given).name if named else "image"
