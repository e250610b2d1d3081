"""Pictures that Pillow decodes, files and images, each held in memory as a whole."""

from __future__ import annotations

import io
import math
import os
import struct
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageFile

from ..errors import SourceError
from .base import Metadata, Source
from .mapping import PictureFile
from .raster import ArraySource, prepared

_PREFIX = 16  # bytes; what Pillow's plugins look at to tell whether a file is theirs

# Deflate shrinks a blank picture 1,032 times, LZW and JPEG about as much; and up to a size that
# does no harm, whatever a header claims is tried.
_HIGHEST_RATIO = 5_000
_ALWAYS = 2**28

_GREY = {"1": "L", "L": "L", "LA": "LA", "La": "LA"}
_COLOUR = {"RGBX": "RGB", "CMYK": "RGB", "YCbCr": "RGB", "LAB": "RGB", "HSV": "RGB", "RGB": "RGB"}
_ALPHA = {"RGBA": "RGBA", "RGBa": "RGBA", "PA": "RGBA"}
_READY = {"P": "RGB", **_GREY, **_COLOUR, **_ALPHA}
_TRANSPARENT = {"1": "LA", "L": "LA", "P": "RGBA", "RGB": "RGBA"}
_DEEP = ("I;16", "I;16B", "I;16L", "I;16N")


def open_picture(file: PictureFile) -> Source:
    """A source over the first picture of any file that Pillow knows.

    Raises:
        SourceError: No plugin of Pillow's knows the file, or it is damaged.
    """
    with file.stream, _Bounded(file) as stream:
        image = _identified(stream, file.name)
        _refuse_giants(image, file)
        return _decoded(image, file.name)


class _Bounded(io.BufferedReader):
    """A file that is asked for no more than it has: memory for all that is asked for comes first.

    Pillow's plugins ask for as much as a header says.
    """

    def __init__(self, file: PictureFile) -> None:
        super().__init__(io.FileIO(os.dup(file.stream.fileno())))
        self._size = file.size

    def read(self, size: int | None = -1, /) -> bytes:
        left = max(0, self._size - self.tell())
        return super().read(left if size is None or size < 0 else min(size, left))


def open_image(image: Image.Image) -> Source:
    """A source over a PIL image, in the frame that it shows.

    Raises:
        SourceError: Its mode is not that of a picture, or its file is damaged.
    """
    return _decoded(image, "image")


def _identified(stream: BinaryIO, name: str) -> ImageFile.ImageFile:
    """What Image.open would give, without its limit on size, which is global to the process."""
    stream.seek(0)
    prefix = stream.read(_PREFIX)
    tried: set[str] = set()
    for load_plugins in (Image.preinit, Image.init):
        load_plugins()
        for plugin in [known for known in Image.ID if known not in tried]:
            tried.add(plugin)
            image = _opened(plugin, stream, prefix, name)
            if image is not None:
                return image
    raise SourceError(
        f"{name} is not a picture that fasttile or Pillow knows: it begins with {prefix[:8]!r}; "
        "for pixels without a header say how they lie: raw=WIDTHxHEIGHTxBANDS"
    )


def _opened(plugin: str, stream: BinaryIO, prefix: bytes, name: str) -> ImageFile.ImageFile | None:
    factory, accept = Image.OPEN[plugin]
    try:
        accepted = accept is None or accept(prefix)
        if isinstance(accepted, str) or not accepted:
            return None  # a text says why the plugin cannot open what it knows
        stream.seek(0)
        return factory(stream, "")
    except (SyntaxError, IndexError, TypeError, struct.error):
        return None  # the ways in which plugins say that a file is not theirs
    except Exception as error:
        raise SourceError(f"{name}: broken {plugin}: {_reason(error)}") from error


def _decoded(image: Image.Image, name: str) -> Source:
    kind = image.format or "image"
    if image.mode not in _READY and image.mode not in _DEEP:
        raise SourceError(
            f"{name}: pixels of mode {image.mode!r} have no fixed range: "
            "convert them to 8 or 16 bits grey, or to RGB"
        )
    if 0 in image.size:
        raise SourceError(f"{name}: {image.width}×{image.height} pixels are no picture")
    metadata = Metadata(kind, _profile(image), _resolution(image), _notes(image))
    try:
        _make_room(image)
        pixels = np.asarray(_ready(image))
    except MemoryError as error:
        raise SourceError(
            f"{name}: {image.width}×{image.height} pixels of {kind} do not fit into memory"
        ) from error
    except Exception as error:
        raise SourceError(f"{name}: broken {kind}: {_reason(error)}") from error
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    return prepared(ArraySource(pixels, name, metadata))


def _refuse_giants(image: Image.Image, file: PictureFile) -> None:
    """Refuse, before memory is touched, what no file of this size holds."""
    needed = 4 * image.width * image.height
    if needed > max(_ALWAYS, _HIGHEST_RATIO * file.size):
        raise SourceError(
            f"{file.name}: its header claims {image.width}×{image.height} pixels, "
            f"which {file.size} bytes can hardly hold"
        )


def _make_room(image: Image.Image) -> None:
    """Allocate for a TIFF what Pillow else would only after a check of its global limit."""
    size = getattr(image, "_tile_size", None)
    if size is not None and getattr(image, "_im", None) is None:
        image.im = Image.new(image.mode, size, None).im


def _ready(image: Image.Image) -> Image.Image:
    """The image in a mode whose bands are those of a source."""
    image.load()  # before anything else, as some plugins learn the mode only now
    if image.mode in _DEEP:
        return image
    transparent = "transparency" in image.info or _has_alpha_palette(image)
    wanted = (_TRANSPARENT if transparent else {}).get(image.mode) or _READY[image.mode]
    return image if image.mode == wanted else image.convert(wanted)


def _has_alpha_palette(image: Image.Image) -> bool:
    return image.mode == "P" and image.palette is not None and image.palette.mode == "RGBA"


def _notes(image: Image.Image) -> tuple[str, ...]:
    kept = image.mode in ("L", "LA", "RGB", "RGBA", *_DEEP)
    return () if kept else (f"converted from mode {image.mode}",)


def _profile(image: Image.Image) -> bytes | None:
    profile = image.info.get("icc_profile")
    return profile if isinstance(profile, bytes) and profile else None


def _resolution(image: Image.Image) -> tuple[float, float] | None:
    dpi: Any = image.info.get("dpi")
    if not isinstance(dpi, tuple):
        return None
    try:
        x, y = (float(value) for value in dpi)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return (x, y) if math.isfinite(x) and math.isfinite(y) and x > 0 and y > 0 else None


def _reason(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
