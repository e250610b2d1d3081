"""A real server that speaks S3, on this machine, and a proxy before it that can misbehave."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import suppress

import pytest
from proxy import FaultyProxy

START_TIMEOUT_SECONDS = 60.0


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="session")
def moto_port() -> Iterator[int]:
    """The port of moto's server."""
    port = free_port()
    program = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(program, stdout=quiet, stderr=quiet)
    try:
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while True:
            with suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/moto-api/").close()
                break
            assert time.monotonic() < deadline, "moto does not start"
            assert process.poll() is None, "moto has ended"
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(autouse=True)
def _no_journal_is_left_open() -> Iterator[None]:
    """Each cut closes its journal, whose thread would else stay for the life of the program."""
    yield
    names = [thread.name for thread in threading.enumerate()]
    assert "fasttile-journal" not in names


@pytest.fixture
def proxy(moto_port: int) -> Iterator[FaultyProxy]:
    """The proxy between the tests and the server."""
    with FaultyProxy(moto_port) as proxy:
        yield proxy


@pytest.fixture
def bucket(proxy: FaultyProxy, moto_port: int, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of an empty bucket, which the environment leads to."""
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush-hush")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    request = urllib.request.Request(f"http://127.0.0.1:{moto_port}/{name}", method="PUT")
    urllib.request.urlopen(request).close()
    return f"s3://{name}"
