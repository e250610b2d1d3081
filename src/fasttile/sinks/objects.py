"""Tiles as objects of a bucket: what announces them comes last, and goes first.

A bucket has no folders to rename. So tiles go to their places at once, and a result is there when
its descriptor is. To replace one, its descriptor is removed first, then its tiles: unlike in
folders, the older result is gone when the new one fails. A run works in `.name.dzi.fasttile/`
beside the result: a lock, a journal if it is resumable, and blocks of shards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fasttile.abc.layout import Layout
from fasttile.abc.sink import Sink
from fasttile.errors import FasttileError, SourceError, TargetError, TargetExistsError
from fasttile.geometry import Tile
from fasttile.sinks import Target
from fasttile.storage.object_store import (
    DESCRIPTORS_CACHE_CONTROL,
    Bucket,
    StoreError,
    StoreLock,
    Uploads,
)

if TYPE_CHECKING:
    from fasttile.sinks.shared import ShardStore
    from fasttile.storage.journal import JobFingerprint, Journal


class ObjectSink:
    """Writes each tile to an object of its own, and what announces them at the end.

    Args:
        layout: Which objects a tile is written to, and what the descriptors say.
        target: Where, in a store.
        overwrite: Replace an existing result.
        files: What else is written: path, as the layout gives paths, and content.
        fingerprint: The job's fingerprint if it is resumable.

    Attributes:
        journal: The journal of complete tiles, if the job is resumable.
        published: Never: the descriptor is one object, written at the end.

    Raises:
        TargetError: The destination exists and may not be replaced, another run works on this
            target, or the store refuses.
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
        self._may_remove = False  # whether what lies below the root may be removed
        try:
            self._set_up(fingerprint)
        except BaseException as error:
            self.abort()
            if isinstance(error, StoreError):
                raise TargetError(str(error)) from error
            raise

    @property
    def shared_target(self) -> SharedBucketTarget:
        """Where workers put tiles too."""
        return SharedBucketTarget(self._bucket.address, self._prefix, self._work_prefix)

    def put(self, tile: Tile, data: bytes) -> None:
        """Send one tile on its way.

        Raises:
            TargetError: An earlier one could not be written.
        """
        self._tiles.put(tile, data)

    def add(self, paths: Sequence[str], data: bytes) -> None:
        """Send a further object on its way, under all these paths.

        Raises:
            TargetError: An earlier one could not be written.
        """
        self._tiles.add(paths, data)

    def finish(self) -> None:
        """Wait for the tiles, and write what announces them, the most important one last.

        Raises:
            TargetError: The store refuses.
        """
        self._tiles.uploads.wait()
        if self.journal is not None:
            self.journal.flush()
        self._lock.ensure_held()
        for path, data in self._files.items():
            self._tiles.uploads.put(f"{self._prefix}{path}", data, DESCRIPTORS_CACHE_CONTROL)
            self._tiles.uploads.wait()
        self._may_remove = False
        self._release()
        with suppress(StoreError):
            self._bucket.delete_folder(self._work_prefix)

    def abort(self) -> None:
        """Remove what was uploaded, unless it is resumable. Never raises."""
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
        announced = [path for path in self._descriptor_keys() if self._bucket.head(path)]
        left = resumable or self._lock.was_abandoned  # by a run that was killed
        complete = len(announced) == len(self._files) if left else bool(announced)
        if complete and not self._overwrite:
            self._clear_work()
            raise TargetExistsError(self._exists_message(announced[-1]))
        if resumable and fingerprint is None and not self._overwrite:
            raise TargetError(
                f"{self._name}: an interrupted run can be resumed; use resume to continue "
                "it, or overwrite to start over"
            )
        if not (left or self._overwrite):
            for found in self._bucket.list_objects(self._root):
                raise TargetError(self._exists_message(found.key))
        if fingerprint is not None:
            self.journal = self._open_journal(log, fingerprint)
        self._may_remove = True
        if not (self.journal is not None and self.journal.is_resumed):
            self._bucket.delete(announced)
            self._bucket.delete_folder(self._root)
            self._bucket.delete_folder(f"{self._work_prefix}/blocks")
            if fingerprint is None:
                self._bucket.delete_folder(f"{self._work_prefix}/journal")

    def _open_journal(self, log: ObjectLog, fingerprint: JobFingerprint) -> Journal:
        from fasttile.storage.journal import Journal

        return Journal(log, fingerprint, self._name)

    def _descriptor_keys(self) -> list[str]:
        return [f"{self._prefix}{path}" for path in self._files]

    def _clear_work(self) -> None:
        """Remove what is not of the result, but for the claim."""
        self._bucket.delete_folder(f"{self._work_prefix}/journal")
        self._bucket.delete_folder(f"{self._work_prefix}/blocks")

    def _exists_message(self, key: str) -> str:
        where = f"{self._bucket.address}/{key}"
        return f"{where} exists already; choose another name, or overwrite it"

    def _release(self) -> None:
        self._tiles.uploads.close()
        self._lock.release()


def work_prefix(target: Target) -> str:
    """Prefix of the names of all objects that exist only during a cut."""
    return (target.path.parent / f".{target.path.name}.fasttile").as_posix()


def remove_leftovers(target: Target) -> None:
    """Remove the leftovers of a run that was killed just after publishing.

    Raises:
        StoreError: The store refuses.
    """
    bucket, work = Bucket(target.store), work_prefix(target)
    if next(bucket.list_objects(f"{work}/"), None) is None:
        return
    with suppress(TargetError):  # somebody is at work there
        claim = StoreLock(bucket, f"{work}/claim", str(target.location))
        try:
            bucket.delete_folder(f"{work}/journal")
            bucket.delete_folder(f"{work}/blocks")
        finally:
            claim.release()


class ObjectTileSink:
    """Writes tiles of a result that somebody else has claimed and will announce.

    Args:
        layout: Which objects a tile is written to.
        bucket: Where.
        prefix: Prefix of the layout's paths.

    Attributes:
        uploads: What they are on their way by.
    """

    def __init__(self, layout: Layout, bucket: Bucket, prefix: str) -> None:
        self.uploads = Uploads(bucket)
        self._layout = layout
        self._prefix = prefix

    def put(self, tile: Tile, data: bytes) -> None:
        """Send one tile on its way.

        Raises:
            TargetError: An earlier one could not be written.
        """
        self.add(self._layout.paths(tile), data)

    def add(self, paths: Sequence[str], data: bytes) -> None:
        """Send an object on its way, under all these paths.

        Raises:
            TargetError: An earlier one could not be written.
        """
        for path in paths:
            self.uploads.put(f"{self._prefix}{path}", data)

    def finish(self) -> None:
        """Wait until the store has all.

        Raises:
            TargetError: Something could not be written.
        """
        self.uploads.wait()
        self.uploads.close()

    def abort(self) -> None:
        """Send no more."""
        self.uploads.close()


class ObjectLog:
    """A journal as objects, which are never appended to: each batch is one of its own.

    Args:
        bucket, folder: Where.
        uploads: What the tiles are on their way by.
    """

    def __init__(self, bucket: Bucket, folder: str, uploads: Uploads) -> None:
        self._bucket = bucket
        self._folder = folder
        self._uploads = uploads
        self._next_number = 0
        self._older_keys: list[str] | None = None

    def read(self) -> bytes:
        """All of the journal: from the last object on that replaces those before."""
        keys = sorted(found.key for found in self._bucket.list_objects(self._folder))
        if keys:
            self._next_number = 1 + int(keys[-1].rpartition("/")[2][:8])
        complete = [index for index, key in enumerate(keys) if key.endswith("-whole")]
        self._older_keys = keys
        return b"".join(map(self._bucket.get, keys[complete[-1] :])) if complete else b""

    def append(self, data: bytes) -> None:
        """Write a further object; the first one replaces those of runs before."""
        older, self._older_keys = self._older_keys, None
        key = f"{self._folder}/{self._next_number:08}{'-whole' if older is not None else ''}"
        self._next_number += 1
        try:
            self._bucket.put(key, data, media_type="application/octet-stream")
            self._bucket.delete(older or [])
        except StoreError as error:
            raise TargetError(str(error)) from error

    def sync_tiles(self) -> None:
        """Wait until the store has all that was put."""
        self._uploads.wait()

    def close(self) -> None:
        """Nothing is open."""


@dataclass(frozen=True)
class SharedBucketTarget:
    """Where a result is made in a bucket.

    Attributes:
        address: The bucket.
        prefix: Prefix of the layout's paths.
        work: Prefix of all objects that are not part of the result.
    """

    address: str
    prefix: str
    work_prefix: str

    def open_tile_sink(self, layout: Layout) -> Sink:
        """Objects where they belong."""
        return ObjectTileSink(layout, Bucket(self.address), self.prefix)

    @property
    def shard_store(self) -> ShardStore:
        """Objects in the folder `blocks`."""
        return ObjectShardStore(Bucket(self.address), f"{self.work_prefix}/blocks")


class ObjectShardStore:
    """Blocks of shards as objects.

    Args:
        bucket, folder: Where.
    """

    def __init__(self, bucket: Bucket, folder: str) -> None:
        self._bucket = bucket
        self._folder = folder

    def put(self, number: int, data: bytes) -> None:
        """Write an object."""
        try:
            kind = "application/octet-stream"
            self._bucket.put(f"{self._folder}/{number}", data, media_type=kind)
        except StoreError as error:
            raise TargetError(str(error)) from error

    def get(self, number: int) -> bytes:
        """Read an object."""
        try:
            return self._bucket.get(f"{self._folder}/{number}")
        except StoreError as error:
            raise SourceError(str(error)) from error
