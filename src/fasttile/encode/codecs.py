"""How a tile is encoded: the formats, their parameters, and what each can hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import lru_cache
from numbers import Integral
from typing import Any, ClassVar

from fasttile.abc.codec import Codec as Codec
from fasttile.abc.codec import TileMetadata
from fasttile.errors import OptionError, PluginError
from fasttile.options import (
    parameter_types,
    parse_parameters,
    unknown_parameter_error,
    unknown_value_error,
)


@dataclass(frozen=True)
class _FileCodec(Codec):
    """A codec whose tiles are files of their own, with a place for Exif.

    Args:
        credit: True to write the title and the credit line into each tile.
    """

    credit: bool = field(default=False, kw_only=True)

    @property
    def keeps_credit(self) -> bool:
        """True with the parameter `credit`."""
        return self.credit

    def save_parameters(self) -> dict[str, Any]:
        """Parameters of Pillow's `Image.save`."""
        return {
            name: value for name, value in super().save_parameters().items() if name != "credit"
        }


@dataclass(frozen=True)
class Jpeg(_FileCodec):
    """JPEG tiles.

    Args:
        quality: 1 to 100, as libjpeg has it.
        subsampling: "4:4:4", "4:2:2" or "4:2:0".
        progressive: True for tiles in several scans; slower, and a little smaller.
        optimize: True for tiles with Huffman tables of their own; slower, and a little smaller.
        credit: True for tiles with title and credit line, as Exif; also of PNG, WebP and AVIF.

    Raises:
        OptionError: A value is none of these.
    """

    name = "jpeg"
    extension = "jpg"
    pillow_plugin = "JpegImagePlugin"
    keeps_alpha = False
    max_side = 65500

    quality: int = 80
    subsampling: str = "4:2:0"
    progressive: bool = False
    optimize: bool = False

    def __post_init__(self) -> None:
        _check_range("JPEG quality", self.quality, 1, 100)
        _check_subsampling("JPEG", self.subsampling)

    def _storable_resolution(self, x: float, y: float) -> tuple[float, float] | None:
        # JFIF has 16 bits for each, and 0 has no meaning.
        dots = (max(1, round(x)), max(1, round(y)))
        return dots if max(dots) < 2**16 else None


@dataclass(frozen=True)
class Png(_FileCodec):
    """PNG tiles, 8 bit with or without alpha, or 16-bit grey.

    If neither argument is given, photographs and flat graphics are compressed each in their
    own way, tile by tile (see png.py). If one is, all tiles are, after Pillow's choice of filters.

    Args:
        compress_level: 0 (none) to 9 (smallest); 6 if only the type is given.
        compress_type: zlib's strategy: 0 default, 1 filtered, 2 Huffman only, 3 run lengths,
            4 fixed; 0 if only the level is given.

    Raises:
        OptionError: A value is none of these.
    """

    name = "png"
    extension = "png"
    pillow_plugin = "PngImagePlugin"
    keeps_alpha = True
    max_side = 2**31 - 1
    bit_depths = (8, 16)

    compress_level: int | None = None
    compress_type: int | None = None

    def __post_init__(self) -> None:
        if self.compress_level is not None:
            _check_range("PNG compress_level", self.compress_level, 0, 9)
        if self.compress_type is not None:
            _check_range("PNG compress_type", self.compress_type, 0, 4)

    @property
    def is_adaptive(self) -> bool:
        """True if flat graphics are compressed in a way of their own."""
        return self.compress_level is None and self.compress_type is None

    def save_parameters(self) -> dict[str, Any]:
        """Parameters of Pillow's `Image.save`."""
        if self.is_adaptive:
            return {"compress_level": 6, "compress_type": 3}
        level = 6 if self.compress_level is None else self.compress_level
        return {"compress_level": level, "compress_type": self.compress_type or 0}

    def _storable_resolution(self, x: float, y: float) -> tuple[float, float] | None:
        # Pixels per metre in 31 bits; there has to be one at least.
        metre = 1 / 0.0254
        return (max(x, 0.0254), max(y, 0.0254)) if max(x, y) * metre < 2**31 - 1 else None


@dataclass(frozen=True)
class Webp(_FileCodec):
    """WebP tiles; lossless ones suit drawings, of which they are smaller than lossy ones.

    Args:
        quality: 1 to 100; of lossless tiles the effort.
        lossless: True to keep every pixel, the colours of transparent ones too.
        method: 0 (fast) to 6 (small). Default: 4; 1 for lossless tiles, as 4 takes three times as
            long for 0.3 % of the bytes of a drawing, and 3 % of a photograph.

    Raises:
        OptionError: A value is none of these.
    """

    name = "webp"
    extension = "webp"
    pillow_plugin = "WebPImagePlugin"
    keeps_alpha = True
    keeps_grey = False
    max_side = 16383

    refused_parameters: ClassVar[Mapping[str, str]] = {
        "near_lossless": "Pillow does not have it; use lossless, or quality=90"
    }

    quality: int = 80
    lossless: bool = False
    method: int | None = None

    def __post_init__(self) -> None:
        _check_range("WebP quality", self.quality, 1, 100)
        if self.method is not None:
            _check_range("WebP method", self.method, 0, 6)

    def save_parameters(self) -> dict[str, Any]:
        """Parameters of Pillow's `Image.save`."""
        default = 1 if self.lossless else 4
        method = default if self.method is None else self.method
        return {**super().save_parameters(), "method": method, "exact": self.lossless}


@dataclass(frozen=True)
class Avif(_FileCodec):
    """AVIF tiles, 8 bit with or without alpha; alpha has the quality of the colours.

    Each tile is encoded on one thread, so that its bytes do not depend on the number of threads.
    Pillow has no lossless AVIF: its conversion to luma and chroma rounds. Pixels that cannot be
    seen get the colours of others, see `encode.avif`.

    Args:
        quality: 1 to 100, as libavif has it; 65 looks as JPEG of 80 does.
        speed: 0 (small) to 10 (fast). 6 takes seven times as long as 9 for 12 % fewer bytes.
        subsampling: "4:4:4", "4:2:2" or "4:2:0". Grey tiles have no chroma.

    Raises:
        OptionError: A value is none of these, or this Pillow cannot encode AVIF.
    """

    name = "avif"
    extension = "avif"
    pillow_plugin = "AvifImagePlugin"
    keeps_alpha = True
    keeps_grey = False
    max_side = 16384
    refused_parameters: ClassVar[Mapping[str, str]] = {
        "lossless": "its colours are rounded; use webp:lossless or png"
    }

    quality: int = 65
    speed: int = 9
    subsampling: str = "4:2:0"

    def __post_init__(self) -> None:
        _check_range("AVIF quality", self.quality, 1, 100)
        _check_range("AVIF speed", self.speed, 0, 10)
        _check_subsampling("AVIF", self.subsampling)
        from fasttile.pillow_core import encodes_avif  # it imports Pillow

        if not encodes_avif():
            raise OptionError(
                "format avif: this Pillow has no encoder for it; install Pillow's own wheel, or "
                "use webp"
            )

    def save_parameters(self) -> dict[str, Any]:
        """Parameters of Pillow's `Image.save`."""
        return {**super().save_parameters(), "max_threads": 1, "autotiling": False}


@dataclass(frozen=True)
class Deflate(Codec):
    """Tiles of a TIFF without loss: differences along each row, deflated.

    Args:
        compress_level: 0 (none) to 9 (smallest).

    Raises:
        OptionError: The level is none of these.
    """

    name = "deflate"
    extension = "deflate"
    pillow_plugin = ""
    keeps_alpha = True
    max_side = 2**31 - 1
    bit_depths = (8, 16)

    compress_level: int = 6

    def __post_init__(self) -> None:
        _check_range("deflate compress_level", self.compress_level, 0, 9)

    def storable_metadata(self, tile_metadata: TileMetadata) -> TileMetadata:
        """Nothing: the container has it once for all tiles."""
        return tile_metadata._replace(icc_profile=None, resolution=None, exif=None)


CODECS: dict[str, type[Codec]] = {codec.name: codec for codec in (Jpeg, Png, Webp, Avif, Deflate)}


@lru_cache(maxsize=16)
def parse_codec(text: str, quality: int | None = None) -> Codec:
    """The codec that a text names: "jpeg", "jpeg:progressive,subsampling=4:4:4", "png" …

    Args:
        text: A name, and after a colon what concerns this codec only: fields of its class as
            `field=value`, or `field` alone for what is on or off.
        quality: 1 to 100, for codecs that have a quality. A quality in the text counts more.

    Raises:
        OptionError: The codec, a parameter of it or a value does not exist.
    """
    name, _, parameters = text.partition(":")
    kind = CODECS.get({"jpg": "jpeg"}.get(name, name)) or _plugin_codec(name)
    own_first = sorted(fields(kind), key=lambda one: one.kw_only is True)
    known = parameter_types(own_first)
    values = parse_parameters(name, parameters, known, kind.refused_parameters)
    if quality is not None:
        if "quality" not in known:
            raise unknown_parameter_error(name, "quality", known)
        values.setdefault("quality", quality)
    return kind(**values)


def register_codec(codec: type[Codec]) -> None:
    """Add a codec of the program; its `name` is the name in options.

    Raises:
        OptionError: The class is no codec, or its name is in use.
    """
    from fasttile import plugins

    name = getattr(codec, "name", "")
    if not _is_codec(codec, name):
        raise OptionError(f"{codec!r}: no codec; {_CODEC_RULE}")
    plugins.register("codec", name, codec, (*CODECS, "jpg"))


_CODEC_RULE = (
    "expected a class derived from fasttile.abc.Codec with name, extension and a method encode"
)


def _is_codec(part: Any, name: str) -> bool:
    return (
        isinstance(part, type)
        and issubclass(part, Codec)
        and part.encode is not Codec.encode
        and getattr(part, "name", "") == name != ""
        and str(getattr(part, "extension", "")).isalnum()
    )


def _plugin_codec(name: str) -> type[Codec]:
    from fasttile import plugins

    plugin = plugins.find("codec", name)
    if plugin is None:
        others = [plugin.name for plugin in plugins.find_all("codec")]
        raise unknown_value_error("format", name, [*CODECS, *others])
    part = plugin.load()
    if not _is_codec(part, name):
        raise PluginError(f"{plugin.label}: {part!r} is no codec; {_CODEC_RULE}")
    codec: type[Codec] = part
    return codec


def _check_range(name: str, value: Any, low: int, high: int) -> None:
    if not isinstance(value, Integral):
        raise OptionError(f"{name} {value!r} is not a whole number")
    if not low <= int(value) <= high:
        raise OptionError(f"{name} {value} is not between {low} and {high}")


def _check_subsampling(name: str, value: str) -> None:
    known = ("4:4:4", "4:2:2", "4:2:0")
    if value not in known:
        raise unknown_value_error(f"{name} subsampling", str(value), known)
