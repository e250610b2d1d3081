"""OME-TIFFs: as tifffile reads them, and the physical sizes of their pixels."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import fasttile
from fasttile.errors import OptionError
from fasttile.formats.ome import described_resolution, encode_ome_xml, record_in_ome_xml
from fasttile.jobs.plan import resolve_target
from fasttile.readers import open_result
from fasttile.sinks import tiff
from support.reading import noise, smooth_pixels

NAMESPACE = {"": "http://www.openmicroscopy.org/Schemas/OME/2016-06"}


def pixels_element(path: Path) -> dict[str, str]:
    """Attributes of the element Pixels."""
    with tifffile.TiffFile(path) as file:
        assert file.ome_metadata is not None
        found = ET.fromstring(file.ome_metadata).find("Image/Pixels", NAMESPACE)
    assert found is not None
    return dict(found.attrib)


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize(
    ("bands", "bits", "form"),
    [
        *((1, 8, "jpeg"), (3, 8, "jpeg"), (1, 16, "deflate")),
        *((bands, 8, "deflate") for bands in (1, 2, 3, 4)),
    ],
)
def test_tifffile_reads_each_level(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bands: int, bits: int, form: str, large: bool
) -> None:
    if large:
        monkeypatch.setattr(tiff, "CLASSIC_TIFF_LIMIT", 0)
    pixels: Any = smooth_pixels(301, 500, bands)
    if bits == 16:
        pixels = noise(301, 500, 1, dtype=np.uint16)
    options: Any = {"format": form, "bits": bits, "tile_size": 64}
    plain = fasttile.cut(pixels, tmp_path / "plain.tif", **options).path
    path = Path(fasttile.cut(pixels, tmp_path / "map.ome.tif", **options).path)
    with tifffile.TiffFile(path) as file, tifffile.TiffFile(plain) as other:
        assert file.is_ome
        assert file.is_bigtiff == large
        assert len(file.series) == 1
        assert len(file.pages) == 1
        levels = file.series[0].levels
        assert len(levels) == len(other.pages) == 4
        for level, page in zip(levels, other.pages, strict=True):
            assert np.array_equal(level.asarray(), page.asarray())
        assert next(iter(file.pages[0].pages)).subfiletype == 1
    found = pixels_element(path)
    assert (found["SizeX"], found["SizeY"], found["SizeC"]) == ("500", "301", str(bands))
    assert found["Type"] == f"uint{bits}"
    assert fasttile.verify.verify(path, source=pixels).fault_count == 0


@pytest.mark.parametrize("form", ["jpeg", "deflate"])
def test_libvips_reads_each_level(tmp_path: Path, form: str) -> None:
    pyvips = pytest.importorskip("pyvips")
    pixels = smooth_pixels(301, 500, 3)
    options: Any = {"format": form, "tile_size": 64}
    plain = str(fasttile.cut(pixels, tmp_path / "plain.tif", **options).path)
    path = str(fasttile.cut(pixels, tmp_path / "map.ome.tif", **options).path)
    for number in range(4):
        found = pyvips.Image.new_from_file(path, subifd=number - 1)
        expected = pyvips.Image.new_from_file(plain, page=number)
        assert np.array_equal(found.numpy(), expected.numpy())


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1)], ids=str)
def test_small_images(tmp_path: Path, size: tuple[int, int]) -> None:
    pixels = noise(*size, 3)
    path = fasttile.cut(pixels, tmp_path / "a.ome.tif", format="deflate", tile_size=64).path
    with tifffile.TiffFile(path) as file:
        assert np.array_equal(file.series[0].asarray(), pixels)
    with open_result(path) as reader:
        assert reader.pyramid.size == size[::-1]


SIZES: list[tuple[dict[str, Any], tuple[float, float] | None]] = [
    ({"PhysicalSizeX": 0.2523, "PhysicalSizeY": 0.5}, (0.2523, 0.5)),
    (
        {
            "PhysicalSizeX": 250,
            "PhysicalSizeXUnit": "nm",
            "PhysicalSizeY": 0.00025,
            "PhysicalSizeYUnit": "mm",
        },
        (0.25, 0.25),
    ),
    ({"PhysicalSizeX": 1, "PhysicalSizeXUnit": "pixel", "PhysicalSizeY": 1}, None),
    ({"PhysicalSizeX": 1}, None),
    ({}, None),
]


@pytest.mark.parametrize(("sizes", "expected"), SIZES)
def test_the_physical_size_of_an_ome_tiff_is_kept(
    tmp_path: Path, sizes: dict[str, Any], expected: tuple[float, float] | None
) -> None:
    source = tmp_path / "in.ome.tif"
    tifffile.imwrite(
        source, noise(300, 200, 1)[..., 0], photometric="minisblack", metadata=sizes, ome=True
    )
    for levels, unit in ((None, 1), ("0-2", 2)):
        path = tmp_path / f"{unit}.ome.tif"
        fasttile.cut(source, path, tile_size=64, levels=levels)
        found = pixels_element(path)
        if expected is None:
            assert not [name for name in found if name.startswith("Physical")]
            continue
        for axis, size in zip("XY", expected, strict=True):
            assert float(found[f"PhysicalSize{axis}"]) == pytest.approx(unit * size, rel=1e-11)
            assert found[f"PhysicalSize{axis}Unit"] == "µm"
        with tifffile.TiffFile(path) as file:
            x, y = file.pages[0].get_resolution("micrometer")
        assert (1 / x, 1 / y) == pytest.approx((unit * expected[0], unit * expected[1]))


def test_the_resolution_of_a_tiff_becomes_a_physical_size(tmp_path: Path) -> None:
    source = tmp_path / "in.tif"
    tifffile.imwrite(source, noise(30, 20, 3), resolution=(1e4, 5e3), resolutionunit="CENTIMETER")
    fasttile.cut(source, tmp_path / "out.ome.tif")
    found = pixels_element(tmp_path / "out.ome.tif")
    assert (found["PhysicalSizeX"], found["PhysicalSizeY"]) == ("1", "2")


def test_aperios_size_of_pixels_is_read(tmp_path: Path) -> None:
    source = tmp_path / "in.svs"
    text = "Aperio Image Library v10\r\n99x88 [0,100 20x30] (256x256) J2K|AppMag = 20|MPP = 0.4990"
    tifffile.imwrite(source, noise(30, 20, 3), tile=(16, 16), description=text, metadata=None)
    fasttile.cut(source, tmp_path / "out.ome.tif")
    assert pixels_element(tmp_path / "out.ome.tif")["PhysicalSizeX"] == "0.499"


@pytest.mark.parametrize("name", ["a & b <c> \"d\" 'e'", "Präparat", "名前"])
def test_any_name_and_record(tmp_path: Path, name: str) -> None:
    source = tmp_path / f"{name}.tif"
    tifffile.imwrite(source, noise(30, 20, 3))
    path = Path(fasttile.cut(source, tmp_path / "out" / "x.ome.tif").path)
    path = path.rename(tmp_path / f"{name}.ome.tif")
    with tifffile.TiffFile(path) as file:
        assert file.ome_metadata is not None
        ET.fromstring(file.ome_metadata)
        assert "&#" not in file.ome_metadata  # which Bio-Formats replaces by spaces
    with open_result(path) as reader:
        assert json.loads(reader.record())["source"]["name"] == source.name
    again = fasttile.cut(source, tmp_path / "site/", layout="tiff:ome").path
    assert Path(again).name == f"{name}.ome.tif"
    with tifffile.TiffFile(again) as file:
        assert file.ome_metadata is not None
        image = ET.fromstring(file.ome_metadata).find("Image", NAMESPACE)
    assert image is not None
    assert image.get("Name") == name


def test_a_record_comes_back_as_it_was() -> None:
    record = b'{"record": 1, "x": "<a>&amp;\\"]]>"}'
    xml = encode_ome_xml("m", (3, 2), 3, 8, record=record)
    assert record_in_ome_xml(xml) == record
    assert record_in_ome_xml(encode_ome_xml("m", (3, 2), 3, 8)) == b""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('<OME><Pixels SizeX="9" SizeY="9" PhysicalSizeX="1" PhysicalSizeY="1"/></OME>', None),
        ('<OME><Pixels SizeX="3" SizeY="2" PhysicalSizeX="-1" PhysicalSizeY="1"/></OME>', None),
        ('<OME><Pixels SizeX="3" SizeY="2" PhysicalSizeX="nan" PhysicalSizeY="1"/></OME>', None),
        ('<OME><Pixels SizeX="3" SizeY="2" PhysicalSizeX="1e400" PhysicalSizeY="1"/></OME>', None),
        (
            "<OME><a:Pixels PhysicalSizeX='2' SizeX='3' PhysicalSizeY='1' SizeY='2'/></OME>",
            (12_700, 25_400),
        ),
        ("<Pixels " * 200_000 + "OME>", None),
        ("Aperio\r\n3x2|MPP = 0.5", (50_800, 50_800)),
        ("Aperio\r\n3x2|MPP = 0", None),
        ("Aperio\r\n3x2|MPP = 1.2.3", None),
        ("Aperio\r\n9x8 [0,0 6x4] (256x256) -> 3x2|MPP = 0.5", None),
        ("Aperio\r\n6x4|MPP = 0.5", None),
        ("other\r\n3x2|MPP = 0.5", None),
    ],
)
def test_descriptions_of_others(text: str, expected: tuple[float, float] | None) -> None:
    assert described_resolution(text.encode(), 3, 2) == expected


def test_the_name_decides(tmp_path: Path) -> None:
    for name, layout in (("x.ome.tif", None), ("X.OME.TIFF", None), ("x.ome.tif", "tiff")):
        assert resolve_target(name, "a.png", layout).layout.parameters == {"ome": True}
    target = resolve_target("out/x.ome.tif", "a.png")
    assert target.with_page(2).path == Path("out/x-2.ome.tif")
    assert resolve_target("out/", "a.ome.tif", "tiff:ome").path == Path("out/a.ome.tif")
    assert resolve_target("x.tif", "a.png").layout.parameters == {}
    for layout in ("tiff:cog", "tiff:ome=no"):
        with pytest.raises(OptionError, match=r"x\.ome\.tif: this name is that of an"):
            resolve_target("x.ome.tif", "a.png", layout)
    with pytest.raises(OptionError, match="either cog or ome"):
        fasttile.cut(noise(9, 9, 1), tmp_path / "x.tif", layout="tiff:cog,ome")
