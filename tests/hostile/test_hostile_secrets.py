"""Passwords, tokens and queries of addresses appear in no output and in no file."""

from __future__ import annotations

import io
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fasttile
from support.command import COMMAND, run_on_terminal
from support.raw_server import answering

pytestmark = pytest.mark.slow

SECRET = "planted7secret"

Arguments = tuple[str | Path, ...]


def image_file() -> bytes:
    pixels = np.random.default_rng(7).integers(0, 256, (60, 90, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def http_response(status: str, body: bytes = b"", *headers: str) -> bytes:
    lines = (f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "Connection: close")
    return "\r\n".join((*lines, "", "")).encode() + body


def secret_url(port: int, name: str = "a.png") -> str:
    return f"http://{SECRET}user:{SECRET}@127.0.0.1:{port}/{name}?sig={SECRET}&b={SECRET}#{SECRET}"


def check_no_secret(folder: Path, process: subprocess.CompletedProcess[bytes]) -> None:
    """Check that neither the output nor a file below the folder has the secret."""
    for line in (process.stdout + process.stderr).splitlines():
        assert SECRET.encode() not in line
    for path in folder.rglob("*"):
        assert SECRET not in path.name
        if path.is_file():
            assert SECRET.encode() not in path.read_bytes(), path


def run_with_secrets(
    folder: Path, *arguments: str | Path, **environment: str
) -> subprocess.CompletedProcess[bytes]:
    """Run a command with --verbose, which shows all that is shown without it, and tracebacks."""
    command = [*COMMAND, *map(str, arguments), "--verbose"]
    process = (
        run_on_terminal(command, folder, **environment)
        if "--progress" in arguments
        else subprocess.run(
            command,
            capture_output=True,
            timeout=60,
            check=False,
            cwd=folder,
            env={**os.environ, **environment},
        )
    )
    check_no_secret(folder, process)
    return process


def other(url: str) -> str:
    """The same address of an image with another name."""
    return url.replace("a.png", "b.png") if "a.png" in url else f"{url}2"


def cut_one(folder: Path, url: str) -> Arguments:
    return "cut", url, "--report", "report", "--progress", "--overwrite"


def cut_two(folder: Path, url: str) -> Arguments:
    return "cut", url, other(url), "-o", "out/", "--report", "report", "--progress", "--overwrite"


def cut_in_workers(folder: Path, url: str) -> Arguments:
    return "cut", url, other(url), "-o", "out/", "--workers", "2", "--overwrite"


def cut_pages(folder: Path, url: str) -> Arguments:
    return "cut", url, "-o", "out/", "--page", "all", "--overwrite"


def cut_to_a_url(folder: Path, url: str) -> Arguments:
    return "cut", "a.png", "-o", url


def cut_to_a_url_that_names_a_kind(folder: Path, url: str) -> Arguments:
    return "cut", "a.png", "-o", f"{url}.dzi"


def cut_by_dask(folder: Path, url: str) -> Arguments:
    return "cut", "a.png", "--workers", url.replace("http://", "dask://")


def cut_with_resume(folder: Path, url: str) -> Arguments:
    return "cut", url, "-o", "out.dzi", "--resume"


def cut_a_batch_with_resume(folder: Path, url: str) -> Arguments:
    return "cut", url, "map.dzi", "-o", "out/", "--resume", "--report", "report"


def cut_two_of_a_name(folder: Path, url: str) -> Arguments:
    return "cut", url, f"{url}&c", "-o", "out/"


def cut_without_a_name(folder: Path, url: str) -> Arguments:
    return "cut", url.replace("a.png", "")


def cut_a_missing_list(folder: Path, url: str) -> Arguments:
    return "cut", f"@{url}", "-o", "out/"


def cut_with_a_report_at_a_url(folder: Path, url: str) -> Arguments:
    return "cut", "a.png", "-o", "out/", "--report", url


def info(folder: Path, url: str) -> Arguments:
    return "info", url


def info_of_two(folder: Path, url: str) -> Arguments:
    return "info", "a.png", url


def verify(folder: Path, url: str) -> Arguments:
    return "verify", url


def verify_with_a_source(folder: Path, url: str) -> Arguments:
    return "verify", "map.dzi", "--source", url


def repair_with_a_source(folder: Path, url: str) -> Arguments:
    return "verify", "map.dzi", "--repair", "--source", url


def view(folder: Path, url: str) -> Arguments:
    return "view", url


def collection_of_a_url(folder: Path, url: str) -> Arguments:
    return "collection", "create", "new.dzc", url, "--progress", "--overwrite"


def collection_at_a_url(folder: Path, url: str) -> Arguments:
    return "collection", "create", f"{url}.dzc", "a.png"


def collection_with_images_at_a_url(folder: Path, url: str) -> Arguments:
    return "collection", "create", "new.dzc", "a.png", "--images", url


def removal_of_a_url(folder: Path, url: str) -> Arguments:
    return "collection", "remove", "wall.dzc", url


CASES: list[Callable[[Path, str], Arguments]] = [
    cut_one,
    cut_two,
    cut_in_workers,
    cut_pages,
    cut_to_a_url,
    cut_to_a_url_that_names_a_kind,
    cut_by_dask,
    cut_with_resume,
    cut_a_batch_with_resume,
    cut_two_of_a_name,
    cut_without_a_name,
    cut_a_missing_list,
    cut_with_a_report_at_a_url,
    info,
    info_of_two,
    verify,
    verify_with_a_source,
    repair_with_a_source,
    view,
    collection_of_a_url,
    collection_at_a_url,
    collection_with_images_at_a_url,
    removal_of_a_url,
]

ADDRESSES = {
    "refused": secret_url(1),
    "spaces": f"http://{SECRET}:a {SECRET}@127.0.0.1:1/a b.png?a={SECRET}",
    "no host": f"http://{SECRET}:{SECRET}",
    "question mark": f"http://user:7?{SECRET}@127.0.0.1:1/a.png",
    "ftp": f"ftp://user:{SECRET}@127.0.0.1/a.png?{SECRET}",
    "s3": f"s3://AKIA:{SECRET}@bucket/a.png?X-Amz-Signature={SECRET}",
}


SLOW, OTHERS = pytest.mark.slow, [name for name in ADDRESSES if name != "refused"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with an image, and a result and a collection of it."""
    (tmp_path / "a.png").write_bytes(image_file())
    fasttile.cut(tmp_path / "a.png", tmp_path / "map.dzi")
    fasttile.collection.create(tmp_path / "wall.dzc", [tmp_path / "map.dzi"])
    return tmp_path


@pytest.mark.parametrize(
    "name",
    [
        name if name == "refused" else pytest.param(name, marks=pytest.mark.slow)
        for name in ADDRESSES
    ],
)
def test_failures_hide_secrets(name: str, folder: Path) -> None:
    for case in CASES:
        run_with_secrets(folder, *case(folder, ADDRESSES[name]))


def test_successes_hide_secrets(folder: Path) -> None:
    with answering(http_response("200 OK", image_file())) as port:
        for case in (
            cut_one,
            cut_two,
            cut_in_workers,
            cut_pages,
            info,
            verify_with_a_source,
            repair_with_a_source,
            collection_of_a_url,
        ):
            process = run_with_secrets(folder, *case(folder, secret_url(port)))
            assert process.returncode == 0, (case, process.stderr)


RESPONSES = {
    "not found": http_response(f"404 http://user:{SECRET}@h/?a={SECRET}"),
    "redirect": http_response("302 x", b"", f"Location: http://u:{SECRET}@127.0.0.1:1/?a={SECRET}"),
    "redirect to ftp": http_response("302 x", b"", f"Location: ftp://u:{SECRET}@h/?a={SECRET}"),
}


@pytest.mark.parametrize("name", RESPONSES)
def test_answers_of_servers_hide_secrets(name: str, folder: Path) -> None:
    with answering(RESPONSES[name]) as port:
        for case in (cut_one, cut_two, info, verify_with_a_source, collection_of_a_url):
            assert run_with_secrets(folder, *case(folder, secret_url(port))).returncode == 1


@pytest.mark.parametrize(
    "address", [f"http://user:{SECRET}@127.0.0.1:1", f"http://user:{SECRET}", SECRET]
)
def test_proxies_hide_their_passwords(address: str, folder: Path) -> None:
    for case in (cut_one, info):
        run_with_secrets(folder, *case(folder, secret_url(1)), http_proxy=address, no_proxy="")


@pytest.mark.parametrize("status", ["403 Forbidden", "404 Not Found", "301 Moved"])
def test_stores_hide_secrets(status: str, folder: Path) -> None:
    pytest.importorskip("obstore")
    with answering(http_response(status)) as port:
        environment = {
            "AWS_ENDPOINT_URL": f"http://user:{SECRET}@127.0.0.1:{port}/?a={SECRET}",
            "AWS_ACCESS_KEY_ID": f"{SECRET}id",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_SESSION_TOKEN": SECRET,
            "AWS_REGION": "eu",
        }
        address = f"s3://bucket/b.png?X-Amz-Signature={SECRET}&b={SECRET}"
        for case in (
            cut_one,
            cut_two,
            cut_to_a_url_that_names_a_kind,
            info,
            cut_a_batch_with_resume,
        ):
            run_with_secrets(folder, *case(folder, address), **environment)


def test_a_batch_that_is_resumed_keeps_no_secret(folder: Path) -> None:
    """The ledger has names of results and fingerprints of sources, but no addresses."""
    arguments = ("cut", "a.png", secret_url(1, "b.png"), "-o", "out/", "--resume")
    assert run_with_secrets(folder, *arguments).returncode == 1
    assert (folder / "out" / ".fasttile-batch").is_dir()
