"""Batches: all images are cut, in parallel or not, and an error stops only its image."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fasttile
from fasttile.batch import run as batch
from fasttile.batch.items import BatchProgress, BatchResult
from fasttile.batch.run import cut_all
from fasttile.errors import (
    FasttileError,
    OptionError,
    SourceError,
    TargetError,
    TargetExistsError,
    TruncatedError,
)
from fasttile.storage.journal import decode_lines, encode_line
from support.command import COMMAND, folder_entries, noise, run
from support.file_trees import file_tree
from support.sampling import sampled


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of images of all sorts, one of which is none."""
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    for number, name in enumerate(("a.png", "b.jpg", "sub/c.tif", "sub/d.bmp")):
        Image.fromarray(noise(90 + number, 120)).save(folder / name)
    np.save(folder / "e.npy", noise(300, 310))
    (folder / "bad.jpg").write_bytes(b"\xff\xd8\xff\xe0 this is no image")
    return folder


GOOD_IMAGES = {"a.png": "a", "b.jpg": "b", "sub/c.tif": "sub/c", "sub/d.bmp": "sub/d", "e.npy": "e"}


def results_of(folder: Path) -> dict[str, bytes]:
    """All files below a folder; the records without the batch, which single cuts have none of."""
    files = file_tree(folder)
    for path, data in files.items():
        if path.endswith("/.fasttile.json"):
            record = json.loads(data)
            record.pop("batch", None)
            files[path] = json.dumps(record).encode()
    return files


@pytest.fixture
def expected_files(images: Path, tmp_path: Path) -> dict[str, bytes]:
    """What each image becomes, cut for itself."""
    alone = tmp_path / "alone"
    for name, stem in GOOD_IMAGES.items():
        fasttile.cut(images / name, alone / f"{stem}.dzi")
    return results_of(alone)


def _subclasses(parent: type[FasttileError]) -> set[type[FasttileError]]:
    children = set(parent.__subclasses__())
    return children.union(*map(_subclasses, children))


def results_by_source(outcomes: list[BatchResult], folder: Path) -> dict[str, BatchResult]:
    return {Path(outcome.source).relative_to(folder).as_posix(): outcome for outcome in outcomes}


@pytest.mark.parametrize("workers", [None, 1, 2, 3])
def test_all_that_can_be_cut_is(
    images: Path, tmp_path: Path, expected_files: dict[str, bytes], workers: int | None
) -> None:
    out = tmp_path / "out"
    outcomes = results_by_source(list(cut_all([images], out, workers=workers)), images)
    assert outcomes.keys() == {*GOOD_IMAGES, "bad.jpg"}
    assert "bad.jpg: broken JPEG" in outcomes.pop("bad.jpg").error
    for name, outcome in outcomes.items():
        assert outcome.error == ""
        assert outcome.report is not None
        assert outcome.target == outcome.report.path == out / f"{GOOD_IMAGES[name]}.dzi"
    assert results_of(out) == expected_files


def test_a_foreign_executor_serves(
    images: Path, tmp_path: Path, expected_files: dict[str, bytes]
) -> None:
    with ThreadPoolExecutor(2) as executor:
        outcomes = list(cut_all([images], tmp_path / "out", workers=executor))
        assert executor.submit(int).result() == 0  # it stays open
    assert len(outcomes) == 6
    assert results_of(tmp_path / "out") == expected_files


def test_large_images_are_cut_by_this_process(
    images: Path, tmp_path: Path, expected_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    (images / "bad.jpg").unlink()
    opened = []
    real = batch.open_job

    def open_and_note(plan: Any, source: str) -> Any:
        opened.append(Path(source).name)
        return real(plan, source)

    monkeypatch.setattr(batch, "open_job", open_and_note)
    monkeypatch.setattr(batch, "LARGE_IMAGE_PIXELS", 90_000)
    with ThreadPoolExecutor(1) as executor:  # its thread sees the patches
        outcomes = list(cut_all([images], tmp_path / "out", workers=executor))
    assert [outcome.error for outcome in outcomes] == [""] * 5
    assert opened[-1] == "e.npy"
    assert opened.count("e.npy") == 2  # once by the worker, which returned it
    assert Path(outcomes[-1].source).name == "e.npy"
    assert results_of(tmp_path / "out") == expected_files


@pytest.mark.parametrize("workers", [None, 2])
@pytest.mark.usefixtures("every_progress_report")
def test_progress_grows_to_its_end(images: Path, tmp_path: Path, workers: int | None) -> None:
    seen: list[BatchProgress] = []
    list(cut_all([images], tmp_path / "out", workers=workers, progress=seen.append))
    assert [now.done for now in seen] == sorted(now.done for now in seen)
    assert seen[-1].done == seen[-1].count == 6
    assert any(now.progress is not None and "in" in now.source for now in seen)


@pytest.mark.parametrize("workers", [None, 1, 2])
def test_false_from_the_callback_cancels_the_batch(
    images: Path, tmp_path: Path, workers: int | None
) -> None:
    calls: list[BatchProgress] = []

    def cancel(progress: BatchProgress) -> bool:
        calls.append(progress)
        return False

    results = cut_all([images], tmp_path / "out", workers=workers, progress=cancel)
    with pytest.raises(fasttile.CancelledError, match=r"cancelled after \d of 6 images"):
        list(results)
    assert len(calls) == 1
    assert not [name for name in folder_entries(tmp_path / "out") if name.startswith(".")]
    assert len(list((tmp_path / "out").rglob("*.dzi"))) <= 1


def test_false_cancels_an_executors_batch_too(images: Path, tmp_path: Path) -> None:
    """An executor reports no progress of its tasks: the end of an image does."""
    with ThreadPoolExecutor(1) as executor, pytest.raises(fasttile.CancelledError):
        list(cut_all([images], tmp_path / "out", workers=executor, progress=lambda _: False))
    assert len(list((tmp_path / "out").rglob("*.dzi"))) < len(GOOD_IMAGES)


@pytest.mark.parametrize(
    ("sources", "options", "error"),
    [
        (["in"], {"quality": 101}, OptionError),
        (["in"], {"workers": "many"}, OptionError),
        (["in", "in"], {}, OptionError),
        (["@none"], {}, SourceError),
        (["in"], {"viewer": "none"}, OptionError),
        (["in"], {"tilesize": 5}, TypeError),
    ],
    ids=str,
)
def test_arguments_are_checked_at_once(
    images: Path, sources: list[str], options: dict[str, Any], error: type[Exception]
) -> None:
    folder = images.parent
    named = [f"@{folder / name[1:]}" if name[0] == "@" else folder / name for name in sources]
    with pytest.raises(error):
        cut_all(named, folder / "out", **options)
    assert not (folder / "out").exists()


def test_results_are_counted_and_can_be_closed(images: Path, tmp_path: Path) -> None:
    with cut_all([images], tmp_path / "out", workers=1) as results:
        assert len(results) == 6
        assert next(results).report is not None
    assert list(results) == []
    assert len(list((tmp_path / "out").rglob("*.dzi"))) < len(GOOD_IMAGES)
    assert not [name for name in folder_entries(tmp_path / "out") if name.startswith(".")]
    assert not (tmp_path / "none").exists()
    cut_all([images], tmp_path / "none").close()
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("workers", [None, 2])
def test_results_carry_the_exception(images: Path, tmp_path: Path, workers: int | None) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.dzi").touch()
    results = results_by_source(list(cut_all([images], tmp_path / "out", workers=workers)), images)
    failed = {name: type(result.exception) for name, result in results.items() if result.error}
    assert failed == {"bad.jpg": SourceError, "a.png": TargetExistsError}
    for name in failed:
        assert results[name].error == " ".join(str(results[name].exception).split())
        assert "Traceback" in results[name].trace


@pytest.mark.parametrize(
    ("sizes", "cpus", "expected"),
    [
        ([2**22 - 1] * 2, 8, 2),  # 1 + 2 × 0.99: not worth a third
        ([2**21 - 1], 8, 1),
        ([2**21] * 2, 8, 2),
        ([2**21 - 1] * 2, 8, 1),
        ([3 * 2**22, 1, 1, 1, 1], 8, 4),
        ([2**30] * 5, 8, 5),
        ([2**30] * 5, 3, 3),
    ],
)
def test_processes_for_each_four_megabytes_of_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sizes: list[int], cpus: int, expected: int
) -> None:
    monkeypatch.setattr(batch, "cpu_count", lambda: cpus)
    for number, size in enumerate(sizes):
        with (tmp_path / f"{number}.npy").open("wb") as file:
            file.truncate(size)
    items = batch.batch_items([str(tmp_path)], tmp_path / "out", fasttile.CutOptions())
    assert batch._useful_process_count(items) == expected


@pytest.mark.parametrize("error_class", sorted(_subclasses(FasttileError), key=str))
def test_errors_travel_from_workers(error_class: type[FasttileError]) -> None:
    arguments = ("an image", 7) if error_class is TruncatedError else ("an image",)
    error = pickle.loads(pickle.dumps(error_class(*arguments)))
    assert (type(error), str(error)) == (error_class, "an image")


def test_pages_become_results_of_their_own(tmp_path: Path) -> None:
    pages = [Image.fromarray(noise(40 + number, 50)) for number in range(3)]
    pages[0].save(tmp_path / "scans.tif", save_all=True, append_images=pages[1:])
    process = run("cut", tmp_path / "scans.tif", "--page", "all", "-o", tmp_path / "out/", "-q")
    assert process.returncode == 0, process.stderr
    assert {name for name in folder_entries(tmp_path / "out") if name.endswith(".dzi")} == {
        f"scans-{number}.dzi" for number in (1, 2, 3)
    }


def test_broken_options_stop_it_before_anything_is_cut(images: Path, tmp_path: Path) -> None:
    process = run("cut", images, "-o", tmp_path / "out", "--quality", "101")
    assert process.returncode == 2
    assert folder_entries(tmp_path / "out") == set()
    process = run("cut", images, "-o", tmp_path / "out", "--workers", "many")
    assert process.returncode == 2
    assert "workers 'many'" in process.stderr


# ---- the command line ----------------------------------------------------------------------------


@pytest.mark.slow
def test_the_command_ends_with_a_table_and_writes_a_report(images: Path, tmp_path: Path) -> None:
    out, report = tmp_path / "out", tmp_path / "report.jsonl"
    process = run("cut", images, "-o", out, "--report", report, "--workers", "2")
    assert process.returncode == 1
    lines = process.stderr.splitlines()
    assert lines[-2] == "1 of 6 images failed:"
    assert lines[-1].split()[0] == str(images / "bad.jpg")
    assert "broken JPEG" in lines[-1]
    assert len(process.stdout.splitlines()) == 5
    entries_ = [json.loads(line) for line in report.read_text().splitlines()]
    assert len(entries_) == 6
    for entry in entries_:
        name = Path(entry["source"]).relative_to(images).as_posix()
        if name == "bad.jpg":
            assert "broken JPEG" in entry["error"]
            continue
        assert entry["error"] is None
        assert entry["destination"] == str(out / f"{GOOD_IMAGES[name]}.dzi")
        tiles = list((out / f"{GOOD_IMAGES[name]}_files").glob("*/*"))
        assert entry["tiles"] == entry["encoded"] == len(tiles)
        assert entry["bytes"] == sum(path.stat().st_size for path in tiles)
        assert entry["seconds"] > 0


def test_a_report_that_cannot_be_written_is_one_line(images: Path, tmp_path: Path) -> None:
    process = run("cut", images, "-o", tmp_path / "out", "--report", images / "a.png" / "r")
    assert process.returncode == 1
    assert process.stderr.count("\n") == 1
    assert "Not a directory" in process.stderr
    assert folder_entries(tmp_path / "out") == set()


def test_a_list_from_standard_input(images: Path, tmp_path: Path) -> None:
    names = "\n".join(str(images / name) for name in GOOD_IMAGES)
    process = run("cut", "@-", "-o", tmp_path / "out", "-q", input=names)
    assert process.returncode == 0, process.stderr
    assert (tmp_path / "out" / "d.dzi").exists()


# ---- interrupted and resumed -------------------------------------------------------------------


def test_a_batch_is_resumed(images: Path, tmp_path: Path, expected_files: dict[str, bytes]) -> None:
    out = tmp_path / "out"
    first = list(cut_all([images], out, resume=True))
    assert len([outcome for outcome in first if outcome.report]) == 5
    assert ".fasttile-batch" in folder_entries(out)  # one has failed: there is something to be done
    second = results_by_source(list(cut_all([images], out, resume=True)), images)
    assert [name for name, outcome in second.items() if not outcome.skipped] == ["bad.jpg"]
    Image.fromarray(noise(10, 10)).save(images / "bad.jpg")
    third = results_by_source(list(cut_all([images], out, resume=True)), images)
    assert third["bad.jpg"].report is not None
    assert ".fasttile-batch" not in folder_entries(out)
    found = {name: data for name, data in results_of(out).items() if not name.startswith("bad")}
    assert found == expected_files


def test_a_batch_is_not_resumed_with_other_options(images: Path, tmp_path: Path) -> None:
    list(cut_all([images], tmp_path / "out", resume=True))
    with pytest.raises(fasttile.TargetError, match="begun with quality not given, which now is 9"):
        list(cut_all([images], tmp_path / "out", resume=True, quality=9))


@pytest.mark.parametrize(
    "lines",
    [
        [b"[]"],
        [b"7"],
        [b"{"],
        [b"[" * 100_000],
        ["", b"[1]"],
        ["", b'["done", [], 1]'],
        ["", b"{}"],
    ],
)
def test_a_damaged_ledger_is_one_line(
    images: Path, tmp_path: Path, lines: list[bytes | str]
) -> None:
    """Its lines have the right checksums, but no run has written them; "" is the right header."""
    out = tmp_path / "out"
    list(cut_all([images], out, resume=True))
    ledger = out / ".fasttile-batch" / "ledger"
    header = decode_lines(ledger.read_bytes())[0]
    texts = [header if isinstance(line, str) else line for line in lines]
    ledger.write_bytes(b"".join(map(encode_line, texts)))
    with pytest.raises(TargetError, match=r"the batch in .* is damaged; start over"):
        list(cut_all([images], out, resume=True))


def test_a_changed_source_is_not_taken_for_done(images: Path, tmp_path: Path) -> None:
    list(cut_all([images], tmp_path / "out", resume=True))
    Image.fromarray(noise(33, 44)).save(images / "a.png")
    again = results_by_source(list(cut_all([images], tmp_path / "out", resume=True)), images)
    assert "a.dzi was made from another version of the image" in again["a.png"].error


def test_a_result_that_is_not_entered_as_done_is_cut_again(images: Path, tmp_path: Path) -> None:
    """After a power cut it may lack tiles, though its record says how it was made."""
    out = tmp_path / "out"
    list(cut_all([images], out, resume=True))
    ledger = out / ".fasttile-batch" / "ledger"
    lines = decode_lines(ledger.read_bytes())
    kept = [line for line in lines if not line.startswith(b'["done"') or b"/a.dzi" not in line]
    assert len(kept) == len(lines) - 1
    ledger.write_bytes(b"".join(map(encode_line, kept)))
    (out / "a_files" / "0" / "0_0.jpg").unlink()
    again = results_by_source(list(cut_all([images], out, resume=True)), images)
    assert {name for name, result in again.items() if not result.skipped} == {"a.png", "bad.jpg"}
    assert (out / "a_files" / "0" / "0_0.jpg").exists()


@pytest.mark.slow
@pytest.mark.parametrize("workers", sampled(["1", "2"], ["2"]))
def test_a_killed_batch_is_resumed(tmp_path: Path, workers: str) -> None:
    folder, out, alone = tmp_path / "in", tmp_path / "out", tmp_path / "alone"
    folder.mkdir()
    for number in range(12):
        np.save(folder / f"{number:02}.npy", noise(900, 1000 + number))
    words = ["cut", str(folder), "-q", "--resume", "--workers", workers]
    process = subprocess.Popen([*COMMAND, *words, "-o", str(out)])
    deadline = time.monotonic() + 30
    while len(list(out.glob("*.dzi"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.005)
    process.kill()
    process.wait()
    done = len(list(out.glob("*.dzi")))
    assert 3 <= done < 12
    _wait_for_orphans(out)
    assert run(*words, "-o", out).returncode == 0
    assert run("cut", folder, "-q", "-o", alone).returncode == 0
    assert results_of(out) == results_of(alone)
    assert not [name for name in folder_entries(out) if name.startswith(".")]


def _wait_for_orphans(out: Path) -> None:
    """Until no worker holds a lock below a folder any more."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        held = [link for link in Path("/proc").glob("[0-9]*/fd/*") if _links_below(link, out)]
        if not held:
            return
        time.sleep(0.05)
    raise AssertionError("a worker of a killed batch lives on")


def _links_below(link: Path, folder: Path) -> bool:
    try:
        return str(link.readlink()).startswith(str(folder))
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").exists(), reason="needs /proc")
def test_a_stopped_worker_is_reported_and_the_others_go_on(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for index in range(6):
        np.save(folder / f"{index}.npy", noise(2000, 2000 + index))
    words = ["cut", str(folder), "-q", "--workers", "2", "--worker-timeout", "2", "-o", str(out)]
    process = subprocess.Popen([*COMMAND, *words], stderr=subprocess.PIPE, text=True)
    while not (begun := list(out.glob(".*.fasttile/new/*_files/*"))):
        assert process.poll() is None
        time.sleep(0.005)
    name = begun[0].parents[2].name.removeprefix(".").removesuffix(".dzi.fasttile")
    status = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    workers = [int(number) for number in status.split()]
    assert len(workers) == 2
    for worker in workers:
        os.kill(worker, signal.SIGSTOP)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1, stderr
    assert f"fasttile: {folder}/{name}.npy: its worker process " in stderr
    assert "Traceback" not in stderr
    count = len(list(out.glob("*.dzi")))
    assert stderr.count("did not run for 2 s and was ended") == 2 * (6 - count)  # and in the table
    assert 4 <= count <= 5
    assert not [name for name in folder_entries(out) if name.startswith(".")]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").exists(), reason="needs /proc")
def test_what_a_killed_worker_left_is_named(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for index in range(4):
        np.save(folder / f"{index}.npy", noise(2500, 2500 + index))
    words = ["cut", str(folder), "-q", "--workers", "2", "-o", str(out)]
    process = subprocess.Popen([*COMMAND, *words], stderr=subprocess.PIPE, text=True)
    while not list(out.glob(".*.fasttile/new/*_files/*")):
        assert process.poll() is None
        time.sleep(0.005)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    for worker in children.split():
        os.kill(int(worker), signal.SIGKILL)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130, stderr
    left = sorted(out.glob(".*.fasttile"))
    assert left
    assert stderr.startswith("fasttile: interrupted; ")
    assert f"; {left[0]} " in stderr
    assert stderr.endswith(
        f" left behind; the same command removes {'them' if left[1:] else 'it'}\n"
    )
    again = subprocess.run([*COMMAND, *words], stderr=subprocess.PIPE, text=True, check=False)
    assert again.returncode == 0 or "exists already" in again.stderr
    assert not list(out.glob(".*.fasttile"))


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_all_workers_and_leave_nothing(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for index in range(8):
        np.save(folder / f"{index}.npy", noise(2500, 2500 + index))
    words = ["cut", str(folder), "-q", "--workers", "2", "-o", str(out)]
    process = subprocess.Popen([*COMMAND, *words], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 30
    while not list(out.glob(".*.fasttile/new/*_files/*")) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == code, stderr
    assert stderr.count("\n") == 1, stderr
    assert "nothing was left behind" in stderr
    assert not [name for name in folder_entries(out) if name.startswith(".")]


def test_an_interrupted_batch_with_resume_and_report_says_how_to_go_on(tmp_path: Path) -> None:
    folder, out, report = tmp_path / "in", tmp_path / "out", tmp_path / "cut.jsonl"
    folder.mkdir()
    np.save(folder / "0.npy", noise(40, 50))
    np.save(folder / "1.npy", noise(6000, 6000))
    words = ["cut", str(folder), "--resume", "--report", str(report), "--workers", "1", "-q"]
    process = subprocess.Popen(
        [*COMMAND, *words, "-o", str(out)], stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 30
    while not (out / "0.dzi").exists() or not list(out.glob(".1*.fasttile")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130, stderr
    expected = "fasttile: interrupted; 1 of 2 results are complete; the same command resumes\n"
    assert stderr == expected
    assert len(report.read_text("utf-8").splitlines()) == 1
    again = subprocess.run([*COMMAND, *words, "-o", str(out)], check=False)
    assert again.returncode == 0
    assert sorted(path.name for path in out.glob("*.dzi")) == ["0.dzi", "1.dzi"]


def test_headers_of_rasters_are_no_images_of_a_folder(tmp_path: Path) -> None:
    """ENVI and ESRI rasters have a header in text, whose name ends as that of Radiance HDR does."""
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.hdr").write_text("ENVI\nsamples = 100\nlines = 50\n")
    (folder / "b.HDR").write_text("BYTEORDER I\nLAYOUT BIL\n")
    (folder / "c.hdr").write_bytes(
        b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 1 +X 2\n" + b"\x80\x80\x80\x81" * 2
    )
    (folder / "d.hdr").write_bytes(b"\0\1damaged")
    results = results_by_source(list(cut_all([folder], tmp_path / "out", workers=1)), folder)
    assert {name: bool(result.error) for name, result in results.items()} == {
        "c.hdr": False,
        "d.hdr": True,
    }
