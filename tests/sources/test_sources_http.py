"""Images behind URLs, from real servers: what goes well, and every way in which it does not."""

from __future__ import annotations

import gc
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from fasttile.errors import SourceError, SourceNotFoundError
from fasttile.sources import files as spool
from fasttile.sources import keep_fetched, open_source
from fasttile.sources import remote as web
from support.encoded_images import encode_image
from support.reading import noise, read_checked, read_pixels

ENCODED_IMAGE = encode_image("npy")
SECRET = "s3cr3t"


class FaultyHandler(BaseHTTPRequestHandler):
    """Does what the path says."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.requests.append((self.path, dict(self.headers)))  # type: ignore[attr-defined]
        name = self.path.partition("?")[0].strip("/").replace("-", "_").partition("/")[0]
        with suppress(ConnectionError, ssl.SSLError):
            getattr(self, name)()

    def log_message(self, *words: Any) -> None:
        pass

    def answer(self, code: int = 200, length: int | None = None, **headers: str) -> None:
        self.send_response(code)
        if length is not None:
            self.send_header("Content-Length", str(length))
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()

    def ok(self) -> None:
        self.answer(length=len(ENCODED_IMAGE))
        self.wfile.write(ENCODED_IMAGE)  # and the connection stays open in all cases

    def jpg(self) -> None:
        data = encode_image("jpg")
        self.answer(length=len(data))
        self.wfile.write(data)

    def until_close(self) -> None:
        self.answer(Connection="close")
        self.wfile.write(ENCODED_IMAGE)

    def chunked(self) -> None:
        self.answer(Transfer_Encoding="chunked")
        for start in range(0, len(ENCODED_IMAGE), 1000):
            piece = ENCODED_IMAGE[start : start + 1000]
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    def chunked_short(self) -> None:
        self.answer(Transfer_Encoding="chunked", Connection="close")
        self.wfile.write(b"%x\r\n%b" % (1000, ENCODED_IMAGE[:900]))
        self.close_connection = True

    def missing(self) -> None:
        self.answer(404, 0)

    def broken(self) -> None:
        self.answer(500, 0)

    def empty(self) -> None:
        self.answer(200, 0)

    def short(self) -> None:
        self.answer(length=len(ENCODED_IMAGE), Connection="close")
        self.wfile.write(ENCODED_IMAGE[:-100])
        self.close_connection = True

    def oversized(self) -> None:
        self.answer(length=10**18)
        self.wfile.write(ENCODED_IMAGE)

    def packed(self) -> None:
        self.answer(length=4, Content_Encoding="gzip")
        self.wfile.write(b"\x1f\x8b..")

    def silent(self) -> None:
        time.sleep(0.6)

    def gone(self) -> None:
        self.close_connection = True

    def gibberish(self) -> None:
        self.wfile.write(b"220 mail.example ready\r\n\r\n")
        self.close_connection = True

    def slow_start(self) -> None:
        time.sleep(0.3)
        self.ok()

    def slow(self) -> None:
        self.answer(length=len(ENCODED_IMAGE))
        step = len(ENCODED_IMAGE) // 12 + 1
        for start in range(0, len(ENCODED_IMAGE), step):
            self.wfile.write(ENCODED_IMAGE[start : start + step])
            time.sleep(0.1)

    def trickle(self) -> None:
        self.answer(length=len(ENCODED_IMAGE))
        for start in range(100):
            self.wfile.write(ENCODED_IMAGE[start : start + 1])
            time.sleep(0.05)

    def trickle_headers(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
        for _ in range(100):
            self.wfile.write(b"x")
            time.sleep(0.05)

    def trickle_chunks(self) -> None:
        self.answer(Transfer_Encoding="chunked")
        for _ in range(100):
            self.wfile.write(b"0")
            time.sleep(0.05)

    def loop(self) -> None:
        self.answer(302, 0, Location=f"/loop?n={len(self.path)}{'x' * len(self.path)}&key={SECRET}")

    def leads(self) -> None:
        self.answer(302, 0, Location=self.path.partition("?")[2])

    def html(self) -> None:
        self.answer(length=6)
        self.wfile.write(b"<html>")

    def stops(self) -> None:
        self.answer(length=len(ENCODED_IMAGE))
        self.wfile.write(ENCODED_IMAGE[:2000])
        time.sleep(0.6)

    def nowhere(self) -> None:
        self.answer(302, 0)

    def to(self) -> None:
        """/to/CODE/URL redirects to the URL."""
        code, _, there = self.path.removeprefix("/to/").partition("/")
        self.answer(int(code), 0, Location=there)


class HttpTestServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), FaultyHandler)
        self.requests: list[tuple[str, dict[str, str]]] = []
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.addresses = f"{'http' if context is None else 'https'}://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, address: Any) -> None:
        pass


@contextmanager
def run_server(server: HttpTestServer) -> Iterator[HttpTestServer]:
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def server() -> Iterator[HttpTestServer]:
    with run_server(HttpTestServer()) as running:
        yield running


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def short_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    """All waiting has an end soon."""
    monkeypatch.setattr(web, "SOCKET_SECONDS", 0.4)
    monkeypatch.setattr(web, "STALL_SECONDS", 0.4)


def refusal_message(url: str) -> str:
    """The one line that is said of a URL, without anything secret in it."""
    with pytest.raises(SourceError) as caught:
        open_source(url)
    said = str(caught.value)
    assert "\n" not in said
    assert SECRET not in said
    return said


# ---- what goes well ------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["ok", "chunked", "until-close", "slow-start"])
def test_an_image_is_fetched(server: HttpTestServer, path: str) -> None:
    url = f"{server.addresses}/{path}"
    assert read_pixels(url).tolist() == noise(40, 50, 3).tolist()
    with open_source(url) as source:
        assert source.is_mapped
        assert source.name == url
    assert read_pixels(f"{server.addresses}/jpg?size=full").shape == (40, 50, 3)


@pytest.mark.slow
def test_it_is_fetched_once_as_long_as_it_is_in_use(server: HttpTestServer) -> None:
    server.requests.clear()
    url = f"{server.addresses}/ok?once"
    with open_source(url) as first:
        assert read_checked(first).tolist() == read_pixels(url).tolist()
    assert len(server.requests) == 1
    del first
    gc.collect()
    assert not spool._open_spools
    read_pixels(url)
    assert len(server.requests) == 2


@pytest.mark.slow
def test_it_can_be_held(server: HttpTestServer, tmp_path: Path) -> None:
    server.requests.clear()
    url = f"{server.addresses}/jpg"
    with keep_fetched(url):
        for _ in range(3):
            read_pixels(url)
            gc.collect()
    assert len(server.requests) == 1
    gc.collect()
    assert not spool._open_spools
    with keep_fetched(tmp_path / "missing"), keep_fetched("missing"), keep_fetched(noise(3, 3)):
        pass


def test_what_the_server_is_asked(server: HttpTestServer) -> None:
    server.requests.clear()
    read_pixels(f"{server.addresses}/ok/Zürich (1).tif?größe=1 2&a=%2F")
    path, headers = server.requests[0]
    assert path == "/ok/Z%C3%BCrich%20(1).tif?gr%C3%B6%C3%9Fe=1%202&a=%2F"
    assert headers["User-Agent"].startswith("fasttile/")
    assert headers["Accept-Encoding"] == "identity"
    assert "Authorization" not in headers


def test_nothing_is_left_behind(
    server: HttpTestServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with open_source(f"{server.addresses}/ok"):
        assert not list(tmp_path.iterdir())
    refusal_message(f"{server.addresses}/short")
    assert not list(tmp_path.iterdir())
    assert not [thread for thread in threading.enumerate() if thread.name == "fasttile-watch"]


def test_redirects_are_followed(server: HttpTestServer) -> None:
    for code in (301, 302, 303, 307, 308):
        assert read_pixels(f"{server.addresses}/to/{code}/{server.addresses}/ok").shape == (
            40,
            50,
            3,
        )
    assert read_pixels(f"{server.addresses}/to/302/../../ok").shape == (40, 50, 3)


def test_a_user_and_password_go_to_their_server_only(server: HttpTestServer) -> None:
    with run_server(HttpTestServer()) as other:
        server.requests.clear()
        url = server.addresses.replace("//", f"//me:{SECRET}%21@")
        with open_source(f"{url}/to/302//to/302/{other.addresses}/ok") as source:
            assert SECRET not in source.name
        sent = [headers.get("Authorization") for _, headers in server.requests]
        assert sent == ["Basic bWU6czNjcjN0IQ=="] * 2
        assert [headers.get("Authorization") for _, headers in other.requests] == [None]


def test_a_file_url(tmp_path: Path) -> None:
    path = tmp_path / "an image.npy"
    path.write_bytes(ENCODED_IMAGE)
    assert read_pixels(path.as_uri()).shape == (40, 50, 3)
    assert read_pixels(path.as_uri().replace("file://", "FILE://localhost")).shape == (40, 50, 3)
    assert refusal_message("file:///missing/a%20b.npy") == "/missing/a b.npy: no such file"
    assert "is not on this machine; expected file:///path" in refusal_message("file://other/a.npy")
    assert "is not on this machine" in refusal_message("file://")


# ---- what does not -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("missing", "the server answers 404 Not Found"),
        ("broken", "the server answers 500 Internal Server Error"),
        ("nowhere", "the server answers 302 Found"),
        ("short", f"the connection ended after {len(ENCODED_IMAGE) - 100:,} bytes, before the end"),
        ("chunked-short", "the connection ended after 900 bytes, before the end"),
        ("packed", "the server compressed it (gzip) without being asked"),
        ("gone", "the server closed the connection without an answer"),
        ("gibberish", "the answer is not HTTP (BadStatusLine)"),
    ],
)
def test_answers_that_are_no_image(server: HttpTestServer, path: str, message: str) -> None:
    said = refusal_message(f"{server.addresses}/{path}?key={SECRET}")
    assert said == f"{server.addresses}/{path}?…: {message}"


def test_a_missing_page_is_a_file_not_found_error(server: HttpTestServer) -> None:
    with pytest.raises(SourceNotFoundError, match="the server answers 404 Not Found"):
        open_source(f"{server.addresses}/missing")
    with pytest.raises(SourceError, match="500") as caught:
        open_source(f"{server.addresses}/broken")
    assert not isinstance(caught.value, FileNotFoundError)


def test_an_empty_answer(server: HttpTestServer) -> None:
    assert refusal_message(f"{server.addresses}/empty") == f"{server.addresses}/empty is empty"


def test_more_than_there_is_room_for(server: HttpTestServer, tmp_path: Path) -> None:
    said = refusal_message(f"{server.addresses}/oversized")
    assert "(it has 1,000,000,000,000,000,000 bytes, and " in said
    assert said.endswith("TMPDIR to another folder")


def test_redirects_that_are_not_followed(server: HttpTestServer) -> None:
    where = server.addresses
    assert refusal_message(f"{where}/loop?key={SECRET}") == (
        f"{where}/loop?… redirects more than 10 times; the last was to {where}/loop?…"
    )
    said = refusal_message(f"{where}/to/302/file:///etc/passwd")
    assert said.endswith("redirects to file:///etc/passwd; expected http:// or https://")
    for there in (f"ftp://me:{SECRET}@host/a", "javascript:alert(1)", "gopher://x"):
        assert "expected http:// or https://" in refusal_message(f"{where}/leads?{there}")
    for there in (f"http://me:{SECRET}@host:port/", f"http://me:{SECRET}@[::1/"):
        said = refusal_message(f"{where}/leads?{there}")
        assert "no valid host" in said


def test_images_that_are_none(server: HttpTestServer) -> None:
    said = refusal_message(f"{server.addresses}/html?key={SECRET}")
    assert said.startswith(f"{server.addresses}/html?…: it is a web page, and no image")


@pytest.mark.usefixtures("short_timeouts")
@pytest.mark.parametrize("path", ["trickle", "trickle-headers", "trickle-chunks"])
def test_a_stall_has_an_end(server: HttpTestServer, path: str) -> None:
    started = time.monotonic()
    said = refusal_message(f"{server.addresses}/{path}")
    assert "fewer than 1,000 bytes arrived in 0.4 s" in said
    assert 0.3 < time.monotonic() - started < 20


@pytest.mark.parametrize("path", ["silent", "stops"])
def test_silence_has_an_end(
    server: HttpTestServer, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "SOCKET_SECONDS", 0.2)
    assert refusal_message(f"{server.addresses}/{path}").endswith(
        f"/{path}: nothing arrived for 0.2 s"
    )
    monkeypatch.setattr(web, "SOCKET_SECONDS", 30)
    monkeypatch.setattr(web, "STALL_SECONDS", 0.2)
    assert "fewer than 1,000 bytes arrived in 0.2 s" in refusal_message(
        f"{server.addresses}/{path}"
    )


def test_slow_is_not_stalled(server: HttpTestServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "STALL_SECONDS", 0.8)
    started = time.monotonic()
    assert read_pixels(f"{server.addresses}/slow").shape == (40, 50, 3)
    assert time.monotonic() - started > web.STALL_SECONDS


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    said = refusal_message(f"http://me:{SECRET}@127.0.0.1:{port}/a.tif?key={SECRET}")
    assert said == f"http://127.0.0.1:{port}/a.tif?…: it cannot be fetched: Connection refused"
    assert "its host was not found" in refusal_message("http://no-such-host.invalid/a.tif")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://", "http://: no valid host"),
        ("http:///a.tif", "no valid host"),
        ("http://host:port/a.tif", "no valid host and port"),
        (f"http://me:{SECRET}@[::1/a.tif", "http://…: no valid host"),
        (f"http://me:{SECRET}@ho\u2100st/a.tif", "http://ho\u2100st/a.tif: no valid host"),
        ("http://" + "x" * 64 + ".org/a.tif", "no valid host"),
        (f"s3://me:{SECRET}@bucket/a.tif?sig={SECRET}", "s3://bucket/…: a store's address has no"),
        ("S3:///a.tif", "s3://… names no bucket; expected s3://BUCKET/KEY"),
        ("ftp://host/a.tif", "ftp://host/a.tif: unknown scheme ftp://; expected http://"),
        (f"GS://?sig={SECRET}/a", "gs://… names no bucket"),
        ("sftp://host/a", "or an open stream"),
    ],
)
def test_urls_that_are_none(url: str, message: str) -> None:
    assert message in refusal_message(url)


def test_what_is_no_url_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "http:").mkdir()
    (tmp_path / "http:" / "a.npy").write_bytes(ENCODED_IMAGE)
    assert read_pixels(Path("http://a.npy")).shape == (40, 50, 3)
    assert read_pixels("./http://a.npy").shape == (40, 50, 3)
    assert refusal_message("c://a.npy") == "c://a.npy: no such file"


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGINT for one thread")
def test_ctrl_c_while_it_waits(server: HttpTestServer) -> None:
    timer = threading.Timer(0.2, lambda: signal.pthread_kill(main, signal.SIGINT))
    main = threading.main_thread().ident
    assert main is not None
    # A shell ignores SIGINT for tests in the background, and child processes inherit that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        timer.start()
        started = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            open_source(f"{server.addresses}/trickle")
        assert time.monotonic() - started < 20
        timer.join()
    finally:
        signal.signal(signal.SIGINT, before)


# ---- https ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate for 127.0.0.1 that nobody vouches for, in one file."""
    if shutil.which("openssl") is None:
        pytest.skip("NOT TESTED: there is no openssl to make a certificate with")
    folder = tmp_path_factory.mktemp("certificate")
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=me"
    made = [*words.split(), "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key", "-out", "c"]
    subprocess.run(["openssl", *made], cwd=folder, check=True, capture_output=True)
    path = folder / "both.pem"
    path.write_bytes((folder / "key").read_bytes() + (folder / "c").read_bytes())
    return path


@pytest.fixture(scope="module")
def tls_server(certificate: Path) -> Iterator[HttpTestServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with run_server(HttpTestServer(context)) as running:
        yield running


def test_a_certificate_that_nobody_vouches_for(tls_server: HttpTestServer) -> None:
    said = refusal_message(f"{tls_server.addresses}/ok")
    assert said.startswith(f"{tls_server.addresses}/ok: its certificate is not trusted (self")
    assert said.endswith("set SSL_CERT_FILE to a file of further authorities")


def test_https(
    tls_server: HttpTestServer,
    server: HttpTestServer,
    certificate: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert read_pixels(f"{tls_server.addresses}/ok").shape == (40, 50, 3)
    assert read_pixels(f"{tls_server.addresses}/chunked").shape == (40, 50, 3)
    assert read_pixels(f"{server.addresses}/to/302/{tls_server.addresses}/ok").shape == (40, 50, 3)
    said = refusal_message(f"{tls_server.addresses}/to/302/{server.addresses}/ok?key={SECRET}")
    assert "which is not encrypted" in said
    assert "the connection ended after" in refusal_message(f"{tls_server.addresses}/short")
    assert "certificate is not trusted" in refusal_message(
        tls_server.addresses.replace("127.0.0.1", "localhost") + "/ok"
    )
    assert "it cannot be fetched: [SSL" in refusal_message(
        server.addresses.replace("http:", "https:") + "/ok"
    )


@pytest.mark.usefixtures("short_timeouts")
@pytest.mark.parametrize("path", ["trickle", "trickle-headers"])
def test_a_stall_over_https(
    tls_server: HttpTestServer, path: str, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert "fewer than 1,000 bytes arrived in 0.4 s" in refusal_message(
        f"{tls_server.addresses}/{path}"
    )


# ---- nobody else notices -------------------------------------------------------------------------


def test_no_global_is_changed(server: HttpTestServer) -> None:
    from urllib import request

    before = request._opener, socket.getdefaulttimeout()  # type: ignore[attr-defined]
    read_pixels(f"{server.addresses}/ok")
    assert (request._opener, socket.getdefaulttimeout()) == before  # type: ignore[attr-defined]


def test_nothing_is_imported_for_plain_files(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(ENCODED_IMAGE)
    code = (
        "import sys, fasttile.sources as sources\n"
        "sources.open_source(sys.argv[1]).close()\n"
        "own = {f'fasttile.sources.{name}' for name in ('remote', 'openslide')}\n"
        "seen = {'urllib.request', 'ssl', 'tempfile', 'openslide', *own} & set(sys.modules)\n"
        "assert not seen, seen\n"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)
