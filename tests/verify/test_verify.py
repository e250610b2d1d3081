"""Complete results have no faults; damage of each kind is found, and nothing else."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image

from fasttile.errors import CancelledError, OptionError, SourceError
from fasttile.jobs.cut import cut
from fasttile.jobs.progress import CutProgress
from fasttile.layouts import RECORD_NAME, LayoutSpec
from fasttile.types import Shrink
from fasttile.verify import verify
from fasttile.verify.report import MAX_LISTED_FAULTS, VerifyReport
from support.cut_cases import ALL_LAYOUTS, RESULT_CASES, cut_exactly
from support.damage import (
    DAMAGE_FUNCTIONS,
    changed_files,
    execute_sql,
    file_tree,
    flip_byte,
    pmtiles_tile_span,
    tiff_tile_span,
    zip_entry_span,
)
from support.reading import noise
from support.reference import Array
from support.sampling import sampled

CASES = [
    *((*result, form) for result in RESULT_CASES for form in ("png", "jpeg")),
    *(
        (*result, form)
        for result in (("map.dzi", "dzi"), ("map", "xyz:centre"), ("map.zip", "zoomify"))
        for form in ("webp", "webp:lossless", "jpeg:progressive,optimize,subsampling=4:4:4")
    ),
]
VERIFY_OPTIONS: list[dict[str, Any]] = [{}, {"deep": True}]


def smooth_pixels(height: int = 77, width: int = 130) -> Array:
    y, x = np.mgrid[:height, :width]
    return np.stack([x, y + 50, 250 - x], axis=-1).astype(np.uint8)


def fault_paths(report: VerifyReport) -> set[str]:
    return {fault.name for fault in report.faults}


def assert_complete(report: VerifyReport) -> None:
    assert report.is_complete, report.faults
    assert not report.notes
    assert report.tiles > 0


# ---- complete results ---------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "layout", "form"), CASES)
def test_complete_results_have_no_faults(
    name: str, layout: str | None, form: str, tmp_path: Path
) -> None:
    pixels = {"png": noise(77, 130, 3), "webp": noise(40, 90, 1)}.get(form, smooth_pixels())
    if name.endswith(".tif"):
        form = {"png": "deflate", "jpeg": "jpeg"}.get(form, "jpeg:subsampling=4:4:4")
    place = cut_exactly(tmp_path / name, layout, pixels, format=form)
    for way in (*VERIFY_OPTIONS, {"source": pixels}):
        assert_complete(verify(place, **way))


@pytest.mark.parametrize("name", ["map.dzi", "map.tif", "map.pmtiles"])
def test_16_bits_and_alpha(name: str, tmp_path: Path) -> None:
    deep = noise(77, 130, 1, dtype=np.uint16)
    place = cut_exactly(tmp_path / "deep" / name, None, deep, bits=16, window="full")
    for way in (*VERIFY_OPTIONS, {"source": deep, "window": "full"}):
        assert_complete(verify(place, **way))
    for bands in (2, 4):
        pixels = noise(77, 130, bands)
        place = cut_exactly(tmp_path / str(bands) / name, None, pixels)
        for way in (*VERIFY_OPTIONS, {"source": pixels}):
            assert_complete(verify(place, **way))


@pytest.mark.parametrize("shrink", get_args(Shrink)[1:])
@pytest.mark.parametrize("size", [31, 32])
def test_other_ways_to_shrink(shrink: Any, size: int, tmp_path: Path) -> None:
    pixels = noise(77, 130, 3)
    place = cut_exactly(tmp_path / "map.dzi", None, pixels, shrink=shrink, tile_size=size)
    assert_complete(verify(place, deep=True))
    assert_complete(verify(place, pixels, shrink=shrink))
    assert_complete(verify(place, pixels))  # the result's record states it
    (tmp_path / "map_files" / RECORD_NAME).unlink()
    assert_complete(verify(place, pixels, shrink=shrink))
    assert not verify(place, pixels).is_complete


@pytest.mark.parametrize("levels", ["0-1", "1-2"])
@pytest.mark.parametrize("layout", ["dzi", "xyz", "tms", "tilecache", "iiif3:id=https://e.org/x"])
def test_some_levels(layout: str, levels: str, tmp_path: Path) -> None:
    pixels = noise(77, 130, 3)
    name = "map.dzi" if layout == "dzi" else "map"
    if layout.startswith("iiif"):
        levels = f"0-{levels[-1]}"
    place = cut_exactly(tmp_path / name, layout, pixels, levels=levels)
    for way in (*VERIFY_OPTIONS, {"source": pixels}):
        assert_complete(verify(place, **way))


def test_a_region_of_a_file_in_its_own_colours(tmp_path: Path) -> None:
    Image.fromarray(noise(200, 300, 3)).save(tmp_path / "map.png")
    words: dict[str, Any] = {"region": (20, 30, 130, 77), "shrink": "nearest"}
    place = cut(tmp_path / "map.png", tmp_path / "map.dzi", tile_size=32, quality=50, **words).path
    assert_complete(verify(place, tmp_path / "map.png", **words))
    assert_complete(verify(place, tmp_path / "map.png"))  # the result's record states them
    (tmp_path / "map_files" / RECORD_NAME).unlink()
    assert_complete(verify(place, tmp_path / "map.png", **words))
    with pytest.raises(SourceError, match=r"300×200 pixels, but .* has 130×77; give the image"):
        verify(place, tmp_path / "map.png")
    other = {**words, "region": (21, 30, 130, 77)}
    assert not verify(place, tmp_path / "map.png", **other).is_complete


def test_odd_sizes_round_either_way(tmp_path: Path) -> None:
    for height, width in ((1, 1), (1, 129), (65, 33), (97, 129), (33, 32), (257, 3)):
        pixels = noise(height, width, 3)
        for layout in ("zoomify", "zoomify:rounding=ceil", "dzi"):
            name = f"{height}-{width}-{len(layout)}"
            place = tmp_path / (f"{name}.dzi" if layout == "dzi" else name)
            place = cut_exactly(place, layout, pixels)
            for way in (*VERIFY_OPTIONS, {"source": pixels}):
                assert_complete(verify(place, **way))


@pytest.mark.parametrize("way", [{}, {"deep": True}, {"source": noise(77, 130, 3)}])
def test_it_reports_progress_and_can_be_stopped(way: dict[str, Any], tmp_path: Path) -> None:
    place = cut_exactly(tmp_path / "map.dzi", None, noise(77, 130, 3))
    seen: list[CutProgress] = []
    report = verify(place, progress=seen.append, **way)
    assert (seen[-1].tiles, seen[-1].tile_count) == (report.tiles, report.tiles)
    with pytest.raises(CancelledError):
        verify(place, progress=lambda now: False, **way)


def test_options_that_it_has_not(tmp_path: Path) -> None:
    place = cut_exactly(tmp_path / "map.dzi", None, noise(20, 30, 3))
    with pytest.raises(TypeError, match="no option 'tile_size'; the options are"):
        verify(place, noise(20, 30, 3), tile_size=3)
    with pytest.raises(OptionError, match="quality 0"):
        verify(place, noise(20, 30, 3), format="jpeg", quality=0)


# ---- what is spoiled ---------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ALL_LAYOUTS)
@pytest.mark.parametrize("form", sampled(["png", "jpeg", "webp:lossless"], ["jpeg"]))
def test_each_kind_of_damage_is_found(layout: str, form: str, tmp_path: Path) -> None:
    """With the image each changed byte; without, each missing, strange or short file."""
    pixels = noise(77, 130, 3)
    place = tmp_path / ("map.dzi" if layout == "dzi" else "map")
    place = cut_exactly(place, layout, pixels, format=form)
    before = file_tree(tmp_path)
    tiles = [name for name in before if name.endswith((".png", ".jpg", ".webp"))]
    tiles = [name for name in tiles if "/0-0-0." not in name]  # by which Zoomify is understood
    chance = random.Random(f"{layout} {form}")
    for spoil in DAMAGE_FUNCTIONS:
        for name in chance.sample(tiles, 3):
            (tmp_path / name).write_bytes(spoil(before[name], chance))
        changed = changed_files(before, file_tree(tmp_path))
        found = fault_paths(verify(place, pixels))
        # Of a WebP without loss a byte may change and no pixel: then it is as good as it was.
        assert found <= changed if form == "webp:lossless" else found == changed, spoil
        if spoil.__name__ != "flip_bit":
            for way in VERIFY_OPTIONS:
                assert changed <= fault_paths(verify(place, **way)), spoil
        for name in changed:
            (tmp_path / name).write_bytes(before[name])
    assert_complete(verify(place, pixels))


@pytest.mark.slow
@pytest.mark.parametrize("form", sampled(["png", "jpeg"], ["jpeg"]))
def test_each_byte_of_a_tile_counts(form: str, tmp_path: Path) -> None:
    pixels = smooth_pixels(30, 70)
    place = cut_exactly(tmp_path / "map.dzi", None, pixels, format=form)
    (tile,) = (tmp_path / "map_files/7").glob("0_0.*")
    data = tile.read_bytes()
    for at in range(0, len(data), max(1, len(data) // 40)):
        for bit in (1, 0x80):
            tile.write_bytes(data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :])
            report = verify(place, pixels)
            assert fault_paths(report) == {f"map_files/7/{tile.name}"}, (at, bit)
    for end in range(0, len(data), max(1, len(data) // 20)):
        tile.write_bytes(data[:end])
        for way in (*VERIFY_OPTIONS, {"source": pixels}):
            assert f"map_files/7/{tile.name}" in fault_paths(verify(place, **way)), end


def test_missing_tiles(tmp_path: Path) -> None:
    for layout in ("dzi", "zoomify", "iiif2:id=https://e.org/x"):
        folder = tmp_path / layout[:5]
        place = folder / ("map.dzi" if layout == "dzi" else "map")
        place = cut_exactly(place, layout, noise(77, 130, 3))
        gone = [name for name in file_tree(folder) if name.endswith("png") and "0-0-0" not in name]
        gone = random.Random(layout).sample(gone, 5)
        for name in gone:
            (folder / name).unlink()
        for way in (*VERIFY_OPTIONS, {"source": noise(77, 130, 3)}):
            report = verify(place, **way)
            assert fault_paths(report) == set(gone)
            assert {fault.problem for fault in report.faults} == {"is missing"}


def test_tiles_that_may_be_missing(tmp_path: Path) -> None:
    pixels = np.full((130, 260, 3), 255, np.uint8)
    pixels[40:60, 70:90] = noise(20, 20, 3)
    for name, layout in (("x", "xyz"), ("t", "tms"), ("m.pmtiles", None), ("m.mbtiles", None)):
        place = cut_exactly(tmp_path / name, layout, pixels, skip_blank=0)
        for way in (*VERIFY_OPTIONS, {"source": pixels}):
            report = verify(place, **way)
            assert report.is_complete
            assert report.skipped > 20
    shown = tmp_path / "x/4/2/1.png"
    shown.unlink()
    assert verify(tmp_path / "x").is_complete  # for who does not know the image
    report = verify(tmp_path / "x", pixels)
    assert [str(fault) for fault in report.faults] == [
        "x/4/2/1.png is missing, though it is not blank"
    ]
    pixels[0, 0] = 250
    assert verify(tmp_path / "t", pixels, skip_blank=10).skipped
    assert not verify(tmp_path / "t", pixels, skip_blank=0).is_complete


def test_what_the_header_says(tmp_path: Path) -> None:
    pixels = noise(77, 130, 3)
    place = cut_exactly(tmp_path / "map.dzi", None, pixels)
    tile = tmp_path / "map_files/8/1_1.png"
    Image.fromarray(pixels[:30, :31]).save(tile)
    assert [str(fault) for fault in verify(place).faults] == [
        "map_files/8/1_1.png has 31×30 pixels, not 34×34"
    ]
    Image.fromarray(pixels[:34, :34]).save(tile, "jpeg")
    assert [fault.problem for fault in verify(place).faults] == ["is jpg, not png"]
    tile.write_bytes(b"no image at all")
    assert [fault.problem for fault in verify(place).faults] == ["is no image"]
    tile.unlink()
    tile.mkdir()
    assert [fault.problem[:14] for fault in verify(place).faults] == ["cannot be read"]


def test_levels_are_compared_where_there_is_no_image(tmp_path: Path) -> None:
    photo = np.asarray(Image.effect_mandelbrot((300, 200), (-2, -1.2, 0.6, 1.2), 90).convert("RGB"))
    for form in ("png", "jpeg", "webp"):
        place = cut_exactly(tmp_path / form / "map.dzi", None, photo, format=form)
        assert_complete(verify(place, deep=True))
        ending = {"jpeg": "jpg"}.get(form, form)
        one, other = (tmp_path / form / f"map_files/8/{name}.{ending}" for name in ("1_1", "2_2"))
        data = one.read_bytes()
        one.write_bytes(other.read_bytes())
        assert verify(place).is_complete
        report = verify(place, deep=True)
        assert f"map_files/8/1_1.{ending}" in fault_paths(report) or "map_files/7/0_0" in str(
            report
        )
        one.write_bytes(data)
        assert_complete(verify(place, deep=True))


def test_decoding_finds_what_a_header_hides(tmp_path: Path) -> None:
    """PNG's checksums are right, but the pixels are too few."""
    import struct
    import zlib

    place = cut_exactly(tmp_path / "map.dzi", None, noise(77, 130, 3))
    tile = tmp_path / "map_files/8/1_1.png"
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", 34, 34, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(bytes(103 * 20))),
        (b"IEND", b""),
    ]
    tile.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in chunks
        )
    )
    assert verify(place).is_complete
    report = verify(place, deep=True)
    assert fault_paths(report) == {"map_files/8/1_1.png"}
    assert report.faults[0].problem == "is damaged: its pixels are truncated"


# ---- what is too many, and what announces the tiles --------------------------------------------


@pytest.mark.parametrize("layout", ALL_LAYOUTS)
def test_files_that_do_not_belong_there(layout: str, tmp_path: Path) -> None:
    place = cut_exactly(
        tmp_path / ("map.dzi" if layout == "dzi" else "map"), layout, smooth_pixels()
    )
    root = tmp_path / ("map_files" if layout == "dzi" else "map")
    for name in ("9/77_0.png", "0-0-0.webp", "a/b/c.txt", "tile-9-9-9.png"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    for name in ("index.html", ".DS_Store", "3/Thumbs.db"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    for way in (*VERIFY_OPTIONS, {"source": smooth_pixels()}):
        report = verify(place, **way)
        wrong = {"9/77_0.png", "0-0-0.webp", "a/b/c.txt", "tile-9-9-9.png"}
        assert fault_paths(report) == {f"{root.name}/{name}" for name in wrong}
        assert {fault.problem for fault in report.faults} == {"is no part of the result"}
        (note,) = report.notes
        assert note.startswith("other files beside the tiles: ")


def test_a_page_and_what_a_killed_run_left(tmp_path: Path) -> None:
    place = cut_exactly(tmp_path / "map.dzi", None, smooth_pixels(), viewer="openseadragon")
    assert_complete(verify(place))
    place = cut_exactly(tmp_path / "map.zip", "zoomify", smooth_pixels(), viewer="openseadragon")
    assert_complete(verify(place))
    (tmp_path / ".map.dzi.fasttile").mkdir()
    report = verify(tmp_path / "map.dzi")
    assert report.is_complete
    (note,) = report.notes
    assert note.endswith(".map.dzi.fasttile: a cut of this result is running or was interrupted")


def _change_bytes(data: bytes, old: str, new: str) -> bytes:
    text = data.decode()
    assert old in text
    return text.replace(old, new).encode()


@pytest.mark.parametrize(
    ("layout", "name", "change", "what"),
    [
        ("dzi:json,jsonp", "map.json", ('"130"', '"131"'), "has another size"),
        ("dzi:json,jsonp", "map.js", ('"32"', '"64"'), "has another size"),
        ("dzi:json,jsonp", "map.json", ('"png"', '"jpg"'), "has another size"),
        ("dzi:json,jsonp", "map.json", ("map_files", "other"), "has another Url than map_files/"),
        ("dzi:json,jsonp", "map.json", ('"Size"', "Size"), "cannot be read"),
        ("iiif3:id=https://e.org/x", "map/info.json", ('"width": 65', '"width": 66'), "'sizes'"),
        ("xyz", "map/tiles.json", ('"scheme": "xyz"', '"scheme": "tms"'), "'scheme'"),
        ("xyz", "map/tiles.json", ("{z}/{x}/{y}.png", "{z}/{y}/{x}.png"), "'tiles'"),
        ("gsiv", "map/tiles.json", ("-91.40625", "-91.5"), "'bounds'"),
        ("tms", "map/tilemapresource.xml", ('href="1"', 'href="7"'), "has wrong zooms"),
    ],
)
def test_descriptors_that_contradict(
    layout: str, name: str, change: tuple[str, str], what: str, tmp_path: Path
) -> None:
    place = cut_exactly(
        tmp_path / ("map.dzi" if layout[:3] == "dzi" else "map"), layout, smooth_pixels()
    )
    assert_complete(verify(place))
    path = tmp_path / name
    path.write_bytes(_change_bytes(path.read_bytes(), *change))
    for way in (*VERIFY_OPTIONS, {"source": smooth_pixels()}):
        report = verify(place, **way)
        assert fault_paths(report) == {name}
        assert what in report.faults[0].problem


def test_a_descriptor_that_is_somebody_elses(tmp_path: Path) -> None:
    place = cut_exactly(tmp_path / "map.dzi", None, smooth_pixels())
    (tmp_path / "map.json").write_text(json.dumps({"title": "a map"}))
    assert_complete(verify(place))
    (tmp_path / "map.json").write_bytes(b"")
    assert fault_paths(verify(place)) == {"map.json"}


def test_number_of_tiles_in_zoomify(tmp_path: Path) -> None:
    place = cut_exactly(tmp_path / "map", "zoomify", smooth_pixels())
    path = place / "ImageProperties.xml"
    path.write_bytes(_change_bytes(path.read_bytes(), 'NUMTILES="', 'NUMTILES="1'))
    with pytest.raises(SourceError, match="do not make"):
        verify(place)


@pytest.mark.slow
def test_a_claim_of_any_size_ends(tmp_path: Path) -> None:
    side = 2**40
    layout = LayoutSpec.parse("dzi").bind("map", side, side, "png")
    (tmp_path / "map_files/3").mkdir(parents=True)
    (tmp_path / "map_files/3/0_0.png").write_bytes(b"x")
    (tmp_path / "map.dzi").write_bytes(layout.descriptors()["map.dzi"])
    for way in VERIFY_OPTIONS:
        report = verify(tmp_path / "map.dzi", **way)
        assert report.fault_count == layout.pyramid.tile_count - 3  # levels 0 to 2 are not named
        assert len(report.faults) <= MAX_LISTED_FAULTS
        assert "level 40 is missing, with all its" in str(report.faults[-1])


def test_faults_are_counted_where_they_are_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = cut_exactly(tmp_path / "map.dzi", None, smooth_pixels())
    shutil.rmtree(tmp_path / "map_files/8")
    (tmp_path / "map_files/8").mkdir()
    monkeypatch.setattr("fasttile.verify.report.MAX_LISTED_FAULTS", 4)
    for way in (*VERIFY_OPTIONS, {"source": smooth_pixels()}):
        report = verify(place, **way)
        assert (len(report.faults), report.fault_count) == (4, 15)


# ---- in one file -------------------------------------------------------------------------------


def _flip_in_zip(path: Path) -> str:
    start, size = zip_entry_span(path, "map_files/8/1_1.png")
    flip_byte(path, start + size // 2)
    return "map_files/8/1_1.png"


def _flip_in_pmtiles(path: Path) -> str:
    start, size = pmtiles_tile_span(path, 3, 2, 1)
    flip_byte(path, start + size // 2)
    return "3/2/1"


def _flip_in_tiff(path: Path) -> str:
    start, size = tiff_tile_span(path, 0, 7)
    flip_byte(path, start + size // 2)
    return "tile 7 of page 0"


def _flip_in_mbtiles(path: Path) -> str:
    execute_sql(
        path,
        "UPDATE tiles SET tile_data = substr(tile_data, 1, 100)"
        " WHERE zoom_level = 3 AND tile_column = 2 AND tile_row = 6",
    )
    return "3/2/1"


@pytest.mark.parametrize(
    ("name", "spoil", "shallow"),
    [
        ("map.zip", _flip_in_zip, True),
        ("map.pmtiles", _flip_in_pmtiles, True),
        ("map.mbtiles", _flip_in_mbtiles, True),
        ("map.tif", _flip_in_tiff, False),
    ],
)
def test_damage_in_one_file(
    name: str, spoil: Callable[[Path], str], shallow: bool, tmp_path: Path
) -> None:
    pixels = noise(77, 130, 3)
    place = cut_exactly(tmp_path / name, None if name != "map.zip" else "dzi", pixels)
    bad = spoil(place)
    for way in (*VERIFY_OPTIONS, {"source": pixels}):
        assert fault_paths(verify(place, **way)) == ({bad} if way or shallow else set()), way


def test_tiles_beyond_the_image(tmp_path: Path) -> None:
    from support.result_cases import write_pmtiles

    pixels = noise(77, 130, 3)
    place = cut_exactly(tmp_path / "map.mbtiles", None, pixels)
    execute_sql(place, "INSERT INTO tiles VALUES (3, 7, 0, x'00')")
    execute_sql(place, "INSERT INTO tiles VALUES (9, 1, 500, x'00')")
    execute_sql(place, "INSERT INTO tiles VALUES (NULL, 1, 2, x'00')")
    assert fault_paths(verify(place)) == {"3/7/7", "9/1/11", "None/1/2"}
    folder = cut_exactly(tmp_path / "map", "xyz", pixels)
    layout = LayoutSpec.parse("xyz").bind("map", 130, 77, "png", tile_size=32)
    tiles: dict[Any, bytes] = {
        tuple(tile): (tmp_path / layout.path(tile)).read_bytes() for tile in layout.pyramid.tiles()
    }
    descriptor = json.loads((folder / "tiles.json").read_text())
    assert isinstance(layout.pyramid.stored_range, range)
    for number, extra in enumerate(((8, 6, 0), (8, 0, 5))):
        write_pmtiles(
            tmp_path / f"{number}.pmtiles",
            layout,  # type: ignore[arg-type]
            {**tiles, extra: b"x"},
            {"fasttile": descriptor["fasttile"]},
        )
        report = verify(tmp_path / f"{number}.pmtiles", deep=True)
        assert fault_paths(report) == {f"3/{extra[1]}/{extra[2]}"}


def test_hilbert_numbers_there_and_back() -> None:
    from fasttile.formats.pmtiles import tile_addresses, tile_id

    for zoom in range(6):
        wanted = [(zoom, col, row) for col in range(1 << zoom) for row in range(1 << zoom)]
        numbers = np.array([tile_id(*address) for address in wanted], np.int64)
        found = [column.tolist() for column in tile_addresses(numbers)]
        assert list(zip(*found, strict=True)) == wanted
    for address in ((31, 0, 2**31 - 1), (31, 12345678, 987654321), (20, 5, 1000000)):
        columns = tile_addresses(np.array([tile_id(*address)], np.int64))
        assert tuple(int(column[0]) for column in columns) == address
