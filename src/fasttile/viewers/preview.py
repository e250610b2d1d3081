"""Preview of a page: about 1 kB in the page itself, which shows before any tile arrives."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

from fasttile.abc.reader import PyramidReader
from fasttile.errors import FasttileError
from fasttile.geometry import Level, Pyramid, Region

if TYPE_CHECKING:
    from PIL.Image import Image

PREVIEW_SIDE = 40
"""Longest side of a preview, in pixels."""

PREVIEW_BYTES = 800
"""Most bytes of a preview, if a quality of WebP reaches it; its URL has a third more."""

PREVIEW_SLOT = b"<!--preview-->"


def preview_level(pyramid: Pyramid) -> Level | None:
    """The level to make a preview of: the smallest one that is as large, of those of one tile.

    The largest one of one tile if all are smaller; None if there is no level of one tile.
    """
    found = None
    for level in pyramid.stored_levels:
        if level.tile_count > 1:
            break
        found = level
        if max(pyramid.image_size(level.number)) >= PREVIEW_SIDE:
            break
    return found


def add_preview(page: bytes, pyramid: Pyramid, data: bytes) -> bytes:
    """The page with a preview; without one if the data cannot be decoded.

    Args:
        page: A page that has none.
        pyramid: Geometry of the image.
        data: The only tile of `preview_level`, as a file that Pillow opens.
    """
    level = preview_level(pyramid)
    if level is None:
        return page
    place, (width, height) = pyramid.placement(level.number), pyramid.size
    try:
        url = _encode_preview(data, place)
    except (OSError, ValueError, KeyError):  # a codec of another package; no WebP
        return page
    image = f'<img id="preview" alt="" src="{url}" style="--shape: {width / height:.6g}">'
    return page.replace(PREVIEW_SLOT, image.encode(), 1)


def add_preview_of(page: bytes, reader: PyramidReader) -> bytes:
    """The page of a result with a preview; without one if its tile cannot be read."""
    level = preview_level(reader.pyramid)
    if level is None:
        return page
    try:
        data = reader.tile(level.number, 0, 0)
    except FasttileError:
        return page
    return page if data is None else add_preview(page, reader.pyramid, data)


def _encode_preview(data: bytes, place: Region) -> str:
    """A place of an image, in sRGB and small, as a data: URL."""
    from PIL import Image

    with Image.open(io.BytesIO(data)) as file:
        image = _to_srgb(file)
    image = image.crop((place.x, place.y, place.right, place.bottom))
    image.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE), Image.Resampling.BOX)
    for quality in (60, 30, 10, 0):
        stored = io.BytesIO()
        image.save(stored, "WEBP", quality=quality, method=6)
        if len(stored.getvalue()) <= PREVIEW_BYTES:
            break
    return f"data:image/webp;base64,{base64.b64encode(stored.getvalue()).decode()}"


def _to_srgb(image: Image) -> Image:
    """An image as RGB or RGBA of 8 bits in sRGB, without its profile."""
    from PIL import Image as Images
    from PIL import ImageCms

    profile = image.info.get("icc_profile")
    if image.mode.startswith("I"):  # grey of 16 bits
        import numpy as np

        image = Images.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    has_alpha = image.mode in ("LA", "RGBA", "PA") or "transparency" in image.info
    if profile and image.mode in ("L", "RGB", "RGBA"):
        try:
            opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            srgb = ImageCms.createProfile("sRGB")
            mode = "RGBA" if image.mode == "RGBA" else "RGB"
            image = ImageCms.profileToProfile(image, opened, srgb, outputMode=mode) or image
        except ImageCms.PyCMSError:
            pass
    image = image.convert("RGBA" if has_alpha else "RGB")
    image.info.pop("icc_profile", None)
    return image
