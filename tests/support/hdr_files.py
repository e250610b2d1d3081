"""Writers of Radiance HDR and OpenEXR for tests, and the light that they hold as sRGB of 8 bits."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def to_srgb(light: NDArray[Any], window: tuple[float, float] = (0, 1)) -> NDArray[np.float64]:
    """Linear light by the curve of IEC 61966-2-1, 0 to 255, not rounded."""
    low, high = window
    share = np.clip((light.astype(float) - low) / (high - low), 0, 1)
    curve = np.where(share <= 0.0031308, 12.92 * share, 1.055 * share ** (1 / 2.4) - 0.055)
    return np.asarray(255 * curve)


def to_rgbe(light: NDArray[Any]) -> NDArray[np.uint8]:
    """Three mantissas and an exponent for each pixel; rounded down, as Ward's programs do."""
    most = light.max(axis=2)
    _, exponents = np.frexp(most)
    scale = np.where(most < 1e-32, 0, np.ldexp(256.0, -exponents))
    mantissas = (light * scale[..., None]).astype(np.uint8)
    shifted = np.where(most < 1e-32, 0, exponents + 128).astype(np.uint8)
    return np.concatenate([mantissas, shifted[..., None]], axis=2)


def from_rgbe(rgbe: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The light of RGBE."""
    scale = np.where(rgbe[..., 3:] > 0, np.ldexp(1.0, rgbe[..., 3:].astype(int) - 136), 0)
    return np.asarray(rgbe[..., :3] * scale)


def pack_scanline(pixels: NDArray[np.uint8]) -> bytes:
    """A scanline in run lengths, band by band."""
    out = bytearray([2, 2, len(pixels) >> 8, len(pixels) & 255])
    for band in pixels.T:
        values, at = band.tolist(), 0
        while at < len(values):
            run = 1
            while run < 127 and at + run < len(values) and values[at + run] == values[at]:
                run += 1
            if run >= 3:
                out += bytes([128 + run, values[at]])
            else:
                run = min(run, 128)
                out += bytes([run, *values[at : at + run]])
            at += run
    return bytes(out)


def write_radiance(
    rgbe: NDArray[np.uint8], *, form: str = "new", order: str = "-Y {} +X {}", header: str = ""
) -> bytes:
    """The bytes of a file.

    Args:
        rgbe: Shape (scanlines, pixels of a scanline, 4).
        form: "new" run lengths, "flat" pixels, or "old" run lengths of complete pixels.
        order: The line of the resolution, for the number and the length of scanlines.
        header: More lines of the header.
    """
    text = f"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n{header}\n" + order.format(*rgbe.shape[:2]) + "\n"
    if form == "new":
        data = b"".join(pack_scanline(row) for row in rgbe)
    elif form == "flat":
        data = rgbe.tobytes()
    else:
        data = b"".join(_pack_old(row) for row in rgbe)
    return text.encode() + data


def _pack_old(pixels: NDArray[np.uint8]) -> bytes:
    out, at, values = b"", 0, [bytes(pixel) for pixel in pixels]
    while at < len(values):
        run = 1
        while at + run < len(values) and values[at + run] == values[at]:
            run += 1
        out += values[at]
        repeats = run - 1
        while repeats:  # the least significant byte first
            out += bytes([1, 1, 1, repeats & 255])
            repeats >>= 8
        at += run
    return out


def write_exr(channels: dict[str, NDArray[Any]], path: Any, **header: Any) -> None:
    """Write an OpenEXR; the header may have all attributes of OpenEXR's package."""
    import OpenEXR

    form = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage, **header}
    with OpenEXR.File(form, channels) as file:
        file.write(str(path))


def encode_exr() -> bytes:
    """A small OpenEXR of RGB."""
    import tempfile
    from pathlib import Path

    down, across = np.mgrid[0:90, 0:140]
    light = np.dstack([down / 90, across / 140, (down + across) / 200]).astype(np.float16)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.exr"
        write_exr({"RGB": light}, path)
        return io.BytesIO(path.read_bytes()).getvalue()
