"""Which images of a resumable batch are done: a list in the folder that the results go to.

It lies in the hidden folder `.fasttile-batch` there, which one run at a time works in, and goes
when all images are done. An image is begun where nothing stood: so what stands there in a later
run was made by this batch, and if it is not known to be done and synced, it is made anew.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from fasttile.errors import FasttileError, TargetError
from fasttile.jobs.fingerprint import result_options, source_fingerprint
from fasttile.jobs.plan import common_folder
from fasttile.options.cut import CutOptions
from fasttile.sinks.objects import remove_leftovers
from fasttile.sources.files import scheme_of
from fasttile.storage.journal import FolderLog, check_same_fingerprint, decode_lines, encode_line
from fasttile.storage.object_store import (
    Bucket,
    ObjectMissingError,
    StoreError,
    StoreLock,
    split_bucket_and_key,
)
from fasttile.storage.paths import absolute_target, make_folders, wrap_os_errors
from fasttile.storage.work_folder import WorkFolder
from fasttile.versions import codec_versions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fasttile.batch.items import BatchItem

LEDGER_FOLDER = ".fasttile-batch"

MAX_CONCURRENT_REQUESTS = 16
"""So many questions to a store at a time: each takes the time of a round trip."""

SYNC_INTERVAL_SECONDS = 5.0
"""How often what is done is synced and written down, at most."""


class FolderLedger:
    """Remembers what is done; a context manager.

    Args:
        folder: Where the results go; it is made if need be.
        options: How the images are cut.

    Raises:
        TargetError: The folder cannot be written, another batch works there, or one that differs
            was interrupted there.
    """

    def __init__(self, folder: Path, options: CutOptions) -> None:
        self._done: dict[str, Any] = {}
        self._begun: dict[str, Any] = {}
        self._fingerprints: dict[str, Any] = {}
        self._pending_lines: list[bytes] = []
        self._synced_at = time.monotonic()
        with wrap_os_errors("make folder", folder):
            make_folders(folder, [])
        self._work_folder = WorkFolder(folder / LEDGER_FOLDER)
        try:
            self._log = FolderLog(self._work_folder.path, "ledger")
            identity = {**result_options(options), **codec_versions()}
            self._header = json.dumps(identity).encode()
            self._load(identity, f"the batch in {folder}")
        except BaseException:
            self._work_folder.release()
            raise

    def begin(self, items: Sequence[BatchItem]) -> list[BatchItem]:
        """Write down which images are begun: those that are not done, as they are to be cut."""
        self._fingerprints = source_fingerprints(items)
        pending = [one for one in items if not self._is_done(one)]
        found = [self._item_to_cut(one) for one in pending]
        written: list[tuple[str, dict[str, Any]]] = [("done", self._done), ("begun", self._begun)]
        entries = [(word, path, told) for word, of in written for path, told in of.items()]
        self._log.append(
            _encode_lines([self._header, *(json.dumps(entry).encode() for entry in entries)])
        )
        return found

    def mark_done(self, item: BatchItem) -> None:
        """An image is done; now and then that is synced.

        Raises:
            TargetError: It cannot be written.
        """
        path = str(item.target.path)
        entry = ("done", path, self._fingerprints[item.source])
        self._pending_lines.append(json.dumps(entry).encode())
        if time.monotonic() - self._synced_at > SYNC_INTERVAL_SECONDS:
            self._write()

    def remove(self) -> None:
        """All is done: forget it."""
        self._pending_lines.clear()
        self._log.close()
        with wrap_os_errors("remove", self._work_folder.path):
            self._work_folder.remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(FasttileError):
            if self._pending_lines:
                self._write()
        self._log.close()
        self._work_folder.release()

    def _load(self, fingerprint: dict[str, Any], name: str) -> None:
        found = decode_lines(self._log.read())
        if not found:
            return
        check_same_fingerprint(json.loads(found[0]), fingerprint, name)
        for text in found[1:]:
            word, path, told = json.loads(text)
            (self._done if word == "done" else self._begun)[path] = told

    def _is_done(self, item: BatchItem) -> bool:
        path = str(item.target.path)
        return (
            path in self._done
            and self._done[path] == self._fingerprints[item.source]
            and os.path.lexists(path)
        )

    def _item_to_cut(self, item: BatchItem) -> BatchItem:
        path = str(item.target.path)
        there = os.path.lexists(path)
        if there and path in self._begun and path not in self._done:
            plan = replace(item.plan, options=replace(item.options, overwrite=True))
            return replace(item, plan=plan)
        if not there:
            self._begun[path] = self._fingerprints[item.source]
        return item

    def _write(self) -> None:
        waiting, self._pending_lines = self._pending_lines, []
        self._log.sync_tiles()
        self._log.append(_encode_lines(waiting))
        self._synced_at = time.monotonic()


def open_ledger(
    dest: str | os.PathLike[str] | None, options: CutOptions
) -> FolderLedger | BucketLedger:
    """The ledger of a batch whose results go to a destination."""
    text = "" if dest is None else os.fspath(dest)
    if scheme_of(text) is None:
        return FolderLedger(absolute_target(common_folder(text)), options)

    bucket, key = split_bucket_and_key(text)
    folder = common_folder(key).as_posix()
    return BucketLedger(bucket, "" if folder == "." else f"{folder}/", options)


def _encode_lines(texts: Iterable[bytes]) -> bytes:
    return b"".join(map(encode_line, texts))


def source_fingerprints(items: Sequence[BatchItem]) -> dict[str, Any]:
    """What tells each source from itself changed; stores are asked for many at a time."""
    sources = [image.source for image in items]
    if not any(scheme_of(source) for source in sources):
        return {source: _fingerprint_or_none(source) for source in sources}
    with ThreadPoolExecutor(MAX_CONCURRENT_REQUESTS) as pool:
        return dict(zip(sources, pool.map(_fingerprint_or_none, sources), strict=True))


def _fingerprint_or_none(source: str) -> Any:
    """What tells a source from itself changed; a file that is not there has no such thing."""
    try:
        return source_fingerprint(source)
    except FasttileError:
        return None


# Which images of a resumable batch are begun, in a bucket: there, what is announced is whole.
#
# An object store keeps what it has taken, and a result's descriptor is written last. So a list of
# what was begun where nothing stood is enough: what is announced there later was made by this batch.
# The list lies below `.fasttile-batch/`, which one run at a time claims.


class BucketLedger:
    """Remembers what is begun; a context manager. See `ledger.Ledger`.

    Args:
        address: The bucket.
        folder: What stands before the results' names: "" or "site/".
        options: How the images are cut.

    Raises:
        TargetError: The store refuses, another batch works there, or one that differs was
            interrupted there.
    """

    def __init__(self, address: str, folder: str, options: CutOptions) -> None:
        self._bucket = Bucket(address)
        self._work_prefix = f"{folder}.fasttile-batch"
        self._fingerprint = {**result_options(options), **codec_versions()}
        name = f"the batch in {address}/{folder}"
        self._begun: dict[str, Any] = {}
        self._lock = StoreLock(self._bucket, f"{self._work_prefix}/claim", name)
        try:
            with _store_errors_as_target_errors():
                self._load(name)
        except BaseException:
            self._lock.release()
            raise

    def begin(self, items: Sequence[BatchItem]) -> list[BatchItem]:
        """Write down which images are begun: those that are not done, as they are to be cut."""
        with _store_errors_as_target_errors(), ThreadPoolExecutor(MAX_CONCURRENT_REQUESTS) as pool:
            there = list(pool.map(self._has_result, items))
            told_now = source_fingerprints(items)
            pending, done = [], []
            for image, stands in zip(items, there, strict=True):
                name, told = str(image.target.location), told_now[image.source]
                before = name in self._begun and self._begun[name] == told
                if stands and before:
                    done.append(image.target)
                    continue
                if not stands:
                    self._begun[name] = told
                pending.append(replace(image, target_was_absent=before))
            self._write()
            list(pool.map(remove_leftovers, done))
        return pending

    def mark_done(self, item: BatchItem) -> None:
        """An image is done: the store knows."""

    def remove(self) -> None:
        """All is done: forget it."""
        with _store_errors_as_target_errors():
            self._bucket.delete([f"{self._work_prefix}/begun"])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lock.release()

    def _has_result(self, item: BatchItem) -> bool:
        folder = item.target.path.parent
        paths = item.plan.descriptor_paths()
        return any(self._bucket.head((folder / path).as_posix()) for path in paths)

    def _load(self, name: str) -> None:
        try:
            said = json.loads(self._bucket.get(f"{self._work_prefix}/begun"))
        except ObjectMissingError:
            return
        check_same_fingerprint(said["identity"], self._fingerprint, name)
        self._begun = said["begun"]

    def _write(self) -> None:
        said = {"identity": self._fingerprint, "begun": self._begun}
        kind = "application/json"
        self._bucket.put(f"{self._work_prefix}/begun", json.dumps(said).encode(), media_type=kind)


@contextmanager
def _store_errors_as_target_errors() -> Iterator[None]:
    try:
        yield
    except StoreError as error:
        raise TargetError(str(error)) from error
