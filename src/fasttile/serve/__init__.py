"""Web server of `fasttile view`, which serves results and images, by default to this machine only.

Requests name images and tiles by whole numbers; no path of a file ever comes out of a URL. Those
that name another host than this machine are refused, so that no page of the web gets at the image
by a name that leads here (DNS rebinding). All addresses begin with a random token, so that others
who can reach the port, users of the machine or of the network, cannot read the image.
"""

from __future__ import annotations

import errno
import hashlib
import hmac
import ipaddress
import os
import re
import secrets
import socket
import socketserver
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple

from fasttile.errors import FasttileError, OptionError, printable
from fasttile.serve.content import HTML_TYPE, ViewerContent
from fasttile.serve.gallery import open_paths
from fasttile.storage.budget import BUDGET
from fasttile.viewers import content_security_policy, render_error

if TYPE_CHECKING:
    from typing import Unpack

    from fasttile.options.cut import CutKeywords

LOOPBACK_ADDRESS = "127.0.0.1"

_NUMBER = "([0-9]{1,15})"
_TILE_PATH = re.compile(f"/tile/{_NUMBER}/{_NUMBER}/{_NUMBER}")
_ITEM_TILE_PATH = re.compile(f"/item/{_NUMBER}/{_NUMBER}/{_NUMBER}/{_NUMBER}")
_THUMBNAIL_PATH = re.compile(rf"/thumbnails/{_NUMBER}/{_NUMBER}_{_NUMBER}\.[A-Za-z0-9]{{1,8}}")

_PREVIEW_PATH = re.compile(f"/preview/{_NUMBER}")
_ITEM_PAGE_PATH = re.compile(f"/show/{_NUMBER}/")

_HOST_HEADER = re.compile(r"(\[[0-9a-f:.]+\]|[^:\[\]]+)(?::([0-9]{1,5}))?")
_KEPT_OPEN = frozenset(
    {HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.INTERNAL_SERVER_ERROR}
)
"""Errors of requests that are understood: others may follow on their connection."""

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

NETWORK_WARNING = (
    "warning: everyone on the network who learns this address can see these images, and the "
    "connection is not encrypted; give the address only to those who may"
)

TEXT_TYPE = "text/plain; charset=utf-8"

_ADVICE: dict[int, str] = {
    HTTPStatus.FORBIDDEN: "This address is not complete: open the one that fasttile view printed.",
    HTTPStatus.NOT_FOUND: "There is nothing at this address.",
    HTTPStatus.MISDIRECTED_REQUEST: "This server has another name.",
}

REQUEST_TIMEOUT = 60
"""Seconds that a client may take to send a request, or to receive a response."""

LineCallback = Callable[[str], None]


class Response(NamedTuple):
    """A response: bytes and their media type."""

    data: bytes
    media_type: str
    status: HTTPStatus = HTTPStatus.OK


def view(
    path: object,
    *more: str | os.PathLike[str],
    port: int | None = None,
    host: str = LOOPBACK_ADDRESS,
    browser: bool = True,
    report: LineCallback = print,
    **keywords: Unpack[CutKeywords],
) -> None:
    """Serve a result, an image, or a folder of them until Ctrl-C.

    Args:
        path: A result or an image that `open_pyramid` opens, an image of `from_function` too; a
            Deep Zoom collection (.dzc); or a folder: a page shows thumbnails of all images and
            results below it, each a click from its viewer.
        more: Further paths; then the page shows thumbnails of all.
        port: The port to listen on. Default: any free port.
        host: An address or a name of this machine to listen on; "0.0.0.0" for all of its IPv4
            addresses. Others can then reach the page; who has its address sees the images.
            Default: this machine only.
        browser: True to open the page in the browser.
        report: Called with each line: the address, conversions of the pixels of an image, and tiles
            that cannot be read.
        **keywords: Options of an image, as for `open_pyramid`.

    Raises:
        SourceError: There is no result and no image.
        OptionError: The host or the port is not available, or an option cannot be used.
    """
    with (
        open_paths(path, *more, **keywords) as show,
        ViewerServer(show, port or 0, report, host=host) as server,
    ):
        report(printable(f"{server.url} shows {show.title}; Ctrl-C ends it"))
        if not server.is_local:
            report(f"  {NETWORK_WARNING}")
        for note in show.notes:
            report(printable(f"  {note}"))
        if browser:
            import webbrowser

            address = server.open_once_url()
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return


class ViewerServer(ThreadingHTTPServer):
    """A web server for one page and its tiles.

    Args:
        viewer_content: The content; to be closed after the server.
        port: The port to listen on; 0 for any free one.
        report: Called with a line for each kind of unreadable tile.
        host: An address or a name of this machine. Default: the loopback address.

    Attributes:
        token: The first part of all paths.
        is_local: True if only this machine can reach the server.

    Raises:
        OptionError: The host or the port is not available.
    """

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = os.name != "nt"  # there it could share the port of another program
    request_queue_size = 64

    def __init__(
        self,
        viewer_content: ViewerContent,
        port: int = 0,
        report: LineCallback = print,
        *,
        host: str = LOOPBACK_ADDRESS,
    ) -> None:
        if not 0 <= port <= 65535:
            raise OptionError(f"port {port} is not between 0 and 65535")
        self.viewer_content = viewer_content
        self.report = report
        self.page = Response(viewer_content.page, HTML_TYPE)
        self.policy = content_security_policy(viewer_content.page)
        self.token = secrets.token_urlsafe(16)
        self.transfers = Transfers()
        self._open_once_key: str | None = None
        self._connections = 0
        self._reported: set[str] = set()
        self._active_reads = 0
        self._idle = threading.Condition()
        self._is_closing = False
        self.address_family, address = _resolve_host(host)
        self.is_local = address.is_loopback
        try:
            super().__init__((str(address), port), RequestHandler)
        except OSError as error:
            raise _listen_error(error, host, port) from error
        self._url_host = _url_host(host, address)
        self._names = {LOOPBACK_ADDRESS, "localhost", "[::1]", self._url_host.lower()}
        if not self.is_local:
            name = socket.gethostname().lower()
            self._names |= {name, name.partition(".")[0], f"{name.partition('.')[0]}.local"}

    def is_allowed_host(self, header: str) -> bool:
        """True if the header Host of a request names this machine, and this port.

        Another name may lead here by the DNS of who made a page of the web; a number never does.
        """
        found = _HOST_HEADER.fullmatch(header.strip().lower())
        if found is None or (found[2] or "80") != str(self.server_port):
            return False
        return found[1] in self._names or (not self.is_local and _is_address(found[1]))

    def server_bind(self) -> None:
        """Bind without the base class's look-up of this machine's name in the network."""
        socketserver.TCPServer.server_bind(self)
        self.server_name = str(self.server_address[0])
        self.server_port = int(self.server_address[1])

    def server_close(self) -> None:
        """Stop listening, and wait for the tiles that are being read."""
        super().server_close()
        with self._idle:
            self._is_closing = True
            self._idle.wait_for(lambda: self._active_reads == 0)

    @property
    def url(self) -> str:
        """The address of the page."""
        return f"http://{self._url_host}:{self.server_port}/{self.token}/"

    def open_once_url(self) -> str:
        """An address that leads to the page once, for a browser's command line.

        Other users see the arguments of a process, but not what a terminal shows.
        """
        self._open_once_key = secrets.token_urlsafe(16)
        return f"http://{self._url_host}:{self.server_port}/{self._open_once_key}"

    def use_open_once_key(self, path: str) -> bool:
        """True for the first request of the address that leads to the page once."""
        with self._idle:
            key = self._open_once_key
            if key is None or not _is_equal(path, f"/{key}"):
                return False
            self._open_once_key = None
            return True

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer a connection in a thread of its own, unless there are too many."""
        with self._idle:
            is_free = self._connections < BUDGET.connections
            self._connections += is_free
        if not is_free:
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread can be started
            self._release_connection()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer the requests of a connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._release_connection()

    def _release_connection(self) -> None:
        with self._idle:
            self._connections -= 1

    def response_for(self, path: str) -> Response | None:
        """The response for a path behind the token, or None."""
        if path == "/":
            return self.page
        with self._hold_open() as running:
            if not running:
                return None
            for pattern, get in (
                (_TILE_PATH, self.viewer_content.tile),
                (_ITEM_TILE_PATH, self.viewer_content.item_tile),
                (_THUMBNAIL_PATH, self.viewer_content.thumbnail),
            ):
                if found := pattern.fullmatch(path):
                    with suppress(IndexError):  # there is no such tile
                        tile = get(*(int(number) for number in found.groups()))
                        return Response(*tile) if tile else None
            for pattern, answer in (
                (_PREVIEW_PATH, self.viewer_content.preview),
                (_ITEM_PAGE_PATH, self.viewer_content.item_page),
            ):
                if found := pattern.fullmatch(path):
                    return _answer_or_error(partial(answer, int(found[1])))
        return None

    def handle_error(self, request: object, client_address: object) -> None:
        """Report an error, except for a connection that the browser closed."""
        error = sys.exception()
        if not isinstance(error, ConnectionError | TimeoutError):
            self.report_once(f"unexpected {type(error).__name__}: {error}")

    def report_once(self, line: str) -> None:
        """Report a line once."""
        if line not in self._reported and len(self._reported) < 100:
            self._reported.add(line)
            self.report(printable(line))

    @contextmanager
    def _hold_open(self) -> Iterator[bool]:
        """Hold back the end while something is read; gives False if it has come already."""
        with self._idle:
            running = not self._is_closing
            self._active_reads += running
        try:
            yield running
        finally:
            with self._idle:
                self._active_reads -= running
                self._idle.notify_all()


class Transfers:
    """Bounds the memory of tiles that are read and sent at the same time."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._reads = self._bytes = self._largest = 0

    @contextmanager
    def hold(self, read: Callable[[], Response | None]) -> Iterator[Response | None]:
        """Wait until there is memory, read a response, and count it until the end of the block.

        Each read that is not finished counts as the largest response so far.

        Raises:
            TimeoutError: Other clients have not taken their bytes within a minute.
        """
        with self._changed:
            if not self._changed.wait_for(self._has_memory, REQUEST_TIMEOUT):
                raise TimeoutError
            self._reads += 1
        size = 0
        try:
            try:
                response = read()
                size = 0 if response is None else len(response.data)
            finally:
                with self._changed:
                    self._reads -= 1
                    self._bytes += size
                    self._largest = max(self._largest, size)
                    self._changed.notify_all()
            yield response
        finally:
            with self._changed:
                self._bytes -= size
                self._changed.notify_all()

    def _has_memory(self) -> bool:
        expected = self._bytes + (self._reads + 1) * self._largest
        is_alone = self._reads == self._bytes == 0
        return is_alone or (
            self._reads < BUDGET.reads_at_once and expected <= BUDGET.bytes_in_flight
        )


class RequestHandler(BaseHTTPRequestHandler):
    """Answers the requests of one connection."""

    server: ViewerServer
    protocol_version = "HTTP/1.1"
    default_request_version = "HTTP/1.0"  # of requests that name none: 0.9 has no headers
    timeout = REQUEST_TIMEOUT
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Send the page or a tile."""
        self._respond(send_body=True)

    def do_HEAD(self) -> None:
        """Send the headers only."""
        self._respond(send_body=False)

    def version_string(self) -> str:
        """The name in the header Server."""
        return "fasttile"

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing for each request."""

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Send an error: to a browser's window as a page, else as one line of plain text."""
        phrase = HTTPStatus(code).phrase
        text = printable(message or phrase)
        body, media_type = f"{code} {text}\n".encode("ascii", "replace"), TEXT_TYPE
        if self._wants_page():
            body = render_error(f"{code} {phrase}", message or _ADVICE.get(code, phrase))
            media_type = HTML_TYPE
        self.send_response(code)
        self.send_header("Content-Type", media_type)
        if media_type == HTML_TYPE:
            self.send_header("Content-Security-Policy", content_security_policy(body))
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        if code not in _KEPT_OPEN:
            self.send_header("Connection", "close")  # further bytes are not understood
        self._end_with_common_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _wants_page(self) -> bool:
        """True if the browser shows the response in its window; other requests are of tiles."""
        headers = getattr(self, "headers", None)  # none yet where the request is not understood
        return headers is not None and "text/html" in (headers.get("Accept") or "")

    def _respond(self, send_body: bool) -> None:
        refusal = self._refusal_status()
        if refusal is not None:
            self.send_error(refusal)
            return
        prefix = f"/{self.server.token}"
        if self.server.use_open_once_key(self.path):
            self.send_response(HTTPStatus.SEE_OTHER)
            self.send_header("Location", f"{prefix}/")
            self.send_header("Content-Length", "0")
            self.send_header("Cache-Control", "no-store")
            self._end_with_common_headers()
            return
        path = self.path[len(prefix) :]
        if not _is_equal(self.path[: len(prefix)], prefix) or not path.startswith("/"):
            self.send_error(HTTPStatus.FORBIDDEN)
            return
        try:
            with self.server.transfers.hold(lambda: self.server.response_for(path)) as content:
                if content is None:
                    self.send_error(HTTPStatus.NOT_FOUND)
                elif content.status != HTTPStatus.OK and self._wants_page():
                    self.send_error(content.status, content.data.decode().strip())
                else:
                    self._send(content, send_body=send_body)
        except FasttileError as error:
            self.server.report_once(str(error))
            self.send_error(HTTPStatus.INTERNAL_SERVER_ERROR, "this tile cannot be read")

    def _send(self, content: Response, *, send_body: bool) -> None:
        # The next server on this port may show another image: so the browser revalidates each use.
        tag = f'"{hashlib.blake2b(content.data, digest_size=12).hexdigest()}"'
        same = self.headers.get("If-None-Match") == tag
        self.send_response(HTTPStatus.NOT_MODIFIED if same else content.status)
        self.send_header("ETag", tag)
        self.send_header("Cache-Control", "private, no-cache")
        if not same:
            self.send_header("Content-Type", content.media_type)
            self.send_header("Content-Length", str(len(content.data)))
        if content.media_type == HTML_TYPE:
            is_first = content is self.server.page
            policy = self.server.policy if is_first else content_security_policy(content.data)
            self.send_header("Content-Security-Policy", policy)
        self._end_with_common_headers()
        if send_body and not same:
            self.wfile.write(content.data)

    def _refusal_status(self) -> HTTPStatus | None:
        """Reason to refuse any request, or None."""
        hosts = self.headers.get_all("Host") or []
        if len(hosts) != 1 or not self.path.startswith("/"):
            return HTTPStatus.BAD_REQUEST
        if not self.server.is_allowed_host(hosts[0]):
            return HTTPStatus.MISDIRECTED_REQUEST
        # A body, or a header that others read otherwise, may hide a second request.
        lengths = self.headers.get_all("Content-Length") or ["0"]
        if "Transfer-Encoding" in self.headers or lengths != ["0"] or self.headers.defects:
            return HTTPStatus.BAD_REQUEST
        if not all(_HEADER_NAME.fullmatch(name) for name in self.headers):
            return HTTPStatus.BAD_REQUEST
        return None

    def _end_with_common_headers(self) -> None:
        for name, value in (
            ("X-Content-Type-Options", "nosniff"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
            ("Referrer-Policy", "no-referrer"),
        ):
            self.send_header(name, value)
        self.end_headers()


def _answer_or_error(get: Callable[[], tuple[bytes, str] | None]) -> Response | None:
    """A response about one image of a page, or the line that says why it cannot be shown."""
    try:
        answer = get()
    except FasttileError as error:
        line = f"{printable(error)}\n".encode("utf-8", "replace")
        return Response(line, TEXT_TYPE, HTTPStatus.UNPROCESSABLE_ENTITY)
    return Response(*answer) if answer else None


def _is_equal(given: str, secret: str) -> bool:
    """Compare in a time that does not depend on the first difference."""
    return hmac.compare_digest(given.encode(errors="replace"), secret.encode())


IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


def _resolve_host(host: str) -> tuple[socket.AddressFamily, IpAddress]:
    """Family and address of a host to listen on.

    Raises:
        OptionError: The name has no address.
    """
    try:
        found = socket.getaddrinfo(host or " ", None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise OptionError(
            f"host {host!r} has no address; use one of this machine, or 0.0.0.0 for all of them"
        ) from error
    family, _, _, _, place = found[0]
    return family, ipaddress.ip_address(str(place[0]).partition("%")[0])


def _listen_error(error: OSError, host: str, port: int) -> OptionError:
    """The error of a host and a port that the system refuses."""
    if error.errno == errno.EADDRINUSE:
        why = "is taken"
    elif error.errno == errno.EADDRNOTAVAIL:
        return OptionError(
            f"host {host!r} is no address of this machine; use one of its own, or 0.0.0.0 for all"
        )
    else:
        why = f"is not available ({error.strerror})"
    return OptionError(f"port {port} {why}: choose another, or none at all for one that is free")


def _url_host(host: str, address: IpAddress) -> str:
    """The host of the page's address, for the browser."""
    if address.is_unspecified:  # all addresses: the one that others in the network see
        address = _network_address(address.version)
    elif not _is_address(f"[{host}]" if ":" in host else host):
        return host  # a name
    return f"[{address}]" if address.version == 6 else str(address)


def _network_address(version: int) -> IpAddress:
    """The address of this machine in its network, or the loopback's. No packet is sent."""
    family = socket.AF_INET6 if version == 6 else socket.AF_INET
    documentation = "2001:db8::1" if version == 6 else "192.0.2.1"
    with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((documentation, 9))
        return ipaddress.ip_address(probe.getsockname()[0])
    return ipaddress.ip_address("::1" if version == 6 else LOOPBACK_ADDRESS)


def _is_address(name: str) -> bool:
    """True for the address of a host as URLs have it: of IPv6 in brackets."""
    text = name[1:-1] if name.startswith("[") and name.endswith("]") else name
    try:
        return ipaddress.ip_address(text).version == (6 if text != name else 4)
    except ValueError:
        return False
