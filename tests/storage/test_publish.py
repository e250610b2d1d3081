"""Publishing: processes killed, refused and interrupted at every step, and what the next finds."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from shutil import copytree
from tempfile import TemporaryDirectory

import pytest

from support.deepzoom_files import (
    DZI_TARGET,
    FOLDER_TARGET,
    FULL_TARGET,
    NEW_TILES_MARKER,
    descriptor_files,
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
    pytest.skip("needs fork and SIGKILL", allow_module_level=True)

from fasttile.errors import TargetError
from fasttile.layouts.deepzoom import DeepZoom
from fasttile.sinks.folder import DirectorySink
from fasttile.storage.folders import Folder, exchange, rename_new
from support.faulty_process import FaultyProcess

PENDING_FILES = ("publish-new", "publish-over")
"""The files that say that a killed run is to be finished."""


def fault_cases(*faults: str) -> pytest.MarkDecorator:
    """Targets, the result before, whether the system can exchange names, and faults.

    Targets of none or many files beside the tiles meet fewer fates: the ways are the same.
    """
    return pytest.mark.parametrize(
        ("name", "old", "swap", "fate"),
        [
            pytest.param(name, old, swap, fate, id=f"{name}-{old}-{fate}-{EXCHANGE_METHODS[swap]}")
            for fate in faults
            for name in (DZI_TARGET, FOLDER_TARGET, FULL_TARGET)
            for old in ("nothing", "old")
            for swap in (True, False)
            if name == DZI_TARGET
            or (old == "old" and fate == faults[0] and swap == (name == FOLDER_TARGET))
        ],
    )


EXCHANGE_METHODS = {True: "renameat2", False: "plain renames"}

FIRST_PUBLISH_STEP = 12
"""A step in which tiles are written: the earlier ones are the same for all targets."""


@pytest.fixture
def scratch_folder(tmp_path: Path) -> Iterator[Path]:
    """An empty folder, in memory where there is one: these tests write a thousand images."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with TemporaryDirectory(dir=memory) as name:
        yield Path(name)


@pytest.fixture(scope="module")
def faulty_process() -> Iterator[FaultyProcess]:
    mortals = FaultyProcess()
    yield mortals
    mortals.close()


def prepare_target(folder: Path, old: str, name: str = DZI_TARGET) -> Path:
    """A fresh folder in which the old image stands, or nothing; the target in it."""
    folder.mkdir()
    target = folder / name
    if old != "nothing":
        write(old, target)
    return target


def is_pending(target: Path) -> bool:
    work = target.parent / f".{target.name}.fasttile"
    return any((work / name).exists() for name in PENDING_FILES)


def state_after_next_run(target: Path, is_recovered: bool) -> str:
    """Let the next run come, which may not overwrite; the result before or after it."""
    text = ""
    try:
        sink = open_sink("next", target)
    except TargetError as error:
        text = str(error)
    else:
        put_tiles(sink, "next", target)
        sink.finish()
    image = identify_only_result(target)
    refused = text.endswith(" exists already; choose another name, or use --overwrite")
    assert refused == (image != "next")
    assert not is_recovered or image == "new"
    return image


@fault_cases("killed", "stuck")
def test_ended_at_every_step(
    faulty_process: FaultyProcess, scratch_folder: Path, name: str, old: str, swap: bool, fate: str
) -> None:
    """A process that is stuck can put nothing back, and must not remove what it cannot put back."""
    outcomes = []
    for step in range(0 if name == DZI_TARGET else FIRST_PUBLISH_STEP, 1000):
        target = prepare_target(scratch_folder / str(step), old, name)
        end, text = faulty_process.write(
            "new", target, overwrite=old == "old", fault=fate, step=step, exchange=swap
        )
        found = identify_result(target)
        pending = is_pending(target)
        # Before the end is near, nothing is touched; no state but the old, the new, or none.
        assert found in {old, "new"} or pending, step
        outcomes.append(state_after_next_run(target, pending))
        if (end, text) == ("done", ""):
            assert found == "new"
            break
        assert end == ("killed" if fate == "killed" else "done")
    # It turns once, from what was there (or the next run's own image) to the new one.
    turn = outcomes.index("new")
    assert set(outcomes[:turn]) == {"old" if old == "old" else "next"}
    assert set(outcomes[turn:]) == {"new"}
    assert len(outcomes) - turn > 8


@fault_cases("killed")
def test_killed_again_while_finishing_what_a_killed_run_left(
    faulty_process: FaultyProcess, scratch_folder: Path, name: str, old: str, swap: bool, fate: str
) -> None:
    twice = 0
    for step in range(0, 1000, 2 if name == DZI_TARGET and old == "old" else 4):
        first = prepare_target(scratch_folder / f"{step}", old, name)
        end, _ = faulty_process.write(
            "new", first, overwrite=old == "old", fault=fate, step=step, exchange=swap
        )
        if end == "done":
            break
        if not is_pending(first):
            continue
        for again in range(1000):
            folder = scratch_folder / f"{step}-{again}"
            copytree(first.parent, folder)
            target = folder / first.name
            end, _ = faulty_process.write("next", target, step=again, exchange=swap)
            assert end == "killed"
            assert identify_result(target) in {"nothing", old, "new"}
            pending = is_pending(target)
            assert state_after_next_run(target, is_recovered=True) == "new"
            twice += 1
            if not pending:  # what comes now is cleaning, as in any run
                break
    assert twice > 5


@fault_cases("refused", "interrupted")
def test_stopped_at_every_step(
    faulty_process: FaultyProcess, scratch_folder: Path, name: str, old: str, swap: bool, fate: str
) -> None:
    ends = set()
    for step in range(0 if name == DZI_TARGET else FIRST_PUBLISH_STEP, 1000):
        target = prepare_target(scratch_folder / str(step), old, name)
        outcome = faulty_process.write(
            "new", target, overwrite=old == "old", fault=fate, step=step, exchange=swap
        )
        image = identify_result(target)
        ends.add((image, outcome.ending, outcome.message.rpartition(": ")[2]))
        if " is published, but something is left in " in outcome.message or (
            outcome.ending == "interrupted" and image == "new"
        ):
            assert state_after_next_run(target, is_recovered=False) == "new"
            continue
        assert identify_only_result(target) == image
        if (outcome.ending, outcome.message) == ("done", ""):
            break
        assert "\n" not in outcome.message
    if fate == "interrupted":
        assert ends == {
            (old, "interrupted", ""),
            ("new", "interrupted", ""),
            ("new", "done", ""),
        }
    else:
        left = "Input/output error; the next run on it removes that"
        assert ends == {
            (old, "done", "Input/output error"),
            ("new", "done", left),
            ("new", "done", ""),
        }


@pytest.mark.parametrize("name", ["a map.dzi", "a map_files"])
def test_what_appears_in_the_meantime_is_not_replaced(scratch_folder: Path, name: str) -> None:
    target = scratch_folder / "a map.dzi"
    sink = open_sink("new", target)
    put_tiles(sink, "new")
    foreign = scratch_folder / name
    foreign.mkdir()
    with pytest.raises(Exception, match=f"{name} exists already"):
        sink.finish()
    sink.abort()
    assert names_in_folder(target) == [name]
    assert list(foreign.iterdir()) == []


@pytest.mark.parametrize("name", ["a map.dzi", "a map_files"])
def test_what_appears_after_a_kill_is_not_replaced(
    faulty_process: FaultyProcess, scratch_folder: Path, name: str
) -> None:
    for step in range(1000):
        target = prepare_target(scratch_folder / str(step), "nothing")
        faulty_process.write("new", target, step=step)
        if is_pending(target):
            break
    assert identify_result(target) == "nothing"
    foreign = target.with_name(name)
    foreign.write_text("foreign")
    text = try_to_write("next", target)
    # The unfit folder is refused at once; a foreign descriptor only after the work is taken back.
    assert "exists" in text
    assert foreign.read_text() == "foreign"
    foreign.unlink()
    try_to_write("next", target)
    assert identify_only_result(target) == ("next" if name == "a map.dzi" else "new")


def test_tiles_are_taken_back_where_a_foreign_descriptor_appears_after_a_kill(
    faulty_process: FaultyProcess, scratch_folder: Path
) -> None:
    for step in range(1000):
        target = prepare_target(scratch_folder / str(step), "nothing")
        faulty_process.write("new", target, step=step)
        if target.with_name("a map_files").exists():
            break
    assert not target.exists()
    target.write_text("foreign")
    assert "exists already" in try_to_write("next", target)
    assert names_in_folder(target) == ["a map.dzi"]
    assert target.read_text() == "foreign"


@pytest.mark.parametrize("swap", [True, False], ids=["renameat2", "plain renames"])
def test_a_killed_run_is_finished_by_one_that_writes_fewer_files(
    faulty_process: FaultyProcess, scratch_folder: Path, swap: bool
) -> None:
    """The plan in its work folder says which of the descriptors of Deep Zoom it had."""
    finished = 0
    for step in range(FIRST_PUBLISH_STEP, 1000):
        target = prepare_target(scratch_folder / str(step), "old", FULL_TARGET)
        end, _ = faulty_process.write("new", target, overwrite=True, step=step, exchange=swap)
        if end == "done":
            break
        layout, page = layout_of("next", target), {"full.html": b"page"}
        with pytest.raises(TargetError, match="exists already"):
            DirectorySink(DeepZoom(layout.name, layout.pyramid, "jpg"), target, files=page)
        finished += identify_only_result(target) == "new"
    assert finished > 8


@pytest.mark.parametrize("swap", [True, False], ids=["renameat2", "plain renames"])
def test_a_killed_run_is_taken_back_by_one_that_writes_fewer_files(
    faulty_process: FaultyProcess, scratch_folder: Path, swap: bool
) -> None:
    taken_back = 0
    for step in range(FIRST_PUBLISH_STEP, 1000):
        target = prepare_target(scratch_folder / str(step), "nothing", FULL_TARGET)
        end, _ = faulty_process.write("new", target, step=step, exchange=swap)
        if end == "done":
            break
        if not is_pending(target) or target.exists():
            continue
        target.write_text("foreign")
        layout, page = layout_of("next", target), {"full.html": b"page"}
        with pytest.raises(TargetError, match="exists already"):
            DirectorySink(DeepZoom(layout.name, layout.pyramid, "jpg"), target, files=page)
        assert names_in_folder(target) == [FULL_TARGET]
        assert target.read_text() == "foreign"
        taken_back += 1
    assert taken_back > 3


def test_a_page_of_a_killed_run_is_published_by_no_run_without_one(
    faulty_process: FaultyProcess, scratch_folder: Path
) -> None:
    target = kill_before_publishing(faulty_process, scratch_folder, FULL_TARGET, "old")
    before = names_in_folder(target)
    layout = layout_of("next", target)
    with pytest.raises(
        TargetError, match=r"another result \(full.html\), so nothing in it is used"
    ):
        DirectorySink(layout, target, overwrite=True)
    assert names_in_folder(target) == before
    assert identify_result(target) == "old"


def test_a_work_folder_that_lost_its_names_is_finished_by_those_at_hand(
    faulty_process: FaultyProcess, scratch_folder: Path
) -> None:
    """After a power cut a file may be there, and empty."""
    for step in range(1000):
        target = prepare_target(scratch_folder / str(step), "nothing")
        faulty_process.write("new", target, step=step)
        if is_pending(target):
            break
    (target.parent / ".a map.dzi.fasttile/publish-new").write_bytes(b"")
    assert "exists already" in try_to_write("next", target)
    assert identify_only_result(target) == "new"


def kill_before_publishing(
    faulty_process: FaultyProcess, scratch_folder: Path, name: str, old: str
) -> Path:
    """The target of a run that was killed when all was written, and nothing yet published."""
    for step in range(FIRST_PUBLISH_STEP, 1000):
        target = prepare_target(scratch_folder / str(step), old, name)
        faulty_process.write("new", target, overwrite=old == "old", step=step)
        if is_pending(target):
            assert identify_result(target) == old
            return target
    raise AssertionError("none was")


def test_a_foreign_folder_that_appears_after_a_kill_is_not_overwritten(
    faulty_process: FaultyProcess, scratch_folder: Path
) -> None:
    """The killed run might replace the older result; this folder is another."""
    target = kill_before_publishing(faulty_process, scratch_folder, FOLDER_TARGET, "old")
    target.rename(target.with_name("moved"))
    target.mkdir()
    (target / "photo.jpg").write_text("mine")
    assert "exists already" in try_to_write("next", target)
    assert names_in_folder(target) == [FOLDER_TARGET, "moved"]
    assert [path.name for path in target.iterdir()] == ["photo.jpg"]


@pytest.mark.parametrize("name", [DZI_TARGET, FOLDER_TARGET, FULL_TARGET])
def test_folders_above_may_be_renamed_before_a_killed_run_is_finished(
    faulty_process: FaultyProcess, scratch_folder: Path, name: str
) -> None:
    target = kill_before_publishing(faulty_process, scratch_folder, name, "old")
    target = target.parent.rename(scratch_folder / "moved") / name
    assert state_after_next_run(target, is_recovered=True) == "new"


@pytest.mark.parametrize(
    "plan",
    [
        "[",
        "[]",
        "{}",
        "[" * 100_000,
        '{"layout": "dzi", "tiles": 1, "files": []}',
        '{"layout": "dzi", "tiles": ["a map_files"], "files": []}',
        '{"layout": "dzi", "tiles": "../x", "files": []}',
        '{"layout": "dzi", "tiles": "..", "files": []}',
        '{"layout": "dzi", "tiles": "x_files", "files": ["a map.dzi"]}',
        '{"layout": "dzi", "tiles": "a map_files", "files": ["a/b"]}',
        '{"layout": "dzi", "tiles": "a map_files", "files": ["authorized_keys"]}',
        '{"layout": "dzi", "tiles": "a map_files", "files": [["a map.dzi"]]}',
        '{"layout": "zoomify", "tiles": "a map_files", "files": ["a map.dzi"]}',
    ],
    ids=lambda plan: plan[:70],
)
def test_a_plan_of_another_result_is_refused(scratch_folder: Path, plan: str) -> None:
    """And nothing is removed: the older result may be in the work folder."""
    target = scratch_folder / DZI_TARGET
    work = scratch_folder / f".{DZI_TARGET}.fasttile"
    (work / "old").mkdir(parents=True)
    (work / "publish-over").write_text(plan)
    (work / "old" / DZI_TARGET).write_text("older")
    message = try_to_write("next", target, overwrite=True)
    assert message.startswith(str(work))
    assert message.endswith("so nothing in it is used; repeat the run that left it, or remove it")
    assert "\n" not in message
    assert (work / "publish-over").read_text() == plan
    assert (work / "old" / DZI_TARGET).read_text() == "older"
    assert names_in_folder(target) == [work.name]


@pytest.mark.parametrize("path", [*descriptor_files("new", Path(FULL_TARGET)), "full_files"])
def test_any_file_that_is_there_is_refused_or_replaced(scratch_folder: Path, path: str) -> None:
    target = scratch_folder / FULL_TARGET
    write("old", target)
    for other in [*descriptor_files("old", target), "full_files"]:
        if other != path:
            (scratch_folder / other).rename(scratch_folder / f"-{other}")
    text = try_to_write("new", target)
    assert (
        text == f"{scratch_folder / path} exists already; choose another name, or use --overwrite"
    )
    assert (scratch_folder / path).exists()
    write("new", target, overwrite=True)
    assert identify_result(target) == "new"


def test_the_mark_is_gone_once_published(scratch_folder: Path) -> None:
    target = scratch_folder / "a map.dzi"
    write("old", target)
    assert NEW_TILES_MARKER not in names_in_folder(target)
    assert identify_only_result(target) == "old"


def test_exchange_swaps_folders_of_any_content(scratch_folder: Path) -> None:
    one, other = scratch_folder / "one", scratch_folder / "other"
    one.mkdir()
    other.mkdir()
    (one / "1").touch()
    with Folder.open(scratch_folder) as folder:
        exchanged = exchange(folder, "one", folder, "other")
    if not exchanged:
        pytest.skip("NOT TESTED: this file system knows no exchange")
    assert [path.name for path in other.iterdir()] == ["1"]
    assert list(one.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("system_call", [True, False])
def test_rename_new_never_replaces(
    scratch_folder: Path, monkeypatch: pytest.MonkeyPatch, system_call: bool
) -> None:
    if not system_call:
        monkeypatch.setattr("fasttile.storage.folders._system_call", lambda: None)
    one, other = scratch_folder / "one", scratch_folder / "other"
    one.write_text("1")
    other.symlink_to("nowhere")
    with Folder.open(scratch_folder) as folder:
        with pytest.raises(FileExistsError):
            rename_new(folder, "one", folder, "other")
        assert one.read_text() == "1"
        other.unlink()
        rename_new(folder, "one", folder, "other")
        assert other.read_text() == "1"
        assert not one.exists()
        with pytest.raises(FileNotFoundError):
            rename_new(folder, "one", folder, "third")
