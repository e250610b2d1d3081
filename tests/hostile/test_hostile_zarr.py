"""Zarr and N5 of strangers: metadata that lie, paths that lead elsewhere, damaged chunks."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import random
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import imagecodecs
import numcodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fasttile.errors import SourceError
from fasttile.formats.zarr import parse_metadata, parse_n5, parse_zarr2, parse_zarr3
from fasttile.options.read import ReadOptions
from fasttile.sources import open_source
from fasttile.sources.zarr.codecs import crc32c
from support.reading import Array, noise, smooth_pixels
from support.zarr_files import write_n5_block, write_ome, write_plain, write_zarr

GREY = noise(100, 130)


def read(path: object, **options: Any) -> Array:
    with open_source(str(path), window="full", read_options=ReadOptions(**options)) as source:
        return source.rows(0, source.height).copy()


V2 = {
    "zarr_format": 2,
    "shape": [10, 10],
    "chunks": [5, 5],
    "dtype": "<u2",
    "compressor": None,
    "fill_value": 0,
    "filters": None,
    "order": "C",
}
V3 = {
    "zarr_format": 3,
    "node_type": "array",
    "shape": [10, 10],
    "data_type": "uint16",
    "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [5, 5]}},
    "chunk_key_encoding": {"name": "default"},
    "fill_value": 0,
    "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
}
N5 = {"dimensions": [10, 10], "blockSize": [5, 5], "dataType": "uint16", "compression": "raw"}
SHARDING = {
    "chunk_shape": [5, 5],
    "codecs": V3["codecs"],
    "index_codecs": V3["codecs"],
}


def sharded(**changes: Any) -> dict[str, Any]:
    return {"codecs": [{"name": "sharding_indexed", "configuration": {**SHARDING, **changes}}]}


WRONG_V2: list[tuple[dict[str, Any], str]] = [
    ({"zarr_format": 1}, "zarr_format 1"),
    ({"shape": [10, -1]}, "shape"),
    ({"shape": [10, 2**63]}, "shape"),
    ({"shape": [10, True]}, "shape"),
    ({"shape": "10"}, "shape"),
    ({"shape": [10] * 33, "chunks": [5] * 33}, "shape"),
    ({"chunks": [5]}, "2 axes, its chunks have 1"),
    ({"chunks": [5, 0]}, "chunk shape"),
    ({"dtype": "|O"}, "dtype '.O'"),
    ({"dtype": "<c8"}, "dtype"),
    ({"dtype": "<M8[ns]"}, "dtype"),
    ({"dtype": [["a", "<u2"]]}, "dtype"),
    ({"compressor": {"id": "pickle"}}, "compressor 'pickle'"),
    ({"filters": [{"id": "delta", "dtype": "<u2"}]}, "filters delta"),
    ({"order": "X"}, "order 'X'"),
    ({"fill_value": -1}, "fill_value -1"),
    ({"fill_value": 1.5}, "fill_value 1.5"),
    ({"fill_value": 1e400}, "fill_value"),
    ({"fill_value": [0]}, "fill_value"),
    ({"dimension_separator": "../"}, "separator"),
]
WRONG_V3: list[tuple[dict[str, Any], str]] = [
    ({"chunk_grid": {"name": "rectilinear"}}, "chunk_grid 'rectilinear'"),
    ({"chunk_key_encoding": {"name": "flat"}}, "chunk_key_encoding 'flat'"),
    ({"chunk_key_encoding": {"name": "v2", "configuration": {"separator": "/../"}}}, "separator"),
    ({"data_type": "bfloat16"}, "data_type 'bfloat16'"),
    ({"data_type": {"name": "struct"}}, "data_type"),
    ({"codecs": []}, "codecs without bytes"),
    ({"codecs": "bytes"}, "codecs 'bytes'"),
    ({"codecs": [{"name": "bytes"}]}, "endian None"),
    ({"codecs": [{"name": "vlen-utf8"}]}, "codec 'vlen-utf8'"),
    ({"codecs": [*V3["codecs"], {"name": "rot13"}]}, "codec 'rot13'"),  # type: ignore[misc]
    ({"codecs": [{"name": "transpose", "configuration": {"order": [0, 0]}}]}, "transpose"),
    ({"storage_transformers": [{"name": "x"}]}, "storage_transformers"),
    ({"secret": {"name": "x"}}, "unknown member 'secret'"),
    (sharded(chunk_shape=[3, 5]), "no multiple"),
    (sharded(chunk_shape=[5]), "2 axes"),
    (sharded(index_location="middle"), "index_location"),
    (sharded(index_codecs=[{"name": "gzip"}]), "index_codecs gzip"),
    (sharded(codecs=sharded()["codecs"]), "shards within shards"),
    ({"fill_value": "NaN"}, "fill_value 'NaN'"),
]
WRONG_N5: list[tuple[dict[str, Any], str]] = [
    ({"dataType": "object"}, "dataType"),
    ({"compression": {"type": "jpeg"}}, "compression 'jpeg'"),
    ({"compression": {"type": ["gzip"]}}, "compression"),
    ({"blockSize": [5, "5"]}, "chunk shape"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG_V2)
def test_wrong_metadata_of_zarr_2(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    (tmp_path / ".zarray").write_text(json.dumps({**V2, **changes}))
    with pytest.raises(SourceError, match=message):
        read(tmp_path)


@pytest.mark.parametrize(("changes", "message"), WRONG_V3)
def test_wrong_metadata_of_zarr_3(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    (tmp_path / "zarr.json").write_text(json.dumps({**V3, **changes}))
    with pytest.raises(SourceError, match=message):
        read(tmp_path)


@pytest.mark.parametrize(("changes", "message"), WRONG_N5)
def test_wrong_metadata_of_n5(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    (tmp_path / "attributes.json").write_text(json.dumps({**N5, **changes}))
    with pytest.raises(SourceError, match=message):
        read(tmp_path)


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "{", "\xff", "[" * 100_000, '{"zarr_format": ' + "9" * 5000 + "}"]
)
@pytest.mark.parametrize("name", ["zarr.json", ".zarray"])
def test_metadata_that_are_no_object(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, "latin-1")
    with pytest.raises(SourceError, match=name):
        read(tmp_path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@settings(max_examples=100)
@given(st.sampled_from([V2, V3, N5]), st.data())
def test_parsers_raise_nothing_but_value_errors(base: dict[str, Any], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(base)))
    members = {**base, name: data.draw(JSON)}
    parsed = parse_metadata(json.dumps(members).encode())
    try:
        if base is V2:
            parse_zarr2(parsed, {})
        else:
            (parse_n5 if base is N5 else parse_zarr3)(parsed)
    except (ValueError, TypeError, LookupError, AttributeError):
        pass  # `groups._checked` names them


def test_a_huge_image_without_chunks(tmp_path: Path) -> None:
    (tmp_path / ".zarray").write_text(json.dumps({**V2, "shape": [2**40, 2**40]}))
    with pytest.raises(SourceError, match="more than its size makes likely"):
        read(tmp_path)
    wide = {**V2, "shape": [64, 2**40], "chunks": [64, 64]}
    (tmp_path / ".zarray").write_text(json.dumps(wide))
    with pytest.raises(SourceError, match="a line of its chunks has"):
        read(tmp_path, max_pixels=2**60)
    (tmp_path / ".zarray").write_text(json.dumps({**V2, "shape": [0, 10]}))
    with pytest.raises(SourceError, match="no pixels"):
        read(tmp_path)


def test_a_large_image_is_likely_if_some_of_its_chunks_are_there(tmp_path: Path) -> None:
    path = write_plain(tmp_path / "a", noise(256, 256), (256, 256))
    header = json.loads((path / ".zarray").read_text())
    (path / ".zarray").write_text(json.dumps({**header, "shape": [40_000, 40_000]}))
    with open_source(str(path), window="full") as source:
        assert (source.width, source.rows(0, 1).shape) == (40_000, (1, 40_000, 1))


def test_large_chunks_and_shards(tmp_path: Path) -> None:
    (tmp_path / ".zarray").write_text(json.dumps({**V2, "chunks": [2**20, 2**20]}))
    with pytest.raises(SourceError, match="its chunks have 2,199,023,255,552 bytes"):
        read(tmp_path)
    grid = {"name": "regular", "configuration": {"chunk_shape": [5 * 2**20] * 2}}
    (tmp_path / "zarr.json").write_text(json.dumps({**V3, "chunk_grid": grid, **sharded()}))
    with pytest.raises(SourceError, match="its shards have 1,099,511,627,776 chunks"):
        read(tmp_path)


def test_large_chunks_are_decoded_by_few_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fasttile.sources.zarr.chunks.cpu_count", lambda: 8)
    header = {**V2, "dtype": "|u1", "chunks": [2**14, 2**14]}
    (tmp_path / ".zarray").write_text(json.dumps(header))
    with open_source(str(tmp_path)) as source:
        assert source.memory_bytes < 2 * 3 * 2**28 + 2**20
    (tmp_path / ".zarray").write_text(json.dumps({**header, "chunks": [2**10, 2**10]}))
    with open_source(str(tmp_path)) as source:
        assert source.memory_bytes > 8 * 3 * 2**20


BOMB = bytes(10**8)


@pytest.mark.parametrize(
    ("compressor", "data"),
    [
        ("gzip", gzip.compress(BOMB, 1)),
        ("zlib", zlib.compress(BOMB, 1)),
        ("bz2", bz2.compress(BOMB)),
        ("lzma", lzma.compress(BOMB, preset=0)),
        ("zstd", imagecodecs.zstd_encode(BOMB)),
        ("lz4", imagecodecs.lz4_encode(BOMB, header=True)),
        ("blosc", imagecodecs.blosc_encode(BOMB)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_chunks_that_inflate_to_more_than_a_chunk(
    tmp_path: Path, compressor: str, data: bytes
) -> None:
    path = write_plain(tmp_path / "a", GREY, (64, 64), compressor={"id": compressor})
    (path / "0.0").write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(SourceError, match=r"chunk 0\.0 is damaged|more than 70,144"):
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("compressor", [None, "gzip", "zlib", "bz2", "lzma", "zstd", "blosc"])
def test_truncated_chunks_are_named_and_filled_on_request(
    tmp_path: Path, compressor: str | None
) -> None:
    codec = compressor and numcodecs.get_codec({"id": compressor})
    path = write_zarr(tmp_path / "a.zarr", GREY, zarr_format=2, compressors=codec, fill_value=9)
    complete = (path / "1.1").read_bytes()
    for size in (0, 1, len(complete) // 2, len(complete) - 1):
        (path / "1.1").write_bytes(complete[:size])
        with pytest.raises(SourceError, match=r"a\.zarr: chunk 1\.1 is damaged: "):
            read(path)
    expected = GREY.copy()
    expected[64:, 64:128] = 9
    with open_source(str(path), read_options=ReadOptions(allow_truncated=True)) as source:
        np.testing.assert_array_equal(source.rows(0, 100)[..., 0], expected)
        (note,) = source.metadata.warnings
    assert note.startswith("damaged chunks (1.1: ")
    assert note.endswith(" have the fill value 9")


CHECKED_CODECS = {"gzip", "zlib", "bz2", "lzma"}
"""Those with a checksum: a changed bit is seen."""


@pytest.mark.parametrize("compressor", [*sorted(CHECKED_CODECS), "lz4", "zstd", "blosc"])
def test_random_damage_of_chunks(tmp_path: Path, compressor: str) -> None:
    grey = smooth_pixels(64, 64, 1)[..., 0]
    codec = numcodecs.get_codec({"id": compressor})
    path = write_zarr(tmp_path / "a.zarr", grey, zarr_format=2, compressors=codec)
    original, chance = (path / "0.0").read_bytes(), random.Random(5)
    for _ in range(60):
        data = bytearray(original)
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        (path / "0.0").write_bytes(data[: chance.choice([len(data), chance.randrange(len(data))])])
        try:
            found = read(path)
        except SourceError:
            continue
        assert compressor not in CHECKED_CODECS or (found[..., 0] == grey).all()


def test_damaged_shards(tmp_path: Path) -> None:
    path = write_zarr(tmp_path / "a.zarr", GREY, chunks=(32, 32), shards=(128, 160))
    shard = path / "c/0/0"
    complete = shard.read_bytes()
    index = len(complete) - 4 * 5 * 16 - 4
    broken = bytearray(complete)
    broken[index] ^= 1
    far = np.frombuffer(complete[index:-4], "<u8").copy()
    far[0] = len(complete)
    moved = complete[:index] + far.tobytes()
    for data, message in (
        (bytes(broken), "the checksum of its index is wrong"),
        (complete[:50], r"324 bytes at -274 of 50"),
        (moved + crc32c(far.tobytes()).to_bytes(4, "little"), "bytes at"),
    ):
        shard.write_bytes(data)
        with pytest.raises(SourceError, match=f"is damaged: shard c/0/0: .*{message}|{message}"):
            read(path)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"", "is damaged"),
        (b"\0\2\0\2" + bytes(8), "mode 2"),
        (b"\0\0\0\3" + bytes(12), "3 axes"),
        (b"\0\0\0\2" + b"\xff" * 8, "size"),
        (b"\0\0\0\2\0\0\0\1\0\0\0\1\0", "size"),
    ],
)
def test_headers_of_n5_blocks(tmp_path: Path, header: bytes, message: str) -> None:
    attributes = {"dimensions": [8, 8], "blockSize": [4, 4], "dataType": "uint8"}
    for col, row in ((0, 0), (0, 1), (1, 0), (1, 1)):
        write_n5_block(tmp_path / f"{col}/{row}", np.zeros((4, 4), np.uint8))
    (tmp_path / "attributes.json").write_text(json.dumps({**attributes, "compression": "raw"}))
    assert not read(tmp_path).any()
    (tmp_path / "1/0").write_bytes(header)
    with pytest.raises(SourceError, match=f"chunk 1/0 is damaged: .*{message}|{message}"):
        read(tmp_path)


def test_links_that_lead_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(64 * 64))
    path = write_plain(tmp_path / "a", GREY, (64, 64))
    (path / "0.0").unlink()
    (path / "0.0").symlink_to(tmp_path / "secret")
    with pytest.raises(SourceError, match=r"0\.0 leads out of"):
        read(path)
    with pytest.raises(SourceError, match=r"0\.0 leads out of"):
        read(path, allow_truncated=True)
    path = write_plain(tmp_path / "b", GREY, (64, 64), dimension_separator="/")
    for name in path.glob("[0-9]*"):
        name.unlink()
    (tmp_path / "a/0").write_bytes(bytes(64 * 64))
    (path / "0").symlink_to(tmp_path / "a")
    with pytest.raises(SourceError, match="leads out of"):
        read(path)
    path = write_ome(tmp_path / "image.zarr", GREY, "yx")
    (path / "0").rename(tmp_path / "level")
    (path / "0").symlink_to(tmp_path / "level")
    with pytest.raises(SourceError, match=r"image\.zarr/0 leads out of"):
        read(path)
    path = write_zarr(tmp_path / "c", GREY, shards=(128, 192))
    (path / "c/0/0").rename(tmp_path / "shard")
    (path / "c/0/0").symlink_to(tmp_path / "shard")
    with pytest.raises(SourceError, match="leads out of"):
        read(path)


def test_a_pipe_in_place_of_a_chunk(tmp_path: Path) -> None:
    path = write_plain(tmp_path / "a", GREY, (64, 64))
    (path / "0.0").unlink()
    os.mkfifo(path / "0.0")
    with pytest.raises(SourceError, match="not a regular file"):
        read(path)


@pytest.mark.parametrize(
    "inner", ["../other", "/etc", "..", "", ".", "a/../../b", "C:\\x", "a\0b", None, 5, ["0"]]
)
def test_paths_of_levels_that_lead_out_of_the_group(tmp_path: Path, inner: object) -> None:
    path = write_ome(tmp_path / "a.zarr", GREY, "yx")
    write_plain(tmp_path / "other", GREY, (64, 64))
    members = json.loads((path / ".zattrs").read_text())
    members["multiscales"][0]["datasets"][0]["path"] = inner
    (path / ".zattrs").write_text(json.dumps(members))
    with pytest.raises(SourceError, match="expected one below its group"):
        read(path)


@pytest.mark.parametrize(
    "multiscales",
    [
        5,
        [],
        [5],
        [{}],
        [{"datasets": []}],
        [{"datasets": [5]}],
        [{"datasets": [{"path": "0"}], "axes": 5}],
        [{"datasets": [{"path": "0"}], "axes": ["x"]}],
        [{"datasets": [{"path": "0"}], "axes": [5, None]}],
        [{"datasets": [{"path": "0"}], "axes": ["q", "x"]}],
        [{"datasets": [{"path": "9"}], "axes": ["y", "x"]}],
        [{"datasets": [{"path": "0"}], "axes": ["z", "y", "x"]}],
    ],
)
def test_wrong_multiscales(tmp_path: Path, multiscales: object) -> None:
    path = write_ome(tmp_path / "a.zarr", GREY, "yx")
    (path / ".zattrs").write_text(json.dumps({"multiscales": multiscales}))
    with pytest.raises(SourceError):
        read(path)


def test_a_group_that_contains_itself(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/.zgroup").write_text('{"zarr_format": 2}')
    (tmp_path / "a/.zattrs").write_text('{"bioformats2raw.layout": 3}')
    (tmp_path / "a/0").symlink_to(tmp_path / "a")
    with pytest.raises(SourceError, match="a group, not an image"):
        read(tmp_path / "a")


@pytest.mark.parametrize("size", [0, 1, 2, 3, 100, 1000, 12_345])
def test_crc32c_is_that_of_another_library(size: int) -> None:
    google = pytest.importorskip("google_crc32c")  # comes with zarr
    data = noise(1, size).tobytes() if size else b""
    assert crc32c(data) == google.value(data)
