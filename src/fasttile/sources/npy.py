"""NumPy's own files, .npy: the header, and the array behind it through the map."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.lib import format as npy_format

from ..errors import SourceError
from .base import Metadata, Source
from .mapping import PictureFile
from .raster import check_picture, open_raster, prepared

_LONGEST = 1 << 14  # bytes; more than the longest header that NumPy takes


def open_npy(file: PictureFile) -> Source:
    """A source over the array in a .npy file.

    Raises:
        SourceError: The header is broken, or the array is not a picture or in Fortran order.
    """
    shape, fortran_order, dtype, offset = _header(file)
    check_picture(shape, dtype, file.name)
    if fortran_order:
        raise SourceError(
            f"{file.name} is in Fortran order, column by column, and cannot be read by rows: "
            "save numpy.ascontiguousarray(array) instead"
        )
    return prepared(open_raster(file, shape, dtype, offset, Metadata("npy")))


def _header(file: PictureFile) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    # NumPy asks for as many bytes as the header claims to have: of these it gets no more.
    stream = io.BytesIO(file.head(_LONGEST))
    try:
        version = npy_format.read_magic(stream)
        if version == (1, 0):
            shape, fortran_order, dtype = npy_format.read_array_header_1_0(stream)
        elif version == (2, 0):
            shape, fortran_order, dtype = npy_format.read_array_header_2_0(stream)
        else:
            # 3.0 exists only for field names that are not Latin-1: such an array is no picture.
            raise ValueError(f"version {version[0]}.{version[1]} is not for plain arrays")
    except Exception as error:
        # The header is a Python literal, and breaks in as many ways as Python's parser knows.
        reason = str(error).partition("\n")[0]
        raise SourceError(f"{file.name}: broken npy header: {reason}") from error
    return tuple(map(int, shape)), fortran_order, dtype, stream.tell()
