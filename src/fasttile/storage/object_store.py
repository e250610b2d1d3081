"""Object stores: buckets of S3, Google Cloud and Azure by obstore, and locks.

Endpoints and credentials come from the environment variables of the stores' own tools:
AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL;
GOOGLE_APPLICATION_CREDENTIALS;
AZURE_STORAGE_ACCOUNT_NAME and so on. Failed requests are repeated for a minute. The contents of an
object may take any time to arrive, as long as they do arrive: see `STALL_SECONDS`.
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from fasttile.errors import OptionError, TargetError, one_line, redact_url
from fasttile.storage.system import log_line

T = TypeVar("T")

RETRY_SECONDS = 60
REQUEST_SECONDS = 60
CONNECT_SECONDS = 5

MAX_REASON_LENGTH = 300
"""Characters of a reason of obstore in a message."""

STALL_SECONDS, STALL_BYTES = 60.0, 1_000
"""A read is ended and repeated if fewer bytes arrive in that time."""

MAX_BODY_SECONDS = 7 * 24 * 3600
"""Time that one request may take whose bytes keep arriving."""

_READ_ATTEMPTS = 4  # that may fail one after the other with fewer than STALL_BYTES

TILES_CACHE_CONTROL = "public, max-age=86400"
"""Tiles are cached for a day: the tiles of a new result have the same names."""

DESCRIPTORS_CACHE_CONTROL = "no-cache"
"""Descriptors are validated at each request."""

_CREDENTIAL_VARIABLES = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}


_MISSING_BUCKET = ("NoSuchBucket", "ContainerNotFound", "bucket does not exist")
"""What S3, Azure and Google Cloud answer if the bucket does not exist."""


class StoreError(TargetError):
    """The object store rejects a request, or does not answer; sources raise SourceError for it."""


class BucketMissingError(StoreError):
    """The bucket does not exist."""


class ObjectMissingError(StoreError):
    """The object does not exist."""


class ObjectExistsError(StoreError):
    """The object exists already."""


class ObjectInfo(NamedTuple):
    """An object.

    Attributes:
        key: Its name in the bucket.
        size: In bytes.
        etag: Changes with its contents.
        modified: The time it was written, by the store's clock.
    """

    key: str
    size: int
    etag: str
    modified: datetime


class Bucket:
    """A bucket; its methods may be called from many threads.

    Args:
        address: "s3://name", "gs://name" or "az://name".

    Raises:
        OptionError: obstore is not installed, or the address is none.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._scheme = address.partition("://")[0]
        self._store = _open_store(address, _store_environment(), REQUEST_SECONDS)
        self._body_store = _open_store(address, _store_environment(), MAX_BODY_SECONDS)

    def name_of(self, key: str) -> str:
        """The address of an object, for messages."""
        return redact_url(f"{self.address}/{key}")

    def put(
        self,
        key: str,
        data: bytes | Path,
        *,
        media_type: str,
        cache_control: str = "",
        must_be_new: bool = False,
    ) -> None:
        """Write an object at once; a large file in several parts.

        Args:
            key: Its name.
            data: Its contents, or the file that holds them.
            media_type: Its media type.
            cache_control: The value of HTTP's Cache-Control. Default: none.
            must_be_new: True if it must not exist yet.

        Raises:
            ObjectExistsError: It exists, and must be new.
            StoreError: It cannot be written.
        """
        import obstore

        attributes: Any = {"Content-Type": media_type}
        if cache_control:
            attributes["Cache-Control"] = cache_control
        with self._wrap_store_errors("write", key):
            if must_be_new:
                obstore.put(self._store, key, data, attributes=attributes, mode="create")
            else:
                obstore.put(self._store, key, data, attributes=attributes, max_concurrency=4)

    def get(self, key: str) -> bytes:
        """The contents of an object.

        Raises:
            ObjectMissingError: It does not exist.
            StoreError: It cannot be read.
        """
        import obstore

        with self._wrap_store_errors("read", key):
            name = self.name_of(key)
            return _retry(name, lambda: bytes(obstore.get(self._store, key).bytes()))

    def read(self, key: str, max_bytes: int) -> bytes | None:
        """The contents of an object, or None if it does not exist.

        Raises:
            StoreError: It has more than `max_bytes`, or cannot be read.
        """
        import obstore
        from obstore import exceptions

        try:
            with self._wrap_store_errors("read", key):
                result = _retry(self.name_of(key), lambda: obstore.get(self._store, key))
                info = _object_info(result.meta)
                if info.size > max_bytes:
                    raise StoreError(
                        f"{self.name_of(key)}: it has {info.size:,} bytes, more than {max_bytes:,}"
                    )
                with suppress(exceptions.GenericError):  # the body breaks off
                    return bytes(result.bytes())
            return self.read_range(info, 0, info.size)
        except ObjectMissingError:
            return None

    def list_names(self, prefix: str) -> list[str]:
        """Names of the objects and prefixes directly below a prefix that ends in a slash; sorted.

        Raises:
            StoreError: The store does not answer.
        """
        import obstore

        with self._wrap_store_errors("look at", prefix):
            found = _retry(
                self.name_of(prefix),
                lambda: obstore.list_with_delimiter(self._store, prefix or None),
            )
        paths = [*found["common_prefixes"], *(row["path"] for row in found["objects"])]
        return sorted({path.removeprefix(prefix).rstrip("/") for path in paths} - {""})

    def read_range(self, info: ObjectInfo, start: int, stop: int) -> bytes:
        """Some bytes of an object, which must not have changed.

        A read that breaks off is resumed with the bytes that are missing.

        Raises:
            StoreError: It has changed, or cannot be read.
        """
        from obstore import exceptions

        data = bytearray()
        attempt, progressed = 0, time.monotonic()
        while len(data) < stop - start:
            before = len(data)
            with self._wrap_store_errors("read", info.key):
                try:
                    self._read_into(data, info, start + before, stop)
                    break
                except exceptions.GenericError as error:
                    now = time.monotonic()
                    if len(data) - before >= STALL_BYTES:
                        attempt, progressed = 0, now
                    attempt += 1
                    is_lasting = attempt == _READ_ATTEMPTS or now - progressed > 2 * STALL_SECONDS
                    if is_lasting or "body" not in str(error):
                        raise
            log_line(
                "warning",
                f"{self.name_of(info.key)}: the bytes ended after {len(data):,} of "
                f"{stop - start:,}; the rest is requested again",
            )
            time.sleep(0.1 * 4 ** (attempt - 1))
        return bytes(data)

    def _read_into(self, data: bytearray, info: ObjectInfo, start: int, stop: int) -> None:
        """Append bytes of an object as they arrive."""
        import obstore
        from obstore import exceptions

        options: Any = {"range": (start, stop), "if_match": info.etag}
        result = obstore.get(self._body_store, info.key, options=options)
        if (result.meta["e_tag"] or "") != info.etag:  # some stores ignore the condition
            raise StoreError(f"cannot read {self.name_of(info.key)}: it has changed meanwhile")
        began, few = time.monotonic(), len(data) + STALL_BYTES
        for chunk in result.stream(min_chunk_size=1):
            data += chunk
            now = time.monotonic()
            if len(data) >= few:
                began, few = now, len(data) + STALL_BYTES
            elif now - began > STALL_SECONDS:
                raise exceptions.GenericError("the body stalls: timed out")

    def head(self, key: str) -> ObjectInfo | None:
        """The size, tag and time of an object, or None if it does not exist.

        Raises:
            StoreError: The store does not answer.
        """
        import obstore

        try:
            with self._wrap_store_errors("look at", key):
                return _object_info(obstore.head(self._store, key))
        except ObjectMissingError:
            return None

    def exists(self) -> bool:
        """False if the store answers that there is no such bucket, which `head` cannot."""
        try:
            next(self.list_objects(""), None)
        except BucketMissingError:
            return False
        except StoreError:  # it may not be listed
            return True
        return True

    def list_objects(self, prefix: str) -> Iterator[ObjectInfo]:
        """The objects below a folder.

        Raises:
            StoreError: The store does not answer.
        """
        import obstore

        def some_after(last: str | None) -> Sequence[Any]:
            listing = obstore.list(self._store, prefix, offset=last, chunk_size=1000)
            return next(iter(listing), [])

        last = None
        while True:
            with self._wrap_store_errors("look at", prefix):
                some = _retry(self.name_of(prefix), partial(some_after, last))
            for row in some:
                yield _object_info(row)
            if not some:
                return
            last = some[-1]["path"]

    def delete(self, keys: Sequence[str]) -> None:
        """Remove objects; missing ones are ignored.

        Raises:
            StoreError: Some cannot be removed.
        """
        import obstore

        if keys:
            with self._wrap_store_errors("remove", keys[0]):
                obstore.delete(self._store, list(keys))

    def delete_folder(self, prefix: str) -> None:
        """Remove all objects below a folder.

        Raises:
            StoreError: Some cannot be removed.
        """
        keys: list[str] = []
        for info in self.list_objects(prefix):
            keys.append(info.key)
            if len(keys) == 1000:
                self.delete(keys)
                keys.clear()
        self.delete(keys)

    @contextmanager
    def _wrap_store_errors(self, action: str, key: str) -> Iterator[None]:
        """Turn errors into StoreErrors of one line without secrets."""
        from obstore import exceptions

        where = self.name_of(key)
        try:
            yield
        except (FileNotFoundError, exceptions.NotFoundError) as error:
            self._raise_if_bucket_missing(error)
            raise ObjectMissingError(f"cannot {action} {where}: there is no such object") from error
        except exceptions.AlreadyExistsError as error:
            raise ObjectExistsError(f"cannot {action} {where}: it exists already") from error
        except exceptions.PreconditionError as error:
            raise StoreError(f"cannot {action} {where}: it has changed meanwhile") from error
        except (exceptions.BaseError, OSError, ValueError) as error:
            self._raise_if_bucket_missing(error)
            raise StoreError(f"cannot {action} {where}: {self._error_reason(error)}") from error

    def _raise_if_bucket_missing(self, error: Exception) -> None:
        if any(code in _without_addresses(error) for code in _MISSING_BUCKET):
            raise BucketMissingError(f"{self.address}: there is no such bucket") from error

    def _error_reason(self, error: Exception) -> str:
        from obstore import exceptions

        text = _without_addresses(error)
        brief = one_line(text.partition("Debug source")[0], MAX_REASON_LENGTH)
        denied = (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError)
        if isinstance(error, denied) or re.search(r"\b403\b", text) or "credential" in text.lower():
            names = _CREDENTIAL_VARIABLES[self._scheme]
            return f"the store denies it; look at {names}, and the bucket's policy"
        if "kind: Timeout" in text or "timed out" in brief:
            return "the store does not answer in time"
        if "kind: Connect" in text or "error sending request" in brief or "body error" in brief:
            return "the store cannot be reached, or breaks off"
        return brief


def _without_addresses(error: Exception) -> str:
    """The text of an error of obstore without URLs: names of objects may contain any text."""
    return re.sub(r"[a-z0-9]+://[^\s\"']+", "", str(error))


def _retry(name: str, read: Callable[[], T]) -> T:
    """Read, and repeat if the answer is cut short, which obstore does not do.

    Args:
        name: Name of the object, for the log.
        read: Sends the request.
    """
    from obstore import exceptions

    for seconds in (0.1, 0.4, 1.6):
        try:
            return read()
        except exceptions.GenericError as error:
            if "body" not in _without_addresses(error):
                raise
            log_line("warning", f"{name}: the answer was cut short; it is requested again")
            time.sleep(seconds)
    return read()


def split_bucket_and_key(address: str) -> tuple[str, str]:
    """Split an address into the bucket, as "s3://bucket", and the key.

    Raises:
        OptionError: It names no bucket, or more than a bucket and a key.
    """
    scheme, _, rest = address.partition("://")
    bucket, _, key = rest.partition("/")
    scheme = scheme.lower()
    if "@" in bucket:
        name = f"{scheme}://{bucket.rpartition('@')[2]}/…"
        raise OptionError(
            f"{name}: a store's address has no user or password; they come from "
            f"{_CREDENTIAL_VARIABLES[scheme]}"
        )
    if not bucket or bucket.strip(".") == "" or set(bucket) & set("?#[]: \\"):
        raise OptionError(f"{scheme}://… names no bucket; expected {scheme}://BUCKET/KEY")
    return f"{scheme}://{bucket}", key


def _object_info(row: Any) -> ObjectInfo:
    return ObjectInfo(row["path"], row["size"], row["e_tag"] or "", row["last_modified"])


def _store_environment() -> tuple[tuple[str, str], ...]:
    """The environment variables that a store depends on."""
    wanted = ("AWS_", "GOOGLE_", "AZURE_")
    return tuple(sorted(item for item in os.environ.items() if item[0].startswith(wanted)))


@lru_cache(maxsize=8)
def _open_store(address: str, environment: tuple[tuple[str, str], ...], seconds: float) -> Any:
    try:
        from obstore.store import from_url
    except ImportError:
        raise OptionError(
            f"{address}: object stores need obstore: pip install 'fasttile[objects]'"
        ) from None
    plain = any(
        name.startswith("AWS_ENDPOINT_URL") and value.startswith("http:")
        for name, value in environment
    )
    try:
        return from_url(
            address,
            client_options={
                "timeout": timedelta(seconds=seconds),
                "read_timeout": timedelta(seconds=min(seconds, STALL_SECONDS)),
                "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
                **({"allow_http": True} if plain else {}),
            },
            retry_config={
                "max_retries": 8,
                "retry_timeout": timedelta(seconds=RETRY_SECONDS),
                "backoff": {
                    "init_backoff": timedelta(seconds=0.1),
                    "max_backoff": timedelta(seconds=10),
                    "base": 2,
                },
            },
        )
    except Exception as error:
        text = one_line(str(error).partition("Debug source")[0], MAX_REASON_LENGTH)
        keys = _CREDENTIAL_VARIABLES[address.partition("://")[0]]
        raise OptionError(f"{address} cannot be opened: {text}; look at {keys}") from error


RENEW_INTERVAL_SECONDS = 15.0
STALE_AFTER_SECONDS = 60.0

_MEDIA_TYPE = "application/json"


class StoreLock:
    """A lock on a result in a bucket, until `release`: an object that is renewed.

    A run writes an object that must be new, and writes it again every few seconds. An object that
    was not renewed for a minute belongs to a run that was killed. The times are those of the store,
    because the clocks of machines differ.

    Args:
        bucket, key: The object.
        name: The name of the result in messages.

    Attributes:
        was_abandoned: True if an earlier run was killed.

    Raises:
        TargetError: Another run holds it, or the store fails.
    """

    def __init__(self, bucket: Bucket, key: str, name: str) -> None:
        self._bucket = bucket
        self._key = key
        self._name = name
        self._data = json.dumps({"owner": uuid.uuid4().hex}).encode()
        self.was_abandoned = False
        self._is_lost = False
        self._released = threading.Event()
        self._acquire()
        self._thread = threading.Thread(target=self._renew, name="fasttile-claim", daemon=True)
        self._thread.start()

    def ensure_held(self) -> None:
        """Check that this run still holds the lock.

        Raises:
            TargetError: Another run took it over, because the store was not reachable for long.
        """
        if self._is_lost:
            raise TargetError(f"{self._name}: another run has taken it over meanwhile")

    def release(self) -> None:
        """Release the lock. Never raises."""
        self._released.set()
        self._thread.join()
        if not self._is_lost:
            with suppress(StoreError):
                self._bucket.delete([self._key])

    def _acquire(self) -> None:
        try:
            self._bucket.put(self._key, self._data, media_type=_MEDIA_TYPE, must_be_new=True)
        except ObjectExistsError:
            self._acquire_abandoned()

    def _acquire_abandoned(self) -> None:
        """Take the lock of a killed run; reject if that run may still work."""
        lock = self._bucket.head(self._key)
        clock = f"{self._key}-clock"
        self._bucket.put(clock, b"", media_type=_MEDIA_TYPE)
        now = self._bucket.head(clock)
        self._bucket.delete([clock])
        if lock is not None and now is not None:
            age = (now.modified - lock.modified).total_seconds()
            if age < STALE_AFTER_SECONDS:
                raise TargetError(
                    f"another run is at work on {self._name}, or was killed {age:.0f} seconds ago: "
                    f"wait for it, or for {STALE_AFTER_SECONDS:.0f} seconds, or choose another name"
                )
            self._bucket.delete([self._key])
            self.was_abandoned = True
        try:
            self._bucket.put(self._key, self._data, media_type=_MEDIA_TYPE, must_be_new=True)
        except ObjectExistsError:
            raise TargetError(f"another run is at work on {self._name}") from None

    def _renew(self) -> None:
        while not self._released.wait(RENEW_INTERVAL_SECONDS):
            with suppress(StoreError):
                lock = self._bucket.head(self._key)
                if lock is None or self._bucket.get(self._key) != self._data:
                    self._is_lost = True
                    return
                self._bucket.put(self._key, self._data, media_type=_MEDIA_TYPE)
