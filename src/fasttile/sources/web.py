"""Pictures behind URLs: fetched into an unlinked file by urllib, with an end to all waiting."""

from __future__ import annotations

import socket
import ssl
import threading
from base64 import b64encode
from collections.abc import Generator
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

from .. import __version__
from ..errors import SourceError
from .mapping import PictureFile
from .spool import check_room, spooled
from .ways import scheme_of, shown

SOCKET_SECONDS = 30.0
"""How long to wait for a connection, and for anything to come over it."""

STALL_SECONDS, STALL_BYTES = 60.0, 1_000
"""A connection over which less than so many bytes of the picture come in that time is cut."""

REDIRECTS = 10

_PIECE = 2**16
_TICKS = 20  # looks at a connection in the time that it may stall
_REDIRECTING = (301, 302, 303, 307, 308)
_IN_PATHS = "/%:@!$&'()*+,;=~-._"  # what else than letters and digits a URL's path may hold
_IN_QUERIES = f"{_IN_PATHS}?"
_PORTS = {"http": 80, "https": 443}


def url_file(url: str) -> PictureFile:
    """A file that holds what a URL names.

    Args:
        url: http, https or file. A user and a password in it are sent to its own server only;
            the proxies that the environment names are used.

    Raises:
        SourceError: It cannot be had, as a whole; or its scheme is another.
    """
    scheme = scheme_of(url)
    if scheme == "file":
        return PictureFile(_local_path(url))
    if scheme not in _PORTS:
        raise SourceError(
            f"{shown(url)}: {scheme}:// is not a way that fasttile knows: http://, https://, "
            "file://, a path, or an open file object would do"
        )
    return spooled(url, shown(url), lambda: _pieces(url))


def _local_path(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = SplitResult("file", "?", "", "", "")
    if parts.netloc not in ("", "localhost") or not parts.path:
        raise SourceError(f"{shown(url)} is not on this machine: file:///path would be")
    return url2pathname(parts.path)


def _pieces(url: str) -> Generator[bytes | memoryview]:
    """The body, in pieces."""
    name = shown(url)
    with _Watch() as watch:
        try:
            with _answer(url, watch) as answer:
                yield from _body(answer, name, watch)
        except (OSError, HTTPException, ValueError) as error:
            raise SourceError(f"{name}: {_reason(error, watch)}") from error


def _answer(url: str, watch: _Watch) -> HTTPResponse:
    """The answer with a picture in it, wherever the URL leads."""
    name, secret = shown(url), None
    opener = _opener(watch)
    for _ in range(REDIRECTS + 1):
        request, secret = _request(url, secret)
        try:
            answer: HTTPResponse = opener.open(request, timeout=SOCKET_SECONDS)
            return answer
        except HTTPError as error:
            error.close()
            target = error.headers.get("Location")
            if error.code not in _REDIRECTING or not target:
                raise
            there = urljoin(url, target)
            _check_redirect(url, there, name)
            if _server(there) != _server(url):
                secret = None
            url = there
    raise SourceError(f"{name} redirects more than {REDIRECTS} times, at last to {shown(url)}")


def _check_redirect(url: str, there: str, name: str) -> None:
    scheme = scheme_of(there)
    if scheme not in _PORTS:
        raise SourceError(f"{name} redirects to {shown(there)}, which is neither http nor https")
    if scheme == "http" and scheme_of(url) == "https":
        raise SourceError(
            f"{name} redirects to {shown(there)}, which anybody on the way may read and change: "
            "if that does no harm, name that URL itself"
        )


def _request(url: str, secret: str | None) -> tuple[Request, str | None]:
    """The request for a URL, and the secret of its user, which may be known from before."""
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").encode("idna").decode(), parts.port
    except ValueError:
        host, port = "", None
    if not host:
        raise SourceError(f"{shown(url)} is not a URL that names a host (and a port, if any)")
    if parts.username is not None:
        words = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        secret = b64encode(words.encode()).decode()
    host = f"[{host}]" if ":" in host else host
    where = host if port is None else f"{host}:{port}"
    path = quote(parts.path or "/", _IN_PATHS)
    query = f"?{quote(parts.query, _IN_QUERIES)}" if parts.query else ""
    headers = {"User-Agent": f"fasttile/{__version__}"}
    request = Request(f"{parts.scheme}://{where}{path}{query}", headers=headers)
    if secret is not None:
        request.add_unredirected_header("Authorization", f"Basic {secret}")
    return request, secret


def _server(url: str) -> tuple[str, str | None, int | None]:
    try:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return "", None, None


def _body(answer: HTTPResponse, name: str, watch: _Watch) -> Generator[bytes]:
    packed = answer.headers.get("Content-Encoding", "identity")
    if packed != "identity":
        raise SourceError(f"{name}: the server packs it ({packed}), though it was not asked to")
    expected = answer.length
    if expected is not None:
        check_room(name, expected)
    # Not a byte more than expected: some servers leave the connection open behind the last one.
    while piece := answer.read1(_PIECE if expected is None else min(_PIECE, expected)):
        watch.taken += len(piece)
        yield piece
        if expected is not None:
            expected -= len(piece)
    if expected or watch.stalled:
        raise IncompleteRead(b"", expected)


def _reason(error: Exception, watch: _Watch) -> str:
    """Why nothing came, in words that repeat nothing of the URL."""
    cause = error.reason if isinstance(error, URLError) else error
    if watch.stalled:
        return (
            f"less than {STALL_BYTES:,} bytes came in {STALL_SECONDS:g} s, {watch.taken:,} "
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
        return f"it broke off after {watch.taken:,} bytes, before its end"
    if isinstance(cause, RemoteDisconnected):
        return "the server closes the connection without an answer"
    if isinstance(cause, OSError) and cause.strerror:
        return f"it cannot be fetched: {cause.strerror}"
    return f"the server does not answer as a web server does ({type(cause).__name__})"


class _Watch:
    """Cuts a connection that brings next to nothing, whatever it is read for.

    The time that a socket waits begins anew with each byte, also within the headers.

    Attributes:
        taken: The bytes that came.
        connection: Where they come from.
        stalled: Whether it was cut.
    """

    def __init__(self) -> None:
        self.taken = 0
        self.connection: socket.socket | None = None
        self.stalled = False
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, name="fasttile-watch", daemon=True)

    def _look(self) -> None:
        seen = quiet = 0
        # A process that was stopped for long finds one look missed, not the whole time gone.
        while not self._done.wait(STALL_SECONDS / _TICKS):
            if self.connection is None or self.taken - seen >= STALL_BYTES:
                seen, quiet = self.taken, 0
                continue
            quiet += 1
            if quiet >= _TICKS:
                self.stalled = True
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
        self._done.set()
        self._thread.join()
        self.connection = None


def _opener(watch: _Watch) -> OpenerDirector:
    """What follows no redirects and knows no schemes but two; nobody else's opener is changed."""

    class Plain(HTTPConnection):
        def connect(self) -> None:
            super().connect()
            watch.connection = self.sock

    class Secure(HTTPSConnection):
        def connect(self) -> None:
            super().connect()
            watch.connection = self.sock

    class Watched(HTTPHandler):
        https_request = HTTPHandler.http_request

        def http_open(self, req: Request) -> Any:
            return self.do_open(Plain, req)

        def https_open(self, req: Request) -> Any:
            return self.do_open(Secure, req, context=ssl.create_default_context())

    opener = OpenerDirector()
    for kind in (ProxyHandler, Watched, HTTPDefaultErrorHandler, HTTPErrorProcessor):
        opener.add_handler(kind())
    return opener
