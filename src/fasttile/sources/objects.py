"""Pictures in object stores: fetched into an unlinked file, in pieces side by side."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor

from ..errors import OptionError, SourceError
from ..stores import Bucket, Stored, StoreError, bucket_and_key
from .mapping import PictureFile
from .spool import check_room, spooled

PIECE_BYTES = 2**23
AT_ONCE = 4


def object_file(address: str) -> PictureFile:
    """A file that holds an object.

    Args:
        address: "s3://bucket/key", "gs://…" or "az://…".

    Raises:
        SourceError: It cannot be had, as a whole, or changes while it is fetched.
    """
    found = look_at(address)
    bucket = Bucket(bucket_and_key(address)[0])
    check_room(address, found.size)
    name = (address, found.tag, found.size)
    return spooled(name, address, lambda: _pieces(bucket, found))


def look_at(address: str) -> Stored:
    """What the store says of an object.

    Raises:
        SourceError: It is not there, or the store does not say.
    """
    try:
        bucket, key = bucket_and_key(address)
        found = Bucket(bucket).head(key)
    except (OptionError, StoreError) as error:
        raise SourceError(str(error)) from error
    if found is None:
        raise SourceError(f"{address}: there is no such object")
    return found


def _pieces(bucket: Bucket, found: Stored) -> Generator[bytes]:
    """Its bytes, in order; some pieces are on their way while one is written."""
    starts = range(0, found.size, PIECE_BYTES)
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="fasttile-fetch") as pool:
        under_way = deque(pool.submit(_piece, bucket, found, start) for start in starts[:AT_ONCE])
        try:
            for start in [*starts[AT_ONCE:], *[None] * len(under_way)]:
                yield under_way.popleft().result()
                if start is not None:
                    under_way.append(pool.submit(_piece, bucket, found, start))
        except StoreError as error:
            raise SourceError(str(error)) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _piece(bucket: Bucket, found: Stored, start: int) -> bytes:
    stop = min(found.size, start + PIECE_BYTES)
    data = bucket.part(found, start, stop)
    if len(data) != stop - start:
        raise StoreError(f"{bucket.address}/{found.key}: {len(data)} bytes came of {stop - start}")
    return data
