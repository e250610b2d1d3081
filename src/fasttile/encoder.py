"""One tile: its pixels to JPEG, PNG or WebP bytes, by Pillow, on as many threads as call it.

Pillow's public `save` costs a quarter of the encoding again, and holds the GIL while it writes
JPEG to anything but a real file. So an encoder owns the memory that Pillow's image lies on, and
calls Pillow's own JPEG and PNG encoders itself. That leans on Pillow's inner parts: `_fast_way`
tries them on a small tile first, and where anything fails or differs, `save` serves.
"""

from __future__ import annotations

import io
import math
import os
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from . import png
from ._files import take
from .blank import Blank
from .codec import Codec, Deflate, Png
from .colour import NOTHING, Attached, Transform, converting
from .deflate import deflated
from .errors import OptionError
from .resample import Colour, Packer, check_rows, packed_bands, packer

Pixels = NDArray[Any]

WHITE: Colour = (255, 255, 255)

UNIFORM_KEPT = 4096
"""How many encoded tiles of one single colour are kept for the next one like it."""

DESKS_KEPT = 8
"""How many forms of tiles an encoder is ready for: inner ones, edges, the corner, two levels."""

_core: Any = Image.core  # type: ignore[attr-defined]


def parse_colour(text: str) -> Colour:
    """Red, green and blue of a colour as Pillow's ImageColor reads it: "white", "#1e90ff" …

    Raises:
        OptionError: It is no colour.
    """
    from PIL import ImageColor  # it takes long to import, and is seldom needed

    try:
        return ImageColor.getrgb(text)[:3]
    except ValueError:
        raise OptionError(
            f"background {text!r} is no colour: a name like white, or #rrggbb would do"
        ) from None


class Encoder:
    r"""Encodes tiles one after the other; not to be used from two threads at once.

    Args:
        codec: How.
        background: What pixels with alpha are laid on where the format has no alpha. It is a
            colour of the tiles: sRGB, unless they carry a profile.
        uniform: Encoded tiles of a single colour, shared by the encoders of one job that attach
            the same.
        transform: What makes sRGB of the tiles' colours. None: they stay.
        attached: What the tiles carry beside their pixels.
        workshop: What the encoders of one thread share. Default: nothing is shared.
        blank: What a tile looks like that is not wanted. Default: all are.

    Attributes:
        codec, workshop: As above.
        attached: What of it the tiles do carry.

    Example:
        >>> Encoder(Jpeg(quality=75)).encode(np.zeros((256, 256, 3), np.uint8))[:2]
        b'\xff\xd8'
    """

    def __init__(
        self,
        codec: Codec,
        background: Colour = WHITE,
        uniform: dict[tuple[Any, ...], bytes | None] | None = None,
        *,
        transform: Transform | None = None,
        attached: Attached = NOTHING,
        workshop: Workshop | None = None,
        blank: Blank | None = None,
    ) -> None:
        self.codec = codec
        self._background = None if codec.keeps_alpha else background
        self._uniform = {} if uniform is None else uniform
        self.attached = codec.carried(attached)
        self.workshop = workshop or Workshop()
        self._transform = transform
        self._blank = blank
        self._desks: dict[tuple[Any, ...], _Desk] = {}

    def encode(self, tile: Pixels) -> bytes | None:
        """The tile as a file of the codec's format, or None if it is blank and not wanted.

        Args:
            tile: Shape (height, width, bands) with 1 to 4 bands, uint8; PNG also takes uint16
                with one band. The pixels of a row are contiguous, rows lie at any stride.

        Raises:
            ValueError: The shape, dtype or strides do not fit.
            OSError: Pillow cannot encode it.
        """
        # Tiles of one key need one check: what they are packed by is all in it.
        key = (tile.shape, tile.strides[1:], tile.dtype.char)
        desk = self._desks.get(key)
        if desk is None:
            if len(self._desks) >= DESKS_KEPT:
                self._desks.clear()
            desk = self._desks[key] = self._new_desk(tile)
        if not desk.packer(tile, desk.pixels):
            return desk.encode()
        colour = (desk.shape, desk.pixels[0, 0].tobytes())
        if colour in self._uniform:
            return self._uniform[colour]
        data = desk.encode()
        if len(self._uniform) < UNIFORM_KEPT:
            self._uniform[colour] = data
        return data

    def _new_desk(self, tile: Pixels) -> _Desk:
        height, width, bands = check_rows("tile", tile)
        if not tile.size:
            raise ValueError(f"a tile of {width}×{height} pixels cannot be encoded")
        if self._transform is not None:
            return self._new_converting_desk(tile, self._transform)
        flat = self._background is not None
        shape = (height, width, packed_bands(bands, flat=flat))
        pixels = self.workshop.pixels("packed", shape, tile.dtype)
        mode = _mode(bands, tile.dtype, flat=flat)
        return _Desk(
            shape=tile.shape,
            pixels=pixels,
            packer=packer(bands, tile.dtype, self._background),
            encode=self._encoding(mode, pixels),
        )

    def _new_converting_desk(self, tile: Pixels, transform: Transform) -> _Desk:
        """Packed as it is, converted, and only then laid on the background, which is sRGB."""
        height, width, bands = tile.shape
        cmyk = transform.mode == "CMYK"
        if tile.dtype != np.uint8 or bands not in ((4,) if cmyk else (3, 4)):
            raise ValueError(f"{tile.dtype} tiles with {bands} bands are not {transform.mode}")
        shape = (height, width, 4)
        packed = converted = self.workshop.pixels("packed", shape, tile.dtype)
        if cmyk:
            converted = self.workshop.pixels("converted", shape, tile.dtype)
        steps: list[Callable[[], object]] = [converting(transform, packed, converted)]
        alpha = bands == 4 and not cmyk
        if alpha and self._background is not None:
            alpha = False
            flat = self.workshop.pixels("flat", shape, tile.dtype)
            lay = packer(bands, tile.dtype, self._background)
            steps.append(partial(lay, converted, flat))
            converted = flat
        encode = self._encoding("RGBA" if alpha else "RGB", converted)

        def convert_and_encode() -> bytes | None:
            for step in steps:
                step()
            return encode()

        return _Desk(
            shape=tile.shape,
            pixels=packed,
            packer=packer(bands, tile.dtype, None),
            encode=convert_and_encode,
        )

    def _encoding(self, mode: str, pixels: Pixels) -> Callable[[], bytes | None]:
        """What encodes packed pixels, unless they are blank."""
        encode = encoding(self.codec, mode, self.attached)(pixels, self.workshop)
        if self._blank is None:
            return encode
        blank = self._blank.test(mode, pixels)
        return lambda: None if blank() else encode()


@dataclass(frozen=True)
class _Desk:
    """What is ready for tiles of one form: where they are packed, and what encodes them there."""

    shape: tuple[int, ...]
    pixels: Pixels
    packer: Packer
    encode: Callable[[], bytes | None]


class Spool:
    """A file without a name, in memory where the system has that, for Pillow to write into."""

    def __init__(self) -> None:
        if hasattr(os, "memfd_create"):
            self._descriptor = os.memfd_create("fasttile", os.MFD_CLOEXEC)
        else:
            import tempfile  # it takes long to import

            with tempfile.TemporaryFile(buffering=0) as file:
                self._descriptor = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._descriptor)

    def fileno(self) -> int:
        """The descriptor to write to."""
        return self._descriptor

    def take(self) -> bytes:
        """What was written since the last call."""
        return take(self._descriptor)


class Workshop:
    """What is used for one tile at a time, whatever its form: memory, and a file.

    Attributes:
        files: Where Pillow writes to.
    """

    def __init__(self) -> None:
        self.files = Spool()
        self._memory: dict[str, Pixels] = {}

    def room(self, use: str, nbytes: int) -> Pixels:
        """So many bytes of memory, the same for each call with this use; 255 at first."""
        memory = self._memory.get(use)
        if memory is None or len(memory) < nbytes:
            # Desks on the old memory keep it.
            memory = self._memory[use] = np.full(nbytes, 255, np.uint8)
        return memory[:nbytes]

    def pixels(self, use: str, shape: tuple[int, int, int], dtype: np.dtype[Any]) -> Pixels:
        """The same, as pixels in C order."""
        nbytes = math.prod(shape) * dtype.itemsize
        return self.room(use, nbytes).view(dtype).reshape(shape)


Way = Callable[[Pixels, Workshop], Callable[[], bytes]]
"""Given packed pixels, gives a function that encodes what stands in them at each call."""


def encoding(codec: Codec, mode: str, attached: Attached = NOTHING) -> Way:
    """The fastest way that works here to encode packed tiles of one of Pillow's modes.

    Args:
        codec: How.
        mode: Pillow's mode.
        attached: What the tiles carry, as `codec.carried` has it.
    """
    if isinstance(codec, Deflate):
        level = codec.compress_level
        return lambda pixels, workshop: deflated(mode, pixels, level)
    return _fast_way(codec, mode, attached) or _plain_way(codec, mode, attached)


def _parameters(codec: Codec, attached: Attached) -> dict[str, Any]:
    """What Pillow's `Image.save` is given."""
    parameters = codec.parameters()
    if attached.icc_profile is not None:
        parameters["icc_profile"] = attached.icc_profile
    if attached.resolution is not None:
        parameters["dpi"] = attached.resolution
    return parameters


def _mode(bands: int, dtype: np.dtype[Any], *, flat: bool) -> str:
    """Pillow's mode for a packed tile."""
    if dtype == np.uint16:
        return "I;16"
    return ("L", "L" if flat else "LA", "RGB", "RGB" if flat else "RGBA")[bands - 1]


def _plain_way(codec: Codec, mode: str, attached: Attached) -> Way:
    """By Pillow's public functions."""
    parameters = _parameters(codec, attached)

    def over(pixels: Pixels, workshop: Workshop) -> Callable[[], bytes]:

        def encode() -> bytes:
            file = io.BytesIO()
            _image(mode, pixels).save(file, codec.name, **parameters)
            return file.getvalue()

        return encode

    return over


def _image(mode: str, pixels: Pixels) -> Image.Image:
    """A Pillow image of packed pixels, by public functions: a copy for some modes."""
    height, width, _ = pixels.shape
    raw = {"RGB": "RGBX", "LA": "RGBA"}.get(mode, mode)
    image = Image.frombuffer(raw, (width, height), pixels, "raw", raw, 0, 1)
    if mode == "LA":
        return Image.merge("LA", (image.getchannel(0), image.getchannel(3)))
    return image.convert(mode) if raw != mode else image


@lru_cache(maxsize=64)
def _fast_way(codec: Codec, mode: str, attached: Attached) -> Way | None:
    """By Pillow's encoders directly, if a trial shows that they give what `save` gives."""
    ways = {"jpeg": _jpeg_way, "png": _png_way}
    if codec.name not in ways:
        return None
    dtype = np.dtype(np.uint16 if mode == "I;16" else np.uint8)
    bands = 4 if mode in ("LA", "RGB", "RGBA") else 1
    trial = (np.arange(24 * 17 * bands).reshape(24, 17, bands) * 37).astype(dtype)
    if mode == "LA":
        trial[..., 1] = trial[..., 2] = trial[..., 0]
    try:
        way = ways[codec.name](codec, mode, attached)
        image = _image(mode, trial)
        same = way(trial, Workshop())() == _saved(image, codec, attached)
    except Exception:
        # Whatever fails in there says the same: this Pillow is not as we know it.
        return None
    return way if same else None


def _saved(image: Image.Image, codec: Codec, attached: Attached) -> bytes:
    """What `save` gives, by the format's plugin alone: `save` itself imports all common ones."""
    plugin = import_module(f"PIL.{codec.plugin}")
    image.encoderinfo = _parameters(codec, attached)
    image.encoderconfig = ()
    file = io.BytesIO()
    plugin._save(image, file, "")
    return file.getvalue()


def _configuration(codec: Codec, mode: str, attached: Attached) -> tuple[Any, ...]:
    """What Pillow's plugin hands to its encoder for these parameters, as it has worked it out."""
    image = Image.new(mode, (8, 8))
    _saved(image, codec, attached)
    configuration: tuple[Any, ...] = image.encoderconfig
    return configuration


def _jpeg_way(codec: Codec, mode: str, attached: Attached) -> Way:
    # Four bytes a pixel go to libjpeg-turbo as they are; "RGB" would be repacked first.
    mode = {"RGB": "RGBX"}.get(mode, mode)
    configuration = _configuration(codec, mode, attached)
    rawmode = import_module("PIL.JpegImagePlugin").RAWMODE[mode]
    parameters = codec.parameters()
    in_one_go = parameters["progressive"] or parameters["optimize"]
    profile_bytes = 2 * len(attached.icc_profile or b"")  # with its markers, generously

    def over(pixels: Pixels, workshop: Workshop) -> Callable[[], bytes]:
        height, width, _ = pixels.shape
        image = _core.map_buffer(pixels, (width, height), "raw", 0, (mode, 0, 1))
        # libjpeg cannot pause while it writes several scans or its own tables. Otherwise a small
        # buffer, which most tiles fill once, is the quickest: Pillow clears it for each tile.
        room = max(2**16, 4 * width * height) + profile_bytes if in_one_go else 2**14
        spool = workshop.files

        def encode() -> bytes:
            encoder = _core.jpeg_encoder(mode, rawmode, *configuration)
            encoder.setimage(image, (0, 0, width, height))
            status = encoder.encode_to_file(spool.fileno(), room)
            encoder.cleanup()
            data = spool.take()
            if status < 0:
                raise OSError(f"Pillow's JPEG encoder failed with status {status}")
            return data

        return encode

    return over


def _png_way(codec: Codec, mode: str, attached: Attached) -> Way:
    assert isinstance(codec, Png)
    configuration = _configuration(codec, mode, attached)
    chunks = png.attached_chunks(attached)

    def over(pixels: Pixels, workshop: Workshop) -> Callable[[], bytes]:
        as_photograph = png.filtered(mode, pixels, configuration, chunks)
        if not (codec.by_kind and png.leaves_unfiltered()):
            return as_photograph
        as_graphics = png.unfiltered(mode, pixels, partial(workshop.room, "rows"), chunks)
        return lambda: as_graphics() if png.is_flat(pixels) else as_photograph()

    return over
