"""Errors for programs: Python's own kinds for missing sources and existing results."""

from __future__ import annotations

import errno
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fasttile
from fasttile.storage.paths import wrap_os_errors
from fasttile.storage.publish import wrap_publishing_errors

IMAGE = np.zeros((20, 30), "u1")


def cut_in_batch(path: str, **keywords: Any) -> None:
    (result,) = fasttile.cut_all([path], Path(path).with_name("out"), workers=1, **keywords)
    if result.exception is not None:
        raise result.exception


MISSING = {
    "cut": fasttile.cut,
    "worker": cut_in_batch,
    "pyramid": fasttile.open_pyramid,
    "source": fasttile.open_source,
    "convert": lambda path: fasttile.convert(path, Path(path).with_name("out.szi")),
    "collection": lambda path: fasttile.collection.append(Path(path).with_suffix(".dzc"), [path]),
}


@pytest.mark.parametrize("use", list(MISSING.values()), ids=list(MISSING))
def test_a_missing_source_is_a_file_not_found_error(use: Any, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        use(str(tmp_path / "none.png"))
    error = caught.value
    assert isinstance(error, fasttile.SourceNotFoundError)
    assert isinstance(error, fasttile.SourceError)
    assert error.errno == errno.ENOENT
    assert str(error).startswith(f"{tmp_path}/none.")  # as it is printed, without "[Errno 2]"
    assert "no such file" in str(error)
    assert not list(tmp_path.iterdir())


def test_a_near_name_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "photo.png").touch()
    with pytest.raises(fasttile.SourceNotFoundError, match=r"did you mean photo\.png\?$"):
        fasttile.cut(tmp_path / "photos.png")


@pytest.mark.parametrize("name", ["map.dzi", "map.szi", "map.pmtiles", "map.tif", "folder/"])
def test_an_existing_result_is_a_file_exists_error(name: str, tmp_path: Path) -> None:
    target = f"{tmp_path}/{name}"
    layout = "xyz" if name == "folder/" else None
    source = io.BytesIO(b"P5 30 20 255\n" + bytes(600))
    source.name = "map"
    fasttile.cut(source, target, layout=layout)
    with pytest.raises(FileExistsError) as caught:
        fasttile.cut(source, target, layout=layout)
    error = caught.value
    assert isinstance(error, fasttile.TargetExistsError)
    assert isinstance(error, fasttile.TargetError)
    assert error.errno == errno.EEXIST
    assert "exists already; choose another name, or use --overwrite" in str(error)


def test_an_existing_collection_is_a_file_exists_error(tmp_path: Path) -> None:
    fasttile.collection.create(tmp_path / "wall.dzc", [IMAGE])
    with pytest.raises(fasttile.TargetExistsError, match=r"wall.dzc exists already"):
        fasttile.collection.create(tmp_path / "wall.dzc", [IMAGE])


@pytest.mark.parametrize("kind", [fasttile.SourceNotFoundError, fasttile.TargetExistsError])
def test_they_travel_between_processes(kind: type[fasttile.FasttileError]) -> None:
    error = kind("a.png: no\x1b")
    error.add_note("a note")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert str(copy) == str(error) == r"a.png: no\x1b"
    assert copy.errno == error.errno
    assert copy.__notes__ == ["a note"]


@pytest.mark.parametrize("kind", [fasttile.SourceNotFoundError, fasttile.TargetExistsError])
def test_they_are_not_taken_for_errors_of_the_system(kind: type[fasttile.FasttileError]) -> None:
    for wrap in (wrap_os_errors("write", "a"), wrap_publishing_errors(Path("a"))):
        with pytest.raises(kind, match=r"^b: known$"), wrap:
            raise kind("b: known")


@pytest.mark.parametrize("dest", [io.BytesIO(), 5, ["a"], b"a.dzi", ("a",), np.zeros(3), 1.5])
def test_a_destination_that_is_no_path_is_refused(dest: Any, tmp_path: Path) -> None:
    fasttile.cut(IMAGE, tmp_path / "a.dzi")
    calls = (
        lambda: fasttile.cut(IMAGE, dest),
        lambda: fasttile.cut_all([str(tmp_path / "a.dzi")], dest),
        lambda: fasttile.convert(tmp_path / "a.dzi", dest),
        lambda: fasttile.collection.create(dest, [IMAGE]),
    )
    for call in calls:
        with pytest.raises(fasttile.OptionError, match=rf"^dest: .* {type(dest).__name__} is no "):
            call()


@pytest.mark.parametrize(
    ("shape", "advice"),
    [
        ((3, 20, 30), "if its bands come first, pass numpy.moveaxis(array, 0, -1)"),
        ((4, 4, 5), "if its bands come first, pass numpy.moveaxis(array, 0, -1)"),
        ((6, 20, 30), "if its bands come first, pass numpy.moveaxis(array[:3], 0, -1)"),
        ((20, 30, 5), "choose some of its 5 bands, as in array[..., :3]"),
        ((1, 3, 20, 30), "choose one image of it, as in array[0]"),
    ],
)
def test_arrays_of_other_shapes_are_refused_with_the_way_out(
    shape: tuple[int, ...], advice: str, tmp_path: Path
) -> None:
    array = np.arange(np.prod(shape), dtype="u1").reshape(shape)
    with pytest.raises(fasttile.SourceError) as caught:
        fasttile.cut(array, tmp_path / "a.dzi")
    assert str(caught.value).endswith(advice)
    expression = advice.removeprefix("if its bands come first, pass ").partition(", as in ")
    image = eval(expression[2] or expression[0], {"numpy": np, "array": array})
    while image.ndim > 3 or image.shape[0] == 3 != image.shape[-1]:  # the advice for what is left
        image = np.moveaxis(image, 0, -1)
    fasttile.cut(image, tmp_path / "a.dzi")
