"""A batch into a bucket that is interrupted and resumed."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fasttile
from fasttile import TargetError
from fasttile.batch import run as batch
from fasttile.layouts import RECORD_NAME
from fasttile.storage import object_store as claim
from fasttile.storage import object_store as stores
from support.buckets import bucket_contents
from support.command import COMMAND, noise, run
from support.damage import changed_files
from support.file_trees import file_tree
from support.sampling import sampled

pytestmark = pytest.mark.slow

IMAGE_COUNT = 5


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(IMAGE_COUNT):
        np.save(folder / f"{number}.npy", noise(90 + number, 110))
    return folder


def results_by_name(outcomes: list[batch.BatchResult]) -> dict[str, batch.BatchResult]:
    return {Path(outcome.source).stem: outcome for outcome in outcomes}


def interrupt_batch(folder: Path, dest: str, **options: Any) -> None:
    """A batch whose reader goes away after two images."""
    outcomes = batch.cut_all([folder], dest, workers=1, resume=True, **options)
    for _ in range(2):
        assert next(outcomes).error == ""
    outcomes.close()  # type: ignore[attr-defined]


LAYOUTS = ["dzi", "zoomify", "iiif3:id=https://example.org/{name}"]


@pytest.mark.parametrize("layout", sampled(LAYOUTS, LAYOUTS[:1]))
def test_what_was_made_is_not_made_again(
    bucket: str, folder: Path, tmp_path: Path, layout: str
) -> None:
    dest = f"{bucket}/site/"
    interrupt_batch(folder, dest, layout=layout)
    again = results_by_name(list(batch.cut_all([folder], dest, layout=layout, resume=True)))
    assert [outcome.error for outcome in again.values()] == [""] * IMAGE_COUNT
    assert sum(outcome.skipped for outcome in again.values()) >= 2
    list(batch.cut_all([folder], tmp_path / "out", layout=layout))
    expected = {f"site/{path}": data for path, data in file_tree(tmp_path / "out").items()}
    changed = changed_files(bucket_contents(bucket, "site/"), expected)
    # The records name the batch, to which its destination belongs.
    assert {Path(path).name for path in changed} == {RECORD_NAME}


@pytest.mark.long
def test_one_file_each(bucket: str, folder: Path) -> None:
    dest = f"{bucket}/{{name}}.szi"
    interrupt_batch(folder, dest)
    again = results_by_name(list(batch.cut_all([folder], dest, resume=True)))
    assert [outcome.error for outcome in again.values()] == [""] * IMAGE_COUNT
    assert sum(outcome.skipped for outcome in again.values()) >= 2
    assert sorted(bucket_contents(bucket)) == [f"{number}.szi" for number in range(IMAGE_COUNT)]


@pytest.mark.long
def test_a_changed_source_is_not_taken_for_done(bucket: str, folder: Path) -> None:
    interrupt_batch(folder, bucket)
    done = min(key for key in bucket_contents(bucket) if key.endswith(".dzi"))
    np.save(folder / done.replace(".dzi", ".npy"), noise(33, 44))
    again = results_by_name(list(batch.cut_all([folder], bucket, resume=True)))
    assert "was made from another version of the image" in again[Path(done).stem].error
    assert sum(bool(outcome.error) for outcome in again.values()) == 1


@pytest.mark.long
def test_what_stood_there_before_is_not_taken_for_done(bucket: str, folder: Path) -> None:
    fasttile.cut(noise(10, 10), f"{bucket}/0.dzi")
    for _ in range(2):
        outcomes = results_by_name(list(batch.cut_all([folder], bucket, resume=True)))
        assert "was made from another version of the image" in outcomes["0"].error
        assert [outcomes[str(number)].error for number in range(1, IMAGE_COUNT)] == [""] * (
            IMAGE_COUNT - 1
        )
    fasttile_begun = [key for key in bucket_contents(bucket) if key.startswith(".fasttile-batch")]
    assert fasttile_begun == [".fasttile-batch/begun"]  # for it is not at its end


def test_other_options_are_refused(bucket: str, folder: Path) -> None:
    interrupt_batch(folder, bucket)
    with pytest.raises(TargetError, match=r"the batch in s3://.* was begun with quality not given"):
        list(batch.cut_all([folder], bucket, resume=True, quality=3))


@pytest.mark.parametrize("data", [b"{", b"[]", b"{}", b'{"identity": 1, "begun": {}}'])
def test_a_damaged_ledger_is_one_line(bucket: str, folder: Path, data: bytes) -> None:
    interrupt_batch(folder, bucket)
    stores.Bucket(bucket).put(".fasttile-batch/begun", data, media_type="application/json")
    with pytest.raises(TargetError, match=r"the batch in s3:.* is damaged"):
        list(batch.cut_all([folder], bucket, resume=True))


@pytest.mark.usefixtures("every_progress_report")
def test_a_source_in_a_bucket_that_changed(bucket: str, tmp_path: Path) -> None:
    """Of an object the store's tag says whether it is the same."""

    def put(number: int) -> None:
        data = io.BytesIO()
        Image.fromarray(noise(60, 70 + number)).save(data, "png")
        stores.Bucket(bucket).put("in.png", data.getvalue(), media_type="image/png")

    put(0)
    with pytest.raises(fasttile.CancelledError):
        fasttile.cut(
            f"{bucket}/in.png",
            tmp_path / "x.dzi",
            tile_size=8,
            resume=True,
            progress=lambda now: now.tiles < 40,
        )
    put(1)
    with pytest.raises(TargetError, match="was begun with source's "):
        fasttile.cut(f"{bucket}/in.png", tmp_path / "x.dzi", tile_size=8, resume=True)
    put(0)
    fasttile.cut(f"{bucket}/in.png", tmp_path / "x.dzi", tile_size=8, resume=True)


@pytest.mark.long
def test_a_killed_batch_is_resumed(
    bucket: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(folder / "0.npy", noise(10, 10))  # the first one that is done
    words = ["cut", str(folder), "-q", "--resume", "--tile-size", "8", "-o", bucket]
    process = subprocess.Popen([*COMMAND, *words])
    deadline = time.monotonic() + 60
    while stores.Bucket(bucket).head("0.dzi") is None:
        assert time.monotonic() < deadline
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    again = run(*words)
    assert again.returncode == 1
    assert "wait for it, or for 60 seconds" in again.stderr
    monkeypatch.setattr(claim, "STALE_AFTER_SECONDS", 0.0)
    outcomes = list(batch.cut_all([folder], bucket, tile_size=8, resume=True))
    assert [outcome.error for outcome in outcomes] == [""] * IMAGE_COUNT
    assert any(outcome.skipped for outcome in outcomes)
    list(batch.cut_all([folder], tmp_path / "out", tile_size=8))
    # The records name the batch, to which its destination belongs.
    changed = changed_files(bucket_contents(bucket), file_tree(tmp_path / "out"))
    assert {Path(path).name for path in changed} == {RECORD_NAME}


# ---- killed at the very end --------------------------------------------------------------------


def test_what_was_left_beside_a_complete_result_is_removed(bucket: str, folder: Path) -> None:
    fasttile.cut(folder / "0.npy", f"{bucket}/0.dzi")
    complete = bucket_contents(bucket)
    for words in ({}, {"resume": True}):
        left = ".0.dzi.fasttile/journal/00000000-stray"
        stores.Bucket(bucket).put(left, b"left", media_type="text/plain")
        with pytest.raises(TargetError, match="exists already"):
            fasttile.cut(folder / "0.npy", f"{bucket}/0.dzi", **words)  # type: ignore[arg-type]
        assert bucket_contents(bucket) == complete


@pytest.mark.usefixtures("every_progress_report")
def test_between_two_descriptors(bucket: str, folder: Path, tmp_path: Path) -> None:
    """A run killed after the first descriptor is resumed: it has not announced all."""
    options: dict[str, Any] = {"layout": "dzi:json", "tile_size": 8}
    fasttile.cut(folder / "0.npy", tmp_path / "out" / "0.dzi", **options)
    complete = file_tree(tmp_path / "out")
    first, *others = [path for path in complete if "/" not in path]
    assert others
    with pytest.raises(fasttile.CancelledError):
        fasttile.cut(
            folder / "0.npy",
            f"{bucket}/0.dzi",
            progress=lambda now: now.tiles < 100,
            resume=True,
            **options,
        )
    stores.Bucket(bucket).put(first, complete[first], media_type="text/plain")
    fasttile.cut(folder / "0.npy", f"{bucket}/0.dzi", resume=True, **options)
    assert bucket_contents(bucket) == complete


@pytest.mark.slow
def test_a_batch_of_manifests_has_a_collection(bucket: str, folder: Path) -> None:
    layout = "iiif3:id=https://example.org/{name},thumbnails=50,manifest"
    for expected in (False, True):
        done = [*batch.cut_all([folder], f"{bucket}/site/", layout=layout)]
        assert [(one.error, one.skipped) for one in done] == [("", expected)] * IMAGE_COUNT
        contents = bucket_contents(bucket)
        found = json.loads(contents["site/collection.json"])
        assert found["id"] == "https://example.org/collection.json"
        assert [one["id"] for one in found["items"]] == [
            f"https://example.org/{number}/manifest.json" for number in range(IMAGE_COUNT)
        ]
        for number in range(IMAGE_COUNT):
            assert f"site/{number}/manifest.json" in contents
            assert f"site/{number}/full/50,41/0/default.jpg" in contents or number
