"""Images behind URLs and in object stores, fetched into spools."""

from __future__ import annotations

import re
import socket
import ssl
import threading
import time
from base64 import b64encode
from collections import deque
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import (
    HTTPConnection,
    HTTPException,
    HTTPResponse,
    HTTPSConnection,
    IncompleteRead,
    RemoteDisconnected,
)
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, unquote, urljoin, urlsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    url2pathname,
)

from fasttile._version import __version__
from fasttile.errors import OptionError, SourceError, SourceNotFoundError, redact_url
from fasttile.sources.files import check_disk_space, check_spare_space, scheme_of, spool_once
from fasttile.storage.object_store import Bucket, ObjectInfo, StoreError, split_bucket_and_key
from fasttile.storage.random_access import DiskFile, SourceFile
from fasttile.types import Closing

SOCKET_SECONDS = 30.0
"""Timeout of a connection, and of each read from it."""

STALL_SECONDS, STALL_BYTES = 60.0, 1_000
"""A connection is closed if fewer bytes of the image arrive in that time."""

PART_BYTES = 2**23
"""Bytes of an object per request."""

MAX_CONCURRENT_REQUESTS = 4
"""Requests for parts of one object at a time."""

MAX_REDIRECTS = 10

_CHUNK_BYTES = 2**16
_CHECKS_PER_STALL = 20
_REDIRECT_STATUSES = (301, 302, 303, 307, 308)
_MISSING_STATUSES = (404, 410)
_PASSING_STATUSES = (429, 500, 502, 503, 504)
_PAUSES = (0.2, 0.8, 3.0)  # seconds before a piece is requested again
_PATH_SAFE_CHARS = "/%:@!$&'()*+,;=~-._"  # beside letters and digits
_QUERY_SAFE_CHARS = f"{_PATH_SAFE_CHARS}?"
_DEFAULT_PORTS = {"http": 80, "https": 443}


def open_url(url: str) -> SourceFile:
    """Open the content of a URL as an input file.

    Args:
        url: http, https or file. A user and a password in it are sent to its own server only;
            the proxies in the environment are used.

    Raises:
        SourceError: The content cannot be fetched completely, or the URL has another scheme.
    """
    scheme = scheme_of(url)
    if scheme == "file":
        try:
            parts = urlsplit(url)
        except ValueError:
            parts = urlsplit("")
        if parts.netloc not in ("", "localhost") or not parts.path:
            raise SourceError(f"{redact_url(url)} is not on this machine; expected file:///path")
        return DiskFile(url2pathname(parts.path))
    if scheme not in _DEFAULT_PORTS:
        raise SourceError(
            f"{redact_url(url)}: unknown scheme {scheme}://; expected http://, https://, file://, "
            "s3://, gs://, az://, a path, or an open stream"
        )
    return spool_once(url, redact_url(url), lambda: _fetch_chunks(url))


def _fetch_chunks(url: str) -> Generator[bytes | memoryview]:
    """Fetch the body of a URL, in pieces."""
    name = redact_url(url)
    with _StallGuard() as guard:
        try:
            with _open_response(url, guard) as response:
                yield from _read_body(response, name, guard)
        except (OSError, HTTPException, ValueError) as error:
            # The texts of other errors quote parts of addresses, of a proxy for one.
            cause = error if isinstance(error, OSError) else None
            is_missing = isinstance(error, HTTPError) and error.code in _MISSING_STATUSES
            kind = SourceNotFoundError if is_missing else SourceError
            raise kind(f"{name}: {_explain_error(error, guard)}") from cause


def fetch_piece(url: str, max_bytes: int, start: int | None = None) -> tuple[bytes, int]:
    """Fetch the body of a URL, or a piece of it, into memory; repeat it if the server breaks off.

    Args:
        url: http or https.
        max_bytes: The most bytes that it may have; those of the piece.
        start: First byte of a piece. Default: the complete body.

    Returns:
        The bytes, and the size of the complete body; fewer bytes than asked for at its end.

    Raises:
        SourceNotFoundError: The server answers 404 or 410.
        SourceError: It cannot be fetched, has more bytes, or the server sends no pieces.
    """
    span = None if start is None else (start, start + max_bytes)
    for seconds in (*_PAUSES, None):
        with _StallGuard() as guard:
            try:
                with _open_response(url, guard, span) as response:
                    return _read_piece(response, redact_url(url), max_bytes, span)
            except (OSError, HTTPException, ValueError) as error:
                lasting = isinstance(error, HTTPError) and error.code not in _PASSING_STATUSES
                if isinstance(error, SourceError):
                    raise
                if lasting or seconds is None:
                    kind = SourceError
                    if isinstance(error, HTTPError) and error.code in _MISSING_STATUSES:
                        kind = SourceNotFoundError
                    raise kind(f"{redact_url(url)}: {_explain_error(error, guard)}") from None
        time.sleep(seconds)
    raise AssertionError  # the last pause is None


def _read_piece(
    response: HTTPResponse, name: str, max_bytes: int, span: tuple[int, int] | None
) -> tuple[bytes, int]:
    """The bytes of an answer, and the size of the complete body."""
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise SourceError(f"{name}: the server compressed it without being asked")
    size = None
    if span is not None:
        header = response.headers.get("Content-Range", "")
        found = re.fullmatch(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18})", header)
        if found is None or int(found[1]) != span[0]:
            raise SourceError(
                f"{name}: the server sends no pieces of files (ranges), which shards need; "
                "download the image first"
            )
        size = int(found[2])
    data = response.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise SourceError(f"{name}: it has more than {max_bytes:,} bytes")
    if response.length:
        raise IncompleteRead(b"", response.length)
    return data, len(data) if size is None else size


def _open_response(
    url: str, guard: _StallGuard, span: tuple[int, int] | None = None
) -> HTTPResponse:
    """Open a URL, or some bytes of it, following its redirects."""
    name, secret = redact_url(url), None
    opener = _build_opener(guard)
    for _ in range(MAX_REDIRECTS + 1):
        request, secret = _build_request(url, secret)
        if span is not None:
            request.add_header("Range", f"bytes={span[0]}-{span[1] - 1}")
        try:
            response: HTTPResponse = opener.open(request, timeout=SOCKET_SECONDS)
            return response
        except HTTPError as error:
            error.close()
            target = error.headers.get("Location")
            if error.code not in _REDIRECT_STATUSES or not target:
                raise
            target = urljoin(url, target)
            scheme = scheme_of(target)
            if scheme not in _DEFAULT_PORTS:
                raise SourceError(
                    f"{name} redirects to {redact_url(target)}; expected http:// or https://"
                ) from error
            if scheme == "http" and scheme_of(url) == "https":
                raise SourceError(
                    f"{name} redirects to {redact_url(target)}, which is not encrypted; to allow "
                    "that, use that URL"
                ) from error
            if _origin(target) != _origin(url):
                secret = None
            url = target
    raise SourceError(
        f"{name} redirects more than {MAX_REDIRECTS} times; the last was to {redact_url(url)}"
    )


def _build_request(url: str, secret: str | None) -> tuple[Request, str | None]:
    """Request for a URL, and the credentials that it contains or inherits."""
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").encode("idna").decode(), parts.port
    except ValueError:
        host, port = "", None
    if not host:
        raise SourceError(f"{redact_url(url)}: no valid host and port; expected scheme://host/path")
    if parts.username is not None:
        credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        secret = b64encode(credentials.encode()).decode()
    host = f"[{host}]" if ":" in host else host
    where = host if port is None else f"{host}:{port}"
    path = quote(parts.path or "/", _PATH_SAFE_CHARS)
    query = f"?{quote(parts.query, _QUERY_SAFE_CHARS)}" if parts.query else ""
    headers = {"User-Agent": f"fasttile/{__version__}"}
    request = Request(f"{parts.scheme}://{where}{path}{query}", headers=headers)
    if secret is not None:
        request.add_unredirected_header("Authorization", f"Basic {secret}")
    return request, secret


def _origin(url: str) -> tuple[str, str | None, int | None]:
    try:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname, parts.port or _DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return "", None, None


def _read_body(response: HTTPResponse, name: str, guard: _StallGuard) -> Generator[bytes]:
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding != "identity":
        raise SourceError(f"{name}: the server compressed it ({encoding}) without being asked")
    expected = response.length
    if expected is not None:
        check_disk_space(name, expected)
    # Never more bytes than expected: some servers keep the connection open after the last.
    while piece := response.read1(
        _CHUNK_BYTES if expected is None else min(_CHUNK_BYTES, expected)
    ):
        guard.received_bytes += len(piece)
        if expected is None:
            check_spare_space(name, guard.received_bytes)
        else:
            expected -= len(piece)
        yield piece
    if expected or guard.has_stalled:
        raise IncompleteRead(b"", expected)


def _explain_error(error: Exception, guard: _StallGuard) -> str:
    """Reason of a failed fetch, without any part of the URL."""
    cause = error.reason if isinstance(error, URLError) else error
    if guard.has_stalled:
        return (
            f"fewer than {STALL_BYTES:,} bytes arrived in {STALL_SECONDS:g} s, "
            f"{guard.received_bytes:,} in total; try again later"
        )
    if isinstance(error, HTTPError):
        return f"the server answers {error.code} {error.msg}"
    if isinstance(cause, ssl.SSLCertVerificationError):
        return (
            f"its certificate is not trusted ({cause.verify_message}); set SSL_CERT_FILE to a file "
            "of further authorities"
        )
    if isinstance(cause, socket.gaierror):
        return f"its host was not found: {cause.strerror}"
    if isinstance(cause, TimeoutError):
        return f"nothing arrived for {SOCKET_SECONDS:g} s"
    if isinstance(cause, IncompleteRead):
        return f"the connection ended after {guard.received_bytes:,} bytes, before the end"
    if isinstance(cause, RemoteDisconnected):
        return "the server closed the connection without an answer"
    if isinstance(cause, OSError) and cause.strerror:
        return f"it cannot be fetched: {cause.strerror}"
    return f"the answer is not HTTP ({type(cause).__name__})"


class _StallGuard(Closing):
    """Closes a connection over which almost nothing arrives.

    The timeout of a socket is not enough: it restarts with each byte, also within the headers.

    Attributes:
        received_bytes: Bytes of the body so far.
        connection: The connection to watch.
        has_stalled: True if it was closed.
    """

    def __init__(self) -> None:
        self.received_bytes = 0
        self.connection: socket.socket | None = None
        self.has_stalled = False
        self._stop_event = threading.Event()
        self._thread = threading.Thread(target=self._monitor, name="fasttile-watch", daemon=True)
        self._thread.start()

    def _monitor(self) -> None:
        seen = quiet = 0
        # Checks are counted, not seconds: a process that was suspended misses only one of them.
        while not self._stop_event.wait(STALL_SECONDS / _CHECKS_PER_STALL):
            if self.connection is None or self.received_bytes - seen >= STALL_BYTES:
                seen, quiet = self.received_bytes, 0
                continue
            quiet += 1
            if quiet >= _CHECKS_PER_STALL:
                self.has_stalled = True
                with suppress(OSError):
                    # Not SSLSocket.shutdown, which removes the session that the reader uses.
                    socket.socket.shutdown(self.connection, socket.SHUT_RDWR)

    def close(self) -> None:
        """Stop watching."""
        self._stop_event.set()
        self._thread.join()
        self.connection = None


def _build_opener(guard: _StallGuard) -> OpenerDirector:
    """An opener of http and https that follows no redirects."""

    class GuardedHttpConnection(HTTPConnection):
        def connect(self) -> None:
            super().connect()
            guard.connection = self.sock

    class GuardedHttpsConnection(HTTPSConnection):
        def connect(self) -> None:
            super().connect()
            guard.connection = self.sock

    class GuardedHandler(HTTPHandler):
        https_request = HTTPHandler.http_request

        def http_open(self, req: Request) -> Any:
            return self.do_open(GuardedHttpConnection, req)

        def https_open(self, req: Request) -> Any:
            return self.do_open(GuardedHttpsConnection, req, context=ssl.create_default_context())

    opener = OpenerDirector()
    for kind in (ProxyHandler, GuardedHandler, HTTPDefaultErrorHandler, HTTPErrorProcessor):
        opener.add_handler(kind())
    return opener


def fetch_object(address: str) -> SourceFile:
    """Open an object of a store as an input file.

    Args:
        address: "s3://bucket/key", "gs://…" or "az://…".

    Raises:
        SourceError: The object cannot be fetched completely, or changes while it is fetched.
    """
    info = stat_object(address)
    bucket = Bucket(split_bucket_and_key(address)[0])
    name = redact_url(address)
    check_disk_space(name, info.size)
    key = (address, info.etag, info.size)
    return spool_once(key, name, lambda: _fetch_parts(bucket, info))


def stat_object(address: str) -> ObjectInfo:
    """Size and ETag of an object.

    Raises:
        SourceError: The object does not exist, or the store denies access.
    """
    try:
        name, key = split_bucket_and_key(address)
        bucket = Bucket(name)
        info = bucket.head(key)
    except (OptionError, StoreError) as error:
        raise SourceError(str(error)) from error
    if info is None:
        if not bucket.exists():
            raise SourceNotFoundError(f"{name}: there is no such bucket")
        raise SourceNotFoundError(f"{redact_url(address)}: there is no such object")
    return info


def _fetch_parts(bucket: Bucket, info: ObjectInfo) -> Generator[bytes]:
    """Fetch the bytes of an object in order, several parts at a time."""
    starts = range(0, info.size, PART_BYTES)
    with ThreadPoolExecutor(MAX_CONCURRENT_REQUESTS, thread_name_prefix="fasttile-fetch") as pool:
        pending = deque(
            pool.submit(_fetch_part, bucket, info, start)
            for start in starts[:MAX_CONCURRENT_REQUESTS]
        )
        try:
            for start in [*starts[MAX_CONCURRENT_REQUESTS:], *[None] * len(pending)]:
                yield pending.popleft().result()
                if start is not None:
                    pending.append(pool.submit(_fetch_part, bucket, info, start))
        except StoreError as error:
            raise SourceError(str(error)) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _fetch_part(bucket: Bucket, info: ObjectInfo, start: int) -> bytes:
    stop = min(info.size, start + PART_BYTES)
    data = bucket.read_range(info, start, stop)
    if len(data) != stop - start:
        raise StoreError(f"{bucket.name_of(info.key)}: {len(data)} of {stop - start} bytes arrived")
    return data
