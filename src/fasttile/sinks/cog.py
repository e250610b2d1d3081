"""Cloud Optimized GeoTIFF: directories first, then the tiles of each level, the smallest first.

A reader gets all directories with its first request, and each level in as few as possible. The walk
makes tiles of all levels in turn, so each level has a file of its own until the end.

Sources: GDAL's COG driver ("Cloud Optimized GeoTIFF", with the header of structural metadata), and
its program validate_cloud_optimized_geotiff.
"""

from __future__ import annotations

import struct
from array import array
from operator import ge

from fasttile.formats.tiff_tags import encode_directory, encode_header
from fasttile.geometry import Level
from fasttile.sinks import tiff
from fasttile.sinks.tiff import TiffSink
from fasttile.storage.paths import wrap_os_errors
from fasttile.storage.writing import AppendFile, BytesLike

STRUCTURE = (
    b"LAYOUT=IFDS_BEFORE_DATA\n"
    b"BLOCK_ORDER=ROW_MAJOR\n"
    b"BLOCK_LEADER=SIZE_AS_UINT4\n"
    b"BLOCK_TRAILER=LAST_4_BYTES_REPEATED\n"
    b"KNOWN_INCOMPATIBLE_EDITION=NO\n "
)
"""Promises to readers. The last byte leaves room for YES, which editing programs write."""

GHOST_AREA = b"GDAL_STRUCTURAL_METADATA_SIZE=%06d bytes\n%b" % (len(STRUCTURE), STRUCTURE)
"""The bytes between the header and the first directory."""

_FRAME_BYTES = 4
"""The bytes before each tile, its size; and those after it, which are its last four again."""


class CogSink(TiffSink):
    """Writes tiles into one Cloud Optimized GeoTIFF; the arguments are those of `TiffSink`.

    While it is made, the disk holds the largest level twice.
    """

    def abort(self) -> None:
        """Discard the result; leave an older one untouched. Never raises."""
        for file in self._level_files.values():
            file.discard()
        super().abort()

    def finish(self) -> None:
        """Write the directories, then all tiles in the order of the format, and publish.

        Raises:
            TargetError: It cannot be written, or a file has appeared there meanwhile.
        """
        self._file.ensure_open()
        data_bytes = sum(file.size for file in self._level_files.values())
        large = data_bytes + self._max_directory_bytes() >= tiff.CLASSIC_TIFF_LIMIT
        header = encode_header(0, large=large) + GHOST_AREA
        start = len(header) + len(header) % 2
        header = encode_header(start, large=large) + GHOST_AREA
        self._file.append(header.ljust(start, b"\0"))
        begins = dict.fromkeys(self._offsets, 0)  # for directories of the right length
        position = start + sum(map(len, self._encode_directories(start, begins, large=large)))
        for level in self._levels:
            begins[level.number] = position
            position += self._level_files[level.number].size
        self._file.append(*self._encode_directories(start, begins, large=large))
        for level in self._levels:
            self._copy_level(level.number)
        self._file.publish()

    def _begin(self) -> None:
        """Create the files of the levels."""
        self._level_files: dict[int, AppendFile] = {}
        for level in self._levels:
            name = _file_name(level.number)
            self._level_files[level.number] = AppendFile(self._file.work_folder, name)

    def _append_tile(self, level: int, *parts: BytesLike) -> int:
        """Write a tile between its size and its last bytes; return its offset in its level."""
        last = bytes(parts[-1][-_FRAME_BYTES:])
        if len(last) < _FRAME_BYTES:
            last = b"".join(parts)[-_FRAME_BYTES:]
        size = struct.pack("<I", sum(map(len, parts)))
        return self._level_files[level].append(size, *parts, last) + _FRAME_BYTES

    def _encode_directories(
        self, start: int, begins: dict[int, int], *, large: bool
    ) -> list[bytes]:
        """The directories of all levels, the largest first, one behind the other.

        Args:
            start: Offset of the first one.
            begins: Offset of the tiles of each level.
            large: True for a BigTIFF.
        """
        encoded: list[bytes] = []
        for level in reversed(self._levels):
            tags = self._page_tags(level, self._places(level, begins[level.number]), large=large)
            following = 0 if level is self._levels[0] else None
            encoded.append(encode_directory(tags, start, following, large=large))
            start += len(encoded[-1])
        return encoded

    def _places(self, level: Level, begin: int) -> array[int]:
        """Offsets of the tiles of a level in the file."""
        offsets = self._offsets[level.number]
        if any(map(ge, offsets, offsets[1:])):
            raise AssertionError("tiles of a level came in another order than line by line")
        return array("Q", (begin + offset for offset in offsets))

    def _copy_level(self, number: int) -> None:
        """Copy the tiles of a level to the end of the file, and remove their own file."""
        file = self._level_files[number]
        self._file.append_part(file, 0, file.size)
        file.close()
        with wrap_os_errors("remove", self._file.work_path):
            self._file.work_folder.remove_file(_file_name(number))


def _file_name(level: int) -> str:
    return f"level-{level}"
