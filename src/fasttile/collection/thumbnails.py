"""Thumbnails of one image: its own small levels, read from its own tiles."""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np

from fasttile.abc.reader import ResultReader
from fasttile.errors import FasttileError, SourceError
from fasttile.formats.documents import decode_document
from fasttile.formats.images import decode_tile
from fasttile.geometry import Region, Tile
from fasttile.kernels import halve
from fasttile.layouts.deepzoom import DeepZoom
from fasttile.storage.budget import BUDGET
from fasttile.storage.object_files import ResultPath
from fasttile.storage.random_access import RandomAccessFile
from fasttile.types import Colour, Pixels

MAX_SOURCE_LEVEL = 12
"""The largest level, 4096 pixels a side, from which missing smaller levels are made."""

_MAX_SIZE_DIFFERENCE = 1  # pixels: programs round differently

_PROFILE_MARKERS = (b"ICC_PROFILE\0", b"iCCP", b"ICCP", b"colrprof")
"""The beginnings of profiles in JPEG, PNG, WebP and AVIF."""


class Thumbnails:
    """The small levels of a .dzi, each tile of them read once.

    A reader of `readers` takes three times as long for the few tiles of each image, because it is
    safe on a server.

    Args:
        path: The .dzi.
        background: The colour below pixels with alpha.

    Attributes:
        width, height: The image's size in pixels.

    Raises:
        SourceError: It cannot be read, or has no level that is small enough.

    Example:
        >>> Thumbnails(Path("map.dzi"), (255, 255, 255)).level_image(7).shape  # doctest: +SKIP
        (96, 128, 3)
    """

    def __init__(self, path: ResultPath, background: Colour) -> None:
        self._path = path
        self._background = background
        self._reader: ResultReader | None = None
        if isinstance(path, Path):
            self._layout = _read_layout(path)
        else:
            from fasttile.readers import open_result

            self._reader = open_result(str(path))
            if not isinstance(self._reader.layout, DeepZoom):
                raise SourceError(f"{path} is no .dzi")
            self._layout = self._reader.layout
            _check_smallest_level(path, self._layout)
        self._folder = f"{path.parent}/"
        self._levels: dict[int, Pixels] = {}
        self.width, self.height = self._layout.pyramid.size

    def level_image(self, level: int) -> Pixels:
        """A level of the image as RGB: shape (height, width, 3), uint8, at most 2^level a side.

        Beyond the image's own size each pixel becomes a square of pixels, so that a viewer finds
        the image where it reckons it to be. Levels that the image lacks are halved from its
        smallest one.

        Raises:
            SourceError: A tile cannot be read.
        """
        pixels = self._level_pixels(level)
        if pixels.shape[2] == 3:
            return pixels
        alpha = pixels[..., 3:].astype(np.uint16)
        background = np.array(self._background, np.uint16)
        mixed = (pixels[..., :3] * alpha + background * (255 - alpha) + 127) // 255  # rounded
        return mixed.astype(np.uint8)

    def _level_pixels(self, level: int) -> Pixels:
        """The same with 3 or 4 bands, the last one alpha; kept, for others are made of it."""
        found = self._levels.get(level)
        if found is None:
            kept = self._layout.pyramid.stored_range
            if level > kept[-1]:
                times = 1 << (level - kept[-1])
                found = self._level_pixels(kept[-1]).repeat(times, axis=0).repeat(times, axis=1)
            elif level < kept[0]:
                larger = self._level_pixels(level + 1)
                found = halve(larger, alpha=larger.shape[2] == 4)
            else:
                found = self._read_level(level)
            self._levels[level] = found
        return found

    def _read_level(self, number: int) -> Pixels:
        """A level that the image has."""
        level = self._layout.pyramid.levels[number]
        if level.tile_count == 1:
            return self._read_tile(number, 0, 0)
        found = np.zeros((level.height, level.width, 4), np.uint8)
        opaque = True
        for tile in level.tiles():
            region = level.region(tile.col, tile.row)
            pixels = self._read_tile(*tile)
            opaque = opaque and pixels.shape[2] == 3
            left, top = tile.col * level.tile_size, tile.row * level.tile_size
            # Without what it shares with the tiles before it.
            inner = pixels[top - region.y :, left - region.x :]
            place = found[top : region.bottom, left : region.right]
            place[..., 3] = 255
            place[..., : inner.shape[2]] = inner
        return np.ascontiguousarray(found[..., :3]) if opaque else found

    def _read_tile(self, level: int, col: int, row: int) -> Pixels:
        tile = Tile(level, col, row)
        region = self._layout.pyramid.region(tile)
        name = self._folder + self._layout.path(tile)
        if self._reader is None:
            with RandomAccessFile(Path(name)) as file:
                data = file.read_all()
        else:
            data = self._reader.tile(level, col, row) or b""
        largest = max(region.width, region.height) + _MAX_SIZE_DIFFERENCE
        profile = any(mark in data for mark in _PROFILE_MARKERS)
        pixels = _decode_as_srgb(data, name) if profile else decode_tile(data, largest, name)
        if pixels.dtype == np.uint16:
            pixels = ((pixels.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
        if pixels.shape[2] < 3:  # grey, and maybe alpha
            pixels = pixels[..., [0, 0, 0] if pixels.shape[2] == 1 else [0, 0, 0, 1]]
        return _fit_to_region(pixels, region, name)


def _read_layout(path: Path) -> DeepZoom:
    """What a .dzi says of its tiles, and which levels of them there are."""
    with RandomAccessFile(path) as file:
        data = file.read_all(BUDGET.descriptor_bytes)
    try:
        layout = DeepZoom.parse(path.stem, decode_document(data))
        with os.scandir(path.parent / layout.root) as entries:
            levels = [int(entry.name) for entry in entries if entry.name.isdecimal()]
    except UnicodeDecodeError as error:
        raise SourceError(f"{path} is not UTF-8: {error}") from error
    except OSError as error:
        raise SourceError(f"{path}: its tiles cannot be found: {error.strerror}") from error
    except (FasttileError, ValueError) as error:
        raise SourceError(f"{path}: {error}") from error
    first = min({*levels} & {*layout.pyramid.stored_range}, default=0)
    layout = replace(layout, pyramid=replace(layout.pyramid, first_level=first))
    _check_smallest_level(path, layout)
    return layout


def _check_smallest_level(path: ResultPath, layout: DeepZoom) -> None:
    first = layout.pyramid.stored_range[0]
    if first > MAX_SOURCE_LEVEL:
        raise SourceError(
            f"{path} has no level smaller than {first} to make thumbnails of: cut it with its "
            "small levels"
        )


def _decode_as_srgb(data: bytes, name: str) -> Pixels:
    """A tile that carries a profile, in the colours that it means."""
    from fasttile.jobs.cut import (
        iter_tiles,  # which knows all of colours; most tiles carry no profile
    )

    largest = 2**16
    tiles = iter_tiles(data, tile_size=largest, overlap=0, window="full", max_pixels=largest**2)
    try:
        with closing(tiles):  # type: ignore[type-var]  # it is a generator
            return next(tiles)[1]
    except SourceError as error:
        raise SourceError(f"{name} cannot be decoded: {error}") from error


def _fit_to_region(pixels: Pixels, region: Region, name: str) -> Pixels:
    """Pixels of the size that they should have, where the program that made them rounds otherwise.

    Raises:
        SourceError: They are of another size altogether.
    """
    height, width = pixels.shape[:2]
    wider, higher = region.width - width, region.height - height
    if max(abs(wider), abs(higher)) > _MAX_SIZE_DIFFERENCE:
        raise SourceError(f"{name} has {width}×{height} pixels, not {region.width}×{region.height}")
    if wider > 0 or higher > 0:
        pixels = np.pad(pixels, ((0, max(0, higher)), (0, max(0, wider)), (0, 0)), mode="edge")
    return pixels[: region.height, : region.width]
