"""Readers of results: one class for each kind of container, and `open_result`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from fasttile import plugins
from fasttile.abc.reader import ResultReader
from fasttile.errors import PluginError, SourceError, SourceNotFoundError
from fasttile.sources.files import (
    DESCRIPTOR_SUFFIXES,
    RESULT_SUFFIXES,
    STORE_SCHEMES,
    TIFF_SIGNATURES,
    parse_array_name,
    parse_tile_tree,
    scheme_of,
)
from fasttile.storage.object_files import ResultPath, is_folder, open_random_access, place_of
from fasttile.storage.random_access import missing_file_advice


def open_result(path: str | os.PathLike[str]) -> ResultReader:
    """Open a result of fasttile or another program to read its tiles.

    Args:
        path: A .dzi, or Deep Zoom's .json, .js or .xml; a folder that holds an
            ImageProperties.xml, tilemapresource.xml, info.json, tiles.json or a single .dzi, or
            one of these files; a .zip or .szi of any of those; a .pmtiles or .mbtiles of images;
            or a pyramidal TIFF. Of tiles without a descriptor the folder and their names in it,
            "site/map/{z}/{x}/{y}.png", with {-y} for rows from the bottom; "#size=W,H" at the end
            is the size of the image, by default that of its tiles. Or the address of one in an
            object store: s3://, gs:// or az://; it is read by ranges, and only an .mbtiles is
            downloaded.

    Raises:
        SourceError: There is no result, or it is damaged.
    """
    tree = parse_tile_tree(path)
    if tree is not None:
        from fasttile.readers.folder import open_tile_tree

        return open_tile_tree(place_of(tree.folder, scheme_of(tree.folder)), tree)
    place = place_of(path, scheme_of(path))
    if is_folder(place):
        from fasttile.readers.folder import open_folder

        return open_folder(place)
    head = _file_head(place)
    if head[:2] == b"PK":
        from fasttile.readers.folder import open_archive

        return open_archive(place)
    if head[:7] == b"PMTiles":
        from fasttile.readers.tilesets import PmtilesReader

        return PmtilesReader(place)
    if head == b"SQLite format 3\0":
        from fasttile.readers.tilesets import MbtilesReader

        return MbtilesReader(place)
    if head[:4] in TIFF_SIGNATURES:
        from fasttile.readers.tiff import TiffReader

        return TiffReader(place)
    if place.suffix.lower() in DESCRIPTOR_SUFFIXES:
        from fasttile.readers.folder import open_descriptor

        return open_descriptor(place)
    plugged = _open_by_plugin(place)
    if plugged is not None:
        return plugged
    containers = {".szi": "a ZIP", ".zip": "a ZIP", ".mbtiles": "an SQLite database"}
    containers |= {".pmtiles": "PMTiles", ".tif": "a TIFF", ".tiff": "a TIFF"}
    container = containers.get(place.suffix.lower())
    raise SourceError(
        f"{place}: it is not {container}"
        if container is not None
        else f"{place}: not a result; expected a .dzi, .szi, .zip, .pmtiles, .mbtiles, .tif or a "
        "folder with a descriptor"
    )


def is_pyramid(path: str | os.PathLike[str]) -> bool:
    """True if a path can only be a result. False for a TIFF, which may be an image."""
    scheme = scheme_of(path)
    if scheme is not None and scheme not in STORE_SCHEMES:
        return False
    if parse_tile_tree(path) is not None:
        return True
    if parse_array_name(path) is not None or os.fsdecode(path).lower().endswith(".zarr.zip"):
        return False
    try:
        place = place_of(path, scheme)
        if place.suffix.lower() in RESULT_SUFFIXES or is_folder(place):
            return True
        if scheme is not None and place.suffix:  # of an image
            return False
        head = _file_head(place)
    except (SourceError, OSError, ValueError):
        return False
    return _is_tileset(head) or _plugin_reader(place) is not None


_IMAGE_SUFFIXES = (
    *("", ".tif", ".tiff", ".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".npy", ".pgm"),
    *(".ppm", ".jp2", ".avif", ".svs", ".ndpi", ".raw", ".bin"),
)
"""Extensions of images, for which no plug-in is looked up."""


def _plugin_reader(place: ResultPath) -> tuple[plugins.Plugin, Any] | None:
    """The plug-in of a file's container, and its function that opens results; None without it."""
    suffix = place.suffix.lower()
    if suffix in _IMAGE_SUFFIXES or not isinstance(place, Path):
        return None
    plugin = plugins.find("sink", suffix[1:])
    opener = None if plugin is None else getattr(plugin.load(), "open_result", None)
    return None if plugin is None or opener is None else (plugin, opener)


def _open_by_plugin(place: ResultPath) -> ResultReader | None:
    """Open the container of a plug-in, or the descriptor of a plug-in's layout; None if it is none.

    Raises:
        PluginError: The plug-in fails.
    """
    found = _plugin_reader(place)
    if found is not None:
        plugin, opener = found
        with plugin.errors_named(f"it cannot open {place}"):
            reader = opener(place)
        if not isinstance(reader, ResultReader):
            raise PluginError(f"{plugin.label}: open_result returned {type(reader).__name__}")
        return reader
    if place.suffix.lower() not in _IMAGE_SUFFIXES:
        from fasttile.layouts import plugin_layout_of

        if plugin_layout_of([place.name]) is not None:
            from fasttile.readers.folder import open_descriptor

            return open_descriptor(place)
    return None


def is_result_source(path: str | os.PathLike[str]) -> bool:
    """True if a source of `cut` is a result by its first bytes; False for a TIFF, and for images
    that have the name of a descriptor.
    """
    if not is_pyramid(path):
        return False
    if parse_tile_tree(path) is not None:
        return True
    try:
        place = place_of(path, scheme_of(path))
        if is_folder(place):
            return True
        head = _file_head(place)
    except (SourceError, OSError, ValueError):
        return False
    if _is_tileset(head):
        return True
    suffix = place.suffix.lower()
    if suffix == ".zip" and head[:2] == b"PK":  # it may be an archive of anything
        from fasttile.readers.folder import holds_result

        return holds_result(place)
    if suffix in (".zip", ".szi"):
        return head[:2] == b"PK"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    is_script = suffix == ".js" and text[:1].isalpha() and head.isascii() and b"\0" not in head
    return is_script or text[:1] in (b"<", b"{") or text[:2] in (b"\xff\xfe", b"\xfe\xff")


def _is_tileset(head: bytes) -> bool:
    """True if a file begins as PMTiles or an SQLite database."""
    return head[:7] == b"PMTiles" or head == b"SQLite format 3\0"


def _file_head(place: ResultPath) -> bytes:
    """The first bytes of a regular file, or of an object."""
    try:
        with open_random_access(place) as file:
            return file.read_head(16)
    except SourceNotFoundError as error:
        advice = missing_file_advice(place) if isinstance(place, Path) else ""
        raise SourceNotFoundError(f"{error}{advice}") from error
