"""ICC profiles for tests and benches, made from the published numbers of each colour space.

A profile is a header of 128 bytes, a table of tags, and the tags' data, all big-endian
(ICC.1:2010, the specification of version 4). The same arguments give the same bytes.

    python bench/profiles.py INPUT fasttile=a.dzi libvips=b.dzi [--format jpeg|png] ...

does for an image with a profile what compare.py does for others: every output must hold exactly
what its program's order of halving and converting gives, and the two may hardly differ.
"""

from __future__ import annotations

import argparse
import io
import json
import struct
import sys
from collections.abc import Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from oracle import Oracle

Matrix = NDArray[np.float64]
Point = tuple[float, float]

D50 = (0.9642, 1.0, 0.8249)
"""The white of the profile connection space, as XYZ."""

D65_XY, D50_XY = (0.3127, 0.3290), (0.3457, 0.3585)

PRIMARIES: dict[str, tuple[Point, Point, Point]] = {
    "sRGB": ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),
    "Display P3": ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
    "Adobe RGB": ((0.640, 0.330), (0.210, 0.710), (0.150, 0.060)),
    "ProPhoto": ((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001)),
}
"""Chromaticities x, y of red, green and blue."""

# From XYZ to the responses of the eye's cones, in which Bradford scales one white to another.
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)

SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
"""(a x + b)^g from d on, c x below: g, a, b, c, d."""


def srgb(description: str = "made by hand, like sRGB") -> bytes:
    """What sRGB is, by other bytes than anybody else's."""
    return matrix_profile(description, PRIMARIES["sRGB"], D65_XY, parametric(SRGB_CURVE))


def display_p3() -> bytes:
    """Display P3: wider than sRGB, with its curve."""
    return matrix_profile("Display P3", PRIMARIES["Display P3"], D65_XY, parametric(SRGB_CURVE))


def adobe_rgb() -> bytes:
    """Adobe RGB (1998): a wider green, and a gamma of 2 + 51/256."""
    return matrix_profile("Adobe RGB", PRIMARIES["Adobe RGB"], D65_XY, gamma(563 / 256))


def prophoto() -> bytes:
    """ROMM RGB, in which some colours are none."""
    return matrix_profile("ProPhoto", PRIMARIES["ProPhoto"], D50_XY, gamma(1.8))


def swapped_primaries() -> bytes:
    """As sRGB, but what is red is blue: a program that does not convert shows other colours."""
    red, green, blue = PRIMARIES["sRGB"]
    return matrix_profile("red is blue", (blue, green, red), D65_XY, parametric(SRGB_CURVE))


def grey(exponent: float = 2.2, description: str = "grey, gamma 2.2") -> bytes:
    """Grey with a gamma."""
    tags = {b"wtpt": xyz(D50), b"kTRC": gamma(exponent)}
    return profile(b"mntr", b"GRAY", b"XYZ ", description, tags)


def cmyk(points: int = 3) -> bytes:
    """Four inks as a scanner would see them on paper, by a table of `points` values of each.

    Only from ink to CIELab, which is all that a profile of an input device has to know.
    """
    grid = [_ink_lab(inks) for inks in product(np.linspace(0, 1, points), repeat=4)]
    table = lut8(4, points, grid)  # the same for the perceptual and the colorimetric intent
    tags = {b"wtpt": xyz(D50), b"A2B0": table, b"A2B1": table}
    return profile(b"scnr", b"CMYK", b"Lab ", "four inks", tags)


def matrix_profile(
    description: str, primaries: tuple[Point, Point, Point], white: Point, curve: bytes
) -> bytes:
    """An RGB profile of three primaries, which are adapted to D50, and one curve for all bands."""
    adaptation = _adaptation(_xyz_of(white))
    colours = np.array([_xyz_of(point) for point in primaries]).T
    # How much of each primary makes white.
    amounts = np.linalg.solve(colours, _xyz_of(white))
    columns = (adaptation @ (colours * amounts)).T
    tags = {b"wtpt": xyz(D50), b"chad": _fixed_array(b"sf32", adaptation.ravel())}
    for name, column in zip("rgb", columns, strict=True):
        tags[f"{name}XYZ".encode()] = xyz(column)
        tags[f"{name}TRC".encode()] = curve
    return profile(b"mntr", b"RGB ", b"XYZ ", description, tags)


def profile(
    device: bytes, space: bytes, connection: bytes, description: str, tags: dict[bytes, bytes]
) -> bytes:
    """A complete profile: four-letter kinds of device, colours and connection space, and tags.

    The rendering intent in the header is the perceptual one, the date is the first day of 2008.
    """
    tags = {b"desc": _text(description), b"cprt": _text("no rights reserved"), **tags}
    body, table, offset = b"", struct.pack(">I", len(tags)), 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        table += name + struct.pack(">II", offset + len(body), len(data))
        body += data + b"\0" * (-len(data) % 4)
    size = offset + len(body)
    version = 0x02400000 if b"A2B0" in tags else 0x04300000
    header = struct.pack(">I4sI4s4s4s", size, b"test", version, device, space, connection)
    header += struct.pack(">6H4s", 2008, 1, 1, 0, 0, 0, b"acsp")
    header += bytes(28) + b"".join(map(_fixed, D50)) + b"test"
    return header.ljust(128, b"\0") + table + body


def parametric(curve: Sequence[float]) -> bytes:
    """A curve by its parameters g, a, b, c, d."""
    return b"para" + bytes(4) + struct.pack(">HH", 3, 0) + b"".join(map(_fixed, curve))


def gamma(exponent: float) -> bytes:
    """A curve that is a power, in 256ths."""
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(exponent * 256)) + bytes(2)


def lut8(inputs: int, points: int, grid: Sequence[tuple[int, ...]]) -> bytes:
    """A table of colours in 8 bits, the last input running fastest; its curves are straight."""
    outputs = len(grid[0])
    straight = bytes(range(256))
    head = b"mft1" + bytes(4) + bytes([inputs, outputs, points, 0])
    identity = b"".join(map(_fixed, np.eye(3).ravel()))
    colours = bytes(value for colour in grid for value in colour)
    return head + identity + straight * inputs + colours + straight * outputs


def xyz(values: Sequence[float] | Matrix) -> bytes:
    """One colour as XYZ."""
    return _fixed_array(b"XYZ ", values)


def _ink_lab(inks: Sequence[float]) -> tuple[int, int, int]:
    """CIELab, in 8 bits as version 2 has it, of inks that each take their share of the light."""
    *colours, black = inks
    light = [0.2 + 0.8 * (1 - ink) * (1 - 0.9 * black) for ink in colours]
    primaries = np.array([_xyz_of(point) for point in PRIMARIES["sRGB"]]).T
    amounts = np.linalg.solve(primaries, _xyz_of(D50_XY))
    relative = (primaries * amounts) @ np.power(light, 2.2) / _xyz_of(D50_XY)
    x, y, z = (
        float(v) ** (1 / 3) if v > 216 / 24389 else (24389 / 27 * v + 16) / 116 for v in relative
    )
    lab = (116 * y - 16, 500 * (x - y), 200 * (y - z))
    encoded = (lab[0] * 2.55, lab[1] + 128, lab[2] + 128)
    first, second, third = (min(255, max(0, round(value))) for value in encoded)
    return first, second, third


def _xyz_of(point: Point) -> Matrix:
    """A chromaticity as XYZ with Y = 1."""
    x, y = point
    return np.array([x / y, 1.0, (1 - x - y) / y])


def _adaptation(white: Matrix) -> Matrix:
    """The matrix that adapts colours under a white to D50."""
    scale = (_BRADFORD @ np.array(D50)) / (_BRADFORD @ white)
    adapted: Matrix = np.linalg.solve(_BRADFORD, np.diag(scale) @ _BRADFORD)
    return adapted


def _fixed(value: float) -> bytes:
    """A number as s15Fixed16."""
    return struct.pack(">i", round(float(value) * 65536))


def _fixed_array(kind: bytes, values: Sequence[float] | Matrix) -> bytes:
    return kind + bytes(4) + b"".join(map(_fixed, values))


def _text(text: str) -> bytes:
    """A text as version 4 has it: one record, in American English."""
    data = text.encode("utf-16-be")
    return b"mluc" + struct.pack(">IIIHHII", 0, 1, 12, 0x656E, 0x5553, len(data), 28) + data


# Outputs whose colours were converted.

MAX_MEAN_DIFFERENCE = 0.25
"""By how much of 255 two ways from the same image to sRGB may differ on average."""


def convert_by_littlecms(pixels: NDArray[np.uint8], profile: bytes) -> NDArray[np.uint8]:
    """RGB pixels in sRGB, by Pillow, with fasttile's intent."""
    from PIL import Image, ImageCms

    converted = ImageCms.profileToProfile(
        Image.fromarray(pixels),
        ImageCms.ImageCmsProfile(io.BytesIO(profile)),
        ImageCms.createProfile("sRGB"),
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    return np.asarray(converted)


def _make_oracles(path: Path, options: dict[str, Any]) -> tuple[Oracle, Oracle]:
    """For a program that halves first, and for libvips, which converts first."""
    import pyvips
    from PIL import Image

    from dzi import Box, Pyramid
    from oracle import Oracle, Raster, open_source
    from vips_tiler import convert_to_srgb

    source = open_source(path)
    with Image.open(path) as image:
        profile: bytes = image.info["icc_profile"]

    class HalvedFirst(Oracle):
        def pixels(self, level: int, box: Box) -> Raster:
            pixels = np.ascontiguousarray(super().pixels(level, box))
            return convert_by_littlecms(pixels, profile)

    height, width, _ = source.shape
    pyramid = Pyramid(width, height, options["tile_size"], options["overlap"])
    by_vips = convert_to_srgb(pyvips.Image.new_from_file(str(path))).numpy()
    return HalvedFirst(source, pyramid), Oracle(by_vips, pyramid)


def _mean_difference(first: Oracle, second: Oracle) -> float:
    """The mean difference of two oracles' pixels, over the tiles of the middle line."""
    pyramid = first.pyramid
    level = pyramid.last_level
    line = pyramid.level_size(level)[1] // pyramid.tile_size // 2
    boxes = [box for tile, box in pyramid.tiles(level) if tile.row == line]
    pairs = ((first.pixels(level, box), second.pixels(level, box)) for box in boxes)
    return float(np.mean([np.abs(a.astype(np.int16) - b).mean() for a, b in pairs]))


def main() -> None:
    """Examine the outputs on the command line."""
    from compare import examine
    from dzi import Job, add_options

    parser = argparse.ArgumentParser(description="Compare outputs of an image with a profile.")
    parser.add_argument("input", type=Path)
    parser.add_argument("outputs", nargs="+", metavar="PROGRAM=OUTPUT.dzi")
    add_options(parser)
    given = vars(parser.parse_args())
    outputs = [output.split("=", 1) for output in given.pop("outputs")]
    halved_first, converted_first = _make_oracles(given["input"], given)
    difference = _mean_difference(halved_first, converted_first)
    findings = {}
    for name, path in outputs:
        oracle = converted_first if name.startswith("libvips") else halved_first
        finding = examine(name, Job(output=Path(path), **given), oracle)
        if difference > MAX_MEAN_DIFFERENCE:
            finding.faults.append(f"the two conversions differ by {difference:.2f} on average")
        findings[name] = asdict(finding)
    json.dump(findings, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
