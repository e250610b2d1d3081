"""A proxy before a server of S3 that can answer wrongly, slowly, or not to the end."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import NamedTuple, Self

ERROR_BODY = b'<?xml version="1.0"?><Error><Code>%s</Code><Message>on purpose</Message></Error>'


class ProxyRequest(NamedTuple):
    """A request that came."""

    method: str
    path: str


@dataclass
class ProxyFault:
    """What goes wrong with a request.

    Attributes:
        status: Answered instead of what the server says.
        seconds: How long the answer takes.
        cut: Whether the connection breaks in the middle of the answer, or before it.
        rate: Bytes of the answer that are sent in a second. Default: all at once.
        max_bytes: Bytes of the answer after which the connection stays silent. Default: all.
    """

    status: int = 0
    seconds: float = 0.0
    truncated: bool = False
    rate: int = 0
    max_bytes: int | None = None


FaultChooser = Callable[[ProxyRequest, int], ProxyFault | None]
"""Chooses for a request, the so manyth."""


@dataclass
class FaultyProxy:
    """Passes on what it is asked, or not.

    Attributes:
        server: The real server's port.
        chooser: Chooses what goes wrong.
        asked: What it was asked so far.
        most: How many requests that write were under way at a time.
    """

    server_port: int
    choose_fault: FaultChooser = lambda asked, number: None
    requests: list[ProxyRequest] = field(default_factory=list)
    max_concurrent_writes: int = 0
    closing: threading.Event = field(default_factory=threading.Event)
    _writing: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Self:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_PUT(self) -> None:
                with proxy._lock:
                    proxy._writing += 1
                    proxy.max_concurrent_writes = max(proxy.max_concurrent_writes, proxy._writing)
                try:
                    self.do_GET()
                finally:
                    with proxy._lock:
                        proxy._writing -= 1

            def do_GET(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length)
                asked = ProxyRequest(self.command, self.path)
                with proxy._lock:
                    proxy.requests.append(asked)
                    number = len(proxy.requests)
                fault = proxy.choose_fault(asked, number) or ProxyFault()
                time.sleep(fault.seconds)
                if fault.status:
                    self._answer(fault.status, ERROR_BODY % b"Planned", {})
                    return
                if fault.truncated and asked.method != "GET":
                    self.close_connection = True
                    return
                connection = http.client.HTTPConnection("127.0.0.1", proxy.server_port)
                connection.request(self.command, self.path, body, dict(self.headers))
                answer = connection.getresponse()
                data = answer.read()
                headers = {
                    name: value
                    for name, value in answer.getheaders()
                    if name.lower() not in ("connection", "transfer-encoding", "date", "server")
                }
                connection.close()
                if fault.truncated:
                    headers["Content-Length"] = str(len(data))
                    self._answer(answer.status, data[: len(data) // 2], headers)
                    self.close_connection = True
                    return
                self._answer(answer.status, data, headers, fault)

            do_HEAD = do_POST = do_DELETE = do_GET  # noqa: N815

            def _answer(
                self,
                status: int,
                data: bytes,
                headers: dict[str, str],
                fault: ProxyFault | None = None,
            ) -> None:
                if "content-length" not in {name.lower() for name in headers}:
                    headers["Content-Length"] = str(len(data))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self._send(data, fault or ProxyFault())

            def _send(self, data: bytes, fault: ProxyFault) -> None:
                if not fault.rate and fault.max_bytes is None:
                    self.wfile.write(data)
                    return
                step = max(1, fault.rate // 20) if fault.rate else len(data)
                with suppress(OSError):  # the client has closed the connection
                    for start in range(0, len(data), step):
                        if fault.max_bytes is not None and start >= fault.max_bytes:
                            proxy.closing.wait()
                            return
                        self.wfile.write(data[start : start + step])
                        self.wfile.flush()
                        time.sleep(0.05 if fault.rate else 0)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
