"""Mosaics that files describe: patterns of names, CSV, ImageJ's TileConfiguration.txt, GDAL's VRT.

A list names only files below its own folder, as it may come from elsewhere, unless the user writes
`mosaic:any-path:LIST`; addresses and other programs' virtual files are never read.
"""

from __future__ import annotations

import csv
import io
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from fasttile.errors import OptionError, SourceError, printable
from fasttile.formats.documents import decode_document, parse_xml
from fasttile.geometry import Region
from fasttile.options import parse_parameters
from fasttile.sources.files import GRID_PREFIX, MOSAIC_PREFIX, scheme_of, split_mosaic_prefix
from fasttile.sources.mosaic import Member, Mosaic, Stored
from fasttile.storage.budget import BUDGET
from fasttile.storage.random_access import open_regular_file

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_CSV_HEADER = ["file", "x", "y"]
_MAX_NEAR_NAMES = 3
_MAX_HOLES = 2**20  # places of a grid beside its images
_DIM_LINE = re.compile(r"(?m)^[ \t]*dim[ \t]*=")
_TILE_LINE = re.compile(r"([^;]+);([^;]*);\s*\(([^()]*)\)")


class _List(NamedTuple):
    """A file that lists images.

    Attributes:
        path: Its path, as the user wrote it.
        any_path: True if it may name files outside of its folder.
        allow_missing: As in `Mosaic`.
    """

    path: str
    any_path: bool
    allow_missing: bool

    def error(self, where: str, problem: str) -> SourceError:
        return SourceError(f"{self.path}: {f'{where}: ' if where else ''}{problem}")

    def member_path(self, text: str, where: str, *, below: bool = True) -> str:
        """The path of an image that the list names.

        Args:
            text: As listed.
            where: The line or tag, for messages.
            below: True if it is relative to the list's folder; else to the current one.

        Raises:
            SourceError: It is no file, or outside of the list's folder.
        """
        shown = printable(text)
        if not text.strip() or "\0" in text or text.strip() == "-":
            raise self.error(where, f"{shown!r} is not the name of a file")
        if scheme_of(text) is not None or text.startswith("/vsi"):
            raise self.error(where, f"{shown!r}: a list names files only; download it first")
        is_absolute = text.startswith(("/", "\\")) or re.match(r"[A-Za-z]:[/\\]", text) is not None
        is_outside = is_absolute or ".." in re.split(r"[/\\]", text) or not below
        if is_outside and not self.any_path:
            raise self.error(
                where,
                f"{shown!r} is not below the folder of the list; if you trust the list, use "
                f"{MOSAIC_PREFIX}any-path:{self.path}",
            )
        folder = os.path.dirname(self.path) if below else ""  # noqa: PTH120 -- many of them
        return os.path.join(folder, text)  # noqa: PTH118

    def mosaic(self, members: tuple[Member, ...], size: tuple[int, int] | None = None) -> Mosaic:
        if not members:
            raise self.error("", "it names no image")
        return Mosaic(
            self.path,
            members,
            size=size,
            allow_missing=self.allow_missing,
            way_out=f"{MOSAIC_PREFIX}allow-missing:{self.path}",
        )


def read_mosaic(source: str) -> Mosaic | None:
    """The mosaic that a text names: a pattern of names, or a list; None for other files.

    Raises:
        OptionError: A pattern or a parameter is not valid.
        SourceError: A list cannot be used, or no image matches a pattern.
    """
    prefix, parameters, rest = split_mosaic_prefix(source)
    known = {"allow-missing": "bool"} | ({"any-path": "bool"} if prefix == MOSAIC_PREFIX else {})
    values = parse_parameters(prefix.rstrip(":"), parameters.replace("_", "-"), known)
    allow_missing = values.get("allow-missing", False)
    if prefix == GRID_PREFIX:
        return _read_grid(source, rest, allow_missing=allow_missing)
    listed = _List(rest, values.get("any-path", False), allow_missing)
    found = _read_list(listed)
    if found is None and prefix:
        raise SourceError(
            f"{rest or source}: it lists no images; expected a CSV whose first line is file,x,y, "
            "ImageJ's TileConfiguration.txt with dim = 2, or a .vrt of GDAL"
        )
    return found


def _read_list(listed: _List) -> Mosaic | None:
    suffix = Path(listed.path).suffix.lower()
    if suffix not in (".csv", ".txt", ".vrt"):
        return None
    with open_regular_file(listed.path) as file:
        data = file.read(BUDGET.descriptor_bytes + 1)
    head = data[:4096].removeprefix(b"\xef\xbb\xbf").lstrip()
    if suffix == ".vrt" and not head.startswith((b"<", b"\xff\xfe", b"\xfe\xff")):
        return None
    first_line = head.partition(b"\n")[0].decode("ascii", "replace")
    cells = [cell.strip().strip('"').lower() for cell in first_line.split(",")]
    if suffix == ".csv" and cells != _CSV_HEADER:
        return None
    if suffix == ".txt" and not _DIM_LINE.search(head.decode("ascii", "replace")):
        return None
    try:
        text = decode_document(data)
        root = parse_xml(text) if suffix == ".vrt" else None
    except ValueError as error:
        raise listed.error("", f"it cannot be read: {error}") from error
    if root is not None:
        return _read_vrt(listed, root)
    members = _csv_members(listed, text) if suffix == ".csv" else _imagej_members(listed, text)
    return listed.mosaic(tuple(members))


def _csv_members(listed: _List, text: str) -> Iterator[Member]:
    """The images of a CSV `file,x,y`."""
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        for number, row in enumerate(reader):
            if number == 0 or not any(cell.strip() for cell in row):
                continue
            where = f"line {reader.line_num}"
            if len(row) != 3:
                raise listed.error(where, f"{len(row)} values; expected file,x,y")
            x, y = (_pixel(listed, value, where) for value in row[1:])
            yield Member(listed.member_path(row[0], where), x, y)
    except csv.Error as error:
        raise listed.error(f"line {reader.line_num}", str(error)) from error


def _imagej_members(listed: _List, text: str) -> Iterator[Member]:
    """The images of ImageJ's TileConfiguration.txt: `file; ; (x, y)`, in pixels."""
    for number, raw_line in enumerate(text.splitlines(), 1):
        line, where = raw_line.strip(), f"line {number}"
        if not line or line.startswith("#"):
            continue
        key, equals, value = (part.strip() for part in line.partition("="))
        if equals and key in ("dim", "multiseries"):
            if (key, value.lower()) not in (("dim", "2"), ("multiseries", "false")):
                raise listed.error(where, f"{line}: only flat mosaics of single images (dim = 2)")
            continue
        match = _TILE_LINE.fullmatch(line)
        if match is None:
            raise listed.error(where, f"{printable(line[:80])!r}; expected file; ; (x, y)")
        if match[2].strip():
            raise listed.error(where, f"series {match[2].strip()[:20]}: only files of one image")
        values = match[3].split(",")
        if len(values) != 2:
            raise listed.error(where, f"{len(values)} coordinates; expected (x, y)")
        x, y = (_pixel(listed, one, where) for one in values)
        yield Member(listed.member_path(match[1].strip(), where), x, y)


def _pixel(listed: _List, text: str, where: str) -> int:
    """A place in pixels, the nearest whole number, halves up."""
    value = _parse_number(text)
    if not abs(value) < 2**53:
        raise listed.error(where, f"{printable(text.strip()[:40])!r} is not a number of pixels")
    return math.floor(value + 0.5)


def _parse_number(text: str) -> float:
    """A number without Python's underscores between digits; NaN for other texts."""
    try:
        return math.nan if "_" in text else float(text)
    except ValueError:
        return math.nan


# GDAL's virtual format: https://gdal.org/en/stable/drivers/raster/vrt.html

_DATASET_TAGS = frozenset(
    {"SRS", "GeoTransform", "GCPList", "Metadata", "BlockXSize", "BlockYSize", "OverviewList"}
)
_BAND_TAGS = frozenset(
    {
        *("ColorInterp", "ColorTable", "NoDataValue", "HideNoDataValue", "Description"),
        *("Metadata", "UnitType", "CategoryNames", "Histograms", "Overview", "Offset", "Scale"),
    }
)
_SOURCE_TAGS = frozenset({"SourceFilename", "SourceBand", "SourceProperties", "SrcRect", "DstRect"})
_TYPES = {
    "Byte": "u1",
    "Int8": "i1",
    "UInt16": "u2",
    "Int16": "i2",
    "UInt32": "u4",
    "Int32": "i4",
    "UInt64": "u8",
    "Int64": "i8",
    "Float32": "f4",
    "Float64": "f8",
}
"""GDAL's names of types, and NumPy's."""

_VRT_ADVICE = "only SimpleSource is read; write a TIFF with gdal_translate"


class _Place(NamedTuple):
    """A SimpleSource without its band."""

    path: str
    part: Region
    x: int
    y: int
    is_complete: bool  # it has no SrcRect


def _read_vrt(listed: _List, root: Element) -> Mosaic:
    """The images of a VRT of simple sources; all bands have the same."""
    if root.tag != "VRTDataset":
        raise listed.error("", f"{printable(root.tag)[:40]} is not VRTDataset")
    if root.get("subClass"):
        _refuse_vrt(listed, f"subClass {root.get('subClass')}")
    try:
        size = int(root.get("rasterXSize", "")), int(root.get("rasterYSize", ""))
    except ValueError:
        size = 0, 0
    if not all(0 < side < 2**31 for side in size):
        raise listed.error("", "rasterXSize and rasterYSize are no size in pixels")
    bands = []
    for child in root:
        if child.tag == "VRTRasterBand":
            bands.append(child)
        elif child.tag not in _DATASET_TAGS:
            _refuse_vrt(listed, str(child.tag))
    if not 1 <= len(bands) <= 4:
        raise listed.error("", f"it has {len(bands)} bands; expected 1 to 4")
    meaning = (bands[-1].findtext("ColorInterp") or "Undefined").strip()
    if len(bands) in (2, 4) and meaning != "Alpha":
        problem = f"its ColorInterp is {printable(meaning[:40])}, expected Alpha"
        raise listed.error(f"band {len(bands)}", f"{problem}; choose bands with gdal_translate -b")
    columns = [list(_band_sources(listed, band, size)) for band in bands]
    for number, column in enumerate(columns):
        if [place for place, _ in column] != [place for place, _ in columns[0]]:
            raise listed.error(f"band {number + 1}", "its images are not those of band 1")
    has_palette = len(bands) == 1 and bands[0].find("ColorTable") is not None
    type_names = {band.get("dataType", "Byte") for band in bands}
    type_name = _TYPES.get(type_names.pop()) if len(type_names) == 1 else None
    if type_name is None:
        known = ", ".join(_TYPES)
        raise listed.error("dataType", f"expected one of {known}, and the same of all bands")
    members = []
    for row in zip(*columns, strict=True):
        path, part, x, y, is_complete = row[0][0]
        numbers = () if has_palette else tuple(band for _, band in row)
        stored = Stored(type_name, has_palette)
        members.append(Member(path, x, y, part, numbers, is_complete, stored))
    return listed.mosaic(tuple(members), size)


def _band_sources(
    listed: _List, band: Element, size: tuple[int, int]
) -> Iterator[tuple[_Place, int]]:
    """Place and band of each simple source of a band."""
    if band.get("subClass"):
        _refuse_vrt(listed, f"subClass {band.get('subClass')}")
    for child in band:
        if child.tag == "SimpleSource":
            yield _simple_source(listed, child, size)
        elif child.tag not in _BAND_TAGS:
            _refuse_vrt(listed, str(child.tag))


def _simple_source(listed: _List, source: Element, size: tuple[int, int]) -> tuple[_Place, int]:
    if source.get("resampling"):
        _refuse_vrt(listed, f"resampling {source.get('resampling')}")
    for child in source:
        if child.tag not in _SOURCE_TAGS:
            _refuse_vrt(listed, str(child.tag))
    name = source.find("SourceFilename")
    text = "" if name is None else (name.text or "")
    below = name is not None and name.get("relativeToVRT") == "1"
    path = listed.member_path(text, "SourceFilename", below=below)
    number = (source.findtext("SourceBand") or "1").strip()
    if not re.fullmatch("[1-9][0-9]{0,4}", number):
        _refuse_vrt(listed, f"SourceBand {number}")
    part = _rectangle(listed, source, "SrcRect", path)
    place = _rectangle(listed, source, "DstRect", path) or Region(0, 0, *size)
    is_complete = part is None
    part = part or Region(0, 0, place.width, place.height)
    if part[2:] != place[2:]:
        _refuse_vrt(
            listed,
            f"resampling of {path} from {part.width}×{part.height} to "
            f"{place.width}×{place.height} pixels",
        )
    return _Place(path, part, place.x, place.y, is_complete), int(number)


def _rectangle(listed: _List, source: Element, tag: str, path: str) -> Region | None:
    element = source.find(tag)
    if element is None:
        return None
    names = ("xOff", "yOff", "xSize", "ySize")
    values = [_parse_number(element.get(name, "")) for name in names]
    if any(map(math.isnan, values)):
        raise listed.error(tag, f"of {path}: it has no four numbers")
    if not all(abs(value) < 2**31 for value in values) or min(values[2:]) < 1:
        raise listed.error(tag, f"of {path}: out of range")
    if any(value != int(value) for value in values):
        _refuse_vrt(listed, f"resampling of {path}: {tag} is between pixels")
    return Region(*map(int, values))


def _refuse_vrt(listed: _List, what: str) -> NoReturn:
    raise listed.error("", f"{printable(what)[:200]}: {_VRT_ADVICE}")


# Patterns: grid:scans/r{row}_c{col}.tif

_MARK = re.compile(r"\{\{|\}\}|\{[^{}]*\}|[{}]")


def _read_grid(source: str, pattern: str, *, allow_missing: bool) -> Mosaic:
    """The images whose names match a pattern, by the numbers in their names."""
    if scheme_of(pattern) is not None:
        raise OptionError(
            f"{source}: a pattern is for files of this machine; list the addresses "
            "with fasttile.mosaic"
        )
    marks = _MARK.findall(pattern)
    wrong = next((mark for mark in marks if mark not in ("{row}", "{col}", "{{", "}}")), None)
    if wrong is not None or not {"{row}", "{col}"} & set(marks):
        found = f"{wrong} is unknown" if wrong else "it has neither {row} nor {col}"
        raise OptionError(
            f"{source}: {found}; expected a pattern such as grid:scans/r{{row}}_c{{col}}.tif, in "
            "quotes, and two braces for one"
        )
    if adjacent := re.search(r"(\{(row|col)\}){2}", pattern):
        raise OptionError(
            f"{source}: nothing is between the numbers of {adjacent[0]}, so that a name could be "
            "split in several ways; rename the files, or place them by a CSV file,x,y"
        )
    found_paths: dict[tuple[int, int], str] = {}
    for path, row, col in _match_files(source, pattern):
        other = found_paths.setdefault((row, col), path)
        if other != path:
            raise SourceError(
                f"{source}: {other} and {path} are both row {row}, column {col}; rename one"
            )
    return _grid_mosaic(source, pattern, found_paths, allow_missing=allow_missing)


def _grid_mosaic(
    source: str, pattern: str, paths: dict[tuple[int, int], str], *, allow_missing: bool
) -> Mosaic:
    first_row, first_col = (min(key[axis] for key in paths) for axis in (0, 1))
    rows = max(row for row, _ in paths) - first_row + 1
    cols = max(col for _, col in paths) - first_col + 1
    way_out = f"{GRID_PREFIX}allow-missing:{pattern}"
    holes = rows * cols - len(paths)
    if holes and (not allow_missing or holes > _MAX_HOLES):
        row, col = next(
            (row, col)
            for row in range(first_row, first_row + rows)
            for col in range(first_col, first_col + cols)
            if (row, col) not in paths
        )
        advice = "" if holes > _MAX_HOLES else f"; {way_out} leaves a gap"
        raise SourceError(
            f"{source}: {holes:,} of {rows * cols:,} images are missing, the first at row {row}, "
            f"column {col}{advice}"
        )
    members = tuple(
        Member(path, col - first_col, row - first_row) for (row, col), path in sorted(paths.items())
    )
    notes = (f"{holes:,} of {rows * cols:,} images are missing",) if holes else ()
    return Mosaic(
        source,
        members,
        grid=(cols, rows),
        allow_missing=allow_missing,
        way_out=way_out,
        notes=notes,
    )


class _Match(NamedTuple):
    """A path that matches the first parts of a pattern, and the numbers in it; -1: none yet."""

    path: str
    row: int = -1
    col: int = -1


def _match_files(source: str, pattern: str) -> Iterator[_Match]:
    """Files that match a pattern.

    Raises:
        SourceError: There is none; the message has similar names.
    """
    parts = pattern.split("/")
    found = [_Match("")]
    for number, part in enumerate(parts):
        if not part:
            found = [one._replace(path=f"{one.path}/") for one in found] if number == 0 else found
            continue
        if not _MARK.search(part):
            found = [one._replace(path=os.path.join(one.path, part)) for one in found]  # noqa: PTH118
            continue
        inner = [child for one in found for child in _match_names(one, part)]
        if not inner:
            raise _no_match_error(source, found[0].path, part)
        found = inner
    if not _MARK.search(parts[-1]):
        inner = [one for one in found if os.path.lexists(one.path)]
        if not inner:
            raise SourceError(f"{source}: no file matches; {found[0].path} is missing")
        found = inner
    for path, row, col in found:
        yield _Match(path, max(row, 0), max(col, 0))


def _match_names(folder: _Match, part: str) -> Iterator[_Match]:
    """Entries of a folder that match a part of a pattern."""
    fields: list[str] = []
    expression = ""
    end = 0
    for mark in _MARK.finditer(part):
        expression += re.escape(part[end : mark.start()])
        end = mark.end()
        if mark[0] in ("{{", "}}"):
            expression += re.escape(mark[0][0])
            continue
        fields.append(mark[0].strip("{}"))
        expression += "([0-9]{1,9})"
    compiled = re.compile(expression + re.escape(part[end:]))
    for name in _names_in(folder.path):
        match = compiled.fullmatch(name)
        if match is None:
            continue
        child = folder._replace(path=os.path.join(folder.path, name))  # noqa: PTH118
        for field, text in zip(fields, match.groups(), strict=True):
            value, before = int(text), getattr(child, field)
            if before not in (-1, value):
                break
            child = child._replace(row=value) if field == "row" else child._replace(col=value)
        else:
            yield child


def _names_in(folder: str) -> list[str]:
    try:
        with os.scandir(folder or os.curdir) as entries:
            return sorted(entry.name for entry in entries)
    except NotADirectoryError:
        return []
    except OSError as error:
        raise SourceError(f"{folder} cannot be read: {error.strerror}") from error


def _no_match_error(source: str, folder: str, part: str) -> SourceError:
    from difflib import get_close_matches  # only for errors

    example = part.replace("{row}", "1").replace("{col}", "1")
    names = _names_in(folder)[:10_000]
    near = get_close_matches(example, names, _MAX_NEAR_NAMES, 0.4) or names[:_MAX_NEAR_NAMES]
    place = printable(folder or "the current folder")
    has = f"has {', '.join(map(printable, near))}" if near else "is empty"
    return SourceError(f"{source}: no file matches {part}; {place} {has}")
