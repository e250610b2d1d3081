"""Object stores: buckets of S3, Google Cloud and Azure, by obstore.

Endpoints and credentials come from the environment, as the stores' own tools take them:
AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL;
GOOGLE_APPLICATION_CREDENTIALS;
AZURE_STORAGE_ACCOUNT_NAME and so on. What fails is tried again, ever later, for a minute.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from .errors import FasttileError, OptionError

T = TypeVar("T")

RETRY_SECONDS = 60
REQUEST_SECONDS = 60
CONNECT_SECONDS = 5

_KEYS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}


class StoreError(FasttileError):
    """An object store refuses, or does not answer."""


class MissingError(StoreError):
    """There is no such object."""


class TakenError(StoreError):
    """There is such an object already."""


class Stored(NamedTuple):
    """An object.

    Attributes:
        key: Its name in the bucket.
        size: In bytes.
        tag: What changes with its contents.
        modified: When it was written, by the store's clock.
    """

    key: str
    size: int
    tag: str
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
        self._store = _opened(address, _surroundings())

    def put(
        self, key: str, data: bytes | Path, *, kind: str, cache: str = "", new: bool = False
    ) -> None:
        """Write an object, as a whole; a large file in several parts.

        Args:
            key: Its name.
            data: What is in it, or the file that it is in.
            kind: Its media type.
            cache: How long others may keep it, as HTTP's Cache-Control says it.
            new: Whether it must not be there yet.

        Raises:
            TakenError: It is.
            StoreError: It cannot be written.
        """
        import obstore

        about: Any = {"Content-Type": kind}
        if cache:
            about["Cache-Control"] = cache
        with self._telling("write", key):
            if new:
                obstore.put(self._store, key, data, attributes=about, mode="create")
            else:
                obstore.put(self._store, key, data, attributes=about, max_concurrency=4)

    def get(self, key: str) -> bytes:
        """All of an object.

        Raises:
            MissingError: It is not there.
            StoreError: It cannot be read.
        """
        import obstore

        with self._telling("read", key):
            return _tried(lambda: bytes(obstore.get(self._store, key).bytes()))

    def part(self, stored: Stored, start: int, stop: int) -> bytes:
        """Some bytes of an object, which must not have changed.

        Raises:
            StoreError: It has, or cannot be read.
        """
        import obstore

        options: Any = {"range": (start, stop), "if_match": stored.tag}

        def get() -> tuple[str, bytes]:
            found = obstore.get(self._store, stored.key, options=options)
            return found.meta["e_tag"] or "", bytes(found.bytes())

        with self._telling("read", stored.key):
            tag, data = _tried(get)
        if tag != stored.tag:  # not all stores look at the condition
            raise StoreError(f"cannot read {self.address}/{stored.key}: it has changed meanwhile")
        return data

    def head(self, key: str) -> Stored | None:
        """What is known of an object, or None if it is not there.

        Raises:
            StoreError: The store does not tell.
        """
        import obstore

        try:
            with self._telling("look at", key):
                return _stored(obstore.head(self._store, key))
        except MissingError:
            return None

    def below(self, prefix: str) -> Iterator[Stored]:
        """The objects whose names begin with a folder's.

        Raises:
            StoreError: The store does not tell.
        """
        import obstore

        def some_after(last: str | None) -> Sequence[Any]:
            listing = obstore.list(self._store, prefix, offset=last, chunk_size=1000)
            return next(iter(listing), [])

        last = None
        while True:
            with self._telling("look at", prefix):
                some = _tried(partial(some_after, last))
            for found in some:
                yield _stored(found)
            if not some:
                return
            last = some[-1]["path"]

    def delete(self, keys: Sequence[str]) -> None:
        """Remove objects; those that are not there are no matter.

        Raises:
            StoreError: Some cannot be removed.
        """
        import obstore

        if keys:
            with self._telling("remove", keys[0]):
                obstore.delete(self._store, list(keys))

    def clear(self, prefix: str) -> None:
        """Remove all objects below a folder.

        Raises:
            StoreError: Some cannot be removed.
        """
        keys: list[str] = []
        for found in self.below(prefix):
            keys.append(found.key)
            if len(keys) == 1000:
                self.delete(keys)
                keys.clear()
        self.delete(keys)

    @contextmanager
    def _telling(self, action: str, key: str) -> Iterator[None]:
        """Turn what goes wrong into one line with nothing secret in it."""
        from obstore import exceptions

        where = f"{self.address}/{key}"
        try:
            yield
        except (FileNotFoundError, exceptions.NotFoundError) as error:
            raise MissingError(f"cannot {action} {where}: there is no such object") from error
        except exceptions.AlreadyExistsError as error:
            raise TakenError(f"cannot {action} {where}: it exists already") from error
        except exceptions.PreconditionError as error:
            raise StoreError(f"cannot {action} {where}: it has changed meanwhile") from error
        except (exceptions.BaseError, OSError, ValueError) as error:
            raise StoreError(f"cannot {action} {where}: {self._reason(error)}") from error

    def _reason(self, error: Exception) -> str:
        from obstore import exceptions

        text = str(error)
        brief = " ".join(text.partition("Debug source")[0].split())
        denied = (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError)
        if isinstance(error, denied) or "403" in text or "credential" in text.lower():
            return f"the store denies it; look at {_KEYS[self._scheme]}, and the bucket's policy"
        if "NoSuchBucket" in text:
            return "there is no such bucket"
        if "kind: Timeout" in text or "timed out" in brief:
            return "the store does not answer in time"
        if "kind: Connect" in text or "error sending request" in brief or "body error" in brief:
            return "the store cannot be reached, or breaks off"
        return brief[:300]


def _tried(read: Callable[[], T]) -> T:
    """Read, and once more where the answer breaks off in the middle, which obstore does not try."""
    from obstore import exceptions

    for seconds in (0.1, 0.4, 1.6):
        try:
            return read()
        except exceptions.GenericError as error:
            if "body" not in str(error):
                raise
            time.sleep(seconds)
    return read()


def bucket_and_key(address: str) -> tuple[str, str]:
    """An address as that of its bucket, "s3://bucket", and the key in it.

    Raises:
        OptionError: It names no bucket, or more than a bucket and a key.
    """
    scheme, _, rest = address.partition("://")
    bucket, _, key = rest.partition("/")
    scheme = scheme.lower()
    if "@" in bucket:
        name = f"{scheme}://{bucket.rpartition('@')[2]}/…"
        raise OptionError(
            f"{name}: a store's address has no user or password; they come from {_KEYS[scheme]}"
        )
    if not bucket or bucket.strip(".") == "" or set(bucket) & set("?#[]: \\"):
        raise OptionError(f"{scheme}://… names no bucket: {scheme}://BUCKET/KEY would do")
    return f"{scheme}://{bucket}", key


def media_type(name: str) -> str:
    """What a file is, by its ending, as HTTP says it."""
    ending = name.rpartition(".")[2].lower()
    return _TYPES.get(ending, "application/octet-stream")


_TYPES = {
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
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


def _stored(found: Any) -> Stored:
    return Stored(found["path"], found["size"], found["e_tag"] or "", found["last_modified"])


def _surroundings() -> tuple[tuple[str, str], ...]:
    """What of the environment a store is opened by."""
    wanted = ("AWS_", "GOOGLE_", "AZURE_")
    return tuple(sorted(item for item in os.environ.items() if item[0].startswith(wanted)))


@lru_cache(maxsize=8)
def _opened(address: str, surroundings: tuple[tuple[str, str], ...]) -> Any:
    try:
        from obstore.store import from_url
    except ImportError:
        raise OptionError(
            f"{address}: object stores need obstore: pip install 'fasttile[objects]'"
        ) from None
    plain = any(
        name.startswith("AWS_ENDPOINT_URL") and value.startswith("http:")
        for name, value in surroundings
    )
    try:
        return from_url(
            address,
            client_options={
                "timeout": timedelta(seconds=REQUEST_SECONDS),
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
        text = " ".join(str(error).partition("Debug source")[0].split())[:300]
        keys = _KEYS[address.partition("://")[0]]
        raise OptionError(f"{address} cannot be opened: {text}; look at {keys}") from error
