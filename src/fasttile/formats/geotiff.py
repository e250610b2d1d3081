"""Georeference of a TIFF: the tags of GeoTIFF and of GDAL, moved with the pixels.

Sources: OGC GeoTIFF 1.1; GDAL's documentation of its GTiff driver (GDAL_METADATA, GDAL_NODATA).
A raster has columns i and rows j, a map x and y. An integer i is the left edge of a pixel in
PixelIsArea, and its centre in PixelIsPoint.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

from fasttile.errors import SourceError
from fasttile.formats.documents import parse_xml
from fasttile.formats.tiff import GEOREFERENCE_TAGS, Ifd
from fasttile.formats.tiff_tags import ASCII, DOUBLE, SHORT, TiffTag

_PIXEL_SCALE, _TIE_POINTS, _TRANSFORMATION = 33550, 33922, 34264
_KEYS, _DOUBLES, _TEXTS = 34735, 34736, 34737
_GDAL_METADATA, _NODATA = 42112, 42113
_RASTER_TYPE, _PROJECTED_CRS = 1025, 3072  # keys
_PIXEL_IS_POINT = 2
_MODEL_TYPE, _GEOGRAPHIC_CRS, _GEOGRAPHIC = 1024, 2048, 2
_WEB_MERCATOR = 3857
_LINEAR_UNITS, _METRE = 3076, 9001  # a key, and its value
_MERCATORS = (_WEB_MERCATOR, 3395, 3785, 3832)
_MAX_TAG_BYTES = 2**20

WEB_MERCATOR_SIDE = 2 * math.pi * 6_378_137
"""Side of the square of Web Mercator, in metres; its centre is 0, 0."""

_ALIGNED_PIXELS = 0.01
"""Deviation from the grid of a zoom, in pixels, at the corners of an image that is placed in it."""


class MercatorPlace(NamedTuple):
    """Place of an image on the square of Web Mercator, in pixels of its own size.

    Attributes:
        x, y: Column and row of its first pixel, from the north-west corner of the square.
        side: Side of the square.
    """

    x: int
    y: int
    side: int


@dataclass(frozen=True)
class GeoReference:
    """The georeference of an image.

    Attributes:
        pixel_scale: Size of a pixel on the map, in x, y and z; or empty.
        tie_points: i, j, k, x, y and z of each; or empty.
        transformation: A matrix of 4×4 from i, j, k to x, y, z, row by row; or empty.
        keys: GeoKeyDirectory.
        doubles, texts: The values that keys refer to.
        nodata: Value of pixels without data, as text; only if the values are those of the source.
        gdal_metadata: Items of GDAL, as XML.
        has_values: True if the pixels have the values of the source.
    """

    pixel_scale: tuple[float, ...] = ()
    tie_points: tuple[float, ...] = ()
    transformation: tuple[float, ...] = ()
    keys: tuple[int, ...] = ()
    doubles: tuple[float, ...] = ()
    texts: bytes = b""
    nodata: bytes = b""
    gdal_metadata: bytes = b""
    has_values: bool = True

    @property
    def epsg(self) -> int:
        """Number of the coordinate system in EPSG's registry; 0 if it has none or is unknown."""
        found = self._key(_PROJECTED_CRS)
        if not found and self._key(_MODEL_TYPE) == _GEOGRAPHIC:
            found = self._key(_GEOGRAPHIC_CRS)
        return found if 1024 <= found < 32_767 else 0

    @property
    def pixel_metres(self) -> tuple[float, float] | None:
        """Width and height of a pixel on the ground in metres; None if the map does not say.

        Its coordinates have to be metres (ProjLinearUnits), and not those of a Mercator map, on
        which a metre is shorter than on the ground.
        """
        if self._key(_LINEAR_UNITS) != _METRE or self.epsg in _MERCATORS:
            return None
        if len(self.pixel_scale) >= 2:
            width, height = self.pixel_scale[:2]
        elif len(self.transformation) == 16:
            a, b, _, _, d, e = self.transformation[:6]
            width, height = math.hypot(a, d), math.hypot(b, e)
        else:
            return None
        return (width, height) if min(width, height) > 0 and math.isfinite(width * height) else None

    @property
    def has_place(self) -> bool:
        """True if it says where the pixels are on a map."""
        return bool(self.tie_points or self.transformation)

    def cropped(self, x: int, y: int) -> GeoReference:
        """That of a part which begins at column x and row y."""
        return self._moved(x, y, 1.0, 0.0)

    def downscaled(self, exponent: int) -> GeoReference:
        """That of the image made smaller by 2^exponent: each pixel is a square of pixels."""
        unit = 2.0**exponent
        # In PixelIsPoint, the centre of the first pixel is that of a square of pixels.
        return self._moved(0, 0, unit, (unit - 1) / 2 if self._is_point else 0.0)

    def without_values(self) -> GeoReference:
        """That of an image with other values: what describes the values is left out."""
        return replace(self, nodata=b"", has_values=False)

    def tags(self) -> list[TiffTag]:
        """The tags of a TIFF page."""
        found = [
            TiffTag(_PIXEL_SCALE, DOUBLE, self.pixel_scale),
            TiffTag(_TIE_POINTS, DOUBLE, self.tie_points),
            TiffTag(_TRANSFORMATION, DOUBLE, self.transformation),
            TiffTag(_KEYS, SHORT, self.keys),
            TiffTag(_DOUBLES, DOUBLE, self.doubles),
            TiffTag(_TEXTS, ASCII, self.texts),
            TiffTag(_NODATA, ASCII, self.nodata),
            TiffTag(_GDAL_METADATA, ASCII, self._carried_metadata()),
        ]
        return [tag for tag in found if tag.values]

    def mercator_place(self, width: int, height: int) -> MercatorPlace | None:
        """The place of an image on the square of Web Mercator, as maps in the web divide it.

        Args:
            width, height: Size of the image in pixels.

        Returns:
            None: It is in another coordinate system or reaches beyond the square, or its pixels are
            not those of a zoom with tiles of 2^n pixels, within 1/100 pixel.
        """
        origin = self._origin_and_step()
        if self.epsg != _WEB_MERCATOR or origin is None:
            return None
        left, top, step = origin
        if not 2.0**-39 < step / WEB_MERCATOR_SIDE <= 1:
            return None
        side = 2 ** round(math.log2(WEB_MERCATOR_SIDE / step))
        unit = WEB_MERCATOR_SIDE / side
        exact = [(left / unit + side / 2), (side / 2 - top / unit)]
        if not all(-1 < place < side for place in exact):
            return None
        x, y = map(round, exact)
        exact += [exact[0] + width * step / unit, exact[1] + height * step / unit]
        found = (x, y, x + width, y + height)
        if any(abs(a - b) > _ALIGNED_PIXELS for a, b in zip(exact, found, strict=True)):
            return None
        is_inside = min(x, y) >= 0 and max(x + width, y + height) <= side
        return MercatorPlace(x, y, side) if is_inside else None

    @property
    def _is_point(self) -> bool:
        return self._key(_RASTER_TYPE) == _PIXEL_IS_POINT

    def _key(self, number: int) -> int:
        """The short value of a key; 0 if it is missing."""
        for place in range(4, len(self.keys) - 3, 4):
            key, location, _, value = self.keys[place : place + 4]
            if key == number and location == 0:
                return value
        return 0

    def _moved(self, x: int, y: int, unit: float, centre: float) -> GeoReference:
        """With pixels that are `unit` of the old ones, whose i is unit * i + x + centre there."""
        ties = list(self.tie_points)
        scale = self.pixel_scale
        is_simple = len(ties) == 6 and len(scale) >= 2
        for first in range(0, len(ties), 6):
            if is_simple:  # readers expect i and j of 0
                ties[3] += (ties[0] * (unit - 1) + x + centre) * scale[0]
                ties[4] -= (ties[1] * (unit - 1) + y + centre) * scale[1]
            else:
                ties[first] = (ties[first] - x - centre) / unit
                ties[first + 1] = (ties[first + 1] - y - centre) / unit
        matrix = list(self.transformation)
        for row in range(0, 8 if matrix else 0, 4):
            a, b = matrix[row : row + 2]
            matrix[row + 3] += a * (x + centre) + b * (y + centre)
            matrix[row : row + 2] = a * unit, b * unit
        scale = (*(side * unit for side in scale[:2]), *scale[2:])
        return replace(
            self, tie_points=tuple(ties), transformation=tuple(matrix), pixel_scale=scale
        )

    def _origin_and_step(self) -> tuple[float, float, float] | None:
        """X and y of the outer corner of the first pixel, and the side of square pixels."""
        if len(self.tie_points) == 6 and len(self.pixel_scale) >= 2:
            i, j, _, x, y, _ = self.tie_points
            step, down = self.pixel_scale[:2]
            x, y = x - i * step, y + j * down
        elif len(self.transformation) == 16 and not self.tie_points:
            step, b, _, x, d, down, _, y = self.transformation[:8]
            down = -down
            if b or d:
                return None
        else:
            return None
        if step <= 0 or not math.isclose(step, down, rel_tol=1e-9):
            return None
        half = 0.5 if self._is_point else 0.0
        return x - half * step, y + half * step, step

    def _carried_metadata(self) -> bytes:
        """GDAL's items, without statistics, and without all items of bands if values differ."""
        if not self.gdal_metadata:
            return b""
        from xml.etree.ElementTree import tostring

        try:
            root = parse_xml(self.gdal_metadata.rstrip(b"\0").decode())
        except ValueError:
            return b""
        for item in list(root):
            is_of_band = "sample" in item.attrib or "role" in item.attrib
            is_statistic = item.get("name", "").startswith("STATISTICS_")
            if is_statistic or (is_of_band and not self.has_values):
                root.remove(item)
        return tostring(root) + b"\0" if len(root) else b""


def read_georeference(directory: Ifd) -> GeoReference | None:
    """The georeference of a page; None without one.

    Raises:
        SourceError: Its tags are damaged.
    """
    if not directory.tags & GEOREFERENCE_TAGS:
        return None
    for tag in GEOREFERENCE_TAGS:
        if directory.value_bytes(tag) > _MAX_TAG_BYTES:
            raise SourceError(f"tag {tag} has more than {_MAX_TAG_BYTES:,} bytes")
    scale, ties, matrix = map(directory.doubles, (_PIXEL_SCALE, _TIE_POINTS, _TRANSFORMATION))
    numbers = directory.numbers(_KEYS)
    keys = () if numbers is None else tuple(map(int, numbers))
    if len(ties) % 6 or len(matrix) not in (0, 16) or len(scale) not in (0, 2, 3):
        raise SourceError("its tags have another number of values than GeoTIFF says")
    if max(keys, default=0) > 65_535:
        raise SourceError("its keys are no numbers of 16 bits")
    texts, nodata, items = (directory.raw(tag) or b"" for tag in (_TEXTS, _NODATA, _GDAL_METADATA))
    doubles = directory.doubles(_DOUBLES)
    return GeoReference(scale, ties, matrix, keys, doubles, texts, nodata, items)
