"""Resumed jobs: for each kind of end, the result is that of an undisturbed run."""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fasttile import (
    CutProgress,
    CutReport,
    OptionError,
    SourceError,
    TargetError,
    cli,
    cut,
)
from fasttile.storage import journal
from fasttile.storage.journal import Journal, JournalRecord, encode_line
from fasttile.versions import codec_versions
from support.power_loss import PowerFailureError, UnreliableDisk
from support.reading import noise
from support.resume_runs import (
    RESUME_JOBS,
    UninterruptedResults,
    cut_and_stop_after,
    folder_tree,
    same_counts,
    work_folder,
)

if sys.platform == "win32":
    pytest.skip("needs POSIX signals and limits", allow_module_level=True)

pytestmark = pytest.mark.usefixtures("short_journal_pauses", "no_leaked_thread", "deadlock_timeout")


each_job = pytest.mark.parametrize("job", RESUME_JOBS)


# ---- the power fails ---------------------------------------------------------------------------


def cut_until_power_fails(
    image: Path,
    target: Path,
    failure_point: int | tuple[str, int],
    chance: random.Random,
    options: dict[str, Any],
    **file_states: tuple[str, ...],
) -> bool:
    """Cut until the power fails, and wait until it is back; False if the cut ends before."""
    disk = UnreliableDisk(work_folder(target), failure_point)
    with disk.intercept_writes():
        try:
            cut(image, target, resume=True, **options)
        except PowerFailureError:
            disk.restore_power(chance, **file_states)
            return True
    assert disk.unsynced_at_publish == set(), "published, and could be lost"
    return False


def cut_with_power_failures(
    image: Path, target: Path, seed: int, options: dict[str, Any]
) -> CutReport | None:
    """A job whose power fails up to three times; the last report, unless it needed no last run."""
    chance = random.Random(seed)
    for _ in range(chance.randint(1, 3)):
        if not cut_until_power_fails(image, target, chance.randrange(150), chance, options):
            return None
    return cut(image, target, resume=True, **options)


def check_power_failures(
    job: str, seed: int, image: Path, folder: Path, uninterrupted: UninterruptedResults
) -> None:
    name, options = RESUME_JOBS[job]
    expected, expected_report = uninterrupted[job]
    report = cut_with_power_failures(image, folder / name, seed, options)
    assert folder_tree(folder) == expected
    if report is not None:
        assert same_counts(report, expected_report)
        assert report.resumed <= report.tiles


@each_job
@pytest.mark.parametrize("seed", range(3))
def test_the_power_fails(
    job: str, seed: int, image: Path, tmp_path: Path, uninterrupted: UninterruptedResults
) -> None:
    check_power_failures(job, seed, image, tmp_path, uninterrupted)


def write_before_sync(run: Journal, *, always: bool = False) -> None:
    """A journal that is written before its tiles are synced."""
    with run._write_lock:
        batch = _take_batch(run)
        if batch:
            run._log.append(_batch_lines(batch))
        if batch or always:
            run._log.sync_tiles()


def append_unsynced(run: Journal, *, always: bool = False) -> None:
    """A journal that also names tiles that came while it synced."""
    with run._write_lock:
        before = len(run._pending)
        if not (before or always):
            return
        run._log.sync_tiles()
        deadline = time.monotonic() + 0.2  # on a busy machine no tile may come during the sync
        while len(run._pending) == before and not (always or run._is_closed):
            if time.monotonic() > deadline:
                break
            time.sleep(0.001)
        batch = _take_batch(run)
        if batch:
            run._log.append(_batch_lines(batch))


def write_without_sync(run: Journal, *, always: bool = False) -> None:
    """A journal that takes the disk's word for it."""
    with run._write_lock:
        batch = _take_batch(run)
        if batch:
            run._log.append(_batch_lines(batch))


def _take_batch(run: Journal) -> list[JournalRecord]:
    with run._changed:
        batch, run._pending = run._pending, []
    return batch


def _batch_lines(batch: list[JournalRecord]) -> bytes:
    return b"".join(encode_line(json.dumps(piece).encode()) for piece in batch)


def keep_failure(write: Any) -> Any:
    """As the real one: what goes wrong on the journal's thread is kept for later."""

    def write_batch(run: Journal, *, always: bool = False) -> None:
        try:
            write(run, always=always)
        except TargetError as failure:
            run._failure = failure

    return write_batch


@pytest.mark.parametrize("mutant", [write_before_sync, append_unsynced, write_without_sync])
def test_a_journal_that_is_written_too_early_is_found_out(
    mutant: Any,
    image: Path,
    tmp_path: Path,
    uninterrupted: UninterruptedResults,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Or the tests above would see nothing. Only zeros are not seen at a resume."""
    name, options = RESUME_JOBS["dzi"]
    expected, _ = uninterrupted["dzi"]
    monkeypatch.setattr(Journal, "_write_batch", keep_failure(mutant))
    for number in range(40):
        folder = tmp_path / str(number)
        at = ("append", number + 2) if mutant is write_without_sync else ("settle", number)
        if not cut_until_power_fails(
            image, folder / name, at, random.Random(0), options, file_states=("zeros",)
        ):
            break
        cut(image, folder / name, resume=True, **options)
        if folder_tree(folder) != expected:
            return
    pytest.fail("nobody noticed")


def test_what_is_published_was_synced(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The descriptors and the images of whole levels too, which no journal names."""
    for name, options in RESUME_JOBS.values():
        target = tmp_path / "out" / name
        disk = UnreliableDisk(work_folder(target), -1)
        with disk.intercept_writes():
            cut(image, target, resume=True, **options)
        assert disk.unsynced_at_publish == set()
        shutil.rmtree(target.parent)
    monkeypatch.setattr(Journal, "flush", lambda run: None)
    monkeypatch.setattr(journal, "PAUSE_SECONDS", (60, 60))
    disk = UnreliableDisk(work_folder(target), -1)
    with disk.intercept_writes():
        cut(image, target, resume=True, **options)
    assert disk.unsynced_at_publish != set(), "this test sees nothing"


@pytest.mark.long
@each_job
@pytest.mark.parametrize("seed", range(100, 150))
def test_the_power_fails_often(
    job: str, seed: int, image: Path, tmp_path: Path, uninterrupted: UninterruptedResults
) -> None:
    check_power_failures(job, seed, image, tmp_path, uninterrupted)


# ---- it is stopped -----------------------------------------------------------------------------


@each_job
def test_stopped_again_and_again(
    job: str, image: Path, tmp_path: Path, uninterrupted: UninterruptedResults
) -> None:
    name, options = RESUME_JOBS[job]
    expected, expected_report = uninterrupted[job]
    for part in (0.2, 0.5, 0.8):
        cut_and_stop_after(int(expected_report.tiles * part), image, tmp_path / name, options)
        assert [path.name for path in tmp_path.iterdir()] == [f".{name}.fasttile"]
    report = cut(image, tmp_path / name, resume=True, **options)
    assert folder_tree(tmp_path) == expected
    assert same_counts(report, expected_report)
    assert int(expected_report.tiles * 0.8) <= report.resumed + report.blanks
    assert report.resumed <= report.tiles
    assert f"{report.resumed:,} tiles were stored by an earlier run" in report.notes


def test_a_run_that_nothing_disturbs_resumes_nothing(
    image: Path, tmp_path: Path, uninterrupted: UninterruptedResults
) -> None:
    name, options = RESUME_JOBS["dzi"]
    report = cut(image, tmp_path / name, resume=True, **options)
    assert report.resumed == 0
    assert not any("before" in note for note in report.notes)
    assert folder_tree(tmp_path) == uninterrupted["dzi"][0]


def test_stopped_before_the_first_tile_nothing_is_left(image: Path, tmp_path: Path) -> None:
    name, options = RESUME_JOBS["dzi"]
    cut_and_stop_after(0, image, tmp_path / "out" / name, options)
    assert not (tmp_path / "out").exists() or work_folder(tmp_path / "out" / name).exists()


@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 1)])
def test_the_number_of_threads_may_change(
    before: int, after: int, image: Path, tmp_path: Path, uninterrupted: UninterruptedResults
) -> None:
    name, options = RESUME_JOBS["blanks"]
    expected, expected_report = uninterrupted["blanks"]
    cut_and_stop_after(expected_report.tiles // 2, image, tmp_path / name, options, threads=before)
    report = cut(image, tmp_path / name, resume=True, threads=after, **options)
    assert folder_tree(tmp_path) == expected
    assert same_counts(report, expected_report)


@each_job
def test_an_older_result_stays_until_the_end(
    job: str, image: Path, tmp_path: Path, uninterrupted: UninterruptedResults
) -> None:
    name, options = RESUME_JOBS[job]
    expected, expected_report = uninterrupted[job]
    cut(image, tmp_path / name, **{**options, "background": "red", "tile_size": 200})
    older = folder_tree(tmp_path)
    for part in (0.3, 0.7):
        cut_and_stop_after(
            int(expected_report.tiles * part), image, tmp_path / name, options, overwrite=True
        )
        now = folder_tree(tmp_path)
        results = {path: data for path, data in now.items() if not path.startswith(".")}
        assert results == older
        assert now != older
    report = cut(image, tmp_path / name, resume=True, overwrite=True, **options)
    assert folder_tree(tmp_path) == expected
    assert same_counts(report, expected_report)
    assert 0 < report.resumed <= report.tiles


# ---- what is refused ---------------------------------------------------------------------------


@pytest.fixture
def interrupted_job(image: Path, tmp_path: Path) -> tuple[Path, Path]:
    """An image of its own, and the target of a job on it that was stopped half way."""
    source = Path(shutil.copy2(image, tmp_path / "in.png"))
    target = tmp_path / "out" / "x.dzi"
    cut_and_stop_after(30, source, target, {"tile_size": 100})
    return source, target


def run_with_error(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """Run the command line; it says one line, and what it says."""
    assert cli.main(["cut", *map(str, arguments)]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1
    return output.err


def test_without_resume_it_is_not_thrown_away(
    interrupted_job: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = interrupted_job
    before = folder_tree(target.parent)
    message = run_with_error(capsys, source, "-o", target, "--tile-size", "100")
    assert "use resume to continue it, or overwrite to start over" in message
    assert folder_tree(target.parent) == before


def test_overwrite_without_resume_starts_over(
    interrupted_job: tuple[Path, Path], uninterrupted: UninterruptedResults
) -> None:
    source, target = interrupted_job
    report = cut(source, target, overwrite=True, tile_size=100)
    assert report.resumed == 0
    assert folder_tree(target.parent) == uninterrupted["dzi"][0]


@pytest.mark.parametrize("damage", [b"", b"damaged", b"0" * 99])
def test_a_damaged_journal_is_none(
    damage: bytes, interrupted_job: tuple[Path, Path], uninterrupted: UninterruptedResults
) -> None:
    """The stored tiles are unknown then: they are made again, and no other job's tile stays."""
    source, target = interrupted_job
    (work_folder(target) / "journal").write_bytes(damage)
    stored = next(work_folder(target).rglob("*.jpg"))
    stored.with_name("77_0.jpg").write_bytes(b"stray")
    report = cut(source, target, resume=True, tile_size=100)
    assert report.resumed == 0
    assert folder_tree(target.parent) == uninterrupted["dzi"][0]


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
    interrupted_job: tuple[Path, Path],
    words: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
    uninterrupted: UninterruptedResults,
) -> None:
    source, target = interrupted_job
    before = folder_tree(target.parent)
    message = run_with_error(capsys, source, "-o", target, "--resume", "--tile-size", "100", *words)
    assert f"{target} was begun with {said}" in message
    assert ": it cannot be resumed; restore it, or start over with overwrite" in message
    assert folder_tree(target.parent) == before
    assert cut(source, target, resume=True, tile_size=100).resumed > 0, "it still can"
    assert folder_tree(target.parent) == uninterrupted["dzi"][0]


def change_mtime(source: Path) -> None:
    os.utime(source, ns=(0, source.stat().st_mtime_ns + 1))


def grow_file(source: Path) -> None:
    time = source.stat().st_mtime_ns
    with source.open("ab") as file:
        file.write(b"!")
    os.utime(source, ns=(time, time))


@pytest.mark.parametrize(
    ("change", "said"), [(change_mtime, "source's time"), (grow_file, "source's size")]
)
def test_another_source_is_refused(
    interrupted_job: tuple[Path, Path],
    change: Callable[[Path], None],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source, target = interrupted_job
    before = folder_tree(target.parent)
    change(source)
    message = run_with_error(capsys, source, "-o", target, "--resume", "--tile-size", "100")
    assert f"was begun with {said} " in message
    assert folder_tree(target.parent) == before


@pytest.mark.parametrize("program", ["fasttile", "Pillow", "libjpeg-turbo", "zlib"])
def test_other_versions_are_refused(
    interrupted_job: tuple[Path, Path],
    program: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source, target = interrupted_job
    before = folder_tree(target.parent)
    others = {**codec_versions(), program: "99.9"}
    monkeypatch.setattr("fasttile.jobs.fingerprint.codec_versions", lambda: others)
    message = run_with_error(capsys, source, "-o", target, "--resume", "--tile-size", "100")
    assert f"was begun with {program} " in message
    assert "which now is 99.9" in message
    assert folder_tree(target.parent) == before


@pytest.mark.parametrize("source", ["array", "stream"])
def test_only_files_can_be_resumed(source: str, image: Path, tmp_path: Path) -> None:
    other = noise(50, 50, 3) if source == "array" else image.open("rb")
    with pytest.raises(OptionError, match="needs a file as source"):
        cut(other, tmp_path / "x.dzi", resume=True)
    assert list(tmp_path.iterdir()) == []
    if source == "stream":
        other.close()  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["x.szi", "x.zip", "x.pmtiles", "x.mbtiles", "x.tif"])
def test_one_file_starts_over_with_a_note(name: str, image: Path, tmp_path: Path) -> None:
    plain, target = tmp_path / "plain" / name, tmp_path / "out" / name
    assert not any("again" in note for note in cut(image, plain).notes)
    cut_and_stop_after(5, image, target, {})
    assert not target.parent.exists()
    report = cut(image, target, resume=True)
    assert report.resumed == 0
    assert [note for note in report.notes if "cannot be resumed: the cut has started over" in note]
    assert folder_tree(target.parent) == folder_tree(plain.parent)


# ---- the source changes ------------------------------------------------------------------------


@pytest.mark.parametrize("resume", [False, True])
def test_a_source_that_is_written_to_is_an_error(resume: bool, image: Path, tmp_path: Path) -> None:
    source = Path(shutil.copy(image, tmp_path / "in.png"))

    def write(progress: CutProgress) -> None:
        with source.open("r+b") as file:
            file.write(source.read_bytes()[:1])
        change_mtime(source)  # clocks are coarse

    target = tmp_path / "out" / "x.dzi"
    with pytest.raises(SourceError, match="was changed while it was read; cut it again"):
        cut(source, target, progress=write, resume=resume)
    assert not target.exists()
    if resume:
        with pytest.raises(TargetError, match="source's time"):
            cut(source, target, resume=True)


@pytest.mark.parametrize("resume", [False, True])
def test_a_source_that_is_replaced_is_read_to_its_end(
    resume: bool, image: Path, tmp_path: Path, uninterrupted: UninterruptedResults
) -> None:
    source = Path(shutil.copy2(image, tmp_path / "in.png"))

    def replace(progress: CutProgress) -> None:
        other = tmp_path / "other.png"
        Image.new("RGB", (840, 640)).save(other)
        other.replace(source)

    target = tmp_path / "out" / "x.dzi"
    cut(source, target, progress=replace, resume=resume, tile_size=100)
    assert folder_tree(target.parent) == uninterrupted["dzi"][0]


# ---- what the journal lists is not there ---------------------------------------------------------


def lose_tiles(tiles: list[Path]) -> None:
    for path in tiles[::3]:
        path.unlink()


def shorten_tiles(tiles: list[Path]) -> None:
    for path in tiles[::3]:
        path.write_bytes(path.read_bytes()[:-1])


def replace_tiles_by_links(tiles: list[Path]) -> None:
    for path in tiles[::3]:
        moved = path.rename(path.with_suffix(".moved"))
        path.symlink_to(moved.name)


def lose_folders(tiles: list[Path]) -> None:
    shutil.rmtree(tiles[0].parent)
    shutil.rmtree(tiles[-1].parent, ignore_errors=True)


def add_foreign_entries(tiles: list[Path]) -> None:
    folder = tiles[0].parent
    (folder / "secret.jpg").symlink_to("/etc/hostname")
    (folder / "note.txt").write_text("planted")
    os.mkfifo(folder / "pipe")
    top = next(path for path in folder.parents if path.name == "new")
    (top / "other.html").symlink_to("/etc/hostname")


@each_job
@pytest.mark.parametrize(
    "change",
    [lose_tiles, shorten_tiles, replace_tiles_by_links, lose_folders, add_foreign_entries],
)
def test_a_work_folder_that_was_changed(
    job: str,
    change: Callable[[list[Path]], None],
    image: Path,
    tmp_path: Path,
    uninterrupted: UninterruptedResults,
) -> None:
    name, options = RESUME_JOBS[job]
    complete, text = uninterrupted[job]
    cut_and_stop_after(30, image, tmp_path / name, options)
    stored = sorted(
        path for path in (work_folder(tmp_path / name) / "new").rglob("*") if path.is_file()
    )
    assert stored
    change(stored)
    report = cut(image, tmp_path / name, resume=True, **options)
    assert folder_tree(tmp_path) == complete
    assert same_counts(report, text)
    if change is add_foreign_entries:
        assert report.resumed > 0, "what is there is not made again"


@pytest.mark.parametrize("planted", ["new", "new/x_files", "new/x_files/9", "blocks"])
def test_planted_links_in_a_job_to_resume(planted: str, image: Path, tmp_path: Path) -> None:
    """Nothing is written below what they lead to."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    target = tmp_path / "out/x.dzi"
    cut_and_stop_after(30, image, target, {"tile_size": 100})
    path = work_folder(target) / planted
    shutil.rmtree(path, ignore_errors=True)
    path.symlink_to(elsewhere)
    if planted == "new/x_files/9":  # a link below the folder of the tiles is removed
        cut(image, target, resume=True, tile_size=100)
        assert not any(path.is_symlink() for path in target.parent.rglob("*"))
    else:
        with pytest.raises(TargetError, match="is a link, which is not followed"):
            cut(image, target, resume=True, tile_size=100)
        assert not target.exists()
    assert list(elsewhere.iterdir()) == []


def test_a_planted_link_in_place_of_a_tile_is_not_written_through(
    image: Path, tmp_path: Path
) -> None:
    """A hard link too: a tile that the journal lacks is a new file."""
    target, precious = tmp_path / "out/x.dzi", tmp_path / "precious"
    precious.write_text("the user's")
    cut_and_stop_after(30, image, target, {"tile_size": 100})
    level = work_folder(target) / "new/x_files/10"
    for col in range(9):
        for row in range(7):
            path = level / f"{col}_{row}.jpg"
            path.unlink(missing_ok=True)
            if (col + row) % 2:
                path.symlink_to(precious)
            else:
                path.hardlink_to(precious)
    cut(image, target, resume=True, tile_size=100)
    assert precious.read_text() == "the user's"
    assert not any(path.is_symlink() for path in target.parent.rglob("*"))
    assert all(path.stat().st_nlink == 1 for path in target.parent.rglob("*.jpg"))
