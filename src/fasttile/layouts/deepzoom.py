"""Deep Zoom: `name.dzi` and `name_files/level/col_row.ext`, as Seadragon and OpenSeadragon read it.

Source: Microsoft's Deep Zoom file format overview and schema of 2008; see docs/ARCHITECTURE.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import OptionError, SourceError
from ..geometry import Pyramid, Tile

NAMESPACE = "http://schemas.microsoft.com/deepzoom/2008"
NAMESPACES = (NAMESPACE, "http://schemas.microsoft.com/deepzoom/2009")


@dataclass(frozen=True)
class DeepZoom:
    """Where the tiles of a Deep Zoom picture live, and the descriptor that announces them.

    Args:
        name: The picture's name, without an ending; one path component.
        pyramid: Its geometry. The canvas rounds up and is the picture itself.
        extension: The tiles' file ending without a dot, ASCII letters and digits; also the
            descriptor's Format.

    Raises:
        OptionError: One of them does not fit the format.

    Example:
        >>> layout = DeepZoom("map", Pyramid.of(1000, 600), "jpg")
        >>> layout.path(Tile(level=10, col=3, row=2))
        'map_files/10/3_2.jpg'
    """

    name: str
    pyramid: Pyramid
    extension: str

    def __post_init__(self) -> None:
        if not self.name or "/" in self.name or "\0" in self.name:
            raise OptionError(f"name {self.name!r} is not one path component")
        if not (self.extension.isascii() and self.extension.isalnum()):
            raise OptionError(
                f"file ending {self.extension!r} is not made of ASCII letters and digits"
            )
        canvas = self.pyramid.canvas
        if canvas.rounding != "up":
            raise OptionError(f"Deep Zoom rounds up; the canvas rounds {canvas.rounding}")
        if canvas.placement != (0, 0, canvas.width, canvas.height):
            raise OptionError(
                f"Deep Zoom has no padding; the picture {tuple(canvas.placement)} is not all of "
                f"the canvas of {canvas.width}×{canvas.height} pixels"
            )

    @classmethod
    def parse(cls, name: str, text: str) -> DeepZoom:
        """The layout that a descriptor announces, as the tools of 2008 or 2009 write it too.

        Raises:
            SourceError: The text is no descriptor of a Deep Zoom picture.
        """
        from xml.etree import ElementTree  # seldom needed, and slow to import

        try:
            image = ElementTree.fromstring(text)
            namespace = image.tag.removesuffix("Image")
            size = image.find(f"{namespace}Size")
            if namespace not in {f"{{{known}}}" for known in NAMESPACES} or size is None:
                raise SourceError(f"{name}.dzi is not the descriptor of a Deep Zoom picture")
            pyramid = Pyramid.of(
                int(size.attrib["Width"]),
                int(size.attrib["Height"]),
                tile_size=int(image.attrib["TileSize"]),
                overlap=int(image.attrib["Overlap"]),
            )
            return cls(name, pyramid, image.attrib["Format"])
        except KeyError as error:
            raise SourceError(f"{name}.dzi says nothing of {error}") from error
        except (ElementTree.ParseError, ValueError) as error:
            raise SourceError(f"{name}.dzi cannot be read: {error}") from error

    @property
    def folder(self) -> str:
        """The folder that holds all tiles."""
        return f"{self.name}_files"

    @property
    def descriptor_name(self) -> str:
        """The file that announces the tiles."""
        return f"{self.name}.dzi"

    def path(self, tile: Tile) -> str:
        """Where a tile lives: a path with forward slashes, below the target's folder."""
        return f"{self.folder}/{tile.level}/{tile.col}_{tile.row}.{self.extension}"

    def descriptor(self) -> str:
        """The text of the descriptor, XML in UTF-8, with a final newline."""
        canvas = self.pyramid.canvas
        return (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            f'<Image xmlns="{NAMESPACE}" Format="{self.extension}" '
            f'Overlap="{self.pyramid.overlap}" TileSize="{self.pyramid.tile_size}">\n'
            f'  <Size Width="{canvas.width}" Height="{canvas.height}"/>\n'
            "</Image>\n"
        )
