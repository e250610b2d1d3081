"""Which pictures of a resumable batch are done: a list in the folder that the results go to.

It lies in the hidden folder `.fasttile-batch` there, which one run at a time works in, and goes
when all pictures are done. A picture is begun where nothing stood: so what stands there in a later
run was made by this batch, and if it is not known to be done and synced, it is made anew.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from .errors import FasttileError
from .identity import fingerprint, options_of
from .journal import check_same, line, lines
from .options import CutOptions
from .sinks.folderlog import FolderLog
from .sinks.oserrors import telling
from .sinks.places import absolute, make_folders
from .sinks.workfolder import WorkFolder
from .sources.ways import scheme_of
from .stores import bucket_and_key
from .targets import folder_of
from .versions import versions

if TYPE_CHECKING:
    from .batch import Picture
    from .bucketledger import BucketLedger

FOLDER = ".fasttile-batch"

AT_ONCE = 16
"""So many questions to a store at a time: each takes the time of a round trip."""

SYNC_SECONDS = 5.0
"""How often what is done is synced and written down, at most."""


class Ledger:
    """Remembers what is done; a context manager.

    Args:
        folder: Where the results go; it is made if need be.
        options: How the pictures are cut.

    Raises:
        TargetError: The folder cannot be written, another batch works there, or one that differs
            was interrupted there.
    """

    def __init__(self, folder: Path, options: CutOptions) -> None:
        self._done: dict[str, Any] = {}
        self._begun: dict[str, Any] = {}
        self._told: dict[str, Any] = {}
        self._waiting: list[bytes] = []
        self._last = time.monotonic()
        with telling("make folder", folder):
            make_folders(folder, [])
        self._work = WorkFolder(folder / FOLDER)
        try:
            self._log = FolderLog(self._work.path, "ledger")
            identity = {**options_of(options), **versions()}
            self._head = json.dumps(identity).encode()
            self._read(identity, f"the batch in {folder}")
        except BaseException:
            self._work.leave()
            raise

    def begin(self, pictures: Sequence[Picture]) -> list[Picture]:
        """Write down which pictures are begun: those that are not done, as they are to be cut."""
        self._told = told_of(pictures)
        pending = [one for one in pictures if not self._is_done(one)]
        found = [self._to_cut(one) for one in pending]
        written: list[tuple[str, dict[str, Any]]] = [("done", self._done), ("begun", self._begun)]
        entries = [(word, path, told) for word, of in written for path, told in of.items()]
        self._log.append(_text([self._head, *(json.dumps(entry).encode() for entry in entries)]))
        return found

    def done(self, picture: Picture) -> None:
        """A picture is done; now and then that is synced.

        Raises:
            TargetError: It cannot be written.
        """
        path = str(picture.target.path)
        entry = ("done", path, self._told[picture.source])
        self._waiting.append(json.dumps(entry).encode())
        if time.monotonic() - self._last > SYNC_SECONDS:
            self._write()

    def remove(self) -> None:
        """All is done: forget it."""
        self._waiting.clear()
        self._log.close()
        with telling("remove", self._work.path):
            self._work.remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(FasttileError):
            if self._waiting:
                self._write()
        self._log.close()
        self._work.leave()

    def _read(self, identity: dict[str, Any], name: str) -> None:
        found = lines(self._log.read())
        if not found:
            return
        check_same(json.loads(found[0]), identity, name)
        for text in found[1:]:
            word, path, told = json.loads(text)
            (self._done if word == "done" else self._begun)[path] = told

    def _is_done(self, picture: Picture) -> bool:
        path = str(picture.target.path)
        return (
            path in self._done
            and self._done[path] == self._told[picture.source]
            and os.path.lexists(path)
        )

    def _to_cut(self, picture: Picture) -> Picture:
        path = str(picture.target.path)
        there = os.path.lexists(path)
        if there and path in self._begun and path not in self._done:
            return replace(picture, options=replace(picture.options, overwrite=True))
        if not there:
            self._begun[path] = self._told[picture.source]
        return picture

    def _write(self) -> None:
        waiting, self._waiting = self._waiting, []
        self._log.settle()
        self._log.append(_text(waiting))
        self._last = time.monotonic()


def ledger_of(dest: str | os.PathLike[str] | None, options: CutOptions) -> Ledger | BucketLedger:
    """The ledger of a batch whose results go to a destination."""
    text = "" if dest is None else os.fspath(dest)
    if scheme_of(text) is None:
        return Ledger(absolute(folder_of(text)), options)
    from .bucketledger import BucketLedger

    bucket, key = bucket_and_key(text)
    folder = folder_of(key).as_posix()
    return BucketLedger(bucket, "" if folder == "." else f"{folder}/", options)


def _text(found: Iterable[bytes]) -> bytes:
    return b"".join(map(line, found))


def told_of(pictures: Sequence[Picture]) -> dict[str, Any]:
    """What tells each source from itself changed; stores are asked for many at a time."""
    sources = [picture.source for picture in pictures]
    if not any(scheme_of(source) for source in sources):
        return {source: _told(source) for source in sources}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return dict(zip(sources, pool.map(_told, sources), strict=True))


def _told(source: str) -> Any:
    """What tells a source from itself changed; a file that is not there has no such thing."""
    try:
        return fingerprint(source)
    except FasttileError:
        return None
