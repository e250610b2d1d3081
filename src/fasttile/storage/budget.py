"""The budget of readers and sources: the most work that a file of unknown origin may cause.

docs/RELIABILITY.md lists these limits with their reasons; a test compares both.
"""

from __future__ import annotations

from typing import NamedTuple


class Budget(NamedTuple):
    """Limits of readers, of sources, of `verify` and of `view`.

    Work that grows with an honest file has a limit that grows with the size of the file.

    Attributes:
        descriptor_bytes: Unpacked bytes of a descriptor, or of the metadata in a container.
        descriptor_tags: Tags of a descriptor in XML.
        descriptor_values: Attributes of a descriptor in XML, values of one in JSON.
        piece_bytes: Unpacked bytes of a tile, or of another piece that is read at once.
        tile_pixels: Pixels of a tile that is decoded; a tile of a TIFF that is a source may have
            more if it has at most four times those of the image.
        scans: Scans that a progressive JPEG may have as a source, of any size.
        scanned_pixels: Pixels of a JPEG tile, times the number of its scans; a source with more
            than `scans` of them has the same limit.
        chunk_line_bytes: Samples of a line of chunks of Zarr or N5, which is in memory.
        directory_bytes: Unpacked bytes of a directory in a PMTiles file.
        entries: Rows of all directories of a PMTiles file, or files in a ZIP; and one more for
            each byte of the file.
        tags: Tags of all directories of a TIFF.
        lookup_steps: Steps of SQLite's virtual machine for one tile, and one more for each byte of
            the file.
        scan_steps: Steps of SQLite for all queries that count or list tiles, and 32 more for each
            byte of the file.
        query_seconds: Seconds of a query of SQLite that returns nothing.
        verified_tiles: Tiles that `verify` checks one by one.
        listed_tiles: Tiles in runs of equal ones whose places `verify` compares with the image.
        bytes_in_flight: Bytes of tiles that `view` has read and not sent yet.
        reads_at_once: Tiles that `view` reads at the same time.
        download_bytes: Bytes of a database in an object store, which is downloaded to be read.
        connections: Connections that `view` keeps at the same time.
        shown_items: Images and results that `view` shows of a folder.
        listed_entries: Entries of folders that `view` looks at for them.
        open_pyramids: Pyramids of them that it keeps open, if nobody reads from them.
    """

    descriptor_bytes: int = 2**24
    descriptor_tags: int = 2**19
    descriptor_values: int = 2**20
    piece_bytes: int = 2**28
    tile_pixels: int = 2**26
    scans: int = 64
    scanned_pixels: int = 2**30
    chunk_line_bytes: int = 2**33
    directory_bytes: int = 2**22
    entries: int = 2**24
    tags: int = 2**16
    lookup_steps: int = 10**6
    scan_steps: int = 5 * 10**7
    query_seconds: int = 600
    verified_tiles: int = 2**32
    listed_tiles: int = 2**28
    bytes_in_flight: int = 2**28
    reads_at_once: int = 4
    download_bytes: int = 2**32
    connections: int = 256
    shown_items: int = 10_000
    listed_entries: int = 10**6
    open_pyramids: int = 4


BUDGET = Budget()
"""The limits that hold."""
