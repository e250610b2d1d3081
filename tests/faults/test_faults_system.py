"""What really happens to programs: full disks, limits, signals, folders and sources that change."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from shutil import copyfile, rmtree

import numpy as np
import pytest
import tifffile
from disks import mounted_disk
from programs import FASTTILE_COMMAND, TIMEOUT_SECONDS, ProcessResult, run, run_cut, start_process
from shim import SyscallFault
from trees import FileTree, changed_files, count_tiles, file_tree, identify_result, published_files
from watcher import ResultWatcher

import fasttile
from support.sampling import sampled

pytestmark = pytest.mark.slow

NAME = "x.dzi"

RESULTS = ["x.dzi", "x.szi", "x.tif", "x.pmtiles", "x.mbtiles"]

SUCCESS = ProcessResult(0, "", "")


def cut_completely(image: Path, target: Path, *arguments: str) -> FileTree:
    """An undisturbed result."""
    assert run_cut(image, "-o", target, "--quiet", *arguments) == SUCCESS
    return file_tree(target.parent)


def start_cut(
    image: Path, target: Path, *arguments: str, min_files: int = 50
) -> subprocess.Popen[str]:
    """A cut that has come so far that there are some tiles."""
    process = start_process(FASTTILE_COMMAND, "cut", image, "-o", target, "--quiet", *arguments)
    work = target.parent / f".{target.name}.fasttile"
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while count_tiles(work) < min_files:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    return process


def wait_for_end(process: subprocess.Popen[str]) -> ProcessResult:
    out, err = process.communicate(timeout=TIMEOUT_SECONDS)
    return ProcessResult(process.returncode, out, err)


# ---- disks -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", sampled(RESULTS[:-1], RESULTS[:2])
)  # SQLite does not find its way to such a disk
def test_a_disk_that_is_full(tmp_path: Path, image: Path, name: str) -> None:
    """Not a byte is left there; with more room the same command goes through."""
    complete = cut_completely(image, tmp_path / "whole" / name)
    place = tmp_path / "disk"
    place.mkdir()
    with mounted_disk(place, "size=64k") as small:
        assert "No space left on device" in run_cut(image, "-o", small.path / name).error_line()
        assert file_tree(small.path) == {}
        small.remount("size=16m")
        assert run_cut(image, "-o", small.path / name, "--quiet") == SUCCESS
        assert changed_files(file_tree(small.path), complete) == []


def test_a_full_disk_and_an_older_result(tmp_path: Path, image: Path) -> None:
    place = tmp_path / "disk"
    place.mkdir()
    with mounted_disk(place, "size=1m") as small:
        old = cut_completely(image, small.path / NAME)
        (small.path / "ballast").write_bytes(bytes(2**20 - 500_000))
        ended = run_cut(image, "-o", small.path / NAME, "--overwrite", "--format", "png")
        assert "No space left on device" in ended.error_line()
        (small.path / "ballast").unlink()
        assert changed_files(file_tree(small.path), old) == []


def test_a_disk_without_room_for_more_files(tmp_path: Path, image: Path) -> None:
    place = tmp_path / "disk"
    place.mkdir()
    with mounted_disk(place, "nr_inodes=25") as small:
        assert "No space left on device" in run_cut(image, "-o", small.path / NAME).error_line()
        assert file_tree(small.path) == {}


def test_a_disk_that_may_only_be_read(tmp_path: Path, image: Path) -> None:
    place = tmp_path / "disk"
    place.mkdir()
    with mounted_disk(place, "size=1m") as small:
        old = cut_completely(image, small.path / NAME)
        small.remount("ro")
        for words in (["--overwrite"], ["--overwrite", "--resume"]):
            line = run_cut(image, "-o", small.path / NAME, *words).error_line()
            assert "Read-only file system" in line
            assert changed_files(file_tree(small.path), old) == []


@contextmanager
def endless_server() -> Iterator[str]:
    """The address of an image that has no length and no end."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            with suppress(OSError):
                while True:
                    self.wfile.write(bytes(2**16))

        def log_message(self, *words: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/endless.png"
        server.shutdown()


@pytest.mark.parametrize("kind", ["address", "pipe"])
def test_an_endless_source_does_not_fill_the_disk(tmp_path: Path, kind: str) -> None:
    """It is refused while a tenth of the space is left."""
    place = tmp_path / "disk"
    place.mkdir()
    words = ["--raw", "100000x100000x1", "-o", tmp_path / "out" / NAME]
    with mounted_disk(place, "size=40m") as small, endless_server() as address:
        extra = {"TMPDIR": str(small.path)}
        lowest = shutil.disk_usage(small.path).free
        zeros = subprocess.Popen(["cat", "/dev/zero"], stdout=subprocess.PIPE)
        with zeros:
            source = address if kind == "address" else "-"
            process = start_process(
                FASTTILE_COMMAND, "cut", source, *words, extra=extra, stdin=zeros.stdout
            )
            while process.poll() is None:
                lowest = min(lowest, shutil.disk_usage(small.path).free)
                time.sleep(0.001)
            zeros.kill()
        line = wait_for_end(process).error_line()
        assert "its size is unknown" in line
        assert f"does not fit into {small.path}" in line
        assert lowest > 3 * 2**20
        assert shutil.disk_usage(small.path).free > 39 * 2**20
    assert not (tmp_path / "out").exists()


# ---- limits ------------------------------------------------------------------------------------


def resource_limit(kind: int, amount: int) -> Callable[[], None]:
    """What sets a limit in a process that begins."""
    return lambda: resource.setrlimit(kind, (amount, amount))


@pytest.mark.parametrize("name", sampled(RESULTS, RESULTS[:2]))
def test_files_that_may_not_grow(tmp_path: Path, image: Path, name: str) -> None:
    """Python takes no notice of SIGXFSZ, so the write itself fails."""
    limit = resource_limit(resource.RLIMIT_FSIZE, 5000)
    out, format_ = tmp_path / "out", "deflate" if name.endswith(".tif") else "png"
    line = run_cut(image, "-o", out / name, "--format", format_, preexec_fn=limit).error_line()
    assert "File too large" in line or "disk I/O error" in line
    assert not out.exists()


@pytest.mark.slow
def test_too_few_files_at_a_time(tmp_path: Path, image: Path) -> None:
    """However few there may be: all goes well, or one line says so, and nothing is left."""
    complete = cut_completely(image, tmp_path / "whole" / NAME)
    codes = set()
    for handles, words in ((5, []), (7, ["--resume"]), (9, []), (10, ["--resume"]), (40, [])):
        out = tmp_path / "out"
        limit = resource_limit(resource.RLIMIT_NOFILE, handles)
        ended = run_cut(image, "-o", out / NAME, "--quiet", *words, preexec_fn=limit)
        codes.add(ended.exit_code)
        assert ended == SUCCESS or "Too many open files" in ended.stderr
        assert ended.exit_code == 0 or ended.stderr.count("\n") == 1
        assert identify_result(out, NAME, {"whole": complete}) == (
            "nothing" if ended.exit_code else "whole"
        )
        rmtree(out, ignore_errors=True)
    assert codes == {0, 1}


@pytest.mark.slow
def test_too_little_memory(tmp_path: Path, large_source: Path) -> None:
    """Wherever it runs out: in the libraries that start up, in threads, for strips or for tiles."""
    cut_completely(large_source, tmp_path / "out" / NAME, "--tile-size", "700")
    old = file_tree(tmp_path / "out")
    failed = 0
    for megabytes in (80, 140, 180, 300):
        limit = resource_limit(resource.RLIMIT_AS, megabytes * 2**20)
        words = ["-o", tmp_path / "out" / NAME, "--overwrite", "--tile-size", "700", "--quiet"]
        with ResultWatcher(tmp_path / "out", NAME, {"old": old}).watching():
            ended = run_cut(large_source, *words, preexec_fn=limit)
        failed += ended.exit_code != 0
        assert ended == SUCCESS or ended.stderr
        assert changed_files(published_files(file_tree(tmp_path / "out")), old) == []
    assert failed > 0


@contextmanager
def container_image(tmp_path: Path, name: str, image: Path) -> Iterator[Path]:
    """A folder with a result that came with the image of a container: it cannot be renamed."""
    lower, mount_point = tmp_path / "lower", tmp_path / "mount"
    for folder in (lower, mount_point, tmp_path / "upper", tmp_path / "work"):
        folder.mkdir(parents=True)
    cut_completely(image, lower / name, *LAYOUTS_OF_NAMES.get(name, []))
    options = f"lowerdir={lower},upperdir={tmp_path}/upper,workdir={tmp_path}/work,userxattr"
    with mounted_disk(mount_point, options, "overlay") as disk:
        yield disk.path


LAYOUTS_OF_NAMES = {"x": ["--layout", "zoomify"]}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["x.dzi", "x", *RESULTS[1:-1]])  # as above
def test_a_result_of_a_containers_image(
    tmp_path: Path, image: Path, large_source: Path, name: str
) -> None:
    layout = LAYOUTS_OF_NAMES.get(name, [])
    new = cut_completely(large_source, tmp_path / "new" / name, *layout)
    with container_image(tmp_path, name, image) as folder:
        old = file_tree(folder)
        assert "exists already" in run_cut(image, "-o", folder / name, *layout).error_line()
        assert file_tree(folder) == old
        arguments = (large_source, "-o", folder / name, "--quiet", "--overwrite", *layout)
        assert run_cut(*arguments) == SUCCESS
        assert changed_files(file_tree(folder), new) == []
        assert run_cut(*arguments) == SUCCESS  # now it can be renamed
        assert changed_files(file_tree(folder), new) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", sampled(["x.dzi", "x"], ["x"]))
def test_a_run_that_is_killed_while_it_replaces_such_a_result(
    tmp_path: Path, image: Path, shim_library: Path, name: str
) -> None:
    """The older result or the new one or none, never a mixture; the next run finishes."""
    layout = LAYOUTS_OF_NAMES.get(name, [])
    pixels = tmp_path / "new.npy"
    np.save(pixels, np.random.default_rng(0).integers(0, 255, (300, 260, 3), dtype=np.uint8))
    new = cut_completely(pixels, tmp_path / "new" / name, *layout)
    outcomes = set()
    for at in range(0, 400, 4):
        with container_image(tmp_path / f"{at}", name, image) as folder:
            old = file_tree(folder)
            # The system names open files as the mounting shell sees them.
            mount_point = tmp_path / f"{at}/mount"
            fault = SyscallFault(mount_point, "rename,remove", at=at, kill=True)
            arguments = (pixels, "-o", folder / name, "--quiet", "--overwrite", *layout)
            ended = run_cut(*arguments, extra=fault.environment(shim_library))
            results = {"old": old, "new": new}
            descriptor = name if name == "x.dzi" else f"{name}/ImageProperties.xml"
            outcomes.add(identify_result(folder, descriptor, results))
            assert run_cut(*arguments) == SUCCESS
            assert changed_files(file_tree(folder), new) == []
            if ended == SUCCESS:
                break
    assert outcomes == {"old", "nothing", "new"}


def test_a_mount_point_is_refused_before_any_work(tmp_path: Path, image: Path) -> None:
    cut_completely(image, tmp_path / NAME)
    tiles = tmp_path / "x_files"
    script = 'mount --bind "$1" "$1" && shift && exec "$@"'
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh", tiles]
    if subprocess.run([*command, "true"], check=False, capture_output=True).returncode:
        pytest.skip("NOT TESTED: nothing can be mounted: no user namespaces here")
    before = file_tree(tmp_path)
    arguments = ["cut", image, "-o", tmp_path / NAME, "--overwrite"]
    line = run([*map(str, command), *FASTTILE_COMMAND], *arguments).error_line()
    assert f"{tiles} is a mount point, which cannot be replaced" in line
    assert file_tree(tmp_path) == before


# ---- signals -----------------------------------------------------------------------------------

SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]


@pytest.mark.parametrize(("number", "code"), sampled(SIGNALS, SIGNALS[:1]))
def test_a_signal_leaves_the_older_result(
    scratch_folder: Path, large_source: Path, image: Path, number: signal.Signals, code: int
) -> None:
    old = cut_completely(image, scratch_folder / NAME)
    with ResultWatcher(scratch_folder, NAME, {"old": old}).watching() as watcher:
        process = start_cut(large_source, scratch_folder / NAME, "--overwrite")
        process.send_signal(number)
        ended = wait_for_end(process)
    assert ended.exit_code == code
    assert "nothing was left behind" in ended.error_line()
    assert changed_files(file_tree(scratch_folder), old) == []
    assert watcher.observations > 0


@pytest.mark.parametrize(("number", "code"), SIGNALS[:2])
def test_a_signal_leaves_what_can_be_resumed(
    scratch_folder: Path, large_source: Path, number: signal.Signals, code: int
) -> None:
    complete = cut_completely(large_source, scratch_folder / "whole" / NAME)
    target = scratch_folder / "out" / NAME
    process = start_cut(large_source, target, "--resume", min_files=200)
    process.send_signal(number)
    ended = wait_for_end(process)
    assert ended.exit_code == code
    ended.error_line()
    assert published_files(file_tree(target.parent)) == {}
    message = run_cut(large_source, "-o", target, "--resume").stdout
    assert "tiles were stored by an earlier run" in message
    assert changed_files(file_tree(target.parent), complete) == []


SIGNAL_AT_A_THREAD = """
import signal, sys, threading
from fasttile.cli import main

start_new_thread, left = threading._start_new_thread, int(sys.argv[1])

def start_and_raise(*arguments):
    global left
    left -= 1
    thread = start_new_thread(*arguments)
    if left == 0:
        signal.raise_signal(signal.SIGTERM)
    return thread

threading._start_new_thread = start_and_raise
sys.exit(main(sys.argv[2:]))
"""
"""Runs the command; the signal arrives when it starts its n-th thread."""


@pytest.mark.parametrize("thread", [1, 2, 3])
def test_a_signal_while_a_thread_is_started(
    scratch_folder: Path, large_source: Path, thread: int
) -> None:
    """The command ends, and no thread reads the image after it was unmapped."""
    command = [sys.executable, "-c", SIGNAL_AT_A_THREAD, str(thread)]
    words = ["-o", scratch_folder / "out" / NAME, "--quiet", "--threads", 2, "--format", "png"]
    ended = run(command, "cut", large_source, *words)
    assert ended.exit_code == 143
    assert ended.error_line() == "ended by signal 15; nothing was left behind"
    assert not (scratch_folder / "out").exists()


def test_two_signals_are_one(scratch_folder: Path, large_source: Path) -> None:
    """Impatient people press Ctrl-C twice."""
    process = start_cut(large_source, scratch_folder / "out" / NAME)
    for _ in range(5):
        process.send_signal(signal.SIGINT)
        time.sleep(0.01)
    ended = wait_for_end(process)
    assert ended.exit_code in (130, -signal.SIGINT)
    assert published_files(file_tree(scratch_folder)) == {}
    assert run_cut(large_source, "-o", scratch_folder / "out" / NAME, "--quiet") == SUCCESS
    assert {path.name for path in (scratch_folder / "out").iterdir()} == {NAME, "x_files"}


def test_nobody_reads_what_it_says(tmp_path: Path, image: Path) -> None:
    """The result exists, so the exit code is 0; nobody has read the line about it."""
    complete = cut_completely(image, tmp_path / "whole" / NAME)
    read, write = os.pipe()
    os.close(read)
    ended = run_cut(image, "-o", tmp_path / "out" / NAME, stdout=write)
    os.close(write)
    assert ended.exit_code == 0
    assert ended.stderr == ""
    assert changed_files(file_tree(tmp_path / "out"), complete) == []


# ---- places that change ------------------------------------------------------------------------


def move_folder(out: Path) -> None:
    out.rename(out.with_name("moved"))


def replace_folder(out: Path) -> None:
    move_folder(out)
    out.mkdir()


def move_work_folder(out: Path) -> None:
    (out / f".{NAME}.fasttile").rename(out / "moved")


def remove_work_folder(out: Path) -> None:
    rmtree(out / f".{NAME}.fasttile", ignore_errors=True)


DESTINATION_CHANGES = [
    (move_folder, []),
    (move_folder, ["--resume"]),
    (replace_folder, []),
    (rmtree, ["--resume"]),
]
DESTINATION_CHANGES += [(move_work_folder, []), (remove_work_folder, ["--resume"])]


@pytest.mark.parametrize(("happens", "words"), DESTINATION_CHANGES)
def test_a_destination_that_goes(
    scratch_folder: Path, large_source: Path, happens: Callable[..., None], words: list[str]
) -> None:
    target = scratch_folder / "out" / NAME
    process = start_cut(large_source, target, *words, min_files=100)
    if happens is rmtree:
        rmtree(target.parent, ignore_errors=True)
    else:
        happens(target.parent)
    line = wait_for_end(process).error_line()
    assert str(target.parent) in line
    assert published_files(file_tree(scratch_folder / "out")) == {} or happens is move_work_folder
    assert not target.exists()


def test_the_older_result_goes_with_its_folder(
    scratch_folder: Path, large_source: Path, image: Path
) -> None:
    (scratch_folder / "out").mkdir()
    old = cut_completely(image, scratch_folder / "out" / NAME)
    process = start_cut(large_source, scratch_folder / "out" / NAME, "--overwrite")
    move_folder(scratch_folder / "out")
    wait_for_end(process).error_line()
    assert changed_files(published_files(file_tree(scratch_folder / "moved")), old) == []
    assert (
        run_cut(image, "-o", scratch_folder / "moved" / NAME, "--overwrite", "--quiet") == SUCCESS
    )
    assert changed_files(file_tree(scratch_folder / "moved"), old) == []


@pytest.mark.parametrize("words", [["--overwrite"], ["--resume"]])
def test_a_second_run_on_one_destination(
    scratch_folder: Path, large_source: Path, words: list[str]
) -> None:
    target = scratch_folder / "out" / NAME
    complete = cut_completely(large_source, scratch_folder / "whole" / NAME)
    first = start_cut(large_source, target, *words)
    first.send_signal(signal.SIGSTOP)  # or it might end before the second one begins
    second = run_cut(large_source, "-o", target, *words)
    first.send_signal(signal.SIGCONT)
    assert "another run is at work in" in second.error_line()
    assert wait_for_end(first) == SUCCESS
    assert changed_files(file_tree(target.parent), complete) == []


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_after_publication(
    scratch_folder: Path, image: Path, number: signal.Signals, code: int
) -> None:
    """The older tiles take long to remove: the message names the new result."""
    out = scratch_folder / "out"
    new = cut_completely(image, scratch_folder / "new" / NAME)
    pixels = np.zeros((2500, 2500), np.uint8)
    for _ in range(10):  # it may end before the signal comes
        fasttile.cut(
            pixels, out / NAME, overwrite=True, tile_size=16, overlap=0, format="png", threads=1
        )
        older = (out / NAME).read_bytes()
        arguments = (image, "-o", out / NAME, "--quiet", "--overwrite")
        process = start_process(FASTTILE_COMMAND, "cut", *arguments)
        while process.poll() is None:
            with suppress(OSError):
                if (out / NAME).read_bytes() != older:
                    break
        process.send_signal(number)
        _, stderr = process.communicate()
        if process.returncode == code:
            break
    assert process.returncode == code
    assert f"{out / NAME} is complete; the next run on it removes what is left in" in stderr
    assert stderr.count("\n") == 1
    assert (out / f".{NAME}.fasttile").exists()
    assert published_files(file_tree(out)) == new
    assert run_cut(image, "-o", out / NAME, "--quiet", "--overwrite") == SUCCESS
    assert changed_files(file_tree(out), new) == []


# ---- sources that change -----------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_source_that_is_cut_short_before(tmp_path: Path, image: Path, share: float) -> None:
    short = tmp_path / "short.npy"
    short.write_bytes(image.read_bytes()[: int(share * image.stat().st_size)])
    assert "short.npy" in run_cut(short, "-o", tmp_path / "out" / NAME).error_line()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("resume", [[], ["--resume"]], ids=["plain", "resume"])
def test_a_source_that_is_cut_short_while_read(
    scratch_folder: Path, large_source: Path, image: Path, resume: list[str]
) -> None:
    """An error, though its lost pages raise SIGBUS; nothing is published."""
    old = cut_completely(image, scratch_folder / "out" / NAME)
    source = scratch_folder / "large.npy"
    copyfile(large_source, source)
    process = start_cut(source, scratch_folder / "out" / NAME, "--overwrite", *resume)
    os.truncate(source, 1000)
    ended = wait_for_end(process)
    assert "large.npy" in ended.error_line()
    assert changed_files(published_files(file_tree(scratch_folder / "out")), old) == []
    words = ["-o", scratch_folder / "out" / NAME, "--overwrite", "--quiet"]
    assert run_cut(image, *words) == SUCCESS
    assert changed_files(file_tree(scratch_folder / "out"), old) == []


def save_tiled(source: Path, path: Path) -> Path:
    """The image of a .npy file as a TIFF of uncompressed tiles."""
    tifffile.imwrite(path, np.load(source), photometric="rgb", tile=(256, 256))
    return path


TRUNCATION_CASES = [
    ("npy", ()),
    ("tif", ()),
    ("npy", ("--workers", "2")),
    ("npy", ("--resume",)),
]


@pytest.mark.parametrize(("kind", "words"), TRUNCATION_CASES)
@pytest.mark.parametrize(
    "trials", [3, pytest.param(25, marks=pytest.mark.long)], ids=["few", "many"]
)
def test_a_source_that_is_cut_short_at_any_moment(
    scratch_folder: Path, large_source: Path, kind: str, words: tuple[str, ...], trials: int
) -> None:
    """One line and exit code 1 without a result, or the complete result: 100 trials in all."""
    original = large_source
    if kind == "tif":
        original = save_tiled(large_source, scratch_folder / "original.tif")
    source, target = scratch_folder / f"source.{kind}", scratch_folder / "out" / NAME
    copyfile(original, source)
    started = time.monotonic()
    complete = cut_completely(source, scratch_folder / "complete" / NAME, *words)
    seconds = time.monotonic() - started
    random = Random(f"{kind} {words}")
    for _ in range(trials):
        rmtree(target.parent, ignore_errors=True)
        copyfile(original, source)
        process = start_process(FASTTILE_COMMAND, "cut", source, "-o", target, "--quiet", *words)
        time.sleep(random.uniform(seconds / 8, seconds))
        os.truncate(source, random.choice([0, 1000, random.randrange(source.stat().st_size)]))
        ended = wait_for_end(process)
        if ended == SUCCESS:
            assert changed_files(file_tree(target.parent), complete) == []
            continue
        assert source.name in ended.error_line()
        assert ended.exit_code == 1
        assert published_files(file_tree(target.parent)) == {}


def test_a_source_that_is_written_to_while_read(scratch_folder: Path, large_source: Path) -> None:
    source = scratch_folder / "large.npy"
    copyfile(large_source, source)
    process = start_cut(source, scratch_folder / "out" / NAME)
    with source.open("r+b") as file:
        file.seek(100_000)
        file.write(b"something else")
    assert "was changed while it was read" in wait_for_end(process).error_line()
    assert not (scratch_folder / "out").exists()


def test_a_source_that_is_replaced_while_read(
    scratch_folder: Path, large_source: Path, image: Path
) -> None:
    """The older one is still there for who has opened it."""
    complete = cut_completely(large_source, scratch_folder / "whole" / NAME)
    source = scratch_folder / "large.npy"
    copyfile(large_source, source)
    process = start_cut(source, scratch_folder / "out" / NAME)
    copyfile(image, scratch_folder / "other.npy")
    (scratch_folder / "other.npy").replace(source)
    assert wait_for_end(process) == SUCCESS
    assert changed_files(file_tree(scratch_folder / "out"), complete) == []


def test_a_source_that_changed_cannot_be_resumed(scratch_folder: Path, large_source: Path) -> None:
    source = scratch_folder / "large.npy"
    copyfile(large_source, source)
    target = scratch_folder / "out" / NAME
    process = start_cut(source, target, "--resume", min_files=200)
    process.kill()
    wait_for_end(process)
    before = file_tree(target.parent)
    os.utime(source)
    line = run_cut(source, "-o", target, "--resume").error_line()
    assert "cannot be resumed" in line
    assert changed_files(file_tree(target.parent), before) == []
    other = run_cut(large_source, "-o", target, "--resume", "--quality", "50").error_line()
    assert "cannot be resumed" in other
    assert run_cut(source, "-o", target, "--resume", "--overwrite").exit_code in (0, 1)
