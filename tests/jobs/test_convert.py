"""`convert`: tiles of one result in another layout or container, byte for byte."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fasttile
from fasttile.errors import CancelledError, OptionError, SourceError, TargetError
from fasttile.options.read import ReadOptions
from fasttile.readers import open_result
from fasttile.readers.source import ResultSource
from support.cut_cases import ADDRESS, ALL_LAYOUTS, any_format_in_iiif2
from support.damage import file_tree
from support.reading import noise
from support.reference import Array

SMALL: dict[str, Any] = {"tile_size": 32, "overlap": 0, "format": "png"}
IIIF2, IIIF3 = f"iiif2:id={ADDRESS}", f"iiif3:id={ADDRESS}"
ZOOMS = ("xyz", "xyz:template={quadkey}-{z}", "tms", "tilecache")


def tile_bytes(path: Path) -> Counter[bytes | None]:
    """The files of all tiles, wherever they are."""
    with open_result(path) as reader:
        return Counter(reader.tile(*tile) for tile in reader.pyramid.tiles())


def largest_level(path: Path) -> Array:
    with ResultSource(open_result(path), ReadOptions()) as source:
        return source.rows(0, source.height).copy()


def cut_small(path: Path, layout: str | None, pixels: Array, **options: Any) -> Path:
    return Path(fasttile.cut(pixels, path, layout=layout, **{**SMALL, **options}).path)


PAIRS = [
    *(("a.dzi", "dzi", target, None) for target in ("b.szi", "b.zip", "b.dzi")),
    *(("a.szi", None, target, None) for target in ("b.dzi", "b.zip")),
    *(("a", layout, "b", None) for layout in ALL_LAYOUTS if layout != "dzi"),
    *(("a", layout, "b.zip", None) for layout in ALL_LAYOUTS if layout != "dzi"),
    *(("a.zip", layout, "b", layout) for layout in ALL_LAYOUTS if layout != "dzi"),
    *(("a", one, "b", other) for one in ZOOMS for other in ZOOMS),
    *(("a", layout, "b.pmtiles", None) for layout in (*ZOOMS, "xyz:centre", "gsiv")),
    *(("a", layout, "b.mbtiles", None) for layout in (*ZOOMS, "xyz:centre", "gsiv")),
    *(("a.pmtiles", None, "b", layout) for layout in ZOOMS),
    *(("a.mbtiles", None, target, None) for target in ("b.pmtiles", "b", "b.zip")),
    ("a", "xyz:centre", "b", "tms"),
    ("a", "zoomify:rounding=ceil", "b", IIIF3),
    ("a", "zoomify:rounding=ceil", "b.szi", None),
    ("a", IIIF2, "b", IIIF3),
    ("a", IIIF3, "b", "zoomify:rounding=ceil"),
    ("a", IIIF3, "b.dzi", None),
]


@pytest.mark.parametrize(("name", "layout", "target", "wanted"), PAIRS)
def test_each_tile_keeps_its_bytes(
    name: str, layout: str | None, target: str, wanted: str | None, tmp_path: Path
) -> None:
    pixels = noise(77, 130, 3)
    with any_format_in_iiif2():
        old = cut_small(tmp_path / name, layout, pixels)
        report = fasttile.convert(old, tmp_path / target, layout=wanted)
    new = Path(report.path)
    assert new == tmp_path / target
    if (layout == "gsiv" and target.endswith("mbtiles")) or target.endswith("pmtiles"):
        assert tile_bytes(new) <= tile_bytes(old)  # without those of nothing but background
    else:
        assert tile_bytes(new) == tile_bytes(old)
    assert np.array_equal(largest_level(new), pixels)
    assert fasttile.verify.verify(new, pixels, format="png").is_complete
    assert report.tiles == sum(tile_bytes(new).values())
    with open_result(new) as reader, open_result(old) as before:
        assert (
            wanted is not None
            or reader.container != "folder"
            or reader.layout.type_name
            in (
                before.layout.type_name,
                "dzi",
            )
        )


@pytest.mark.parametrize("layout", ["xyz", "a.pmtiles"])
def test_full_jpeg_tiles_become_a_tiff_and_come_back(layout: str, tmp_path: Path) -> None:
    pixels = noise(64, 96, 3)  # levels of odd sizes are blended with background in XYZ
    name, kind = ("a", layout) if layout == "xyz" else (layout, None)
    old = cut_small(tmp_path / name, kind, pixels, format="jpeg", quality=95)
    tiff = fasttile.convert(old, tmp_path / "b.tif").path
    with open_result(old) as one, open_result(tiff) as other:
        assert other.tile_count == one.tile_count
        for tile in other.pyramid.tiles():
            a, b = one.pixels(*tile), other.pixels(*tile)
            assert a is not None
            assert np.array_equal(a, b)  # type: ignore[arg-type]
    with Image.open(tiff) as image:
        assert np.array_equal(np.asarray(image), largest_level(old))
    for target, again in (("c.pmtiles", None), ("c", "tms"), ("d.tif", None)):
        back = Path(fasttile.convert(tiff, tmp_path / target, layout=again).path)
        assert tile_bytes(back) == tile_bytes(Path(tiff))
        assert np.array_equal(largest_level(back), largest_level(old))


@pytest.mark.parametrize(
    ("name", "layout", "options", "target", "wanted", "reason"),
    [
        ("a.dzi", "dzi", {"overlap": 1}, "b", "zoomify", "Zoomify tiles do not overlap"),
        ("a.dzi", "dzi", {}, "b.pmtiles", None, "edge of the image have 17 pixels a side in Deep"),
        ("a.dzi", "dzi", {}, "b", "zoomify", r"level of 32×19 pixels where Deep Zoom has 33×20"),
        ("a.dzi", "dzi", {}, "b", "zoomify", r"zoomify:rounding=ceil has the same tiles"),
        ("a", "zoomify", {}, "b.szi", None, "Deep Zoom has a level of 33×20 pixels where Zoomify"),
        ("a", "xyz", {}, "b", "gsiv", "GSIV has all tiles of the square, XYZ the image's"),
        ("a", "xyz", {}, "b", "xyz:centre", "the image is not in the middle of its square"),
        ("a", "tms", {}, "b.tif", None, "TIFF takes JPEG tiles, not png"),
        ("a", "tms", {"format": "jpeg"}, "b.tif", None, "borders are elsewhere in the image"),
        ("a.dzi", "dzi", {"format": "jpeg"}, "b.tif", None, "edge of the image have 17 pixels"),
        ("a.tif", None, {"format": "deflate"}, "b", "xyz", "samples are stored as deflate"),
        (
            "a",
            "xyz",
            {"levels": "1-3"},
            "b",
            "zoomify:rounding=ceil",
            "has to have all of its smallest levels",
        ),
    ],
)
def test_tiles_that_differ_are_refused_or_cut_again(
    name: str,
    layout: str | None,
    options: dict[str, Any],
    target: str,
    wanted: str | None,
    reason: str,
    tmp_path: Path,
) -> None:
    pixels = noise(77, 130, 3)
    old = cut_small(tmp_path / name, layout, pixels, **options)
    before = file_tree(tmp_path)
    with pytest.raises(OptionError, match=reason) as refusal:
        fasttile.convert(old, tmp_path / target, layout=wanted)
    assert "use --reencode" in str(refusal.value)
    assert file_tree(tmp_path) == before
    report = fasttile.convert(old, tmp_path / target, layout=wanted, reencode=True)
    with open_result(report.path) as reader, open_result(old) as source:
        assert reader.pyramid.size == source.pyramid.size
        assert (reader.extension == "jpg") == (source.extension == "jpg")
    if options.get("format") != "jpeg":
        assert np.array_equal(largest_level(Path(report.path)), pixels)


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ("zoomify:rounding=up", "rounding 'up' is neither floor nor ceil"),
        ("xyz:template={z}", "template '{z}' needs {z}, {x} and {y}, or {quadkey}"),
        ("iiif3:id=here", "iiif3 needs the address"),
    ],
)
def test_a_parameter_that_no_source_allows(layout: str, message: str, tmp_path: Path) -> None:
    for name, own in (("a.dzi", "dzi"), ("b", "xyz")):
        old = cut_small(tmp_path / name, own, noise(77, 130, 3))
        with pytest.raises(OptionError, match=f"^{re.escape(message)}") as refusal:
            fasttile.convert(old, tmp_path / "c", layout=layout)
        assert "--reencode" not in str(refusal.value)


def test_missing_tiles_stay_missing(tmp_path: Path) -> None:
    pixels = np.full((64, 64, 3), 255, np.uint8)
    pixels[:32, :32] = noise(32, 32, 3)
    old = cut_small(tmp_path / "a", "xyz", pixels, skip_blank=0)
    for target in ("b.pmtiles", "b.mbtiles", "b.zip", "b"):
        report = fasttile.convert(old, tmp_path / target, viewer=None)
        assert (report.tiles, report.blanks) == (2, 3)
        assert "3 tiles are missing, as in the source" in report.notes
        assert tile_bytes(Path(report.path)) == tile_bytes(old)
    with pytest.raises(TargetError, match=r"is missing, and Deep Zoom needs all tiles"):
        fasttile.convert(old, tmp_path / "c.dzi")
    (old / "1/0/0.png").unlink()
    fasttile.convert(old, tmp_path / "d", viewer="leaflet")
    assert b"#ffffff" in (tmp_path / "d.html").read_bytes()


@pytest.mark.parametrize("damage", ["missing", "cut short", "empty", "text", "flipped"])
@pytest.mark.parametrize("form", ["png", "jpeg", "webp"])
def test_a_damaged_tile_is_named(damage: str, form: str, tmp_path: Path) -> None:
    old = cut_small(tmp_path / "a.dzi", None, noise(77, 130, 3), format=form)
    (tile,) = tmp_path.glob("a_files/8/1_2.*")
    data = tile.read_bytes()
    if damage == "missing":
        tile.unlink()
    else:
        flipped = data[:-40] + bytes([data[-40] ^ 255]) + data[-39:]
        texts = {"cut short": data[:-9], "empty": b"", "text": b"<html>", "flipped": flipped}
        tile.write_bytes(texts[damage])
    before = file_tree(tmp_path)
    if damage == "flipped" and form != "png":  # only PNG has checksums
        fasttile.convert(old, tmp_path / "b.szi")
        return
    for target in ("b.szi", "b.dzi"):
        with pytest.raises(SourceError, match=r"a\.dzi: tile a_files/8/1_2.*fasttile verify lists"):
            fasttile.convert(old, tmp_path / target)
    assert file_tree(tmp_path) == before


def test_tiles_that_lie_about_themselves_are_named(tmp_path: Path) -> None:
    old = cut_small(tmp_path / "a", "xyz", noise(77, 130, 3))
    tile = old / "3/1/1.png"
    with Image.open(tile) as image:
        image.load()
    flaws = {"is webp, not png": (image, "webp"), "is jpg, not png": (image, "jpeg")}
    flaws["has 31×20 pixels, not 32×32"] = (image.crop((0, 0, 31, 20)), "png")
    for flaw, (wrong, form) in flaws.items():
        wrong.save(tile, form)
        with pytest.raises(SourceError, match=rf"a/3/1/1\.png {flaw}; fasttile verify"):
            fasttile.convert(old, tmp_path / "b.pmtiles")
    image.crop((0, 0, 31, 32)).save(tile)  # other programs round in another way
    assert fasttile.convert(old, tmp_path / "b.pmtiles").tiles
    jpeg = cut_small(tmp_path / "c.dzi", None, noise(77, 130, 3), format="jpeg")
    (tmp_path / "c_files/8/1_2.jpg").write_bytes((tmp_path / "c_files/8/4_2.jpg").read_bytes())
    with pytest.raises(SourceError, match=r"1_2\.jpg has 2×13 pixels, not 32×13"):
        fasttile.convert(jpeg, tmp_path / "c.szi")


def test_tiles_without_padding_are_no_tiles_of_a_map(tmp_path: Path) -> None:
    pixels = noise(50, 45, 3)
    for zoom, image in enumerate([pixels[::2, ::2], pixels]):
        for x, y in np.ndindex(zoom + 1, zoom + 1):
            path = tmp_path / f"a/{zoom}/{x}/{y}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[y * 32 :, x * 32 :][:32, :32].copy()).save(path)
    old, new = f"{tmp_path}/a/{{z}}/{{x}}/{{y}}.png", tmp_path / "b.pmtiles"
    with pytest.raises(OptionError, match=r"no padding at the edge: 13×18 pixels; use --reencode"):
        fasttile.convert(old, new)
    fasttile.convert(old, new, reencode=True)
    assert fasttile.verify.verify(new).is_complete
    assert np.array_equal(largest_level(new), pixels)


@pytest.mark.parametrize("target", ["b.pmtiles", "b.tif"])
def test_tiles_that_are_cut_again_stay_lossless(target: str, tmp_path: Path) -> None:
    deep = (noise(77, 130, 1).astype(np.uint16) * 257) ^ 1
    old = cut_small(tmp_path / "a.dzi", None, deep, overlap=1, bits=16)
    fasttile.convert(old, tmp_path / target, reencode=True)
    assert np.array_equal(largest_level(tmp_path / target), deep)
    if target == "b.pmtiles":
        pixels = noise(77, 130, 3)
        old = cut_small(tmp_path / "c.dzi", None, pixels, overlap=1, format="webp:lossless")
        fasttile.convert(old, tmp_path / "c.pmtiles", reencode=True)
        assert np.array_equal(largest_level(tmp_path / "c.pmtiles"), pixels)


def test_a_result_is_not_converted_onto_itself_or_another(tmp_path: Path) -> None:
    pixels = noise(40, 40, 3)
    dzi, folder = (
        cut_small(tmp_path / "map.dzi", None, pixels),
        cut_small(tmp_path / "z", "zoomify", pixels),
    )
    szi = Path(fasttile.convert(dzi, tmp_path / "map.szi").path)
    before = file_tree(tmp_path)
    for source, target in [
        (dzi, dzi),
        (dzi, tmp_path / "map_files/x.dzi"),
        (szi, szi),
        (folder, folder),
        (folder, folder / "sub/x.zip"),
        (folder / "ImageProperties.xml", folder),
    ]:
        for overwrite in (False, True):
            with pytest.raises(TargetError):
                fasttile.convert(source, target, overwrite=overwrite)
    with pytest.raises(TargetError, match=r"map\.szi exists"):
        fasttile.convert(dzi, szi)
    assert file_tree(tmp_path) == before
    szi.write_bytes(b"other")
    fasttile.convert(dzi, szi, overwrite=True)
    assert tile_bytes(szi) == tile_bytes(dzi)


@pytest.mark.usefixtures("every_progress_report")
def test_resume(tmp_path: Path) -> None:
    pixels = noise(700, 900, 3)
    old = cut_small(tmp_path / "a.szi", None, pixels)
    seen: list[int] = []

    def stop(progress: fasttile.CutProgress) -> bool:
        seen.append(progress.tiles)
        return progress.tiles < 400

    with pytest.raises(CancelledError):
        fasttile.convert(old, tmp_path / "b.dzi", resume=True, progress=stop)
    assert not (tmp_path / "b.dzi").exists()
    with pytest.raises(TargetError, match="interrupted run can be resumed"):
        fasttile.convert(old, tmp_path / "b.dzi")
    report = fasttile.convert(old, tmp_path / "b.dzi", resume=True)
    assert report.resumed > 0
    assert tile_bytes(tmp_path / "b.dzi") == tile_bytes(old)
    with pytest.raises(CancelledError):
        fasttile.convert(old, tmp_path / "c.dzi", progress=lambda _: False)
    assert not list(tmp_path.glob("*c*"))
    token = fasttile.CancelToken()
    token.cancel()
    with pytest.raises(CancelledError):
        fasttile.convert(old, tmp_path / "c.dzi", cancel=token)


def test_the_record_states_both_results(tmp_path: Path) -> None:
    image = tmp_path / "image.png"
    Image.fromarray(noise(40, 50, 3)).save(image)
    old = Path(fasttile.cut(image, tmp_path / "a", layout="tms", format="png", shrink="mode").path)
    for target in ("b.pmtiles", "b.zip", "b"):
        with open_result(fasttile.convert(old, tmp_path / target, layout="xyz").path) as reader:
            record = json.loads(reader.record())
        assert record["source"]["name"] == "image.png"
        assert record["layout"] == record["options"]["layout"] == "xyz"
        assert record["options"]["shrink"] == "mode"
        converted = record["converted"]
        assert (converted["from"], converted["layout"]) == ("a", "tms")
    assert fasttile.verify.verify(tmp_path / "b", image).is_complete  # the options are its own
    (old / ".fasttile.json").unlink()
    with open_result(fasttile.convert(old, tmp_path / "c.zip").path) as reader:
        record = json.loads(reader.record())
    assert record["source"] == {}
    assert not {"options", "versions"} & record.keys()


def test_images_of_complete_iiif_levels(tmp_path: Path) -> None:
    pixels = noise(77, 130, 3)
    old = cut_small(tmp_path / "a.dzi", None, pixels)
    with pytest.raises(
        OptionError, match="iiif2: viewers of IIIF 2 at level 0 ask for jpg, not png"
    ):
        fasttile.convert(old, tmp_path / "b", layout=IIIF2)
    with any_format_in_iiif2():
        report = fasttile.convert(old, tmp_path / "b", layout=IIIF2)
    assert "3 images of complete levels were encoded from their tiles" in report.notes
    with Image.open(tmp_path / "b/full/full/0/default.png") as image:
        assert np.array_equal(np.asarray(image), pixels)
    assert fasttile.verify.verify(tmp_path / "b", pixels, format="png").is_complete
    marked = tmp_path / "b/full/130,/0/default.png"
    marked.write_bytes(marked.read_bytes() + b"\0")
    report = fasttile.convert(tmp_path / "b", tmp_path / "c", layout=IIIF3)
    assert any(note.startswith("tiles are png: viewers") for note in report.notes)
    assert (tmp_path / "c/full/max/0/default.png").read_bytes() == marked.read_bytes()


def test_what_is_no_result(tmp_path: Path) -> None:
    Image.fromarray(noise(9, 9, 3)).save(tmp_path / "a.png")
    with pytest.raises(SourceError, match=r"a\.png: not a result"):
        fasttile.convert(tmp_path / "a.png", tmp_path / "b.dzi")
    with (
        fasttile.open_pyramid(noise(9, 9, 3)) as image,
        pytest.raises(OptionError, match="use cut"),
    ):
        fasttile.convert(image, tmp_path / "b.dzi")  # type: ignore[arg-type]
    old = cut_small(tmp_path / "a.szi", None, noise(40, 40, 3))
    with open_result(old) as reader:
        assert fasttile.convert(reader, tmp_path / "c.dzi").tiles
        assert reader.tile(0, 0, 0)
    with pytest.raises(SourceError, match=r"a\.szi"):
        fasttile.convert(reader, tmp_path / "d.dzi")
    with pytest.raises(OptionError, match="viewer"):
        fasttile.convert(old, tmp_path / "d.dzi", viewer="none")
    assert not list(tmp_path.glob("*d.dzi*"))


def test_names_and_claims_of_strangers(tmp_path: Path) -> None:
    files = {
        "tiles.json": json.dumps(
            {
                "minzoom": 0,
                "maxzoom": 30,
                "fasttile": {
                    **dict.fromkeys(("width", "height", "canvas"), 256 << 30),
                    "layout": "xyz",
                    "x": 0,
                    "y": 0,
                    "tile_size": 256,
                    "format": "png",
                },
            }
        ).encode(),
        "0/0/0.png": _png(),
    }
    for name in files:
        (tmp_path / "huge" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "huge" / name).write_bytes(files[name])
    with pytest.raises(SourceError, match=r"places for [0-9,]+ tiles, but 1 tiles only"):
        fasttile.convert(tmp_path / "huge", tmp_path / "b.pmtiles")
    old = cut_small(tmp_path / "a.zip", "zoomify", noise(9, 9, 3))
    with zipfile.ZipFile(old, "a") as archive:
        archive.writestr("../../out.png", b"x")
    with pytest.raises(SourceError, match="would lie outside"):
        fasttile.convert(old, tmp_path / "b")
    assert {path.name for path in tmp_path.iterdir()} == {"huge", "a.zip"}


def _png() -> bytes:
    out = io.BytesIO()
    Image.fromarray(noise(256, 256, 3)).save(out, "PNG")
    return out.getvalue()


def test_jpeg_that_a_tiff_cannot_take(tmp_path: Path) -> None:
    pixels = noise(64, 64, 3)
    progressive = cut_small(tmp_path / "p", "xyz", pixels, format="jpeg:progressive")
    with pytest.raises(OptionError, match="JPEG of another kind than a TIFF takes"):
        fasttile.convert(progressive, tmp_path / "b.tif")
    mixed = cut_small(tmp_path / "m", "xyz", pixels, format="jpeg:subsampling=4:4:4")
    Image.fromarray(pixels[:32, :32]).save(mixed / "1/1/1.jpg", subsampling="4:2:0")
    with pytest.raises(OptionError, match=r"1/1/1\.jpg is JPEG of another kind"):
        fasttile.convert(mixed, tmp_path / "b.tif")
    assert not list(tmp_path.glob("*b.tif*"))
    grey = cut_small(tmp_path / "g", "xyz", noise(64, 64, 1), format="jpeg")
    tiff = fasttile.convert(grey, tmp_path / "g.tif").path
    with Image.open(tiff) as image:
        assert np.array_equal(np.asarray(image)[..., None], largest_level(grey))


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from fasttile.cli import main

    old = cut_small(tmp_path / "a.dzi", None, noise(40, 50, 3))
    assert main(["convert", str(old), str(tmp_path / "b.szi")]) == 0
    assert "50×40 pixels, 7 levels, 10 tiles" in capsys.readouterr().out
    assert main(["convert", str(old), str(tmp_path / "c.szi"), "--json", "--progress"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["tiles"] == 10
    assert main(["convert", str(old), str(tmp_path / "b.szi")]) == 1
    assert main(["convert", str(old), str(tmp_path / "b.pmtiles")]) == 2
    printed = capsys.readouterr()
    assert "b.szi exists already" in printed.err
    assert printed.err.count("\n") == 2
    assert main(["convert", str(old), str(tmp_path / "b.pmtiles"), "--reencode", "-q"]) == 0
    assert main(["info", str(tmp_path / "b.szi")]) == 0
    assert "tiles from:  a.dzi, dzi in a folder" in capsys.readouterr().out
