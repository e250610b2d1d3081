"""Images behind URLs: fetched into an unlinked file by urllib, with an end to all waiting."""

from __future__ import annotations

import socket
import ssl
import threading
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
from types import TracebackType
from typing import Any, Self
from urllib.error import HTTPError, URLError
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit
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
from fasttile.errors import OptionError, SourceError
from fasttile.sources.files import check_disk_space, redact_url, scheme_of, spool_once
from fasttile.storage.object_store import Bucket, ObjectInfo, StoreError, split_bucket_and_key
from fasttile.storage.random_access import DiskFile, SourceFile

SOCKET_SECONDS = 30.0
"""How long to wait for a connection, and for anything to come over it."""

STALL_SECONDS, STALL_BYTES = 60.0, 1_000
"""A connection over which less than so many bytes of the image come in that time is cut."""

MAX_REDIRECTS = 10

_CHUNK_BYTES = 2**16
_CHECKS_PER_STALL = 20  # looks at a connection in the time that it may stall
_REDIRECT_STATUSES = (301, 302, 303, 307, 308)
_PATH_SAFE_CHARS = "/%:@!$&'()*+,;=~-._"  # what else than letters and digits a URL's path may hold
_QUERY_SAFE_CHARS = f"{_PATH_SAFE_CHARS}?"
_DEFAULT_PORTS = {"http": 80, "https": 443}


def open_url(url: str) -> SourceFile:
    """A file that holds what a URL names.

    Args:
        url: http, https or file. A user and a password in it are sent to its own server only;
            the proxies that the environment names are used.

    Raises:
        SourceError: It cannot be had, as a whole; or its scheme is another.
    """
    scheme = scheme_of(url)
    if scheme == "file":
        return DiskFile(_local_path(url))
    if scheme not in _DEFAULT_PORTS:
        raise SourceError(
            f"{redact_url(url)}: {scheme}:// is not a way that fasttile knows: http://, https://, "
            "file://, a path, or an open file object would do"
        )
    return spool_once(url, redact_url(url), lambda: _fetch_chunks(url))


def _local_path(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = SplitResult("file", "?", "", "", "")
    if parts.netloc not in ("", "localhost") or not parts.path:
        raise SourceError(f"{redact_url(url)} is not on this machine: file:///path would be")
    return url2pathname(parts.path)


def _fetch_chunks(url: str) -> Generator[bytes | memoryview]:
    """The body, in pieces."""
    name = redact_url(url)
    with _StallGuard() as watch:
        try:
            with _open_response(url, watch) as answer:
                yield from _read_body(answer, name, watch)
        except (OSError, HTTPException, ValueError) as error:
            raise SourceError(f"{name}: {_explain_error(error, watch)}") from error


def _open_response(url: str, guard: _StallGuard) -> HTTPResponse:
    """The answer with an image in it, wherever the URL leads."""
    name, secret = redact_url(url), None
    opener = _build_opener(guard)
    for _ in range(MAX_REDIRECTS + 1):
        request, secret = _build_request(url, secret)
        try:
            answer: HTTPResponse = opener.open(request, timeout=SOCKET_SECONDS)
            return answer
        except HTTPError as error:
            error.close()
            target = error.headers.get("Location")
            if error.code not in _REDIRECT_STATUSES or not target:
                raise
            there = urljoin(url, target)
            _check_redirect(url, there, name)
            if _origin(there) != _origin(url):
                secret = None
            url = there
    raise SourceError(
        f"{name} redirects more than {MAX_REDIRECTS} times, at last to {redact_url(url)}"
    )


def _check_redirect(url: str, target: str, name: str) -> None:
    scheme = scheme_of(target)
    if scheme not in _DEFAULT_PORTS:
        raise SourceError(
            f"{name} redirects to {redact_url(target)}, which is neither http nor https"
        )
    if scheme == "http" and scheme_of(url) == "https":
        raise SourceError(
            f"{name} redirects to {redact_url(target)}, which anybody on the way may read and change: "
            "if that does no harm, name that URL itself"
        )


def _build_request(url: str, secret: str | None) -> tuple[Request, str | None]:
    """The request for a URL, and the secret of its user, which may be known from before."""
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").encode("idna").decode(), parts.port
    except ValueError:
        host, port = "", None
    if not host:
        raise SourceError(f"{redact_url(url)} is not a URL that names a host (and a port, if any)")
    if parts.username is not None:
        words = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        secret = b64encode(words.encode()).decode()
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
    packed = response.headers.get("Content-Encoding", "identity")
    if packed != "identity":
        raise SourceError(f"{name}: the server packs it ({packed}), though it was not asked to")
    expected = response.length
    if expected is not None:
        check_disk_space(name, expected)
    # Not a byte more than expected: some servers leave the connection open behind the last one.
    while piece := response.read1(
        _CHUNK_BYTES if expected is None else min(_CHUNK_BYTES, expected)
    ):
        guard.received_bytes += len(piece)
        yield piece
        if expected is not None:
            expected -= len(piece)
    if expected or guard.has_stalled:
        raise IncompleteRead(b"", expected)


def _explain_error(error: Exception, guard: _StallGuard) -> str:
    """Why nothing came, in words that repeat nothing of the URL."""
    cause = error.reason if isinstance(error, URLError) else error
    if guard.has_stalled:
        return (
            f"less than {STALL_BYTES:,} bytes came in {STALL_SECONDS:g} s, {guard.received_bytes:,} "
            "altogether: try again later"
        )
    if isinstance(error, HTTPError):
        return f"the server answers {error.code} {error.msg}"
    if isinstance(cause, ssl.SSLCertVerificationError):
        return (
            f"its certificate is not to be trusted: {cause.verify_message}; the variable "
            "SSL_CERT_FILE may name a file of further authorities"
        )
    if isinstance(cause, socket.gaierror):
        return f"its host is not found: {cause.strerror}"
    if isinstance(cause, TimeoutError):
        return f"nothing came for {SOCKET_SECONDS:g} s"
    if isinstance(cause, IncompleteRead):
        return f"it broke off after {guard.received_bytes:,} bytes, before its end"
    if isinstance(cause, RemoteDisconnected):
        return "the server closes the connection without an answer"
    if isinstance(cause, OSError) and cause.strerror:
        return f"it cannot be fetched: {cause.strerror}"
    return f"the server does not answer as a web server does ({type(cause).__name__})"


class _StallGuard:
    """Cuts a connection that brings next to nothing, whatever it is read for.

    The time that a socket waits begins anew with each byte, also within the headers.

    Attributes:
        taken: The bytes that came.
        connection: Where they come from.
        stalled: Whether it was cut.
    """

    def __init__(self) -> None:
        self.received_bytes = 0
        self.connection: socket.socket | None = None
        self.has_stalled = False
        self._stop_event = threading.Event()
        self._thread = threading.Thread(target=self._monitor, name="fasttile-watch", daemon=True)

    def _monitor(self) -> None:
        seen = quiet = 0
        # A process that was stopped for long finds one look missed, not the whole time gone.
        while not self._stop_event.wait(STALL_SECONDS / _CHECKS_PER_STALL):
            if self.connection is None or self.received_bytes - seen >= STALL_BYTES:
                seen, quiet = self.received_bytes, 0
                continue
            quiet += 1
            if quiet >= _CHECKS_PER_STALL:
                self.has_stalled = True
                with suppress(OSError):
                    # Not SSLSocket's own, which would take the session from under the reader.
                    socket.socket.shutdown(self.connection, socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop_event.set()
        self._thread.join()
        self.connection = None


def _build_opener(guard: _StallGuard) -> OpenerDirector:
    """What follows no redirects and knows no schemes but two; nobody else's opener is changed."""

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


# Images in object stores: fetched into an unlinked file, in pieces side by side.

PART_BYTES = 2**23
MAX_CONCURRENT_REQUESTS = 4


def fetch_object(address: str) -> SourceFile:
    """A file that holds an object.

    Args:
        address: "s3://bucket/key", "gs://…" or "az://…".

    Raises:
        SourceError: It cannot be had, as a whole, or changes while it is fetched.
    """
    found = stat_object(address)
    bucket = Bucket(split_bucket_and_key(address)[0])
    check_disk_space(address, found.size)
    name = (address, found.etag, found.size)
    return spool_once(name, address, lambda: _fetch_parts(bucket, found))


def stat_object(address: str) -> ObjectInfo:
    """What the store says of an object.

    Raises:
        SourceError: It is not there, or the store does not say.
    """
    try:
        bucket, key = split_bucket_and_key(address)
        found = Bucket(bucket).head(key)
    except (OptionError, StoreError) as error:
        raise SourceError(str(error)) from error
    if found is None:
        raise SourceError(f"{address}: there is no such object")
    return found


def _fetch_parts(bucket: Bucket, info: ObjectInfo) -> Generator[bytes]:
    """Its bytes, in order; some pieces are on their way while one is written."""
    starts = range(0, info.size, PART_BYTES)
    with ThreadPoolExecutor(MAX_CONCURRENT_REQUESTS, thread_name_prefix="fasttile-fetch") as pool:
        under_way = deque(
            pool.submit(_fetch_part, bucket, info, start)
            for start in starts[:MAX_CONCURRENT_REQUESTS]
        )
        try:
            for start in [*starts[MAX_CONCURRENT_REQUESTS:], *[None] * len(under_way)]:
                yield under_way.popleft().result()
                if start is not None:
                    under_way.append(pool.submit(_fetch_part, bucket, info, start))
        except StoreError as error:
            raise SourceError(str(error)) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _fetch_part(bucket: Bucket, info: ObjectInfo, start: int) -> bytes:
    stop = min(info.size, start + PART_BYTES)
    data = bucket.read_range(info, start, stop)
    if len(data) != stop - start:
        raise StoreError(f"{bucket.address}/{info.key}: {len(data)} bytes came of {stop - start}")
    return data
