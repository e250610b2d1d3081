"""The directory sink on real file systems: what it writes, refuses, survives and leaves behind."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fasttile.errors import OptionError, TargetError
from fasttile.geometry import Tile
from fasttile.sinks.folder import DirectorySink
from support.deepzoom_files import (
    identify_only_result,
    identify_result,
    layout_of,
    names_in_folder,
    open_sink,
    put_tiles,
    try_to_write,
    write,
)

if sys.platform == "win32":
    pytest.skip("needs POSIX limits, users and mounts", allow_module_level=True)

import resource

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: mounting needs root")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder / "a map.dzi"


class MovableMount:
    """Where a file system is mounted; a folder above it may be renamed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def move_to(self, folder: Path) -> None:
        self.folder = folder


@contextlib.contextmanager
def mount_tmpfs(folder: Path, options: str) -> Iterator[MovableMount]:
    """A file system in memory, mounted on a folder."""
    command = ["mount", "-t", "tmpfs", "-o", options, "fasttile-test", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"NOT TESTED: {done.stderr.strip()}")
    mount = MovableMount(folder)
    try:
        yield mount
    finally:
        subprocess.run(["umount", str(mount.folder)], check=True)


# ---- what it writes ----------------------------------------------------------------------------


def test_writes_every_tile_and_nothing_else(target: Path) -> None:
    write("old", target)
    assert identify_only_result(target) == "old"


def test_files_have_the_rights_that_the_umask_leaves(target: Path) -> None:
    before = os.umask(0o027)
    try:
        write("old", target)
    finally:
        os.umask(before)
    rights = {path: path.stat().st_mode & 0o777 for path in target.parent.rglob("*")}
    assert {mode for path, mode in rights.items() if path.is_file()} == {0o640}
    assert {mode for path, mode in rights.items() if path.is_dir()} == {0o750}


@pytest.mark.parametrize(
    "name", [" ", "-rf", 'a"b', "a&b<c>", "Übergröße 日本 🗺", "two\nlines", "..", "\udcff"]
)
def test_any_name_that_the_system_takes(tmp_path: Path, name: str) -> None:
    target = tmp_path / f"{name}.dzi"
    write("old", target)
    assert identify_only_result(target) == "old"
    message = try_to_write("new", target)
    assert "exists already" in message
    assert message.isprintable()


def test_nothing_stands_there_before_the_end(target: Path) -> None:
    sink = open_sink("old", target)
    put_tiles(sink, "old")
    assert names_in_folder(target) == [".a map.dzi.fasttile"]
    sink.finish()
    assert identify_only_result(target) == "old"


def test_a_relative_target_stays_where_it_was(
    target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(target.parent)
    sink = open_sink("old", Path(target.name))
    monkeypatch.chdir(tmp_path)
    put_tiles(sink, "old")
    sink.finish()
    assert identify_only_result(target) == "old"


def test_an_empty_tile_is_a_file(target: Path) -> None:
    sink = open_sink("old", target)
    sink.put(Tile(0, 0, 0), b"")
    sink.finish()
    assert (target.parent / "a map_files/0/0_0.png").read_bytes() == b""


# ---- results that exist already ----------------------------------------------------------------


@pytest.mark.parametrize("missing", ["a map.dzi", "a map_files", ""])
def test_what_stands_there_is_refused_unless_overwritten(target: Path, missing: str) -> None:
    write("old", target)
    if missing:
        (target.parent / missing).rename(target.parent.parent / missing)
    before = sorted(target.parent.rglob("*"))
    first = target if missing != target.name else target.with_name("a map_files")
    with pytest.raises(TargetError) as caught:
        open_sink("new", target)
    assert str(caught.value) == f"{first} exists already; choose another name, or use --overwrite"
    assert sorted(target.parent.rglob("*")) == before
    write("new", target, overwrite=True)
    assert identify_only_result(target) == "new"


def test_overwriting_touches_nothing_before_the_end(target: Path) -> None:
    write("old", target)
    sink = open_sink("new", target, overwrite=True)
    put_tiles(sink, "new")
    assert identify_result(target) == "old"
    sink.abort()
    assert identify_only_result(target) == "old"


@pytest.mark.parametrize("overwrite", [True, False])
@pytest.mark.parametrize("name", ["a map.dzi", "a map_files"])
@pytest.mark.parametrize("leads_to", ["nowhere", "elsewhere"])
def test_links_are_refused(target: Path, name: str, leads_to: str, overwrite: bool) -> None:
    (target.parent.parent / "elsewhere").mkdir()
    (target.parent / name).symlink_to(target.parent.parent / leads_to)
    with pytest.raises(TargetError, match=f"{name} is a symbolic link; remove it"):
        open_sink("new", target, overwrite=overwrite)
    assert names_in_folder(target) == [name]


@pytest.mark.parametrize("overwrite", [True, False])
def test_what_is_neither_file_nor_folder_is_refused(target: Path, overwrite: bool) -> None:
    tiles = target.with_name("a map_files")
    target.mkdir()
    with pytest.raises(TargetError, match=r"a map\.dzi exists and is not a plain file"):
        open_sink("new", target, overwrite=overwrite)
    target.rmdir()
    tiles.touch()
    with pytest.raises(TargetError, match="a map_files exists and is not a folder"):
        open_sink("new", target, overwrite=overwrite)
    tiles.unlink()
    os.mkfifo(target)
    with pytest.raises(TargetError, match=r"a map\.dzi exists and is not a plain file"):
        open_sink("new", target, overwrite=overwrite)


def test_a_name_that_is_not_the_layouts_is_refused(target: Path) -> None:
    with pytest.raises(OptionError, match=r"other.dzi is not named 'a map.dzi'"):
        DirectorySink(layout_of("old", target), target.with_name("other.dzi"))
    with pytest.raises(TargetError, match=r"a\\x00b/a map.dzi has a zero character"):
        DirectorySink(layout_of("old", target), Path("a\0b") / target.name)


# ---- folders above -----------------------------------------------------------------------------


def test_missing_folders_are_made_and_stay(target: Path) -> None:
    deep = target.parent / "x/y/../z" / target.name
    sink = open_sink("old", deep)
    put_tiles(sink, "old")
    sink.finish()
    sink.abort()
    assert identify_only_result(deep) == "old"


def test_missing_folders_are_unmade_by_abort(target: Path) -> None:
    sink = open_sink("old", target.parent / "x/y" / target.name)
    (target.parent / "x/mine").touch()
    sink.abort()
    assert [path.name for path in target.parent.rglob("*")] == ["x", "mine"]


def test_a_file_where_a_folder_should_be(target: Path) -> None:
    target.write_text("mine")
    message = try_to_write("old", target / "x" / target.name)
    assert message.startswith("cannot ")
    assert message.endswith("Not a directory")
    assert target.read_text() == "mine"


def test_a_name_too_long_is_refused_at_once(tmp_path: Path) -> None:
    target = tmp_path / "made" / f"{'n' * 250}.dzi"
    message = try_to_write("old", target)
    assert "n" * 250 in message
    assert message.endswith("File name too long")
    assert list(tmp_path.iterdir()) == []


# ---- its end -----------------------------------------------------------------------------------


def test_abort_leaves_nothing_however_often(target: Path) -> None:
    sink = open_sink("old", target)
    put_tiles(sink, "old")
    sink.abort()
    sink.abort()
    assert identify_only_result(target) == "nothing"
    with pytest.raises(ValueError, match="the sink has ended"):
        sink.put(Tile(0, 0, 0), b"late")
    with pytest.raises(TargetError, match="cannot publish"):
        sink.finish()
    assert identify_only_result(target) == "nothing"


def test_abort_after_the_end_changes_nothing(target: Path) -> None:
    write("old", target)
    sink = open_sink("new", target, overwrite=True)
    put_tiles(sink, "new")
    sink.finish()
    with pytest.raises(ValueError, match="the sink has ended"):
        sink.put(Tile(0, 0, 0), b"late")
    sink.abort()
    assert identify_only_result(target) == "new"


def test_a_tile_that_comes_twice_is_an_error(target: Path) -> None:
    sink = open_sink("old", target)
    sink.put(Tile(0, 0, 0), b"once")
    with pytest.raises(TargetError, match=r"0_0.png: File exists"):
        sink.put(Tile(0, 0, 0), b"twice")
    sink.abort()


def open_handles() -> list[str]:
    return [path.name for path in Path("/dev/fd").iterdir()]


def test_no_handle_stays_open(target: Path) -> None:
    before = open_handles()
    write("old", target)
    open_sink("new", target, overwrite=True).abort()
    assert "exists already" in try_to_write("new", target)
    assert open_handles() == before


# ---- what the system refuses -------------------------------------------------------------------


def put_until_error(sink: DirectorySink) -> None:
    for col in itertools.count():
        sink.put(Tile(9, col, 0), bytes(10_000))


@as_root
@pytest.mark.parametrize("old", ["nothing", "old"])
def test_a_full_disk_while_tiles_come(target: Path, old: str) -> None:
    with mount_tmpfs(target.parent, "size=200k"):
        if old == "old":
            write("old", target)
        sink = open_sink("new", target, overwrite=True)
        with pytest.raises(TargetError) as caught:
            put_until_error(sink)
        path = target.parent / ".a map.dzi.fasttile/new/a map_files/9"
        assert str(caught.value).startswith(f"cannot write {path}/")
        assert str(caught.value).endswith("_0.png: No space left on device")
        sink.abort()
        assert identify_only_result(target) == old


@as_root
@pytest.mark.parametrize("options", ["size=200k", "nr_inodes=60"])
@pytest.mark.parametrize("old", ["nothing", "old"])
def test_a_full_disk_at_the_end(target: Path, old: str, options: str) -> None:
    with mount_tmpfs(target.parent, options):
        if old == "old":
            write("old", target)
        sink = open_sink("new", target, overwrite=True)
        put_tiles(sink, "new")
        filler = target.parent / "filler"
        filler.mkdir()
        with contextlib.suppress(OSError):
            for number in range(1000):
                (filler / str(number)).write_bytes(bytes(4096 if "size" in options else 0))
        with pytest.raises(TargetError) as caught:
            sink.finish()
        assert str(caught.value) == f"cannot publish {target}: No space left on device"
        sink.abort()
        assert identify_result(target) == old
        assert [name for name in names_in_folder(target) if name.startswith(".")] == []


@as_root
def test_a_tiles_folder_that_cannot_be_moved(target: Path) -> None:
    write("old", target)
    tiles = target.with_name("a map_files")
    sink = open_sink("new", target, overwrite=True)
    put_tiles(sink, "new")
    with mount_tmpfs(tiles, "size=200k"):  # a mount point cannot be renamed
        with pytest.raises(TargetError, match=f"{tiles} is a mount point, which cannot"):
            open_sink("next", target, overwrite=True)
        descriptor = target.read_text()
        with pytest.raises(TargetError, match=r"cannot publish .*busy"):
            sink.finish()
        assert not target.exists()  # the old descriptor had gone first
        sink.abort()
        assert target.read_text() == descriptor
        assert names_in_folder(target) == ["a map.dzi", "a map_files"]
    assert identify_only_result(target) == "old"


@as_root
def test_old_tiles_that_cannot_be_removed(target: Path) -> None:
    write("old", target)
    with mount_tmpfs(target.parent / "a map_files/0", "size=200k") as inner:
        with pytest.warns(RuntimeWarning, match="a map.dzi is published, but something is left in"):
            write("new", target, overwrite=True)
        assert identify_result(target) == "new"
        work = target.parent / ".a map.dzi.fasttile"
        message = try_to_write("next", target, overwrite=True)
        assert message.startswith(f"cannot remove what a killed run left in {work}: ")
        assert identify_result(target) == "new"
        inner.move_to(next(work.rglob("a map_files")) / "0")
    write("next", target, overwrite=True)
    assert identify_only_result(target) == "next"


def test_a_file_that_may_not_grow(target: Path) -> None:
    """The first write stops short at the limit, and the second says why."""
    sink = open_sink("old", target)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
    try:
        with pytest.raises(TargetError, match=r"0_0.png: File too large"):
            sink.put(Tile(0, 0, 0), bytes(8000))
        assert next(target.parent.rglob("0_0.png")).stat().st_size == 5000
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    sink.abort()
    assert identify_only_result(target) == "nothing"


@contextlib.contextmanager
def exhaust_file_handles() -> Iterator[None]:
    """The process has as many files open as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
    handles: list[int] = []
    try:
        with contextlib.suppress(OSError):
            while True:
                handles.append(os.open(os.devnull, os.O_RDONLY))
        yield
    finally:
        for handle in handles:
            os.close(handle)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_no_handle_left_for_a_tile(target: Path) -> None:
    write("old", target)
    sink = open_sink("new", target, overwrite=True)
    sink.put(Tile(0, 0, 0), b"first")
    with exhaust_file_handles():
        with pytest.raises(TargetError, match=r"1/0_0.png: Too many open files"):
            sink.put(Tile(1, 0, 0), b"second")
        sink.abort()
    assert identify_only_result(target) == "old"


def test_no_handle_left_to_begin_with(target: Path) -> None:
    with exhaust_file_handles():
        message = try_to_write("old", target)
    assert message == (f"cannot work in {target.parent}/.a map.dzi.fasttile: Too many open files")
    assert identify_only_result(target) == "nothing"


@contextlib.contextmanager
def without_root_rights() -> Iterator[None]:
    """Without the rights of root, if the tests have them."""
    if os.geteuid() != 0:
        yield
        return
    os.setegid(65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def test_what_stands_in_a_folder_that_may_not_be_written() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        target = Path(name) / "a map.dzi"
        write("old", target)
        Path(name).chmod(0o555)
        with without_root_rights():
            assert "a map.dzi exists already" in try_to_write("new", target)
            assert try_to_write("new", target, overwrite=True).endswith(": Permission denied")
        assert identify_only_result(target) == "old"


@pytest.mark.parametrize("above", ["", "x/y"])
def test_a_folder_that_may_not_be_written(above: str) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as name:  # nobody cannot look into tmp_path
        Path(name).chmod(0o555)
        target = Path(name) / above / "a map.dzi"
        with without_root_rights():
            message = try_to_write("old", target)
        assert message.startswith(f"cannot {'make folder' if above else 'work in'} {target.parent}")
        assert message.endswith(": Permission denied")
        assert list(Path(name).iterdir()) == []


@pytest.mark.parametrize("name", ["style.css", "9.jpg", "x/y.js", "12a/0_0.jpg"])
def test_a_folder_that_a_browser_saved_is_not_replaced(target: Path, name: str) -> None:
    saved = target.with_name("a map_files") / name
    saved.parent.mkdir(parents=True)
    saved.write_text("saved")
    for _ in range(2):
        message = try_to_write("new", target, overwrite=True)
        assert "is no folder of Deep Zoom tiles, for it holds " in message
        assert saved.read_text() == "saved"
        assert names_in_folder(target) == ["a map_files"]


@pytest.mark.parametrize("name", ["vips-properties.xml", "Thumbs.db", ".DS_Store"])
def test_files_of_other_tools_in_the_folder_go_with_it(target: Path, name: str) -> None:
    write("old", target)
    (target.with_name("a map_files") / name).write_text("x")
    write("new", target, overwrite=True)
    assert identify_only_result(target) == "new"
