"""The pictures that are given to a collection: those that are cut already, and those to be cut."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import OptionError
from ..sinks.oserrors import shown, telling
from ..sources.ways import STANDARD_INPUT, is_stream, scheme_of, stream_name
from ..sources.ways import shown as shown_url
from ..targets import target_of
from .descriptor import Collection, source_of
from .moves import Move
from .workplace import Workplace

CUT_ENDINGS = (".dzi", ".xml")
"""The endings of pictures that are cut already."""

IMAGES = "images"
"""What the folder of pictures that are cut is called in the work folder."""

_CUTS = "cuts"  # where the one that is being cut is made

_OURS = re.compile(r"(.+?)(?:\.dzi|_files)", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class Picture:
    """A picture as it was given.

    Attributes:
        given: A path, or whatever else `fasttile.cut` takes.
        called: What messages call it.
        dzi: Its descriptor if it is cut already, an absolute path.
    """

    given: Any
    called: str
    dzi: Path | None

    @classmethod
    def of(cls, given: Any) -> Picture:
        """What was given."""
        name = stream_name(given) if is_stream(given) else given
        if not isinstance(name, str | os.PathLike):
            return cls(given, f"a picture ({type(given).__name__})", None)
        text = os.fspath(name)
        if scheme_of(text) is not None:
            return cls(given, shown_url(text), None)
        cut = name is given and text.lower().endswith(CUT_ENDINGS)
        return cls(given, shown(text), Path(text).absolute() if cut else None)


class Gallery:
    """Gives the .dzi of each picture, and cuts it first if need be.

    Args:
        work: Where pictures are cut, until all is published.
        folder: Where they go then, an absolute path.
        cut: Cuts a picture to a .dzi.
        replaced: The stems of pictures in that folder that may be replaced.

    Raises:
        OptionError: Nothing can be moved there from the collection's folder.
        TargetError: The folder cannot be looked at, or made.
    """

    def __init__(
        self,
        work: Workplace,
        folder: Path,
        cut: Callable[[Any, Path], object],
        replaced: Iterable[str] = (),
    ) -> None:
        self._work = work
        self._folder = folder
        self._cut = cut
        self._replaced = {_key(stem) for stem in replaced}
        self._stems: list[str] = []
        self._names: _Names | None = None

    def dzi(self, picture: Picture) -> tuple[Path, str]:
        """Where a picture's .dzi can be read now, and the Source that will lead to it.

        Raises:
            FasttileError: It cannot be cut.
        """
        descriptor = self._work.descriptor
        if picture.dzi is not None:
            return picture.dzi, source_of(descriptor, picture.dzi)
        if self._names is None:
            self._names = self._begin()
        stem = self._names.free(_stem(picture))
        name = f"{stem}.dzi"
        self._cut(picture.given, self._work.new / _CUTS / name)
        for made in (f"{stem}_files", name):
            self._work.rename(f"{_CUTS}/{made}", f"{IMAGES}/{made}")
        self._work.check_empty(_CUTS)  # what is left by a cut must not be published with it
        self._stems.append(stem)
        return self._work.new / IMAGES / name, source_of(descriptor, self._folder / name)

    def moves(self) -> list[Move]:
        """How the pictures that were cut come to their folder."""
        if not self._stems:
            return []
        if not os.path.lexists(self._folder):
            return [Move(IMAGES, self._work.relative(self._folder))]
        moves = []
        for stem in self._stems:
            replaces = _key(stem) in self._replaced
            for name in (f"{stem}_files", f"{stem}.dzi"):
                target = self._work.relative(self._folder / name)
                announces = name.endswith(".dzi")
                moves.append(Move(f"{IMAGES}/{name}", target, announces, replaces))
        return moves

    def _begin(self) -> _Names:
        """Look at the folder, when the first picture is to be cut."""
        self._work.make_parents(self._folder)
        here = self._work.new
        with telling("look at", self._folder):
            near = self._folder if self._folder.exists() else self._folder.parent
            if near.stat().st_dev != here.stat().st_dev:
                raise OptionError(
                    f"{shown(self._folder)} lies on another disk than the collection: pictures "
                    "can be cut there first, by fasttile cut"
                )
            there = self._folder.iterdir() if self._folder.exists() else ()
            taken = {_key(stem) for stem in _stems_of(path.name for path in there)}
        for name in (_CUTS, IMAGES):
            self._work.make_folder(name)
        return _Names(taken - self._replaced)


class _Names:
    """Gives each picture a name of its own: of two, the second is numbered.

    Args:
        taken: Keys of names that are taken.
    """

    def __init__(self, taken: Iterable[str]) -> None:
        self._taken = set(taken)
        self._next: dict[str, int] = {}

    def free(self, stem: str) -> str:
        """The stem itself, or with a number."""
        number = self._next.get(_key(stem), 1)
        while True:
            name = stem if number == 1 else f"{stem}-{number}"
            number += 1
            if _key(name) not in self._taken:
                self._taken.add(_key(name))
                self._next[_key(stem)] = number
                return name


def replaced_by(old: Collection | None, folder: Path, pictures: Iterable[Picture]) -> set[str]:
    """The stems of an older collection's pictures that are replaced if they are cut anew.

    They lie in the folder that pictures are cut to, and are not themselves given.

    Args:
        old: The collection that is replaced, if there is one that can be read.
        folder: An absolute path.
        pictures: Those of the new one.
    """
    if old is None:
        return set()
    folder = _plain(folder)
    paths = map(_plain, _on_disk(old))
    stems = {path.stem for path in paths if path.parent == folder and path.suffix == ".dzi"}
    given = (_plain(one.dzi) for one in pictures if one.dzi is not None)
    return stems - {path.stem for path in given if path.parent == folder}


def _on_disk(collection: Collection) -> Iterable[Path]:
    for item in collection.items:
        if item.source and scheme_of(item.source) is None:
            yield collection.picture(item)


def _plain(path: Path) -> Path:
    return Path(os.path.normpath(path))


def _stem(picture: Picture) -> str:
    given = picture.given
    if isinstance(given, str) and given == STANDARD_INPUT:
        raise OptionError("standard input has no name: cut it first, fasttile cut - -o NAME.dzi")
    named = isinstance(given, str | os.PathLike) or (is_stream(given) and stream_name(given))
    return target_of("any/", given).name if named else "picture"


def _stems_of(names: Iterable[str]) -> set[str]:
    """The stems of the pictures that some files and folders belong to."""
    found = (_OURS.fullmatch(name) for name in names)
    return {match[1] for match in found if match is not None}


def _key(stem: str) -> str:
    """What names have in common that some file systems hold for one."""
    return unicodedata.normalize("NFC", stem).casefold()
