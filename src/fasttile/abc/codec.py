"""The base class of codecs: the pixels of one tile in, the bytes of its file out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, NamedTuple

from fasttile.options import format_parameters
from fasttile.types import Pixels


class TileMetadata(NamedTuple):
    """Metadata that tiles carry beside their pixels, where their format has a place for it.

    Attributes:
        icc_profile: The profile of the pixels, or None for sRGB.
        resolution: Pixels per inch, horizontal and vertical, or None.
        exif: A block of Exif, without the mark of JPEG before it, or None.
    """

    icc_profile: bytes | None = None
    resolution: tuple[float, float] | None = None
    exif: bytes | None = None

    def downscaled(self, exponent: float) -> TileMetadata:
        """The same for a level that is smaller by 2^exponent: its pixels are larger."""
        if self.resolution is None:
            return self
        x, y = self.resolution
        return self._replace(resolution=(x / 2**exponent, y / 2**exponent))


@dataclass(frozen=True)
class Codec:
    """Encodes tiles. The fields of a subclass are its parameters: `name:field=value,…` as text.

    A subclass of another package implements `encode`; those of fasttile are encoded by the inner
    parts of Pillow. Many threads call one codec at a time.

    Attributes:
        name: Its name in options.
        extension: The tiles' file ending, without a dot.
        keeps_alpha: False: transparent pixels are laid on the background before.
        keeps_grey: False: `encode` gets grey as RGB where a colour conversion allows it.
        max_side: Largest side of a tile, in pixels.
        bit_depths: Bits of a sample that it can hold: 8, or 8 and 16 (of grey).
        refused_parameters: Parameters that other programs have for the format, each with the
            reason why it has none, and advice.
        pillow_plugin: Pillow's module of the format, of fasttile's own codecs.
    """

    name: ClassVar[str]
    extension: ClassVar[str]
    pillow_plugin: ClassVar[str] = ""
    keeps_alpha: ClassVar[bool] = False
    max_side: ClassVar[int] = 2**31 - 1
    keeps_grey: ClassVar[bool] = True
    bit_depths: ClassVar[tuple[int, ...]] = (8,)
    refused_parameters: ClassVar[Mapping[str, str]] = {}

    @property
    def keeps_credit(self) -> bool:
        """True if the tiles have the title and the credit line of their image, as Exif."""
        return False

    def encode(self, pixels: Pixels, metadata: TileMetadata) -> bytes:
        """Encode a tile.

        Args:
            pixels: Shape (height, width, bands), uint8, or uint16 with one band; a new array.
            metadata: The result of `storable_metadata` for this tile.

        Returns:
            The file, which `formats.images` recognises if fasttile is to read it again.
        """
        raise NotImplementedError

    def save_parameters(self) -> dict[str, Any]:
        """Parameters of Pillow's `Image.save`."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def option_text(self) -> str:
        """The text of the option `format`, with all parameters that differ from the default."""
        values = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if getattr(self, field.name) != field.default
        }
        return format_parameters(self.name, values)

    def storable_metadata(self, tile_metadata: TileMetadata) -> TileMetadata:
        """The part of the metadata that tiles can carry, rounded as they store it."""
        if tile_metadata.resolution is None:
            return tile_metadata
        return tile_metadata._replace(
            resolution=self._storable_resolution(*tile_metadata.resolution)
        )

    def _storable_resolution(self, x: float, y: float) -> tuple[float, float] | None:
        """Pixels per inch as tiles store them, or None if they cannot."""
        return None
