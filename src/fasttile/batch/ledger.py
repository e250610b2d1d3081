"""Ledger of a resumable batch: which images are started, and which are done.

In a folder of results it is the hidden folder `.fasttile-batch`, locked by one run at a time and
removed when all images are done. An image is entered as started only if its target does not
exist. So a result that exists in a later run was written by this batch; it is cut again unless it
is entered as done, which happens after its files are synced.

An object store is durable, and a result's descriptors are written last. So there the list of
started images is enough: a started image whose descriptor exists is done. The list is an object
below `.fasttile-batch/`, locked by one run at a time.
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
from typing import TYPE_CHECKING, Any

from fasttile.errors import FasttileError, TargetError, TargetExistsError
from fasttile.jobs.fingerprint import result_options, source_fingerprint
from fasttile.jobs.plan import common_folder
from fasttile.options.cut import CutOptions
from fasttile.sinks.objects import remove_leftovers
from fasttile.sources.files import scheme_of
from fasttile.storage.journal import (
    FolderLog,
    check_same_fingerprint,
    damaged_error,
    decode_lines,
    encode_line,
    parse_object,
)
from fasttile.storage.object_store import (
    Bucket,
    ObjectMissingError,
    StoreError,
    StoreLock,
    split_bucket_and_key,
)
from fasttile.storage.paths import absolute_target, make_folders, target_text, wrap_os_errors
from fasttile.storage.work_folder import WorkFolder
from fasttile.types import Closing
from fasttile.versions import codec_versions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fasttile.batch.items import BatchItem

LEDGER_FOLDER = ".fasttile-batch"

MAX_CONCURRENT_REQUESTS = 16
"""Concurrent requests to an object store; each takes a round trip."""

SYNC_INTERVAL_SECONDS = 5.0
"""Shortest time between two syncs of the entries of images that are done."""


class FolderLedger(Closing):
    """Ledger in a folder of results.

    Args:
        folder: Folder of the results; created if missing.
        options: Options of all images.

    Raises:
        TargetError: The folder cannot be written, another batch is running there, or one with
            other options was interrupted there.
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
            self._log = FolderLog(self._work_folder.folder, "ledger")
            identity = {**result_options(options), **codec_versions()}
            self._header = json.dumps(identity).encode()
            self._load(identity, f"the batch in {folder}")
        except BaseException:
            self._work_folder.release()
            raise

    def begin(self, items: Sequence[BatchItem]) -> list[BatchItem]:
        """Enter the images that are not done as started; return them, ready to be cut."""
        self._fingerprints = source_fingerprints(items)
        pending = [one for one in items if not self._is_done(one)]
        to_cut = [self._item_to_cut(one) for one in pending]
        entries = [("done", *entry) for entry in self._done.items()]
        entries += [("begun", *entry) for entry in self._begun.items()]
        self._log.append(
            _encode_lines([self._header, *(json.dumps(entry).encode() for entry in entries)])
        )
        return to_cut

    def mark_done(self, item: BatchItem) -> None:
        """Enter an image as done; synced every five seconds.

        Raises:
            TargetError: The entry cannot be written.
        """
        path = str(item.target.path)
        entry = ("done", path, self._fingerprints[item.source])
        self._pending_lines.append(json.dumps(entry).encode())
        if time.monotonic() - self._synced_at > SYNC_INTERVAL_SECONDS:
            self._write()

    def remove(self) -> None:
        """Remove the ledger after the last image."""
        self._pending_lines.clear()
        self._log.close()
        with wrap_os_errors("remove", self._work_folder.path):
            self._work_folder.remove()

    def close(self) -> None:
        """Write the last entries, and release the folder for the next run."""
        with suppress(FasttileError):
            if self._pending_lines:
                self._write()
        self._log.close()
        self._work_folder.release()

    def _load(self, fingerprint: dict[str, Any], name: str) -> None:
        lines = decode_lines(self._log.read())
        if not lines:
            return
        check_same_fingerprint(parse_object(lines[0], name), fingerprint, name)
        for line in lines[1:]:
            try:
                state, path, source = json.loads(line)
            except (TypeError, ValueError, RecursionError):
                raise damaged_error(name) from None
            if state not in ("done", "begun") or not isinstance(path, str):
                raise damaged_error(name)
            (self._done if state == "done" else self._begun)[path] = source

    def _is_done(self, item: BatchItem) -> bool:
        path = str(item.target.path)
        return (
            path in self._done
            and self._done[path] == self._fingerprints[item.source]
            and os.path.lexists(path)
        )

    def _item_to_cut(self, item: BatchItem) -> BatchItem:
        path = str(item.target.path)
        exists = os.path.lexists(path)
        if exists and path in self._begun and path not in self._done:
            plan = replace(item.plan, options=replace(item.options, overwrite=True))
            is_there = isinstance(item.error, TargetExistsError)
            return replace(item, plan=plan, error=None if is_there else item.error)
        if not exists:
            self._begun[path] = self._fingerprints[item.source]
        return item

    def _write(self) -> None:
        lines, self._pending_lines = self._pending_lines, []
        self._log.sync_tiles()
        self._log.append(_encode_lines(lines))
        self._synced_at = time.monotonic()


def open_ledger(
    dest: str | os.PathLike[str] | None, options: CutOptions
) -> FolderLedger | BucketLedger:
    """Open the ledger of a batch, beside its results."""
    text = target_text(dest)
    if scheme_of(text) is None:
        return FolderLedger(absolute_target(common_folder(text)), options)

    bucket, key = split_bucket_and_key(text)
    folder = common_folder(key).as_posix()
    return BucketLedger(bucket, "" if folder == "." else f"{folder}/", options)


def _encode_lines(texts: Iterable[bytes]) -> bytes:
    return b"".join(map(encode_line, texts))


def source_fingerprints(items: Sequence[BatchItem]) -> dict[str, Any]:
    """Fingerprint of each source; objects in stores are looked up 16 at a time."""
    sources = [image.source for image in items]
    if not any(scheme_of(source) for source in sources):
        return {source: _fingerprint_or_none(source) for source in sources}
    with ThreadPoolExecutor(MAX_CONCURRENT_REQUESTS) as pool:
        return dict(zip(sources, pool.map(_fingerprint_or_none, sources), strict=True))


def _fingerprint_or_none(source: str) -> Any:
    """Fingerprint of a source, or None if it does not exist or has none."""
    try:
        return source_fingerprint(source)
    except FasttileError:
        return None


class BucketLedger(Closing):
    """Ledger in an object store; see `FolderLedger`.

    Args:
        address: The bucket.
        folder: Prefix of the results' keys: "" or "site/".
        options: Options of all images.

    Raises:
        TargetError: The store refuses access, another batch is running there, or one with other
            options was interrupted there.
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
        """Enter the images that are not done as started; return them, ready to be cut."""
        with _store_errors_as_target_errors(), ThreadPoolExecutor(MAX_CONCURRENT_REQUESTS) as pool:
            exists = list(pool.map(self._has_result, items))
            fingerprints = source_fingerprints(items)
            pending, done = [], []
            for item, has_result in zip(items, exists, strict=True):
                name, fingerprint = str(item.target.location), fingerprints[item.source]
                was_begun = name in self._begun and self._begun[name] == fingerprint
                if has_result and was_begun:
                    done.append(item.target)
                    continue
                if not has_result:
                    self._begun[name] = fingerprint
                pending.append(replace(item, target_was_absent=was_begun))
            entry = {"identity": self._fingerprint, "begun": self._begun}
            self._bucket.put(
                f"{self._work_prefix}/begun",
                json.dumps(entry).encode(),
                media_type="application/json",
            )
            list(pool.map(remove_leftovers, done))
        return pending

    def mark_done(self, item: BatchItem) -> None:
        """Do nothing: the descriptor in the store is the entry."""

    def remove(self) -> None:
        """Remove the ledger after the last image."""
        with _store_errors_as_target_errors():
            self._bucket.delete([f"{self._work_prefix}/begun"])

    def close(self) -> None:
        """Release the folder for the next run."""
        self._lock.release()

    def _has_result(self, item: BatchItem) -> bool:
        folder = item.target.path.parent
        paths = item.plan.descriptor_paths()
        return any(self._bucket.head((folder / path).as_posix()) for path in paths)

    def _load(self, name: str) -> None:
        try:
            entry = parse_object(self._bucket.get(f"{self._work_prefix}/begun"), name)
        except ObjectMissingError:
            return
        identity, begun = entry.get("identity"), entry.get("begun")
        if not isinstance(identity, dict) or not isinstance(begun, dict):
            raise damaged_error(name)
        check_same_fingerprint(identity, self._fingerprint, name)
        self._begun = begun


@contextmanager
def _store_errors_as_target_errors() -> Iterator[None]:
    try:
        yield
    except StoreError as error:
        raise TargetError(str(error)) from error
