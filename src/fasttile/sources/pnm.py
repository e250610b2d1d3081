"""Netpbm's binary pictures, PGM (P5), PPM (P6) and PAM (P7): the header, and the rows behind it.

Written after netpbm's own descriptions, netpbm.sourceforge.net/doc/{pgm,ppm,pam}.html. Samples
of 16 bits are big-endian. Values 0..maxval are stretched over the whole range of 8 bits
(maxval below 256) or of 16 bits.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from ..errors import SourceError
from .base import Metadata, Source
from .convert import Converted
from .mapping import PictureFile
from .pixels import looked_up, ramp
from .raster import open_raster, prepared

_HEAD = 1 << 16  # bytes; no header is longer, whatever its comments tell

_SPACE = rb"(?:[ \t\r\n\v\f]|#[^\r\n]*[\r\n])+"
_NUMBER = rb"([0-9]{1,18})"
_PNM = re.compile(rb"P([56])" + (_SPACE + _NUMBER) * 3 + rb"[ \t\r\n\v\f]")

_DEPTHS = {
    "BLACKANDWHITE": 1,
    "GRAYSCALE": 1,
    "RGB": 3,
    "BLACKANDWHITE_ALPHA": 2,
    "GRAYSCALE_ALPHA": 2,
    "RGB_ALPHA": 4,
}


@dataclass(frozen=True)
class _Header:
    format: str
    width: int
    height: int
    bands: int
    maxval: int
    size: int


def open_pnm(file: PictureFile) -> Source:
    """A source over the first picture in a binary PGM, PPM or PAM file.

    Raises:
        SourceError: The header is broken, or the file is smaller than it says.
    """
    head = file.head(_HEAD)
    header = _pam(head, file.name) if head.startswith(b"P7") else _pnm(head, file.name)
    if not 1 <= header.maxval <= 65535:
        raise SourceError(f"{file.name}: maxval {header.maxval} is not between 1 and 65535")
    dtype = np.dtype(np.uint8 if header.maxval < 256 else ">u2")
    shape = (header.height, header.width, header.bands)
    stored = open_raster(file, shape, dtype, header.size, Metadata(header.format))
    top = 255 if header.maxval < 256 else 65535
    if header.maxval == top:
        return prepared(stored)
    stretch = ramp(0, header.maxval, top + 1, dtype.newbyteorder("="))
    return Converted(stored, looked_up(header.bands, stretch))


def _pnm(head: bytes, name: str) -> _Header:
    match = _PNM.match(head)
    if match is None:
        raise SourceError(f"{name}: broken PNM header: {head[:20]!r}…")
    kind, width, height, maxval = (int(group) for group in match.groups())
    if kind == 5:
        return _Header("PGM", width, height, 1, maxval, match.end())
    return _Header("PPM", width, height, 3, maxval, match.end())


def _pam(head: bytes, name: str) -> _Header:
    text, end, _ = head.partition(b"\nENDHDR\n")
    if not end:
        raise SourceError(f"{name}: broken PAM header: no ENDHDR in it")
    numbers: dict[str, int] = {}
    tuple_type = ""
    for line in text.decode("latin-1").split("\n")[1:]:
        key, _, value = line.strip().partition(" ")
        value = value.strip()
        if key == "TUPLTYPE":
            tuple_type = f"{tuple_type} {value}".strip()
        elif key in ("WIDTH", "HEIGHT", "DEPTH", "MAXVAL") and re.fullmatch("[0-9]{1,18}", value):
            numbers[key] = int(value)
        elif key and not key.startswith("#"):
            raise SourceError(f"{name}: broken PAM header: {line[:40]!r} says nothing known")
    missing = {"WIDTH", "HEIGHT", "DEPTH", "MAXVAL"} - numbers.keys()
    if missing:
        raise SourceError(f"{name}: broken PAM header: {min(missing)} is missing")
    _check_tuples(tuple_type, numbers["DEPTH"], name)
    sizes = (numbers["WIDTH"], numbers["HEIGHT"], numbers["DEPTH"], numbers["MAXVAL"])
    return _Header("PAM", *sizes, len(text) + len(end))


def _check_tuples(tuple_type: str, depth: int, name: str) -> None:
    """Without a tuple type the depth alone tells: grey, grey and alpha, RGB, RGB and alpha."""
    if tuple_type and tuple_type not in _DEPTHS:
        known = ", ".join(_DEPTHS)
        raise SourceError(f"{name}: PAM tuple type {tuple_type!r} is none of {known}")
    if tuple_type and _DEPTHS[tuple_type] != depth:
        raise SourceError(f"{name}: a PAM of tuple type {tuple_type} has not {depth} bands")
