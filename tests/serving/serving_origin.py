"""An origin that can fail, and remembers what it was asked."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FailingOrigin(ThreadingHTTPServer):
    """Answers everything with the same text, or with an error.

    Attributes:
        text: What it says.
        status: 200, or the code of the error.
        header_names: The names of all headers that came.
        asked: The addresses, and the tags that were had of them already, in order.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _OriginHandler)
        self.reset()

    def reset(self) -> None:
        """Forget all requests."""
        self.text = b"first"
        self.status = 200
        self.header_names: set[str] = set()
        self.requests: list[tuple[str, str | None]] = []

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.server_port


class _OriginHandler(BaseHTTPRequestHandler):
    server: FailingOrigin
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer; a tag that the text still has is 304."""
        tag = self.headers.get("If-None-Match")
        self.server.requests.append((self.path, tag))
        self.server.header_names.update(name.lower() for name in self.headers)
        own = f'"{self.server.text.decode()}"'
        status = 304 if self.server.status == 200 and tag == own else self.server.status
        body = self.server.text if status == 200 else b""
        self.send_response(status)
        self.send_header("ETag", own)
        self.send_header("Cache-Control", "no-cache")
        self.send_header("Set-Cookie", "a=b")
        self.send_header("Vary", "Origin")
        if status != 304:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


@contextmanager
def run_origin() -> Iterator[FailingOrigin]:
    """Such an origin, on a thread of its own."""
    with FailingOrigin() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
