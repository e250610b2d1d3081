"""Pillow's modes: how their pixels lie in memory, and what makes grey, RGB and alpha of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..resample import drop_fourth
from .base import Pixels, Source
from .convert import Converted
from .decode import like, pixel_bytes
from .pixels import Conversion, picked

_SAMPLES = {"I;16": "<u2", "I;16L": "<u2", "I;16B": ">u2", "I;16N": "=u2", "I": "=i4", "F": "=f4"}

_NAMES = {
    "1": "1 bit",
    "P": "palette",
    "PA": "palette with alpha",
    "La": "grey, premultiplied alpha",
    "RGBa": "RGB, premultiplied alpha",
    "LAB": "CIELab",
    "I": "32-bit integers",
    "F": "32-bit floats",
}

KNOWN = {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBX", "RGBA", "RGBa", "CMYK", "YCbCr", "LAB"}
KNOWN |= {"HSV", *_SAMPLES}
"""The modes that are pictures."""

_WITH_ALPHA = {"LA", "La", "PA", "RGBA", "RGBa"}
_GREY = {"1", "L", "LA", "La"}


def stored_rows(memory: NDArray[np.uint8], mode: str) -> Pixels:
    """Rows of bytes in Pillow's memory as pixels, shape (height, width, 1 or 4).

    Args:
        memory: Shape (height, width * pixel_bytes(mode)), C order.
        mode: Pillow's mode.
    """
    if mode in _SAMPLES:
        return memory.view(_SAMPLES[mode])[:, :, None]
    return memory.reshape(len(memory), -1, pixel_bytes(mode))


def as_picture(stored: Source, image: Image.Image, *, keep_cmyk: bool) -> Source:
    """A source of grey, RGB and alpha over one of an image's stored pixels.

    Args:
        stored: Its rows are those of `stored_rows`.
        image: Its mode, palette and transparent colour say what they mean.
        keep_cmyk: Whether CMYK stays as it is.
    """
    conversion = _conversion(image, keep_cmyk=keep_cmyk)
    if conversion is not None:
        return Converted(stored, conversion)
    stored.cmyk = image.mode == "CMYK"
    return stored


def name_of(mode: str) -> str:
    """What a user would call a mode, where the bands alone do not tell."""
    plain = mode in ("L", "LA", "RGB", "RGBX", "RGBA") or mode.startswith("I;16")
    return "" if plain else _NAMES.get(mode, mode)


def _conversion(image: Image.Image, *, keep_cmyk: bool) -> Conversion | None:
    mode = image.mode
    transparent = "transparency" in image.info or _has_alpha_palette(image)
    if mode in _SAMPLES:
        return picked([0], np.dtype(_SAMPLES[mode]))
    if mode in ("1", "L", "P") and (transparent or mode == "P"):
        return _by_table(image, transparent=transparent)
    if mode in ("RGBA", "1", "L") or (mode == "CMYK" and keep_cmyk):
        return None
    if mode == "LA":
        return picked([0, 3], np.dtype(np.uint8))
    if mode in ("RGB", "RGBX") and not transparent:
        return Conversion(3, np.dtype(np.uint8), _without_fourth, at_once=True)
    alpha = mode in _WITH_ALPHA or transparent
    grey = mode in _GREY
    return _by_pillow(image, {(True, True): "LA", (False, True): "RGBA"}.get((grey, alpha), "RGB"))


def _without_fourth(stored: Pixels, out: Pixels) -> None:
    if out.flags.c_contiguous:
        drop_fourth(np.ascontiguousarray(stored), out)  # a copy for a region of the picture only
    else:  # background lies beside it
        out[:] = stored[..., :3]


def _has_alpha_palette(image: Image.Image) -> bool:
    return image.mode == "P" and image.palette is not None and image.palette.mode == "RGBA"


def _by_table(image: Image.Image, *, transparent: bool) -> Conversion:
    """Pixels of a byte, by what Pillow makes of each of the 256."""
    ramp = np.arange(256, dtype=np.uint8)[None, :]
    grey = image.mode != "P"
    wanted = ("LA" if transparent else "L") if grey else ("RGBA" if transparent else "RGB")
    table = np.asarray(like(image, ramp).convert(wanted)).reshape(256, -1)

    def write(stored: Pixels, out: Pixels) -> None:
        np.take(table, stored[..., 0], axis=0, out=out, mode="clip")

    note = None if grey else "palette expanded"
    return Conversion(table.shape[1], table.dtype, write, note)


def _by_pillow(image: Image.Image, wanted: str) -> Conversion:
    """Whatever else there is, as Pillow converts it."""
    bands = len(wanted)
    convert = _converter(image, wanted)
    convert(like(image, np.zeros((1, pixel_bytes(image.mode)), np.uint8)))  # whether it can be

    def write(stored: Pixels, out: Pixels) -> None:
        memory = np.ascontiguousarray(stored).reshape(len(stored), -1)
        converted = convert(like(image, memory))
        out[...] = np.asarray(converted).reshape(out.shape)

    return Conversion(
        bands, np.dtype(np.uint8), write, f"converted from {_NAMES.get(image.mode, image.mode)}"
    )


def _converter(image: Image.Image, wanted: str) -> Callable[[Image.Image], Image.Image]:
    if image.mode != "LAB":
        return lambda strip: strip.convert(wanted)
    from PIL import ImageCms  # as Pillow's convert does, which would build it for each strip

    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    transform: Any = ImageCms.buildTransform(lab, srgb, "LAB", wanted)
    return lambda strip: transform.apply(strip)
