"""Zarr and N5 as sources, against zarr-python, tensorstore, and bytes that are written by hand."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, GzipCodec, TransposeCodec, ZstdCodec

from fasttile.errors import MissingPageError, OptionError, SourceError, SourceNotFoundError
from fasttile.options.read import ReadOptions
from fasttile.sources import open_source
from support.reading import Array, noise, read_checked
from support.zarr_files import write_n5_block, write_ome, write_plain, write_zarr

RGB = noise(205, 333, 3)
GREY = noise(150, 210)


def read(path: object, *, bits: Any = 8, **options: Any) -> Array:
    """All rows of an image, checked, with the window "full"."""
    read_options = ReadOptions(**options)
    with open_source(str(path), window="full", bits=bits, read_options=read_options) as source:
        return read_checked(source)


def notes_of(path: object, **options: Any) -> list[str]:
    """The notes on an image after all of it was read."""
    with open_source(str(path), window="full", read_options=ReadOptions(**options)) as source:
        read_checked(source)
        return [*source.metadata.notes, *source.metadata.warnings]


V2_COMPRESSORS = {
    "raw": None,
    "gzip": numcodecs.GZip(),
    "zlib": numcodecs.Zlib(),
    "bz2": numcodecs.BZ2(),
    "lzma": numcodecs.LZMA(),
    "lz4": numcodecs.LZ4(),
    "zstd": numcodecs.Zstd(),
    "blosc-lz4": numcodecs.Blosc("lz4", shuffle=1),
    "blosc-zstd": numcodecs.Blosc("zstd", shuffle=2),
    "blosc-zlib": numcodecs.Blosc("zlib", shuffle=0),
}


@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("name", V2_COMPRESSORS)
def test_zarr_2_of_all_compressors(tmp_path: Path, name: str, order: Any) -> None:
    codec = V2_COMPRESSORS[name]
    options = {"chunks": (50, 64, 3), "order": order}
    path = write_zarr(tmp_path / "a.zarr", RGB, zarr_format=2, compressors=codec, **options)
    np.testing.assert_array_equal(read(path), RGB)


V3_CODECS: dict[str, Any] = {
    "raw": {"compressors": None},
    "gzip": {"compressors": GzipCodec()},
    "zstd": {"compressors": ZstdCodec()},
    "zstd with a checksum": {"compressors": ZstdCodec(checksum=True)},
    "blosc": {"compressors": BloscCodec(cname="lz4", typesize=1)},
    "gzip, crc32c": {"compressors": [GzipCodec(), Crc32cCodec()]},
    "zstd, gzip": {"compressors": [ZstdCodec(), GzipCodec()]},
    "transpose": {"filters": [TransposeCodec(order=(2, 0, 1))]},
    "names of v2": {"chunk_key_encoding": {"name": "v2", "separator": "."}},
    "dots": {"chunk_key_encoding": {"name": "default", "separator": "."}},
    "shards": {"shards": (100, 128, 3), "chunks": (50, 64, 3)},
    "shards, zstd": {
        "shards": (200, 64, 6),
        "chunks": (10, 32, 3),
        "compressors": ZstdCodec(),
    },
    "shards, transpose": {
        "shards": (100, 128, 3),
        "chunks": (50, 64, 1),
        "filters": [TransposeCodec(order=(1, 2, 0))],
    },
}


@pytest.mark.parametrize("name", V3_CODECS)
def test_zarr_3_of_all_codecs(tmp_path: Path, name: str) -> None:
    path = write_zarr(tmp_path / "a.zarr", RGB, **{"chunks": (50, 64, 3)} | V3_CODECS[name])
    np.testing.assert_array_equal(read(path), RGB)


@pytest.mark.parametrize("location", ["start", "end"])
def test_shards_with_the_index_at_either_end(tmp_path: Path, location: Any) -> None:
    codec = zarr.codecs.ShardingCodec(
        chunk_shape=(16, 16), codecs=[BytesCodec(endian="big")], index_location=location
    )
    array = zarr.create(
        shape=GREY.shape,
        chunks=(64, 64),
        dtype="uint16",
        store=tmp_path / "a.zarr",
        codecs=[codec],
        zarr_format=3,
    )
    pixels = GREY.astype(np.uint16) * 257
    array[...] = pixels
    np.testing.assert_array_equal(read(tmp_path / "a.zarr", bits=16)[..., 0], pixels)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize(
    "dtype",
    ["|b1", "|i1", "<i2", ">i2", ">u2", "<i4", ">u4", "<i8", ">u8", "<f2", ">f4", "<f8"],
)
def test_all_dtypes_are_those_of_arrays(tmp_path: Path, dtype: str, version: Any) -> None:
    pixels = noise(90, 70).astype(dtype)
    path = write_zarr(tmp_path / "a.zarr", pixels, zarr_format=version)
    with (
        open_source(str(path), window=(-100, 200)) as found,
        open_source(pixels, window=(-100, 200)) as expected,
    ):
        np.testing.assert_array_equal(read_checked(found), read_checked(expected))


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (64, 64), (65, 129, 4), (7, 9, 2)])
def test_odd_shapes(tmp_path: Path, shape: tuple[int, ...]) -> None:
    pixels = noise(*shape)
    path = write_plain(tmp_path / "a", pixels, (64, 64, 1)[: len(shape)])
    np.testing.assert_array_equal(read(path), pixels.reshape((*shape, 1)[:3]))


@settings(max_examples=60)
@given(st.data())
def test_any_axes_chunks_pages_bands_and_regions(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    axes = "".join(
        data.draw(st.permutations(["y", "x", *data.draw(st.sets(st.sampled_from("tcz")))]))
    )
    shape = [data.draw(st.integers(1, 60 if axis in "yx" else 3)) for axis in axes]
    chunks = tuple(data.draw(st.integers(side // 3 + 1, side + 2)) for side in shape)
    pixels = noise(*shape)
    path = write_plain(tmp_path_factory.mktemp("any") / "a", pixels, chunks)
    plane, order = pixels, axes
    for axis in set("tzc") - set(axes):
        plane, order = plane[..., np.newaxis], order + axis
    plane = plane.transpose([order.index(axis) for axis in "tzyxc"])
    times, slices, height, width, count = plane.shape
    t, z = data.draw(st.integers(0, times - 1)), data.draw(st.integers(0, slices - 1))
    band = data.draw(st.integers(1, count))
    x, y = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    region = (x, y, data.draw(st.integers(1, width - x)), data.draw(st.integers(1, height - y)))
    options = ReadOptions(page=t * slices + z + 1, bands=str(band))
    with open_source(
        f"{path}#axes={axes}", window="full", region=region, read_options=options
    ) as f:
        found = read_checked(f)
    expected = plane[t, z, y : y + region[3], x : x + region[2], band - 1]
    np.testing.assert_array_equal(found[..., 0], expected)


N5_COMPRESSIONS: list[dict[str, Any]] = [
    {"type": "raw"},
    {"type": "gzip", "level": 3},
    {"type": "gzip", "useZlib": True},
    {"type": "bzip2"},
    {"type": "xz"},
    {"type": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1},
]


@pytest.mark.skipif(sys.version_info >= (3, 15), reason="tensorstore has no wheels for 3.15")
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("compression", N5_COMPRESSIONS, ids=lambda one: "-".join(map(str, one)))
def test_n5_as_tensorstore_writes_it(
    tmp_path: Path, compression: dict[str, Any], dtype: str
) -> None:
    tensorstore = pytest.importorskip("tensorstore")
    metadata = {
        "dimensions": [210, 150],
        "blockSize": [64, 50],
        "dataType": dtype,
        "compression": compression,
    }
    store = {"driver": "file", "path": str(tmp_path / "a.n5")}
    spec = {"driver": "n5", "kvstore": store, "metadata": metadata}
    array = tensorstore.open(spec, create=True).result()
    array.write(GREY.astype(dtype).T).result()
    with open_source(str(tmp_path / "a.n5"), window=(0, 255)) as source:
        np.testing.assert_array_equal(read_checked(source)[..., 0], GREY)


@pytest.mark.skipif(sys.version_info >= (3, 15), reason="tensorstore has no wheels for 3.15")
def test_an_open_array_of_tensorstore(tmp_path: Path) -> None:
    tensorstore = pytest.importorskip("tensorstore")
    path = write_zarr(tmp_path / "a.zarr", RGB, chunks=(100, 80, 3))
    array = tensorstore.open({"driver": "zarr3", "kvstore": path.as_uri()}).result()
    with open_source(array) as source:
        assert (source.preferred_rows, source.preferred_cols) == (100, 80)
        np.testing.assert_array_equal(read_checked(source), RGB)


def test_n5_by_hand_with_cut_blocks_lz4_and_levels_without_attributes(tmp_path: Path) -> None:
    """Blocks at the edges may be complete or cut off; s0 is the largest level by custom."""
    attributes = {"dimensions": [5, 3], "blockSize": [4, 2], "dataType": "uint16"}
    folder = tmp_path / "scan.n5" / "setup0" / "s0"
    pixels = np.arange(15, dtype=np.uint16).reshape(3, 5) * 4000
    write_n5_block(folder / "0/0", pixels[:2, :4])
    write_n5_block(folder / "1/0", pixels[:2, 4:])
    write_n5_block(folder / "0/1", np.pad(pixels[2:, :4], ((0, 1), (0, 0))))
    write_n5_block(folder / "1/1", pixels[2:, 4:])
    (folder / "attributes.json").write_text(json.dumps({**attributes, "compressionType": "raw"}))
    for path in (folder, folder.parent, folder / "attributes.json"):
        np.testing.assert_array_equal(read(path, bits=16)[..., 0], pixels)
    sizes = {"pixelResolution": {"dimensions": [4, 2], "unit": "nm"}}  # of x and y
    (folder / "attributes.json").write_text(json.dumps({**attributes, **sizes}))
    with open_source(str(folder)) as source:
        assert source.metadata.resolution == (6_350_000, 12_700_000)
    import imagecodecs

    for block in ("0/0", "1/0", "0/1", "1/1"):
        data = (folder / block).read_bytes()
        packed = imagecodecs.lz4_encode(data[12:])
        size, unpacked = (len(part).to_bytes(4, "little") for part in (packed, data[12:]))
        frame = b"LZ4Block" + b"\x20" + size + unpacked + bytes(4) + packed
        (folder / block).write_bytes(data[:12] + frame + b"LZ4Block\x10" + bytes(12))
    members = {**attributes, "compression": {"type": "lz4", "blockSize": 65536}}
    (folder / "attributes.json").write_text(json.dumps(members))
    np.testing.assert_array_equal(read(folder, bits=16)[..., 0], pixels)


def test_missing_chunks_have_the_fill_value_and_are_named(tmp_path: Path) -> None:
    path = write_zarr(tmp_path / "a.zarr", GREY, zarr_format=2, fill_value=77)
    (path / "1.2").unlink()
    expected = GREY.copy()
    expected[64:128, 128:192] = 77
    np.testing.assert_array_equal(read(path)[..., 0], expected)
    assert notes_of(path) == ["missing chunks (1.2 for one) have the fill value 77"]


def test_missing_shards_and_chunks_of_shards(tmp_path: Path) -> None:
    array = zarr.create_array(
        tmp_path / "a.zarr", shape=GREY.shape, dtype="u1", chunks=(16, 16), shards=(64, 64)
    )
    array[:20, :20] = GREY[:20, :20]
    np.testing.assert_array_equal(read(tmp_path / "a.zarr")[..., 0], array[...])
    assert array[...].any()


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr_planes_are_pages_and_channels_are_bands(tmp_path: Path, version: str) -> None:
    pixels = noise(2, 3, 4, 100, 130)
    colours = {"channels": [{"color": colour} for colour in ("0000FF", "00ff00", "FF00FF")]}
    path = write_ome(tmp_path / "a.zarr", pixels, "tczyx", version, omero=colours)
    for page, (t, z) in enumerate(((t, z) for t in range(2) for z in range(4)), 1):
        found = read(path, page=page, bands="3")
        np.testing.assert_array_equal(found[..., 0], pixels[t, 2, z])
    rgb = read(path, bands="2,1,3")
    np.testing.assert_array_equal(rgb, np.moveaxis(pixels[0, [1, 0, 2], 0], 0, -1))
    tinted = read(path, bands="1=#ff0000,3=#0000ff")
    np.testing.assert_array_equal(tinted[..., 0], pixels[0, 0, 0])
    np.testing.assert_array_equal(tinted[..., 2], pixels[0, 2, 0])
    with open_source(str(path), window="full") as source:
        metadata = source.metadata
        np.testing.assert_array_equal(read_checked(source)[..., 0], pixels[0, 0, 0])
    assert metadata.format == f"OME-Zarr {version} (Zarr {2 if version == '0.4' else 3})"
    assert metadata.resolution == (50800.0, 50800.0)
    assert (metadata.page, metadata.pages) == (1, 8)
    assert metadata.notes == (
        "page 1 of 8 taken; --page all cuts each",
        "band 1 of 3 shown, 2 left out; --bands 1=#0000ff,2=#00ff00,3=#ff00ff shows all in their "
        "own colours",
    )
    with pytest.raises(MissingPageError, match=r"no page 9; it has 8"):
        read(path, page=9)
    with pytest.raises(OptionError, match=r"it has 3 bands, and no band 4"):
        read(path, bands="4")


@pytest.mark.parametrize("colours", [None, ("FF0000", "00FF00", "0000FF")])
def test_three_channels_without_other_colours_are_rgb(
    tmp_path: Path, colours: tuple[str, ...] | None
) -> None:
    omero = colours and {"channels": [{"color": colour} for colour in colours]}
    path = write_ome(tmp_path / "a.zarr", np.moveaxis(RGB, -1, 0), "cyx", omero=omero)
    np.testing.assert_array_equal(read(path), RGB)


@pytest.mark.parametrize("count", [2, 4])
def test_channels_are_never_alpha(tmp_path: Path, count: int) -> None:
    pixels = noise(count, 70, 80)
    path = write_ome(tmp_path / "a.zarr", pixels, "cyx")
    np.testing.assert_array_equal(read(path)[..., 0], pixels[0])
    assert any("--bands picks others" in note for note in notes_of(path))


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_level_has_the_axes_of_its_image(tmp_path: Path, version: str) -> None:
    pixels = noise(1, 3, 1, 100, 130)
    path = write_ome(tmp_path / "a.zarr", pixels, "tczyx", version)
    expected = np.moveaxis(pixels[0, :, 0, ::2, ::2], 0, -1)
    np.testing.assert_array_equal(read(path / "1"), expected)
    with open_source(str(path / "1")) as source:
        assert source.metadata.resolution == (25400.0, 25400.0)


def test_the_largest_level_is_found_where_it_is_not_the_first(tmp_path: Path) -> None:
    path = write_ome(tmp_path / "a.zarr", GREY, "yx", paths=("full", "half", "small"))
    members = json.loads((path / ".zattrs").read_text())
    datasets = members["multiscales"][0]["datasets"]
    datasets.reverse()
    for has_scales in (True, False):
        if not has_scales:
            for dataset in datasets:
                del dataset["coordinateTransformations"]
        (path / ".zattrs").write_text(json.dumps(members))
        np.testing.assert_array_equal(read(path)[..., 0], GREY)
        assert "level full is the largest" in notes_of(path)
    shutil.rmtree(path / "full")
    members["multiscales"][0]["datasets"] = datasets[::-1]
    (path / ".zattrs").write_text(json.dumps(members))
    np.testing.assert_array_equal(read(path)[..., 0], GREY[::2, ::2])


@pytest.mark.parametrize("version", ["0.1", "0.3"])
def test_early_versions_of_ome_zarr(tmp_path: Path, version: str) -> None:
    """0.1 and 0.2 have five axes without names, 0.3 has names alone; none has scales."""
    pixels = noise(1, 3, 2, 70, 80)
    path = write_ome(tmp_path / "a.zarr", pixels, "tczyx")
    members = json.loads((path / ".zattrs").read_text())
    image = members["multiscales"][0]
    image["version"] = version
    del image["axes"]
    if version == "0.3":
        image["axes"] = list("tczyx")
    for dataset in image["datasets"]:
        del dataset["coordinateTransformations"]
    (path / ".zattrs").write_text(json.dumps(members))
    for found, step in ((read(path, page=2), 1), (read(path / "1", page=2), 2)):
        expected = pixels[0, :, 1, ::step, ::step]
        np.testing.assert_array_equal(found, np.moveaxis(expected, 0, -1))


def test_n5_with_levels_that_have_no_axes(tmp_path: Path) -> None:
    """As janelia-cellmap writes them: multiscales of N5 have transforms of their own."""
    pixels = noise(2, 30, 40)
    for block in range(2):
        write_n5_block(tmp_path / f"a.n5/em/s0/0/0/{block}", pixels[block : block + 1])
    array = {"dimensions": [40, 30, 2], "blockSize": [40, 30, 1], "dataType": "uint8"}
    (tmp_path / "a.n5/em/s0/attributes.json").write_text(json.dumps(array))
    levels = [{"path": "s0", "transform": {"axes": ["z", "y", "x"], "scale": [4, 4, 4]}}]
    group = {"multiscales": [{"name": "em", "datasets": levels}]}
    (tmp_path / "a.n5/em/attributes.json").write_text(json.dumps(group))
    with pytest.raises(SourceError, match=r"shape \(2, 30, 40\) .*#axes=cyx"):
        read(tmp_path / "a.n5/em")
    found = read(f"{tmp_path}/a.n5/em#axes=zyx", page=2)
    np.testing.assert_array_equal(found[..., 0], pixels[1])


def test_the_first_image_of_a_series(tmp_path: Path) -> None:
    top = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    top.attrs["bioformats2raw.layout"] = 3
    write_ome(tmp_path / "a.zarr/0", GREY, "yx")
    np.testing.assert_array_equal(read(tmp_path / "a.zarr")[..., 0], GREY)
    assert notes_of(tmp_path / "a.zarr") == []
    write_ome(tmp_path / "a.zarr/1", GREY[:50], "yx")
    (note,) = notes_of(tmp_path / "a.zarr")
    assert note.startswith("image 0 of several taken; name another, such as ")
    np.testing.assert_array_equal(read(tmp_path / "a.zarr/1")[..., 0], GREY[:50])


def test_names_of_dimensions_and_axes_in_the_path(tmp_path: Path) -> None:
    bands_first = np.moveaxis(RGB, -1, 0)
    named = write_zarr(tmp_path / "named.zarr", bands_first, dimension_names=["band", "y", "x"])
    np.testing.assert_array_equal(read(named), RGB)
    path = write_zarr(tmp_path / "a.zarr", bands_first)
    with pytest.raises(SourceError, match=r"shape \(3, 205, 333\) .*'.*a.zarr#axes=cyx'"):
        read(path)
    np.testing.assert_array_equal(read(f"{path}#axes=cyx"), RGB)
    np.testing.assert_array_equal(read(f"{path}#axes=zyx", page=3)[..., 0], RGB[..., 2])
    np.testing.assert_array_equal(read(f"{path}#axes=cxy"), RGB.transpose(1, 0, 2))
    np.testing.assert_array_equal(read(f"{path}#axes=cyx", bands="3")[..., 0], RGB[..., 2])
    for axes in ("cy", "cyy", "ccx", "qyx", "zyc"):
        with pytest.raises(SourceError, match=f"axes '{axes}'"):
            read(f"{path}#axes={axes}")
    five = write_zarr(tmp_path / "five.zarr", noise(80, 70, 5))
    with pytest.raises(SourceError, match="#axes=yxc"):
        read(five)
    np.testing.assert_array_equal(read(f"{five}#axes=yxc", bands="5,1,2").shape, (80, 70, 3))
    xarray = write_plain(tmp_path / "x", bands_first, (3, 64, 64))
    (xarray / ".zattrs").write_text('{"_ARRAY_DIMENSIONS": ["band", "y", "x"], "_Fill": NaN}')
    np.testing.assert_array_equal(read(xarray), RGB)
    single = write_plain(tmp_path / "single", GREY[None, None], (1, 1, 64, 64))
    np.testing.assert_array_equal(read(single)[..., 0], GREY)


def test_alpha_and_missing_samples(tmp_path: Path) -> None:
    rgba = noise(80, 90, 4)
    path = write_zarr(tmp_path / "a.zarr", rgba)
    np.testing.assert_array_equal(read(path), rgba)
    np.testing.assert_array_equal(read(path, bands="3,2,1"), rgba[..., [2, 1, 0, 3]])
    path = write_zarr(tmp_path / "b.zarr", GREY)
    found = read(path, nodata=int(GREY[0, 0]))
    np.testing.assert_array_equal(found[..., 1] == 0, GREY[0, 0] == GREY)


def test_a_zip(tmp_path: Path) -> None:
    path = write_zarr(tmp_path / "a.zarr", RGB, chunks=(50, 64, 3), shards=(100, 128, 3))
    for name in (tmp_path / "a.zarr", tmp_path / "b"):
        with zarr.storage.ZipStore(f"{name}.zip", mode="w") as store:
            target = zarr.create_array(
                store, shape=RGB.shape, dtype="u1", chunks=(50, 64, 3), shards=(100, 128, 3)
            )
            target[...] = RGB
        np.testing.assert_array_equal(read(f"{name}.zip"), RGB)
    compressed = shutil.make_archive(str(tmp_path / "c"), "zip", path)
    with pytest.raises(SourceError, match="is compressed; store it without compression"):
        read(compressed)
    for content in (b"PK\3\4", (tmp_path / "c.zip").read_bytes()[:2000]):
        (tmp_path / "broken.zip").write_bytes(content)
        with pytest.raises(SourceError, match=r"broken\.zip"):
            read(tmp_path / "broken.zip")
    plain = write_zarr(tmp_path / "d.zarr", RGB)
    np.testing.assert_array_equal(read(shutil.make_archive(str(plain), "zip", plain)), RGB)


def test_names_of_metadata_files_and_file_addresses(tmp_path: Path) -> None:
    path = write_zarr(tmp_path / "an array", GREY)
    for name in (path / "zarr.json", f"{path}/", path.as_uri(), f"{path.as_uri()}/zarr.json"):
        np.testing.assert_array_equal(read(name)[..., 0], GREY)


def test_regions_read_only_their_chunks(tmp_path: Path) -> None:
    path = write_zarr(tmp_path / "a.zarr", GREY, zarr_format=2)
    for damaged in ("0.0", "0.3", "2.1"):
        (path / damaged).write_bytes(b"damaged")
    with open_source(str(path), window="full", region=(64, 64, 100, 64)) as source:
        np.testing.assert_array_equal(read_checked(source)[..., 0], GREY[64:128, 64:164])


def test_groups_plates_and_other_folders_are_refused_with_the_way_out(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    with pytest.raises(SourceError, match="a group without an image; name an array in it"):
        read(tmp_path / "a.zarr")
    write_zarr(tmp_path / "a.zarr/raw", GREY)
    write_zarr(tmp_path / "a.zarr/x", GREY[0])
    np.testing.assert_array_equal(read(tmp_path / "a.zarr")[..., 0], GREY)
    write_zarr(tmp_path / "a.zarr/mask", GREY)
    with pytest.raises(SourceError, match=r"name one of .*a\.zarr/mask, .*a\.zarr/raw"):
        read(tmp_path / "a.zarr")
    wells = [{"path": f"{row}/{col}"} for row in "AB" for col in range(1, 5)]
    group.attrs["ome"] = {"version": "0.5", "plate": {"wells": wells}}
    with pytest.raises(SourceError, match=r"a plate of 8 wells.*a\.zarr/A/1/0 .*A/1, A/2"):
        read(tmp_path / "a.zarr")
    group.attrs["ome"] = {"version": "0.5", "well": {"images": [{"path": "0"}, {"path": "1"}]}}
    with pytest.raises(SourceError, match=r"a well of 2 fields.*such as .*a\.zarr/0"):
        read(tmp_path / "a.zarr")
    with pytest.raises(SourceNotFoundError):
        read(tmp_path / "none.zarr")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/attributes.json").write_text('{"name": "of another program"}')
    with pytest.raises(SourceError, match="is a directory"):
        read(tmp_path / "other")


@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
def test_what_gdal_writes(tmp_path: Path) -> None:
    rasterio = pytest.importorskip("rasterio")
    with rasterio.Env() as environment:
        if "Zarr" not in environment.drivers():
            pytest.skip("this GDAL has no Zarr")
    path = tmp_path / "a.zarr"
    size = {"width": 333, "height": 205, "count": 3, "dtype": "uint8"}
    with rasterio.open(path, "w", driver="Zarr", COMPRESS="GZIP", **size) as target:
        target.write(np.moveaxis(RGB, -1, 0))
    np.testing.assert_array_equal(read(f"{path}#axes=cyx"), RGB)


def test_without_imagecodecs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zstd = write_zarr(tmp_path / "a.zarr", GREY, compressors=ZstdCodec())
    gzip = write_zarr(tmp_path / "b.zarr", GREY, compressors=GzipCodec())
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    with pytest.raises(SourceError, match=r"packed by zstd; pip install 'fasttile\[zarr\]'"):
        read(zstd)
    np.testing.assert_array_equal(read(gzip)[..., 0], GREY)
