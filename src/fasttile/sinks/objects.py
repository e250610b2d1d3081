"""Tiles as objects of a bucket: descriptors are written last, and removed first.

A bucket has no folders to rename. So tiles go to their places at once, and a result exists when its
descriptor does. To replace one, its descriptor is removed first, then its tiles: unlike in folders,
the older result is lost if the new one fails. A run keeps a lock, a journal if it can be resumed,
and blocks of shards in `.name.dzi.fasttile/` beside the result.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from fasttile.abc.layout import Layout
from fasttile.abc.sink import Sink
from fasttile.errors import FasttileError, SourceError, TargetError, TargetExistsError
from fasttile.geometry import Tile
from fasttile.sinks import Target
from fasttile.storage.object_store import (
    DESCRIPTORS_CACHE_CONTROL,
    TILES_CACHE_CONTROL,
    Bucket,
    StoreError,
    StoreLock,
)
from fasttile.storage.paths import guess_media_type, note_published

if TYPE_CHECKING:
    from fasttile.sinks.shared import ShardStore
    from fasttile.storage.journal import JobFingerprint, Journal, JournalRecord


_FIRST_SUFFIX = "-whole"  # words: a name on disk
"""The end of the name of an object that replaces all earlier ones of a journal."""

MAX_CONCURRENT_REQUESTS = 16
"""The largest number of concurrent requests."""

MAX_WAITING_BYTES = 2**25
"""The largest sum of bytes that wait; one object always may."""


class ObjectSink:
    """Writes each tile to its own object, and the descriptors at the end.

    Args:
        layout: The names of the tiles, and the descriptors.
        target: A target in an object store.
        overwrite: Replace an existing result.
        files: Further objects: path, as the layout has paths, and content.
        fingerprint: The identity of a job that can be resumed.

    Attributes:
        journal: The list of complete tiles, if the job can be resumed.
        is_published: Always False: the descriptor is one object, written at the end.

    Raises:
        TargetError: A result exists that must not be replaced, another run works on this target, or
            the store fails.
    """

    is_published = False

    def __init__(
        self,
        layout: Layout,
        target: Target,
        *,
        overwrite: bool = False,
        files: Mapping[str, bytes] | None = None,
        fingerprint: JobFingerprint | None = None,
    ) -> None:
        self.journal: Journal | None = None
        self._layout = layout
        self._name = str(target.location)
        self._bucket = Bucket(target.store)
        folder = target.path.parent.as_posix()
        self._prefix = "" if folder == "." else f"{folder}/"
        self._root = f"{self._prefix}{layout.root}"
        self._work_prefix = work_prefix(target)
        self._files = {**(files or {}), **layout.descriptors()}
        self._overwrite = overwrite
        self._lock = StoreLock(self._bucket, f"{self._work_prefix}/claim", self._name)
        self._tiles = ObjectTileSink(layout, self._bucket, self._prefix)
        self._may_remove = False  # True if the objects below the root may be removed
        self._is_published = False
        try:
            self._set_up(fingerprint)
        except BaseException:
            self.abort()
            raise

    @property
    def shared_target(self) -> SharedBucketTarget:
        """The place in the bucket, for workers that write tiles too."""
        return SharedBucketTarget(self._bucket.address, self._prefix, self._work_prefix)

    def put(self, tile: Tile, data: bytes) -> None:
        """Start to write one tile.

        Raises:
            TargetError: An earlier one could not be written.
        """
        self._tiles.put(tile, data)

    def add(self, paths: Sequence[str], data: bytes) -> None:
        """Start to write a further object, under all these paths.

        Raises:
            TargetError: An earlier one could not be written.
        """
        self._tiles.add(paths, data)

    def change_file(self, path: str, change: Callable[[bytes], bytes]) -> None:
        """Change the content of a further file, before `finish` writes it."""
        self._files[path] = change(self._files[path])

    def finish(self) -> None:
        """Wait for the tiles, and write the descriptors, the most important one last.

        Raises:
            TargetError: The store fails.
        """
        self._tiles.uploads.wait()
        if self.journal is not None:
            self.journal.close()
        self._lock.ensure_held()
        for path, data in self._files.items():
            self._tiles.uploads.put(f"{self._prefix}{path}", data, DESCRIPTORS_CACHE_CONTROL)
            self._tiles.uploads.wait()
        self._may_remove = False
        self._is_published = True
        self._release()
        with suppress(StoreError):
            self._bucket.delete_folder(self._work_prefix)

    def abort(self) -> None:
        """Remove the objects, unless the job can be resumed. Never raises."""
        if self._is_published:
            note_published(self._name)
        with suppress(FasttileError):
            if self.journal is not None:
                self.journal.close()
        kept = self.journal is not None and not self.journal.is_empty
        self._tiles.uploads.close()
        with suppress(StoreError):
            if self._may_remove and not kept:
                self._bucket.delete_folder(self._root)
                self._clear_work()
        self._release()

    def _set_up(self, fingerprint: JobFingerprint | None) -> None:
        log = ObjectLog(self._bucket, f"{self._work_prefix}/journal", self._tiles.uploads)
        resumable = bool(log.read())
        keys = [f"{self._prefix}{path}" for path in self._files]
        announced = [path for path in keys if self._bucket.head(path)]
        left = resumable or self._lock.was_abandoned  # by a run that was killed
        is_complete = len(announced) == len(self._files) if left else bool(announced)
        if is_complete and not self._overwrite:
            self._clear_work()
            raise TargetExistsError(_exists_message(self._bucket, announced[-1]))
        if resumable and fingerprint is None and not self._overwrite:
            raise _resumable_error(self._name)
        if not (left or self._overwrite):
            for found in self._bucket.list_objects(self._root):
                raise TargetError(_exists_message(self._bucket, found.key))
        if fingerprint is not None:
            from fasttile.storage.journal import Journal  # only jobs that resume need it

            self.journal = Journal(
                log, fingerprint, self._name, partial(self._check_stored, fingerprint)
            )
        self._may_remove = True
        if not (self.journal is not None and self.journal.is_resumed):
            self._bucket.delete(announced)
            self._bucket.delete_folder(self._root)
            self._bucket.delete_folder(f"{self._work_prefix}/blocks")
            if fingerprint is None:
                self._bucket.delete_folder(f"{self._work_prefix}/journal")

    def _check_stored(
        self, fingerprint: JobFingerprint, records: Sequence[JournalRecord]
    ) -> Sequence[bool]:
        """Compare a journal with the tiles that are in the bucket."""
        from fasttile.sinks.shared import StoredRecords

        def below(prefix: str) -> Iterator[tuple[str, int]]:
            for info in self._bucket.list_objects(prefix):
                yield info.key.removeprefix(f"{prefix}/"), info.size

        stored = StoredRecords(self._layout, fingerprint.get("shards"))
        blocks = {name for name, _ in below(f"{self._work_prefix}/blocks")}
        return stored.check(records, below(self._root), blocks)

    def _clear_work(self) -> None:
        """Remove the journal and the blocks; the lock stays."""
        self._bucket.delete_folder(f"{self._work_prefix}/journal")
        self._bucket.delete_folder(f"{self._work_prefix}/blocks")

    def _release(self) -> None:
        self._tiles.uploads.close()
        self._lock.release()


def check_objects(
    layout: Layout,
    target: Target,
    *,
    overwrite: bool,
    files: Mapping[str, bytes],
    resume: bool,
) -> None:
    """Check, without writing anything, that an `ObjectSink` can be begun.

    Args:
        layout, target, overwrite, files: As for `ObjectSink`.
        resume: True if the job can be resumed.

    Raises:
        TargetError: A result exists that must not be replaced, or the store fails. Locks of other
            runs are not looked at.
    """
    bucket, work = Bucket(target.store), work_prefix(target)
    folder = target.path.parent.as_posix()
    prefix = "" if folder == "." else f"{folder}/"
    names = [f"{prefix}{path}" for path in (*files, *layout.descriptors())]
    announced = [name for name in names if bucket.head(name)]
    resumable = next(bucket.list_objects(f"{work}/journal"), None) is not None
    left = resumable or bucket.head(f"{work}/claim") is not None
    if overwrite:
        return
    if len(announced) == len(names) if left else announced:
        raise TargetExistsError(_exists_message(bucket, announced[-1]))
    if resumable and not resume:
        raise _resumable_error(str(target.location))
    if not left:
        for found in bucket.list_objects(f"{prefix}{layout.root}"):
            raise TargetError(_exists_message(bucket, found.key))


def _exists_message(bucket: Bucket, key: str) -> str:
    return f"{bucket.address}/{key} exists already; choose another name, or use --overwrite"


def _resumable_error(name: str) -> TargetError:
    return TargetError(
        f"{name}: an interrupted run can be resumed; use resume to continue it, "
        "or overwrite to start over"
    )


def work_prefix(target: Target) -> str:
    """The prefix of the temporary objects of a run."""
    return (target.path.parent / f".{target.path.name}.fasttile").as_posix()


def remove_leftovers(target: Target) -> None:
    """Remove the temporary objects that a killed run left beside a complete result.

    Raises:
        StoreError: The store fails.
    """
    bucket, work = Bucket(target.store), work_prefix(target)
    if next(bucket.list_objects(f"{work}/"), None) is None:
        return
    try:
        lock = StoreLock(bucket, f"{work}/claim", str(target.location))
    except TargetError:  # another run uses it
        return
    try:
        bucket.delete_folder(f"{work}/journal")
        bucket.delete_folder(f"{work}/blocks")
    finally:
        lock.release()


class ObjectTileSink:
    """Writes tiles of a result that another process has locked and will publish.

    Args:
        layout: The names of the tiles.
        bucket: The bucket.
        prefix: The prefix of the layout's paths.

    Attributes:
        uploads: The threads that write the objects.
    """

    def __init__(self, layout: Layout, bucket: Bucket, prefix: str) -> None:
        self.uploads = Uploads(bucket)
        self._layout = layout
        self._prefix = prefix

    def put(self, tile: Tile, data: bytes) -> None:
        """Start to write one tile.

        Raises:
            TargetError: An earlier one could not be written.
        """
        self.add(self._layout.paths(tile), data)

    def add(self, paths: Sequence[str], data: bytes) -> None:
        """Start to write an object, under all these paths.

        Raises:
            TargetError: An earlier one could not be written.
        """
        for path in paths:
            self.uploads.put(f"{self._prefix}{path}", data)

    def finish(self) -> None:
        """Wait until the store has all objects.

        Raises:
            TargetError: An object could not be written.
        """
        self.uploads.wait()
        self.uploads.close()

    def abort(self) -> None:
        """Stop; waiting objects are not written."""
        self.uploads.close()


class Uploads:
    """Writes objects to a bucket, on threads.

    Args:
        bucket: The bucket.
    """

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._pool = ThreadPoolExecutor(
            MAX_CONCURRENT_REQUESTS, thread_name_prefix="fasttile-upload"
        )
        self._changed = threading.Condition()
        self._waiting_bytes = 0
        self._pending_count = 0
        self._failure: BaseException | None = None

    def put(self, key: str, data: bytes, cache_control: str = TILES_CACHE_CONTROL) -> None:
        """Start to write an object; wait while too many bytes are in memory.

        Raises:
            TargetError: An earlier one could not be written.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    not self._waiting_bytes or self._waiting_bytes + len(data) <= MAX_WAITING_BYTES
                )
            )
            self._raise_failure()
            self._waiting_bytes += len(data)
            self._pending_count += 1
        self._pool.submit(self._upload, key, data, cache_control).add_done_callback(
            lambda future: self._on_done(future, len(data))
        )

    def wait(self) -> None:
        """Wait until the store has all objects.

        Raises:
            TargetError: Something could not be written.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._pending_count)
            self._raise_failure()

    def close(self) -> None:
        """End the threads; waiting objects are not written."""
        self._pool.shutdown(cancel_futures=True)

    def _upload(self, key: str, data: bytes, cache: str) -> None:
        if self._failure is None:
            self._bucket.put(key, data, media_type=guess_media_type(key), cache_control=cache)

    def _on_done(self, future: Future[None], size: int) -> None:
        with self._changed:
            if not future.cancelled() and future.exception() is not None:
                self._failure = self._failure or future.exception()
            self._waiting_bytes -= size
            self._pending_count -= 1
            self._changed.notify_all()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure


class ObjectLog:
    """A journal in a bucket: one object per batch, for objects cannot be appended to.

    Args:
        bucket, folder: The place of the objects.
        uploads: The threads that write the tiles.
    """

    def __init__(self, bucket: Bucket, folder: str, uploads: Uploads) -> None:
        self._bucket = bucket
        self._folder = folder
        self._uploads = uploads
        self._next_number = 0
        self._older_keys: list[str] | None = None

    def read(self) -> bytes:
        """The journal: all objects from the last one that replaces the earlier ones."""
        known = re.compile(rf"\d{{8}}(?:{_FIRST_SUFFIX})?")
        keys = sorted(
            found.key
            for found in self._bucket.list_objects(self._folder)
            if known.fullmatch(found.key.rpartition("/")[2])
        )
        if keys:
            self._next_number = 1 + int(keys[-1].rpartition("/")[2][:8])
        firsts = [index for index, key in enumerate(keys) if key.endswith(_FIRST_SUFFIX)]
        self._older_keys = keys
        return b"".join(map(self._bucket.get, keys[firsts[-1] :])) if firsts else b""

    def append(self, data: bytes) -> None:
        """Write a further object; the first one replaces those of earlier runs."""
        older, self._older_keys = self._older_keys, None
        key = f"{self._folder}/{self._next_number:08}{_FIRST_SUFFIX if older is not None else ''}"
        self._next_number += 1
        self._bucket.put(key, data, media_type="application/octet-stream")
        self._bucket.delete(older or [])

    def sync_tiles(self) -> None:
        """Wait until the store has all tiles."""
        self._uploads.wait()

    def close(self) -> None:
        """Do nothing: no file is open."""


@dataclass(frozen=True)
class SharedBucketTarget:
    """The place of a result in a bucket, for workers.

    Attributes:
        address: The bucket.
        prefix: The prefix of the layout's paths.
        work_prefix: The prefix of temporary objects.
    """

    address: str
    prefix: str
    work_prefix: str

    def open_tile_sink(self, layout: Layout) -> Sink:
        """A sink for the tiles of a worker."""
        return ObjectTileSink(layout, Bucket(self.address), self.prefix)

    @property
    def shard_store(self) -> ShardStore:
        """Objects in the folder `blocks`."""
        return ObjectShardStore(Bucket(self.address), f"{self.work_prefix}/blocks")


class ObjectShardStore:
    """Blocks of shards as objects.

    Args:
        bucket, folder: The place of the objects.
    """

    def __init__(self, bucket: Bucket, folder: str) -> None:
        self._bucket = bucket
        self._folder = folder

    def put(self, number: int, data: bytes) -> None:
        """Write an object."""
        kind = "application/octet-stream"
        self._bucket.put(f"{self._folder}/{number}", data, media_type=kind)

    def get(self, number: int) -> bytes:
        """Read an object."""
        try:
            return self._bucket.get(f"{self._folder}/{number}")
        except StoreError as error:
            raise SourceError(str(error)) from error
