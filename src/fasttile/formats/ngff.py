"""OME-Zarr (NGFF 0.1 to 0.5): levels and axes of an image, sizes of pixels, channels, plates.

Source: ngff.openmicroscopy.org. The axes are t, c, z, y and x. Up to 0.2 an image has all five,
0.3 lists their names, later versions have an object for each.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

_MICROMETRES_PER_INCH = 25_400.0
_UNIT_MICROMETRES = {
    "angstrom": 1e-4,
    "picometer": 1e-6,
    "nanometer": 1e-3,
    "micrometer": 1.0,
    "millimeter": 1e3,
    "centimeter": 1e4,
    "decimeter": 1e5,
    "meter": 1e6,
    "inch": 25_400.0,
    "pm": 1e-6,
    "nm": 1e-3,
    "um": 1.0,
    "\u00b5m": 1.0,
    "\u03bcm": 1.0,
    "mm": 1e3,
    "m": 1e6,
}
_FIVE_AXES = "tczyx"
_TYPES = {"time": "t", "channel": "c"}

AXIS_NAMES = {
    **{name: name for name in _FIVE_AXES},
    "time": "t",
    "channel": "c",
    "channels": "c",
    "band": "c",
    "bands": "c",
}
"""Names of axes in lower case, and what they are: t, c, z, y or x."""

_MAX_LEVELS = 64
_MAX_LISTED = 6  # wells and images in a message


class Multiscale(NamedTuple):
    """An image with its levels.

    Attributes:
        version: Of NGFF, or "" if it is not given.
        axes: A letter for each axis, "?" for those that are unknown; "" if they are not given.
        units: Units of the axes, "" for those without one.
        paths: The arrays of the levels, by the specification the largest first.
        scales: Size of a sample along each axis, of each level; empty if it is not given.
        channels: Colours of the channels as "#rrggbb", if all have one.
        image_count: Number of images in the group; this is the first.
    """

    version: str
    axes: str
    units: tuple[str, ...]
    paths: tuple[str, ...]
    scales: tuple[tuple[float, ...], ...]
    channels: tuple[str, ...] = ()
    image_count: int = 1

    def axes_of(self, count: int) -> str:
        """The axes of an array with a number of axes; "" if they are not known."""
        return self.axes or (_FIVE_AXES if count == len(_FIVE_AXES) else "")

    def resolution(self, level: int, axes: str) -> tuple[float, float] | None:
        """Pixels per inch of a level along x and y, if it has physical sizes."""
        return _resolution(self.scales[level], self.units, axes)


def n5_resolution(attributes: Mapping[str, Any], axes: str) -> tuple[float, float] | None:
    """Pixels per inch of an array of N5 along x and y, if it has a `pixelResolution`.

    Args:
        attributes: Those of the array.
        axes: A letter for each axis, in NumPy's order, which is the reverse of N5's.
    """
    sizes = attributes.get("pixelResolution")
    if not isinstance(sizes, dict):
        return None
    scale = sizes.get("dimensions")
    if not isinstance(scale, list) or not all(map(_is_finite, scale)):
        return None
    return _resolution(tuple(scale[::-1]), (str(sizes.get("unit")),) * len(scale), axes)


def _resolution(
    scale: tuple[float, ...], units: tuple[str, ...], axes: str
) -> tuple[float, float] | None:
    """Pixels per inch along x and y, of sizes of a sample and their units along each axis."""
    found = []
    for axis in "xy":
        index = axes.index(axis)
        if index >= min(len(scale), len(units)):
            return None
        micrometres = scale[index] * _UNIT_MICROMETRES.get(units[index], 0.0)
        if not 1e-9 < micrometres < 1e12:
            return None
        found.append(_MICROMETRES_PER_INCH / micrometres)
    return found[0], found[1]


def ome_attributes(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    """The attributes of NGFF: since 0.5 they are in the member `ome`."""
    inner = attributes.get("ome")
    return inner if isinstance(inner, dict) else attributes


def parse_multiscales(attributes: Mapping[str, Any]) -> Multiscale | None:
    """The first image of a group; None if it has none.

    Args:
        attributes: Those of the group.

    Raises:
        ValueError: They are not valid.
    """
    ome = ome_attributes(attributes)
    images = ome.get("multiscales")
    if images is None:
        return None
    if not isinstance(images, list) or not images or not isinstance(images[0], dict):
        raise ValueError("multiscales: expected a list of images")
    image = images[0]
    version = str(image.get("version") or ome.get("version") or "")[:20]
    axes, units = _parse_axes(image.get("axes"))
    datasets = image.get("datasets")
    if not isinstance(datasets, list) or not 1 <= len(datasets) <= _MAX_LEVELS:
        raise ValueError(f"multiscales: expected 1 to {_MAX_LEVELS} datasets")
    paths, scales = [], []
    common = _scale(image.get("coordinateTransformations"), len(axes)) or (1.0,) * len(axes)
    for dataset in datasets:
        path = dataset.get("path") if isinstance(dataset, dict) else None
        paths.append(checked_path(path))
        own = _scale(dataset.get("coordinateTransformations"), len(axes))
        scales.append(tuple(a * b for a, b in zip(own, common, strict=True)) if own else ())
    return Multiscale(
        version, axes, units, tuple(paths), tuple(scales), _channel_colours(ome), len(images)
    )


def checked_path(path: Any) -> str:
    """The path of an array below its group.

    Raises:
        ValueError: It leads out of the group, or is none.
    """
    parts = path.split("/") if isinstance(path, str) else [""]
    if any(part.strip(".") == "" for part in parts) or re.search(r'[\\:?*#"<>|\x00-\x1f]', path):
        raise ValueError(f"path {path!r:.100}; expected one below its group")
    return "/".join(parts)


def describe_other(attributes: Mapping[str, Any], name: str) -> str:
    """Message about a group that is a plate or a well; "" for others.

    Args:
        attributes: Those of the group.
        name: Its path, or its address.
    """
    ome = ome_attributes(attributes)
    wells = _member_paths(ome.get("plate"), "wells")
    if wells:
        return (
            f"{name}: it is a plate of {len(wells):,} wells, not an image; name a field of one, "
            f"such as {name}/{wells[0]}/0 (wells: {_listed(wells)})"
        )
    fields = _member_paths(ome.get("well"), "images")
    if fields:
        return (
            f"{name}: it is a well of {len(fields):,} fields, not an image; name one, such as "
            f"{name}/{fields[0]} (fields: {_listed(fields)})"
        )
    return ""


def has_image_series(attributes: Mapping[str, Any]) -> bool:
    """True for a group of numbered images, as bioformats2raw writes it."""
    return ome_attributes(attributes).get("bioformats2raw.layout") == 3


def _listed(paths: list[str]) -> str:
    return ", ".join(paths[:_MAX_LISTED]) + ", …" * (len(paths) > _MAX_LISTED)


def _member_paths(value: Any, member: str) -> list[str]:
    """Paths of the wells of a plate, or of the images of a well."""
    listed = value.get(member) if isinstance(value, dict) else None
    paths = [one.get("path") for one in listed or () if isinstance(one, dict)]
    return [path for path in paths if isinstance(path, str)]


def _parse_axes(value: Any) -> tuple[str, tuple[str, ...]]:
    """Letters and units of the axes."""
    if value is None:
        return "", ()
    if not isinstance(value, list) or not 2 <= len(value) <= 5:
        raise ValueError(f"axes {value!r:.100}; expected 2 to 5")
    letters, units = "", []
    for axis in value:
        members = axis if isinstance(axis, dict) else {"name": axis}
        name = str(members.get("name", "")).lower()
        is_letter = len(name) == 1 and name in _FIVE_AXES
        letters += name if is_letter else _TYPES.get(str(members.get("type")), "?")
        units.append(str(members.get("unit", "")))
    return letters, tuple(units)


def _scale(transforms: Any, count: int) -> tuple[float, ...] | None:
    """Size of a sample along each axis; None if it is not given."""
    for transform in transforms if isinstance(transforms, list) else ():
        scale = transform.get("scale") if isinstance(transform, dict) else None
        if isinstance(scale, list) and len(scale) == count and all(map(_is_finite, scale)):
            return tuple(float(one) for one in scale)
    return None


def _is_finite(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _channel_colours(ome: Mapping[str, Any]) -> tuple[str, ...]:
    """The colours that `omero` has for the channels; empty unless all have one."""
    omero = ome.get("omero")
    channels = omero.get("channels") if isinstance(omero, dict) else None
    colours = []
    for channel in channels if isinstance(channels, list) else ():
        colour = str(channel.get("color", "")) if isinstance(channel, dict) else ""
        if re.fullmatch("[0-9A-Fa-f]{6}", colour) is None:
            return ()
        colours.append(f"#{colour.lower()}")
    return tuple(colours)
