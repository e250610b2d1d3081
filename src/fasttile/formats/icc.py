"""ICC profiles made of primaries and a curve, for formats that state colours without a profile.

Source: ICC.1:2022 (profile version 4.4). Three primaries and white in CIE 1931 xy become a matrix
to the D50 of the profile connection space, by Bradford's adaptation.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np

Chromaticities = Sequence[tuple[float, float]]
"""x and y of red, green, blue and white."""

Curve = Literal["linear", "srgb"]

BT709: Chromaticities = ((0.64, 0.33), (0.3, 0.6), (0.15, 0.06), (0.3127, 0.329))
"""Primaries of ITU-R BT.709 and of sRGB, with D65."""

_D50 = np.array([0.9642, 1.0, 0.8249])
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)
_SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)  # of type 3
_HEADER_BYTES = 128


def rgb_profile(name: str, chromaticities: Chromaticities, curve: Curve) -> bytes:
    """A profile for RGB.

    Args:
        name: Its description.
        chromaticities: Of red, green, blue and white.
        curve: "linear", or that of sRGB.

    Raises:
        ValueError: The chromaticities span no colours.

    Example:
        >>> rgb_profile("linear BT.709", BT709, "linear")[16:20]
        b'RGB '
    """
    xy = np.array(chromaticities, float)
    if xy.shape != (4, 2) or not np.isfinite(xy).all() or (np.abs(xy[:, 1]) < 1e-4).any():
        raise ValueError(f"chromaticities {xy.tolist()} are no colours")
    xyz = np.column_stack([xy, 1 - xy.sum(axis=1)]) / xy[:, 1:]
    if abs(np.linalg.det(xyz[:3])) < 1e-6:
        raise ValueError(f"the primaries {xy[:3].tolist()} are in one line")
    white = xyz[3]
    matrix = xyz[:3].T * np.linalg.solve(xyz[:3].T, white)
    cones, target = _BRADFORD @ white, _BRADFORD @ _D50
    adapted = np.linalg.inv(_BRADFORD) @ np.diag(target / cones) @ _BRADFORD @ matrix
    if not np.abs(adapted).max() < 2**15:
        raise ValueError(f"chromaticities {xy.tolist()} are no colours")
    tags = {
        f"{band}XYZ".encode(): _xyz(column) for band, column in zip("rgb", adapted.T, strict=True)
    }
    tags |= {f"{band}TRC".encode(): _curve(curve) for band in "rgb"}
    return _profile(b"RGB ", name, tags)


def linear_rgb_profile(chromaticities: Chromaticities | None, format_name: str) -> bytes:
    """A profile for linear RGB: of BT.709 if a file names no primaries.

    Args:
        chromaticities: Those of the file, or None.
        format_name: Its format, for the description.

    Raises:
        ValueError: The chromaticities span no colours.
    """
    if chromaticities is None:
        return rgb_profile("linear BT.709", BT709, "linear")
    return rgb_profile(f"linear RGB of {format_name}", chromaticities, "linear")


def grey_profile(name: str, curve: Curve) -> bytes:
    """A profile for grey; arguments as of `rgb_profile`."""
    return _profile(b"GRAY", name, {b"kTRC": _curve(curve)})


def _curve(curve: Curve) -> bytes:
    kind, numbers = (0, (1.0,)) if curve == "linear" else (3, _SRGB_CURVE)
    return b"para" + struct.pack(">IHH", 0, kind, 0) + _fixed(numbers)


def _xyz(values: Iterable[float]) -> bytes:
    return b"XYZ \0\0\0\0" + _fixed(values)


def _fixed(values: Iterable[float]) -> bytes:
    return b"".join(struct.pack(">i", round(value * 65_536)) for value in values)


def _text(text: str) -> bytes:
    encoded = text.encode("utf-16-be")
    return b"mluc" + struct.pack(">III4sII", 0, 1, 12, b"enUS", len(encoded), 28) + encoded


def _profile(space: bytes, name: str, tags: dict[bytes, bytes]) -> bytes:
    tags = {b"desc": _text(name), b"cprt": _text("no copyright"), b"wtpt": _xyz(_D50), **tags}
    table, data = struct.pack(">I", len(tags)), b""
    start = _HEADER_BYTES + 4 + 12 * len(tags)
    for tag, content in tags.items():
        table += struct.pack(">4sII", tag, start + len(data), len(content))
        data += content + b"\0" * (-len(content) % 4)
    header = struct.pack(
        ">I4sI4s4s4s12s4s",
        start + len(data),
        b"",
        0x04400000,
        b"mntr",
        space,
        b"XYZ ",
        b"",
        b"acsp",
    )
    header = header.ljust(64, b"\0") + struct.pack(">I", 1) + _fixed(_D50)
    return header.ljust(_HEADER_BYTES, b"\0") + table + data
