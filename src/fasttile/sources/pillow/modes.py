"""Pillow's modes: how their pixels lie in memory, and what makes grey, RGB and alpha of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageFile

from fasttile.abc.source import Source
from fasttile.kernels import rgbx_to_rgb
from fasttile.pillow_core import image_like, pixel_bytes
from fasttile.sources.conversions import Conversion, ConvertedSource, select_bands
from fasttile.types import Pixels

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SAMPLE_DTYPES = {
    "I;16": "<u2",
    "I;16L": "<u2",
    "I;16B": ">u2",
    "I;16N": "=u2",
    "I": "=i4",
    "F": "=f4",
}

_MODE_LABELS = {
    "1": "1 bit",
    "P": "palette",
    "PA": "palette with alpha",
    "La": "grey, premultiplied alpha",
    "RGBa": "RGB, premultiplied alpha",
    "LAB": "CIELab",
    "I": "32-bit integers",
    "F": "32-bit floats",
}

IMAGE_MODES = {
    "1",
    "L",
    "LA",
    "La",
    "P",
    "PA",
    "RGB",
    "RGBX",
    "RGBA",
    "RGBa",
    "CMYK",
    "YCbCr",
    "LAB",
}
IMAGE_MODES |= {"HSV", *_SAMPLE_DTYPES}
"""The modes that are images."""

_ALPHA_MODES = {"LA", "La", "PA", "RGBA", "RGBa"}
_GREY_MODES = {"1", "L", "LA", "La"}


def pixels_of_memory(memory: NDArray[np.uint8], mode: str) -> Pixels:
    """Rows of bytes in Pillow's memory as pixels, shape (height, width, 1 or 4).

    Args:
        memory: Shape (height, width * pixel_bytes(mode)), C order.
        mode: Pillow's mode.
    """
    if mode in _SAMPLE_DTYPES:
        return memory.view(_SAMPLE_DTYPES[mode])[:, :, None]
    return memory.reshape(len(memory), -1, pixel_bytes(mode))


def to_standard_bands(stored: Source, image: Image.Image, *, keep_cmyk: bool) -> Source:
    """A source of grey, RGB and alpha over one of an image's stored pixels.

    Args:
        stored: Its rows are those of `stored_rows`.
        image: Its mode, palette and transparent colour say what they mean.
        keep_cmyk: Whether CMYK stays as it is.
    """
    mode = image.mode
    has_alpha_palette = mode == "P" and image.palette is not None and image.palette.mode == "RGBA"
    transparent = "transparency" in image.info or has_alpha_palette
    if mode in _SAMPLE_DTYPES:
        dtype = np.dtype(_SAMPLE_DTYPES[mode])
        conversion = select_bands([0], dtype)
        if isinstance(key := image.info.get("transparency"), int):
            conversion = _keyed_conversion(dtype, key)
    elif mode == "P" or (mode in ("1", "L") and transparent):
        conversion = _table_conversion(image, transparent=transparent)
    elif mode in ("RGBA", "1", "L") or (mode == "CMYK" and keep_cmyk):
        stored.is_cmyk = mode == "CMYK"
        return stored
    elif mode == "LA":
        conversion = select_bands([0, 3], np.dtype(np.uint8))
    elif mode in ("RGB", "RGBX") and not transparent:
        conversion = Conversion(
            3, np.dtype(np.uint8), _write_rgb, is_single_pass=True, drops_padding=mode == "RGB"
        )
    else:
        alpha = mode in _ALPHA_MODES or transparent
        grey = mode in _GREY_MODES
        target = {(True, True): "LA", (False, True): "RGBA"}.get((grey, alpha), "RGB")
        conversion = _pillow_conversion(image, target)
    return ConvertedSource(stored, conversion)


def mode_label(mode: str) -> str:
    """Name of a mode for users, where the bands alone do not show it."""
    plain = mode in ("L", "LA", "RGB", "RGBX", "RGBA") or mode.startswith("I;16")
    return "" if plain else _MODE_LABELS.get(mode, mode)


def depth_label(image: ImageFile.ImageFile) -> str:
    """The depth of samples that become others when Pillow decodes them: "2 bit"; else ""."""
    args = image.tile[0].args if image.tile else None
    raw = args[0] if isinstance(args, tuple) and args else args
    if not isinstance(raw, str) or image.mode not in ("L", "LA", "RGB", "RGBA"):
        return ""
    return next(
        (f"{bits} bit" for bits in (2, 4, 16) if raw.endswith((f";{bits}", f";{bits}B"))), ""
    )


def _write_rgb(stored: Pixels, out: Pixels) -> None:
    if out.flags.c_contiguous:
        rgbx_to_rgb(np.ascontiguousarray(stored), out)  # a copy for a region of the image only
    else:  # background lies beside it
        out[:] = stored[..., :3]


def _table_conversion(image: Image.Image, *, transparent: bool) -> Conversion:
    """Pixels of a byte, by what Pillow makes of each of the 256."""
    ramp = np.arange(256, dtype=np.uint8)[None, :]
    grey = image.mode != "P"
    wanted = ("LA" if transparent else "L") if grey else ("RGBA" if transparent else "RGB")
    table = np.asarray(image_like(image, ramp).convert(wanted)).reshape(256, -1)

    def write(stored: Pixels, out: Pixels) -> None:
        np.take(table, stored[..., 0], axis=0, out=out, mode="clip")

    note = None if grey else "palette expanded"
    return Conversion(table.shape[1], table.dtype, write, note)


def _keyed_conversion(dtype: np.dtype[Any], transparent: int) -> Conversion:
    """Grey of 16 bits, of which one value is transparent, with alpha."""

    def write(stored: Pixels, out: Pixels) -> None:
        out[..., 0] = stored[..., 0]
        out[..., 1] = np.where(stored[..., 0] == transparent, 0, np.iinfo(dtype).max)

    return Conversion(2, dtype.newbyteorder("="), write)


def _pillow_conversion(image: Image.Image, target_mode: str) -> Conversion:
    """Any other mode, as Pillow converts it."""
    if image.mode == "LAB":
        from PIL import ImageCms  # as Pillow's convert does, which would build it for each strip

        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        transform: Any = ImageCms.buildTransform(lab, srgb, "LAB", target_mode)

    def convert(memory: NDArray[np.uint8]) -> Image.Image:
        strip = image_like(image, memory)
        return transform.apply(strip) if image.mode == "LAB" else strip.convert(target_mode)

    convert(np.zeros((1, pixel_bytes(image.mode)), np.uint8))  # raises if it is not supported

    def write(stored: Pixels, out: Pixels) -> None:
        converted = convert(np.ascontiguousarray(stored).reshape(len(stored), -1))
        out[...] = np.asarray(converted).reshape(out.shape)

    note = f"converted from {_MODE_LABELS.get(image.mode, image.mode)}"
    return Conversion(len(target_mode), np.dtype(np.uint8), write, note)
