"""Reader of results with a descriptor and tiles at paths, in a folder or in a ZIP."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from fasttile.abc.layout import Layout
from fasttile.abc.reader import LevelStats, ResultReader
from fasttile.errors import FasttileError, OptionError, SourceError, SourceNotFoundError
from fasttile.formats.documents import decode_document, parse_json
from fasttile.formats.images import read_image_size
from fasttile.geometry import Canvas, Region, Tile
from fasttile.layouts import (
    RECORD_NAME,
    iiif,
    parse_plugin_descriptor,
    parse_tiles_json,
    plugin_layout_of,
    tms,
    zoomify,
)
from fasttile.layouts import tilejson as tilesjson
from fasttile.layouts.deepzoom import DeepZoom
from fasttile.layouts.iiif import Iiif, Iiif3
from fasttile.layouts.tms import MAX_ZOOM, Tms
from fasttile.layouts.xyz import Xyz, ZoomLayout
from fasttile.layouts.zoomify import Zoomify
from fasttile.plugins import Plugin
from fasttile.sources.files import TileTree
from fasttile.storage.budget import BUDGET
from fasttile.storage.file_trees import FileTree, ZipTree
from fasttile.storage.object_files import (
    ResultPath,
    is_folder,
    open_random_access,
    open_tree,
)

LayoutParser = Callable[[str, str, FileTree], Layout]
"""Makes a layout of the name of the image, the text of the descriptor, and the files beside it."""

DESCRIPTOR_PARSERS: dict[str, LayoutParser] = {
    zoomify.ZOOMIFY_DESCRIPTOR: lambda name, text, files: _parse_zoomify(name, text, files),
    tms.TMS_DESCRIPTOR: lambda name, text, files: Tms.parse(name, text),
    tilesjson.FILE_NAME: lambda name, text, files: parse_tiles_json(name, text),
    iiif.IIIF_DESCRIPTOR: lambda name, text, files: _parse_iiif(name, text, files),
}
"""Descriptors of the tiles in their own folder."""

_MAX_LISTED_NAMES = 3  # in a message

_MAX_GROUP_SAMPLES = 8  # tiles that are looked for in both kinds of TileGroups

_ZOOMIFY_TILE = re.compile(r"[0-9]+-[0-9]+-[0-9]+\.")


class FileTreeReader(ResultReader):
    """Reader of a result whose tiles are files.

    Args:
        path, layout, format_name: As for all readers.
        files: The files below the root of the layout.
    """

    files: FileTree

    def __init__(self, path: ResultPath, layout: Layout, format_name: str, files: FileTree) -> None:
        super().__init__(path, layout, format_name)
        self.allows_missing_tiles = layout.sparse
        self.files = files
        if isinstance(files, ZipTree):
            self.container = "szi" if path.suffix.lower() == ".szi" else "zip"
        else:
            self.container = "folder"

    @property
    def is_rewritable(self) -> bool:
        """True if a ZIP has no files outside the folder of the result; always in a folder."""
        if not isinstance(self.files, ZipTree):
            return True
        prefix, root = self.files.parent(self.layout.root).prefix, f"{self.layout.root}/"
        return self.files.prefix == prefix + root and all(
            path.startswith((prefix, "__MACOSX")) for path in self.files.all_paths()
        )

    def descriptors(self) -> dict[str, bytes]:
        """The stored descriptors; those that the layout has if they are stored by other names."""
        root, made = f"{self.layout.root}/", super().descriptors()
        found = {}
        for path in made:
            inside = path.startswith(root)
            files = self.files if inside else self.files.parent(self.layout.root)
            data = files.read(path.removeprefix(root) if inside else path, BUDGET.descriptor_bytes)
            if data is not None:
                found[path] = data
        return found or made

    def record(self) -> bytes:
        """How the result was made, as fasttile wrote it; b"" if there is nothing."""
        return self.files.read(RECORD_NAME) or b""

    def _close_files(self) -> None:
        """Close the ZIP, if it is one."""
        self.files.close()

    def _read_tile(self, tile: Tile) -> bytes | None:
        start = len(self.layout.root) + 1
        for path in self.layout.paths(tile) or (self.layout.path(tile),):
            data = self.files.read(path[start:])
            if data is not None:
                return data
        return None

    def _read_level_stats(self, level: int) -> LevelStats:
        return self._stats_by_level[level]

    @cached_property
    def _stats_by_level(self) -> dict[int, LevelStats]:
        """Statistics of each level, of one listing of all files."""
        layout = self.layout
        stats = {level: LevelStats(0, 0) for level in self.pyramid.stored_range}
        # Files that hold the tile of smaller levels too: see `Iiif.path`. Only the last tile can.
        shared: dict[str, list[int]] = {}
        for each in layout.pyramid.stored_levels:
            last = Tile(each.number, each.cols - 1, each.rows - 1)
            if not layout.paths(last):
                shared.setdefault(layout.path(last), []).append(each.number)
        for below, size in self.files.file_sizes():
            path = f"{layout.root}/{below}"
            tile = layout.tile_at(path)
            for level in [*([] if tile is None else [tile.level]), *shared.get(path, [])]:
                before = stats[level]
                stats[level] = LevelStats(before.tiles + 1, before.bytes + size)
            if (tile := layout.tile_of_half(path)) is not None:
                before = stats[tile.level]
                stats[tile.level] = LevelStats(before.tiles, before.bytes + size)
        return stats


def open_folder(path: ResultPath) -> ResultReader:
    """Open the result in a folder.

    Raises:
        SourceError: There is no result, more than one, or it is damaged.
    """
    files = open_tree(path)
    if _is_plain(files):
        return open_tile_tree(path, TileTree(str(path), "", None))
    return _create_reader(path, files, _find_descriptor(files, str(path)), _folder_name(path), "")


def holds_result(path: ResultPath) -> bool:
    """True if a ZIP has a descriptor or tiles, or cannot be read: opening it raises the reason."""
    try:
        with closing(ZipTree(open_random_access(path))) as files:
            folders = [files, _only_folder(files) or files]
            return any(_is_plain(one) or bool(_descriptors_in(one)) for one in folders)
    except SourceError:
        return True


def open_tile_tree(place: ResultPath, tree: TileTree) -> ResultReader:
    """Open tiles without a descriptor.

    Args:
        place: The folder of the tiles, or a ZIP.
        tree: Their names, and the size of the image, as far as they are given.

    Raises:
        SourceError: There are no such tiles, or names or size have to be given.
    """
    is_archive = place.suffix.lower() in (".zip", ".szi") and not is_folder(place)
    files: FileTree = ZipTree(open_random_access(place)) if is_archive else open_tree(place)
    try:
        if isinstance(files, ZipTree) and not _is_plain(files):
            files = _only_folder(files) or files
        template = tree.template or _plain_template(files, str(place))
        layout = _plain_layout(files, str(place), _folder_name(place), template, tree.size)
    except FasttileError as error:
        files.close()
        raise (
            error if isinstance(error, SourceError) else SourceError(f"{place}: {error}")
        ) from None
    kind = f"{layout.title}{' in ZIP' * is_archive} without a descriptor"
    return FileTreeReader(place, layout, kind, files)


def _plain_template(files: FileTree, label: str) -> str:
    """The names of tiles, where they are certain: libvips writes `blank.png` beside them.

    Raises:
        SourceError: They are not.
    """
    zooms = [name for name in files.children() if name.isdecimal() and name.isascii()]
    if not zooms:
        raise SourceError(f"{label}: no result; expected a .dzi, {', '.join(DESCRIPTOR_PARSERS)}")
    inner = files.subtree(max(zooms, key=int))
    found = [name for col in inner.children()[:1] for name in inner.subtree(col).children()]
    extension = next((name.rpartition(".")[2] for name in found if "." in name), "png")
    if files.size("blank.png") is not None:
        return f"{{z}}/{{y}}/{{x}}.{extension}"
    raise SourceError(
        f"{label}: tiles without a descriptor; instead of it, name them: "
        f"{label}/{{z}}/{{x}}/{{y}}.{extension}, or …/{{z}}/{{y}}/{{x}}.{extension}, or {{-y}} if "
        "rows count from the bottom"
    )


def _plain_layout(
    files: FileTree, label: str, name: str, template: str, size: tuple[int, int] | None
) -> ZoomLayout:
    """The layout of tiles without a descriptor, from those that are there.

    Raises:
        FasttileError: There are none, or they do not fit the size.
    """
    stem, dot, extension = template.rpartition(".")
    if not dot or "{" in extension:
        raise SourceError(f"{label}/{template}: the tiles' extension is missing, such as .png")
    from_bottom = "{-y}" in stem
    if from_bottom and stem != "{z}/{x}/{-y}":
        raise SourceError(f"{label}/{template}: {{-y}} is for {{z}}/{{x}}/{{-y}} only")
    pattern = re.escape(stem)
    for field in ("z", "x", "-y", "y"):
        pattern = pattern.replace(re.escape(f"{{{field}}}"), f"(?P<{field[-1]}>[0-9]{{1,13}})", 1)
    match_tile = re.compile(f"{pattern}\\.{re.escape(extension)}").fullmatch
    zooms: dict[int, dict[tuple[int, int], str]] = {}
    for path, _ in files.file_sizes():
        if match := match_tile(path):
            zoom, place = int(match["z"]), (int(match["x"]), int(match["y"]))
            ends = zooms.setdefault(zoom, {})
            _keep_ends(ends, place, path)
    if not zooms:
        raise SourceError(f"{label}: no tile is named {template}")
    top, ends = max(zooms), zooms[max(zooms)]
    if top > MAX_ZOOM:
        raise SourceError(f"{label}: zoom {top} is more than {MAX_ZOOM}")
    sides = {
        place: read_image_size(files.read(path) or b"", f"{label}: tile {path}")
        for place, path in ends.items()
    }
    (x0, y0), (x1, y1) = ([f(place[i] for place in ends) for i in (0, 1)] for f in (min, max))
    side = max(max(pair) for pair in sides.values())
    if from_bottom:
        y0, y1 = (1 << top) - 1 - y1, (1 << top) - 1 - y0
    if size is None:
        # The last column and the last row may have smaller tiles, which end with the image.
        right = max(pair[0] for (x, _), pair in sides.items() if x == x1)
        below = side
        if not from_bottom:
            below = max(pair[1] for (_, y), pair in sides.items() if y == y1)
        image = Region(x0 * side, y0 * side, (x1 - x0) * side + right, (y1 - y0) * side + below)
    else:
        width, height = size
        image = Region(0, (side << top) - height if from_bottom else 0, width, height)
        is_touched = x1 * side < width and y1 * side < image.bottom and (y0 + 1) * side > image.y
        if not is_touched:
            raise SourceError(
                f"{label}: size {width}×{height} does not fit: the tiles of its largest level are "
                f"columns {x0} to {x1} and rows {y0} to {y1}, {side} pixels each"
            )
    canvas = Canvas(side << top, side << top, image)
    pyramid = tilesjson.pyramid_of_zooms(canvas, side, min(zooms), top)
    if from_bottom:
        return Tms(name, pyramid, extension)
    return Xyz(name, pyramid, extension, template=stem)


def _keep_ends(ends: dict[tuple[int, int], str], place: tuple[int, int], path: str) -> None:
    """Keep the tiles at the ends of a zoom: one each of the first and last column and row."""
    ends[place] = path
    if len(ends) > 8:
        kept = {f(ends, key=lambda at: at[i]) for f in (min, max) for i in (0, 1)}
        for other in [at for at in ends if at not in kept]:
            del ends[other]


def open_descriptor(path: ResultPath) -> ResultReader:
    """Open the result of a descriptor.

    Raises:
        SourceError: The file is no descriptor, or cannot be read.
    """
    folder = path.parent
    return _create_reader(path, open_tree(folder), path.name, _folder_name(folder), "")


def open_archive(path: ResultPath) -> ResultReader:
    """Open the result in a ZIP: at its top, or in the only folder there.

    Raises:
        SourceError: There is no result, more than one, or it is damaged.
    """
    files = ZipTree(open_random_access(path))
    try:
        kind = " in SZI" if path.suffix.lower() == ".szi" else " in ZIP"
        inner = files
        name = path.stem
        if not (_descriptors_in(files) or _is_plain(files)):
            inner = _only_folder(files) or files
            if inner is not files:
                name = inner.prefix.rstrip("/")
        if _is_plain(inner):
            files.close()
            return open_tile_tree(path, TileTree(str(path), "", None))
        return _create_reader(path, inner, _find_descriptor(inner, str(path)), name, kind)
    except BaseException:
        files.close()
        raise


def _only_folder(files: ZipTree) -> ZipTree | None:
    """The files of the only folder at the top of a ZIP; None if it has none or several."""
    folders = {path.partition("/")[0] for path, _ in files.file_sizes() if "/" in path}
    folders.discard("__MACOSX")
    return files.subtree(*folders) if len(folders) == 1 else None


def _folder_name(folder: ResultPath) -> str:
    """Name of a folder, also of "." and "..", whose path has none."""
    name = folder.name
    if isinstance(folder, Path) and name in ("", ".."):
        name = folder.resolve().name
    return name or "pyramid"


def _create_reader(
    path: ResultPath, files: FileTree, descriptor: str, name: str, container_suffix: str
) -> ResultReader:
    """The reader of the result whose descriptor is one of the files."""
    data = files.read(descriptor, BUDGET.descriptor_bytes)
    if data is None:
        raise SourceNotFoundError(f"{path}: no such file")
    try:
        text = decode_document(data)
    except UnicodeDecodeError as error:
        raise SourceError(f"{path}: {descriptor} is not UTF-8: {error}") from error
    except ValueError as error:
        raise SourceError(f"{path}: {descriptor} cannot be read: {error}") from error
    try:
        if descriptor in DESCRIPTOR_PARSERS:
            layout = DESCRIPTOR_PARSERS[descriptor](name, text, files)
        elif (found := _plugin_of(descriptor)) is not None:
            layout = parse_plugin_descriptor(found[1], name, text)
        else:
            layout = DeepZoom.parse(Path(descriptor).stem, text)
            files = files.subtree(layout.root)
            # The smallest levels that have no folders are those that --levels leaves out.
            names = [name for name in files.children() if name.isdecimal() and name.isascii()]
            levels = {*map(int, names)} & {*layout.pyramid.stored_range}
            if levels:  # else all tiles are missing: readers and verify report that
                pyramid = replace(layout.pyramid, first_level=min(levels))
                layout = replace(layout, pyramid=pyramid)
    except SourceError as error:
        raise SourceError(f"{path}: {error}") from error
    except FasttileError as error:
        raise SourceError(f"{path}: {descriptor} is not valid: {error}") from error
    return FileTreeReader(path, layout, layout.title + container_suffix, files)


def _find_descriptor(files: FileTree, label: str) -> str:
    """Name of the only descriptor in a folder."""
    found = _descriptors_in(files)
    if len(found) == 1 or (found and found[0] in DESCRIPTOR_PARSERS):
        return found[0]
    if found:
        more = f" and {len(found) - _MAX_LISTED_NAMES} more" if found[_MAX_LISTED_NAMES:] else ""
        names = ", ".join(found[:_MAX_LISTED_NAMES]) + more
        raise SourceError(f"{label}: several images: {names}; name one of them")
    raise SourceError(f"{label}: no result; expected a .dzi, {', '.join(DESCRIPTOR_PARSERS)} in it")


def _is_plain(files: FileTree) -> bool:
    """True if a folder has zooms, and no descriptor."""
    return not _descriptors_in(files) and any(
        name.isdecimal() and name.isascii() for name in files.children()
    )


def _descriptors_in(files: FileTree) -> list[str]:
    """Names of the descriptors in a folder; those of tiles in the same folder come first."""
    names = files.children()
    known = [name for name in DESCRIPTOR_PARSERS if name in names]
    known += [name for name in names if name.lower().endswith(".dzi")]
    if not known and (found := plugin_layout_of(names)) is not None:
        return [found[0]]
    return known


def _plugin_of(descriptor: str) -> tuple[str, Plugin] | None:
    """The plug-in whose layout has a descriptor of this name; None for those of Deep Zoom."""
    if descriptor.lower().endswith((".dzi", ".xml", ".json", ".js")):
        return None
    return plugin_layout_of([descriptor])


def _parse_zoomify(name: str, text: str, files: FileTree) -> Zoomify:
    """The layout of Zoomify, whose descriptor has neither the extension nor the rounding."""
    tiles = files.subtree("TileGroup0")
    names = [found for found in tiles.children() if _ZOOMIFY_TILE.match(found)]
    # The most frequent one: a tile may be missing, and other files may be there.
    extensions = Counter(found.rpartition(".")[2] for found in names)
    extension = extensions.most_common(1)[0][0] if extensions else "jpg"

    def read_tier_0_size() -> tuple[int, int] | None:
        with suppress(SourceError):  # a damaged tile counts as a missing one
            data = tiles.read(f"0-0-0.{extension}")
            return None if data is None else read_image_size(data, f"tile 0-0-0 of {name}")
        return None

    return _find_group(Zoomify.parse(name, text, extension, read_tier_0_size), files)


def _find_group(layout: Zoomify, files: FileTree) -> Zoomify:
    """The layout with the groups that most tiles are in; if none is found, those of the record."""
    samples = layout.group_samples(_MAX_GROUP_SAMPLES)
    if not samples:
        return layout
    start = len(layout.root) + 1
    both = layout, replace(layout, group="tile-size")
    counts = [
        sum(files.size(one.path(tile)[start:]) is not None for tile in samples) for one in both
    ]
    if counts[0] == counts[1]:
        with suppress(FasttileError, ValueError, LookupError, TypeError):
            return replace(layout, group=(_recorded_parameters(files) or {})["group"])
    return both[counts[1] > counts[0]]


def _parse_iiif(name: str, text: str, files: FileTree) -> Iiif:
    """The layout of IIIF; a descriptor without an extension means jpg, unless tiles differ."""
    layout = iiif.parse(name, text)
    made = _recorded_parameters(files)
    if made is not None:
        with suppress(OptionError):  # the record says more than sizes, which may be any
            layout = replace(layout, thumbnails=str(made.get("thumbnails", "")))
    if isinstance(layout, Iiif3):
        has_manifest = str((made or {}).get("manifest", "")) not in ("", "False")
        layout = replace(layout, manifest=has_manifest)
        other = iiif.Iiif3OfWidths(
            **{one.name: getattr(layout, one.name) for one in fields(layout)}
        )
        first = Tile(layout.pyramid.stored_range[-1], 0, 0)
        start = len(name) + 1
        if files.size(layout.path(first)[start:]) is None and files.size(other.path(first)[start:]):
            layout = other
    full = files.subtree("full")
    names = full.subtree(f"{full.children()[0]}/0").children() if full.children() else []
    extensions = [name.removeprefix("default.") for name in names if name.startswith("default.")]
    if not extensions or layout.extension in extensions:
        return layout
    return replace(layout, extension=extensions[0])


def _recorded_parameters(files: FileTree) -> dict[str, Any] | None:
    """Parameters of the layout that the record states; None without a record."""
    try:
        found = parse_json(decode_document(files.read(RECORD_NAME) or b""))["parameters"]
    except (LookupError, TypeError, ValueError, SourceError):
        return None
    return found if isinstance(found, dict) else None
