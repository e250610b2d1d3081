"""Who owns the work folder: two runs on one target, and what a killed run left."""

from __future__ import annotations

import errno
import os
import sys
import threading
from pathlib import Path

import pytest

from fasttile.errors import TargetError
from fasttile.storage import work_folder as workfolder
from fasttile.storage.work_folder import WorkFolder
from support.deepzoom_files import identify_only_result, open_sink, put_tiles, try_to_write, write

if sys.platform == "win32":
    pytest.skip("needs symbolic links", allow_module_level=True)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder / "a map.dzi"


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_second_run_is_refused_while_the_first_lives(target: Path, overwrite: bool) -> None:
    first = open_sink("old", target)
    put_tiles(first, "old")
    with pytest.raises(TargetError, match=r"another run is at work in .*/.a map.dzi.fasttile;"):
        open_sink("new", target, overwrite=overwrite)
    first.finish()
    assert identify_only_result(target) == "old"


def test_what_a_killed_run_left_is_removed(target: Path) -> None:
    left = target.parent / ".a map.dzi.fasttile/new/a map_files/7"
    left.mkdir(parents=True)
    (left / "0_0.png").write_text("half a ti")
    (left.parent.parent.parent / "lock").touch()
    write("new", target)
    assert identify_only_result(target) == "new"


def test_links_in_what_was_left_are_not_followed(target: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    work = target.parent / ".a map.dzi.fasttile"
    work.mkdir()
    (work / "new").symlink_to(tmp_path)
    (work / "sub").mkdir()
    (work / "sub/link").symlink_to(tmp_path)
    write("new", target)
    assert identify_only_result(target) == "new"
    assert (tmp_path / "mine").exists()


def test_something_else_in_place_of_the_work_folder(target: Path, tmp_path: Path) -> None:
    work = target.parent / ".a map.dzi.fasttile"
    work.touch()
    assert f"{work} is in the way" in try_to_write("new", target)
    work.unlink()
    work.symlink_to(tmp_path)
    assert f"{work} is in the way" in try_to_write("new", target)
    work.unlink()
    work.mkdir()
    (work / "lock").symlink_to("nowhere")
    assert "cannot work in" in try_to_write("new", target)


def test_only_one_has_a_work_folder_at_a_time(tmp_path: Path) -> None:
    """Four threads claim and remove one folder, as four runs would; each claim is its own lock."""
    path = tmp_path / "work"
    faults: list[BaseException] = []
    claims: list[int] = []

    def contend() -> None:
        try:
            while len(claims) < 400 and not faults:
                try:
                    work = WorkFolder(path)
                except TargetError as error:
                    if "another run is at work" not in str(error):
                        raise
                    continue
                (path / "owner").touch(exist_ok=False)
                claims.append(1)
                (path / "owner").unlink()
                work.remove()
        except BaseException as fault:
            faults.append(fault)

    threads = [threading.Thread(target=contend) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    assert len(claims) >= 400
    assert not path.exists()


def test_a_file_system_without_locks(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # No such file system is at hand, so its answer is made up.
    def refuse(handle: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(workfolder, "_lock", refuse)
    first = open_sink("old", target)
    with pytest.raises(TargetError, match="no locks; if no other run uses it, remove it"):
        open_sink("new", target)
    put_tiles(first, "old")
    first.finish()
    assert identify_only_result(target) == "old"
