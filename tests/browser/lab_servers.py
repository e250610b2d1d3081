"""Static servers, each on a free port of this machine: nginx, and Python's own."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

TIMEOUT_SECONDS = 10
"""Seconds until a server counts as dead."""

NGINX_CONF = """\
{user}
daemon off;
worker_processes 1;
pid nginx.pid;
error_log error.log;
events {{ worker_connections 64; }}
http {{
    access_log off;
    default_type application/octet-stream;
    types {{
        text/html html;
        text/css css;
        text/javascript js;
        application/json json;
        application/xml xml dzi;
        image/png png;
        image/jpeg jpg;
        image/webp webp;
    }}
    client_body_temp_path client;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    server {{
        listen 127.0.0.1:{port};
        root "{root}";
    }}
}}
"""


@dataclass(frozen=True)
class StaticServer:
    """A server that is running.

    Args:
        name: What it is.
        root: The folder that it serves.
        origin: Its address, without a slash at its end.
    """

    name: str
    root: Path
    origin: str


def find_nginx() -> str | None:
    """Where nginx is; Debian puts it where only root looks."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


@contextmanager
def run_nginx(root: Path, work: Path) -> Iterator[StaticServer]:
    """An nginx of its own, that serves `root` and keeps its files in `work`.

    It inherits its socket, as on an upgrade: the port is known, and nobody else's, before it runs.
    """
    program = find_nginx()
    assert program is not None
    log = work / "stderr.log"
    with socket.create_server(("127.0.0.1", 0)) as listening, log.open("wb") as stderr:
        port = listening.getsockname()[1]
        # As root it would serve as somebody who may not look into temporary folders.
        user = "user root root;" if os.geteuid() == 0 else ""
        (work / "nginx.conf").write_text(NGINX_CONF.format(port=port, root=root, user=user))
        process = subprocess.Popen(
            [program, "-p", work, "-c", work / "nginx.conf", "-e", work / "error.log"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            pass_fds=[listening.fileno()],
            env={**os.environ, "NGINX": f"{listening.fileno()};"},
        )
    try:
        server = StaticServer("nginx", root, f"http://127.0.0.1:{port}")
        try:
            urlopen(f"{server.origin}/pages/lab.js", timeout=TIMEOUT_SECONDS).close()
        except OSError as error:
            logs = (work / "error.log", log)
            words = "".join(file.read_text() for file in logs if file.exists())
            raise RuntimeError(f"nginx does not serve: {words}") from error
        yield server
    finally:
        _terminate(process)


@contextmanager
def run_python_server(root: Path) -> Iterator[StaticServer]:
    """`python -m http.server`, in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "-d", root],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        port = re.search(r"port (\d+)", line)
        if port is None:
            raise RuntimeError(f"http.server does not start: {line!r}")
        yield StaticServer("http.server", root, f"http://127.0.0.1:{port[1]}")
    finally:
        _terminate(process)
        process.stdout.close()


def _terminate(process: subprocess.Popen[bytes] | subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
