"""Collections that cannot be made or changed: one line says why, and all is as it was."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fasttile import collection
from fasttile.errors import CancelledError, OptionError, SourceError, TargetError
from support.collection_files import (
    check_collection,
    create_png_collection,
    cut_member,
    folder_contents,
    member_pixels,
    save_member_image,
)


@pytest.fixture(scope="module")
def cuts_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], list[Path]]:
    """Function that returns a number of results, the same ones each time."""
    folder = tmp_path_factory.mktemp("cuts")
    return lambda count: [cut_member(folder, number) for number in range(count)]


def damaged_sources(folder: Path) -> dict[str, Any]:
    """Images that cannot be taken, by what is said of them."""
    cut_member(folder, 6)
    bad = [cut_member(folder, number) for number in (13, 20, 27)]
    (folder / "p13_files/2/0_0.png").unlink()
    (folder / "p20_files/1/0_0.png").write_bytes(b"nothing")
    bad[2].write_text("<Image/>")
    (folder / "x.png").write_bytes(b"no image at all")
    return {
        r"p13_files/2/0_0.png: no such file": bad[0],
        r"p20_files/1/0_0.png is no JPEG": bad[1],
        r"p27.dzi: .*": bad[2],
        r"x.png": folder / "x.png",
        r"none.dzi: no such file": folder / "none.dzi",
        r"none.png": folder / "none.png",
        r"standard input has no name": "-",
    }


def test_one_bad_image_fails_all(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    bad = damaged_sources(tmp_path / "in")
    good = [cut_member(tmp_path / "in", 6), save_member_image(tmp_path / "in/y.png", 3)]
    dest = tmp_path / "out/wall.dzc"
    for standing in (False, True):
        if standing:
            create_png_collection(dest, good)
        before = folder_contents(tmp_path)
        for message, one in bad.items():
            changes = [
                partial(create_png_collection, overwrite=True),
                *([collection.append] if standing else []),
            ]
            for change in changes:
                with pytest.raises((SourceError, OptionError), match=message) as caught:
                    change(dest, [*good, one, good[0]])
                assert "\n" not in str(caught.value)
                assert folder_contents(tmp_path) == before


def test_an_image_that_has_gone_bad_fails_a_removal(tmp_path: Path) -> None:
    images = [cut_member(tmp_path, number) for number in range(5)]
    create_png_collection(tmp_path / "wall.dzc", images)
    (tmp_path / "p4_files/2/0_0.png").unlink()
    before = folder_contents(tmp_path)
    with pytest.raises(SourceError, match=r"^item 4 \(p4.dzi\): .*p4_files/2/0_0.png: no such"):
        collection.remove(tmp_path / "wall.dzc", [1])
    assert folder_contents(tmp_path) == before
    collection.remove(tmp_path / "wall.dzc", [4])
    assert len(check_collection(tmp_path / "wall.dzc")) == 4


def test_the_callback_sees_all_and_may_cancel(
    tmp_path: Path, cuts_folder: Callable[[int], list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fasttile.collection.build.PROGRESS_SECONDS", 0)
    seen: list[tuple[int, int]] = []

    def watch(progress: collection.CollectionProgress) -> bool:
        seen.append((progress.items, progress.item_count))
        return progress.items < 3

    for number, stop in ((3, False), (20, True)):
        seen.clear()
        dest = tmp_path / f"wall{number}.dzc"
        if stop:
            with pytest.raises(CancelledError, match=r"^cancelled after 3 of 20 images$"):
                create_png_collection(dest, cuts_folder(number), progress=watch)
            assert not dest.exists()
        else:
            create_png_collection(
                dest,
                cuts_folder(number),
                progress=lambda now: seen.append((now.items, now.item_count)),
            )
        assert seen == [(done, number) for done in (1, 2, 3)]
    with pytest.raises(CancelledError):
        create_png_collection(tmp_path / "x.dzc", [member_pixels(1)], progress=lambda now: False)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("x")] == []


def test_a_second_run_is_refused(tmp_path: Path, cuts_folder: Callable[[int], list[Path]]) -> None:
    dest = tmp_path / "wall.dzc"
    create_png_collection(dest, cuts_folder(2))
    refused = []

    def meddle(progress: collection.CollectionProgress) -> None:
        for run in (
            lambda: create_png_collection(dest, cuts_folder(1), overwrite=True),
            lambda: collection.append(dest, cuts_folder(1)),
            lambda: collection.remove(dest, [0]),
        ):
            with pytest.raises(TargetError, match=r"another run is at work in .*/.wall.dzc.fastt"):
                run()
            refused.append(run)

    collection.append(dest, cuts_folder(3), progress=meddle)
    assert refused
    assert len(check_collection(dest)) == 5


def test_what_appears_in_the_meantime_is_not_replaced(tmp_path: Path) -> None:
    given = [save_member_image(tmp_path / "in/x.png", 2)]
    for name in ("wall.dzc", "wall_files", "wall_images/x.dzi", "wall_images/x_files"):
        folder = tmp_path / name.replace("/", " ")
        folder.mkdir()

        def meddle(progress: object, taken: Path = folder / name) -> None:
            taken.mkdir(exist_ok=True, parents=True)

        with pytest.raises(TargetError, match=rf"{name} exists already; choose another name"):
            create_png_collection(folder / "wall.dzc", given, progress=meddle)
        assert not [path for path in folder.rglob("*") if not path.is_dir()]
        assert (folder / name).is_dir()
        assert len(list(folder.iterdir())) == 1


def test_a_folder_for_images_that_appears_in_the_meantime_is_used(tmp_path: Path) -> None:
    given = [save_member_image(tmp_path / "in/x.png", 2)]

    def meddle(progress: object) -> None:
        (tmp_path / "wall_images").mkdir(exist_ok=True)

    create_png_collection(tmp_path / "wall.dzc", given, progress=meddle)
    assert check_collection(tmp_path / "wall.dzc") == ["wall_images/x.dzi"]


def test_the_folder_cannot_be_written(
    tmp_path: Path, cuts_folder: Callable[[int], list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TargetError, match=r"cannot make folder|cannot work in|cannot look at"):
        create_png_collection(tmp_path / "file/wall.dzc", cuts_folder(1))

    def full(self: object, name: str, data: bytes) -> None:
        raise TargetError("cannot write x: No space left on device")

    monkeypatch.setattr("fasttile.collection.workspace.CollectionWorkspace.write", full)
    with pytest.raises(TargetError, match=r"No space left"):
        create_png_collection(tmp_path / "wall.dzc", cuts_folder(1))
    assert list(folder_contents(tmp_path)) == ["file"]


def test_images_on_another_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no other disk")
    with pytest.raises(OptionError, match=r"lies on another disk than the collection"):
        create_png_collection(
            tmp_path / "wall.dzc", [member_pixels(1)], images=other / "fasttile test images"
        )
    assert folder_contents(tmp_path) == {}
    assert not (other / "fasttile test images").exists()


def test_a_relative_name(
    tmp_path: Path, cuts_folder: Callable[[int], list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    report = create_png_collection("wall.dzc", [member_pixels(2)])  # type: ignore[arg-type]
    assert report.path == tmp_path / "wall.dzc"
    collection.append("wall.dzc", ["wall_images/image.dzi"])
    assert check_collection(tmp_path / "wall.dzc") == ["wall_images/image.dzi"] * 2


@pytest.mark.parametrize("link", [os.link, os.symlink])
@pytest.mark.parametrize("function", [collection.create, collection.append])
def test_a_source_that_is_the_destination_survives(
    tmp_path: Path,
    function: Callable[..., object],
    link: Callable[[Path, Path], None],
) -> None:
    image, dest = save_member_image(tmp_path / "x.png", 6), tmp_path / "wall.dzc"
    link(image, dest)
    before = folder_contents(tmp_path)
    overwrite = {"overwrite": True} if function is collection.create else {}
    with pytest.raises(TargetError, match=r"wall.dzc: the result would replace the image .*x.png"):
        function(dest, iter([image]), **overwrite)
    assert folder_contents(tmp_path) == before


def test_a_source_in_the_folder_of_shared_tiles_survives(tmp_path: Path) -> None:
    (tmp_path / "wall_files").mkdir()
    image = save_member_image(tmp_path / "wall_files/x.png", 6)
    with pytest.raises(TargetError, match=r"this folder, with the image .*x.png in it"):
        collection.create(tmp_path / "wall.dzc", [image], overwrite=True)
    assert image.exists()
