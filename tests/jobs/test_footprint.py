"""A source is never harmed by its own cut, nor another result by one that replaces it."""

from __future__ import annotations

import gzip
import io
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr
from PIL import Image

import fasttile
from fasttile.errors import TargetError
from fasttile.jobs import footprint
from fasttile.jobs.footprint import Footprint, PlannedResult, check_job, find_collisions
from fasttile.jobs.plan import Plan
from fasttile.options.cut import CutOptions
from fasttile.verify import verify
from support.file_trees import file_tree
from support.reading import noise

PIXELS = noise(90, 120, 3)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with `map.tif`, which is the only copy of an image."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(PIXELS).save("map.tif")
    return tmp_path


def save_raw() -> np.memmap[Any, Any]:
    Path("map.tif").write_bytes(PIXELS.tobytes())
    return np.memmap("map.tif", np.uint8, "r", shape=PIXELS.shape)


def save_hdf5() -> Any:
    with h5py.File("map.tif", "w") as file:
        file["pixels"] = PIXELS
    return h5py.File("map.tif")["pixels"]


def save_gzip() -> Any:
    Path("map.tif").write_bytes(gzip.compress(Path("map.tif").read_bytes()))
    return gzip.open("map.tif")


def linked(make: Callable[[str, str], None]) -> Callable[[], str]:
    def make_link() -> str:
        make("map.tif", "link.tif")
        return "link.tif"

    return make_link


SOURCES: dict[str, Callable[[], Any]] = {
    "text": lambda: "map.tif",
    "another spelling": lambda: "../" + Path.cwd().name + "//./map.tif",
    "path": lambda: Path("map.tif").absolute(),
    "file address": lambda: Path("map.tif").absolute().as_uri(),
    "symbolic link": linked(os.symlink),
    "hard link": linked(os.link),
    "open file": partial(Path("map.tif").open, "rb"),
    "open file without a name": lambda: os.fdopen(os.open("map.tif", os.O_RDONLY), "rb"),
    "unbuffered file": partial(Path("map.tif").open, "rb", 0),
    "unpacking stream": save_gzip,
    "source": lambda: fasttile.open_source("map.tif"),
    "PIL image": lambda: Image.open("map.tif"),
    "mapped array": save_raw,
    "view of a mapped array": lambda: np.asarray(save_raw()[::2])[:, ::2],
    "array of HDF5": save_hdf5,
}


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_result_does_not_replace_its_source(folder: Path, kind: str, overwrite: bool) -> None:
    source = SOURCES[kind]()
    before = file_tree(folder)
    with pytest.raises(TargetError, match=r"^map.tif: the result would replace the image"):
        fasttile.cut(source, "map.tif", overwrite=overwrite)
    assert file_tree(folder) == before
    assert fasttile.cut(source, "other.tif", overwrite=overwrite).width in (60, 120)
    getattr(source, "close", lambda: None)()


def test_bytes_in_memory_are_no_file(folder: Path) -> None:
    stream = io.BytesIO(Path("map.tif").read_bytes())
    stream.name = "map.tif"
    fasttile.cut(stream, "map.tif", overwrite=True)
    assert verify("map.tif").is_complete


@pytest.mark.parametrize("target", ["map.dzi", "map.json", "map.js", "map.html"])
def test_files_beside_the_tiles_do_not_replace_it_either(folder: Path, target: str) -> None:
    Path("map.tif").rename(target)
    before = file_tree(folder)
    with pytest.raises(TargetError, match=f"^{target}: the result would replace the image"):
        fasttile.cut(target, "map.dzi", layout="dzi:json,jsonp", viewer="leaflet", overwrite=True)
    assert file_tree(folder) == before


def test_the_page_of_a_one_file_result_does_not_replace_it(folder: Path) -> None:
    Path("map.tif").rename("map.html")
    with pytest.raises(TargetError, match=r"^map.html: the result would replace the image"):
        fasttile.cut("map.html", "map.pmtiles", viewer="leaflet", overwrite=True)
    assert set(file_tree(folder)) == {"map.html"}


@pytest.mark.parametrize(
    ("target", "inside"),
    [("map", "map"), ("map.dzi", "map_files"), ("map.szi", ".map.szi.fasttile")],
)
@pytest.mark.parametrize("way", ["file", "link from outside", "link to outside", "linked folder"])
def test_a_source_in_the_folder_to_replace_stays(
    folder: Path, target: str, inside: str, way: str
) -> None:
    layout = "xyz" if target == "map" else "dzi"
    fasttile.cut(noise(20, 30, 3), target, layout=layout)
    (folder / inside / "deep").mkdir(parents=True)
    place = folder / inside / "deep" / "photo.png"
    source = place
    if way == "link to outside":
        place.symlink_to(folder / "map.tif")
    else:
        Image.fromarray(PIXELS).save(place)
    if way == "link from outside":
        source = folder / "link.png"
        source.symlink_to("linked.png")
        (folder / "linked.png").symlink_to(place)
    elif way == "linked folder":
        (folder / "elsewhere").symlink_to(place.parent)
        source = folder / "elsewhere" / "photo.png"
    before = file_tree(folder)
    with pytest.raises(TargetError, match=rf"{inside}: the result would replace this folder, with"):
        fasttile.cut(source, target, layout=layout, overwrite=True)
    assert file_tree(folder) == before


def test_the_folder_of_a_slide_stays(folder: Path) -> None:
    """The pixels of slide.mrxs are in the folder slide."""
    fasttile.cut(noise(20, 30, 3), "slide", layout="xyz")
    Path("slide.mrxs").touch()
    plan = Plan.from_options(CutOptions(layout="xyz", overwrite=True), "slide", "slide.mrxs")
    with pytest.raises(TargetError, match=r"^slide: the result would replace this folder"):
        check_job(plan, "slide.mrxs")


def test_the_chunks_of_an_array_stay(folder: Path) -> None:
    fasttile.cut(noise(20, 30, 3), "map", layout="xyz")
    array = zarr.open_array("map/array.zarr", mode="w", shape=PIXELS.shape, dtype="u1")
    array[:] = PIXELS
    with pytest.raises(TargetError, match=r"^map: the result would replace this folder"):
        fasttile.cut(array, "map", layout="xyz", overwrite=True)
    Path("map/array.zarr/x.tif").touch()
    with pytest.raises(TargetError, match="would replace the image"):
        fasttile.cut(array, "map/array.zarr/x.tif", overwrite=True)


def test_an_object_in_a_bucket_is_compared_by_its_address() -> None:
    options = CutOptions(overwrite=True)
    for source, target, error in [
        ("s3://one/map.tif", "s3://one/map.tif", "one/map.tif: the result would replace the image"),
        ("s3://one/map_files/a.png", "s3://one/map.dzi", "one/map_files: .* this folder"),
        ("s3://one/x/.map.szi.fasttile/a.png", "s3://one/x/map.szi", "this folder"),
    ]:
        with pytest.raises(TargetError, match=error):
            check_job(Plan.from_options(options, target, source), source)
    for source, target in [
        ("s3://two/map.tif", "s3://one/map.tif"),
        ("s3://one/map_files2/a.png", "s3://one/map.dzi"),
    ]:
        check_job(Plan.from_options(CutOptions(), target, source), source)


# ---- results of others -----------------------------------------------------------------------


@pytest.mark.parametrize("inner", ["y", "y.dzi", "deep/y.szi", "0/y"])
def test_a_folder_that_holds_another_result_is_not_replaced(folder: Path, inner: str) -> None:
    fasttile.cut("map.tif", "x", layout="zoomify")
    fasttile.cut("map.tif", f"x/{inner}", layout=None if "." in inner else "zoomify")
    before = file_tree(folder)
    with pytest.raises(TargetError, match=f"^x holds another result, x/{inner}"):
        fasttile.cut("map.tif", "x", layout="zoomify", overwrite=True)
    assert file_tree(folder) == before


@pytest.mark.parametrize("layout", ["zoomify", "xyz", "tms", "gsiv", "iiif3:id=https://e.org/x"])
def test_a_folder_with_one_result_is_replaced(folder: Path, layout: str) -> None:
    fasttile.cut(noise(600, 700, 3), "x", layout=layout)
    fasttile.cut("map.tif", "x", layout=layout, overwrite=True)
    assert verify("x", "map.tif").is_complete


def test_a_folder_that_is_another_result_is_not_replaced(folder: Path) -> None:
    fasttile.cut("map.tif", "page_files", layout="xyz")
    with pytest.raises(TargetError, match=r"^page_files holds another result"):
        fasttile.cut("map.tif", "page.dzi", overwrite=True)


def test_only_pages_of_fasttile_are_replaced(folder: Path) -> None:
    Path("map.html").write_text("<html>my page</html>")
    with pytest.raises(TargetError, match=r"^map.html: it is no page of fasttile"):
        fasttile.cut("map.tif", "map.dzi", viewer="leaflet", overwrite=True)
    Path("map.html").unlink()
    fasttile.cut("map.tif", "map.dzi", viewer="leaflet:cdn")
    fasttile.cut("map.tif", "map.dzi", viewer="openseadragon:cdn", overwrite=True)
    assert "seadragon" in Path("map.html").read_text()


# ---- names -------------------------------------------------------------------------------------


def planned(name: str) -> PlannedResult:
    return PlannedResult(f"{name}.png", f"site/{name}", Footprint("", "site", (), name))


@pytest.fixture
def folding_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A file system that knows names without their case; Linux seldom mounts one."""
    monkeypatch.setattr(footprint, "_is_same_path", lambda one, other: True)
    return


@pytest.mark.parametrize(
    ("one", "other"), [("Map", "map"), ("Straße", "STRASSE"), ("ü", "u\u0308"), ("Ü", "u\u0308")]
)
def test_names_that_a_disk_takes_for_one_collide(folding_disk: None, one: str, other: str) -> None:
    errors = find_collisions([planned(one), planned("third"), planned(other)])
    assert errors.keys() == {0, 2}
    assert all(f"both {one}.png and {other}.png" in str(error) for error in errors.values())
    inner = Footprint("", f"site/{other}", ("y.dzi",), "y_files")
    errors = find_collisions([planned(one), PlannedResult("y", f"site/{other}/y.dzi", inner)])
    assert errors.keys() == {0, 1}
    assert f"the place for y is within site/{one}" in str(errors[0])


@pytest.mark.parametrize(("one", "other"), [("Map", "map"), ("ü", "u\u0308")])
def test_a_trial_shows_if_a_disk_takes_names_for_one(folder: Path, one: str, other: str) -> None:
    (folder / one).mkdir()
    takes_for_one = (folder / other).exists()
    (folder / one).rmdir()
    before = set(folder.iterdir())
    assert bool(find_collisions([planned(one), planned(other)])) == takes_for_one
    assert set(folder.iterdir()) == before
