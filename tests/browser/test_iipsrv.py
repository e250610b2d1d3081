"""The pyramidal TIFF on a real image server: iipsrv gives it as Deep Zoom, Zoomify and IIIF."""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import urlopen
from xml.etree import ElementTree

import numpy as np
import pytest
from lab_servers import TIMEOUT_SECONDS, find_nginx
from PIL import Image

import fasttile
from support import reference
from support.reference import Array

REQUIRED = os.environ.get("FASTTILE_BROWSER") == "required"

IIPSRV_PROGRAM = Path("/usr/lib/iipimage-server/iipsrv.fcgi")

NGINX_CONF = """\
{user}
daemon off;
worker_processes 1;
pid nginx.pid;
error_log error.log;
events {{ worker_connections 16; }}
http {{
    access_log off;
    client_body_temp_path client;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            fastcgi_pass 127.0.0.1:{backend};
            fastcgi_param QUERY_STRING $query_string;
            fastcgi_param REQUEST_METHOD $request_method;
            fastcgi_param REQUEST_URI $request_uri;
            fastcgi_param HTTP_HOST $http_host;
        }}
    }}
}}
"""

RequestFunction = Callable[[str], bytes]


@pytest.fixture(scope="module")
def request_iipsrv(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RequestFunction]:
    """Ask iipsrv, through nginx."""
    program = shutil.which("iipsrv.fcgi") or (IIPSRV_PROGRAM if IIPSRV_PROGRAM.exists() else None)
    nginx = find_nginx()
    if program is None or nginx is None:
        words = "NO IIPSRV TESTS: iipimage-server or nginx is missing"
        (pytest.fail if REQUIRED else pytest.skip)(words)
    work = tmp_path_factory.mktemp("iipsrv")
    port, backend = _free_ports()
    user = "user root root;" if os.geteuid() == 0 else ""
    (work / "nginx.conf").write_text(NGINX_CONF.format(port=port, backend=backend, user=user))
    commands = [
        [program, "--bind", f"127.0.0.1:{backend}"],
        [nginx, "-p", work, "-c", work / "nginx.conf", "-e", work / "error.log"],
    ]
    environment = {**os.environ, "LOGFILE": str(work / "iipsrv.log"), "VERBOSITY": "1"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    processes = [subprocess.Popen(words, env=environment, **quiet) for words in commands]

    def ask(query: str) -> bytes:
        with urlopen(f"http://127.0.0.1:{port}/?{query}", timeout=TIMEOUT_SECONDS) as answer:
            data: bytes = answer.read()
        return data

    try:
        _wait_for(lambda: ask("nothing"))
        yield ask
    finally:
        for process in processes:
            process.terminate()  # nginx ends its worker then; killed, it could not
            try:
                process.wait(TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _free_ports() -> tuple[int, int]:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("", 0)) as other:
        return one.getsockname()[1], other.getsockname()[1]


def _wait_for(probe: Callable[[], object]) -> None:
    ends = time.monotonic() + TIMEOUT_SECONDS
    while time.monotonic() < ends:
        try:
            probe()
            return
        except HTTPError as answer:
            if answer.code != 502:  # nginx speaks, iipsrv does not yet
                return
        except OSError:
            pass
        time.sleep(0.05)
    raise RuntimeError("iipsrv does not answer")


def gradient_image(width: int, height: int) -> Array:
    """Colours that say where they are, and change slowly, as two JPEGs in a row ask for."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // width, y * 255 // height, (x + y) % 512 // 2], axis=2).astype(
        np.uint8
    )


@pytest.fixture(scope="module", params=["jpeg:quality=95,subsampling=4:4:4", "deflate"])
def tiff_result(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Array]:
    pixels = gradient_image(1301, 903)
    path = tmp_path_factory.mktemp("tiff") / "an image.tif"
    fasttile.cut(pixels, path, format=request.param)
    return path, pixels


def assert_similar(data: bytes, expected: Array) -> None:
    """Nearly the same pixels: iipsrv encodes them once more."""
    found = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    assert found.shape == expected.shape
    assert np.abs(found - expected).mean() < 3


def test_as_deep_zoom(request_iipsrv: RequestFunction, tiff_result: tuple[Path, Array]) -> None:
    path, pixels = tiff_result
    name = quote(str(path))
    descriptor = ElementTree.fromstring(request_iipsrv(f"DeepZoom={name}.dzi"))
    size = descriptor[0].attrib
    assert (int(size["Width"]), int(size["Height"])) == (1301, 903)
    assert descriptor.attrib["TileSize"] == "256"
    levels = reference.levels(pixels)
    for number in (11, 10, 9, 8):
        level = levels[number]
        for col, row in {(0, 0), ((level.shape[1] - 1) // 256, (level.shape[0] - 1) // 256)}:
            tile = request_iipsrv(f"DeepZoom={name}_files/{number}/{col}_{row}.jpg")
            assert_similar(tile, level[256 * row : 256 * row + 256, 256 * col : 256 * col + 256])


def test_as_zoomify(request_iipsrv: RequestFunction, tiff_result: tuple[Path, Array]) -> None:
    path, pixels = tiff_result
    name = quote(str(path))
    said = ElementTree.fromstring(request_iipsrv(f"Zoomify={name}/ImageProperties.xml")).attrib
    assert (said["WIDTH"], said["HEIGHT"], said["TILESIZE"]) == ("1301", "903", "256")
    level = reference.levels(pixels)[11]
    assert_similar(request_iipsrv(f"Zoomify={name}/TileGroup0/3-1-2.jpg"), level[512:768, 256:512])


def test_as_iiif(request_iipsrv: RequestFunction, tiff_result: tuple[Path, Array]) -> None:
    path, pixels = tiff_result
    name = quote(str(path))
    info = json.loads(request_iipsrv(f"IIIF={name}/info.json"))
    assert (info["width"], info["height"]) == (1301, 903)
    assert info["tiles"][0]["scaleFactors"] == [1, 2, 4, 8]
    assert_similar(
        request_iipsrv(f"IIIF={name}/256,512,256,256/256,/0/default.jpg"), pixels[512:768, 256:512]
    )
    half = reference.levels(pixels)[10]
    assert_similar(
        request_iipsrv(f"IIIF={name}/512,0,512,512/256,/0/default.jpg"), half[:256, 256:512]
    )
