"""`fasttile view`: what its server answers, to whom, and how it begins and ends."""

from __future__ import annotations

import html
import http.client
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np
import pytest

import fasttile
from fasttile import serve
from fasttile.errors import OptionError, SourceError
from fasttile.readers import open_result
from fasttile.serve import ViewerServer
from fasttile.serve.content import open_content
from fasttile.storage.budget import Budget
from support.wall_results import make_collection

pytestmark = pytest.mark.usefixtures("no_leaked_thread", "deadlock_timeout")


RESULTS = {
    "map.dzi": {},
    "zoomify": {"layout": "zoomify"},
    "xyz": {"layout": "xyz:centre", "levels": "1-2"},
    "tms": {"layout": "tms"},
    "tilecache": {"layout": "tilecache"},
    "gsiv": {"layout": "gsiv"},
    "iiif2": {"layout": "iiif2:id=https://example.org/map"},
    "iiif3": {"layout": "iiif3:id=https://example.org/map"},
    "a.zip": {"layout": "xyz"},
    "a.szi": {"format": "png"},
    "a.mbtiles": {"format": "webp"},
    "a.tif": {},
    "lossless.tif": {"format": "deflate"},
}


@pytest.fixture(scope="module")
def image() -> np.ndarray[Any, Any]:
    y, x = np.mgrid[0:300, 0:700]
    return np.dstack([x * 255 // 700, y * 255 // 300, (x + y) % 256]).astype(np.uint8)


@pytest.fixture(scope="module")
def site(image: np.ndarray[Any, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    for name, options in RESULTS.items():
        fasttile.cut(image, folder / name, **options)
    (folder / "secret.txt").write_text("secret")
    return folder


@contextmanager
def run_viewer_server(
    path: Path, messages: list[str] | None = None, host: str = "127.0.0.1", **options: Any
) -> Iterator[ViewerServer]:
    """A server on a thread of its own."""
    report = (messages if messages is not None else []).append
    with (
        open_content(path, **options) as show,
        ViewerServer(show, report=report, host=host) as server,
    ):
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        before = set(threading.enumerate())
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
            # Those of connections end by themselves, when they see that the client is gone.
            for other in set(threading.enumerate()) - before:
                if not other.name.startswith("fasttile-"):  # those of an image end with it
                    other.join(20)


class Client:
    """One connection, kept alive as long as the server likes."""

    def __init__(self, server: ViewerServer, address: str = "") -> None:
        self.root = f"/{server.token}"
        self.connection = http.client.HTTPConnection(
            address or "127.0.0.1", server.server_port, timeout=10
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def request(
        self, path: str, method: str = "GET", **headers: str
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        self.connection.request(method, self.root + path, headers=names)
        answer = self.connection.getresponse()
        return answer.status, answer.headers, answer.read()


@pytest.mark.parametrize("name", RESULTS)
def test_every_result_is_served_tile_by_tile(name: str, site: Path) -> None:
    with (
        open_result(site / name) as reader,
        run_viewer_server(site / name) as server,
        Client(server) as it,
    ):
        status, headers, body = it.request("/")
        assert status == 200
        assert headers["Content-Type"] == "text/html; charset=utf-8"
        assert "700 × 300 pixels" in body.decode() or "levels" in RESULTS[name]
        for tile in reader.pyramid.tiles():
            status, headers, body = it.request(f"/tile/{tile.level}/{tile.col}/{tile.row}")
            assert status == 200
            assert headers["Content-Type"] == reader.media_type
            assert body == reader.tile(*tile)
        last = reader.pyramid.stored_range[-1]
        for path in (f"/tile/{last + 1}/0/0", f"/tile/{last}/99/0", "/tile/999999/0/0"):
            assert it.request(path)[0] == 404
        assert it.request("/item/0/0/0/0")[0] == it.request("/thumbnails/0/0_0.jpg")[0] == 404


def test_a_blank_tile_is_not_found(image: np.ndarray[Any, Any], tmp_path: Path) -> None:
    half = image.copy()
    half[:, 256:] = 255
    fasttile.cut(half, tmp_path / "map", layout="xyz", skip_blank=0, format="png")
    with run_viewer_server(tmp_path / "map") as server, Client(server) as it:
        assert it.request("/tile/10/0/0")[0] == 200
        assert it.request("/tile/10/1/0")[0] == 404


def test_nothing_else_is_served(site: Path) -> None:
    with run_viewer_server(site / "map.dzi") as server, Client(server) as it:
        for path in (
            *(
                "/map.dzi",
                "/map_files/0/0_0.jpg",
                "/secret.txt",
                "/../secret.txt",
                "/?",
                "/.",
            ),
            *("/tile/", "/tile/10/0/0/", "/tile/10/0", "/tile/-1/0/0", "/tile/10/0/0?x", "/tile"),
            *("/tile/10/0/%30", "/tile/10/0/%D9%A0", "/tile/../../etc/passwd", "/tile/1e1/0/0"),
            *("/tile/9999999999999999/0/0", "/tile/0000000000000010/0/0", "/favicon.ico"),
        ):
            status, _, body = it.request(path)
            assert (status, b"secret" in body) == (404, False), path


def test_nothing_is_answered_without_the_token(site: Path) -> None:
    with run_viewer_server(site / "map.dzi") as server, Client(server) as it:
        token, it.root = server.token, ""
        assert len(token) >= 22
        for path in (
            *("/", "/tile/0/0/0", "/favicon.ico", "/secret.txt", "//", "/?", "/./", "/%ff/"),
            *(f"/{token}", f"/{token}x/", f"/{token[:-1]}/", f"/{token[::-1]}/", f"/./{token}/"),
            *(f"/x/../{token}/", f"/{token.swapcase()}/", f"/%{ord(token[0]):02x}{token[1:]}/"),
        ):
            status, headers, body = it.request(path)
            assert (status, body) == (403, b"403 Forbidden\n"), path
            assert headers["Connection"] == "close"
        assert it.request(f"/{token}/")[0] == 200
    with run_viewer_server(site / "map.dzi") as other:
        assert other.token != token


def test_the_address_on_a_command_line_leads_to_the_page_once(site: Path) -> None:
    with run_viewer_server(site / "map.dzi") as server, Client(server) as it:
        address, it.root = urlsplit(server.open_once_url()).path, ""
        assert server.token not in address
        status, headers, body = it.request(address)
        assert (status, body) == (303, b"")
        assert headers["Location"] == f"/{server.token}/"
        assert it.request(headers["Location"])[0] == 200
        assert it.request(address)[0] == 403


def test_only_this_machines_names_are_answered(site: Path) -> None:
    with run_viewer_server(site / "map.dzi") as server, Client(server) as it:
        port = server.server_port
        for host in (
            f"127.0.0.1:{port}",
            f"localhost:{port}",
            f"LOCALHOST:{port}",
            f"[::1]:{port}",
        ):
            assert it.request("/", Host=host)[0] == 200
        for host in (
            *("127.0.0.1", "localhost", f"example.org:{port}", f"127.0.0.1.example.org:{port}"),
            *(
                f"localhost:{port + 1}",
                f"localhost.:{port}",
                f"user@localhost:{port}",
                " ",
                "0.0.0.0",
            ),
        ):
            status, headers, body = it.request("/tile/0/0/0", Host=host)
            assert status == 421, host
            assert len(body) < 50
            assert headers["Connection"] == "close"
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((_other_loopback_address(), port), timeout=5).close()


def _other_loopback_address() -> str:
    """An address of this machine that is not the loopback's usual one."""
    return "127.0.0.2" if sys.platform == "linux" else socket.gethostbyname(socket.gethostname())


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        ("GET {root}/ HTTP/1.1\r\n\r\n", 400),
        ("GET {root}/ HTTP/1.1\r\nHost: {host}\r\nHost: {host}\r\n\r\n", 400),
        ("GET http://{host}{root}/ HTTP/1.1\r\nHost: {host}\r\n\r\n", 400),
        ("GET tile/0/0/0 HTTP/1.1\r\nHost: {host}\r\n\r\n", 400),
        ("GET * HTTP/1.1\r\nHost: {host}\r\n\r\n", 400),
        ("GET {root}/ HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5\r\n\r\nhello", 400),
        (
            "GET {root}/ HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        *(
            (f"GET {{root}}/ HTTP/1.1\r\nHost: {{host}}\r\n{headers}\r\n\r\nhello", 400)
            for headers in (
                "Content-Length: 0\r\nContent-Length: 5",
                "Content-Length: 5\r\nContent-Length: 0",
                "Content-Length: 0\r\nContent-Length: 0",
                "Content-Length: 0, 0",
                "Content-Length: +0",
                "Content-Length: -1",
                "Content-Length: 0x5",
                "Content-Length:",
                "Content-Length : 5",
                "Content-Length: 0\r\nTransfer-Encoding: chunked",
                "transfer-encoding: identity",
                "X Y: 1",
                "X(Y): 1",
                "nonsense",
            )
        ),
        ("GET {root}/ nonsense\r\nHost: {host}\r\n\r\n", 400),
        ("GET {root}/ HTTP/9.9\r\nHost: {host}\r\n\r\n", 505),
        ("nonsense\r\n\r\n", 400),
        ("GET {root}/ HTTP/1.0\r\nHost: {host}\r\n\r\n", 200),
        ("POST {root}/ HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5\r\n\r\nhello", 501),
        ("DELETE {root}/tile/0/0/0 HTTP/1.1\r\nHost: {host}\r\n\r\n", 501),
        ("GET /" + "a" * 70_000 + " HTTP/1.1\r\nHost: {host}\r\n\r\n", 414),
        ("GET {root}/ HTTP/1.1\r\nHost: {host}\r\nX: " + "a" * 70_000 + "\r\n\r\n", 431),
        ("GET {root}/ HTTP/1.1\r\nHost: {host}\r\n" + "X: y\r\n" * 200 + "\r\n", 431),
    ],
)
def test_what_is_no_request_of_a_page_is_refused(
    request_text: str, status: int, site: Path
) -> None:
    messages: list[str] = []
    with run_viewer_server(site / "map.dzi", messages) as server:
        host = f"127.0.0.1:{server.server_port}"
        text = request_text.replace("{host}", host).replace("{root}", f"/{server.token}")
        with socket.create_connection(("127.0.0.1", server.server_port), timeout=10) as connection:
            connection.sendall(text.encode())
            stream = connection.makefile("rb")
            answer = stream.read() if len(text) < 1000 else stream.readline()
        assert int(answer.split()[1]) == status
        assert answer.count(b"HTTP/1.1 ") == 1, "the connection is closed"
    assert messages == []


def test_a_connection_stays_open_and_head_sends_no_body(site: Path) -> None:
    with run_viewer_server(site / "map.dzi") as server, Client(server) as it:
        status, headers, body = it.request("/tile/10/0/0")
        used = it.connection.sock
        assert it.request("/tile/10/0/1")[0] == 200
        assert it.request("/nothing")[0] == 404
        found = it.request("/tile/10/0/0", "HEAD")
        assert found[0] == status == 200
        assert found[1]["Content-Length"] == headers["Content-Length"] == str(len(body))
        assert found[2] == b""
        assert it.request("/nothing", "HEAD")[::2] == (404, b"")
        assert it.connection.sock is used


def test_tiles_are_asked_for_again_but_not_sent_again(site: Path) -> None:
    with run_viewer_server(site / "map.dzi") as server, Client(server) as it:
        _, headers, _ = it.request("/tile/10/0/0")
        assert headers["Cache-Control"] == "private, no-cache"
        status, again, body = it.request("/tile/10/0/0", If_None_Match=headers["ETag"])
        assert (status, body, again["ETag"]) == (304, b"", headers["ETag"])
        assert it.request("/tile/10/1/0", If_None_Match=headers["ETag"])[0] == 200


def test_answers_are_for_the_page_itself_only(site: Path) -> None:
    with run_viewer_server(site / "map.dzi") as server, Client(server) as it:
        for path in ("/", "/tile/10/0/0", "/nothing"):
            headers = it.request(path)[1]
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
            assert "Access-Control-Allow-Origin" not in headers
            assert headers["Server"] == "fasttile"
        assert "default-src 'none'" in it.request("/")[1]["Content-Security-Policy"]


def test_a_tile_that_cannot_be_read_is_reported_once(
    image: np.ndarray[Any, Any], tmp_path: Path
) -> None:
    fasttile.cut(image, tmp_path / "map.dzi")
    (tmp_path / "map_files/10/0_0.jpg").unlink()
    messages: list[str] = []
    with run_viewer_server(tmp_path / "map.dzi", messages) as server, Client(server) as it:
        for _ in range(2):
            status, _, body = it.request("/tile/10/0/0")
            assert (status, body) == (500, b"500 this tile cannot be read\n")
        assert it.request("/tile/10/0/1")[0] == 200
    assert len(messages) == 1
    assert "0_0.jpg" in messages[0]


def test_many_clients_at_once(site: Path) -> None:
    with open_result(site / "a.tif") as reader, run_viewer_server(site / "a.tif") as server:
        wanted = {tile: reader.tile(*tile) for tile in reader.pyramid.tiles()}
        wrong: list[object] = []

        def use() -> None:
            with Client(server) as it:
                for tile, data in wanted.items():
                    status, _, body = it.request("/tile/{}/{}/{}".format(*tile))
                    if (status, body) != (200, data):
                        wrong.append(tile)

        threads = [threading.Thread(target=use) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory as Linux shows it")
def test_many_large_tiles_at_once_take_little_memory(
    image: np.ndarray[Any, Any], tmp_path: Path
) -> None:
    fasttile.cut(image, tmp_path / "map.dzi")
    size = 100_000_000
    for level in range(4):
        os.truncate(tmp_path / f"map_files/{level}/0_0.jpg", size)
    command = [sys.executable, "-m", "fasttile", "view", "--no-browser", tmp_path / "map.dzi"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        place = urlsplit(process.stdout.readline().split()[0])
        counts: list[int] = []

        def use(level: int) -> None:
            client = http.client.HTTPConnection("127.0.0.1", place.port or 0, timeout=60)
            client.request("GET", f"{place.path}tile/{level}/0/0")
            answer, count = client.getresponse(), 0
            while piece := answer.read(2**22):
                count += len(piece)
            counts.append(count)
            client.close()

        threads = [threading.Thread(target=use, args=(number % 4,)) for number in range(24)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        (peak,) = (int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
        process.send_signal(signal.SIGINT)
    assert counts == [size] * 24
    assert peak < 800_000  # kB


def test_a_client_that_takes_nothing_delays_only_large_tiles(
    image: np.ndarray[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "BUDGET", Budget(bytes_in_flight=80_000_000))
    fasttile.cut(image, tmp_path / "map.dzi")
    os.truncate(tmp_path / "map_files/0/0_0.jpg", 50_000_000)
    with run_viewer_server(tmp_path / "map.dzi") as server, Client(server) as it:
        with Client(server) as slow:
            slow.connection.request("GET", f"{slow.root}/tile/0/0/0")
            answer = slow.connection.getresponse()
            assert answer.headers["Content-Length"] == "50000000"
            it.connection.request("GET", f"{it.root}/tile/1/0/0")
            # Its size is not known before it is read, so it waits.
            assert not select.select([it.connection.sock], [], [], 0.3)[0]
            answer.close()
        assert it.connection.getresponse().status == 200


def test_slow_clients_keep_nobody_waiting(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "BUDGET", Budget(connections=20))
    with run_viewer_server(site / "map.dzi") as server:
        place = ("127.0.0.1", server.server_port)
        slow = [socket.create_connection(place, timeout=10) for _ in range(19)]
        for number, connection in enumerate(slow):
            connection.sendall(b"GET /tile/0/0/0 HTTP/1.1\r\nX: y\r\n"[: 2 * number])
        with Client(server) as it:
            assert it.request("/tile/10/0/0")[0] == 200
            with socket.create_connection(place, timeout=10) as other:  # one too many
                assert other.recv(1) == b""
            assert it.request("/tile/10/0/1")[0] == 200
        for connection in slow:
            connection.close()
        for _ in range(100):
            with Client(server) as it, suppress(OSError, http.client.HTTPException):
                if it.request("/")[0] == 200:
                    break
            time.sleep(0.05)
        else:
            raise AssertionError("connections that have ended still count")


def test_a_client_that_sends_nothing_is_given_up(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve.RequestHandler, "timeout", 0.2)
    messages: list[str] = []
    with run_viewer_server(site / "map.dzi", messages) as server:
        for begun in (b"", b"GET", b"GET / HTTP/1.1\r\nHost:"):
            with socket.create_connection(("127.0.0.1", server.server_port), timeout=10) as slow:
                slow.sendall(begun)
                assert slow.recv(100) == b""
    assert messages == []


@pytest.mark.skipif(os.name == "nt", reason="links")
def test_planted_links_are_not_followed(image: np.ndarray[Any, Any], tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    fasttile.cut(image, tmp_path / "map.dzi")
    collection = make_collection(tmp_path, "wall", ["one", "two"])
    thumbnail = next(collection.tile_folder.rglob("*.jpg"))
    for link in (tmp_path / "map_files/10/0_0.jpg", thumbnail):
        link.unlink()
        link.symlink_to(tmp_path / "secret")
    (tmp_path / "map_files/9").rename(tmp_path / "elsewhere")
    (tmp_path / "map_files/9").symlink_to(tmp_path / "elsewhere")
    with run_viewer_server(tmp_path / "map.dzi") as server, Client(server) as it:
        for path in ("/tile/10/0/0", "/tile/9/0/0"):
            assert it.request(path)[::2] == (500, b"500 this tile cannot be read\n")
        assert it.request("/tile/10/1/0")[0] == 200
    with run_viewer_server(collection.path) as server, Client(server) as it:
        name = thumbnail.relative_to(collection.tile_folder)
        assert it.request(f"/thumbnails/{name}")[::2] == (500, b"500 this tile cannot be read\n")


MARKUP = "<img src=x onerror=alert(1)>\"'&{{title}}<!--"


@pytest.mark.skipif(os.name == "nt", reason="such names")
def test_markup_in_names_is_text(image: np.ndarray[Any, Any], tmp_path: Path) -> None:
    fasttile.cut(image, tmp_path / f"{MARKUP.replace('{{', '{{{{').replace('}}', '}}}}')}.dzi")
    with run_viewer_server(tmp_path / f"{MARKUP}.dzi") as server, Client(server) as it:
        page = it.request("/")[2].decode()
        assert page.count(html.escape(MARKUP)) == 3
        assert "<img src" not in page
        assert "<!--" not in page
    collection = make_collection(tmp_path, "wall", ["one"])
    text = collection.path.read_text()
    source = f'Source="{quote(MARKUP)}%3C%2Fscript%3E.dzi"'
    collection.path.write_text(re.sub('Source="[^"]*"', source, text))
    with run_viewer_server(collection.path) as server, Client(server) as it:
        page = it.request("/")[2].decode()
        assert "<img" not in page
        assert "\\u003cimg src=x onerror=alert(1)>" in page


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "a.dzi",
            '<Image xmlns="http://schemas.microsoft.com/deepzoom/2008" Format="{}"'
            ' Overlap="0" TileSize="9"><Size Width="9" Height="9"/></Image>',
        ),
        (
            "wall.dzc",
            '<Collection xmlns="http://schemas.microsoft.com/deepzoom/2008" MaxLevel="7"'
            ' TileSize="256" Format="{}" NextItemId="1"><Items/></Collection>',
        ),
        (
            "tiles.json",
            '{{"minzoom":0,"maxzoom":0,"fasttile":{{"layout":"xyz","canvas":256,'
            '"tile_size":256,"x":0,"y":0,"width":9,"height":9,"format":"{}"}}}}',
        ),
    ],
)
@pytest.mark.parametrize(
    "extension", ["&lt;script&gt;", "jpg/../x", "../x", "j pg", "jpg\\r\\nX: y"]
)
def test_formats_that_are_no_extensions(
    name: str, text: str, extension: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text.format(extension))
    with pytest.raises(SourceError):
        open_content(tmp_path / name)


def test_a_collection_is_served_by_numbers(tmp_path: Path) -> None:
    collection = make_collection(tmp_path, "wall", ["one", "two", "three"])
    (tmp_path / "images/two.dzi").unlink()
    with run_viewer_server(collection.path) as server, Client(server) as it:
        assert it.request("/")[0] == 200
        with open_result(tmp_path / "images/three.dzi") as reader:
            for tile in reader.pyramid.tiles():
                status, headers, body = it.request("/item/12/{}/{}/{}".format(*tile))
                assert (status, headers["Content-Type"]) == (200, "image/jpeg")
                assert body == reader.tile(*tile)
        for path in collection.tile_folder.rglob("*.jpg"):
            level, place = path.parts[-2:]
            status, headers, body = it.request(f"/thumbnails/{level}/{place}")
            assert (status, headers["Content-Type"]) == (200, "image/jpeg")
            assert body == path.read_bytes()
        for path in (
            *("/item/11/0/0/0", "/item/2/0/0/0", "/item/12/99/0/0", "/item/12/0/0", "/tile/0/0/0"),
            *("/thumbnails/8/0_0.jpg", "/thumbnails/7/9_0.jpg", "/thumbnails/7/../0_0.jpg"),
        ):
            assert it.request(str(path))[0] == 404, path


def test_a_collection_without_images(tmp_path: Path) -> None:
    collection = make_collection(tmp_path, "wall", [])
    with pytest.raises(OptionError, match="collection 'wall' has no images to show"):
        open_content(collection.path)
    collection.path.rename(tmp_path / "dzc_output.xml")
    with pytest.raises(OptionError, match="has no images"):
        open_content(tmp_path / "dzc_output.xml")


def test_what_is_no_result(site: Path, tmp_path: Path, image: np.ndarray[Any, Any]) -> None:

    with pytest.raises(SourceError, match="no such file"):
        open_content(tmp_path / "nothing.dzi")
    with pytest.raises(SourceError, match="no such file"):
        open_content(tmp_path / "nothing.png")
    with pytest.raises(SourceError, match=r"secret\.txt"):
        open_content(site / "secret.txt")
    with pytest.raises(OptionError, match=r"map\.dzi.*page: a result has one image"):
        open_content(site / "map.dzi", page=2)
    with pytest.raises(OptionError, match=r"a\.dzc: options are for images"):
        open_content(tmp_path / "a.dzc", format="png")


@pytest.mark.parametrize("name", ["map.png", "map.tif", "map.npy"])
def test_an_image_is_served_as_it_would_be_cut(
    name: str, image: np.ndarray[Any, Any], tmp_path: Path
) -> None:
    from PIL import Image

    if name == "map.npy":
        np.save(tmp_path / name, image)
    else:
        Image.fromarray(image).save(tmp_path / name)
    options: dict[str, Any] = {"region": (10, 20, 600, 270), "quality": 60, "window": (20, 200)}
    fasttile.cut(tmp_path / name, tmp_path / "cut.dzi", **options)
    messages: list[str] = []
    with (
        open_result(tmp_path / "cut.dzi") as reader,
        run_viewer_server(tmp_path / name, messages, **options) as server,
        Client(server) as it,
    ):
        status, _, body = it.request("/")
        assert status == 200
        assert "600 × 270 pixels" in body.decode()
        for tile in reader.pyramid.tiles():
            status, headers, body = it.request(f"/tile/{tile.level}/{tile.col}/{tile.row}")
            assert status == 200
            assert headers["Content-Type"] == "image/jpeg"
            assert body == reader.tile(*tile)
        assert it.request("/tile/11/0/0")[0] == 404
    assert not messages


def test_a_damaged_image_is_reported_once(image: np.ndarray[Any, Any], tmp_path: Path) -> None:
    from PIL import Image

    Image.fromarray(image).save(tmp_path / "map.jpg")
    data = (tmp_path / "map.jpg").read_bytes()
    (tmp_path / "map.jpg").write_bytes(data[: len(data) // 2])
    messages: list[str] = []
    with run_viewer_server(tmp_path / "map.jpg", messages) as server, Client(server) as it:
        assert it.request("/")[0] == 200
        assert it.request("/tile/0/0/0")[0] == it.request("/tile/10/0/0")[0] == 500
    assert len(messages) == 1
    assert "map.jpg" in messages[0]


def test_ports(site: Path) -> None:
    with open_content(site / "map.dzi") as show, ViewerServer(show) as first:
        assert first.url == f"http://127.0.0.1:{first.server_port}/{first.token}/"
        with pytest.raises(OptionError, match=f"port {first.server_port} is taken: choose anoth"):
            ViewerServer(show, first.server_port)
        with ViewerServer(show) as second:
            assert second.server_port != first.server_port
        for port in (-1, 65536):
            with pytest.raises(OptionError, match=f"port {port} is not between 0 and 65535"):
                ViewerServer(show, port)


def test_another_host_is_reached_by_its_addresses_and_the_token_only(site: Path) -> None:
    with run_viewer_server(site / "map.dzi", host="0.0.0.0") as server:
        place, port, name = urlsplit(server.url), server.server_port, socket.gethostname()
        assert not server.is_local
        # Really from outside of the loopback's usual address, as far as this machine has another.
        with Client(server, _other_loopback_address()) as it:
            assert it.request("/")[0] == 200
            hosts = ("127.0.0.1", "10.1.2.3", "[2001:db8::1]", "localhost", name, name.upper())
            for host in hosts:
                assert it.request("/tile/0/0/0", Host=f"{host}:{port}")[0] == 200, host
            for host in ("example.org", "10.1.2.3.example.org", "10.1.2", "2001:db8::1", "[x]", ""):
                assert it.request("/tile/0/0/0", Host=f"{host}:{port}")[0] == 421, host
            assert it.request("/tile/0/0/0", Host=f"10.1.2.3:{port + 1}")[0] == 421
            it.root = ""
            for path in ("/", "/tile/0/0/0", f"/{server.token[:-1]}x/", f"/{server.token}x/"):
                assert it.request(path)[::2] == (403, b"403 Forbidden\n"), path
        with Client(server, str(place.hostname)) as it:
            assert it.request("/")[0] == 200


@pytest.mark.skipif(not socket.has_ipv6, reason="IPv6")
def test_an_ipv6_address_stands_in_brackets(site: Path) -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6")
    with run_viewer_server(site / "map.dzi", host="::1") as server, Client(server, "::1") as it:
        assert server.is_local
        assert server.url.startswith(f"http://[::1]:{server.server_port}/")
        assert it.request("/")[0] == 200
        assert it.request("/", Host=f"[::2]:{server.server_port}")[0] == 421


@pytest.mark.parametrize("host", ["192.0.2.1", "nobody.invalid", "", "\0", "a" * 300, "1.2.3.4.5"])
def test_hosts_of_others(host: str, site: Path) -> None:
    with (
        open_content(site / "map.dzi") as show,
        pytest.raises(OptionError, match=r"^host '.*' (is no|has no) address.*; use one of "),
    ):
        ViewerServer(show, host=host)


def test_another_host_comes_with_a_warning(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr(ViewerServer, "serve_forever", lambda _: None)
    serve.view(site / "map.dzi", host="0.0.0.0", browser=False, report=lines.append)
    assert "warning: everyone on the network who learns this address" in lines[1]
    lines.clear()
    serve.view(site / "map.dzi", browser=False, report=lines.append)
    assert "warning" not in "".join(lines)


VIEW_PROGRAM = """
import sys, webbrowser
from fasttile.serve import view
webbrowser.open = lambda url: print("opened", url, flush=True)
view(sys.argv[1], browser=sys.argv[2] == "yes", report=lambda line: print(line, flush=True))
print("ended")
"""


@pytest.mark.skipif(os.name == "nt", reason="signals to one process")
@pytest.mark.parametrize("browser", ["yes", "no"])
def test_it_runs_until_it_is_interrupted(browser: str, site: Path) -> None:
    command = [sys.executable, "-c", VIEW_PROGRAM, str(site / "map.dzi"), browser]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.endswith("/ shows map; Ctrl-C ends it\n")
        if browser == "yes":
            address = urlsplit(process.stdout.readline().removeprefix("opened ").rstrip())
        place = urlsplit(line.split()[0])
        kept = http.client.HTTPConnection("127.0.0.1", place.port or 0, timeout=10)
        if browser == "yes":
            assert address.port == place.port
            kept.request("GET", address.path)
            answer = kept.getresponse()
            assert (answer.status, answer.headers["Location"]) == (303, place.path)
            answer.read()
        kept.request("GET", place.path)
        assert kept.getresponse().read()
        process.send_signal(signal.SIGINT)  # with a connection still open
        out, err = process.communicate(timeout=60)
        kept.close()
    assert (process.returncode, out, err) == (0, "ended\n", "")


def test_errors_are_pages_for_windows_and_lines_for_others(site: Path) -> None:
    with run_viewer_server(site / "map.dzi") as server, Client(server) as it:
        accept = "text/html,application/xhtml+xml,*/*;q=0.8"
        status, headers, body = it.request("/nothing", Accept=accept)
        assert (status, headers["Content-Type"]) == (404, "text/html; charset=utf-8")
        assert b"<h1>404 Not Found</h1>" in body
        assert "script-src ;" in headers["Content-Security-Policy"]
        assert it.request("/nothing", "HEAD", Accept=accept)[2] == b""
        assert it.request("/nothing", Accept="image/avif,*/*")[2] == b"404 Not Found\n"
        it.root = ""
        status, _, body = it.request("/<script>", Accept=accept)
        assert (status, b"<script>" in body) == (403, False)
        assert b"open the one that fasttile view printed" in body
