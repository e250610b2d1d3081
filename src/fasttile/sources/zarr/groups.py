"""Which array of a folder of Zarr or N5 is the image: metadata files, levels, series."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from fasttile.errors import SourceError, SourceNotFoundError
from fasttile.formats.documents import PARSE_ERRORS
from fasttile.formats.ngff import (
    AXIS_NAMES,
    Multiscale,
    describe_other,
    has_image_series,
    parse_multiscales,
)
from fasttile.formats.zarr import (
    ArrayHeader,
    parse_metadata,
    parse_n5,
    parse_zarr2,
    parse_zarr3,
)
from fasttile.storage.budget import BUDGET
from fasttile.storage.file_trees import FileTree, FolderTree

T = TypeVar("T")

_MAX_LISTED = 8  # arrays of a group in a message
_MAX_CHILDREN = 1_000  # files and folders of a group that are looked at for it


class FoundArray(NamedTuple):
    """An array that is the image.

    Attributes:
        header: The array.
        files: Its files.
        axes: A letter for each axis; "" if they are not known.
        image: The image of OME-Zarr that it is a level of; None for others.
        level: Number of the level.
        notes: Lines for the user.
    """

    header: ArrayHeader
    files: FileTree
    axes: str = ""
    image: Multiscale | None = None
    level: int = 0
    notes: tuple[str, ...] = ()


def find_array(files: FileTree, name: str, *, in_series: bool = False) -> FoundArray:
    """The array of an image: the one that is named, the largest level, or the only one in a group.

    Args:
        files: The files of an array or a group.
        name: Its path or address in messages.
        in_series: True if it is an image of a series, which has none in turn.

    Raises:
        SourceNotFoundError: There is neither an array nor a group.
        SourceError: The group has no image, or its metadata are not valid.
    """
    node = _read_node(files, name)
    if isinstance(node, ArrayHeader):
        return _with_image_of_parent(FoundArray(node, files, _named_axes(node)), name)
    attributes = node or {}
    image = _checked(f"{name}: ", lambda: parse_multiscales(attributes))
    if image is not None:
        return _largest_level(image, files, name)
    if has_image_series(attributes) and not in_series:
        found = find_array(_below(files, "0", name), f"{name}/0", in_series=True)
        if any(_exists(files, f"1/{file}") for file in ("zarr.json", ".zgroup")):
            note = f"image 0 of several taken; name another, such as {name}/1"
            found = found._replace(notes=(*found.notes, note))
        return found
    first = _below(files, "s0", name)
    level = _read_node(first, f"{name}/s0")
    if isinstance(level, ArrayHeader) and level.is_n5:  # s0, s1, … are levels by N5's custom
        return FoundArray(level, first)
    if node is None:
        raise SourceNotFoundError(
            f"{name}: there is no array of Zarr or N5; expected a zarr.json, .zarray, .zgroup or "
            "attributes.json in it"
        )
    if message := describe_other(attributes, name):
        raise SourceError(message)
    return _only_array(files, name)


def _read_node(files: FileTree, name: str) -> ArrayHeader | Mapping[str, Any] | None:
    """The array in a folder, the attributes of a group, or None."""
    v3 = _read(files, "zarr.json", name)
    if v3 is not None:
        if v3.get("zarr_format") != 3:
            version = v3.get("zarr_format")
            raise SourceError(f"{name}/zarr.json: zarr_format {version!r:.20}; expected 3")
        if v3.get("node_type") == "group":
            return _object(v3.get("attributes"))
        return _checked(f"{name}/zarr.json: ", lambda: parse_zarr3(v3))
    v2, attributes = _read(files, ".zarray", name), _read(files, ".zattrs", name)
    if v2 is not None:
        return _checked(f"{name}/.zarray: ", lambda: parse_zarr2(v2, attributes or {}))
    if attributes is not None or _exists(files, ".zgroup"):
        return attributes or {}
    n5 = _read(files, "attributes.json", name)
    if n5 is not None and "dimensions" in n5:
        return _checked(f"{name}/attributes.json: ", lambda: parse_n5(n5))
    return n5


def _below(files: FileTree, path: str, name: str) -> FileTree:
    """The files of a folder in a group.

    Raises:
        SourceError: It is a symbolic link that leads out of the group.
    """
    inner = files.subtree(path)
    if isinstance(files, FolderTree):
        top = files.folder.resolve()
        if not Path(top, path).resolve().is_relative_to(top):
            raise SourceError(f"{name}/{path} leads out of {name}")
    return inner


def _read(files: FileTree, file: str, name: str) -> Mapping[str, Any] | None:
    """The object in a metadata file; None if there is no such file."""
    data = files.read(file, BUDGET.descriptor_bytes)
    return None if data is None else _checked(f"{name}/{file}: ", lambda: parse_metadata(data))


def _exists(files: FileTree, file: str) -> bool:
    """True if there is a metadata file; a server may not say so without sending it."""
    return files.read(file, BUDGET.descriptor_bytes) is not None


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _checked(start: str, parse: Callable[[], T]) -> T:
    """The result of a parser, whose errors are named."""
    try:
        return parse()
    except PARSE_ERRORS as error:
        raise SourceError(f"{start}{error}") from error


def _named_axes(header: ArrayHeader) -> str:
    """The axes by the names of dimensions; "" unless all are known."""
    letters = [AXIS_NAMES.get(str(name).lower(), "?") for name in header.dimension_names]
    return "" if "?" in letters else "".join(letters)


def _largest_level(image: Multiscale, files: FileTree, name: str) -> FoundArray:
    """The largest level of an image, by the sizes of its samples, or of its arrays."""
    axes, level = image.axes, 0
    if axes and not {"x", "y"} <= set(axes):
        raise SourceError(f"{name}: its axes {axes} have no x or y; name an array in it")
    if axes and all(image.scales):
        areas = [abs(scale[axes.index("x")] * scale[axes.index("y")]) for scale in image.scales]
        level = areas.index(min(areas))
    elif axes:
        sides = axes.index("x"), axes.index("y")
        areas = []
        for path in image.paths:
            node = _read_node(_below(files, path, name), f"{name}/{path}")
            area = 0
            if isinstance(node, ArrayHeader) and len(node.shape) == len(axes):
                area = node.shape[sides[0]] * node.shape[sides[1]]
            areas.append(area)
        level = areas.index(max(areas))
    path = image.paths[level]
    inner = _below(files, path, name)
    header = _read_node(inner, f"{name}/{path}")
    if not isinstance(header, ArrayHeader):
        raise SourceError(f"{name}: its largest level {path} is missing; copy it completely")
    axes = image.axes_of(len(header.shape))
    if not axes:  # N5 has groups of this kind that are no OME-Zarr
        return FoundArray(header, inner, _named_axes(header))
    count = image.image_count
    notes = [f"image 1 of {count} in the group taken"] if count > 1 else []
    if level:
        notes.append(f"level {path} is the largest")
    return FoundArray(header, inner, axes, image, level, tuple(notes))


def _with_image_of_parent(found: FoundArray, name: str) -> FoundArray:
    """An array with the axes of the image that it is a level of, if it is in such a group."""
    inner = name.partition("?")[0].rpartition("/")[2]
    file = {"Zarr 3": "zarr.json", "Zarr 2": ".zattrs", "N5": "attributes.json"}
    try:
        members = _read(found.files.parent(inner), file[found.header.version], name) or {}
        own = members.get("attributes") if found.header.version == "Zarr 3" else members
        image = parse_multiscales(_object(own))
    except (SourceError, *PARSE_ERRORS):  # of another group, which is not read
        return found
    axes = "" if image is None else image.axes_of(len(found.header.shape))
    if image is None or inner not in image.paths or len(axes) != len(found.header.shape):
        return found
    return found._replace(axes=axes, image=image, level=image.paths.index(inner))


def _only_array(files: FileTree, name: str) -> FoundArray:
    """The array of a group that has one of two or more axes, as GDAL and xarray write them.

    Raises:
        SourceError: It has none or several; the message names them.
    """
    found: dict[str, FoundArray | None] = {}
    for child in files.children()[:_MAX_CHILDREN]:
        if child.startswith("."):
            continue
        inner = _below(files, child, name)
        node = _read_node(inner, f"{name}/{child}")
        if isinstance(node, ArrayHeader):
            if len(node.shape) > 1:
                found[f"{name}/{child}"] = FoundArray(node, inner, _named_axes(node))
        elif node is not None:
            found[f"{name}/{child}"] = None
    arrays = list(found.values())
    if len(arrays) == 1 and arrays[0] is not None:
        return arrays[0]
    if not found:
        raise SourceError(f"{name}: it is a group without an image; name an array in it")
    listed = ", ".join([*found][:_MAX_LISTED]) + ", …" * (len(found) > _MAX_LISTED)
    raise SourceError(f"{name}: it is a group, not an image; name one of {listed}")
