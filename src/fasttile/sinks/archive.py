"""Tiles in one uncompressed ZIP file: `.zip`, and `.szi` for Deep Zoom.

Each entry is written once, in order: its header has the size and the checksum, so the archive can
be read as a stream; the directory at its end is for all other readers. Equal tiles result in equal
bytes: times and permissions are fixed.

Sources: PKWARE's APPNOTE 6.3.10, sections 4.3 to 4.5; SZI-Format 1.2 by smart In Media.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from fasttile.abc.layout import Layout
from fasttile.errors import OptionError
from fasttile.geometry import Tile
from fasttile.storage.writing import AppendFile, AtomicFile

LOCAL_HEADER = struct.Struct("<4s5H3I2H")
CENTRAL_HEADER = struct.Struct("<4s6H3I5H2I")
_EXTRA_FIELD_64 = struct.Struct("<2HQ")
END_RECORD = struct.Struct("<4s4H2IH")
END_RECORD_64 = struct.Struct("<4sQ2H2I4Q")
END_LOCATOR_64 = struct.Struct("<4sIQI")

LIMIT_32, LIMIT_16 = 0xFFFFFFFF, 0xFFFF
"""The smallest values that need ZIP64."""

_VERSION, _VERSION_64 = 20, 45
_UTF_8 = 1 << 11
_DOS_DATE = 1 << 5 | 1  # the first of January 1980
_MADE_BY = 3 << 8  # Unix, for the permissions
_PERMISSIONS = 0o100644 << 16

MAX_NAME_BYTES = 0xFFFF


class ArchiveSink:
    """Writes tiles and descriptors into one ZIP file.

    Args:
        layout: The names of the tiles, and the descriptors.
        target: The archive's path.
        overwrite: Replace an existing result, only at the end.
        files: Further files: path and content.
        prefix: The beginning of all names: a folder and a slash, or nothing.

    Raises:
        TargetError: A file exists that must not be replaced, another run works on this target, or
            its folder cannot be written.
    """

    def __init__(
        self,
        layout: Layout,
        target: str | Path,
        *,
        overwrite: bool = False,
        files: Mapping[str, bytes] | None = None,
        prefix: str = "",
    ) -> None:
        self._layout = layout
        self._prefix = prefix
        self._files = {**(files or {}), **layout.descriptors()}
        self._count = 0
        _check_name_is_text(f"{prefix}{layout.root}")
        self._file = AtomicFile(target, overwrite=overwrite)
        try:
            # A separate file: the directory of a million entries has 70 MB.
            self._directory = AppendFile(self._file.work_folder, "directory")
        except BaseException:
            self._file.abort()
            raise

    def put(self, tile: Tile, data: bytes) -> None:
        """Write one tile, under all its names.

        Raises:
            TargetError: It cannot be written.
        """
        self.add(self._layout.paths(tile), data)

    def add(self, paths: Sequence[str], data: bytes) -> None:
        """Write a further file, under all these names.

        Raises:
            TargetError: It cannot be written.
        """
        checksum = zlib.crc32(data)
        for path in paths:
            self._write_entry(f"{self._prefix}{path}".encode(), data, checksum)

    def change_file(self, path: str, change: Callable[[bytes], bytes]) -> None:
        """Change the content of a further file, before `finish` writes it."""
        self._files[path] = change(self._files[path])

    def finish(self) -> None:
        """Write the descriptors and the directory, and publish.

        Raises:
            TargetError: It cannot be written, or a file has appeared there meanwhile.
        """
        self._file.ensure_open()
        for path, data in self._files.items():
            self.add([path], data)
        start, size = self._file.size, self._directory.size
        self._file.append_part(self._directory, 0, size)
        self._directory.close()
        self._file.append(_end_records(self._count, size, start))
        self._file.publish()

    def abort(self) -> None:
        """Discard the result; leave an older one untouched. Never raises."""
        self._directory.discard()
        self._file.abort()

    def _write_entry(self, name: bytes, data: bytes, checksum: int) -> None:
        size, offset = len(data), self._file.size
        if len(name) > MAX_NAME_BYTES or size >= LIMIT_32:
            raise OptionError(f"{self._file.target}: ZIP cannot hold {name[:99]!r}")
        version, extra, stored = _VERSION, b"", offset
        if offset >= LIMIT_32:
            version, extra, stored = _VERSION_64, _EXTRA_FIELD_64.pack(1, 8, offset), LIMIT_32
        same = (version, _UTF_8, 0, 0, _DOS_DATE, checksum, size, size, len(name))
        self._file.append(LOCAL_HEADER.pack(b"PK\3\4", *same, 0) + name, data)
        where = (len(extra), 0, 0, 0, _PERMISSIONS, stored)
        entry = CENTRAL_HEADER.pack(b"PK\1\2", _MADE_BY | version, *same, *where)
        self._directory.append(entry + name + extra)
        self._count += 1


def _end_records(count: int, size: int, offset: int) -> bytes:
    """The end of the archive: the number of entries, and size and offset of the directory."""
    large = b""
    if count >= LIMIT_16 or size >= LIMIT_32 or offset >= LIMIT_32:
        large = END_RECORD_64.pack(
            b"PK\6\6", 44, _MADE_BY | _VERSION_64, _VERSION_64, 0, 0, count, count, size, offset
        )
        large += END_LOCATOR_64.pack(b"PK\6\7", 0, offset + size, 1)
    entries = min(count, LIMIT_16)
    small = (entries, entries, min(size, LIMIT_32), min(offset, LIMIT_32))
    return large + END_RECORD.pack(b"PK\5\6", 0, 0, *small, 0)


def _check_name_is_text(name: str) -> None:
    """Refuse names that are not text, for a ZIP declares the encoding of its names."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise OptionError(
            f"name {name!a} is not text: a ZIP's names are; choose another one"
        ) from None


def scan_properties(layout: Layout) -> dict[str, bytes]:
    """The properties file of an .szi: path and content.

    It has all that the specification demands, except for the size of a pixel in micrometres, which
    is not known.
    """
    width, height = layout.pyramid.size
    properties = "".join(
        f"    <property>\n      <name>{name}</name>\n      <value>{value}</value>\n"
        "    </property>\n"
        for name, value in (("ImageWidth", width), ("ImageHeight", height))
    )
    text = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<image xmlns="http://www.pathozoom.com/szi" version="1.0">\n'
        f"  <properties>\n{properties}  </properties>\n"
        "</image>\n"
    )
    return {"scan-properties.xml": text.encode()}
