"""Title, credit line and description of an image: in descriptors, pages, tiles and records."""

from __future__ import annotations

import gzip
import html
import io
import json
import re
import sqlite3
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

import fasttile
from fasttile import OptionError
from fasttile.jobs.texts import MAX_DESCRIPTION_CHARACTERS, recorded_texts
from fasttile.options.values import MAX_LINE_CHARACTERS
from fasttile.verify import repair, verify
from support.command import run

TITLE, CREDIT = 'Map of "Ångström" & Söhne', "© Müseum <b>x</b></script>"
DESCRIPTION = "Line 1 & <i>\nLine 2 ]]> </script>"
OWN = {270: DESCRIPTION.encode(), 315: b"Jane", 33432: CREDIT.encode()}


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PNG with title, description and copyright; 300 × 200 pixels."""
    path = tmp_path_factory.mktemp("texts") / "scan.png"
    texts = PngImagePlugin.PngInfo()
    for key, text in (("Title", TITLE), ("Description", DESCRIPTION), ("Copyright", CREDIT)):
        texts.add_itxt(key, text)
    pixels = np.random.default_rng(1).integers(0, 255, (200, 300, 3), np.uint8)
    Image.fromarray(pixels).save(path, pnginfo=texts)
    return path


def _metadata_of_pmtiles(path: Path) -> dict[str, Any]:
    """By the specification: offset and length of the metadata are at bytes 24 and 32."""
    data = path.read_bytes()
    start, size = (int.from_bytes(data[at : at + 8], "little") for at in (24, 32))
    found: dict[str, Any] = json.loads(gzip.decompress(data[start : start + size]))
    return found


def _metadata_of_mbtiles(path: Path) -> dict[str, Any]:
    with sqlite3.connect(path) as database:
        return dict(database.execute("SELECT name, value FROM metadata"))


MAPS = {
    "xyz/": lambda folder: json.loads((folder / "xyz/scan/tiles.json").read_text()),
    "a.pmtiles": lambda folder: _metadata_of_pmtiles(folder / "a.pmtiles"),
    "a.mbtiles": lambda folder: _metadata_of_mbtiles(folder / "a.mbtiles"),
}


@pytest.mark.parametrize("dest", MAPS)
def test_maps_have_the_texts_of_the_image(dest: str, image: Path, tmp_path: Path) -> None:
    fasttile.cut(image, f"{tmp_path}/{dest}", layout="xyz")
    found = MAPS[dest](tmp_path)
    assert (found["name"], found["description"]) == (TITLE, DESCRIPTION)
    # Map clients take it for HTML.
    assert found["attribution"] == "© Müseum &lt;b&gt;x&lt;/b&gt;&lt;/script&gt;"
    assert html.unescape(found["attribution"]) == CREDIT


def test_a_tile_map_resource_has_them(image: Path, tmp_path: Path) -> None:
    fasttile.cut(image, tmp_path / "map", layout="tms", title="Mine", credit="Me & you")
    root = ElementTree.parse(tmp_path / "map/tilemapresource.xml").getroot()
    texts = [root.findtext(path) for path in ("Title", "Abstract", "Attribution/Title")]
    assert texts == ["Mine", DESCRIPTION, "Me & you"]
    with fasttile.open_pyramid(tmp_path / "map") as result:
        assert result.level_sizes[-1] == (300, 200)


def test_iiif_has_what_it_has_a_place_for(image: Path, tmp_path: Path) -> None:
    licence = "https://creativecommons.org/licenses/by/4.0/"
    for number, more in ((2, ""), (3, ",manifest")):
        fasttile.cut(
            image, tmp_path / f"i{number}", layout=f"iiif{number}:id=https://e.org/x{more}",
            title="Mine", credit=licence,
        )  # fmt: skip
    second, third = (json.loads((tmp_path / f"i{n}/info.json").read_text()) for n in (2, 3))
    assert second["license"] == third["rights"] == licence.replace("https", "http")
    assert second["attribution"] == licence.replace("https", "http")
    manifest = json.loads((tmp_path / "i3/manifest.json").read_text())
    assert manifest["label"] == {"none": ["Mine"]}
    assert manifest["summary"] == {"none": [DESCRIPTION]}
    assert manifest["rights"] == licence.replace("https", "http")
    assert "requiredStatement" not in manifest


@pytest.mark.parametrize("name", ["a.tif", "cog.tif", "a.ome.tif"])
def test_tiffs_have_tags(name: str, image: Path, tmp_path: Path) -> None:
    layout = "tiff:cog" if name.startswith("cog") else None
    fasttile.cut(image, tmp_path / name, layout=layout)
    with Image.open(tmp_path / name) as tiff:
        tags: Any = getattr(tiff, "tag_v2")  # noqa: B009 -- Pillow's types do not have it
        texts = [str(tags[number]).encode("latin-1").decode() for number in (269, 270, 33432)]
    assert (texts[0], texts[2]) == (TITLE, CREDIT)
    if name == "a.ome.tif":
        root = ElementTree.fromstring(texts[1])
        space = {"": "http://www.openmicroscopy.org/Schemas/OME/2016-06"}
        found = root.find("Image", space)
        assert found is not None
        assert found.attrib["Name"] == TITLE
        assert found.findtext("Description", "", space) == DESCRIPTION
        assert root.findtext("Rights/RightsHeld", "", space) == CREDIT
    else:
        description, _, record = texts[1].rpartition("\n")
        assert description == DESCRIPTION
        assert json.loads(record)["layout"] == "tiff"
    with fasttile.open_pyramid(tmp_path / name) as result:
        assert recorded_texts(result.record())[:3] == (TITLE, DESCRIPTION, CREDIT)
    assert verify(tmp_path / name, image).is_complete
    fasttile.cut(tmp_path / name, tmp_path / "again", layout="xyz")
    again = json.loads((tmp_path / "again/tiles.json").read_text())
    assert html.unescape(again["attribution"]) == CREDIT
    if name != "a.ome.tif":  # whose XML is not read as an image's texts
        assert (again["name"], again["description"]) == (TITLE, DESCRIPTION)


def test_a_page_shows_them_as_text(image: Path, tmp_path: Path) -> None:
    fasttile.cut(image, tmp_path / "map.dzi", viewer="openseadragon")
    page = (tmp_path / "map.html").read_text()
    head = page[: page.index("<style>")]
    assert html.unescape(head[head.index("<title>") :]).startswith(f"<title>{TITLE} – 300")
    content = re.search(r'<meta name="description" content="([^"]*)">', head)
    assert content is not None
    assert html.unescape(content[1]) == DESCRIPTION
    caption = page[page.index('<header id="caption">') : page.index("</header>")]
    assert f'<p id="credit" dir="auto">{html.escape(CREDIT)}</p>' in caption
    assert "<b>" not in caption
    assert page.count("</script>") == page.count("<script")


@pytest.mark.parametrize("form", ["jpeg", "png", "webp", "avif", "jpeg:progressive"])
def test_tiles_have_them_on_request_only(form: str, image: Path, tmp_path: Path) -> None:
    joint = "," if ":" in form else ":"
    fasttile.cut(image, tmp_path / "with", layout="xyz", format=f"{form}{joint}credit")
    fasttile.cut(image, tmp_path / "without", layout="xyz", format=form)
    tiles = [*(tmp_path / "with").rglob("0/0/*.*")]
    assert len(tiles) == 1
    for path in (tmp_path / "with").glob("*/*/*.*"):
        with Image.open(path) as tile, Image.open(str(path).replace("/with/", "/without/")) as bare:
            exif = {
                number: text.encode("latin-1").decode() for number, text in tile.getexif().items()
            }
            assert exif == {270: TITLE, 33432: CREDIT}
            assert not bare.getexif()
            assert np.array_equal(np.asarray(tile), np.asarray(bare))
            # About a hundred bytes.
            assert 0 < path.stat().st_size - Path(bare.filename).stat().st_size < 250
    report = verify(tmp_path / "with", image)
    assert report.is_complete, report


def test_tiles_of_shards_and_on_demand_are_the_same(image: Path, tmp_path: Path) -> None:
    with Image.open(image) as decoded:
        decoded.save(tmp_path / "scan.tif", tiffinfo={33432: CREDIT.encode()})
    options: dict[str, Any] = {"layout": "xyz", "format": "jpeg:credit", "tile_size": 32}
    fasttile.cut(tmp_path / "scan.tif", tmp_path / "plain", **options)
    fasttile.cut(tmp_path / "scan.tif", tmp_path / "shards", workers=2, **options)
    tiles = {}
    for name in ("plain", "shards"):
        files = (tmp_path / name).glob("*/*/*.jpg")
        tiles[name] = {str(p.relative_to(tmp_path / name)): p.read_bytes() for p in files}
    assert tiles["plain"] == tiles["shards"]
    assert len(tiles["plain"]) > 50
    with (
        fasttile.open_pyramid(tmp_path / "scan.tif", **options) as pyramid,
        fasttile.open_pyramid(tmp_path / "plain") as stored,
    ):
        for tile in stored.pyramid.tiles():
            assert pyramid.tile(*tile) == stored.tile(*tile)


def test_a_repaired_tile_has_them_too(image: Path, tmp_path: Path) -> None:
    fasttile.cut(image, tmp_path / "map", layout="xyz", format="jpeg:credit", credit="Me")
    tile, descriptor = tmp_path / "map/1/0/0.jpg", tmp_path / "map/tiles.json"
    before = tile.read_bytes(), descriptor.read_bytes()
    tile.write_bytes(before[0][:500])
    descriptor.write_bytes(before[1].replace(b'"scheme": "xyz"', b'"scheme": "tms"'))
    repair(tmp_path / "map", image)
    assert (tile.read_bytes(), descriptor.read_bytes()) == before


@pytest.mark.parametrize("dest", ["b.pmtiles", "b.mbtiles", "b.zip", "b/"])
def test_a_conversion_keeps_them(dest: str, image: Path, tmp_path: Path) -> None:
    fasttile.cut(image, tmp_path / "a", layout="gsiv:centre=no", title="Mine", credit=CREDIT)
    fasttile.convert(tmp_path / "a", f"{tmp_path}/{dest}", layout="xyz")
    fasttile.convert(f"{tmp_path}/{dest}{'a' * dest.endswith('/')}", tmp_path / "c.mbtiles")
    found = _metadata_of_mbtiles(tmp_path / "c.mbtiles")
    assert found["name"] == "Mine"
    assert html.unescape(found["attribution"]) == CREDIT
    # And a cut of the result, of other tiles.
    fasttile.cut(tmp_path / "a", tmp_path / "d", layout="xyz", tile_size=64, credit="")
    cut_again = json.loads((tmp_path / "d/tiles.json").read_text())
    assert cut_again["name"] == "Mine"
    assert "attribution" not in cut_again


def test_without_texts_nothing_changes(tmp_path: Path) -> None:
    pixels = np.zeros((200, 300, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "scan.png")
    for source in (pixels, tmp_path / "scan.png"):
        fasttile.cut(source, tmp_path / "map", layout="xyz", viewer="leaflet", overwrite=True)
        values = json.loads((tmp_path / "map/tiles.json").read_text())
        assert {"description", "attribution"}.isdisjoint(values)
        assert values["name"] == "map"
        record = json.loads((tmp_path / "map/.fasttile.json").read_text())
        assert "texts" not in record
        assert {"title", "credit"}.isdisjoint(record["options"])
        page = (tmp_path / "map.html").read_text()
        assert '<meta name="description"' not in page
        assert 'id="credit"' not in page[page.index("<body>") :]


def test_an_empty_text_leaves_out_those_of_the_file(image: Path, tmp_path: Path) -> None:
    fasttile.cut(image, tmp_path / "map", layout="xyz", title="", credit="")
    assert TITLE[:6] not in (tmp_path / "map/tiles.json").read_text()
    values = json.loads((tmp_path / "map/tiles.json").read_text())
    assert values["name"] == "map"
    assert {"description", "attribution"}.isdisjoint(values)


def test_hostile_texts_are_bounded(tmp_path: Path) -> None:
    texts = PngImagePlugin.PngInfo()
    texts.add_itxt("Title", "a\x1b[31m\x00b")
    texts.add_itxt("Description", "\x07" + "d" * 900_000)
    texts.add_itxt(
        "Copyright",
        "c\u202e\ud83d\ude00\ufffe".encode("utf-16", "surrogatepass").decode("utf-16") * 9000,
    )
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png", pnginfo=texts)
    fasttile.cut(tmp_path / "a.png", tmp_path / "map", layout="tms", viewer="leaflet")
    root = ElementTree.parse(tmp_path / "map/tilemapresource.xml").getroot()
    assert root.findtext("Title") == "a[31m"
    assert len(root.findtext("Abstract", "")) == MAX_DESCRIPTION_CHARACTERS
    assert len(root.findtext("Attribution/Title", "")) == MAX_LINE_CHARACTERS
    record = (tmp_path / "map/.fasttile.json").read_bytes()
    assert recorded_texts(record).title == "a[31m"
    assert len(record) < 2**16
    # A record of a stranger.
    for texts_member in ('{"title": 1}', "[]", '"x"', '{"title": {"a": 1}}'):
        changed = re.sub(rb'"texts": \{[^}]*\}', b'"texts": ' + texts_member.encode(), record)
        assert recorded_texts(changed) == ("", "", "", "")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("x" * 501, "501 characters, more than 500"),
        ("a\nb", "is no character of a text"),
        ("a\x00", "is no character of a text"),
        ("\udcff", "is no character of a text"),
        ("<b>x</b>", "for HTML"),
        (3, "expected a text"),
    ],
)
@pytest.mark.parametrize("name", ["title", "credit"])
def test_options_that_are_no_text(name: str, text: Any, problem: str) -> None:
    with pytest.raises(OptionError, match=rf"^{name}.*{problem}"):
        fasttile.CutOptions(**{name: text})


def test_what_is_refused(image: Path, tmp_path: Path) -> None:
    tiles: list[bytes] = []
    with pytest.raises(OptionError, match="title: the tiles go to the program"):
        fasttile.cut(image, store=lambda _, data: tiles.append(data), title="x")
    fasttile.cut(image, store=lambda _, data: tiles.append(data), title="x", format="jpeg:credit")
    with Image.open(io.BytesIO(tiles[0])) as tile:
        assert tile.getexif()[270] == "x"
    with pytest.raises(OptionError, match="jpeg:credit: a TIFF has title and credit in its tags"):
        fasttile.cut(image, tmp_path / "a.tif", format="jpeg:credit")
    with pytest.raises(OptionError, match="deflate has no parameter 'credit'"):
        fasttile.cut(image, tmp_path / "a.tif", format="deflate:credit")


def test_update_and_resume_know_the_options(image: Path, tmp_path: Path) -> None:
    dest = tmp_path / "out/"
    command = ("cut", image, "-o", f"{dest}/", "--layout", "xyz")
    assert run(*command, "--credit", "Me").returncode == 0
    assert "1 of 1 images" in run(*command, "--credit", "Me", "--update").stdout
    changed = run(*command, "--credit", "You", "--update")
    assert "already" not in changed.stdout
    assert "You" in (dest / "scan/tiles.json").read_text()
    assert run(*command, "--update").returncode == 0
    assert "Müseum" in (dest / "scan/tiles.json").read_text()
    assert "1 of 1 images" in run(*command, "--update").stdout
    assert run(*command, "--overwrite", "--resume", "--title", "T").returncode == 0
    assert json.loads((dest / "scan/tiles.json").read_text())["name"] == "T"
