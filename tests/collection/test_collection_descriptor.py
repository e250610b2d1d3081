"""A .dzc's text: what other tools wrote is read, and survives; what is damaged is refused."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as some

from fasttile.collection.descriptor import (
    NAMESPACE,
    Collection,
    Item,
    locate_source,
    read,
    relative_source,
)
from fasttile.errors import SourceError

PLAIN_DESCRIPTOR = f"""<?xml version="1.0" encoding="UTF-8"?>
<Collection xmlns="{NAMESPACE}" MaxLevel="7" TileSize="256" Format="jpg" Quality="0.8" \
NextItemId="2">
  <Items>
    <I Id="0" N="0" Source="wall_images/cat%20%26%20dog.dzi"><Size Width="640" Height="480"/></I>
    <I Id="1" N="1" Source="../dog.dzi"><Size Width="1" Height="99999"/></I>
  </Items>
</Collection>
"""

COMPOSER_DESCRIPTOR = """\ufeff<?xml version="1.0" encoding="utf-8"?>
<!-- made long ago -->
<Collection MaxLevel="8" TileSize="256" Format="jpg" NextItemId="3" ServerFormat="Default"
            xmlns="http://schemas.microsoft.com/deepzoom/2009">
  <Items Sorted="no">
    <I Source="dzc_output_images/b.xml" Type="ImagePixelSource" IsPath="1" Id="2" N="1">
      <Size Width="800" Height="600" />
      <Viewport Width="4.5" X="-0.25" Y="-1.125" />
    </I>
    <!-- the first one -->
    <I N="0" Id="0" IsPath="1" Source="dzc_output_images/a.xml"><Viewport Width="1" X="0" Y="0"/>
      <Size Height="3" Width="2" Depth="1"></Size></I>
    <Other a="&lt;&quot;"/>
  </Items>
  <Layer Name="one &amp; only"><Deep/></Layer>
</Collection>"""

PREFIXED_DESCRIPTOR = f"""<dz:Collection xmlns:dz="{NAMESPACE}" xmlns:my="urn:mine" my:Note="'n'"
 Quality="1" TileSize="64" NextItemId="0" MaxLevel="0" Format="png">
 <my:Before><![CDATA[<&>]]></my:Before>
 <dz:Items><dz:I N="5" Id="9"><dz:Size Width="7" Height="8"/></dz:I></dz:Items>
</dz:Collection>"""


def write_descriptor(folder: Path, text: str | bytes) -> Path:
    path = folder / "wall.dzc"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def parse_descriptor(folder: Path, text: str | bytes) -> Collection:
    return read(write_descriptor(folder, text))


def canonical_xml(text: str) -> str:
    """What a text says as XML, without white space, and in order of attributes."""
    return ElementTree.canonicalize(text.removeprefix("\ufeff"), strip_text=True)


def test_our_own_form(tmp_path: Path) -> None:
    found = parse_descriptor(tmp_path, PLAIN_DESCRIPTOR)
    assert "".join(found.to_xml()) == PLAIN_DESCRIPTOR
    assert (found.max_level, found.tile_size, found.format) == (7, 256, "jpg")
    assert (found.quality, found.next_id) == (0.8, 2)
    assert found.items == (
        Item(0, 0, "wall_images/cat%20%26%20dog.dzi", 640, 480),
        Item(1, 1, "../dog.dzi", 1, 99999),
    )
    assert found.tile_folder == tmp_path / "wall_files"
    assert found.item_descriptor(found.items[0]) == tmp_path / "wall_images/cat & dog.dzi"
    assert found.grid.levels == range(7, -1, -1)


def test_the_form_of_the_composer(tmp_path: Path) -> None:
    found = parse_descriptor(tmp_path, COMPOSER_DESCRIPTOR)
    first, second = found.items
    assert (first.id, first.n, first.source) == (0, 0, "dzc_output_images/a.xml")
    assert (first.width, first.height) == (2, 3)
    assert (second.id, second.n, second.width) == (2, 1, 800)
    assert second.attributes == (("Type", "ImagePixelSource"), ("IsPath", "1"))
    assert '<Viewport Width="4.5" X="-0.25" Y="-1.125" />' in second.inner_xml
    assert (found.next_id, found.quality) == (3, 1.0)
    text = "".join(found.to_xml())
    assert "<!-- the first one -->" in text
    assert '<Other a="&lt;&quot;" />' in text
    written = canonical_xml(text)
    for piece in (
        '<Layer Name="one &amp; only"><Deep></Deep></Layer>',
        '<Items Sorted="no">',
        'ServerFormat="Default"',
        'xmlns="http://schemas.microsoft.com/deepzoom/2009"',
        '<Size Depth="1" Height="3" Width="2"></Size>',
    ):
        assert piece in written
    assert parse_descriptor(tmp_path, text) == replace(
        found, extras=parse_descriptor(tmp_path, text).extras
    )
    assert "".join(parse_descriptor(tmp_path, text).to_xml()) == text


def test_prefixes_and_foreign_names(tmp_path: Path) -> None:
    found = parse_descriptor(tmp_path, PREFIXED_DESCRIPTOR)
    (item,) = found.items
    assert (item.id, item.n, item.source, item.width) == (9, 5, "", 7)
    assert found.next_id == 10, "an Id is never given twice, even if the file says so"
    text = "".join(found.to_xml())
    wanted = PREFIXED_DESCRIPTOR.replace('NextItemId="0"', 'NextItemId="10"')
    assert canonical_xml(text) == canonical_xml(wanted)
    with pytest.raises(SourceError, match=r"item 9 \(without a Source\) has no .dzi on this mach"):
        found.item_descriptor(item)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-8-sig"])
def test_other_encodings(tmp_path: Path, encoding: str) -> None:
    text = PLAIN_DESCRIPTOR.replace("dog.dzi", "été.dzi")
    data = text.encode(encoding)
    if encoding == "utf-16-le":
        data = b"\xff\xfe" + data
    assert parse_descriptor(tmp_path, data).items[1].source == "../été.dzi"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("<Items>", "<Items><Items>", "is no XML: mismatched tag"),
        (PLAIN_DESCRIPTOR, "", "is no XML: no element found"),
        (PLAIN_DESCRIPTOR, "GIF89a", "is no XML: syntax error"),
        ("Collection", "Image", "its root is Image, and not a Deep Zoom Collection"),
        ("deepzoom/2008", "deepzoom/2010", "its root is Collection, and not a Deep"),
        ("<Collection", "<!DOCTYPE Collection><Collection", "it has a document type, which no"),
        ("Items>", "Things>", "it has no Items"),
        ("  </Items>", "  </Items><Items/>", "it has Items twice"),
        ('MaxLevel="7"', "", "says nothing of MaxLevel"),
        ('TileSize="256"', "", "says nothing of TileSize"),
        ('Format="jpg"', "", "says nothing of Format"),
        ('Id="1" ', "", "an item says nothing of Id"),
        ('N="1" ', "", "an item says nothing of N"),
        ('Height="480"', "", "an item says nothing of Height"),
        ('<Size Width="640" Height="480"/>', "", "an item says nothing of Size"),
        ('N="1"', 'N="0"', r"item 0 \(.*\) and item 1 \(.*\) have the same N, 0"),
        ('Id="1"', 'Id="0"', "two items have the same Id"),
        ('N="1"', 'N="-1"', "N '-1' is not a whole number"),
        ('N="1"', 'N="1_0"', "N '1_0' is not a whole number"),
        ('N="1"', 'N="9999999999999999999"', "N '9999999999999999999' is not a whole number"),
        ('N="1"', 'N="²"', "N '²' is not a whole number"),
        ('TileSize="256"', 'TileSize="254"', "tile size 254 of a collection is not a power"),
        ('TileSize="256"', 'TileSize="1099511627776"', "tile size 1099511627776 of a coll"),
        ('MaxLevel="7"', 'MaxLevel="9"', "max level 9 is not between 0 and 8"),
        ('Format="jpg"', 'Format="../x"', "Format '../x' is no file ending"),
        ('Quality="0.8"', 'Quality="80"', "Quality 80 is not between 0 and 1"),
        ('Quality="0.8"', 'Quality="nan"', "Quality nan is not between 0 and 1"),
        ('Quality="0.8"', 'Quality="good"', "could not convert string to float: 'good'"),
        ('NextItemId="2"', 'NextItemId=""', "NextItemId '' is not a whole number"),
        ("UTF-8", "x-klingon", "its encoding 'x-klingon' is neither UTF-8 nor UTF-16"),
        ("UTF-8", "latin-1", "its encoding 'latin-1' is neither UTF-8 nor UTF-16"),
        ("dog", "\udcff", "invalid start byte"),
    ],
)
def test_damage_is_reported_in_one_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in PLAIN_DESCRIPTOR
    data = PLAIN_DESCRIPTOR.replace(old, new).encode(errors="surrogateescape")
    with pytest.raises(SourceError, match=message) as caught:
        parse_descriptor(tmp_path, data)
    assert str(tmp_path / "wall.dzc") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_entities_are_never_expanded(tmp_path: Path) -> None:
    bomb = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 9))
    text = PLAIN_DESCRIPTOR.replace(
        "<Collection", f'<!DOCTYPE x [<!ENTITY e0 "ha">{bomb}]><Collection'
    )
    with pytest.raises(SourceError, match=r"wall.dzc cannot be used: it has a document type"):
        parse_descriptor(tmp_path, text.replace("../dog", "&e8;"))


def test_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"none.dzc: no such file$"):
        read(tmp_path / "none.dzc")
    with pytest.raises(SourceError, match=r"is a directory, not a file$"):
        read(tmp_path)


AWKWARD_NAMES = [
    "plain.dzi",
    "two words.dzi",
    "-dash.dzi",
    "a&b<c>.dzi",
    "quote\"'.dzi",
    "100%.dzi",
    "%41.dzi",
    "a:b.dzi",
    "a?b#c.dzi",
    "ünïcode ⛰ 東京.dzi",
    "new\nline.dzi",
    "back\\slash.dzi",
    "+;,=@!.dzi",
    "http:\\x.dzi",
]


@pytest.mark.parametrize("name", [*AWKWARD_NAMES, os.fsdecode(b"not utf-8 \xff.dzi")])
def test_any_name_leads_back_to_its_file(tmp_path: Path, name: str) -> None:
    descriptor = tmp_path / "wall.dzc"
    for folder in (tmp_path, tmp_path / "sub & <b>", tmp_path.parent):
        folder.mkdir(exist_ok=True)
        image = folder / name
        image.touch()
        try:
            source = relative_source(descriptor, image)
            assert source.isascii()
            assert not set(source) & set(" \"'<>&?#\\\n:%") - {"%"}
            item = Item(3, 0, source, 1, 1)
            text = "".join(Collection(descriptor, 0, 1, "png", 1.0, 4, (item,)).to_xml())
            (again,) = parse_descriptor(tmp_path, text).items
            assert again == item
            assert locate_source(descriptor, again.source).samefile(image)
        finally:
            image.unlink()


@pytest.mark.parametrize("source", ["two words.dzi", "sub\\two words.dzi", "100%.dzi", "été.dzi"])
def test_sources_that_others_did_not_quote(tmp_path: Path, source: str) -> None:
    image = tmp_path / source.replace("\\", "/")
    image.parent.mkdir(exist_ok=True)
    image.touch()
    assert locate_source(tmp_path / "wall.dzc", source) == image


def test_a_way_up_through_symbolic_links(tmp_path: Path) -> None:
    (tmp_path / "a/b/site").mkdir(parents=True)
    (tmp_path / "images").mkdir()
    (tmp_path / "images/x.dzi").touch()
    (tmp_path / "link").symlink_to(tmp_path / "a/b/site")
    descriptor = tmp_path / "link/wall.dzc"
    source = relative_source(descriptor, tmp_path / "images/x.dzi")
    assert source == "../../../images/x.dzi"
    assert locate_source(descriptor, source).samefile(tmp_path / "images/x.dzi")


@pytest.mark.parametrize("source", ["http://example.org/x.dzi", "file:///x.dzi", ""])
def test_images_elsewhere(tmp_path: Path, source: str) -> None:
    found = Collection(tmp_path / "wall.dzc", 0, 1, "png", 1.0, 1, (Item(0, 0, source, 1, 1),))
    with pytest.raises(SourceError, match=r"wall.dzc: item 0 \(.*\) has no .dzi on this machine"):
        found.item_descriptor(found.items[0])


def test_elements_nested_too_deeply_are_rejected(tmp_path: Path) -> None:
    deep = "<x>" * 20_000 + "</x>" * 20_000
    text = PLAIN_DESCRIPTOR.replace("</Collection>", f"{deep}</Collection>")
    with pytest.raises(SourceError, match="nested too deeply"):
        parse_descriptor(tmp_path, text)


XML_TEXT = some.text(
    some.characters(codec="utf-8", exclude_characters="\x00￾￿", exclude_categories=["Cs", "Cc"])
)


@pytest.mark.slow
@given(XML_TEXT, XML_TEXT, some.integers(0, 2**62), some.integers(0, 2**62))
def test_any_text_in_attributes_survives(
    tmp_path_factory: pytest.TempPathFactory, one: str, other: str, number: int, n: int
) -> None:
    folder = tmp_path_factory.getbasetemp()
    item = Item(number, n, one, 5, 6, (("Type", other),))
    collection = Collection(folder / "wall.dzc", 0, 1, "png", 0.75, number + 1, (item,))
    assert parse_descriptor(folder, "".join(collection.to_xml())) == collection
