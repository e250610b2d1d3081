"""Zarr and N5 behind http addresses, from a real server that also misbehaves."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fasttile
from fasttile.errors import SourceError, SourceNotFoundError
from fasttile.options.read import ReadOptions
from fasttile.sources import open_source, remote
from support.command import run
from support.reading import noise
from support.zarr_files import write_ome, write_plain, write_zarr

RGB = noise(150, 210, 3)


class _Handler(SimpleHTTPRequestHandler):
    """Files below a folder, with ranges; answers of the server's `faults` come first."""

    server: Any

    def do_GET(self) -> None:
        self.server.requests[self.path] += 1
        faults = self.server.faults.get(self.path.partition("?")[0].rpartition("/")[2], [])
        if faults:
            self.send_error(faults.pop(0))
            return
        span = self.headers.get("Range")
        if span is None or not self.server.has_ranges:
            super().do_GET()
            return
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        data = path.read_bytes()
        start, stop = (int(part) for part in span.removeprefix("bytes=").split("-"))
        piece = data[start : stop + 1]
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {start}-{start + len(piece) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(piece)))
        self.end_headers()
        self.wfile.write(piece)

    def log_message(self, *words: Any) -> None:
        pass


@contextmanager
def serving(folder: Path, **settings: Any) -> Iterator[Any]:
    """Serve a folder; the server has its address, the requests so far, and faults."""

    class Handler(_Handler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(folder))

    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.requests, server.faults, server.has_ranges = Counter(), {}, True
    server.url = f"http://127.0.0.1:{server.server_address[1]}"
    vars(server).update(settings)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def read(url: str, **options: Any) -> Any:
    with open_source(url, window="full", read_options=ReadOptions(**options)) as source:
        return source.rows(0, source.height).copy()


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_PAUSES", (0.01, 0.01, 0.01))


def test_arrays_images_and_shards(tmp_path: Path) -> None:
    write_zarr(tmp_path / "a.zarr", RGB, zarr_format=2)
    write_ome(tmp_path / "b.ome.zarr", np.moveaxis(RGB, -1, 0), "cyx", "0.5")
    write_zarr(tmp_path / "c.zarr", RGB, chunks=(32, 32, 3), shards=(64, 64, 3))
    write_zarr(tmp_path / "no name", RGB)
    with serving(tmp_path) as server:
        for name in ("a.zarr", "a.zarr/", "b.ome.zarr", "c.zarr", "no name/zarr.json"):
            np.testing.assert_array_equal(read(f"{server.url}/{name}"), RGB)
        for query in ("", "?token=secret"):
            found = read(f"{server.url}/b.ome.zarr/1{query}")
            np.testing.assert_array_equal(found, RGB[::2, ::2])
        read(f"{server.url}/a.zarr?token=secret")
        assert server.requests["/a.zarr/0.0.0?token=secret"] == 1


@pytest.mark.slow
def test_info_and_verify_of_an_address(tmp_path: Path) -> None:
    write_zarr(tmp_path / "a.zarr", RGB)
    with serving(tmp_path) as server:
        done = run("info", f"{server.url}/a.zarr")
        assert "format:      Zarr 3\n" in done.stdout
        done = run("cut", f"{server.url}/a.zarr", "-o", tmp_path / "out/")
        assert done.returncode == 0, done.stderr
        done = run("verify", tmp_path / "out/a.dzi", "--source", f"{server.url}/a.zarr")
        assert done.returncode == 0, done.stderr
        done = run("cut", f"{server.url}/a.zarr", "-o", tmp_path / "out2/", "--resume")
        assert done.returncode == 2
        assert "--resume (resume) needs a file as source; download it first" in done.stderr


def test_each_chunk_is_fetched_once_for_a_cut(tmp_path: Path) -> None:
    write_zarr(tmp_path / "a.zarr", RGB, zarr_format=2)
    with serving(tmp_path) as server:
        report = fasttile.cut(f"{server.url}/a.zarr", tmp_path / "out.dzi", format="png")
        chunks = {path: n for path, n in server.requests.items() if path.endswith(".0")}
    assert (report.width, report.height) == (210, 150)
    assert len(chunks) == 12
    assert set(chunks.values()) == {1}
    with fasttile.open_pyramid(tmp_path / "out.dzi") as result:
        np.testing.assert_array_equal(result.pixels(8, 0, 0), RGB[:, :210])


def test_faults_of_the_server(tmp_path: Path) -> None:
    write_plain(tmp_path / "a.zarr", RGB, (64, 64, 3), fill_value=5)
    with serving(tmp_path) as server:
        url = f"{server.url}/a.zarr"
        server.faults["1.1.0"] = [503, 500, 429]
        np.testing.assert_array_equal(read(url), RGB)  # the fourth request is answered
        server.faults["1.1.0"] = [503] * 4
        with pytest.raises(SourceError, match=r"a\.zarr/1\.1\.0: the server answers 503"):
            read(url)
        server.faults["1.1.0"] = [403]
        with pytest.raises(SourceError, match=r"a\.zarr/1\.1\.0: the server answers 403"):
            read(url, allow_truncated=True)
        server.faults["1.1.0"] = [404]
        assert set(read(url)[64:128, 64:128].flat) == {5}
        (tmp_path / "a.zarr/1.1.0").write_bytes(b"<html>" * 5000)
        with pytest.raises(SourceError, match=r"chunk 1\.1\.0 is damaged"):
            read(url)
        with pytest.raises(SourceNotFoundError, match=r"none\.zarr: there is no array"):
            read(f"{server.url}/none.zarr")


def test_a_server_without_ranges(tmp_path: Path) -> None:
    write_zarr(tmp_path / "c.zarr", RGB, chunks=(32, 32, 3), shards=(64, 64, 3))
    write_ome(tmp_path / "series.zarr/0", RGB[..., 0], "yx")
    (tmp_path / "series.zarr/.zgroup").write_text('{"zarr_format": 2}')
    (tmp_path / "series.zarr/.zattrs").write_text('{"bioformats2raw.layout": 3}')
    with serving(tmp_path, has_ranges=False) as server:
        np.testing.assert_array_equal(read(f"{server.url}/series.zarr")[..., 0], RGB[..., 0])
    with (
        serving(tmp_path, has_ranges=False) as server,
        pytest.raises(SourceError, match=r"no pieces of files \(ranges\), which shards need"),
    ):
        read(f"{server.url}/c.zarr")


def test_secrets_are_in_no_message(tmp_path: Path) -> None:
    write_plain(tmp_path / "a.zarr", RGB, (64, 64, 3))
    (tmp_path / "a.zarr/0.0.0").write_bytes(b"")
    with serving(tmp_path) as server, pytest.raises(SourceError) as caught:
        read(f"{server.url.replace('//', '//user:hush@')}/a.zarr?X-Amz-Signature=hush")
    assert "hush" not in str(caught.value)


def test_other_files_in_such_a_folder_are_images(tmp_path: Path) -> None:
    (tmp_path / "a.zarr").mkdir()
    np.save(tmp_path / "a.zarr/preview.npy", RGB)
    with serving(tmp_path) as server:
        np.testing.assert_array_equal(read(f"{server.url}/a.zarr/preview.npy"), RGB)
