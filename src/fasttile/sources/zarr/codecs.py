"""Decoders of the bytes of a chunk. Each has a limit, so that data cannot ask for more memory.

gzip, zlib, bz2 and lzma are Python's own; blosc, zstd and lz4 need imagecodecs. LZ4 of N5 is the
block stream of github.com/lz4/lz4-java, LZ4 of Zarr has its size in front, as numcodecs writes it.
"""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from fasttile.errors import SourceError
from fasttile.storage.budget import BUDGET
from fasttile.types import Pixels

INSTALL_HINT = "pip install 'fasttile[zarr]'"

ByteDecoder = Callable[[bytes, int], bytes]
"""Decodes bytes to at most a number of bytes; more are cut off, or an error of any class."""

_LIBRARY_CODECS = ("blosc", "lz4", "lz4block", "zstd")
_LZMA_MEMORY = 2**28  # bytes that a decoder may take
_CASTAGNOLI = 0x82F63B78  # RFC 3720, reflected


class ChunkDecoder:
    """Decoder of chunks that went through some codecs.

    Args:
        codecs: Their names, in the order in which they were encoded.
        name: Name of the array in messages.

    Raises:
        SourceError: A codec needs imagecodecs, which is not installed.
    """

    def __init__(self, codecs: Sequence[str], name: str) -> None:
        self._decoders = [_byte_decoder(codec, name) for codec in reversed(codecs)]

    def decode(self, data: bytes, size: int) -> bytes:
        """The bytes of a chunk. Any exception may be raised.

        Args:
            data: The encoded bytes.
            size: Bytes of a chunk as the header says.

        Raises:
            ValueError: It has another number of bytes.
        """
        for index, decoder in enumerate(self._decoders):
            is_last = index == len(self._decoders) - 1
            data = decoder(data, size if is_last else BUDGET.piece_bytes)
        if len(data) != size:
            few = "more" if len(data) > size else f"{len(data):,}"
            raise ValueError(f"it has {few} bytes instead of {size:,}")
        return data


def _byte_decoder(codec: str, name: str) -> ByteDecoder:
    plain: dict[str, ByteDecoder] = {
        "gzip": lambda data, size: _inflate(data, size, 31),
        "zlib": lambda data, size: _inflate(data, size, 15),
        "bz2": lambda data, size: _decompress(bz2.BZ2Decompressor(), data, size),
        "lzma": lambda data, size: _decompress(
            lzma.LZMADecompressor(memlimit=_LZMA_MEMORY), data, size
        ),
        "crc32c": _checked,
    }
    if codec not in _LIBRARY_CODECS:
        return plain[codec]
    from fasttile.sources.tiff.codecs import load_codec

    decode = load_codec("lz4" if codec == "lz4block" else codec)
    if decode is None:
        raise SourceError(f"{name}: its chunks are packed by {codec}; {INSTALL_HINT}")
    if codec == "lz4block":
        return lambda data, size: _decode_lz4_blocks(data, size, decode)
    if codec == "lz4":
        return lambda data, size: _decode_lz4(data, size, decode)
    if codec == "blosc":
        return lambda data, size: _decode_blosc(data, size, decode)
    return lambda data, size: decode(data, out=size)


def _inflate(data: bytes, size: int, window_bits: int) -> bytes:
    """Inflate one stream, or several of gzip one behind the other."""
    out = b""
    while data and len(out) <= size:
        stream = zlib.decompressobj(window_bits)
        part = stream.decompress(data, size + 1 - len(out))
        out = out + part if out else part
        if not stream.eof:
            if len(out) > size:
                break
            raise ValueError("its data end too early")
        data = stream.unused_data if window_bits == 31 else b""
    return out


def _decompress(
    stream: bz2.BZ2Decompressor | lzma.LZMADecompressor, data: bytes, size: int
) -> bytes:
    """Decompress one stream, whose checksum is behind its last byte."""
    out = stream.decompress(data, size + 1)
    if not stream.eof and len(out) <= size:
        raise ValueError("its data end too early")
    return out


def _checked(data: bytes, size: int) -> bytes:
    """Bytes without the CRC-32C behind them."""
    content, stored = data[:-4], data[-4:]
    if len(stored) < 4 or crc32c(content) != struct.unpack("<I", stored)[0]:
        raise ValueError("its checksum is wrong")
    return content


def _decode_blosc(data: bytes, size: int, decode: Callable[..., bytes]) -> bytes:
    """Decode Blosc, whose header has the decoded size at offset 4, its own at offset 12."""
    if len(data) < 16 or int.from_bytes(data[4:8], "little") > size:
        raise ValueError("its header of Blosc is wrong")
    if int.from_bytes(data[12:16], "little") > len(data):
        raise ValueError("its data end too early")
    return decode(data, out=size)


def _decode_lz4(data: bytes, size: int, decode: Callable[..., bytes]) -> bytes:
    if int.from_bytes(data[:4], "little") > size:
        raise ValueError("its header of LZ4 is wrong")
    return decode(data, header=True, out=size)


def _decode_lz4_blocks(data: bytes, size: int, decode: Callable[..., bytes]) -> bytes:
    out, place = bytearray(), 0
    while len(out) < size:
        magic, token, packed, unpacked, _ = struct.unpack_from("<8sBiiI", data, place)
        place += 21
        block = data[place : place + packed]
        is_valid = magic == b"LZ4Block" and 0 < unpacked <= size - len(out)
        if not is_valid or packed <= 0 or len(block) != packed:
            raise ValueError("a header of LZ4 is wrong")
        out += block if token & 0xF0 == 0x10 else decode(block, out=unpacked)
        place += packed
    return bytes(out)


def crc32c(data: bytes) -> int:
    """CRC-32C of bytes (RFC 3720).

    Lanes of equal length are calculated side by side, and then joined: a CRC is linear.

    Example:
        >>> hex(crc32c(b"123456789"))
        '0xe3069283'
    """
    table, state = _crc_table(), 0xFFFFFFFF
    lanes = int(len(data) ** 0.5)
    length = len(data) // lanes if lanes else 0
    first = len(data) - lanes * length
    for byte in data[:first]:
        state = int(table[(state ^ byte) & 255]) ^ (state >> 8)
    if lanes:
        columns = np.frombuffer(data, np.uint8, offset=first).reshape(lanes, length).T
        states = np.zeros(lanes, np.uint32)
        for column in columns:
            states = table[(states ^ column) & 255] ^ (states >> 8)
        shift = _zero_tables(length)
        for lane in states.tolist():
            bytes_of = state.to_bytes(4, "little")
            state = lane
            for index, byte in enumerate(bytes_of):
                state ^= int(shift[index, byte])
    return state ^ 0xFFFFFFFF


@cache
def _crc_table() -> Pixels:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(_CASTAGNOLI), table >> 1)
    return table


def _zero_tables(length: int) -> Any:
    """States after `length` zeros, for each byte of a state before them; shape (4, 256)."""
    table = _crc_table()
    shifts = np.arange(0, 32, 8, dtype=np.uint32)[:, None]
    states = np.arange(256, dtype=np.uint32)[None] << shifts
    for _ in range(length):
        states = table[states & 255] ^ (states >> 8)
    return states
