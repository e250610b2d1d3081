"""What the canvas is outside the picture, in the picture's own colours, yet to be converted."""

from __future__ import annotations

import io
from contextlib import suppress

import numpy as np

from .blank import grey
from .colour import RELATIVE_COLORIMETRIC, Colours, Transform
from .resample import Colour
from .sources.base import Source

WHITE = (255, 255, 255)


def padding(source: Source, colours: Colours, background: Colour) -> tuple[int, ...]:
    """A value for each of the source's bands.

    Beside a picture with alpha the canvas is transparent. Otherwise it is the background, by the
    way back from sRGB to the picture's profile; a grey picture has the background's grey.

    Args:
        source: The picture.
        colours: What will be done to its colours.
        background: In sRGB.
    """
    if source.alpha:
        return (0,) * source.bands
    if source.bands == 1:
        return (grey(background) * (257 if source.dtype == np.uint16 else 1),)
    if colours.transform is None:
        return background
    return _before(colours.transform, background)


def _before(transform: Transform, colour: Colour) -> tuple[int, ...]:
    """What the transform makes an sRGB colour of, as nearly as it can be had."""
    cmyk = transform.mode == "CMYK"
    if colour == WHITE:  # which is the medium's white in any space, and the usual wish
        return (0, 0, 0, 0) if cmyk else WHITE
    if transform.profile is not None:
        with suppress(Exception):  # a profile that leads to sRGB need not lead back
            return _back(transform.profile, transform.mode, colour)
    return (*(255 - value for value in colour), 0) if cmyk else colour


def _back(profile: bytes, mode: str, colour: Colour) -> tuple[int, ...]:
    """An sRGB colour in another space, by LittleCMS."""
    from PIL import Image, ImageCms

    back = ImageCms.buildTransform(
        ImageCms.createProfile("sRGB"),
        ImageCms.ImageCmsProfile(io.BytesIO(profile)),
        "RGB",
        mode,
        ImageCms.Intent(RELATIVE_COLORIMETRIC),
        ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    pixel = ImageCms.applyTransform(Image.new("RGB", (1, 1), colour), back)
    return tuple(int(value) for value in np.asarray(pixel)[0, 0])
