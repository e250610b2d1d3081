"""Pillow's private parts. No other module touches them.

Pillow's C core is no public interface and may change. So each use of it is tried once, before its
first real use, against Pillow's public functions (`is_same_as_public`). Where the results differ,
the caller uses the public functions, which are slower.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageFile

from fasttile.types import Pixels

if TYPE_CHECKING:
    from numpy.typing import NDArray

core: Any = Image.core  # type: ignore[attr-defined]
"""Pillow's C core."""

# Modes whose pixels take one byte in Pillow's memory. "I;16" takes two, all others four.
_PIXEL_BYTES = {"1": 1, "L": 1, "P": 1}


def is_same_as_public(trial: Callable[[], bool]) -> bool:
    """True if a trial of private parts returns True; False if it raises anything.

    Any exception means the same: this version of Pillow works differently.
    """
    try:
        return trial()
    except Exception:
        return False


# Images over memory.


def pixel_bytes(mode: str) -> int:
    """Bytes of a pixel of one of Pillow's modes in memory."""
    return 2 if mode.startswith("I;16") else _PIXEL_BYTES.get(mode, 4)


def core_image_over(memory: Pixels, mode: str, width: int, row_bytes: int = 0) -> Any:
    """Core image over rows in memory, without a copy.

    Args:
        memory: Rows of pixels, C order; it must live as long as the image.
        mode, width: Mode and width of the image. Mode "1" has the memory layout of "L": 0 or 255.
        row_bytes: Bytes from row to row. Default: rows without gaps.
    """
    mode = {"1": "L"}.get(mode, mode)
    return core.map_buffer(memory, (width, len(memory)), "raw", 0, (mode, row_bytes, 1))


def image_over(rows: NDArray[np.uint8], mode: str, width: int) -> Image.Image:
    """Pillow image over rows in memory, without a copy.

    Args:
        rows: Shape (height, width * pixel_bytes(mode)), C order; it must live as long.
        mode, width: Mode and width of the image.
    """
    image = Image.Image()
    image.im = core_image_over(rows, mode, width, rows.shape[1])
    image._mode = image.im.mode
    image._size = (width, len(rows))
    return image


def image_like(image: Image.Image, rows: NDArray[np.uint8]) -> Image.Image:
    """Image over rows in memory, with the mode, palette and transparent colour of another."""
    width = rows.shape[1] // pixel_bytes(image.mode)
    made = image._new(core_image_over(rows, image.mode, width, rows.shape[1]))
    if made.palette is not None and image.palette is not None:
        # Pillow copies a palette to the core image at its next use.
        made.palette.dirty = made.palette.dirty or int(made.palette.rawmode is None)
    elif image.mode in ("P", "PA") and core_image_of(image) is not None:
        # Some plugins take over the core image of another file, and with it the palette.
        made.im.putpalette("RGB", "RGB", image.im.getpalette("RGB", "RGB"))
    return made


def core_image_of(image: Image.Image) -> Any:
    """Core image of a Pillow image, or None before it is loaded."""
    return image._im


# Encoders and decoders.


def save_by_plugin(image: Image.Image, plugin: str, parameters: dict[str, Any]) -> bytes:
    """Encode an image as `Image.save` does, by one plugin: `save` imports all common ones.

    Afterwards `image.encoderconfig` is the configuration that the plugin passed to its encoder.
    """
    image.encoderinfo = parameters
    image.encoderconfig = ()
    file = io.BytesIO()
    import_module(f"PIL.{plugin}")._save(image, file, "")
    return file.getvalue()


def encodes_avif() -> bool:
    """True if this Pillow was built with an encoder of AVIF."""

    def lists_an_encoder() -> bool:
        return "enc" in str(import_module("PIL._avif").codec_versions())

    return is_same_as_public(lists_an_encoder)


def encode_jpeg(
    image: Any, mode: str, rawmode: str, configuration: tuple[Any, ...], file: int, size: int
) -> int:
    """Encode a core image into a file without the GIL; returns a status, negative for errors.

    Args:
        image: From `core_image_over`.
        mode, rawmode, configuration: As Pillow's JPEG plugin passes them.
        file: A file descriptor.
        size: Bytes of the encoder's buffer.
    """
    encoder = core.jpeg_encoder(mode, rawmode, *configuration)
    encoder.setimage(image, (0, 0, *image.size))
    status: int = encoder.encode_to_file(file, size)
    encoder.cleanup()
    return status


def deflate(
    image: Any, mode: str, rawmode: str, configuration: tuple[Any, ...], size: int
) -> list[bytes]:
    """Pieces of a core image's zlib stream for PNG; the encoder releases the GIL itself.

    Args:
        image: From `core_image_over`.
        mode, rawmode, configuration: As Pillow's PNG plugin passes them.
        size: Bytes of the encoder's buffer.

    Raises:
        OSError: The encoder fails.
    """
    encoder = core.zip_encoder(mode, rawmode, *configuration)
    encoder.setimage(image, (0, 0, *image.size))
    pieces, status = [], 0
    while status == 0:
        _, status, data = encoder.encode(size)
        pieces.append(data)
    encoder.cleanup()
    if status < 0:
        raise OSError(f"Pillow's PNG encoder failed with status {status}")
    return pieces


def open_decoder(image: ImageFile.ImageFile, rows: NDArray[np.uint8]) -> Any:
    """Decoder of an image's only tile that writes into memory.

    Args:
        image: An image that is open and not loaded.
        rows: Shape (height, width * pixel_bytes(mode)), C order. It becomes the image's memory.
    """
    image.im = core_image_over(rows, image.mode, image.width, rows.shape[1])
    image.load_prepare()
    return _decoder_into(image, image.im, image.tile[0][1])


def _decoder_into(image: ImageFile.ImageFile, core_image: Any, extents: Any) -> Any:
    name, _, _, arguments = image.tile[0]
    if name == "jpeg" and image.mode == "RGB":
        arguments = ("RGBX", "")  # the same, without a pass over each row
    decoder: Any = Image._getdecoder(image.mode, name, arguments, image.decoderconfig)
    decoder.setimage(core_image, extents)
    return decoder


def decode_jpeg(image: ImageFile.ImageFile, data: bytes, rows: NDArray[np.uint8]) -> bool:
    """Decode a complete JPEG of another height as an image would be; false if that fails.

    Args:
        image: A JPEG that is open and not loaded; it does not change.
        data: The other JPEG, with the same width and bands.
        rows: Where its pixels go, shape (height, width * pixel_bytes(mode)), C order.
    """
    core_image = core_image_over(rows, image.mode, image.width, rows.shape[1])
    decoder = _decoder_into(image, core_image, (0, 0, image.width, len(rows)))
    used = 1
    while used > 0:
        used, status = decoder.decode(data)
        data = data[used:] if used > 0 else data
    decoder.cleanup()
    return bool(used < 0 and status == 0)


# Colours.


def make_lcms_converter(
    transform: Any, pixels: Pixels, out: Pixels, modes: tuple[str, str]
) -> Callable[[], None]:
    """Function that applies a transform of ImageCms to arrays, without a copy.

    Args:
        transform: A `PIL.ImageCms.ImageCmsTransform`.
        pixels, out: Shape (height, width, 4), uint8, C order; they may be the same array.
        modes: Pillow's modes of `pixels` and `out`.
    """
    apply, width = transform.transform.apply, pixels.shape[1]
    before = after = core_image_over(pixels, modes[0], width)
    if out is not pixels:  # else it must be one image: of two, Pillow would copy the alpha
        after = core_image_over(out, modes[1], width)

    def convert() -> None:
        if apply(before.ptr, after.ptr):
            raise OSError("Pillow's ImageCms does not convert")

    return convert
