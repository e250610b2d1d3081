"""Zarr in everything that takes a source: cut, batch, verify, update, resume, view, collections."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fasttile
from fasttile.batch.items import expand_inputs
from fasttile.errors import SourceError, TargetError
from fasttile.jobs.fingerprint import source_fingerprint
from fasttile.serve.gallery import find_items, is_folder_of_images, open_paths
from support.command import run
from support.reading import noise, smooth_pixels
from support.resume_runs import cut_and_stop_after
from support.zarr_files import write_ome, write_zarr

RGB = smooth_pixels(300, 430, 3)


def tiles_of(path: Path) -> dict[str, bytes]:
    """The tiles of a Deep Zoom image, by their paths."""
    folder = path.with_name(f"{path.stem}_files")
    return {
        found.relative_to(folder).as_posix(): found.read_bytes()
        for found in folder.rglob("*.*")
        if not found.name.startswith(".")
    }


@pytest.fixture(scope="module")
def array(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_zarr(tmp_path_factory.mktemp("zarr") / "a.zarr", RGB)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The tiles of the same pixels in a .npy."""
    folder = tmp_path_factory.mktemp("npy")
    np.save(folder / "a.npy", RGB)
    fasttile.cut(folder / "a.npy", folder / "a.dzi", tile_size=100)
    return tiles_of(folder / "a.dzi")


def test_tiles_are_those_of_an_array(
    array: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    fasttile.cut(array, tmp_path / "a.dzi", tile_size=100)
    assert tiles_of(tmp_path / "a.dzi") == expected
    assert run("verify", tmp_path / "a.dzi", "--source", array).returncode == 0
    pairs = zip(
        fasttile.iter_tiles(array, tile_size=100),
        fasttile.iter_tiles(RGB, tile_size=100),
        strict=True,
    )
    for (tile, pixels), (other, wanted) in pairs:
        assert tile == other
        np.testing.assert_array_equal(pixels, wanted)
    with fasttile.open_pyramid(array, tile_size=100) as pyramid:
        level = pyramid.level_count - 1
        assert pyramid.tile(level, 1, 2) == expected[f"{level}/1_2.jpg"]
        assert pyramid.tile(5, 0, 0) == expected["5/0_0.jpg"]


@pytest.mark.slow
def test_verify_finds_another_source(array: Path, tmp_path: Path) -> None:
    fasttile.cut(array, tmp_path / "a.dzi")
    other = write_zarr(tmp_path / "b.zarr", noise(300, 430, 3))
    assert run("verify", tmp_path / "a.dzi", "--source", other).returncode == 1


def test_info(array: Path, tmp_path: Path) -> None:
    done = run("info", array)
    assert done.returncode == 0
    assert "format:      Zarr 3\n" in done.stdout
    assert "size:        430×300 pixels\n" in done.stdout
    path = write_ome(tmp_path / "b.zarr", noise(1, 2, 3, 60, 70), "tczyx")
    done = run("info", "--json", path)
    found = json.loads(done.stdout)
    found = found[0] if isinstance(found, list) else found
    assert (found["pages"], found["width"]) == (3, 70)
    assert found["resolution"] == [50800.0, 50800.0]


@pytest.mark.slow
def test_batches_take_each_folder_as_one_image(array: Path, tmp_path: Path) -> None:
    """Chunks may have names of images, as a group may have other files."""
    top = tmp_path / "in"
    shutil.copytree(array, top / "deep" / "a.zarr")
    write_ome(top / "b.ome.zarr", np.moveaxis(RGB, -1, 0), "cyx", paths=("0.png", "1", "2"))
    Image.fromarray(RGB).save(top / "b.ome.zarr" / "thumbnail.png")
    Image.fromarray(RGB).save(top / "c.png")
    found = [(Path(image.source).name, image.subfolder) for image in expand_inputs([str(top)])]
    assert found == [("c.png", ""), ("b.ome.zarr", ""), ("a.zarr", "deep")]
    assert [image.source for image in expand_inputs([str(array)])] == [str(array)]
    done = run("cut", top, "-o", tmp_path / "out/", "--workers", "2", "--tile-size", "100")
    assert done.returncode == 0, done.stderr
    tiles = tiles_of(tmp_path / "out/c.dzi")
    assert tiles_of(tmp_path / "out/deep/a.dzi") == tiles
    with_resolution = tiles_of(tmp_path / "out/b.ome.dzi")
    assert {name: data[20:] for name, data in with_resolution.items()} == {
        name: data[20:] for name, data in tiles.items()
    }
    with Image.open(tmp_path / "out/b.ome_files/9/0_0.jpg") as tile:
        assert tile.info["dpi"] == (50800, 50800)
    again = run("cut", top, "-o", tmp_path / "out/", "--update", "--tile-size", "100")
    assert "3 of 3" in again.stdout + again.stderr
    items = [(Path(item.path).name, item.folder) for item in find_items(str(top)) if item]
    assert items == [("c.png", ""), ("b.ome.zarr", ""), ("a.zarr", "deep")]


@pytest.mark.slow
def test_pages_of_a_stack(tmp_path: Path) -> None:
    pixels = noise(2, 1, 3, 80, 90)
    path = write_ome(tmp_path / "a.zarr", pixels, "tczyx")
    done = run("cut", path, "-o", tmp_path / "out/", "--page", "all", "--format", "png")
    assert done.returncode == 0, done.stderr
    for page, plane in enumerate(pixels.reshape(6, 80, 90), 1):
        with fasttile.open_pyramid(tmp_path / f"out/a-{page}.dzi") as result:
            np.testing.assert_array_equal(result.pixels(7, 0, 0)[..., 0], plane)


def test_changes_are_noticed(array: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    shutil.copytree(array, path)
    before = source_fingerprint(path)
    assert source_fingerprint(path / "zarr.json") == before
    assert source_fingerprint(f"{path}#axes=yxc") == before
    chunk = path / "c/1/2/0"
    data = chunk.read_bytes()
    chunk.write_bytes(data)
    assert source_fingerprint(path) != before
    before = source_fingerprint(path)
    chunk.rename(path / "c/1/9999")  # neither a size nor a file's time changes
    assert source_fingerprint(path) != before


@pytest.mark.usefixtures("every_progress_report")
def test_resume(array: Path, expected: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    shutil.copytree(array, path)
    options = {"tile_size": 100}
    for target in ("x.dzi", "y.dzi"):
        cut_and_stop_after(8, path, tmp_path / target, options)
    fasttile.cut(path, tmp_path / "x.dzi", resume=True, **options)
    assert tiles_of(tmp_path / "x.dzi") == expected
    os.utime(path / "c/0/0/0")
    with pytest.raises(TargetError, match=r"source's time .* cannot be resumed"):
        fasttile.cut(path, tmp_path / "y.dzi", resume=True, **options)


def test_zips_in_a_folder(array: Path, tmp_path: Path) -> None:
    shutil.make_archive(str(tmp_path / "in" / "a.zarr"), "zip", array)
    shutil.make_archive(str(tmp_path / "in" / "other"), "zip", array)
    for found in (
        expand_inputs([str(tmp_path / "in")]),
        fasttile.cut_all([tmp_path / "in"], tmp_path),
    ):
        assert [Path(image.source).name for image in found] == ["a.zarr.zip"]
    with open_paths(tmp_path / "in" / "a.zarr.zip") as content:
        assert content.tile(8, 0, 0) is not None


def test_a_folder_without_its_metadata(array: Path, tmp_path: Path) -> None:
    shutil.copytree(array, tmp_path / "a.zarr")
    (tmp_path / "a.zarr/zarr.json").unlink()
    with pytest.raises(SourceError, match=r"a\.zarr: no file .*; its zarr\.json, .* is missing"):
        [*expand_inputs([str(tmp_path / "a.zarr")])]


def test_no_result_within_a_source(array: Path) -> None:
    with pytest.raises(TargetError, match="would replace the image"):
        fasttile.cut(array, array / "x.dzi")


def test_view(array: Path, tmp_path: Path) -> None:
    assert not is_folder_of_images(str(array))
    with open_paths(array) as content:
        found = content.tile(8, 0, 0)
        assert found is not None
        assert found[1] == "image/jpeg"
    shutil.copytree(array, tmp_path / "in" / "a.zarr")
    with open_paths(tmp_path / "in") as folder:
        assert folder.preview(0) is not None


@pytest.mark.slow
def test_a_collection(array: Path, tmp_path: Path) -> None:
    done = run("collection", "create", tmp_path / "all.dzc", array)
    assert done.returncode == 0, done.stderr
    assert "<I Id=" in (tmp_path / "all.dzc").read_text()


def test_a_mosaic_of_arrays(tmp_path: Path) -> None:
    for col in range(2):
        write_zarr(tmp_path / f"c{col}.zarr", RGB[:, 215 * col : 215 * (col + 1)])
    fasttile.cut(f"grid:{tmp_path}/c{{col}}.zarr", tmp_path / "m.dzi", format="png")
    with fasttile.open_pyramid(tmp_path / "m.dzi") as result:
        np.testing.assert_array_equal(result.pixels(9, 0, 0)[:250, :250], RGB[:250, :250])


@pytest.mark.slow
def test_damage_ends_the_run_without_a_result(array: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    shutil.copytree(array, path)
    (path / "c/2/3/0").write_bytes(b"no zstd")
    done = run("cut", path, "-o", tmp_path / "a.dzi")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "chunk c/2/3/0 is damaged" in done.stderr
    assert not (tmp_path / "a.dzi").exists()
    done = run("cut", path, "-o", tmp_path / "a.dzi", "--allow-truncated")
    assert done.returncode == 0
    assert "damaged chunks (c/2/3/0: " in done.stdout + done.stderr
