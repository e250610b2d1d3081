"""`fasttile view FOLDER`: which images it finds, its thumbnails, and what it refuses."""

from __future__ import annotations

import http.client
import io
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import tifffile
from PIL import Image

import fasttile
from fasttile.errors import OptionError, SourceError
from fasttile.serve import ViewerServer
from fasttile.serve.gallery import FolderContent, find_items, open_paths
from fasttile.storage.budget import BUDGET
from support.command import COMMAND, run
from support.reading import noise
from support.viewer_results import colour_fields

pytestmark = pytest.mark.usefixtures("no_leaked_thread", "deadlock_timeout")

ODD_NAME = "<b>&amp; \"x' {{title}}.png"
RESULTS: dict[str, dict[str, Any]] = {
    "map.dzi": {},
    "parts.dzi": {"levels": "8-10"},
    "pyramid.tif": {},
    "zoomify": {"layout": "zoomify"},
    "sub/centred": {"layout": "xyz:centre", "format": "png"},
    "sub/deep/z.szi": {},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("scans")
    (top / "sub/.hidden").mkdir(parents=True)
    image = colour_fields(700, 300)
    for name in ("a.jpg", ODD_NAME, ".dot.png", "sub/.hidden/b.png", "sub/c.tif"):
        image.save(top / name)
    for name, options in RESULTS.items():
        fasttile.cut(image, top / name, **options)
    (top / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\njunk")
    (top / "notes.txt").write_text("secret")
    (top / "link.jpg").symlink_to("a.jpg")
    (top / "sub/loop").symlink_to(top)
    return top


NAMES = [
    *(("", name) for name in (ODD_NAME, "a.jpg", "bad.png", "map.dzi", "parts.dzi")),
    *(("", "pyramid.tif"), ("", "zoomify"), ("sub", "c.tif"), ("sub", "centred")),
    ("sub/deep", "z.szi"),
]


@contextmanager
def serve(*paths: Path, **options: Any) -> Iterator[tuple[ViewerServer, Any]]:
    """A server on a thread of its own, and a function that requests a path."""
    messages: list[str] = []
    with (
        open_paths(*paths, **options) as content,
        ViewerServer(content, report=messages.append) as server,
    ):
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()

        def request(path: str, token: str = server.token) -> tuple[int, Any, bytes]:
            connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
            try:
                connection.request("GET", f"/{token}{path}", headers={"Connection": "close"})
                answer = connection.getresponse()
                return answer.status, answer.headers, answer.read()
            finally:
                connection.close()

        try:
            yield server, request
        finally:
            server.shutdown()
            thread.join()
            for other in threading.enumerate():
                if "process_request_thread" in other.name:
                    other.join(20)


def test_all_images_and_results_are_found(folder: Path) -> None:
    found = [*find_items(str(folder))]
    assert [(item.folder, item.name) for item in found if item is not None] == NAMES


def test_each_has_a_thumbnail_and_a_viewer(folder: Path) -> None:
    with serve(folder) as (_, request):
        status, headers, body = request("/")
        assert status == 200
        assert "script-src 'sha256-" in headers["Content-Security-Policy"]
        page = body.decode()
        assert page.count("<li>") == len(NAMES)
        assert "<b>" not in page
        assert "10 images" in page
        assert re.findall("<h2[^>]*>(.*?)</h2>", page) == ["sub", "sub/deep"]
        expected = colour_fields(700, 300).resize((256, 110))
        for number, (_, name) in enumerate(NAMES):
            status, headers, body = request(f"/preview/{number}")
            if name == "bad.png":
                assert status == 422
                assert headers["Content-Type"] == "text/plain; charset=utf-8"
                line = f"{folder}/bad.png: broken PNG: its header cannot be read; is it complete?\n"
                assert body.decode() == line
                assert request(f"/show/{number}/")[::2] == (422, line.encode())
                continue
            assert status == 200, name
            image = Image.open(io.BytesIO(body)).convert("RGB")
            assert image.size == expected.size
            difference = np.abs(np.asarray(image, int) - np.asarray(expected, int))
            assert difference.mean() < 4, (name, difference.mean())
            status, headers, body = request(f"/show/{number}/")
            assert status == 200
            assert f'"root":"../../item/{number}"'.encode() in body
            assert headers["Content-Security-Policy"].startswith("default-src 'none'")
            assert request(f"/item/{number}/8/0/0")[0] == 200, name


def test_options_apply_to_images_not_to_results(folder: Path) -> None:
    with open_paths(folder, region=(0, 0, 100, 300)) as content:
        sizes = {}
        for number, (_, name) in enumerate(NAMES):
            if name != "bad.png":
                preview = content.preview(number)
                assert preview is not None
                sizes[name] = Image.open(io.BytesIO(preview[0])).size
        assert sizes["a.jpg"] == sizes["pyramid.tif"] == (85, 256)
        assert sizes["map.dzi"] == (256, 110)


def test_nothing_else_is_served(folder: Path) -> None:
    with serve(folder) as (server, request):
        for path in (
            *("/preview/10", "/show/10/", "/item/10/0/0/0", "/preview/-1", "/preview/a.jpg"),
            *("/show/0", "/show/0/../../notes.txt", "/notes.txt", "/preview/0/", "/tile/0/0/0"),
            *("/preview/99999999999999999999", "/item/0/99/0/0"),
        ):
            assert request(path)[0] == 404, path
        for path in ("/", "/preview/0", "/show/0/"):
            assert request(path, "x" * len(server.token))[0] == 403


def test_few_pyramids_stay_open(folder: Path) -> None:
    with open_paths(folder) as content:
        assert isinstance(content, FolderContent)
        errors: list[BaseException] = []

        def read(order: range) -> None:
            try:
                for number in order:
                    if NAMES[number][1] != "bad.png":
                        assert content.item_tile(number, 8, 0, 0)
            except BaseException as error:
                errors.append(error)

        orders = [range(10), range(9, -1, -1), range(0, 10, 3), range(10)]
        threads = [threading.Thread(target=read, args=(order,)) for order in orders]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors
        assert len(content._opened) <= BUDGET.open_pyramids


def test_the_number_of_images_and_of_entries_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(9):
        Image.new("L", (3, 2)).save(tmp_path / f"{number}.png")
    monkeypatch.setattr("fasttile.serve.gallery.BUDGET", BUDGET._replace(shown_items=5))
    with open_paths(tmp_path) as content:
        assert b"the first 5 images" in content.page
        assert content.page.count(b"<li>") == 5
    monkeypatch.setattr("fasttile.serve.gallery.BUDGET", BUDGET._replace(listed_entries=7))
    with open_paths(tmp_path) as content:
        assert b"the first 8 images" in content.page


def test_a_folder_that_is_a_result_is_shown_as_one(folder: Path, tmp_path: Path) -> None:
    for path in (folder / "zoomify", folder / "sub/centred"):
        with open_paths(path) as content:
            assert b"700 \xc3\x97 300 pixels" in content.page
    fasttile.cut(colour_fields(70, 30), tmp_path / "alone.dzi")
    with open_paths(tmp_path) as content:
        assert b"70 \xc3\x97 30 pixels" in content.page
    colour_fields(70, 30).save(tmp_path / "alone.png")
    with open_paths(tmp_path) as content:
        assert b"2 images" in content.page


def test_several_paths_are_shown_together(folder: Path) -> None:
    with open_paths(folder / "a.jpg", folder / "map.dzi", folder / "sub") as content:
        page = content.page.decode()
        assert content.title == "a.jpg and 2 more"
        assert page.count("<li>") == 5
        assert f">{folder}/sub/deep</h2>" in page
    with pytest.raises(SourceError, match=r"nothing\.png: there is no such file"):
        open_paths(folder, folder / "nothing.png")
    with pytest.raises(OptionError, match="shown alone"):
        open_paths(np.zeros((9, 9), np.uint8), folder)


def test_an_empty_folder_is_one_line(tmp_path: Path) -> None:
    done = run("view", tmp_path, "--no-browser")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "there is neither an image nor a result in this folder" in done.stderr


def test_a_result_without_small_levels_has_no_thumbnail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.zeros((9, 4200, 3), np.uint8)
    fasttile.cut(pixels, tmp_path / "wide.dzi", levels="13-13", tile_size=32)
    fasttile.cut(pixels[:, :9], tmp_path / "small.dzi")
    monkeypatch.setattr("fasttile.serve.gallery.MAX_LEVEL_TILES", 131)
    with open_paths(tmp_path) as content:
        assert content.preview(0) is not None
        with pytest.raises(SourceError, match=r"wide: its smallest level has 4200×9 pixels in"):
            content.preview(1)


@contextmanager
def view_command(*words: str | Path) -> Iterator[Any]:
    """`fasttile view` as a process of its own; gives a function that requests a path."""
    command = [*COMMAND, "view", "--no-browser", *map(str, words)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        place = urlsplit(process.stdout.readline().split()[0])

        def request(path: str) -> bytes:
            connection = http.client.HTTPConnection("127.0.0.1", place.port or 0, timeout=30)
            connection.request("GET", f"{place.path}{path}", headers={"Connection": "close"})
            answer = connection.getresponse()
            assert answer.status == 200, path
            data = answer.read()
            connection.close()
            return data

        try:
            yield request
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)


@pytest.mark.slow
def test_options_of_the_command_change_the_look(tmp_path: Path) -> None:
    pages = [noise(300, 400, 1, dtype=np.uint16), noise(300, 400, 1, dtype=np.uint16)]
    tifffile.imwrite(tmp_path / "deep.tif", pages[0])
    tifffile.imwrite(tmp_path / "deep.tif", pages[1], append=True)
    words = ["--page", "2", "--region", "30,20,300,200", "--window", "1000,9000"]
    words += ["--shrink", "nearest", "--icc", "drop"]
    options: dict[str, Any] = {"region": (30, 20, 300, 200), "window": (1000, 9000)}
    options |= {"page": 2, "shrink": "nearest", "icc": "drop"}
    with fasttile.open_pyramid(tmp_path / "deep.tif", **options) as pyramid:
        expected = pyramid.tile(9, 1, 0)
        assert expected != b""
    with view_command(tmp_path / "deep.tif", *words) as request:
        assert b"300 \xc3\x97 200 pixels" in request("")
        assert request("tile/9/1/0") == expected
    colour_fields(400, 300).save(tmp_path / "more.png")
    with view_command(tmp_path, *words[2:4], "--window", "90,120") as request:
        assert b"2 images" in request("")
        assert Image.open(io.BytesIO(request("preview/1"))).size == (256, 171)
        with fasttile.open_pyramid(
            tmp_path / "more.png", region=options["region"], window=(90, 120)
        ) as pyramid:
            assert request("item/1/9/1/0") == pyramid.tile(9, 1, 0)
