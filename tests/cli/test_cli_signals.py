"""Signals at any moment, and threads that do not start: one line, and nothing is left behind."""

from __future__ import annotations

import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support.command import folder_entries, noise
from support.command import run as run_command

pytestmark = pytest.mark.slow

SIGNALLED = """
import os, signal, sys

class Signaller:
    \"\"\"Sends a signal to this process when a module is imported.\"\"\"

    def find_spec(self, name, path=None, target=None):
        if name == {module!r} and self in sys.meta_path:
            sys.meta_path.remove(self)
            try:
                os.kill(os.getpid(), {number})
                sum(range(1000))
            except KeyboardInterrupt:
                if not {is_dropped}:
                    raise

sys.meta_path.insert(0, Signaller())
sys.argv = ["fasttile", *{arguments!r}]
from fasttile.__main__ import main
main()
"""


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "a.npy"
    np.save(path, noise(300, 400))
    return path


def run_signalled(
    module: str, number: int, *arguments: str, is_dropped: bool = False
) -> subprocess.CompletedProcess[str]:
    program = SIGNALLED.format(
        module=module, number=int(number), arguments=arguments, is_dropped=is_dropped
    )
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    "module",
    [
        "fasttile.cli",
        "argparse",
        "dataclasses",
        "fasttile.cli.output",
        "fasttile.cli.cut",
        "fasttile.batch.run",
        "numpy",
        "numpy._core.overrides",
        "fasttile.geometry",
        "fasttile.sources.rasters",
        "fasttile.sinks.folder",
    ],
)
@pytest.mark.parametrize("is_dropped", [False, True])
def test_ctrl_c_during_an_import_is_one_line(
    image: Path, tmp_path: Path, module: str, is_dropped: bool
) -> None:
    """Libraries drop the exception, as NumPy does that of the import of datetime."""
    arguments = ("cut", str(image), "-o", str(tmp_path / "out" / "a.dzi"))
    process = run_signalled(module, signal.SIGINT, *arguments, is_dropped=is_dropped)
    assert process.stderr == "fasttile: interrupted; nothing was left behind\n"
    assert process.returncode == 130
    assert process.stdout == ""
    assert folder_entries(tmp_path) == {"a.npy"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("module", ["fasttile.cli.cut", "numpy", "fasttile.sinks.folder"])
def test_other_signals_during_an_import_too(
    image: Path, tmp_path: Path, module: str, number: int
) -> None:
    process = run_signalled(module, number, "cut", str(image), "-o", str(tmp_path / "a.dzi"))
    expected = f"fasttile: ended by signal {int(number)}; nothing was left behind\n"
    assert process.stderr == expected
    assert process.returncode == 128 + number
    assert folder_entries(tmp_path) == {"a.npy"}


@pytest.mark.parametrize("command", ["info", "verify", "view", "collection"])
def test_ctrl_c_during_the_imports_of_each_command(image: Path, command: str) -> None:
    arguments = [command, "create"] if command == "collection" else [command]
    process = run_signalled(
        "numpy", signal.SIGINT, *arguments, str(image), *(["x"] if len(arguments) == 2 else [])
    )
    assert process.stderr == "fasttile: interrupted; nothing was left behind\n"
    assert process.returncode == 130


def test_an_ignored_signal_stays_ignored(image: Path, tmp_path: Path) -> None:
    """As for a program that a shell runs in the background."""
    program = SIGNALLED.format(
        module="numpy",
        number=int(signal.SIGINT),
        arguments=("cut", str(image), "-o", str(tmp_path / "a.dzi"), "-q"),
        is_dropped=False,
    )
    program = f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n{program}"
    process = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert (process.returncode, process.stderr) == (0, "")
    assert (tmp_path / "a.dzi").exists()


def forbid_threads() -> None:
    """Let each thread need more address space for its stack than the process may have."""
    resource.setrlimit(resource.RLIMIT_STACK, (10**11, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_AS, (2 * 10**10, 2 * 10**10))


def commands(image: Path, out: Path) -> dict[str, list[str]]:
    return {
        "cut": ["cut", str(image), "-o", str(out / "a.dzi")],
        "one file": ["cut", str(image), "-o", str(out / "a.szi"), "--threads", "1"],
        "many": ["cut", str(image.parent), "-o", f"{out}/", "--workers", "2"],
        "resume": ["cut", str(image), "-o", str(out / "a.dzi"), "--resume"],
        "verify": ["verify", str(image.parent / "b.dzi")],
    }


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of Linux")
@pytest.mark.parametrize("kind", ["cut", "one file", "many", "resume", "verify"])
def test_a_thread_that_cannot_start_is_one_line(image: Path, tmp_path: Path, kind: str) -> None:
    if kind == "many":
        np.save(tmp_path / "c.npy", noise(30, 40))
    if kind == "verify":
        run_command("cut", image, "-o", tmp_path / "b.dzi", "-q")
    prepare: Callable[[], None] = forbid_threads
    arguments = commands(image, tmp_path / "out")[kind]
    process = run_command(*arguments, preexec_fn=prepare)
    assert process.returncode == 1
    assert process.stderr.count("\n") == 1
    expected = "cannot start a worker" if kind == "many" else "the system starts no further thread"
    assert expected in process.stderr
    assert kind != "cut" or f"fasttile: {image}: " in process.stderr
    assert "unexpected" not in process.stderr
    assert not [name for name in folder_entries(tmp_path / "out") if name[0] != "."]


SIGNAL_WITHIN_A_LOCK = """
import os, signal, sys, threading
from concurrent.futures import ThreadPoolExecutor
import fasttile.cli as cli
from fasttile.cli import verify

ENTER = '''
def enter(self):
    self._lock.__enter__()
    if threading.current_thread() is threading.main_thread() and not sent:
        sent.append(os.kill(os.getpid(), signal.SIGTERM))
'''
sent = []

def work(args):
    with ThreadPoolExecutor(2) as pool:
        [future.result() for future in [pool.submit(int) for _ in range(50)]]
        exec(compile(ENTER, threading.__file__, "exec"), globals())
        threading.Condition.__enter__ = enter
        while True:
            [future.result() for future in [pool.submit(int) for _ in range(50)]]

verify.run = work
sys.argv[1:] = ["verify", "x"]
sys.exit(cli.main())
"""


def test_a_signal_leaves_no_lock_taken() -> None:
    process = subprocess.run(
        [sys.executable, "-c", SIGNAL_WITHIN_A_LOCK],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert process.returncode == 128 + signal.SIGTERM, process.stderr
    assert process.stderr == "fasttile: ended by signal 15; nothing was left behind\n"


SIGNAL_WITHIN_A_READ = """
import os, signal, sys
from fasttile.__main__ import main
from fasttile.storage.random_access import BoundedReader

left = {reads}
plain_read = BoundedReader.read

def read(self, size=-1):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.{name})
    return plain_read(self, size)

BoundedReader.read = read
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.argv[1:] = ["cut", "{image}", "-o", "x.dzi", "--allow-truncated", "-q"]
try:
    main()
finally:
    print("reads", {reads} - left)
"""

DECODED_FORMATS = {
    "a.jp2": {},
    "a.webp": {"lossless": True},
    "a.gif": {},
    "a.png": {},
    "a.jpg": {"progressive": True},
    "a.tga": {"compression": "tga_rle"},
}


@pytest.mark.parametrize("name", DECODED_FORMATS)
def test_a_signal_while_an_image_is_decoded_is_no_damage(tmp_path: Path, name: str) -> None:
    image = Image.fromarray(noise(500, 600))
    (image.convert("P") if name == "a.gif" else image).save(
        tmp_path / name, **DECODED_FORMATS[name]
    )
    interrupted = 0
    for reads in (3, 12, 40):
        for signal_name in ("SIGTERM", "SIGINT")[: 1 + (reads == 12)]:
            program = SIGNAL_WITHIN_A_READ.format(reads=reads, name=signal_name, image=name)
            process = subprocess.run(
                [sys.executable, "-c", program],
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            code = 128 + getattr(signal, signal_name)
            if process.returncode == 0:  # the file was read with fewer calls
                assert int(process.stdout.split()[-1]) < reads
                (tmp_path / "x.dzi").unlink()
                shutil.rmtree(tmp_path / "x_files")
                continue
            interrupted += 1
            assert process.returncode == code, process.stderr
            assert process.stderr.endswith("nothing was left behind\n")
            assert folder_entries(tmp_path) == {name}
    assert interrupted
