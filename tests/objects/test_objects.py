"""Results and sources in a bucket of a real server, which sometimes misbehaves."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import obstore
import pytest
from PIL import Image
from proxy import FaultyProxy, ProxyFault, ProxyRequest

import fasttile
from fasttile import OptionError, SourceError, TargetError, cli
from fasttile.geometry import shards
from fasttile.jobs.plan import resolve_target
from fasttile.layouts import RECORD_NAME
from fasttile.sinks import objects as uploads
from fasttile.storage import object_store as claim
from fasttile.storage import object_store as stores
from support.buckets import bucket_contents
from support.command import noise, run
from support.damage import changed_files
from support.file_trees import file_tree
from support.sampling import sampled


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "map.npy"
    np.save(path, noise(500, 700))
    return path


def object_headers(bucket: str, key: str) -> Any:
    return obstore.get(stores.Bucket(bucket)._store, key).attributes


EQUAL_CUTS = [
    ("site/map.dzi", {}),
    ("map.dzi", {"format": "png"}),
    ("site/", {}),
    ("site/map", {"layout": "zoomify"}),
    ("site/map", {"layout": "iiif3:id=https://example.org/map"}),
    ("site/map", {"layout": "xyz", "skip_blank": 3}),
    ("site/map.dzi", {"viewer": "openseadragon"}),
    ("site/map", {"layout": "xyz:scale=2", "tile_size": 64}),
]


@pytest.mark.parametrize(("dest", "options"), sampled(EQUAL_CUTS, EQUAL_CUTS[:4]))
def test_the_same_files_as_in_a_folder(
    bucket: str, image: Path, tmp_path: Path, dest: str, options: dict[str, Any]
) -> None:
    report = fasttile.cut(image, f"{bucket}/{dest}", **options)
    local = fasttile.cut(image, tmp_path / "out" / dest, **options)
    assert bucket_contents(bucket) == file_tree(tmp_path / "out")
    assert (report.tiles, report.bytes) == (local.tiles, local.bytes)
    assert str(report.path).startswith(f"{bucket}/")


def test_types_and_how_long_they_may_be_kept(bucket: str, image: Path) -> None:
    fasttile.cut(
        image, f"{bucket}/map.dzi", layout="dzi:json", viewer="openseadragon", format="webp"
    )
    expected = {
        "map_files/10/0_0.webp": ("image/webp", "public, max-age=86400"),
        "map.dzi": ("application/xml", "no-cache"),
        "map.json": ("application/json", "no-cache"),
        "map.html": ("text/html; charset=utf-8", "no-cache"),
    }
    for key, (kind, cache) in expected.items():
        found = object_headers(bucket, key)
        assert (found["Content-Type"], found["Cache-Control"]) == (kind, cache), key


def test_the_descriptor_comes_last_and_not_too_many_at_a_time(
    bucket: str, image: Path, proxy: FaultyProxy
) -> None:
    proxy.choose_fault = lambda asked, number: (
        ProxyFault(seconds=0.01) if asked.method == "PUT" else None
    )
    fasttile.cut(image, f"{bucket}/map.dzi", tile_size=64)
    written = [asked.path for asked in proxy.requests if asked.method == "PUT"]
    results = [path for path in written if ".dzi.fasttile" not in path]
    assert results[-1].endswith("/map.dzi")
    assert len(results) > 100
    assert (
        4 < proxy.max_concurrent_writes <= uploads.MAX_CONCURRENT_REQUESTS + 1
    )  # the claim may be renewed meanwhile


ONE_FILE = ["map.szi", "map.zip", "map.pmtiles", "map.mbtiles", "map.tif"]


@pytest.mark.parametrize("name", sampled(ONE_FILE, ["map.szi", "map.tif"]))
def test_one_file_is_the_same_too(bucket: str, image: Path, tmp_path: Path, name: str) -> None:
    fasttile.cut(image, f"{bucket}/a/{name}")
    fasttile.cut(image, tmp_path / name)
    assert bucket_contents(bucket) == {f"a/{name}": (tmp_path / name).read_bytes()}
    with pytest.raises(TargetError, match="exists already"):
        fasttile.cut(image, f"{bucket}/a/{name}")
    fasttile.cut(image, f"{bucket}/a/{name}", overwrite=True)


@pytest.mark.long
def test_a_large_file_goes_in_parts(bucket: str, tmp_path: Path, proxy: FaultyProxy) -> None:
    fasttile.cut(noise(2600, 2600), tmp_path / "map.zip", format="png")
    fasttile.cut(noise(2600, 2600), f"{bucket}/map.zip", format="png")
    assert any("uploadId" in asked.path for asked in proxy.requests)
    assert bucket_contents(bucket) == {"map.zip": (tmp_path / "map.zip").read_bytes()}


# ---- objects that exist already ------------------------------------------------------------------


def test_a_result_is_kept_unless_overwritten(bucket: str, image: Path, tmp_path: Path) -> None:
    fasttile.cut(image, f"{bucket}/map.dzi")
    before = bucket_contents(bucket)
    with pytest.raises(TargetError, match=r"map\.dzi exists already"):
        fasttile.cut(image, f"{bucket}/map.dzi", quality=5)
    assert bucket_contents(bucket) == before
    fasttile.cut(noise(90, 90), f"{bucket}/map.dzi", quality=5, overwrite=True)
    fasttile.cut(noise(90, 90), tmp_path / "map.dzi", quality=5)
    (tmp_path / "map.npy").unlink()
    assert bucket_contents(bucket) == file_tree(tmp_path)


def test_foreign_objects_are_not_replaced(bucket: str, image: Path) -> None:
    stores.Bucket(bucket).put("map_files/precious", b"!", media_type="text/plain")
    with pytest.raises(TargetError, match="map_files/precious exists already"):
        fasttile.cut(image, f"{bucket}/map.dzi")
    assert bucket_contents(bucket) == {"map_files/precious": b"!"}


def test_while_overwriting_no_descriptor_announces_what_is_not_there(
    bucket: str, image: Path, proxy: FaultyProxy
) -> None:
    fasttile.cut(image, f"{bucket}/map.dzi")
    proxy.requests.clear()
    fasttile.cut(image, f"{bucket}/map.dzi", overwrite=True)
    steps = [asked for asked in proxy.requests if ".dzi.fasttile" not in asked.path]
    removed = next(number for number, asked in enumerate(steps) if "delete" in asked.path)
    written = [number for number, asked in enumerate(steps) if asked.method == "PUT"]
    assert removed < written[0]
    assert steps[written[-1]].path.endswith("/map.dzi")


# ---- servers and networks that misbehave ---------------------------------------------------------


FAULTS = [ProxyFault(status=500), ProxyFault(status=503), ProxyFault(truncated=True)]


@pytest.mark.parametrize("fault", sampled(FAULTS, FAULTS[:1]))
def test_what_fails_now_and_then_is_tried_again(
    bucket: str, image: Path, proxy: FaultyProxy, tmp_path: Path, fault: ProxyFault
) -> None:
    proxy.choose_fault = lambda asked, number: fault if number % 7 == 0 else None
    fasttile.cut(image, f"{bucket}/map.dzi")
    proxy.choose_fault = lambda asked, number: None
    fasttile.cut(image, tmp_path / "out" / "map.dzi")
    assert bucket_contents(bucket) == file_tree(tmp_path / "out")


@pytest.fixture
def short_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that is given up soon."""
    monkeypatch.setattr(stores, "RETRY_SECONDS", 1)
    monkeypatch.setattr(stores, "REQUEST_SECONDS", 1)
    stores._open_store.cache_clear()


@pytest.mark.long
@pytest.mark.usefixtures("short_timeouts")
@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (ProxyFault(status=500), ""),
        (ProxyFault(status=403), "denies it; look at AWS_ACCESS_KEY_ID"),
        (ProxyFault(truncated=True), ""),
        (ProxyFault(seconds=3), "in time"),
    ],
)
def test_what_goes_on_failing_is_one_line_and_leaves_nothing(
    bucket: str, image: Path, proxy: FaultyProxy, fault: ProxyFault, says: str
) -> None:
    def chooser(asked: ProxyRequest, number: int) -> ProxyFault | None:
        return fault if asked.method == "PUT" and "map_files/9" in asked.path else None

    proxy.choose_fault = chooser
    with pytest.raises(TargetError, match="cannot write s3://") as caught:
        fasttile.cut(image, f"{bucket}/map.dzi")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "hush" not in str(caught.value)
    proxy.choose_fault = lambda asked, number: None
    assert bucket_contents(bucket) == {}


def test_no_such_bucket_and_no_such_server(
    bucket: str, image: Path, monkeypatch: pytest.MonkeyPatch, short_timeouts: None
) -> None:
    with pytest.raises(TargetError, match=f"{bucket}-not: there is no such bucket"):
        fasttile.cut(image, f"{bucket}-not/map.dzi")
    with pytest.raises(SourceError, match=f"{bucket}-not: there is no such bucket"):
        fasttile.open_source(f"{bucket}-not/map.png")
    with pytest.raises(SourceError, match=f"{bucket}/map.png: there is no such object"):
        fasttile.open_source(f"{bucket}/map.png")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    for name in ("map.dzi", "403 credential.dzi", "NoSuchBucket/map.dzi"):
        with pytest.raises(TargetError, match="cannot be reached"):
            fasttile.cut(image, f"{bucket}/{name}")


@pytest.mark.slow
def test_the_command_line_reports_failures_in_one_line(bucket: str, image: Path) -> None:
    process = run("cut", image, "-o", f"{bucket}/x/map.dzi")
    assert process.returncode == 0, process.stderr
    assert f"{bucket}/x/map.dzi: 700×500" in process.stdout
    process = run("cut", image, "-o", f"{bucket}/x/map.dzi")
    assert process.returncode == 1
    assert process.stderr.startswith(f"fasttile: {bucket}/x/map.dzi exists already")


# ---- two runs, and killed ones -------------------------------------------------------------------


def test_a_second_run_refuses_and_a_dead_one_is_cleaned_up(
    bucket: str, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = stores.Bucket(bucket)
    opened.put(".map.dzi.fasttile/claim", b"somebody", media_type="text/plain")
    opened.put("map_files/0/rest", b"?", media_type="text/plain")
    with pytest.raises(TargetError, match="another run is at work on s3://"):
        fasttile.cut(image, f"{bucket}/map.dzi")
    assert len(bucket_contents(bucket)) == 2
    monkeypatch.setattr(claim, "STALE_AFTER_SECONDS", 0.0)
    fasttile.cut(image, f"{bucket}/map.dzi")
    found = bucket_contents(bucket)
    assert "map_files/0/rest" not in found
    assert not [key for key in found if ".dzi.fasttile" in key]


@pytest.mark.long
def test_a_run_that_was_taken_over_does_not_publish(
    bucket: str, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claim, "RENEW_INTERVAL_SECONDS", 0.02)
    opened = stores.Bucket(bucket)

    def steal(progress: fasttile.CutProgress) -> None:
        opened.put(".map.dzi.fasttile/claim", b"another", media_type="text/plain")
        import time

        time.sleep(0.3)

    with pytest.raises(TargetError, match="another run has taken it over"):
        fasttile.cut(image, f"{bucket}/map.dzi", progress=steal)
    assert "map.dzi" not in bucket_contents(bucket)


@pytest.mark.long
@pytest.mark.usefixtures("every_progress_report")
def test_an_interrupted_job_is_resumed(
    bucket: str, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fasttile.storage.journal.PAUSE_SECONDS", (0.05, 0.05))
    np.save(image, noise(300, 300))
    options: dict[str, Any] = {"tile_size": 32, "resume": True}
    complete = fasttile.cut(image, tmp_path / "out" / "map.dzi", tile_size=32)
    with pytest.raises(fasttile.CancelledError):
        fasttile.cut(
            image,
            f"{bucket}/map.dzi",
            progress=lambda now: now.tiles < complete.tiles * 0.6,
            **options,
        )
    assert "map.dzi" not in bucket_contents(bucket)
    with pytest.raises(TargetError, match="begun with quality"):
        fasttile.cut(image, f"{bucket}/map.dzi", quality=1, **options)
    with pytest.raises(TargetError, match="use resume to continue"):
        fasttile.cut(image, f"{bucket}/map.dzi", tile_size=32)
    keys = sorted(key for key in bucket_contents(bucket) if "_files/" in key)
    stores.Bucket(bucket).delete(keys[::20])  # what the journal lists, and is lost
    report = fasttile.cut(image, f"{bucket}/map.dzi", **options)
    assert report.resumed > complete.tiles * 0.1
    assert report.tiles == complete.tiles
    assert bucket_contents(bucket) == file_tree(tmp_path / "out")


@pytest.mark.long
def test_shards_meet_in_a_bucket(
    bucket: str, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "MIN_SHARD_PIXELS", 16)
    monkeypatch.setattr(shards, "MIN_SHARD_COUNT", 8)
    np.save(image, noise(200, 250))
    with ThreadPoolExecutor(2) as executor:
        fasttile.cut(image, f"{bucket}/map.dzi", tile_size=32, workers=executor)
    fasttile.cut(image, tmp_path / "out" / "map.dzi", tile_size=32)
    assert bucket_contents(bucket) == file_tree(tmp_path / "out")


# ---- sources -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["map.png", "map.tif"])
def test_a_source_in_a_bucket(
    bucket: str, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fasttile.sources.remote.PART_BYTES", 10_000)
    data = io.BytesIO()
    Image.fromarray(noise(300, 400)).save(data, name.removeprefix("map.").replace("tif", "tiff"))
    stores.Bucket(bucket).put(f"in/{name}", data.getvalue(), media_type="image/x")
    report = fasttile.cut(f"{bucket}/in/{name}", tmp_path / "out" / "")
    assert Path(report.path).name == "map.dzi"
    record = json.loads((tmp_path / "out" / "map_files" / RECORD_NAME).read_text())
    assert record["source"].keys() == {"name", "size", "tag"}
    assert record["source"]["size"] == len(data.getvalue())
    fasttile.cut(data.getvalue(), tmp_path / "expected" / "map.dzi")
    changed = changed_files(file_tree(tmp_path / "out"), file_tree(tmp_path / "expected"))
    assert changed == {f"map_files/{RECORD_NAME}"}


@pytest.mark.long
def test_sources_that_cannot_be_had(
    bucket: str, tmp_path: Path, proxy: FaultyProxy, short_timeouts: None
) -> None:
    with pytest.raises(SourceError, match="there is no such object"):
        fasttile.cut(f"{bucket}/no.png", tmp_path / "x.dzi")
    opened = stores.Bucket(bucket)
    opened.put("empty.png", b"", media_type="image/png")
    with pytest.raises(SourceError, match="empty"):
        fasttile.cut(f"{bucket}/empty.png", tmp_path / "x.dzi")
    opened.put("broken.png", noise(90, 90).tobytes(), media_type="image/png")

    def chooser(asked: ProxyRequest, number: int) -> ProxyFault | None:
        return (
            ProxyFault(truncated=True) if asked.method == "GET" and "broken" in asked.path else None
        )

    proxy.choose_fault = chooser
    with pytest.raises(SourceError, match=r"cannot read s3://.*broken\.png"):
        fasttile.cut(f"{bucket}/broken.png", tmp_path / "x.dzi")


@pytest.fixture
def slow_source(bucket: str, monkeypatch: pytest.MonkeyPatch) -> tuple[str, bytes]:
    """An object of 90 kB, and limits of half a second."""
    monkeypatch.setattr(stores, "REQUEST_SECONDS", 0.5)
    monkeypatch.setattr(stores, "STALL_SECONDS", 0.5)
    stores._open_store.cache_clear()
    data = noise(100, 300).tobytes()
    stores.Bucket(bucket).put("slow.bin", data, media_type="x/x")
    return f"{bucket}/slow.bin", data


def only_reads(fault: ProxyFault) -> Callable[[ProxyRequest, int], ProxyFault | None]:
    return lambda asked, number: fault if asked.method == "GET" and "slow" in asked.path else None


def test_a_source_may_arrive_slowly(slow_source: tuple[str, bytes], proxy: FaultyProxy) -> None:
    """It takes six times as long as any other request may."""
    address, data = slow_source
    proxy.choose_fault = only_reads(ProxyFault(rate=30_000))
    with fasttile.open_source(address, raw="300x100x3") as source:
        assert source.rows(0, 100).tobytes() == data


def test_a_source_that_breaks_off_is_resumed(
    slow_source: tuple[str, bytes], proxy: FaultyProxy
) -> None:
    """Each answer stays silent after 25,000 bytes: the next one brings the bytes that follow."""
    address, data = slow_source
    proxy.choose_fault = only_reads(ProxyFault(max_bytes=25_000, rate=500_000))
    with fasttile.open_source(address, raw="300x100x3") as source:
        assert source.rows(0, 100).tobytes() == data
    reads = [asked for asked in proxy.requests if asked.method == "GET" and "slow" in asked.path]
    assert len(reads) == 4


@pytest.mark.parametrize("fault", [ProxyFault(rate=200), ProxyFault(max_bytes=0, rate=100)])
def test_a_source_that_does_not_arrive_is_an_error(
    slow_source: tuple[str, bytes],
    proxy: FaultyProxy,
    fault: ProxyFault,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stores, "_READ_ATTEMPTS", 2)
    address, _ = slow_source
    proxy.choose_fault = only_reads(fault)
    with pytest.raises(SourceError, match="the store does not answer in time"):
        fasttile.open_source(address, raw="300x100x3")


def test_a_source_that_changes_meanwhile_is_an_error(
    bucket: str, tmp_path: Path, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fasttile.sources.remote.PART_BYTES", 20_000)
    monkeypatch.setattr("fasttile.sources.remote.MAX_CONCURRENT_REQUESTS", 1)
    opened = stores.Bucket(bucket)
    opened.put("map.bin", bytes(90_000), media_type="x/x")
    count = 0
    direct = obstore.store.from_url(
        bucket,
        config={"endpoint": f"http://127.0.0.1:{proxy.server_port}"},
        client_options={"allow_http": True},
    )

    def chooser(asked: ProxyRequest, number: int) -> ProxyFault | None:
        nonlocal count
        if asked.method == "GET" and "map.bin" in asked.path:
            count += 1
            if count == 2:
                obstore.put(direct, "map.bin", bytes(range(90)) * 1000)
        return None

    proxy.choose_fault = chooser
    with pytest.raises(SourceError, match="has changed meanwhile"):
        fasttile.cut(f"{bucket}/map.bin", tmp_path / "x.dzi", raw="300x100x3")


# ---- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dest", "result"),
    [
        ("s3://b/x/map.dzi", "s3://b/x/map.dzi"),
        ("S3://b/x/", "s3://b/x/scan.dzi"),
        ("gs://b", "gs://b/scan.dzi"),
        ("az://b/{name}.szi", "az://b/scan.szi"),
    ],
)
def test_addresses(dest: str, result: str) -> None:
    assert resolve_target(dest, "in/scan.tif").location == result


@pytest.mark.parametrize(
    ("dest", "message"),
    [
        ("http://host/x/map.dzi", "results cannot be written there"),
        ("ftp://x/y/", "results cannot be written there"),
        ("s3://", "names no bucket; expected s3://BUCKET/KEY"),
        ("gs:///x.dzi", "names no bucket"),
        ("s3://key:secret@b/x/", "s3://b/…: a store's address has no user or password"),
    ],
)
def test_addresses_that_are_none(dest: str, message: str) -> None:
    with pytest.raises(OptionError, match=message) as caught:
        resolve_target(dest, "in/scan.tif")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("address", ["gs://bucket", "az://container"])
def test_other_stores_can_be_opened(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No server here speaks their tongue; so much can be tried."""
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "devstoreaccount1")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "a2V5")
    monkeypatch.setenv("GOOGLE_SKIP_SIGNATURE", "true")
    assert stores.Bucket(address).address == address


@pytest.mark.parametrize(
    ("outer", "layout", "inner"),
    [("x", "zoomify", "x/y.dzi"), ("x.dzi", "dzi", "x_files/y.szi"), ("x", "xyz", "x/y/z")],
)
def test_a_result_below_the_replaced_prefix_is_kept(
    bucket: str, image: Path, outer: str, layout: str, inner: str
) -> None:
    fasttile.cut(image, f"{bucket}/a/{outer}", layout=layout)
    fasttile.cut(image, f"{bucket}/a/{outer}", layout=layout, overwrite=True)
    inner_layout = None if "." in inner else "tms"
    fasttile.cut(image, f"{bucket}/a/{inner}", layout=inner_layout)
    before = bucket_contents(bucket)
    with pytest.raises(TargetError, match=rf"^{bucket}/a/x\w* holds another result, {bucket}/a/x"):
        fasttile.cut(image, f"{bucket}/a/{outer}", layout=layout, overwrite=True)
    assert bucket_contents(bucket) == before


@pytest.mark.parametrize("dest", ["site/map.dzi", "map.szi", "site/map"])
def test_a_dry_run_writes_no_object(
    bucket: str, image: Path, capsys: pytest.CaptureFixture[str], dest: str
) -> None:
    words = ["cut", str(image), "-o", f"{bucket}/{dest}"]
    words += ["--layout", "zoomify"] if dest == "site/map" else []
    assert cli.main([*words, "--dry-run", "--json"]) == 0
    assert not bucket_contents(bucket)
    made = json.loads(capsys.readouterr().out)
    is_file = dest.endswith(".szi")  # it is made on this machine's disk
    assert (made["disk_free"] is not None, made["disk_bytes"] > made["bytes"]) == (is_file,) * 2
    assert cli.main([*words, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert {name: made[name] for name in ("destination", "tiles", "bytes", "width")} == {
        name: report[name] for name in ("destination", "tiles", "bytes", "width")
    }
    before = bucket_contents(bucket)
    shown = []
    for dry in (["--dry-run"], []):
        assert cli.main([*words, *dry]) == 1
        shown.append(capsys.readouterr().err)
    assert shown[0] == shown[1]
    assert "exists already; choose another name, or use --overwrite" in shown[0]
    assert cli.main([*words, "--dry-run", "--overwrite", "-q"]) == 0
    assert bucket_contents(bucket) == before


def test_a_dry_run_after_an_interrupted_run(
    bucket: str, image: Path, every_progress_report: None
) -> None:
    options: dict[str, Any] = {"tile_size": 32, "threads": 1}
    with pytest.raises(fasttile.CancelledError):
        fasttile.cut(
            image, f"{bucket}/a.dzi", resume=True, progress=lambda now: now.tiles < 200, **options
        )
    before = bucket_contents(bucket)
    with pytest.raises(TargetError, match="an interrupted run can be resumed"):
        fasttile.estimate(image, f"{bucket}/a.dzi", **options)
    made = fasttile.estimate(image, f"{bucket}/a.dzi", resume=True, **options)
    assert bucket_contents(bucket) == before
    report = fasttile.cut(image, f"{bucket}/a.dzi", resume=True, **options)
    assert (made.tiles, made.levels) == (report.tiles, report.levels)
