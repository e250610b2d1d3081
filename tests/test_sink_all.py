"""What every sink promises, as other readers see it: all of a result is there, or nothing."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from fasttile.errors import TargetError
from samples import sampled
from sink_kinds import KINDS, SIZES, Kind, tile_bytes

if sys.platform == "win32":
    pytest.skip("needs fork and mounts", allow_module_level=True)

from mortal import Mortals

ONE_FILE = ["zip", "szi", "pmtiles", "mbtiles", "tiff"]

STEPS = 14
"""More than any of them takes."""


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.fixture
def target(tmp_path: Path, kind: Kind) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder / kind.target


def beside(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


def content(folder: Path) -> dict[str, bytes]:
    """All files below a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def whole(kind: Kind, target: Path) -> str:
    """Which picture stands at the target, and nothing else at all in its folder."""
    picture = kind.standing(target)
    assert beside(target) == ([] if picture == "nothing" else kind.names(target))
    return picture


@pytest.mark.parametrize("picture", SIZES)
def test_all_tiles_are_there_and_nothing_else(kind: Kind, target: Path, picture: str) -> None:
    kind.write(picture, target)
    assert whole(kind, target) == picture


def test_the_same_tiles_give_the_same_bytes(kind: Kind, target: Path) -> None:
    kind.write("old", target)
    first = content(target.parent)
    kind.write("old", target, overwrite=True)
    assert content(target.parent) == first


@pytest.mark.parametrize("name", [" ", "-rf", "a?b#c%20", "Übergröße 日本 🗺", "two\nlines"])
def test_names_are_taken_as_they_are(kind: Kind, target: Path, name: str) -> None:
    target = target.with_name(target.name.replace("a map", name))
    kind.write("old", target)
    assert whole(kind, target) == "old"


def test_what_stands_there_is_refused_unless_overwritten(kind: Kind, target: Path) -> None:
    kind.write("old", target)
    before = content(target.parent)
    with pytest.raises(TargetError) as caught:
        kind.sink("new", target)
    assert str(caught.value) == f"{target} exists already; choose another name, or overwrite it"
    assert content(target.parent) == before


def test_overwriting_touches_nothing_before_the_end(kind: Kind, target: Path) -> None:
    kind.write("old", target)
    for end in ("abort", "finish"):
        sink = kind.sink("new", target, overwrite=True)
        kind.put_tiles(sink, "new")
        assert kind.standing(target) == "old"
        getattr(sink, end)()
        assert whole(kind, target) == ("old" if end == "abort" else "new")
        sink.abort()
        assert whole(kind, target) == ("old" if end == "abort" else "new")


def test_what_a_killed_run_left_is_removed(kind: Kind, target: Path) -> None:
    work = target.with_name(f".{target.name}.fasttile")
    (work / "new/a map/7").mkdir(parents=True)
    for name in ("lock", "directory", "tiles", target.name, "new/a map/7/0-0-0.jpg"):
        (work / name).write_text("half a ti")
    kind.write("new", target)
    assert whole(kind, target) == "new"


@contextlib.contextmanager
def mounted(folder: Path, size: int) -> Iterator[None]:
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "fasttile-test", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"NOT TESTED: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: mounting needs root")
@pytest.mark.parametrize("old", ["nothing", "old"])
def test_a_full_disk(kind: Kind, target: Path, old: str) -> None:
    """With ever more room, until there is enough."""
    with mounted(target.parent, 2**22):
        if old != "nothing":
            kind.write(old, target)
        filler = target.parent / "filler"
        for free in range(0, 2**20, 2**14):
            with contextlib.suppress(OSError):
                filler.write_bytes(bytes(2**22))
            os.truncate(filler, max(0, filler.stat().st_size - free))
            told = kind.told("new", target, overwrite=True)
            filler.unlink()
            assert "\n" not in told
            assert whole(kind, target) == (old if told else "new")
            if not told:
                break
        assert free > 2**15


@pytest.fixture(scope="module")
def mortals() -> Iterator[Mortals]:
    mortals = Mortals("sink_kinds")
    yield mortals
    mortals.close()


@pytest.mark.parametrize("name", ONE_FILE)
@pytest.mark.parametrize("old", ["nothing", "old"])
@pytest.mark.parametrize("fate", sampled(["killed", "refused", "interrupted"], ["killed"]))
def test_one_file_ended_at_every_step(mortals: Mortals, name: str, old: str, fate: str) -> None:
    """It turns once, from what was there to the new one; the next run finds nothing in its way."""
    kind = KINDS[name]
    memory = Path("/dev/shm")
    found = []
    with TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as room:
        for step in range(STEPS):
            target = Path(room) / str(step) / kind.target
            target.parent.mkdir()
            if old != "nothing":
                kind.write(old, target)
            end, told = mortals.write(
                "new", target, overwrite=old == "old", fate=fate, at=step, exchange=step % 2 == 0
            )
            found.append(kind.standing(target))
            assert "\n" not in told
            if end != "killed" and found[-1] == old:
                assert whole(kind, target) == old
            assert kind.told("next", target, overwrite=found[-1] != "nothing") == ""
            assert whole(kind, target) == "next"
    assert (end, told) == ("done", "")
    turn = found.index("new")
    assert set(found[:turn]) == {old}
    assert set(found[turn:]) == {"new"}
    assert turn > 2


def test_tiles_have_their_own_bytes() -> None:
    """Or the tests above would not tell them apart."""
    for picture in SIZES:
        for kind in KINDS.values():
            tiles = [*kind.layout_of(picture, Path(kind.target)).pyramid.tiles()]
            assert len({tile_bytes(picture, tile) for tile in tiles}) == len(tiles)
