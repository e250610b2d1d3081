"""The kernels of run lengths beside their slow twins: good rows, and all kinds of broken ones."""

from __future__ import annotations

import random

import numpy as np
import pytest

from fasttile import _runs
from support.hdr_files import pack_scanline
from support.psd_files import pack_bits

ROUNDS = 4000


def unpack_row(data: bytes, size: int) -> bytes | None:
    """A row of PackBits; None if the data have not its exact length."""
    out, at = b"", 0
    while len(out) < size:
        if at >= len(data):
            return None
        code = data[at]
        at += 1
        if code < 128:
            piece = data[at : at + code + 1]
            if len(piece) <= code:
                return None
            out += piece
            at += code + 1
        elif code > 128:
            if at >= len(data):
                return None
            out += data[at : at + 1] * (257 - code)
            at += 1
        if len(out) > size:
            return None
    return out if len(data) - at <= 1 else None


def unpack_scanline(data: bytes, width: int) -> tuple[bytes, int] | None:
    """The pixels of a scanline of RGBE and the bytes that it took; None if it is broken."""
    if len(data) < 4:
        return None
    if 8 <= width < 32768 and data[:2] == b"\2\2" and data[2] < 128:
        if int.from_bytes(data[2:4]) != width:
            return None
        at, bands = 4, []
        for _ in range(4):
            band = b""
            while len(band) < width:
                if at >= len(data):
                    return None
                code, at = data[at], at + 1
                piece = data[at : at + (1 if code > 128 else code)]
                if not piece or len(piece) < (1 if code > 128 else code):
                    return None
                at += len(piece)
                band += piece * (code - 128 if code > 128 else 1)
            if len(band) > width:
                return None
            bands.append(band)
        return bytes(value for pixel in zip(*bands, strict=True) for value in pixel), at
    out, at, shift = b"", 0, 0
    while len(out) < 4 * width:
        pixel = data[at : at + 4]
        if len(pixel) < 4:
            return None
        at += 4
        if pixel[:3] == b"\1\1\1":
            if not out or shift > 16:
                return None
            out += out[-4:] * (pixel[3] << shift)
            shift += 8
            if len(out) > 4 * width:
                return None
        else:
            out, shift = out + pixel, 0
    return out, at


def exact(data: bytes) -> np.ndarray:
    """The bytes in memory of their own, of exactly their length."""
    return np.frombuffer(data, np.uint8).copy()


def random_data(choice: random.Random, good: bytes) -> bytes:
    """Good data, or data with a few changes, or noise of few values."""
    kind = choice.randrange(4)
    if kind == 0:
        return good
    if kind == 1:
        return bytes(choice.choice([0, 1, 2, 3, 127, 128, 129, 200, 255]) for _ in range(len(good)))
    data = bytearray(good)
    for _ in range(choice.choice([1, 1, 3])):
        at = choice.randrange(len(data))
        if kind == 2:
            data[at] = choice.randrange(256)
        else:
            del data[at : at + choice.choice([1, 4])]
        if not data:
            return b"\0"
    return bytes(data)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_packbits_is_that_of_its_twin(seed: int) -> None:
    choice = random.Random(seed)
    results = set()
    for _ in range(ROUNDS):
        size, rows = choice.randrange(1, 200), choice.randrange(1, 4)
        values = [choice.choice([0, 5, 5, 5, choice.randrange(256)]) for _ in range(size * rows)]
        stored = [bytes(values[row * size :][:size]) for row in range(rows)]
        packed = [random_data(choice, pack_bits(row)) for row in stored]
        offsets = np.cumsum([0, *map(len, packed)]).astype(np.int64)
        out = np.zeros((rows, size), np.uint8)
        found = _runs.unpack_packbits(exact(b"".join(packed)), offsets, out)
        expected = [unpack_row(data, size) for data in packed]
        good = expected.index(None) if None in expected else rows
        assert found == good
        assert [row.tobytes() for row in out[:good]] == expected[:good]
        results.add(good == rows)
    assert results == {True, False}


@pytest.mark.parametrize("offsets", [[0, 3, 2], [0, 2, 9], [-1, 2, 4], [3, 2, 4]])
def test_offsets_beyond_the_data_are_not_followed(offsets: list[int]) -> None:
    out = np.zeros((2, 2), np.uint8)
    found = _runs.unpack_packbits(exact(b"\xff\5\xff\6"), np.array(offsets, np.int64), out)
    assert found <= 1


@pytest.mark.parametrize("form", ["new", "old"])
def test_rgbe_is_that_of_its_twin(form: str) -> None:
    choice = random.Random(form)
    results = set()
    for _ in range(ROUNDS):
        width = choice.choice([1, 2, 7, 8, 9, 40, 200])
        values = [choice.choice([0, 1, 9, 9, choice.randrange(256)]) for _ in range(4 * width)]
        pixels = np.array(values, np.uint8).reshape(width, 4)
        good = pack_scanline(pixels) if form == "new" else pixels.tobytes() + b"\1\1\1\2" * 2
        data = random_data(choice, good)
        out = np.zeros((1, width, 4), np.uint8)
        rows, used = _runs.unpack_rgbe(exact(data), out)
        expected = unpack_scanline(data, width)
        assert rows == (expected is not None)
        if expected is not None:
            assert (out.tobytes(), used) == expected
        results.add(rows)
    assert results == {0, 1}


def test_scanlines_follow_each_other() -> None:
    pixels = np.random.default_rng(1).integers(0, 3, (5, 40, 4), np.uint8)
    data = b"".join(map(pack_scanline, pixels))
    out = np.zeros_like(pixels)
    assert _runs.unpack_rgbe(exact(data + b"more"), out) == (5, len(data))
    np.testing.assert_array_equal(out, pixels)
