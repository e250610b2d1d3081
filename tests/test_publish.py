"""Publishing: processes killed, refused and interrupted at every step, and what the next finds."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from shutil import copytree
from tempfile import TemporaryDirectory

import pytest

from deepzoom_disk import (
    FULL,
    MARK,
    NONE,
    ONE,
    announced,
    beside,
    layout_of,
    open_sink,
    put_tiles,
    standing,
    try_to_write,
    whole,
    write,
)

if sys.platform == "win32":
    pytest.skip("needs fork and SIGKILL", allow_module_level=True)

from fasttile.errors import TargetError
from fasttile.layouts.deepzoom import DeepZoom
from fasttile.sinks.directory import DirectorySink
from fasttile.sinks.rename import exchange, rename_new
from mortal import Mortals

PENDING = ("publish-new", "publish-over")
"""The files that say that a killed run is to be finished."""


def cases(*fates: str) -> pytest.MarkDecorator:
    """Targets, what stands there before, whether the system can exchange names, and fates.

    Targets of none or many files beside the tiles meet fewer fates: the ways are the same.
    """
    return pytest.mark.parametrize(
        ("name", "old", "swap", "fate"),
        [
            pytest.param(name, old, swap, fate, id=f"{name}-{old}-{fate}-{WAYS[swap]}")
            for fate in fates
            for name in (ONE, NONE, FULL)
            for old in ("nothing", "old")
            for swap in (True, False)
            if name == ONE or (old == "old" and fate == fates[0] and swap == (name == NONE))
        ],
    )


WAYS = {True: "renameat2", False: "plain renames"}

LATE = 12
"""A step in which tiles are written: what comes before is the same whatever the target."""


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Path]:
    """An empty folder, in memory where there is one: these tests write a thousand pictures."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with TemporaryDirectory(dir=memory) as name:
        yield Path(name)


@pytest.fixture(scope="module")
def mortals() -> Iterator[Mortals]:
    mortals = Mortals()
    yield mortals
    mortals.close()


def made_ready(folder: Path, old: str, name: str = ONE) -> Path:
    """A fresh folder in which the old picture stands, or nothing; the target in it."""
    folder.mkdir()
    target = folder / name
    if old != "nothing":
        write(old, target)
    return target


def is_pending(target: Path) -> bool:
    work = target.parent / f".{target.name}.fasttile"
    return any((work / name).exists() for name in PENDING)


def after_the_next_run(target: Path, recovered: bool) -> str:
    """Let the next run come, which may not overwrite; what stands there before or after it."""
    told = ""
    try:
        sink = open_sink("next", target)
    except TargetError as error:
        told = str(error)
    else:
        put_tiles(sink, "next", target)
        sink.finish()
    picture = whole(target)
    refused = told.endswith(" exists already; choose another name, or overwrite it")
    assert refused == (picture != "next")
    assert not recovered or picture == "new"
    return picture


@cases("killed", "stuck")
def test_ended_at_every_step(
    mortals: Mortals, room: Path, name: str, old: str, swap: bool, fate: str
) -> None:
    """A process that is stuck can put nothing back, and must not remove what it cannot put back."""
    outcomes = []
    for step in range(0 if name == ONE else LATE, 1000):
        target = made_ready(room / str(step), old, name)
        end, told = mortals.write(
            "new", target, overwrite=old == "old", fate=fate, at=step, exchange=swap
        )
        found = standing(target)
        pending = is_pending(target)
        # Before the end is near, nothing is touched; no state but the old, the new, or none.
        assert found in {old, "new"} or pending, step
        outcomes.append(after_the_next_run(target, pending))
        if (end, told) == ("done", ""):
            assert found == "new"
            break
        assert end == ("killed" if fate == "killed" else "done")
    # It turns once, from what was there (or the next run's own picture) to the new one.
    turn = outcomes.index("new")
    assert set(outcomes[:turn]) == {"old" if old == "old" else "next"}
    assert set(outcomes[turn:]) == {"new"}
    assert len(outcomes) - turn > 8


@cases("killed")
def test_killed_again_while_finishing_what_a_killed_run_left(
    mortals: Mortals, room: Path, name: str, old: str, swap: bool, fate: str
) -> None:
    twice = 0
    for step in range(0, 1000, 2 if name == ONE and old == "old" else 4):
        first = made_ready(room / f"{step}", old, name)
        end, _ = mortals.write(
            "new", first, overwrite=old == "old", fate=fate, at=step, exchange=swap
        )
        if end == "done":
            break
        if not is_pending(first):
            continue
        for again in range(1000):
            folder = room / f"{step}-{again}"
            copytree(first.parent, folder)
            target = folder / first.name
            end, _ = mortals.write("next", target, at=again, exchange=swap)
            assert end == "killed"
            assert standing(target) in {"nothing", old, "new"}
            pending = is_pending(target)
            assert after_the_next_run(target, recovered=True) == "new"
            twice += 1
            if not pending:  # what comes now is cleaning, as in any run
                break
    assert twice > 5


@cases("refused", "interrupted")
def test_stopped_at_every_step(
    mortals: Mortals, room: Path, name: str, old: str, swap: bool, fate: str
) -> None:
    ends = set()
    for step in range(0 if name == ONE else LATE, 1000):
        target = made_ready(room / str(step), old, name)
        outcome = mortals.write(
            "new", target, overwrite=old == "old", fate=fate, at=step, exchange=swap
        )
        picture = standing(target)
        ends.add((picture, outcome.end, outcome.told.rpartition(": ")[2]))
        if " is published, but something is left in " in outcome.told:
            assert picture == "new"
            assert after_the_next_run(target, recovered=False) == "new"
            continue
        assert whole(target) == picture
        if (outcome.end, outcome.told) == ("done", ""):
            break
        assert "\n" not in outcome.told
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
def test_what_appears_in_the_meantime_is_not_replaced(room: Path, name: str) -> None:
    target = room / "a map.dzi"
    sink = open_sink("new", target)
    put_tiles(sink, "new")
    foreign = room / name
    foreign.mkdir()
    with pytest.raises(Exception, match=f"{name} exists already"):
        sink.finish()
    sink.abort()
    assert beside(target) == [name]
    assert list(foreign.iterdir()) == []


@pytest.mark.parametrize("name", ["a map.dzi", "a map_files"])
def test_what_appears_after_a_kill_is_not_replaced(mortals: Mortals, room: Path, name: str) -> None:
    for step in range(1000):
        target = made_ready(room / str(step), "nothing")
        mortals.write("new", target, at=step)
        if is_pending(target):
            break
    assert standing(target) == "nothing"
    foreign = target.with_name(name)
    foreign.write_text("foreign")
    told = try_to_write("next", target)
    # The unfit folder is refused at once; a foreign descriptor only after the work is taken back.
    assert "exists" in told
    assert foreign.read_text() == "foreign"
    foreign.unlink()
    try_to_write("next", target)
    assert whole(target) == ("next" if name == "a map.dzi" else "new")


def test_tiles_are_taken_back_where_a_foreign_descriptor_appears_after_a_kill(
    mortals: Mortals, room: Path
) -> None:
    for step in range(1000):
        target = made_ready(room / str(step), "nothing")
        mortals.write("new", target, at=step)
        if target.with_name("a map_files").exists():
            break
    assert not target.exists()
    target.write_text("foreign")
    assert "exists already" in try_to_write("next", target)
    assert beside(target) == ["a map.dzi"]
    assert target.read_text() == "foreign"


@pytest.mark.parametrize("swap", [True, False], ids=["renameat2", "plain renames"])
def test_a_killed_run_is_finished_by_one_that_writes_fewer_files(
    mortals: Mortals, room: Path, swap: bool
) -> None:
    """Which files it had, its work folder tells; the next run's own are others."""
    finished = 0
    for step in range(LATE, 1000):
        target = made_ready(room / str(step), "old", FULL)
        end, _ = mortals.write("new", target, overwrite=True, at=step, exchange=swap)
        if end == "done":
            break
        layout = layout_of("next", target)
        with pytest.raises(TargetError, match="exists already"):
            DirectorySink(DeepZoom(layout.name, layout.pyramid, "jpg"), target)
        finished += whole(target) == "new"
    assert finished > 8


@pytest.mark.parametrize("swap", [True, False], ids=["renameat2", "plain renames"])
def test_a_killed_run_is_taken_back_by_one_that_writes_fewer_files(
    mortals: Mortals, room: Path, swap: bool
) -> None:
    taken_back = 0
    for step in range(LATE, 1000):
        target = made_ready(room / str(step), "nothing", FULL)
        end, _ = mortals.write("new", target, at=step, exchange=swap)
        if end == "done":
            break
        if not is_pending(target) or target.exists():
            continue
        target.write_text("foreign")
        layout = layout_of("next", target)
        with pytest.raises(TargetError, match="exists already"):
            DirectorySink(DeepZoom(layout.name, layout.pyramid, "jpg"), target)
        assert beside(target) == [FULL]
        assert target.read_text() == "foreign"
        taken_back += 1
    assert taken_back > 3


def test_a_work_folder_that_lost_its_names_is_finished_by_those_at_hand(
    mortals: Mortals, room: Path
) -> None:
    """After a power cut a file may be there, and empty."""
    for step in range(1000):
        target = made_ready(room / str(step), "nothing")
        mortals.write("new", target, at=step)
        if is_pending(target):
            break
    (target.parent / ".a map.dzi.fasttile/publish-new").write_bytes(b"")
    assert "exists already" in try_to_write("next", target)
    assert whole(target) == "new"


def killed_pending(mortals: Mortals, room: Path, name: str, old: str) -> Path:
    """The target of a run that was killed when all was written, and nothing yet published."""
    for step in range(LATE, 1000):
        target = made_ready(room / str(step), old, name)
        mortals.write("new", target, overwrite=old == "old", at=step)
        if is_pending(target):
            assert standing(target) == old
            return target
    raise AssertionError("none was")


def test_a_foreign_folder_that_appears_after_a_kill_is_not_overwritten(
    mortals: Mortals, room: Path
) -> None:
    """The killed run might replace the older result; this folder is another."""
    target = killed_pending(mortals, room, NONE, "old")
    target.rename(target.with_name("moved"))
    target.mkdir()
    (target / "photo.jpg").write_text("mine")
    assert "exists already" in try_to_write("next", target)
    assert beside(target) == [NONE, "moved"]
    assert [path.name for path in target.iterdir()] == ["photo.jpg"]


@pytest.mark.parametrize("name", [ONE, NONE, FULL])
def test_folders_above_may_be_renamed_before_a_killed_run_is_finished(
    mortals: Mortals, room: Path, name: str
) -> None:
    target = killed_pending(mortals, room, name, "old")
    target = target.parent.rename(room / "moved") / name
    assert after_the_next_run(target, recovered=True) == "new"


@pytest.mark.parametrize(
    "plan",
    [
        "[",
        "[]",
        "{}",
        '{"tiles": 1, "files": [], "signs": [], "stale": []}',
        '{"tiles": "../x", "files": [], "signs": [], "stale": []}',
        '{"tiles": "..", "files": [], "signs": [], "stale": []}',
        '{"tiles": ".", "files": [], "signs": [], "stale": []}',
        '{"tiles": "x", "files": ["a/b"], "signs": [], "stale": []}',
        '{"tiles": "x", "files": [], "signs": [], "stale": [""]}',
    ],
)
def test_a_plan_that_cannot_be_is_not_followed(room: Path, plan: str) -> None:
    """Nor is anything removed: the older result may lie in the work folder."""
    target = room / ONE
    work = room / f".{ONE}.fasttile"
    (work / "old").mkdir(parents=True)
    (work / "publish-over").write_text(plan)
    (work / "old" / ONE).write_text("older")
    told = try_to_write("next", target, overwrite=True)
    assert told == f"cannot finish what a killed run left in {work}: its plan is damaged"
    assert (work / "publish-over").read_text() == plan
    assert (work / "old" / ONE).read_text() == "older"
    assert beside(target) == [work.name]


@pytest.mark.parametrize("path", [*announced("new", Path(FULL)), "full_files"])
def test_any_file_that_is_there_is_refused_or_replaced(room: Path, path: str) -> None:
    target = room / FULL
    write("old", target)
    for other in [*announced("old", target), "full_files"]:
        if other != path:
            (room / other).rename(room / f"-{other}")
    told = try_to_write("new", target)
    assert told == f"{room / path} exists already; choose another name, or overwrite it"
    assert (room / path).exists()
    write("new", target, overwrite=True)
    assert standing(target) == "new"


def test_the_mark_is_gone_once_published(room: Path) -> None:
    target = room / "a map.dzi"
    write("old", target)
    assert MARK not in beside(target)
    assert whole(target) == "old"


def test_exchange_swaps_folders_of_any_content(room: Path) -> None:
    one, other = room / "one", room / "other"
    one.mkdir()
    other.mkdir()
    (one / "1").touch()
    if not exchange(one, other):
        pytest.skip("NOT TESTED: this file system knows no exchange")
    assert [path.name for path in other.iterdir()] == ["1"]
    assert list(one.iterdir()) == []


@pytest.mark.parametrize("system_call", [True, False])
def test_rename_new_never_replaces(
    room: Path, monkeypatch: pytest.MonkeyPatch, system_call: bool
) -> None:
    if not system_call:
        monkeypatch.setattr("fasttile.sinks.rename._system_call", lambda: None)
    one, other = room / "one", room / "other"
    one.write_text("1")
    other.symlink_to("nowhere")
    with pytest.raises(FileExistsError):
        rename_new(one, other)
    assert one.read_text() == "1"
    other.unlink()
    rename_new(one, other)
    assert other.read_text() == "1"
    assert not one.exists()
    with pytest.raises(FileNotFoundError):
        rename_new(one, room / "third")
