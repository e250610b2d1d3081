"""Results in a bucket are read like those on a disk: open_result, info, verify, view."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from proxy import FaultyProxy, ProxyFault

import fasttile
from fasttile import OptionError, SourceError, TargetError
from fasttile.abc.reader import ResultReader
from fasttile.cli.info import describe, describe_pyramid
from fasttile.readers import is_pyramid, open_result
from fasttile.serve.content import open_content
from fasttile.storage import object_files
from fasttile.storage import object_store as stores
from fasttile.storage.budget import BUDGET
from fasttile.storage.object_files import ObjectPath
from fasttile.verify import VerifyReport, repair, verify
from support.command import noise, run
from support.file_trees import file_tree
from support.sampling import sampled

pytestmark = pytest.mark.slow

PIXELS = noise(500, 700)

RESULTS: list[tuple[str, dict[str, Any]]] = [
    ("site/map.dzi", {}),
    ("site/map", {"layout": "zoomify"}),
    ("site/map", {"layout": "xyz", "skip_blank": 3}),
    ("site/map", {"layout": "tms"}),
    ("site/map", {"layout": "iiif3:id=https://example.org/map"}),
    ("site/map.szi", {}),
    ("map.zip", {"layout": "zoomify"}),
    ("site/map.pmtiles", {}),
    ("site/map.mbtiles", {}),
    ("site/map.tif", {}),
    ("site/lossless.tif", {"format": "deflate"}),
]


def upload(folder: Path, bucket: str) -> None:
    """Upload all files below a folder."""
    opened = stores.Bucket(bucket)
    for key, data in file_tree(folder).items():
        opened.put(key, data, media_type="application/octet-stream")


@pytest.mark.parametrize(("name", "options"), sampled(RESULTS, [*RESULTS[:2], *RESULTS[5:10:2]]))
def test_results_of_all_kinds(
    bucket: str, tmp_path: Path, name: str, options: dict[str, Any]
) -> None:
    fasttile.cut(PIXELS, tmp_path / name, **options)
    upload(tmp_path, bucket)
    address = f"{bucket}/{name}"
    assert is_pyramid(address) == (not name.endswith(".tif"))
    with open_result(address) as there, open_result(tmp_path / name) as here:
        assert str(there.path) == address
        assert there.name == here.name
        assert there.pyramid == here.pyramid
        for level in here.pyramid.stored_levels:
            assert there.level_stats(level.number) == here.level_stats(level.number)
            for tile in level.tiles():
                assert there.tile(*tile) == here.tile(*tile)
    for deep, source in (False, None), (True, None), (False, PIXELS):
        report = verify(address, source, deep)
        assert report.is_complete, report.faults
        assert report == local_report(tmp_path / name, deep, source, address)
    found = dict(describe(address))
    assert found == {**dict(describe_local(tmp_path / name)), "file": address}
    with open_content(address) as content:
        level = here.pyramid.stored_range[-1]
        served = content.tile(level, 0, 0)
        assert served is not None
        with open_result(tmp_path / name) as again:
            assert served[0] == again.tile(level, 0, 0)


def local_report(path: Path, deep: bool, source: Any, address: str) -> VerifyReport:
    """The report on a local result, with another path."""
    return replace(verify(path, source, deep), path=ObjectPath(address))


def describe_local(path: Path) -> list[tuple[str, str]]:
    with open_result(path) as reader:
        return [*describe_pyramid(reader)]


def test_one_file_is_read_by_ranges(bucket: str, tmp_path: Path, proxy: FaultyProxy) -> None:
    for name in ("map.szi", "map.pmtiles", "map.tif"):
        fasttile.cut(noise(2600, 2600), tmp_path / name)
        assert (tmp_path / name).stat().st_size > 12 * object_files.BLOCK_BYTES
    upload(tmp_path, bucket)
    for name in ("map.szi", "map.pmtiles", "map.tif"):
        proxy.requests.clear()
        with open_result(f"{bucket}/{name}") as reader:
            top = reader.pyramid.stored_range[-1]
            assert reader.tile(top, 3, 3)
        assert sum(asked.method == "GET" for asked in proxy.requests) < 8


def test_faults_are_found_and_not_repaired(bucket: str, tmp_path: Path) -> None:
    fasttile.cut(PIXELS, tmp_path / "map.dzi")
    (tmp_path / "map_files/10/0_0.jpg").unlink()
    (tmp_path / "map_files/10/1_0.jpg").write_bytes(b"no image")
    (tmp_path / "map_files/10/9_9.jpg").write_bytes(b"too many")
    upload(tmp_path, bucket)
    report = verify(f"{bucket}/map.dzi")
    assert [fault.name for fault in report.faults] == [
        "map_files/10/0_0.jpg",
        "map_files/10/1_0.jpg",
        "map_files/10/9_9.jpg",
    ]
    with pytest.raises(
        OptionError, match=rf"^{bucket}/map.dzi: a result in an object store is not"
    ):
        repair(f"{bucket}/map.dzi", PIXELS)


def test_a_prefix_is_a_folder(bucket: str, tmp_path: Path) -> None:
    fasttile.cut(PIXELS, tmp_path / "site/map.dzi")
    upload(tmp_path, bucket)
    for address in (f"{bucket}/site", f"{bucket}/site/"):
        assert is_pyramid(address)
        with open_result(address) as reader:
            assert reader.name == "map"


def test_messages_have_the_address_as_it_is(bucket: str, tmp_path: Path) -> None:
    for name, message in [
        ("none.dzi", f"{bucket}/none.dzi: there is no such object"),
        ("none", f"{bucket}/none: there is no such object"),
        ("none.szi", f"{bucket}/none.szi: there is no such object"),
        ("none.mbtiles", f"{bucket}/none.mbtiles: there is no such object"),
    ]:
        with pytest.raises(SourceError) as caught:
            open_result(f"{bucket}/{name}")
        assert str(caught.value) == message
    with pytest.raises(SourceError, match=r"^s3://missing-bucket[^ ]*: there is no such bucket$"):
        open_result("s3://missing-bucket/map.dzi")
    for address in ("https://example.org/map.dzi", "ftp://example.org/map.dzi"):
        with pytest.raises(SourceError, match=f"^{address}: a result is read from this machine"):
            open_result(address)
    for command in (["info"], ["verify"], ["view", "--no-browser"]):
        process = run(*command, f"{bucket}/none.szi")
        assert process.returncode == 1
        assert process.stderr == f"fasttile: {bucket}/none.szi: there is no such object\n"


def test_a_database_is_downloaded_within_the_budget(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fasttile.cut(PIXELS, tmp_path / "map.mbtiles")
    upload(tmp_path, bucket)
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    with open_result(f"{bucket}/map.mbtiles") as reader:
        assert reader.tile(reader.pyramid.stored_range[-1], 0, 0)
        assert len(list(place.iterdir())) == 1
    assert list(place.iterdir()) == []
    size = (tmp_path / "map.mbtiles").stat().st_size
    monkeypatch.setattr(object_files, "BUDGET", type(BUDGET)(download_bytes=size - 1))
    with pytest.raises(SourceError, match=f"it has {size:,} bytes; a database is downloaded"):
        open_result(f"{bucket}/map.mbtiles")


def read_all(reader: ResultReader) -> None:
    for level in reader.pyramid.stored_levels:
        for tile in level.tiles():
            reader.tile(*tile)


def test_a_result_that_changes_meanwhile(bucket: str, tmp_path: Path) -> None:
    pixels = noise(1500, 1500)
    for name, shown in (("map.szi", pixels), ("new.szi", pixels[::-1].copy())):
        fasttile.cut(shown, tmp_path / name, format="png")
    upload(tmp_path, bucket)
    with open_result(f"{bucket}/map.szi") as reader:
        new = (tmp_path / "new.szi").read_bytes()
        stores.Bucket(bucket).put("map.szi", new, media_type="application/zip")
        with pytest.raises(SourceError, match=r"map\.szi: it has changed meanwhile"):
            read_all(reader)


def test_json_of_a_result(bucket: str, tmp_path: Path) -> None:
    fasttile.cut(PIXELS, tmp_path / "map.szi")
    upload(tmp_path, bucket)
    found = json.loads(run("info", f"{bucket}/map.szi", "--json").stdout)
    assert (found["file"], found["width"], found["height"]) == (f"{bucket}/map.szi", 700, 500)
    checked = json.loads(run("verify", f"{bucket}/map.szi", "--json").stdout)
    assert (checked["path"], checked["is_complete"]) == (f"{bucket}/map.szi", True)
    assert checked["tiles"] == found["tiles"] == found["tile_count"]


def test_a_store_that_fails_is_one_line(bucket: str, tmp_path: Path, proxy: FaultyProxy) -> None:
    fasttile.cut(PIXELS, tmp_path / "map.dzi")
    upload(tmp_path, bucket)
    proxy.choose_fault = lambda asked, number: (
        ProxyFault(status=403) if "map_files" in asked.path else None
    )
    with pytest.raises(SourceError, match="the store denies it"):
        open_result(f"{bucket}/map.dzi")


def test_a_collection_in_a_bucket_is_shown(bucket: str, tmp_path: Path) -> None:
    for name in ("wall/a", "site/b"):
        fasttile.cut(PIXELS, tmp_path / f"{name}.dzi")
    images = [tmp_path / "wall/a.dzi", tmp_path / "site/b.dzi"]
    fasttile.collection.create(tmp_path / "wall/wall.dzc", images)
    upload(tmp_path, bucket)
    with (
        open_content(f"{bucket}/wall/wall.dzc") as there,
        open_content(tmp_path / "wall/wall.dzc") as here,
    ):
        assert there.page == here.page
        for level in range(8):
            assert there.thumbnail(level, 0, 0) == here.thumbnail(level, 0, 0) is not None
        for item in (0, 1):
            assert there.item_tile(item, 10, 0, 0) == here.item_tile(item, 10, 0, 0) is not None


def test_images_in_a_bucket_are_members(bucket: str, tmp_path: Path) -> None:
    for name in "abc":
        fasttile.cut(noise(300 + ord(name), 400), tmp_path / f"site/{name}.dzi")
    upload(tmp_path, bucket)
    stored = [f"{bucket}/site/{name}.dzi" for name in "abc"]
    local = [tmp_path / f"site/{name}.dzi" for name in "abc"]
    for dest, images in (("there/wall.dzc", stored), ("here/wall.dzc", local)):
        (tmp_path / dest).parent.mkdir()
        process = run("collection", "create", tmp_path / dest, *images[:2])
        assert process.returncode == 0, process.stderr
        fasttile.collection.append(tmp_path / dest, images[2:])
        fasttile.collection.remove(tmp_path / dest, images[:1])
    assert file_tree(tmp_path / "there/wall_files") == file_tree(tmp_path / "here/wall_files")
    assert f'Source="{stored[1]}"' in (tmp_path / "there/wall.dzc").read_text()
    with open_content(tmp_path / "there/wall.dzc") as content:
        assert content.thumbnail(7, 0, 0) is not None
        assert content.item_tile(2, 9, 0, 0) is None  # no store is asked
    process = run("collection", "create", tmp_path / "x.dzc", f"{bucket}/site/none.dzi")
    assert process.stderr == f"fasttile: {bucket}/site/none.dzi: there is no such object\n"


def test_results_are_converted_between_buckets_and_disks(bucket: str, tmp_path: Path) -> None:
    local = Path(fasttile.cut(PIXELS, tmp_path / "a.dzi", tile_size=128, overlap=0).path)
    there = f"{bucket}/site/b.dzi"
    assert fasttile.convert(local, there).tiles == fasttile.convert(there, tmp_path / "c.szi").tiles
    fasttile.convert(there, f"{bucket}/d", layout="zoomify:rounding=ceil")
    with open_result(local) as one, open_result(tmp_path / "c.szi") as other:
        for tile in one.pyramid.tiles():
            assert one.tile(*tile) == other.tile(*tile)
    assert verify(there).is_complete
    assert verify(f"{bucket}/d").is_complete
    for target in (there, f"{bucket}/site/b_files/x.dzi"):
        with pytest.raises(TargetError, match=r"would replace"):
            fasttile.convert(there, target, overwrite=True)
    assert verify(there).is_complete
