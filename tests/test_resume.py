"""Jobs that are carried on: whatever has ended them, the result is that of an undisturbed run."""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fasttile import (
    Cancelled,
    CutReport,
    OptionError,
    Progress,
    SourceError,
    TargetError,
    cli,
    cut,
    cutting,
    journal,
)
from fasttile.journal import Journal, Piece, line
from fasttile.versions import versions
from powerless import Disk, PowerFailureError
from reading import noise
from threads import no_thread_left, not_stuck  # noqa: F401 -- fixtures for each test

if sys.platform == "win32":
    pytest.skip("needs POSIX signals and limits", allow_module_level=True)


JOBS: dict[str, tuple[str, dict[str, Any]]] = {
    "dzi": ("x.dzi", {"tile_size": 100}),
    "told": ("x.dzi", {"layout": "dzi:json,jsonp", "tile_size": 100, "viewer": "openseadragon"}),
    "zoomify": ("x", {"layout": "zoomify", "tile_size": 100}),
    "blanks": ("x", {"layout": "xyz", "tile_size": 64, "skip_blank": 0, "format": "png"}),
    "iiif": ("x", {"layout": "iiif3:id=https://a.org/{name}", "tile_size": 128}),
}
"""What a result is called, and its options."""

each_job = pytest.mark.parametrize("job", JOBS)


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise around a white field: some tiles are blank."""
    pixels = noise(640, 840, 3)
    pixels[100:500, 150:800] = 255
    path = tmp_path_factory.mktemp("in") / "x.png"
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "PAUSE_SECONDS", (0.001, 0.001))
    monkeypatch.setattr(cutting, "PROGRESS_SECONDS", 0.0)


def tree(folder: Path) -> dict[str, bytes]:
    """All that lies in a folder, hidden names too."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else b""
        for path in folder.rglob("*")
    }


class Uninterrupted:
    """What each job comes to."""

    def __init__(self, folder: Path, picture: Path) -> None:
        self._folder = folder
        self._picture = picture
        self._done: dict[str, tuple[dict[str, bytes], CutReport]] = {}

    def __getitem__(self, job: str) -> tuple[dict[str, bytes], CutReport]:
        if job not in self._done:
            name, options = JOBS[job]
            report = cut(self._picture, self._folder / job / name, **options)
            self._done[job] = (tree(self._folder / job), report)
        return self._done[job]


@pytest.fixture(scope="module")
def uninterrupted(picture: Path, tmp_path_factory: pytest.TempPathFactory) -> Uninterrupted:
    return Uninterrupted(tmp_path_factory.mktemp("whole"), picture)


def same_counts(report: CutReport, other: CutReport) -> bool:
    """Whether two reports tell of the same tiles."""
    return (report.tiles, report.blanks, report.bytes) == (other.tiles, other.blanks, other.bytes)


def work_of(target: Path) -> Path:
    return target.with_name(f".{target.name}.fasttile")


# ---- the power fails ---------------------------------------------------------------------------


def fails(
    picture: Path,
    target: Path,
    at: int | tuple[str, int],
    chance: random.Random,
    options: dict[str, Any],
    **fates: tuple[str, ...],
) -> bool:
    """Cut until the power fails, and wait until it is back; False if the cut ends before."""
    disk = Disk(work_of(target), at)
    with disk.at_work():
        try:
            cut(picture, target, resume=True, **options)
        except PowerFailureError:
            disk.power_back(chance, **fates)
            return True
    assert disk.unsynced == set(), "published, and could be lost"
    return False


def power_cuts(picture: Path, target: Path, seed: int, options: dict[str, Any]) -> CutReport | None:
    """A job whose power fails up to three times; the last report, unless it needed no last run."""
    chance = random.Random(seed)
    for _ in range(chance.randint(1, 3)):
        if not fails(picture, target, chance.randrange(150), chance, options):
            return None
    return cut(picture, target, resume=True, **options)


def check_power(
    job: str, seed: int, picture: Path, folder: Path, uninterrupted: Uninterrupted
) -> None:
    name, options = JOBS[job]
    whole, told = uninterrupted[job]
    report = power_cuts(picture, folder / name, seed, options)
    assert tree(folder) == whole
    if report is not None:
        assert same_counts(report, told)
        assert report.resumed <= report.tiles


@each_job
@pytest.mark.parametrize("seed", range(3))
def test_the_power_fails(
    job: str, seed: int, picture: Path, tmp_path: Path, uninterrupted: Uninterrupted
) -> None:
    check_power(job, seed, picture, tmp_path, uninterrupted)


def write_early(run: Journal, *, always: bool = False) -> None:
    """A journal that is written before its tiles are synced."""
    with run._writing:
        batch = _taken(run)
        if batch:
            run._log.append(_lines(batch))
        if batch or always:
            run._log.settle()


def take_late(run: Journal, *, always: bool = False) -> None:
    """A journal that also names tiles that came while it synced."""
    with run._writing:
        if not (run._waiting or always):
            return
        run._log.settle()
        batch = _taken(run)
        if batch:
            run._log.append(_lines(batch))


def never_settle(run: Journal, *, always: bool = False) -> None:
    """A journal that takes the disk's word for it."""
    with run._writing:
        batch = _taken(run)
        if batch:
            run._log.append(_lines(batch))


def _taken(run: Journal) -> list[Piece]:
    with run._changed:
        batch, run._waiting = run._waiting, []
    return batch


def _lines(batch: list[Piece]) -> bytes:
    return b"".join(line(json.dumps(piece).encode()) for piece in batch)


def swallowed(write: Any) -> Any:
    """As the real one: what goes wrong on the journal's thread is kept for later."""

    def write_batch(run: Journal, *, always: bool = False) -> None:
        try:
            write(run, always=always)
        except TargetError as failure:
            run._failure = failure

    return write_batch


@pytest.mark.parametrize("mutant", [write_early, take_late, never_settle])
def test_a_journal_that_is_written_too_early_is_found_out(
    mutant: Any,
    picture: Path,
    tmp_path: Path,
    uninterrupted: Uninterrupted,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Or the tests above would see nothing."""
    name, options = JOBS["dzi"]
    whole, _ = uninterrupted["dzi"]
    monkeypatch.setattr(Journal, "_write_batch", swallowed(mutant))
    for number in range(40):
        folder = tmp_path / str(number)
        at = ("append", number + 2) if mutant is never_settle else ("settle", number)
        if not fails(picture, folder / name, at, random.Random(0), options, fates=("missing",)):
            break
        cut(picture, folder / name, resume=True, **options)
        if tree(folder) != whole:
            return
    pytest.fail("nobody noticed")


def test_what_is_published_was_synced(
    picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The descriptors and the pictures of whole levels too, which no journal names."""
    for name, options in JOBS.values():
        target = tmp_path / "out" / name
        disk = Disk(work_of(target), -1)
        with disk.at_work():
            cut(picture, target, resume=True, **options)
        assert disk.unsynced == set()
        shutil.rmtree(target.parent)
    monkeypatch.setattr(Journal, "settle", lambda run: None)
    monkeypatch.setattr(journal, "PAUSE_SECONDS", (60, 60))
    disk = Disk(work_of(target), -1)
    with disk.at_work():
        cut(picture, target, resume=True, **options)
    assert disk.unsynced != set(), "this test sees nothing"


@pytest.mark.long
@each_job
@pytest.mark.parametrize("seed", range(100, 150))
def test_the_power_fails_often(
    job: str, seed: int, picture: Path, tmp_path: Path, uninterrupted: Uninterrupted
) -> None:
    check_power(job, seed, picture, tmp_path, uninterrupted)


# ---- it is stopped -----------------------------------------------------------------------------


def stopped_after(
    tiles: int, picture: Path, target: Path, options: dict[str, Any], **more: Any
) -> None:
    """A run that its caller ends when so many tiles are there."""
    with pytest.raises(Cancelled):
        cut(
            picture,
            target,
            progress=lambda progress: progress.tiles < tiles,
            resume=True,
            **{**options, **more},
        )


@each_job
def test_stopped_again_and_again(
    job: str, picture: Path, tmp_path: Path, uninterrupted: Uninterrupted
) -> None:
    name, options = JOBS[job]
    whole, told = uninterrupted[job]
    for part in (0.2, 0.5, 0.8):
        stopped_after(int(told.tiles * part), picture, tmp_path / name, options)
        assert [path.name for path in tmp_path.iterdir()] == [f".{name}.fasttile"]
    report = cut(picture, tmp_path / name, resume=True, **options)
    assert tree(tmp_path) == whole
    assert same_counts(report, told)
    assert int(told.tiles * 0.8) <= report.resumed + report.blanks
    assert report.resumed <= report.tiles
    assert f"{report.resumed:,} tiles were there from a run before" in report.notes


def test_a_run_that_nothing_disturbs_resumes_nothing(
    picture: Path, tmp_path: Path, uninterrupted: Uninterrupted
) -> None:
    name, options = JOBS["dzi"]
    report = cut(picture, tmp_path / name, resume=True, **options)
    assert report.resumed == 0
    assert not any("before" in note for note in report.notes)
    assert tree(tmp_path) == uninterrupted["dzi"][0]


def test_stopped_before_the_first_tile_nothing_is_left(picture: Path, tmp_path: Path) -> None:
    name, options = JOBS["dzi"]
    stopped_after(0, picture, tmp_path / "out" / name, options)
    assert not (tmp_path / "out").exists() or work_of(tmp_path / "out" / name).exists()


@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 1)])
def test_the_number_of_threads_may_change(
    before: int, after: int, picture: Path, tmp_path: Path, uninterrupted: Uninterrupted
) -> None:
    name, options = JOBS["blanks"]
    whole, told = uninterrupted["blanks"]
    stopped_after(told.tiles // 2, picture, tmp_path / name, options, threads=before)
    report = cut(picture, tmp_path / name, resume=True, threads=after, **options)
    assert tree(tmp_path) == whole
    assert same_counts(report, told)


@each_job
def test_an_older_result_stays_until_the_end(
    job: str, picture: Path, tmp_path: Path, uninterrupted: Uninterrupted
) -> None:
    name, options = JOBS[job]
    whole, told = uninterrupted[job]
    cut(picture, tmp_path / name, **{**options, "background": "red", "tile_size": 200})
    older = tree(tmp_path)
    for part in (0.3, 0.7):
        stopped_after(int(told.tiles * part), picture, tmp_path / name, options, overwrite=True)
        now = tree(tmp_path)
        assert {path: data for path, data in now.items() if ".fasttile" not in path} == older
        assert now != older
    report = cut(picture, tmp_path / name, resume=True, overwrite=True, **options)
    assert tree(tmp_path) == whole
    assert same_counts(report, told)
    assert 0 < report.resumed <= report.tiles


# ---- what is refused ---------------------------------------------------------------------------


@pytest.fixture
def begun(picture: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A picture of its own, and the target of a job on it that was stopped half way."""
    source = Path(shutil.copy2(picture, tmp_path / "in.png"))
    target = tmp_path / "out" / "x.dzi"
    stopped_after(30, source, target, {"tile_size": 100})
    return source, target


def refused(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    """Run the command line; it says one line, and what it says."""
    assert cli.main(["cut", *map(str, words)]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1
    return told.err


def test_without_resume_it_is_not_thrown_away(
    begun: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = begun
    before = tree(target.parent)
    told = refused(capsys, source, "-o", target, "--tile-size", "100")
    assert "say resume to go on, or overwrite to begin anew" in told
    assert tree(target.parent) == before


def test_overwrite_alone_begins_anew(
    begun: tuple[Path, Path], uninterrupted: Uninterrupted
) -> None:
    source, target = begun
    report = cut(source, target, overwrite=True, tile_size=100)
    assert report.resumed == 0
    assert tree(target.parent) == uninterrupted["dzi"][0]


@pytest.mark.parametrize("damage", [b"", b"damaged", b"0" * 99])
def test_a_damaged_journal_is_none(
    damage: bytes, begun: tuple[Path, Path], uninterrupted: Uninterrupted
) -> None:
    """Nothing tells what the tiles are then: they are made again, and none stays of another job."""
    source, target = begun
    (work_of(target) / "journal").write_bytes(damage)
    stored = next(work_of(target).rglob("*.jpg"))
    stored.with_name("77_0.jpg").write_bytes(b"stray")
    report = cut(source, target, resume=True, tile_size=100)
    assert report.resumed == 0
    assert tree(target.parent) == uninterrupted["dzi"][0]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--quality", "60"], "quality not given, which now is 60"),
        (["--tile-size", "128"], "tile_size 100, which now is 128"),
        (["--overlap", "0"], "overlap not given, which now is 0"),
        (["--background", "red"], "background white, which now is red"),
        (["--format", "png"], "format not given, which now is png"),
        (["--levels", "one-tile"], "levels not given, which now is one-tile"),
        (["--region", "0,0,500,500"], "region not given, which now is Region(x=0, y=0, width=500"),
        (["--shrink", "nearest"], "shrink mean, which now is nearest"),
        (["--icc", "drop"], "icc srgb, which now is drop"),
        (["--layout", "dzi:json"], "layout not given, which now is dzi:json"),
        (["--viewer", "leaflet"], "viewer not given, which now is leaflet"),
        (["--allow-truncated"], "allow_truncated False, which now is True"),
    ],
    ids=lambda value: value[0].strip("-") if isinstance(value, list) else "",
)
def test_other_options_are_refused_by_name(
    begun: tuple[Path, Path],
    words: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
    uninterrupted: Uninterrupted,
) -> None:
    source, target = begun
    before = tree(target.parent)
    told = refused(capsys, source, "-o", target, "--resume", "--tile-size", "100", *words)
    assert f"{target} was begun with {said}" in told
    assert ": it cannot be carried on; make it as it was, or begin anew with overwrite" in told
    assert tree(target.parent) == before
    assert cut(source, target, resume=True, tile_size=100).resumed > 0, "it still can"
    assert tree(target.parent) == uninterrupted["dzi"][0]


def touched(source: Path) -> None:
    os.utime(source, ns=(0, source.stat().st_mtime_ns + 1))


def grown(source: Path) -> None:
    time = source.stat().st_mtime_ns
    with source.open("ab") as file:
        file.write(b"!")
    os.utime(source, ns=(time, time))


@pytest.mark.parametrize(("change", "said"), [(touched, "source's time"), (grown, "source's size")])
def test_another_source_is_refused(
    begun: tuple[Path, Path],
    change: Callable[[Path], None],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source, target = begun
    before = tree(target.parent)
    change(source)
    told = refused(capsys, source, "-o", target, "--resume", "--tile-size", "100")
    assert f"was begun with {said} " in told
    assert tree(target.parent) == before


@pytest.mark.parametrize("program", ["fasttile", "Pillow", "libjpeg-turbo", "zlib"])
def test_other_versions_are_refused(
    begun: tuple[Path, Path],
    program: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source, target = begun
    before = tree(target.parent)
    others = {**versions(), program: "99.9"}
    monkeypatch.setattr("fasttile.identity.versions", lambda: others)
    told = refused(capsys, source, "-o", target, "--resume", "--tile-size", "100")
    assert f"was begun with {program} " in told
    assert "which now is 99.9" in told
    assert tree(target.parent) == before


@pytest.mark.parametrize("source", ["array", "stream"])
def test_only_files_can_be_carried_on(source: str, picture: Path, tmp_path: Path) -> None:
    other = noise(50, 50, 3) if source == "array" else picture.open("rb")
    with pytest.raises(OptionError, match="only a cut of a file can be carried on"):
        cut(other, tmp_path / "x.dzi", resume=True)
    assert list(tmp_path.iterdir()) == []
    if source == "stream":
        other.close()  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["x.szi", "x.zip", "x.pmtiles", "x.mbtiles", "x.tif"])
def test_one_file_is_begun_again_and_says_so(name: str, picture: Path, tmp_path: Path) -> None:
    plain, target = tmp_path / "plain" / name, tmp_path / "out" / name
    assert not any("again" in note for note in cut(picture, plain).notes)
    stopped_after(5, picture, target, {})
    assert not target.parent.exists()
    report = cut(picture, target, resume=True)
    assert report.resumed == 0
    assert [note for note in report.notes if "cannot be carried on: it was begun again" in note]
    assert tree(target.parent) == tree(plain.parent)


# ---- the source changes ------------------------------------------------------------------------


@pytest.mark.parametrize("resume", [False, True])
def test_a_source_that_is_written_to_is_an_error(
    resume: bool, picture: Path, tmp_path: Path
) -> None:
    source = Path(shutil.copy(picture, tmp_path / "in.png"))

    def write(progress: Progress) -> None:
        with source.open("r+b") as file:
            file.write(source.read_bytes()[:1])
        touched(source)  # clocks are coarse

    target = tmp_path / "out" / "x.dzi"
    with pytest.raises(SourceError, match="was changed while it was read: cut it again"):
        cut(source, target, progress=write, resume=resume)
    assert not target.exists()
    if resume:
        with pytest.raises(TargetError, match="source's time"):
            cut(source, target, resume=True)


@pytest.mark.parametrize("resume", [False, True])
def test_a_source_that_is_replaced_is_read_to_its_end(
    resume: bool, picture: Path, tmp_path: Path, uninterrupted: Uninterrupted
) -> None:
    source = Path(shutil.copy2(picture, tmp_path / "in.png"))

    def replace(progress: Progress) -> None:
        other = tmp_path / "other.png"
        Image.new("RGB", (840, 640)).save(other)
        other.replace(source)

    target = tmp_path / "out" / "x.dzi"
    cut(source, target, progress=replace, resume=resume, tile_size=100)
    assert tree(target.parent) == uninterrupted["dzi"][0]
