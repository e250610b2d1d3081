"""TIFFs as GDAL writes them, by rasterio, and what GDAL reads of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray

from fasttile.jobs.cut_job import open_for_cut
from fasttile.options.cut import CutOptions
from support.reading import read_checked

Array = NDArray[Any]

NO_GEOREFERENCE = "ignore::rasterio.errors.NotGeoreferencedWarning"


def write_gdal(
    path: Path, pixels: Array, *, mask: Array | None = None, inside: bool = True, **profile: Any
) -> Path:
    """Write pixels (height, width, bands) as GDAL does.

    Args:
        path: The TIFF.
        pixels: Its samples.
        mask: True where pixels are valid; a page of the file, or a file beside it.
        inside: False for a mask beside the file.
        **profile: Creation options: nodata, photometric, compress, tiled, interleave …
    """
    height, width, bands = pixels.shape
    size = {"width": width, "height": height, "count": bands, "dtype": pixels.dtype.name}
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=inside),
        rasterio.open(path, "w", driver="GTiff", **size, **profile) as file,
    ):
        file.write(np.moveaxis(pixels, -1, 0))
        if mask is not None:
            file.write_mask(mask)
    return path


def gdal_mask(path: Path) -> Array:
    """255 where GDAL has a valid pixel, else 0."""
    with rasterio.open(path) as file:
        found: Array = file.dataset_mask()
    return found


def gdal_bands(path: Path, *numbers: int) -> Array:
    """Samples of some bands, (height, width, bands), as GDAL reads them."""
    with rasterio.open(path) as file:
        return np.moveaxis(file.read(list(numbers)), 0, -1)


def read_cut(image: object, **options: Any) -> Array:
    """The pixels of an image as `cut` with these options takes them, with the checks of sources."""
    with open_for_cut(image, CutOptions(**options)) as source:
        assert source.has_alpha == (source.bands in (2, 4))
        return read_checked(source)


def notes_of(image: object, **options: Any) -> str:
    """The notes on an image, in one text."""
    with open_for_cut(image, CutOptions(**options)) as source:
        return "; ".join(source.metadata.notes)
