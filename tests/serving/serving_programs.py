"""nginx and Varnish with the very files of docs/serving, and a bucket, each on a free port."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from tempfile import mkdtemp

DOCS = Path(__file__).parents[2] / "docs"
CONFIGURATIONS = DOCS / "serving"

TIMEOUT_SECONDS = 20
"""Seconds until a program counts as dead."""

SYSTEM_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])

# What Debian's own nginx.conf says about files, so that the documented one is seen to fit into it.
NGINX_CONF = """\
{user}
daemon off;
worker_processes 1;
pid {work}/nginx.pid;
events {{ worker_connections 64; }}
http {{
    sendfile on;
    tcp_nopush on;
    types_hash_max_size 2048;
    types {{ text/plain dzi; }}
    default_type application/octet-stream;
    gzip on;
    log_format asked '$request_method $request_uri $status $http_if_none_match';
    access_log {work}/access.log asked;
    client_body_temp_path {work}/client;
    proxy_temp_path {work}/proxy;
    fastcgi_temp_path {work}/fastcgi;
    uwsgi_temp_path {work}/uwsgi;
    scgi_temp_path {work}/scgi;
    include {work}/conf.d/*.conf;
}}
"""


class ServerResponse:
    """What a server said.

    Attributes:
        status: The code.
        body: The bytes, as they were sent.
    """

    def __init__(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.status = status
        self.body = body
        self._headers = headers

    def __getitem__(self, name: str) -> str | None:
        """A header, None if it was not sent; one that was sent twice is a failure."""
        found = [value for key, value in self._headers if key.lower() == name.lower()]
        assert len(found) < 2, f"{name} was sent {len(found)} times: {found}"
        return found[0] if found else None


@dataclass(frozen=True)
class LocalServer:
    """A server on this machine.

    Args:
        port: Where it listens.
        purge_port: Where Varnish takes PURGE.
        tls_port: Where nginx speaks TLS, if it does.
        log: What nginx was asked: method, address, status, and If-None-Match.
    """

    port: int
    purge_port: int = 0
    tls_port: int = 0
    access_log: Path = Path()

    def request(
        self,
        path: str,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        *,
        port: int | None = None,
    ) -> ServerResponse:
        """Send a request, its path as it is."""
        connection = HTTPConnection("127.0.0.1", port or self.port, timeout=TIMEOUT_SECONDS)
        said = dict(headers or {})
        try:
            connection.putrequest(method, path, skip_host="Host" in said, skip_accept_encoding=True)
            for name, value in said.items():
                connection.putheader(name, value)
            connection.endheaders()
            answer = connection.getresponse()
            return ServerResponse(answer.status, answer.getheaders(), answer.read())
        finally:
            connection.close()

    def purge(self, path: str) -> ServerResponse:
        """Have Varnish forget a result."""
        return self.request(path, "PURGE", port=self.purge_port)


@dataclass(frozen=True)
class ServedFolder:
    """A folder that is served.

    Args:
        root: The folder.
        at: Its address at both servers.
        nginx, varnish: Who serves it.
    """

    folder: Path
    url_path: str
    nginx: LocalServer
    varnish: LocalServer


def find_program(name: str) -> str | None:
    """Where a program is; Debian puts servers where only root looks."""
    return shutil.which(name, path=SYSTEM_PATH)


def missing_programs() -> list[str]:
    """What is not there of what the tests need."""
    compiler = find_program("cc") or find_program("gcc")
    found = {name: find_program(name) for name in ("nginx", "varnishd", "varnishadm")}
    return [name for name, path in {**found, "cc": compiler}.items() if path is None]


@contextmanager
def work_folder() -> Iterator[Path]:
    """A folder with a short path, which sockets need, and which any user may look into."""
    folder = Path(mkdtemp(prefix="fasttile-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def run_nginx(root: Path, certificate: Path | None = None) -> Iterator[LocalServer]:
    """An nginx with docs/serving/nginx.conf, that serves a folder.

    It inherits its sockets, as on an upgrade: the ports are nobody else's before it runs.

    Args:
        root: The folder.
        certificate: A key and its certificate, in one file, to serve by TLS and HTTP/2 too.
    """
    with ExitStack() as stack:
        work = stack.enter_context(work_folder())
        with ExitStack() as sockets:
            count = 1 if certificate is None else 2
            inherited = [
                sockets.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)
            ]
            ports = [one.getsockname()[1] for one in inherited]
            fds = tuple(one.fileno() for one in inherited)
            _write_nginx(work, root, ports, certificate)
            command = [find_program("nginx"), "-p", work, "-c", work / "nginx.conf"]
            command += ["-e", work / "error.log"]
            said = {"NGINX": "".join(f"{fd};" for fd in fds)}
            stack.enter_context(_run_program(command, work / "output", fds, said))
        server = LocalServer(ports[0], tls_port=ports[-1], access_log=work / "access.log")
        _wait_for(lambda: server.request("/"), work / "error.log", work / "output")
        yield server


def _write_nginx(work: Path, root: Path, ports: list[int], certificate: Path | None) -> None:
    user = "user root root;" if os.geteuid() == 0 else ""
    (work / "nginx.conf").write_text(NGINX_CONF.format(work=work, user=user))
    (work / "conf.d").mkdir()
    places = {"listen 8080;": f"listen 127.0.0.1:{ports[0]};", "/srv/tiles;": f'"{root}";'}
    if certificate is not None:
        places |= {
            "# listen 443 ssl http2;": f"listen 127.0.0.1:{ports[1]} ssl http2;",
            "# ssl_certificate /etc/ssl/tiles.pem;": f"ssl_certificate {certificate};",
            "# ssl_certificate_key /etc/ssl/tiles.key;": f"ssl_certificate_key {certificate};",
        }
    text = (CONFIGURATIONS / "nginx.conf").read_text()
    (work / "conf.d" / "fasttile.conf").write_text(replace_all(text, places))


@contextmanager
def run_varnish(name: str, replacements: Mapping[str, str]) -> Iterator[LocalServer]:
    """A Varnish with a file of docs/serving.

    Args:
        name: The file.
        places: What is said in it otherwise: where the origin is.
    """
    with ExitStack() as stack:
        work = stack.enter_context(work_folder())
        for file in CONFIGURATIONS.glob("*.vcl"):
            shutil.copy(file, work)
        configuration = work / name
        configuration.write_text(replace_all(configuration.read_text(), replacements))
        command = [
            find_program("varnishd"),
            "-F",
            "-j",
            "none",
            "-n",
            work / "n",
            "-f",
            configuration,
        ]
        sockets = ["-a", "http=127.0.0.1:0", "-a", "purge=127.0.0.1:0"]
        little = ["-s", "malloc,16m", "-p", "thread_pools=1", "-p", "thread_pool_min=10"]
        stack.enter_context(_run_program([*command, *sockets, *little], work / "output"))
        ports: dict[str, int] = {}
        _wait_for(lambda: ports.update(_listening_ports(work / "n")), work / "output")
        yield LocalServer(ports["http"], ports["purge"])


def run_varnish_before(origin: LocalServer) -> AbstractContextManager[LocalServer]:
    """A Varnish with docs/serving/varnish.vcl, before an origin on this machine."""
    return run_varnish("varnish.vcl", {'.port = "8080"': f'.port = "{origin.port}"'})


def _listening_ports(work: Path) -> dict[str, int]:
    said = subprocess.run(
        [find_program("varnishadm") or "", "-n", work, "debug.listen_address"],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    found = re.findall(r"^(\w+) 127\.0\.0\.1 (\d+)$", said.stdout, re.MULTILINE)
    if {name for name, _ in found} != {"http", "purge"}:
        raise ConnectionError(said.stdout + said.stderr)
    return {name: int(port) for name, port in found}


@contextmanager
def run_bucket_server() -> Iterator[LocalServer]:
    """A server that speaks as S3 does."""
    with ExitStack() as stack:
        work = stack.enter_context(work_folder())
        output = work / "output"
        command = [Path(sys.executable).with_name("moto_server"), "-H", "127.0.0.1", "-p", "0"]
        stack.enter_context(_run_program(command, output))
        found: list[str] = []
        _wait_for(lambda: found.append(_logged_port(output)), output)
        yield LocalServer(int(found[0]))


def _logged_port(log_path: Path) -> str:
    port = re.search(r"http://127\.0\.0\.1:(\d+)", log_path.read_text())
    if port is None:
        raise ConnectionError("it has not said where it listens")
    return port[1]


def replace_all(text: str, replacements: Mapping[str, str]) -> str:
    """A text with some of its words replaced, which all have to be there."""
    for word, other in replacements.items():
        assert word in text, f"the configuration has no {word!r} to be replaced"
        text = text.replace(word, other)
    return text


@contextmanager
def _run_program(
    command: list[str | Path | None],
    log_path: Path,
    fds: tuple[int, ...] = (),
    environment: Mapping[str, str] | None = None,
) -> Iterator[None]:
    """A program, until the end of the block, however that comes."""
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=fds,
            env={**os.environ, "PATH": SYSTEM_PATH, **(environment or {})},
        )
    try:
        yield
    finally:
        process.terminate()  # nginx and Varnish end their own processes then
        try:
            process.wait(TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(probe: Callable[[], object], *logs: Path) -> None:
    ends = time.monotonic() + TIMEOUT_SECONDS
    while True:
        try:
            probe()
            return
        except OSError as error:
            if time.monotonic() > ends:
                words = "".join(log.read_text() for log in logs if log.exists())
                raise RuntimeError(f"a server does not start: {words}") from error
        time.sleep(0.05)


def wait_until(condition: Callable[[], bool], failure_message: str) -> None:
    """Wait for something that comes by itself.

    Args:
        holds: Whether it is there.
        what: What to say if it does not come.
    """
    ends = time.monotonic() + TIMEOUT_SECONDS
    while not condition():
        assert time.monotonic() < ends, failure_message
        time.sleep(0.1)
