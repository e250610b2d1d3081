"""Zarr in a bucket: images, shards, missing chunks, and how a changed one is noticed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import fasttile
from fasttile.errors import SourceError, SourceNotFoundError
from fasttile.jobs.fingerprint import source_fingerprint
from fasttile.sources import open_source
from fasttile.storage.object_store import Bucket
from support.reading import noise
from support.zarr_files import write_ome, write_zarr

RGB = noise(150, 210, 3)


def upload(folder: Path, bucket: str, prefix: str) -> None:
    store = Bucket(bucket)
    for path in folder.rglob("*"):
        if path.is_file():
            key = f"{prefix}/{path.relative_to(folder).as_posix()}"
            store.put(key, path.read_bytes(), media_type="application/octet-stream")


def test_an_image_is_cut_and_found_unchanged(bucket: str, tmp_path: Path) -> None:
    path = write_ome(tmp_path / "a.zarr", np.moveaxis(RGB, -1, 0), "cyx", "0.5")
    upload(path, bucket, "deep/a.zarr")
    address = f"{bucket}/deep/a.zarr"
    fasttile.cut(address, tmp_path / "out.dzi", format="png")
    with fasttile.open_pyramid(tmp_path / "out.dzi") as result:
        np.testing.assert_array_equal(result.pixels(8, 0, 0), RGB)
    with fasttile.open_pyramid(address) as pyramid:
        np.testing.assert_array_equal(pyramid.pixels(8, 0, 0), RGB)
    before = source_fingerprint(address)
    assert source_fingerprint(f"{address}#axes=cyx") == before
    chunk = (path / "0/c/0/0/0").read_bytes()
    Bucket(bucket).put("deep/a.zarr/0/c/0/0/0", chunk[::-1], media_type="x/y")
    assert source_fingerprint(address) != before


def test_shards_and_missing_objects(bucket: str, tmp_path: Path) -> None:
    path = write_zarr(tmp_path / "c.zarr", RGB, chunks=(32, 32, 3), shards=(64, 64, 3))
    upload(path, bucket, "c.zarr")
    with open_source(f"{bucket}/c.zarr", region=(70, 70, 40, 50)) as source:
        np.testing.assert_array_equal(source.rows(0, 50), RGB[70:120, 70:110])
    Bucket(bucket).delete(["c.zarr/c/1/1/0"])
    with open_source(f"{bucket}/c.zarr") as source:
        expected = RGB.copy()
        expected[64:128, 64:128] = 0
        np.testing.assert_array_equal(source.rows(0, 150), expected)
    with pytest.raises(SourceNotFoundError, match=r"none\.zarr: there is no array"):
        open_source(f"{bucket}/none.zarr")
    with pytest.raises(SourceError, match="no such bucket"):
        open_source("s3://no-such-bucket-anywhere/none.zarr")
