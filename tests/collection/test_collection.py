"""Collections created: every pixel against the oracle."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fasttile
from fasttile import collection
from fasttile.collection import thumbnail_grid, thumbnails
from fasttile.collection.thumbnail_grid import DirtyTiles, ThumbnailGrid, ThumbnailTileWriter
from fasttile.encode.codecs import Jpeg, Png
from fasttile.encode.encoder import make_encoder
from fasttile.errors import OptionError, SourceError, TargetError
from support.collection_files import (
    Array,
    check_collection,
    create_png_collection,
    cut_member,
    expected_tiles,
    folder_contents,
    member_pixels,
    pixels_at_level,
    read_tiles,
    record_encoded_tiles,
    same_tiles,
    save_member_image,
)
from support.sampling import sampled


@pytest.fixture(scope="module")
def cuts_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], list[Path]]:
    """Function that returns a number of results, the same ones each time."""
    folder = tmp_path_factory.mktemp("cuts")
    return lambda count: [cut_member(folder, number) for number in range(count)]


@pytest.fixture
def encoded_tiles(monkeypatch: pytest.MonkeyPatch) -> list[Array]:
    """All pixels that are encoded from now on."""
    return record_encoded_tiles(monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("tile_size", sampled([1, 2, 8], [1, 2]))
def test_every_number_of_images_and_every_level(tile_size: int) -> None:
    sources = [member_pixels(number) for number in range(70)]
    shown = {
        (number, level): pixels_at_level(pixels, level)
        for number, pixels in enumerate(sources)
        for level in range(tile_size.bit_length())
    }
    for max_level in range(tile_size.bit_length()):
        for count in range(1, 71):
            found: dict[str, Array] = {}

            def write(name: str, data: bytes, found: dict[str, Array] = found) -> None:
                assert name not in found
                found[name] = np.array(Image.open(io.BytesIO(data)))

            touched = DirtyTiles(ThumbnailGrid(max_level, tile_size))
            made = ThumbnailTileWriter(touched, Png(compress_level=0), (255, 255, 255), write)
            for number in range(count):
                made.put(number, lambda level, number=number: shown[number, level])
            made.finish()
            assert same_tiles(found, expected_tiles(sources[:count], max_level, tile_size))
            assert made.tiles == len(found)


@pytest.mark.parametrize("count", [1, 2, 5, 17, 64, 70])
def test_create_from_images_that_are_cut(
    tmp_path: Path, cuts_folder: Callable[[int], list[Path]], count: int
) -> None:
    for max_level in range(4):
        dest = tmp_path / f"wall{max_level}.dzc"
        report = create_png_collection(dest, cuts_folder(count), max_level=max_level)
        wanted = expected_tiles([member_pixels(number) for number in range(count)], max_level, 8)
        assert same_tiles(read_tiles(dest), wanted)
        assert (report.items, report.cut, report.tiles) == (count, 0, len(wanted))
        assert (report.path, report.kept) == (dest, 0)
        assert len(check_collection(dest)) == count


def test_the_defaults_are_those_of_2008(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    source = cut_member(folder, 6)
    report = collection.create(tmp_path / "wall.dzc", [source])
    found = collection.read(tmp_path / "wall.dzc")
    assert (found.max_level, found.tile_size, found.format) == (7, 256, "jpg")
    assert 'Quality="0.8" NextItemId="1"' in (tmp_path / "wall.dzc").read_text()
    assert found.items == (collection.Item(0, 0, "in/p6.dzi", 40, 33),)
    names = sorted(folder_contents(tmp_path / "wall_files"))
    assert names == sorted(name for level in range(8) for name in (f"{level}/", f"{level}/0_0.jpg"))
    assert report.bytes == sum(map(len, folder_contents(tmp_path / "wall_files").values()))


def test_jpeg_is_encoded_once_from_pasted_pixels(
    tmp_path: Path, cuts_folder: Callable[[int], list[Path]], encoded_tiles: list[Array]
) -> None:
    sources = cuts_folder(9)
    encoded_tiles.clear()
    for quality in (30, 80, 100):
        dest = tmp_path / f"wall{quality}.dzc"
        collection.create(dest, sources, max_level=4, tile_size=32, quality=quality)
        wanted = expected_tiles([member_pixels(number) for number in range(9)], 4, 32)
        assert len(encoded_tiles) == len(wanted)
        encoder = make_encoder(Jpeg(quality=quality))
        files = folder_contents(tmp_path / f"wall{quality}_files")
        for name, pixels in wanted.items():
            assert files[f"{name}.jpg"] == encoder.encode(pixels)
        assert collection.read(dest).quality == quality / 100
        encoded_tiles.clear()


@pytest.mark.parametrize(
    ("format", "ending", "quality"),
    [("jpeg:subsampling=4:4:4", "jpg", 0.8), ("webp:lossless", "webp", 1), ("png", "png", 1)],
)
def test_formats(
    tmp_path: Path,
    cuts_folder: Callable[[int], list[Path]],
    format: str,
    ending: str,
    quality: float,
) -> None:
    dest = tmp_path / "wall.dzc"
    create_png_collection(dest, cuts_folder(5), format=format)
    found = collection.read(dest)
    assert (found.format, found.quality) == (ending, quality)
    assert {path.suffix for path in found.tile_folder.rglob("*_*")} == {f".{ending}"}
    if quality == 1:
        assert same_tiles(
            read_tiles(dest), expected_tiles([member_pixels(number) for number in range(5)], 2, 8)
        )


def test_the_background(tmp_path: Path, cuts_folder: Callable[[int], list[Path]]) -> None:
    create_png_collection(tmp_path / "wall.dzc", cuts_folder(3), background="#102030")
    wanted = expected_tiles([member_pixels(number) for number in range(3)], 2, 8, (16, 32, 48))
    assert same_tiles(read_tiles(tmp_path / "wall.dzc"), wanted)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tile_size": 100}, "tile size 100 of a collection is not a power of two"),
        ({"max_level": 4}, "max level 4 is not between 0 and 3"),
        (
            {"format": "deflate"},
            "a collection holds no deflate tiles; expected jpeg, png, webp or avif",
        ),
        ({"format": "gif"}, "format 'gif' is none of"),
        ({"format": "jpeg", "quality": 0}, "JPEG quality 0 is not between 1 and 100"),
        ({"background": "nocolour"}, "background 'nocolour' is no colour"),
        ({"images": "wall_files/x"}, "wall_files/x is for the collection's shared tiles"),
        ({"icc": "never"}, "icc 'never' is none of"),
    ],
)
def test_options_that_cannot_be_used(
    tmp_path: Path,
    cuts_folder: Callable[[int], list[Path]],
    options: dict[str, Any],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OptionError, match=message):
        create_png_collection(tmp_path / "wall.dzc", cuts_folder(1), **options)
    assert folder_contents(tmp_path) == {}


def test_other_wrong_usage(tmp_path: Path, cuts_folder: Callable[[int], list[Path]]) -> None:
    with pytest.raises(OptionError, match=r"wall.zip: the name of a collection ends in .dzc$"):
        create_png_collection(tmp_path / "wall.zip", cuts_folder(1))
    with pytest.raises(OptionError, match=r"wall.xml: the name of a collection ends in .dzc$"):
        create_png_collection(tmp_path / "wall.xml", cuts_folder(1))
    with pytest.raises(OptionError, match=r"a collection of no images was asked for"):
        create_png_collection(tmp_path / "wall.dzc", [])
    with pytest.raises(TypeError, match=r"no option 'layout'; for images there are overlap,"):
        create_png_collection(tmp_path / "wall.dzc", cuts_folder(1), layout="zoomify")
    for change in (create_png_collection, collection.append):
        with pytest.raises(TypeError, match=r"^'a.dzi' is one name; a list of them is wanted$"):
            change(tmp_path / "wall.dzc", "a.dzi")
    for change in (collection.append, collection.remove):
        with pytest.raises(SourceError, match=r"sub/wall.dzc: no such file$"):
            change(tmp_path / "sub/wall.dzc", cuts_folder(1))
    create_png_collection(tmp_path / "wall.dzc", cuts_folder(1))
    with pytest.raises(OptionError, match=r"there is no image to append"):
        collection.append(tmp_path / "wall.dzc", [])
    with pytest.raises(OptionError, match=r"there is no item to remove"):
        collection.remove(tmp_path / "wall.dzc", [])


# Images that are cut first


def test_images_are_cut_beside_the_collection(tmp_path: Path) -> None:
    one = save_member_image(tmp_path / "in/a b&c.png", 6)
    two = cut_member(tmp_path, 5)
    dest = tmp_path / "out/wall.dzc"
    report = create_png_collection(dest, [one, two, member_pixels(4)])
    assert (report.items, report.cut) == (3, 2)
    assert check_collection(dest) == [
        "wall_images/a%20b%26c.dzi",
        "../p5.dzi",
        "wall_images/image.dzi",
    ]
    assert same_tiles(
        read_tiles(dest),
        expected_tiles([member_pixels(6), member_pixels(5), member_pixels(4)], 2, 8),
    )
    made = [path.name for path in sorted((tmp_path / "out").iterdir())]
    assert made == ["wall.dzc", "wall_files", "wall_images"]
    assert sorted(path.name for path in (tmp_path / "out/wall_images").iterdir()) == [
        "a b&c.dzi",
        "a b&c_files",
        "image.dzi",
        "image_files",
    ]


def test_namesakes_are_numbered(tmp_path: Path) -> None:
    given = [
        save_member_image(tmp_path / f"in{n}" / name, n)
        for n, name in enumerate(["x.png", "X.png"])
    ]
    given += [
        save_member_image(tmp_path / "in3/x-2.png", 3),
        save_member_image(tmp_path / "in4/x.png", 4),
    ]
    dest = tmp_path / "wall.dzc"
    create_png_collection(dest, given)
    assert check_collection(dest) == [f"wall_images/{n}.dzi" for n in ("x", "X-2", "x-2-2", "x-3")]
    collection.append(dest, [given[0]])
    assert check_collection(dest)[-1] == "wall_images/x-4.dzi"


def test_a_folder_for_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = [
        save_member_image(tmp_path / "in/x.png", 1),
        save_member_image(tmp_path / "in/y.png", 2),
    ]
    (tmp_path / "there").mkdir()
    (tmp_path / "there/x.dzi").write_text("something else")
    monkeypatch.chdir(tmp_path)
    for images in ("there", "new/deep/images"):
        create_png_collection(tmp_path / "wall.dzc", given, images=images, overwrite=True)
        first = "x-2" if images == "there" else "x"
        assert check_collection(tmp_path / "wall.dzc") == [
            f"{images}/{first}.dzi",
            f"{images}/y.dzi",
        ]
    assert (tmp_path / "there/x.dzi").read_text() == "something else"


def test_an_image_that_fails_leaves_no_folder(tmp_path: Path) -> None:
    given = [save_member_image(tmp_path / "in/x.png", 1), tmp_path / "in/none.png"]
    before = folder_contents(tmp_path)
    with pytest.raises(SourceError, match=r"none.png"):
        create_png_collection(tmp_path / "out/wall.dzc", given, images=tmp_path / "new/deep")
    assert folder_contents(tmp_path) == before


def test_overwriting_replaces_what_was_cut_for_the_older_one(tmp_path: Path) -> None:
    dest = tmp_path / "wall.dzc"
    given = [save_member_image(tmp_path / "a/x.png", 1), save_member_image(tmp_path / "b/x.png", 2)]
    create_png_collection(dest, given)
    (tmp_path / "wall_images/mine.txt").touch()
    again = [save_member_image(tmp_path / "c/x.png", 3), save_member_image(tmp_path / "d/x.png", 4)]
    create_png_collection(dest, again, overwrite=True)
    assert check_collection(dest) == ["wall_images/x.dzi", "wall_images/x-2.dzi"]
    assert same_tiles(read_tiles(dest), expected_tiles([member_pixels(3), member_pixels(4)], 2, 8))
    # But not what is given.
    create_png_collection(dest, [tmp_path / "wall_images/x.dzi", given[0]], overwrite=True)
    assert check_collection(dest) == ["wall_images/x.dzi", "wall_images/x-2.dzi"]
    assert same_tiles(read_tiles(dest), expected_tiles([member_pixels(3), member_pixels(1)], 2, 8))
    assert (tmp_path / "wall_images/mine.txt").exists()


def test_options_for_images_that_are_cut(tmp_path: Path) -> None:
    source = save_member_image(tmp_path / "in/x.png", 6)
    create_png_collection(
        tmp_path / "wall.dzc", [source], region=(1, 2, 9, 5), overlap=3, threads=1
    )
    with fasttile.open_pyramid(tmp_path / "wall_images/x.dzi") as reader:
        assert (*reader.pyramid.size, reader.pyramid.overlap) == (9, 5, 3)
    assert same_tiles(
        read_tiles(tmp_path / "wall.dzc"), expected_tiles([member_pixels(6)[2:7, 1:10]], 2, 8)
    )


# What exists already


def test_a_collection_is_replaced_only_with_overwrite(
    tmp_path: Path, cuts_folder: Callable[[int], list[Path]]
) -> None:
    dest = tmp_path / "wall.dzc"
    create_png_collection(dest, cuts_folder(5))
    before = folder_contents(tmp_path)
    with pytest.raises(TargetError, match=r"wall.dzc exists already; choose another name"):
        create_png_collection(dest, cuts_folder(2))
    assert folder_contents(tmp_path) == before
    create_png_collection(dest, cuts_folder(2), overwrite=True, max_level=1)
    assert same_tiles(read_tiles(dest), expected_tiles([member_pixels(0), member_pixels(1)], 1, 8))
    dest.write_text("damaged")
    create_png_collection(dest, cuts_folder(2), overwrite=True)
    assert len(check_collection(dest)) == 2


@pytest.mark.parametrize("overwrite", [True, False])
def test_the_tiles_of_an_image_of_that_name_are_safe(tmp_path: Path, overwrite: bool) -> None:
    source = cut_member(tmp_path, 3)
    other = cut_member(tmp_path, 4)
    before = folder_contents(tmp_path)
    with pytest.raises(TargetError, match=r"p3_files: the result would replace .* image .*p3.dzi"):
        create_png_collection(tmp_path / "p3.dzc", [source], overwrite=overwrite)
    with pytest.raises(TargetError, match=r"p3_files belongs to .*p3.dzi, not to .*p3.dzc; choo"):
        create_png_collection(tmp_path / "p3.dzc", [other], overwrite=overwrite)
    assert folder_contents(tmp_path) == before
    source.unlink()
    with pytest.raises(TargetError, match=r"p3_files belongs to something else, not to"):
        create_png_collection(tmp_path / "p3.dzc", [other], overwrite=overwrite)


def test_names_that_lead_elsewhere(
    tmp_path: Path, cuts_folder: Callable[[int], list[Path]]
) -> None:
    (tmp_path / "real.dzc").touch()
    (tmp_path / "wall.dzc").symlink_to(tmp_path / "real.dzc")
    with pytest.raises(TargetError, match=r"wall.dzc is a symbolic link; remove it, or name"):
        create_png_collection(tmp_path / "wall.dzc", cuts_folder(1), overwrite=True)
    (tmp_path / "wall.dzc").unlink()
    (tmp_path / "wall.dzc").mkdir()
    with pytest.raises(TargetError, match=r"wall.dzc exists and is not a plain file"):
        create_png_collection(tmp_path / "wall.dzc", cuts_folder(1), overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["real.dzc", "wall.dzc"]


# Many


@pytest.mark.long
def test_ten_thousand_images_take_ten_thousand_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoded_tiles: list[Array]
) -> None:
    count = 10_000
    source = cut_member(tmp_path, 2)  # 5×3: four levels
    sources = []
    for number in range(count):
        path = tmp_path / f"in/{number // 100}/{number}.dzi"
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(source, path)
        (path.parent / f"{number}_files").symlink_to(tmp_path / "p2_files")
        sources.append(path)
    encoded_tiles.clear()
    opened: list[str] = []
    plain = thumbnails.RandomAccessFile

    def open_file(place: Path) -> Any:
        opened.append(str(place))
        return plain(place)

    monkeypatch.setattr(thumbnails, "RandomAccessFile", open_file)
    held: list[int] = []
    close = ThumbnailTileWriter._write_tile

    def watched(self: ThumbnailTileWriter, level: int) -> None:
        held.append(len(self._open_tiles))
        close(self, level)

    monkeypatch.setattr(thumbnail_grid.ThumbnailTileWriter, "_write_tile", watched)
    dest = tmp_path / "wall.dzc"
    report = create_png_collection(dest, sources, max_level=7, tile_size=256)
    assert len(opened) == len(set(opened)) == count * (1 + 4)
    per_level = [-(-count // (256 // 2**level) ** 2) for level in range(8)]
    assert report.tiles == len(encoded_tiles) == len(held) == sum(per_level)
    assert max(held) == 8, "one tile a level is in memory"
    found = collection.read(dest)
    assert [item.n for item in found.items] == list(range(count))

    opened.clear()
    encoded_tiles.clear()
    report = collection.append(dest, [source])
    assert report.tiles == len(encoded_tiles) == 8
    # The tile of level 2 holds 4,096 sources, and so on.
    assert len(opened) == len(set(opened)) <= count * (1 + 2) + count % 4096 + 5 * 256


def test_nothing_is_warned_of(tmp_path: Path, cuts_folder: Callable[[int], list[Path]]) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        create_png_collection(tmp_path / "wall.dzc", cuts_folder(2))
    assert caught == []
