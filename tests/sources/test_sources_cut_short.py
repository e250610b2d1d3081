"""A mapped image that another program cuts short while it is read: SIGBUS becomes an error."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from support.command import noise

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the signals of Linux, and its pages"
)

GUARD = "import fasttile; assert fasttile.guard_mapped_files()\n"

READ_AFTER_TRUNCATION = """
import os, sys
import numpy as np
from fasttile import TruncatedError, open_source

path = sys.argv[1]
source = open_source(path)
rows = source.rows(0, 256)
source.populate(rows)
os.truncate(path, 5000)
assert rows[200:].max() == 0
try:
    source.discard(rows)
except TruncatedError as error:
    print(error)
try:
    source.check_intact()
except TruncatedError as error:
    print(error)
"""


def run_code(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process of its own, which a signal may end."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def save_image(folder: Path, kind: str) -> Path:
    """An image of 600×800 pixels in a file that is mapped."""
    path = folder / f"image.{kind}"
    if kind == "npy":
        np.save(path, noise(600, 800))
    else:
        tiles = (64, 64) if kind == "tiled.tif" else None
        tifffile.imwrite(path, noise(600, 800), photometric="rgb", tile=tiles)
    return path


@pytest.mark.parametrize("kind", ["npy", "tif"])
def test_a_lost_page_is_an_error_of_the_reader(tmp_path: Path, kind: str) -> None:
    path = save_image(tmp_path, kind)
    ended = run_code(GUARD + READ_AFTER_TRUNCATION, path)
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.splitlines()
    assert len(lines) == 2
    for line in lines:
        assert line.startswith(f"{path} shrank while it was being read: 5000 bytes are left")


def test_a_library_leaves_the_signal_alone(tmp_path: Path) -> None:
    ended = run_code(READ_AFTER_TRUNCATION, save_image(tmp_path, "npy"))
    assert ended.returncode == -signal.SIGBUS


def test_lost_pages_are_remembered_when_the_file_has_its_size_again(tmp_path: Path) -> None:
    """`cp` cuts a file to nothing first, and then writes it again."""
    code = READ_AFTER_TRUNCATION.replace(
        "try:\n    source.discard", "os.truncate(path, 10**7)\ntry:\n    source.discard", 1
    )
    ended = run_code(GUARD + code, save_image(tmp_path, "npy"))
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("shrank or failed while it was being read") == 2


def test_the_end_of_the_last_page_is_an_error_too(tmp_path: Path) -> None:
    """It reads as zeros without a signal."""
    path = save_image(tmp_path, "npy")
    code = READ_AFTER_TRUNCATION.replace(
        "os.truncate(path, 5000)\nassert rows[200:].max() == 0",
        "os.truncate(path, source.rows(0, 600).nbytes + 128 - 7)",
    )
    ended = run_code(code, path)
    assert ended.stdout.count("1440121 bytes are left of 1440128 needed") == 2


OUTSIDE_FAULTS = {
    "sent": "import os, signal; os.kill(os.getpid(), signal.SIGBUS)",
    "other map": """
import mmap, os, sys

file = open(sys.argv[1], "r+b")
other = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
os.truncate(file.fileno(), 0)
other[100_000]
""",
    "closed source": """
import mmap, os, sys
from fasttile import open_source

with open_source(sys.argv[1]) as source:
    size = source.rows(0, 600).nbytes + 128
file = open(sys.argv[1], "r+b")
other = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)  # often at the same address
os.truncate(file.fileno(), 0)
other[100_000]
""",
}


@pytest.mark.parametrize("name", OUTSIDE_FAULTS)
def test_other_faults_keep_their_action(tmp_path: Path, name: str) -> None:
    path = save_image(tmp_path, "npy")
    assert run_code(GUARD + OUTSIDE_FAULTS[name], path).returncode == -signal.SIGBUS
    path = save_image(tmp_path, "npy")
    reported = run_code(
        f"import faulthandler; faulthandler.enable()\n{GUARD}{OUTSIDE_FAULTS[name]}", path
    )
    assert reported.returncode == -signal.SIGBUS, reported.stderr
    assert "Fatal Python error: Bus error" in reported.stderr


ITERATION = """
import os, sys
import numpy as np
import fasttile
from fasttile.walk import walk

path, number, expected = sys.argv[1], int(sys.argv[2]), {}
for tile, pixels in fasttile.iter_tiles(path, tile_size=64):
    expected[tile] = pixels
count = 0
try:
    for tile, pixels in fasttile.iter_tiles(path, tile_size=64):
        assert (pixels == expected[tile]).all(), tile
        count += 1
        if count == number:
            os.truncate(path, 1000)
except fasttile.TruncatedError as error:
    print("shrank" in str(error))
assert count == number, count
"""


@pytest.mark.parametrize("kind", ["npy", "tif", "tiled.tif"])
@pytest.mark.parametrize("number", [1, 60])
def test_no_tile_of_lost_pages_is_yielded(tmp_path: Path, kind: str, number: int) -> None:
    ended = run_code(GUARD + ITERATION, save_image(tmp_path, kind), number)
    assert (ended.stdout, ended.stderr) == ("True\n", "")


def test_many_threads_lose_pages_at_once(tmp_path: Path) -> None:
    code = """
import os, sys, threading
from fasttile import TruncatedError, open_source

path = sys.argv[1]
sources = [open_source(path) for _ in range(8)]
views = [source.rows(0, 600) for source in sources]
os.truncate(path, 4096)
sums = []
threads = [threading.Thread(target=lambda: sums.append(sum(int(v[300:].max()) for v in views)))
           for _ in range(16)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert sums == [0] * 16
for source, view in zip(sources, views):
    os.truncate(path, 10**7)
    try:
        source.check_intact()
    except TruncatedError:
        print("lost")
"""
    ended = run_code(GUARD + code, save_image(tmp_path, "npy"))
    assert ended.stdout == "lost\n" * 8, ended.stderr
