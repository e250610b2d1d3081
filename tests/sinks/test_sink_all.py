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
from support.sampling import sampled
from support.sink_kinds import IMAGE_SIZES, SINK_KINDS, SinkKind, tile_bytes

if sys.platform == "win32":
    pytest.skip("needs fork and mounts", allow_module_level=True)

from support.faulty_process import FaultyProcess

ONE_FILE = {"zip": 14, "szi": 14, "pmtiles": 14, "mbtiles": 14, "tiff": 14, "cog": 26}
"""More steps than each takes; a Cloud Optimized GeoTIFF has a file for each level."""


@pytest.fixture(params=SINK_KINDS)
def sink_kind(request: pytest.FixtureRequest) -> SinkKind:
    return SINK_KINDS[request.param]


@pytest.fixture
def target(tmp_path: Path, sink_kind: SinkKind) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder / sink_kind.target


def names_in_folder(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


def file_tree(folder: Path) -> dict[str, bytes]:
    """All files below a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def identify_only_result(sink_kind: SinkKind, target: Path) -> str:
    """Which image stands at the target, and nothing else at all in its folder."""
    image = sink_kind.identify_result(target)
    assert names_in_folder(target) == ([] if image == "nothing" else sink_kind.result_names(target))
    return image


@pytest.mark.parametrize("image", IMAGE_SIZES)
def test_all_tiles_are_there_and_nothing_else(
    sink_kind: SinkKind, target: Path, image: str
) -> None:
    sink_kind.write(image, target)
    assert identify_only_result(sink_kind, target) == image


def test_the_same_tiles_give_the_same_bytes(sink_kind: SinkKind, target: Path) -> None:
    sink_kind.write("old", target)
    first = file_tree(target.parent)
    sink_kind.write("old", target, overwrite=True)
    assert file_tree(target.parent) == first


@pytest.mark.parametrize("name", [" ", "-rf", "a?b#c%20", "Übergröße 日本 🗺", "two\nlines"])
def test_names_are_taken_as_they_are(sink_kind: SinkKind, target: Path, name: str) -> None:
    target = target.with_name(target.name.replace("a map", name))
    sink_kind.write("old", target)
    assert identify_only_result(sink_kind, target) == "old"


def test_what_stands_there_is_refused_unless_overwritten(sink_kind: SinkKind, target: Path) -> None:
    sink_kind.write("old", target)
    before = file_tree(target.parent)
    with pytest.raises(TargetError) as caught:
        sink_kind.open_sink("new", target)
    assert str(caught.value) == f"{target} exists already; choose another name, or use --overwrite"
    assert file_tree(target.parent) == before


def test_overwriting_touches_nothing_before_the_end(sink_kind: SinkKind, target: Path) -> None:
    sink_kind.write("old", target)
    for end in ("abort", "finish"):
        sink = sink_kind.open_sink("new", target, overwrite=True)
        sink_kind.put_tiles(sink, "new")
        assert sink_kind.identify_result(target) == "old"
        getattr(sink, end)()
        assert identify_only_result(sink_kind, target) == ("old" if end == "abort" else "new")
        sink.abort()
        assert identify_only_result(sink_kind, target) == ("old" if end == "abort" else "new")


def test_what_a_killed_run_left_is_removed(sink_kind: SinkKind, target: Path) -> None:
    work = target.with_name(f".{target.name}.fasttile")
    (work / "new/a map/7").mkdir(parents=True)
    for name in ("lock", "directory", "tiles", target.name, "new/a map/7/0-0-0.jpg"):
        (work / name).write_text("half a ti")
    sink_kind.write("new", target)
    assert identify_only_result(sink_kind, target) == "new"


@contextlib.contextmanager
def mount_tmpfs(folder: Path, size: int) -> Iterator[None]:
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
def test_a_full_disk(sink_kind: SinkKind, target: Path, old: str) -> None:
    """With ever more room, until there is enough."""
    with mount_tmpfs(target.parent, 2**22):
        if old != "nothing":
            sink_kind.write(old, target)
        filler = target.parent / "filler"
        for free in range(0, 2**20, 2**14):
            with contextlib.suppress(OSError):
                filler.write_bytes(bytes(2**22))
            os.truncate(filler, max(0, filler.stat().st_size - free))
            message = sink_kind.try_to_write("new", target, overwrite=True)
            filler.unlink()
            assert "\n" not in message
            assert identify_only_result(sink_kind, target) == (old if message else "new")
            if not message:
                break
        assert free > 2**15


@pytest.fixture(scope="module")
def faulty_process() -> Iterator[FaultyProcess]:
    mortals = FaultyProcess("support.sink_kinds")
    yield mortals
    mortals.close()


@pytest.mark.parametrize("name", ONE_FILE)
@pytest.mark.parametrize("old", ["nothing", "old"])
@pytest.mark.parametrize("fate", sampled(["killed", "refused", "interrupted"], ["killed"]))
def test_one_file_ended_at_every_step(
    faulty_process: FaultyProcess, name: str, old: str, fate: str
) -> None:
    """It turns once, from what was there to the new one; the next run finds nothing in its way."""
    kind = SINK_KINDS[name]
    memory = Path("/dev/shm")
    found = []
    with TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as room:
        for step in range(ONE_FILE[name]):
            target = Path(room) / str(step) / kind.target
            target.parent.mkdir()
            if old != "nothing":
                kind.write(old, target)
            end, message = faulty_process.write(
                "new", target, overwrite=old == "old", fault=fate, step=step, exchange=step % 2 == 0
            )
            found.append(kind.identify_result(target))
            assert "\n" not in message
            if end != "killed" and found[-1] == old:
                assert identify_only_result(kind, target) == old
            assert kind.try_to_write("next", target, overwrite=found[-1] != "nothing") == ""
            assert identify_only_result(kind, target) == "next"
    assert (end, message) == ("done", "")
    turn = found.index("new")
    assert set(found[:turn]) == {old}
    assert set(found[turn:]) == {"new"}
    assert turn > 2


def test_tiles_have_their_own_bytes() -> None:
    """Else the tests above could not distinguish them."""
    for image in IMAGE_SIZES:
        for kind in SINK_KINDS.values():
            tiles = [*kind.layout_of(image, Path(kind.target)).pyramid.tiles()]
            assert len({tile_bytes(image, tile) for tile in tiles}) == len(tiles)
