"""Profiles of three primaries with a curve each, as tables for a kernel: LittleCMS' own sums.

Nearly all RGB profiles are such ones. LittleCMS takes a value of each band through a curve, adds
up what they come to in red, green and blue of sRGB, and goes back through sRGB's curve, all with
14 bits behind the point (cmsopt.c, OptimizeMatrixShaper). It does so by way of functions that
serve any form of pixels; the kernel does the same for RGBX alone, and five times as fast.

Nothing here is taken on trust: `colour.converting` compares the outcome with LittleCMS'.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from fasttile._colour import shape_colours, shape_deep_colours

if TYPE_CHECKING:
    from numpy.typing import NDArray

Floats: TypeAlias = "NDArray[np.float64]"
ShaperTables: TypeAlias = "tuple[NDArray[np.int32], NDArray[np.uint8]]"
"""For each band and value what it adds to red, green and blue, shape (3, 256, 4), the fourth being
unused; and which value each sum from 0 to 1 becomes."""

FIXED_POINT_ONE = 1 << 14

_SUM_BITS = 28
NO_ALPHA = np.zeros(65_536, np.uint8)
"""Table for alpha where there is none."""

_SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
"""sRGB's curve: (a x + b)^g from d on, c x below: g, a, b, c, d."""


def shaper_tables(profile: bytes) -> ShaperTables:
    """The tables for an ICC profile.

    Raises:
        Exception: It is another kind of profile, or damaged.
    """
    tags, to_srgb = _matrix_to_srgb(profile)
    matrix = np.floor(to_srgb * FIXED_POINT_ONE + 0.5)
    shares = np.zeros((3, 256, 4))
    values = (np.arange(256, dtype=np.float32) / np.float32(255)).astype(np.float64)
    for band, name in enumerate((b"rTRC", b"gTRC", b"bTRC")):
        light = linearized(tags[name], values).astype(np.float32).astype(np.float64)
        shares[band, :, :3] = np.floor(light * FIXED_POINT_ONE + 0.5)[:, None] * matrix[:, band]
    shares[0, :, :3] += FIXED_POINT_ONE / 2  # so that sums are rounded
    if not np.abs(shares).max(axis=1).sum(axis=0).max() < 2**31:
        raise ValueError("its sums do not fit into 32 bits")
    return shares.astype(np.int32), _srgb_values()


def deep_tables(profile: bytes, samples: NDArray[np.uint16]) -> ShaperTables:
    """The tables for samples of 16 bits: as `ShaperTables`, for 65,536 values and finer sums.

    Args:
        profile: An ICC profile for RGB.
        samples: The value of each stored sample, of 65535.

    Raises:
        Exception: It is another kind of profile, or damaged.
    """
    tags, to_srgb = _matrix_to_srgb(profile)
    shares = np.zeros((3, 65_536, 4))
    for band, name in enumerate((b"rTRC", b"gTRC", b"bTRC")):
        light = linearized(tags[name], np.arange(65_536) / 65_535)[samples]
        shares[band, :, :3] = light[:, None] * to_srgb[:, band] * 2**_SUM_BITS
    shares[0, :, :3] += 2 ** (_SUM_BITS - 17)  # so that sums are rounded to 16 bits
    if not np.abs(shares).max(axis=1).sum(axis=0).max() < 2**31:
        raise ValueError("its sums do not fit into 32 bits")
    return np.floor(shares).astype(np.int32), _srgb_bytes(np.arange(65_537) / 65_536)


def deep_grey_table(profile: bytes) -> NDArray[np.uint8]:
    """What a profile for grey makes of each value of 16 bits in sRGB: 65,536 values.

    Raises:
        Exception: It has no curve, or is damaged.
    """
    tags = profile_tags(profile)
    return _srgb_bytes(linearized(tags[b"kTRC"], np.arange(65_536) / 65_535))


def apply_deep_tables(
    pixels: NDArray[np.uint16],
    out: NDArray[np.uint8],
    tables: ShaperTables,
    alpha: NDArray[np.uint8] = NO_ALPHA,
) -> None:
    """Convert rows of 16-bit RGB, or RGB with alpha, which becomes its entry in a table."""
    shares, curve = tables
    if pixels.shape != out.shape or pixels.shape[2] not in (3, 4):
        raise ValueError(f"{pixels.shape} into {out.shape} do not fit")
    if (shares.shape, curve.shape, alpha.shape) != ((3, 65_536, 4), (65_537,), (65_536,)):
        raise ValueError(f"tables {shares.shape}, {curve.shape}, {alpha.shape} do not fit")
    stored = np.ascontiguousarray(pixels)
    made = out if out.flags.c_contiguous else np.empty(out.shape, np.uint8)
    if stored.size:
        shape_deep_colours(stored, made, shares, curve, alpha)
    if made is not out:
        out[...] = made


def profile_tags(profile: bytes) -> dict[bytes, bytes]:
    (count,) = struct.unpack_from(">I", profile, 128)
    entries = struct.iter_unpack(">4sII", profile[132 : 132 + 12 * count])
    return {name: profile[offset : offset + size] for name, offset, size in entries}


def _matrix_to_srgb(profile: bytes) -> tuple[dict[bytes, bytes], Floats]:
    """The tags of a profile, and the matrix from its light to that of sRGB."""
    from PIL import ImageCms

    tags = profile_tags(profile)
    if profile[20:24] != b"XYZ " or any(name[1:3] == b"2B" for name in tags):
        raise ValueError("its colours are in a table, not a matrix")
    primaries = np.array(
        [_s15_fixed_16(tags[name][8:20]) for name in (b"rXYZ", b"gXYZ", b"bXYZ")]
    ).T
    srgb: Any = ImageCms.createProfile("sRGB")  # LittleCMS' own, with XYZ in columns
    colorants = [srgb.red_colorant[0], srgb.green_colorant[0], srgb.blue_colorant[0]]
    matrix: Floats = np.linalg.inv(np.array(colorants).T) @ primaries
    return tags, matrix


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


def linearized(tag: bytes, values: Floats) -> Floats:
    """Values from 0 to 1 as the light that they stand for."""
    if tag[:4] == b"para":  # ICC.1:2010, 10.16: g, a, b, c, d, e, f; the omitted ones are 0
        (kind,) = struct.unpack_from(">H", tag, 8)
        gamma, *rest = _s15_fixed_16(tag[12 : 12 + 4 * {0: 1, 1: 3, 2: 4, 3: 5, 4: 7}[kind]])
        if kind == 0:
            return values**gamma
        a, b, c, d, e, f = (*rest, *[0.0] * (6 - len(rest)))
        if kind in (1, 2):  # c, above and below, from -b/a on
            c, d, e, f = 0.0, -b / a, c, c
        return np.where(values >= d, np.maximum(a * values + b, 0) ** gamma + e, c * values + f)
    (count,) = struct.unpack_from(">I", tag, 8)
    if tag[:4] != b"curv":
        raise ValueError("no curve")
    if count == 0:
        return values
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
    value = _srgb_encoded(light).astype(np.float32)
    words = np.floor(np.clip(value, 0, 1).astype(np.float64) * 65535 + 0.5).astype(np.int64)
    return ((words * 65281 + 0x800000) >> 24).astype(np.uint8)  # 16 bits to 8, as LittleCMS does


def _srgb_bytes(light: Floats) -> NDArray[np.uint8]:
    """Light as values of 0 to 255, rounded."""
    return np.floor(np.clip(_srgb_encoded(light), 0, 1) * 255 + 0.5).astype(np.uint8)


def srgb_light(values: Floats) -> Floats:
    """Values from 0 to 1 as light, by sRGB's curve."""
    gamma, a, b, c, d = _SRGB_CURVE
    return np.where(values >= d, (a * values + b) ** gamma, c * values)


def _srgb_encoded(light: Floats) -> Floats:
    """Light by sRGB's curve."""
    gamma, a, b, c, d = _SRGB_CURVE
    bent = (np.maximum(light, 0) ** (1 / gamma) - b) / a
    return np.where(light >= (a * d + b) ** gamma, bent, light / c)
