"""What really happens to programs: full disks, limits, signals, folders and sources that change."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from shutil import copyfile, rmtree

import pytest
from disks import disk
from programs import FASTTILE, SECONDS, Ended, begun, cut
from trees import Tree, count, differing, published, standing, tree
from watcher import Watcher

from samples import sampled

NAME = "x.dzi"

RESULTS = ["x.dzi", "x.szi", "x.tif", "x.pmtiles", "x.mbtiles"]

DONE = Ended(0, "", "")


def cut_whole(picture: Path, target: Path, *words: str) -> Tree:
    """An undisturbed result."""
    assert cut(picture, "-o", target, "--quiet", *words) == DONE
    return tree(target.parent)


def begun_cut(picture: Path, target: Path, *words: str, files: int = 50) -> subprocess.Popen[str]:
    """A cut that has come so far that there are some tiles."""
    process = begun(FASTTILE, "cut", picture, "-o", target, "--quiet", *words)
    work = target.parent / f".{target.name}.fasttile"
    deadline = time.monotonic() + SECONDS
    while count(work) < files:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    return process


def end_of(process: subprocess.Popen[str]) -> Ended:
    out, err = process.communicate(timeout=SECONDS)
    return Ended(process.returncode, out, err)


# ---- disks -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", sampled(RESULTS[:-1], RESULTS[:2])
)  # SQLite does not find its way to such a disk
def test_a_disk_that_is_full(tmp_path: Path, picture: Path, name: str) -> None:
    """Not a byte is left there; with more room the same command goes through."""
    whole = cut_whole(picture, tmp_path / "whole" / name)
    place = tmp_path / "disk"
    place.mkdir()
    with disk(place, "size=64k") as small:
        assert "No space left on device" in cut(picture, "-o", small.path / name).line()
        assert tree(small.path) == {}
        small.remount("size=16m")
        assert cut(picture, "-o", small.path / name, "--quiet") == DONE
        assert differing(tree(small.path), whole) == []


def test_a_full_disk_and_an_older_result(tmp_path: Path, picture: Path) -> None:
    place = tmp_path / "disk"
    place.mkdir()
    with disk(place, "size=1m") as small:
        old = cut_whole(picture, small.path / NAME)
        (small.path / "ballast").write_bytes(bytes(2**20 - 500_000))
        ended = cut(picture, "-o", small.path / NAME, "--overwrite", "--format", "png")
        assert "No space left on device" in ended.line()
        (small.path / "ballast").unlink()
        assert differing(tree(small.path), old) == []


def test_a_disk_without_room_for_more_files(tmp_path: Path, picture: Path) -> None:
    place = tmp_path / "disk"
    place.mkdir()
    with disk(place, "nr_inodes=25") as small:
        assert "No space left on device" in cut(picture, "-o", small.path / NAME).line()
        assert tree(small.path) == {}


def test_a_disk_that_may_only_be_read(tmp_path: Path, picture: Path) -> None:
    place = tmp_path / "disk"
    place.mkdir()
    with disk(place, "size=1m") as small:
        old = cut_whole(picture, small.path / NAME)
        small.remount("ro")
        for words in (["--overwrite"], ["--overwrite", "--resume"]):
            line = cut(picture, "-o", small.path / NAME, *words).line()
            assert "Read-only file system" in line
            assert differing(tree(small.path), old) == []


# ---- limits ------------------------------------------------------------------------------------


def limited(kind: int, amount: int) -> Callable[[], None]:
    """What sets a limit in a process that begins."""
    return lambda: resource.setrlimit(kind, (amount, amount))


@pytest.mark.parametrize("name", sampled(RESULTS, RESULTS[:2]))
def test_files_that_may_not_grow(tmp_path: Path, picture: Path, name: str) -> None:
    """Python takes no notice of SIGXFSZ, so the write itself fails."""
    limit = limited(resource.RLIMIT_FSIZE, 5000)
    out, format_ = tmp_path / "out", "deflate" if name.endswith(".tif") else "png"
    line = cut(picture, "-o", out / name, "--format", format_, preexec_fn=limit).line()
    assert "File too large" in line or "disk I/O error" in line
    assert not out.exists()


def test_too_few_files_at_a_time(tmp_path: Path, picture: Path) -> None:
    """However few there may be: all goes well, or one line says so, and nothing is left."""
    whole = cut_whole(picture, tmp_path / "whole" / NAME)
    codes = set()
    for handles, words in ((5, []), (7, ["--resume"]), (9, []), (10, ["--resume"]), (20, [])):
        out = tmp_path / "out"
        limit = limited(resource.RLIMIT_NOFILE, handles)
        ended = cut(picture, "-o", out / NAME, "--quiet", *words, preexec_fn=limit)
        codes.add(ended.code)
        assert ended == DONE or "Too many open files" in ended.err
        assert ended.code == 0 or ended.err.count("\n") == 1
        assert standing(out, NAME, {"whole": whole}) == ("nothing" if ended.code else "whole")
        rmtree(out, ignore_errors=True)
    assert codes == {0, 1}


@pytest.mark.slow
def test_too_little_memory(tmp_path: Path, large: Path) -> None:
    """Wherever it runs out: in the libraries that start up, in threads, for strips or for tiles."""
    cut_whole(large, tmp_path / "out" / NAME, "--tile-size", "700")
    old = tree(tmp_path / "out")
    failed = 0
    for megabytes in (80, 140, 180, 300):
        limit = limited(resource.RLIMIT_AS, megabytes * 2**20)
        words = ["-o", tmp_path / "out" / NAME, "--overwrite", "--tile-size", "700", "--quiet"]
        with Watcher(tmp_path / "out", NAME, {"old": old}).at_work():
            ended = cut(large, *words, preexec_fn=limit)
        failed += ended.code != 0
        assert ended == DONE or ended.err
        assert differing(published(tree(tmp_path / "out")), old) == []
    assert failed > 0


# ---- signals -----------------------------------------------------------------------------------

SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]


@pytest.mark.parametrize(("number", "code"), sampled(SIGNALS, SIGNALS[:1]))
def test_a_signal_leaves_the_older_result(
    room: Path, large: Path, picture: Path, number: signal.Signals, code: int
) -> None:
    old = cut_whole(picture, room / NAME)
    with Watcher(room, NAME, {"old": old}).at_work() as watcher:
        process = begun_cut(large, room / NAME, "--overwrite")
        process.send_signal(number)
        ended = end_of(process)
    assert ended.code == code
    assert "nothing was left behind" in ended.line()
    assert differing(tree(room), old) == []
    assert watcher.looks > 0


@pytest.mark.parametrize(("number", "code"), SIGNALS[:2])
def test_a_signal_leaves_what_can_be_carried_on(
    room: Path, large: Path, number: signal.Signals, code: int
) -> None:
    whole = cut_whole(large, room / "whole" / NAME)
    target = room / "out" / NAME
    process = begun_cut(large, target, "--resume", files=200)
    process.send_signal(number)
    ended = end_of(process)
    assert ended.code == code
    ended.line()
    assert published(tree(target.parent)) == {}
    told = cut(large, "-o", target, "--resume").out
    assert "tiles were there from a run before" in told
    assert differing(tree(target.parent), whole) == []


def test_two_signals_are_one(room: Path, large: Path) -> None:
    """Impatient people press Ctrl-C twice."""
    process = begun_cut(large, room / "out" / NAME)
    for _ in range(5):
        process.send_signal(signal.SIGINT)
        time.sleep(0.01)
    ended = end_of(process)
    assert ended.code in (130, -signal.SIGINT)
    assert published(tree(room)) == {}
    assert cut(large, "-o", room / "out" / NAME, "--quiet") == DONE
    assert {path.name for path in (room / "out").iterdir()} == {NAME, "x_files"}


def test_nobody_reads_what_it_says(tmp_path: Path, picture: Path) -> None:
    """The result stands; that nobody wants to hear of it is told by the exit code alone."""
    whole = cut_whole(picture, tmp_path / "whole" / NAME)
    read, write = os.pipe()
    os.close(read)
    ended = cut(picture, "-o", tmp_path / "out" / NAME, stdout=write)
    os.close(write)
    assert ended.code == 1
    assert ended.err == ""
    assert differing(tree(tmp_path / "out"), whole) == []


# ---- places that change ------------------------------------------------------------------------


def move(out: Path) -> None:
    out.rename(out.with_name("moved"))


def replace(out: Path) -> None:
    move(out)
    out.mkdir()


def move_work(out: Path) -> None:
    (out / f".{NAME}.fasttile").rename(out / "moved")


def remove_work(out: Path) -> None:
    rmtree(out / f".{NAME}.fasttile", ignore_errors=True)


GOES = [(move, []), (move, ["--resume"]), (replace, []), (rmtree, ["--resume"])]
GOES += [(move_work, []), (remove_work, ["--resume"])]


@pytest.mark.parametrize(("happens", "words"), GOES)
def test_a_destination_that_goes(
    room: Path, large: Path, happens: Callable[..., None], words: list[str]
) -> None:
    target = room / "out" / NAME
    process = begun_cut(large, target, *words, files=100)
    if happens is rmtree:
        rmtree(target.parent, ignore_errors=True)
    else:
        happens(target.parent)
    line = end_of(process).line()
    assert str(target.parent) in line
    assert published(tree(room / "out")) == {} or happens is move_work
    assert not target.exists()


def test_the_older_result_goes_with_its_folder(room: Path, large: Path, picture: Path) -> None:
    (room / "out").mkdir()
    old = cut_whole(picture, room / "out" / NAME)
    process = begun_cut(large, room / "out" / NAME, "--overwrite")
    move(room / "out")
    end_of(process).line()
    assert differing(published(tree(room / "moved")), old) == []
    assert cut(picture, "-o", room / "moved" / NAME, "--overwrite", "--quiet") == DONE
    assert differing(tree(room / "moved"), old) == []


@pytest.mark.parametrize("words", [["--overwrite"], ["--resume"]])
def test_a_second_run_on_one_destination(room: Path, large: Path, words: list[str]) -> None:
    target = room / "out" / NAME
    whole = cut_whole(large, room / "whole" / NAME)
    first = begun_cut(large, target, *words)
    first.send_signal(signal.SIGSTOP)  # or it might end before the second one begins
    second = cut(large, "-o", target, *words)
    first.send_signal(signal.SIGCONT)
    assert "another run is at work in" in second.line()
    assert end_of(first) == DONE
    assert differing(tree(target.parent), whole) == []


# ---- sources that change -----------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_source_that_is_cut_short_before(tmp_path: Path, picture: Path, share: float) -> None:
    short = tmp_path / "short.npy"
    short.write_bytes(picture.read_bytes()[: int(share * picture.stat().st_size)])
    assert "short.npy" in cut(short, "-o", tmp_path / "out" / NAME).line()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("resume", [[], ["--resume"]], ids=["plain", "resume"])
def test_a_source_that_is_cut_short_while_read(
    room: Path, large: Path, picture: Path, resume: list[str]
) -> None:
    """An error; or SIGBUS, in the fraction of a second between fault and use of its pages."""
    old = cut_whole(picture, room / "out" / NAME)
    source = room / "large.npy"
    copyfile(large, source)
    process = begun_cut(source, room / "out" / NAME, "--overwrite", *resume)
    os.truncate(source, 1000)
    ended = end_of(process)
    if ended.code != -signal.SIGBUS:
        assert "large.npy" in ended.line()
    assert differing(published(tree(room / "out")), old) == []
    words = ["-o", room / "out" / NAME, "--overwrite", "--quiet"]
    assert cut(picture, *words) == DONE
    assert differing(tree(room / "out"), old) == []


def test_a_source_that_is_written_to_while_read(room: Path, large: Path) -> None:
    source = room / "large.npy"
    copyfile(large, source)
    process = begun_cut(source, room / "out" / NAME)
    with source.open("r+b") as file:
        file.seek(100_000)
        file.write(b"something else")
    assert "was changed while it was read" in end_of(process).line()
    assert not (room / "out").exists()


def test_a_source_that_is_replaced_while_read(room: Path, large: Path, picture: Path) -> None:
    """The older one is still there for who has opened it."""
    whole = cut_whole(large, room / "whole" / NAME)
    source = room / "large.npy"
    copyfile(large, source)
    process = begun_cut(source, room / "out" / NAME)
    copyfile(picture, room / "other.npy")
    (room / "other.npy").replace(source)
    assert end_of(process) == DONE
    assert differing(tree(room / "out"), whole) == []


def test_a_source_that_changed_cannot_be_carried_on(room: Path, large: Path) -> None:
    source = room / "large.npy"
    copyfile(large, source)
    target = room / "out" / NAME
    process = begun_cut(source, target, "--resume", files=200)
    process.kill()
    end_of(process)
    before = tree(target.parent)
    os.utime(source)
    line = cut(source, "-o", target, "--resume").line()
    assert "cannot be carried on" in line
    assert differing(tree(target.parent), before) == []
    other = cut(large, "-o", target, "--resume", "--quality", "50").line()
    assert "cannot be carried on" in other
    assert cut(source, "-o", target, "--resume", "--overwrite").code in (0, 1)
