"""What holds for all sinks that write one file: all of it, or nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from fasttile.errors import TargetError
from fasttile.geometry import Tile
from support.one_file_sinks import KINDS, layout_of, open_sink, put_tiles, tile_bytes, write

if sys.platform == "win32":
    pytest.skip("needs POSIX limits and links", allow_module_level=True)

import resource

all_kinds = pytest.mark.parametrize("kind", KINDS)
fast_kinds = pytest.mark.parametrize("kind", ["zip", "pmtiles", "mbtiles", "tiff-jpeg"])


def target_path(folder: Path, kind: str) -> Path:
    return folder / f"a map.{kind.partition('-')[0]}"


def names_in_folder(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def run_in_new_process(code: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a few lines, which find these tests' helpers, with arguments."""
    here = str(Path(__file__).parents[1])
    lines = (
        f"import sys; sys.path.insert(0, {here!r})\nfrom support.one_file_sinks import *\n{code}"
    )
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", lines, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


# ---- all or nothing ----------------------------------------------------------------------------


@all_kinds
def test_nothing_stands_there_before_the_end(tmp_path: Path, kind: str) -> None:
    target = target_path(tmp_path, kind)
    sink = open_sink(kind, target)
    put_tiles(sink, kind)
    assert names_in_folder(tmp_path) == [f".{target.name}.fasttile"]
    sink.finish()
    assert names_in_folder(tmp_path) == [target.name]
    assert target.stat().st_size > 100


@all_kinds
def test_abort_leaves_nothing_and_unmakes_folders(tmp_path: Path, kind: str) -> None:
    sink = open_sink(kind, target_path(tmp_path / "x/y", kind))
    put_tiles(sink, kind)
    sink.abort()
    sink.abort()
    assert names_in_folder(tmp_path) == []


@all_kinds
def test_missing_folders_are_made_and_stay(tmp_path: Path, kind: str) -> None:
    target = target_path(tmp_path / "x/y", kind)
    write(kind, target)
    assert names_in_folder(target.parent) == [target.name]


@all_kinds
def test_what_stands_there_is_refused_unless_overwritten(tmp_path: Path, kind: str) -> None:
    target = target_path(tmp_path, kind)
    target.write_text("old")
    with pytest.raises(TargetError) as caught:
        open_sink(kind, target)
    assert str(caught.value) == f"{target} exists already; choose another name, or use --overwrite"
    sink = open_sink(kind, target, overwrite=True)
    put_tiles(sink, kind)
    assert target.read_text() == "old"
    sink.abort()
    assert target.read_text() == "old"
    write(kind, target, overwrite=True)
    assert target.stat().st_size > 100
    assert names_in_folder(tmp_path) == [target.name]


@all_kinds
def test_what_appears_in_the_meantime_is_not_replaced(tmp_path: Path, kind: str) -> None:
    target = target_path(tmp_path, kind)
    sink = open_sink(kind, target)
    put_tiles(sink, kind)
    target.write_text("foreign")
    with pytest.raises(TargetError, match="exists already; choose another name"):
        sink.finish()
    sink.abort()
    assert target.read_text() == "foreign"
    assert names_in_folder(tmp_path) == [target.name]


@fast_kinds
@pytest.mark.parametrize("overwrite", [True, False])
def test_links_and_folders_are_refused(tmp_path: Path, kind: str, overwrite: bool) -> None:
    target = target_path(tmp_path, kind)
    target.symlink_to(tmp_path / "nowhere")
    with pytest.raises(TargetError, match="is a symbolic link; remove it, or name"):
        open_sink(kind, target, overwrite=overwrite)
    target.unlink()
    target.mkdir()
    with pytest.raises(TargetError, match="exists and is not a plain file"):
        open_sink(kind, target, overwrite=overwrite)
    assert names_in_folder(tmp_path) == [target.name]


@fast_kinds
def test_a_file_where_a_folder_should_be(tmp_path: Path, kind: str) -> None:
    (tmp_path / "x").write_text("mine")
    with pytest.raises(TargetError, match="Not a directory"):
        open_sink(kind, target_path(tmp_path / "x", kind))
    assert names_in_folder(tmp_path) == ["x"]


@all_kinds
def test_a_relative_target_stays_where_it_was(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "one")
    sink = open_sink(kind, Path(target_path(Path(), kind).name))
    monkeypatch.chdir(tmp_path / "other")
    put_tiles(sink, kind)
    sink.finish()
    assert names_in_folder(tmp_path / "one") == [target_path(tmp_path, kind).name]
    assert names_in_folder(tmp_path / "other") == []


@fast_kinds
def test_files_have_the_rights_that_the_umask_leaves(tmp_path: Path, kind: str) -> None:
    before = os.umask(0o027)
    try:
        write(kind, target_path(tmp_path, kind))
    finally:
        os.umask(before)
    assert target_path(tmp_path, kind).stat().st_mode & 0o777 == 0o640


@fast_kinds
@pytest.mark.parametrize("name", ["-rf", 'a"b?&%c', "Übergröße 日本", "two\nlines"])
def test_any_name_that_is_text(tmp_path: Path, kind: str, name: str) -> None:
    target = tmp_path / f"{name}.{kind}"
    write(kind, target, name=name)
    assert names_in_folder(tmp_path) == [target.name]
    with pytest.raises(TargetError) as caught:
        open_sink(kind, target, name=name)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("kind", ["pmtiles", "mbtiles", "tiff-jpeg"])
def test_a_name_that_is_no_text(tmp_path: Path, kind: str) -> None:
    """A file's name may be any bytes; where the name is only shown, it is text."""
    target = tmp_path / f"\udcff.{kind}"
    write(kind, target, name="\udcff")
    assert target.exists()


# ---- runs side by side, and runs that were killed ----------------------------------------------


@fast_kinds
def test_a_second_run_is_refused_while_the_first_lives(tmp_path: Path, kind: str) -> None:
    target = target_path(tmp_path, kind)
    first = open_sink(kind, target)
    put_tiles(first, kind)
    with pytest.raises(TargetError, match="another run is at work in"):
        open_sink(kind, target, overwrite=True)
    first.finish()
    assert names_in_folder(tmp_path) == [target.name]


@fast_kinds
def test_what_a_killed_run_left_is_removed_by_the_next(tmp_path: Path, kind: str) -> None:
    target = target_path(tmp_path, kind)
    target.write_text("old")
    code = (
        "import os\n"
        "sink = open_sink(sys.argv[1], sys.argv[2], overwrite=True)\n"
        "put_tiles(sink, sys.argv[1])\n"
        "os._exit(7)\n"
    )
    assert run_in_new_process(code, kind, target).returncode == 7
    assert f".{target.name}.fasttile" in names_in_folder(tmp_path)
    assert target.read_text() == "old"
    write(kind, target, overwrite=True)
    assert names_in_folder(tmp_path) == [target.name]
    assert target.stat().st_size > 100


# ---- its end -----------------------------------------------------------------------------------


@all_kinds
@pytest.mark.parametrize("end", ["finish", "abort"])
def test_a_sink_that_has_ended_takes_nothing(tmp_path: Path, kind: str, end: str) -> None:
    target = target_path(tmp_path, kind)
    sink = open_sink(kind, target)
    put_tiles(sink, kind)
    getattr(sink, end)()
    before = names_in_folder(tmp_path)
    late = tile_bytes(kind, Tile(layout_of(kind).base_level, 0, 0))
    for _ in range(2):
        with pytest.raises(ValueError, match="the sink has ended; it takes no more tiles"):
            sink.put(Tile(layout_of(kind).base_level, 0, 0), late)
    with pytest.raises(TargetError, match=r"cannot publish .*: its sink has ended"):
        sink.finish()
    sink.abort()
    assert names_in_folder(tmp_path) == before


def open_handles() -> list[str]:
    return sorted(path.name for path in Path("/dev/fd").iterdir())


@all_kinds
def test_no_handle_stays_open(tmp_path: Path, kind: str) -> None:
    target = target_path(tmp_path, kind)
    before = open_handles()
    write(kind, target)
    sink = open_sink(kind, target, overwrite=True)
    put_tiles(sink, kind)
    sink.abort()
    with pytest.raises(TargetError):
        open_sink(kind, target)
    assert open_handles() == before


@all_kinds
def test_another_thread_may_put_and_finish(tmp_path: Path, kind: str) -> None:
    sink = open_sink(kind, target_path(tmp_path, kind))
    faults: list[BaseException] = []

    def work() -> None:
        try:
            put_tiles(sink, kind)
        except BaseException as fault:
            faults.append(fault)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert faults == []
    sink.finish()
    assert names_in_folder(tmp_path) == [target_path(tmp_path, kind).name]


def test_the_same_tiles_give_the_same_bytes(tmp_path: Path) -> None:
    """Also in a process whose hashes, clock and folder are others."""
    code = "for kind in KINDS:\n    write(kind, f'{sys.argv[1]}/{kind}')"
    message = run_in_new_process(code, tmp_path / "x")
    assert message.stderr == ""
    for kind in KINDS:
        write(kind, tmp_path / "y z" / kind)
        assert (tmp_path / "x" / kind).read_bytes() == (tmp_path / "y z" / kind).read_bytes()


# ---- what the system refuses -------------------------------------------------------------------


def put_until_error(sink: object, kind: str, put: Callable[[Tile, bytes], None]) -> None:
    layout = layout_of(kind)
    level = layout.pyramid.levels[-1]
    data = tile_bytes(kind, Tile(layout.base_level, 0, 0)) + os.urandom(20_000)
    for _ in range(1000):
        put(Tile(level.number, 0, 0), data)


@all_kinds
@pytest.mark.parametrize("old", [True, False])
def test_a_file_that_may_not_grow(tmp_path: Path, kind: str, old: bool) -> None:
    """As on a full disk, which takes a part of a write, and then reports an error."""
    target = target_path(tmp_path, kind)
    if old:
        target.write_text("old")
    sink = open_sink(kind, target, overwrite=True)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(TargetError) as caught:
            put_until_error(sink, kind, sink.put)
        sink.abort()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(caught.value).startswith(f"cannot write {tmp_path}/.{target.name}.fasttile/")
    assert str(caught.value).isprintable()
    assert names_in_folder(tmp_path) == ([target.name] if old else [])
    assert not old or target.read_text() == "old"


@all_kinds
def test_no_room_left_at_the_end(tmp_path: Path, kind: str) -> None:
    """The tiles were written, and the list of their places is not."""
    target = target_path(tmp_path, kind)
    target.write_text("old")
    sink = open_sink(kind, target, overwrite=True)
    put_tiles(sink, kind)
    size = max(path.stat().st_size for path in (tmp_path / f".{target.name}.fasttile").iterdir())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (min(size, 10_000), hard))
    try:
        with pytest.raises(TargetError) as caught:
            sink.finish()
        sink.abort()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(caught.value).startswith(f"cannot write {tmp_path}/.{target.name}.fasttile/")
    assert names_in_folder(tmp_path) == [target.name]
    assert target.read_text() == "old"


@fast_kinds
def test_a_folder_that_cannot_be_renamed_into(tmp_path: Path, kind: str) -> None:
    target = target_path(tmp_path, kind)
    sink = open_sink(kind, target, overwrite=True)
    put_tiles(sink, kind)
    target.mkdir()
    with pytest.raises(TargetError, match=r"cannot publish .*: Is a directory"):
        sink.finish()
    sink.abort()
    assert names_in_folder(tmp_path) == [target.name]
