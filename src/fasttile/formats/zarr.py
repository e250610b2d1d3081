"""Metadata of arrays in chunks: Zarr versions 2 and 3, and N5.

Sources: zarr-specs.readthedocs.io (Zarr core 2 and 3.1; codecs bytes, transpose, gzip, zstd, blosc,
crc32c, sharding_indexed) and github.com/saalfeldlab/n5. What a reader of pixels would have to
ignore is refused by name, since the pixels may depend on it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from fasttile.formats.documents import decode_document
from fasttile.storage.budget import BUDGET

Shape: TypeAlias = tuple[int, ...]

_MAX_AXES = 32
_MAX_SIDE = 2**62

# Codecs of bytes, under the names that the decoders have.
_V2_CODECS = ("blosc", "bz2", "gzip", "lz4", "lzma", "zlib", "zstd")
_V3_CODECS = {
    **{name: name for name in ("blosc", "crc32c", "gzip", "zstd")},
    **{f"numcodecs.{name}": name for name in _V2_CODECS},
}
_N5_CODECS = {
    "blosc": "blosc",
    "bzip2": "bz2",
    "gzip": "gzip",
    "lz4": "lz4block",
    "xz": "lzma",
    "zstandard": "zstd",
    "zstd": "zstd",
}
_TYPES = {
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64"),
}
_V3_MEMBERS = {
    *("zarr_format", "node_type", "shape", "data_type", "chunk_grid", "chunk_key_encoding"),
    *("fill_value", "codecs", "attributes", "dimension_names", "storage_transformers"),
}


class Shards(NamedTuple):
    """How chunks are packed into files with an index each.

    Attributes:
        shape: Samples of a shard along each axis, a multiple of the chunk's.
        index_is_first: True if the index is at the beginning of the file, not at its end.
        index_order: Byte order of the numbers in the index, "<" or ">".
        index_has_checksum: True if four bytes of CRC-32C follow it.
    """

    shape: Shape
    index_is_first: bool
    index_order: str
    index_has_checksum: bool


@dataclass(frozen=True)
class ArrayHeader:
    """An array in chunks. The order of axes is that of NumPy, also of N5.

    Attributes:
        version: "Zarr 2", "Zarr 3" or "N5".
        shape: Samples along each axis.
        chunks: Samples of a chunk along each axis.
        dtype: Of the samples as they are stored, with the byte order.
        fill: The value of samples in missing chunks.
        order: The axes in the order in which a chunk stores them, the slowest first.
        codecs: The codecs of a chunk's bytes, in the order in which they were encoded.
        prefix, separator: A chunk's name: the prefix, and its numbers with separators.
        shards: Default: each chunk is a file.
        dimension_names: Names of the axes, None for those without one.
        attributes: Attributes of the user.
    """

    version: str
    shape: Shape
    chunks: Shape
    dtype: np.dtype[Any]
    fill: Any = 0
    order: tuple[int, ...] = ()
    codecs: tuple[str, ...] = ()
    prefix: str = ""
    separator: str = "/"
    shards: Shards | None = None
    dimension_names: tuple[str | None, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_n5(self) -> bool:
        """True if each chunk has a header."""
        return self.version == "N5"

    @property
    def chunk_bytes(self) -> int:
        """Bytes of a decoded chunk."""
        return math.prod(self.chunks) * self.dtype.itemsize

    def file_name(self, index: Sequence[int]) -> str:
        """Name of the file of a chunk or shard, below the folder of the array."""
        if not index:
            return "c" if self.version == "Zarr 3" and self.prefix else "0"
        numbers = reversed(index) if self.is_n5 else index
        return self.prefix + self.separator.join(map(str, numbers))


def parse_metadata(data: bytes) -> dict[str, Any]:
    """The object of a metadata file. It may have NaN and infinities, which xarray writes.

    Raises:
        ValueError: It is no JSON, or no object.
    """
    text = decode_document(data)
    if text.count("{") + text.count("[") + text.count(",") > BUDGET.descriptor_values:
        raise ValueError(f"it has more than {BUDGET.descriptor_values:,} values")
    try:
        value = json.loads(text, parse_constant=float)
    except RecursionError:
        raise ValueError("its values are nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("it is no object of JSON")
    return value


def parse_zarr2(members: Mapping[str, Any], attributes: Mapping[str, Any]) -> ArrayHeader:
    """The array of a .zarray.

    Args:
        members: The object in .zarray.
        attributes: That in .zattrs; xarray's `_ARRAY_DIMENSIONS` names the axes.

    Raises:
        ValueError: It is not valid, or has a filter or codec that is not supported.
    """
    if members.get("zarr_format") != 2:
        raise ValueError(f"zarr_format {members.get('zarr_format')!r}; expected 2")
    shape, chunks = _shapes(members.get("shape"), members.get("chunks"))
    dtype = _numpy_dtype(members.get("dtype"))
    if members.get("filters"):
        raise ValueError(f"it has the filters {_names(members['filters'])}, which are not read")
    compressor = members.get("compressor")
    codecs: tuple[str, ...] = ()
    if compressor is not None:
        name = compressor.get("id") if isinstance(compressor, dict) else compressor
        if name not in _V2_CODECS:
            raise ValueError(f"unknown compressor {name!r}; expected {', '.join(_V2_CODECS)}")
        codecs = (str(name),)
    order = members.get("order", "C")
    if order not in ("C", "F"):
        raise ValueError(f"order {order!r}; expected 'C' or 'F'")
    axes = tuple(range(len(shape)))
    names = attributes.get("_ARRAY_DIMENSIONS")
    return ArrayHeader(
        "Zarr 2",
        shape,
        chunks,
        dtype,
        _fill_value(members.get("fill_value"), dtype),
        axes if order == "C" else axes[::-1],
        codecs,
        separator=_separator(members.get("dimension_separator", ".")),
        dimension_names=_dimension_names(names, len(shape)),
        attributes=attributes,
    )


def parse_zarr3(members: Mapping[str, Any]) -> ArrayHeader:
    """The array of a zarr.json.

    Raises:
        ValueError: It is not valid, or has an extension or codec that is not supported.
    """
    for name in members.keys() - _V3_MEMBERS:
        member = members[name]
        if not (isinstance(member, dict) and member.get("must_understand") is False):
            raise ValueError(f"it has the unknown member {name!r}")
    if members.get("storage_transformers"):
        raise ValueError("it has storage_transformers, which are not read")
    grid, configuration = _extension(members.get("chunk_grid"), "chunk_grid")
    if grid != "regular":
        raise ValueError(f"unknown chunk_grid {grid!r}; expected 'regular'")
    shape, chunks = _shapes(members.get("shape"), configuration.get("chunk_shape"))
    data_type = members.get("data_type")
    if not isinstance(data_type, str) or data_type not in _TYPES:
        raise ValueError(f"data_type {data_type!r} is not that of an image")
    dtype = np.dtype(data_type)
    names = members.get("dimension_names")
    attributes = members.get("attributes", {})
    prefix, separator = _key_encoding(members.get("chunk_key_encoding"))
    chain = _ChunkCodecs.parse(members.get("codecs"), chunks, dtype)
    return ArrayHeader(
        "Zarr 3",
        shape,
        chain.chunks,
        chain.dtype,
        _fill_value(members.get("fill_value"), dtype),
        chain.order,
        chain.codecs,
        prefix,
        separator,
        chain.shards,
        _dimension_names(names, len(shape)),
        attributes if isinstance(attributes, dict) else {},
    )


def parse_n5(members: Mapping[str, Any]) -> ArrayHeader:
    """The array of an attributes.json; the order of its axes is reversed.

    Raises:
        ValueError: It is not valid, or its compression is not supported.
    """
    shape, chunks = _shapes(members.get("dimensions"), members.get("blockSize"))
    data_type = members.get("dataType")
    if not isinstance(data_type, str) or data_type not in _TYPES - {"bool", "float16"}:
        raise ValueError(f"dataType {data_type!r} is not that of an image")
    compression = members.get("compression", members.get("compressionType", "raw"))
    name, is_zlib = compression, False
    if isinstance(compression, dict):
        name, is_zlib = compression.get("type"), compression.get("useZlib") is True
    if not isinstance(name, str) or (name != "raw" and name not in _N5_CODECS):
        raise ValueError(f"unknown compression {name!r}; expected raw, {', '.join(_N5_CODECS)}")
    codecs = () if name == "raw" else ("zlib" if is_zlib else _N5_CODECS[name],)
    return ArrayHeader(
        "N5",
        shape[::-1],
        chunks[::-1],
        np.dtype(data_type).newbyteorder(">"),
        order=tuple(range(len(shape))),
        codecs=codecs,
        dimension_names=(None,) * len(shape),
        attributes=members,
    )


class _ChunkCodecs(NamedTuple):
    """What the list of codecs of a zarr.json says about a chunk."""

    chunks: Shape
    dtype: np.dtype[Any]
    order: tuple[int, ...]
    codecs: tuple[str, ...]
    shards: Shards | None = None

    @classmethod
    def parse(cls, value: Any, chunks: Shape, dtype: np.dtype[Any]) -> _ChunkCodecs:
        """Parse a list: transpose, then bytes or shards, then codecs of bytes."""
        listed = [_extension(one, "codecs") for one in _list(value, "codecs")]
        order = tuple(range(len(chunks)))
        while listed and listed[0][0] == "transpose":
            order = _transposed(order, listed.pop(0)[1].get("order"))
        if not listed:
            raise ValueError("codecs without bytes or sharding_indexed")
        name, configuration = listed.pop(0)
        if name == "sharding_indexed":
            if order != tuple(range(len(chunks))) or listed:
                raise ValueError("sharding_indexed with further codecs around it is not read")
            return cls._parse_shards(configuration, chunks, dtype)
        if name != "bytes":
            raise ValueError(f"unknown codec {name!r}; expected bytes or sharding_indexed")
        codecs = []
        for codec, _ in listed:
            if codec not in _V3_CODECS:
                raise ValueError(f"unknown codec {codec!r}; expected {', '.join(_V3_CODECS)}")
            codecs.append(_V3_CODECS[codec])
        stored = dtype
        if dtype.itemsize > 1:
            stored = np.dtype(f"{_byte_order(configuration.get('endian'))}{dtype.str[1:]}")
        return cls(chunks, stored, order, tuple(codecs))

    @classmethod
    def _parse_shards(
        cls, configuration: Mapping[str, Any], shape: Shape, dtype: np.dtype[Any]
    ) -> _ChunkCodecs:
        _, chunks = _shapes(list(shape), configuration.get("chunk_shape"))
        if any(outer % inner for outer, inner in zip(shape, chunks, strict=True)):
            raise ValueError(f"shards of {list(shape)} are no multiple of chunks of {list(chunks)}")
        location = configuration.get("index_location", "end")
        if location not in ("start", "end"):
            raise ValueError(f"index_location {location!r}; expected 'start' or 'end'")
        index_codecs = configuration.get("index_codecs")
        index = [_extension(one, "index_codecs") for one in _list(index_codecs, "index_codecs")]
        names = [name for name, _ in index]
        if names not in (["bytes"], ["bytes", "crc32c"]):
            raise ValueError(f"index_codecs {', '.join(names)}; expected bytes, crc32c")
        inner = cls.parse(configuration.get("codecs"), chunks, dtype)
        if inner.shards is not None:
            raise ValueError("shards within shards are not read")
        shards = Shards(
            shape, location == "start", _byte_order(index[0][1].get("endian")), len(names) == 2
        )
        return inner._replace(shards=shards)


def _shapes(shape: Any, chunks: Any) -> tuple[Shape, Shape]:
    """The shapes of an array and of its chunks."""
    for name, sides, least in (("shape", shape, 0), ("chunk shape", chunks, 1)):
        valid = isinstance(sides, list) and all(
            type(side) is int and least <= side <= _MAX_SIDE for side in sides
        )
        if not valid or len(sides) > _MAX_AXES:
            raise ValueError(f"{name} {sides!r:.100}; expected a list of numbers of samples")
    if len(shape) != len(chunks):
        raise ValueError(f"shape {shape} has {len(shape)} axes, its chunks have {len(chunks)}")
    return tuple(shape), tuple(chunks)


def _numpy_dtype(text: Any) -> np.dtype[Any]:
    """The dtype of a .zarray: numbers or bool."""
    try:
        dtype = np.dtype(text) if isinstance(text, str) else None
    except (TypeError, ValueError):
        dtype = None
    if dtype is None or dtype.newbyteorder("=").name not in _TYPES:
        raise ValueError(f"dtype {text!r:.100} is not that of an image")
    return dtype


def _fill_value(value: Any, dtype: np.dtype[Any]) -> Any:
    """The value of missing samples, in the native byte order."""
    native = dtype.newbyteorder("=")
    number: Any = value
    if value is None:
        number = 0
    elif isinstance(value, str) and native.kind == "f":
        names = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
        if value in names:
            number = names[value]
        elif value.startswith("0x"):
            bits = bytes.fromhex(value[2:])
            if len(bits) == native.itemsize:
                return np.frombuffer(bits, native.newbyteorder(">"))[0].astype(native)
    if not isinstance(number, bool | int | float):
        raise ValueError(f"fill_value {value!r:.100} is not of dtype {native}")
    if native.kind in "ui":
        limits = np.iinfo(native)
        if (
            not math.isfinite(number)
            or int(number) != number
            or not limits.min <= number <= limits.max
        ):
            raise ValueError(f"fill_value {value!r:.100} is not of dtype {native}")
        number = int(number)
    with np.errstate(over="ignore"):
        return np.array(number).astype(native)[()]


def _dimension_names(names: Any, count: int) -> tuple[str | None, ...]:
    """Names of the axes; without any all are None."""
    if not isinstance(names, list) or len(names) != count:
        return (None,) * count
    return tuple(name if isinstance(name, str) else None for name in names)


def _separator(value: Any) -> str:
    if value not in (".", "/"):
        raise ValueError(f"separator {value!r}; expected '.' or '/'")
    return str(value)


def _key_encoding(value: Any) -> tuple[str, str]:
    """Prefix and separator of the names of chunks in Zarr 3."""
    name, configuration = _extension(value, "chunk_key_encoding")
    if name == "default":
        separator = _separator(configuration.get("separator", "/"))
        return f"c{separator}", separator
    if name == "v2":
        return "", _separator(configuration.get("separator", "."))
    raise ValueError(f"unknown chunk_key_encoding {name!r}; expected 'default' or 'v2'")


def _extension(value: Any, member: str) -> tuple[str, Mapping[str, Any]]:
    """Name and configuration of an extension point, which may be its name alone."""
    if isinstance(value, str):
        return value, {}
    name = value.get("name") if isinstance(value, dict) else None
    configuration = value.get("configuration") or {} if isinstance(value, dict) else {}
    if not isinstance(name, str) or not isinstance(configuration, dict):
        raise ValueError(f"{member}: {value!r:.100} has no name")
    return name, configuration


def _transposed(order: tuple[int, ...], value: Any) -> tuple[int, ...]:
    """The axes after a further codec `transpose`."""
    if value in ("C", "F"):
        return order if value == "C" else order[::-1]
    if not isinstance(value, list) or sorted(value, key=str) != sorted(order, key=str):
        raise ValueError(f"transpose by {value!r:.100}; expected each axis once")
    return tuple(order[axis] for axis in value)


def _byte_order(endian: Any) -> str:
    if endian not in ("little", "big"):
        raise ValueError(f"endian {endian!r}; expected 'little' or 'big'")
    return "<" if endian == "little" else ">"


def _list(value: Any, member: str) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{member} {value!r:.100}; expected a list")
    return value


def _names(filters: Any) -> str:
    """Names of filters, for a message."""
    listed = filters if isinstance(filters, list) else [filters]
    return ", ".join(str(one.get("id") if isinstance(one, dict) else one) for one in listed)[:100]
