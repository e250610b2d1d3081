"""Profiles of three primaries with a curve each, as tables for a kernel: LittleCMS' own sums.

Nearly all RGB profiles are such ones. LittleCMS takes a value of each band through a curve, adds
up what they come to in red, green and blue of sRGB, and goes back through sRGB's curve, all with
14 bits behind the point (cmsopt.c, OptimizeMatrixShaper). It does so by way of functions that
serve any form of pixels; the kernel does the same for RGBX alone, and five times as fast.

Nothing here is taken on trust: `colour.converting` compares the outcome with LittleCMS'.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fasttile._colour import shape_colours

Floats = NDArray[np.float64]
ShaperTables = tuple[NDArray[np.int32], NDArray[np.uint8]]
"""For each band and value what it adds to red, green and blue, shape (3, 256, 4), the fourth being
unused; and which value each sum from 0 to 1 becomes."""

FIXED_POINT_ONE = 1 << 14

_SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
"""sRGB's curve: (a x + b)^g from d on, c x below: g, a, b, c, d."""


def shaper_tables(profile: bytes) -> ShaperTables:
    """The tables for an ICC profile.

    Raises:
        Exception: It is another kind of profile, or damaged.
    """
    from PIL import ImageCms

    (count,) = struct.unpack_from(">I", profile, 128)
    entries = struct.iter_unpack(">4sII", profile[132 : 132 + 12 * count])
    tags = {name: profile[offset : offset + size] for name, offset, size in entries}
    if profile[20:24] != b"XYZ " or any(name[1:3] == b"2B" for name in tags):
        raise ValueError("its colours are in a table, not a matrix")
    primaries = np.array(
        [_s15_fixed_16(tags[name][8:20]) for name in (b"rXYZ", b"gXYZ", b"bXYZ")]
    ).T
    srgb: Any = ImageCms.createProfile("sRGB")  # LittleCMS' own, with XYZ in columns
    colorants = [srgb.red_colorant[0], srgb.green_colorant[0], srgb.blue_colorant[0]]
    inverse = np.linalg.inv(np.array(colorants).T)
    matrix = np.floor(inverse @ primaries * FIXED_POINT_ONE + 0.5)
    shares = np.zeros((3, 256, 4))
    values = (np.arange(256, dtype=np.float32) / np.float32(255)).astype(np.float64)
    for band, name in enumerate((b"rTRC", b"gTRC", b"bTRC")):
        light = _linearized(tags[name], values).astype(np.float32).astype(np.float64)
        shares[band, :, :3] = np.floor(light * FIXED_POINT_ONE + 0.5)[:, None] * matrix[:, band]
    shares[0, :, :3] += FIXED_POINT_ONE / 2  # so that sums are rounded
    if not np.abs(shares).max(axis=1).sum(axis=0).max() < 2**31:
        raise ValueError("its sums do not fit into 32 bits")
    return shares.astype(np.int32), _srgb_values()


def apply_tables(pixels: NDArray[np.uint8], shaper: ShaperTables) -> None:
    """Convert packed pixels, shape (height, width, 4), in place; the fourth bytes stay."""
    shares, curve = shaper
    if pixels.shape[2] != 4 or shares.shape != (3, 256, 4) or curve.shape != (FIXED_POINT_ONE + 1,):
        raise ValueError(f"{pixels.shape} with tables {shares.shape}, {curve.shape} do not fit")
    if pixels.size:
        shape_colours(pixels, shares, curve)


def _s15_fixed_16(data: bytes) -> list[float]:
    """Numbers as s15Fixed16."""
    return [value / 65536 for (value,) in struct.iter_unpack(">i", data)]


def _linearized(tag: bytes, values: Floats) -> Floats:
    """Values from 0 to 1 as the light that they stand for."""
    if tag[:4] == b"para":
        (kind,) = struct.unpack_from(">H", tag, 8)
        gamma, *rest = _s15_fixed_16(tag[12 : 12 + 4 * {0: 1, 3: 5}[kind]])
        if kind == 0:
            return values**gamma
        a, b, c, d = rest
        return np.where(values >= d, np.maximum(a * values + b, 0) ** gamma, c * values)
    (count,) = struct.unpack_from(">I", tag, 8)
    if tag[:4] != b"curv" or count == 0:
        raise ValueError("no curve")
    points = np.frombuffer(tag, ">u2", count, 12).astype(np.int64)
    if count == 1:
        return values ** (float(points[0]) / 256)
    # Between two points of the table, in 16 bits.
    place = (count - 1) * np.floor(values * 65535 + 0.5).astype(np.int64)
    place += (place + 0x7FFF) // 0xFFFF
    below, rest_of = place >> 16, place & 0xFFFF
    low, high = points[below], points[np.minimum(below + 1, count - 1)]
    between: Floats = (low + (((high - low) * rest_of + 0x8000) >> 16)) / 65535
    return between


def _srgb_values() -> NDArray[np.uint8]:
    """The value of 0 to 255 for each light from 0 to 1."""
    light = (np.arange(FIXED_POINT_ONE + 1, dtype=np.float32) / np.float32(FIXED_POINT_ONE)).astype(
        np.float64
    )
    gamma, a, b, c, d = _SRGB_CURVE
    bent = (light ** (1 / gamma) - b) / a
    value = np.where(light >= (a * d + b) ** gamma, bent, light / c).astype(np.float32)
    words = np.floor(np.clip(value, 0, 1).astype(np.float64) * 65535 + 0.5).astype(np.int64)
    return ((words * 65281 + 0x800000) >> 24).astype(np.uint8)  # 16 bits to 8, as LittleCMS does
