"""One tile: its pixels to JPEG, PNG, WebP or AVIF bytes, by Pillow, on as many threads as call it.

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
from functools import lru_cache, partial
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from fasttile import pillow_core
from fasttile._files import read_back
from fasttile.colour.convert import NO_METADATA, ColourPlan, TileMetadata, Transform, make_converter
from fasttile.encode import png
from fasttile.encode.codecs import Codec, Deflate, Png
from fasttile.encode.png import deflate_encoder
from fasttile.errors import PluginError
from fasttile.kernels import Packer, check_rows, luma, make_packer, packed_bands
from fasttile.options import opaque_colour
from fasttile.types import Background, Colour, Pixels

WHITE: Colour = (255, 255, 255)

MAX_UNIFORM_TILES = 4096
"""How many encoded tiles of one single colour are kept for the next one like it."""

_EXIF_MARK = b"Exif\0\0"  # of JPEG; Pillow removes it for other formats

MAX_PREPARED_ENCODERS = 8
"""How many forms of tiles an encoder is ready for: inner ones, edges, the corner, two levels."""


class Encoder:
    r"""Encodes tiles one after the other; not to be used from two threads at once.

    Args:
        codec: How.
        background: What pixels with alpha are laid on where the format has no alpha. It is a
            colour of the tiles: sRGB, unless they carry a profile. If it has alpha itself, opaque
            tiles are encoded without alpha.
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
        background: Background = WHITE,
        uniform_tiles: dict[tuple[Any, ...], bytes | None] | None = None,
        *,
        transform: Transform | None = None,
        tile_metadata: TileMetadata = NO_METADATA,
        scratch: EncoderScratch | None = None,
        blank: BlankCriterion | None = None,
    ) -> None:
        self.codec = codec
        self._background = None if codec.keeps_alpha else opaque_colour(background)
        # All tiles of a TIFF have the same bands.
        self._drops_alpha = len(background) == 4 and not isinstance(codec, Deflate)
        self._uniform_tiles = {} if uniform_tiles is None else uniform_tiles
        self.tile_metadata = codec.storable_metadata(tile_metadata)
        self.scratch = scratch or EncoderScratch()
        self._transform = transform
        self._blank = blank
        self._prepared: dict[tuple[Any, ...], _PreparedEncoder] = {}

    def encode(self, tile: Pixels) -> bytes | None:
        """The tile as a file of the codec's format, or None if it is blank and not wanted.

        Args:
            tile: Shape (height, width, bands) with 1 to 4 bands, uint8; PNG also takes uint16
                with one band. The pixels of a row are contiguous, or RGB in four bytes each;
                rows lie at any stride.

        Raises:
            ValueError: The shape, dtype or strides do not fit.
            OSError: Pillow cannot encode it.
        """
        if self._drops_alpha:
            tile = self._without_opaque_alpha(tile)
        # Tiles of one key need one check: what they are packed by is all in it.
        key = (tile.shape, tile.strides[1:], tile.dtype.char)
        desk = self._prepared.get(key)
        if desk is None:
            if len(self._prepared) >= MAX_PREPARED_ENCODERS:
                self._prepared.clear()
            desk = self._prepared[key] = self._prepare(tile)
        if not desk.packer(tile, desk.pixels):
            return desk.encode()
        colour = (desk.shape, desk.pixels[0, 0].tobytes())
        if colour in self._uniform_tiles:
            return self._uniform_tiles[colour]
        data = desk.encode()
        if len(self._uniform_tiles) < MAX_UNIFORM_TILES:
            self._uniform_tiles[colour] = data
        return data

    def _without_opaque_alpha(self, tile: Pixels) -> Pixels:
        """A tile without its alpha, if it is opaque."""
        bands = tile.shape[2]
        is_cmyk = self._transform is not None and self._transform.mode == "CMYK"
        if bands not in (2, 4) or is_cmyk or tile[..., -1].min(initial=255) < 255:
            return tile
        return tile[..., :3] if bands == 4 else np.ascontiguousarray(tile[..., :1])

    def _prepare(self, tile: Pixels) -> _PreparedEncoder:
        height, width, bands = check_rows("tile", tile, may_be_padded=True)
        if not tile.size:
            raise ValueError(f"a tile of {width}×{height} pixels cannot be encoded")
        if self._transform is not None:
            return self._prepare_converting(tile, self._transform)
        flat = self._background is not None
        shape = (height, width, packed_bands(bands, flat=flat))
        pixels = self.scratch.pixels("packed", shape, tile.dtype)
        mode = ("L", "L" if flat else "LA", "RGB", "RGB" if flat else "RGBA")[bands - 1]
        return _PreparedEncoder(
            shape=tile.shape,
            pixels=pixels,
            packer=make_packer(bands, tile.dtype, self._background),
            encode=self._make_encode("I;16" if tile.dtype == np.uint16 else mode, pixels),
        )

    def _prepare_converting(self, tile: Pixels, transform: Transform) -> _PreparedEncoder:
        """Packed as it is, converted, and only then laid on the background, which is sRGB."""
        height, width, bands = tile.shape
        cmyk = transform.mode == "CMYK"
        if tile.dtype != np.uint8 or bands not in ((4,) if cmyk else (3, 4)):
            raise ValueError(f"{tile.dtype} tiles with {bands} bands are not {transform.mode}")
        shape = (height, width, 4)
        packed = converted = self.scratch.pixels("packed", shape, tile.dtype)
        if cmyk:
            converted = self.scratch.pixels("converted", shape, tile.dtype)
        steps: list[Callable[[], object]] = [make_converter(transform, packed, converted)]
        alpha = bands == 4 and not cmyk
        if alpha and self._background is not None:
            alpha = False
            flat = self.scratch.pixels("flat", shape, tile.dtype)
            lay = make_packer(bands, tile.dtype, self._background)
            steps.append(partial(lay, converted, flat))
            converted = flat
        encode = self._make_encode("RGBA" if alpha else "RGB", converted)

        def convert_and_encode() -> bytes | None:
            for step in steps:
                step()
            return encode()

        return _PreparedEncoder(
            shape=tile.shape,
            pixels=packed,
            packer=make_packer(bands, tile.dtype, None),
            encode=convert_and_encode,
        )

    def _make_encode(self, mode: str, pixels: Pixels) -> Callable[[], bytes | None]:
        """What encodes packed pixels, unless they are blank."""
        encode = encoder_factory(self.codec, mode, self.tile_metadata)(pixels, self.scratch)
        if self._blank is None:
            return encode
        blank = self._blank.make_test(mode, pixels)
        return lambda: None if blank() else encode()


def make_encoder(
    codec: Codec, background: Background = WHITE, colour_plan: ColourPlan | None = None
) -> Encoder:
    """An encoder for one thread and tiles of the full size; see `Encoder`."""
    if colour_plan is None:
        return Encoder(codec, background)
    transform, metadata = colour_plan.transform, colour_plan.tile_metadata
    return Encoder(codec, background, transform=transform, tile_metadata=metadata)


class _PreparedEncoder(NamedTuple):
    """What is ready for tiles of one form: where they are packed, and what encodes them there."""

    shape: tuple[int, ...]
    pixels: Pixels
    packer: Packer
    encode: Callable[[], bytes | None]


class ScratchFile:
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

    def read_back(self) -> bytes:
        """What was written since the last call."""
        return read_back(self._descriptor)


class EncoderScratch:
    """Memory and a file that one tile at a time uses.

    Attributes:
        files: Where Pillow writes to.
    """

    def __init__(self) -> None:
        self.file = ScratchFile()
        self._memory: dict[str, Pixels] = {}

    def buffer(self, use: str, nbytes: int) -> Pixels:
        """A number of bytes, the same memory for each call with this purpose; 255 at first."""
        memory = self._memory.get(use)
        if memory is None or len(memory) < nbytes:
            # Desks on the old memory keep it.
            memory = self._memory[use] = np.full(nbytes, 255, np.uint8)
        return memory[:nbytes]

    def pixels(self, use: str, shape: tuple[int, int, int], dtype: np.dtype[Any]) -> Pixels:
        """The same, as pixels in C order."""
        nbytes = math.prod(shape) * dtype.itemsize
        return self.buffer(use, nbytes).view(dtype).reshape(shape)


EncoderFactory = Callable[[Pixels, EncoderScratch], Callable[[], bytes]]
"""Takes a buffer of packed pixels; returns a function that encodes its content at each call."""


def encoder_factory(
    codec: Codec, mode: str, tile_metadata: TileMetadata = NO_METADATA
) -> EncoderFactory:
    """The fastest way that works here to encode packed tiles of one of Pillow's modes.

    Args:
        codec: How.
        mode: Pillow's mode.
        attached: What the tiles carry, as `codec.carried` has it.
    """
    if isinstance(codec, Deflate):
        level = codec.compress_level
        return lambda pixels, workshop: deflate_encoder(mode, pixels, level)
    if type(codec).encode is not Codec.encode:
        return lambda pixels, workshop: partial(
            _encode_by_codec, codec, mode, pixels, tile_metadata
        )
    direct = _direct_encoder(codec, mode, tile_metadata)
    if direct is not None:
        return direct
    parameters = _save_parameters(codec, tile_metadata)
    if codec.name == "avif" and mode in ("L", "LA"):
        parameters["subsampling"] = "4:0:0"
    spreads = codec.name == "avif" and mode in ("LA", "RGBA")

    def prepare(pixels: Pixels, workshop: EncoderScratch) -> Callable[[], bytes]:
        def encode() -> bytes:
            file, ready = io.BytesIO(), pixels
            if spreads:
                from fasttile.encode.avif import spread_colours  # few cuts need it

                ready = spread_colours(pixels)
            _to_pillow_image(mode, ready).save(file, codec.name, **parameters)
            return file.getvalue()

        return encode

    return prepare


def _encode_by_codec(codec: Codec, mode: str, packed: Pixels, metadata: TileMetadata) -> bytes:
    """Encode packed pixels by a codec of another package.

    Raises:
        PluginError: The codec fails, or returns no bytes.
    """
    from fasttile.plugins import errors_of_part  # fasttile's own codecs need none

    bands = {"RGB": [0, 1, 2], "LA": [0, 3]}.get(mode)
    pixels = packed.copy() if bands is None else np.ascontiguousarray(packed[..., bands])
    with errors_of_part(f"codec {codec.name!r}: it cannot encode a tile"):
        data = codec.encode(pixels, metadata)
    if not isinstance(data, bytes) or not data:
        kind = type(data).__name__ if data else "nothing"
        raise PluginError(f"codec {codec.name!r}: a tile became {kind}; expected bytes")
    return data


def _save_parameters(codec: Codec, attached: TileMetadata) -> dict[str, Any]:
    """Parameters of Pillow's `Image.save`."""
    parameters = codec.save_parameters()
    if attached.icc_profile is not None:
        parameters["icc_profile"] = attached.icc_profile
    if attached.resolution is not None:
        parameters["dpi"] = attached.resolution
    if attached.exif is not None:
        parameters["exif"] = _EXIF_MARK + attached.exif
    return parameters


def _to_pillow_image(mode: str, pixels: Pixels) -> Image.Image:
    """A Pillow image of packed pixels, by public functions: a copy for some modes."""
    height, width, _ = pixels.shape
    raw = {"RGB": "RGBX", "LA": "RGBA"}.get(mode, mode)
    image = Image.frombuffer(raw, (width, height), pixels, "raw", raw, 0, 1)
    if mode == "LA":
        return Image.merge("LA", (image.getchannel(0), image.getchannel(3)))
    return image.convert(mode) if raw != mode else image


@lru_cache(maxsize=64)
def _direct_encoder(codec: Codec, mode: str, attached: TileMetadata) -> EncoderFactory | None:
    """By Pillow's encoders directly, if a trial shows that they give what `save` gives."""
    ways = {"jpeg": _jpeg_encoder, "png": _png_encoder}
    if codec.name not in ways:
        return None
    dtype = np.dtype(np.uint16 if mode == "I;16" else np.uint8)
    bands = 4 if mode in ("LA", "RGB", "RGBA") else 1
    trial = (np.arange(24 * 17 * bands).reshape(24, 17, bands) * 37).astype(dtype)
    if mode == "LA":
        trial[..., 1] = trial[..., 2] = trial[..., 0]
    encoder = ways[codec.name]

    def is_same() -> bool:
        image = _to_pillow_image(mode, trial)
        data = encoder(codec, mode, attached)(trial, EncoderScratch())()
        return data == _save_with_plugin(image, codec, attached)

    return encoder(codec, mode, attached) if pillow_core.is_same_as_public(is_same) else None


def _save_with_plugin(image: Image.Image, codec: Codec, attached: TileMetadata) -> bytes:
    return pillow_core.save_by_plugin(image, codec.pillow_plugin, _save_parameters(codec, attached))


def _encoder_configuration(codec: Codec, mode: str, attached: TileMetadata) -> tuple[Any, ...]:
    """The configuration that Pillow's plugin passes to its encoder for these parameters."""
    image = Image.new(mode, (8, 8))
    _save_with_plugin(image, codec, attached)
    configuration: tuple[Any, ...] = image.encoderconfig
    return configuration


def _jpeg_encoder(codec: Codec, mode: str, attached: TileMetadata) -> EncoderFactory:
    # Four bytes a pixel go to libjpeg-turbo as they are; "RGB" would be repacked first.
    mode = {"RGB": "RGBX"}.get(mode, mode)
    configuration = _encoder_configuration(codec, mode, attached)
    rawmode = import_module("PIL.JpegImagePlugin").RAWMODE[mode]
    parameters = codec.save_parameters()
    in_one_go = parameters["progressive"] or parameters["optimize"]
    # With its markers, generously
    profile_bytes = 2 * len(attached.icc_profile or b"") + 2 * len(attached.exif or b"")

    def prepare(pixels: Pixels, workshop: EncoderScratch) -> Callable[[], bytes]:
        height, width, _ = pixels.shape
        image = pillow_core.core_image_over(pixels, mode, width)
        # libjpeg cannot pause while it writes several scans or its own tables. Otherwise a small
        # buffer, which most tiles fill once, is the quickest: Pillow clears it for each tile.
        room = max(2**16, 4 * width * height) + profile_bytes if in_one_go else 2**14
        spool = workshop.file

        def encode() -> bytes:
            status = pillow_core.encode_jpeg(
                image, mode, rawmode, configuration, spool.fileno(), room
            )
            data = spool.read_back()
            if status < 0:
                raise OSError(f"Pillow's JPEG encoder failed with status {status}")
            return data

        return encode

    return prepare


def _png_encoder(codec: Codec, mode: str, attached: TileMetadata) -> EncoderFactory:
    assert isinstance(codec, Png)
    configuration = _encoder_configuration(codec, mode, attached)
    chunks = png.metadata_chunks(attached)

    def prepare(pixels: Pixels, workshop: EncoderScratch) -> Callable[[], bytes]:
        as_photograph = png.filtered_encoder(mode, pixels, configuration, chunks)
        if not (codec.is_adaptive and png.supports_unfiltered()):
            return as_photograph
        as_graphics = png.unfiltered_encoder(mode, pixels, partial(workshop.buffer, "rows"), chunks)
        return lambda: as_graphics() if png.is_flat(pixels) else as_photograph()

    return prepare


# Which tiles show nothing, and so need not be stored.


class BlankCriterion(NamedTuple):
    """The look of tiles that show nothing.

    Args:
        background: Red, green and blue, 0 to 255; and alpha if it is not opaque.
        threshold: By how much of 255 each pixel may differ from it in each band; in alpha too if
            the background has it. Pixels that are no more opaque than that show nothing either.
    """

    background: Background
    threshold: int = 0

    def make_test(self, mode: str, pixels: Pixels) -> Callable[[], bool]:
        """A function that returns True if the packed pixels in a buffer are blank at the call.

        Args:
            mode: Pillow's mode of the packed pixels.
            pixels: Shape (height, width, 1 or 4).
        """
        height, width, bands = pixels.shape
        alpha = mode in ("LA", "RGBA")
        red, green, blue, *opacity = self.background
        if not alpha and opacity and 255 - opacity[0] > self.threshold:
            return lambda: False  # opaque pixels show something
        colour = (red, green, blue)
        if mode not in ("RGB", "RGBA"):
            colour = (luma(colour),) * 3
        values = (*colour, *opacity) if alpha else colour
        bounds = [
            (max(0, value - self.threshold), min(255, value + self.threshold)) for value in values
        ]
        bounds.append((0, 255))  # any alpha, or a byte that means nothing
        unit = 257 if pixels.dtype == np.uint16 else 1
        low, high = unit * np.array(bounds[:bands], pixels.dtype).T

        def blank(part: Pixels) -> bool:
            near = ((part >= low) & (part <= high)).all(axis=2)
            if alpha:
                near |= part[:, :, 3] <= self.threshold
            return bool(near.all())

        # Most tiles that show something show it in a corner or in the middle already.
        look = pixels[:: max(1, height // 2), :: max(1, width // 2)]
        return lambda: blank(look) and blank(pixels)
