"""The record of a result: from which source, with which options and versions it was made.

It is a small object of JSON in the result: the file `.fasttile.json` below the layout's root, a
member of the metadata of PMTiles and MBTiles, the description (tag 270) of a TIFF, or an annotation
in that of an OME-TIFF. A record is read as a text of strangers: a wrong one means only that the
result counts as made from something else.
"""

from __future__ import annotations

import json
import os
import zlib
from contextlib import suppress
from dataclasses import fields, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import PIL

from fasttile._version import __version__
from fasttile.abc.layout import Layout
from fasttile.colour.convert import ColourPlan
from fasttile.errors import FasttileError, redact_url
from fasttile.formats.documents import parse_json
from fasttile.jobs.fingerprint import EXECUTION_OPTIONS, mask_fingerprint, source_fingerprint
from fasttile.jobs.plan import Plan
from fasttile.layouts import RECORD_NAME, LayoutSpec
from fasttile.options.cut import CutOptions
from fasttile.sources import mosaic_of
from fasttile.sources.files import STORE_SCHEMES, parse_tile_tree, scheme_of
from fasttile.storage.random_access import open_regular_file

if TYPE_CHECKING:
    from fasttile.abc.reader import ResultReader

RECORD_VERSION = 1

MAX_RECORD_BYTES = 2**16

_TEXT_OPTIONS = ("title", "credit")
"""Options that a record has if they are given: most results have none."""

_IDENTITY_NAMES = {
    "source's size": "size",
    "source's time": "mtime_ns",
    "source's tag": "tag",
    "mask's size": "mask_size",
    "mask's time": "mask_mtime_ns",
}
"""Names in a record of the members of a source's fingerprint."""


def encode_record(
    plan: Plan, source: object, signature: tuple[int, ...] | None, colour_plan: ColourPlan
) -> bytes:
    """The record of a cut, as JSON in UTF-8.

    Args:
        plan: The options and the target.
        source: The path, the address or the object that is cut.
        signature: Device, inode, size and mtime of the file when it was opened; None for others.
        colour_plan: What happened to the image's profile.
    """
    record = _make_record(plan)
    if colour_plan.transform is not None:
        record["colours_converted"] = True  # of each tile, after its level was made
    if isinstance(source, str | os.PathLike):
        record["source"] = {"name": _base_name(source)}
        is_mosaic = mosaic_of(source) is not None
        if signature is not None and not is_mosaic:
            record["source"] |= {"size": signature[2], "mtime_ns": signature[3]}
            record["source"] |= _named(mask_fingerprint(source))
        else:  # a mosaic, an object, tiles without a descriptor; others have none
            with suppress(FasttileError):
                record["source"] |= _identity(source)
    if plan.batch:
        record["batch"] = plan.batch
    if plan.texts is not None and any(plan.texts):
        record["texts"] = plan.texts.given()
    return json.dumps(record).encode()


def converted_record(
    data: bytes, layout: Layout, reader: ResultReader, viewer: str | None
) -> bytes:
    """The record of a result whose tiles were taken from another one, as JSON in UTF-8.

    Args:
        data: The encoded record of the other one. Without one, options and versions of its tiles
            are not known, and not stated.
        layout: The new layout.
        reader: The other result.
        viewer: The page beside the new one.
    """
    record = parse_record(data) or {"record": RECORD_VERSION, "source": {}}
    parameters = {one.name: str(getattr(layout, one.name)) for one in layout.parameter_fields()}
    record |= {"layout": layout.type_name, "parameters": parameters}
    if isinstance(record.get("options"), dict):
        record["options"] |= {
            "layout": layout.type_name,
            "tile_size": layout.pyramid.tile_size // (1 + layout.has_halves),
            "overlap": layout.pyramid.overlap,
            "levels": None,
            "viewer": viewer,
        }
    record["converted"] = {
        "from": Path(redact_url(str(reader.path))).name,
        "layout": reader.layout.type_name,
        "container": reader.container,
        "fasttile": __version__,
    }
    record.pop("batch", None)  # of another run's results
    return json.dumps(record).encode()


def recorded_options(data: bytes) -> dict[str, Any]:
    """The options of `cut` that an encoded record states, if they are valid; else nothing.

    `max_pixels` is not among them: a result of strangers must not raise a limit.
    """
    record = parse_record(data)
    options = None if record is None else record.get("options")
    if not isinstance(options, dict):
        return {}
    known = {field.name for field in fields(CutOptions)} - EXECUTION_OPTIONS - {"max_pixels"}
    values = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in options.items()
        if name in known
    }
    if not _has_no_colour_file(values.get("bands")):
        return {}
    simple = (bool, int, float, str, type(None))
    for value in values.values():
        parts = value if isinstance(value, tuple) else (value,)
        if not all(isinstance(part, simple) for part in parts):
            return {}
    dest = "image.tif" if record is not None and record.get("layout") == "tiff" else "image/"
    try:
        Plan.from_options(CutOptions.from_keywords(values), dest, "image")
    except (FasttileError, TypeError, ValueError):
        return {}
    return values


def _has_no_colour_file(bands: object) -> bool:
    """True if recorded bands name no file: a record of strangers must not name one to read."""
    if not isinstance(bands, str):
        return bands is None
    from fasttile.options.bands import colour_file_of

    try:
        return colour_file_of(bands) is None
    except FasttileError:
        return False


def differences(plan: Plan, source: str, record: dict[str, Any]) -> list[str]:
    """What has changed since a result was made, in words for the user; nothing if it is current.

    Raises:
        FasttileError: The source cannot be found.
    """
    expected = _make_record(plan)
    identity = _identity(source)
    if not identity:
        return ["from a source that cannot be checked for changes"]
    changes = []
    if record.get("source") != {"name": _base_name(source), **identity}:
        changes.append("from another version of the image")
    found = record.get("options")
    options = found if isinstance(found, dict) else {}
    wanted = {**dict.fromkeys(_TEXT_OPTIONS), **expected["options"]}
    for name, value in wanted.items():
        if options.get(name, None if name in _TEXT_OPTIONS else ...) != value:
            changes.append(f"with another {name}")
    target = plan.target
    if target.container == "folder" and not target.store:
        _, files = plan.taken_paths
        parent = os.path.dirname(target.path) or os.curdir  # noqa: PTH120 -- see read_record
        changes += [
            f"without {name}"
            for name in files
            if not os.path.exists(f"{parent}/{name}")  # noqa: PTH110
        ]
    if record.get("description") != expected.get("description"):
        changes.append("with other texts for its manifest")
    if any(record.get(key) != expected[key] for key in ("layout", "parameters")):
        changes.append("in another layout")
    if record.get("versions") != expected["versions"]:
        changes.append("by another version of fasttile or Pillow")
    return changes


def read_record(plan: Plan) -> dict[str, Any] | None:
    """The record of the result that a plan would write; None if there is none.

    A result whose hidden work folder is there was not finished, and counts as none.
    """
    target = plan.target
    try:
        if target.container == "folder" and not target.store:
            root, _ = plan.taken_paths
            # Texts instead of paths: a batch compares thousands of results.
            parent, name = os.path.split(target.path)
            if os.path.lexists(f"{parent or os.curdir}/.{name}.fasttile"):
                return None
            if not os.path.exists(target.path):  # noqa: PTH110
                return None
            with open_regular_file(f"{parent or os.curdir}/{root}/{RECORD_NAME}") as file:
                return parse_record(file.read(MAX_RECORD_BYTES + 1))
        if not (target.store or target.path.exists()):
            return None
        from fasttile.readers import open_result

        with open_result(target.location) as reader:
            return parse_record(reader.record())
    except FasttileError:
        return None


def parse_record(data: bytes) -> dict[str, Any] | None:
    """An encoded record, or None if it is not one of this version of the format."""
    if not data or len(data) > MAX_RECORD_BYTES:
        return None
    try:
        record = parse_json(data.decode())
    except (ValueError, FasttileError):
        return None
    if not isinstance(record, dict) or record.get("record") != RECORD_VERSION:
        return None
    return record


def _make_record(plan: Plan) -> dict[str, Any]:
    record = {
        "record": RECORD_VERSION,
        "versions": {"fasttile": __version__, "Pillow": PIL.__version__},
        "layout": plan.target.layout.name,
        "parameters": {
            key: str(value) for key, value in _shown(plan.target.layout).parameters.items()
        },
        "options": _options_record(plan.options),
    }
    if plan.description is not None:
        record["description"] = f"{zlib.crc32(repr(plan.description).encode()):08x}"
    return record


def _shown(layout: LayoutSpec) -> LayoutSpec:
    """A layout without the folder of its CSV: records are published."""
    path = layout.parameters.get("manifest")
    if not isinstance(path, str):
        return layout
    return replace(layout, parameters={**layout.parameters, "manifest": Path(path).name})


@lru_cache(maxsize=4)
def _options_record(options: CutOptions) -> dict[str, Any]:
    values = {
        field.name: _json_value(getattr(options, field.name))
        for field in fields(CutOptions)
        if field.name not in EXECUTION_OPTIONS
    }
    for name in _TEXT_OPTIONS:
        if values[name] is None:
            del values[name]
    if "manifest" in (options.layout_text or ""):
        values["layout"] = _shown(LayoutSpec.parse(str(options.layout_text))).option_text()
    return values


def _json_value(value: object) -> Any:
    """An option's value as JSON gives it back."""
    if isinstance(value, tuple | list):
        return [_json_value(part) for part in value]
    return value if isinstance(value, bool | int | float | str | None) else repr(value)


def _identity(source: object) -> dict[str, Any]:
    """Size and time of a file, or size and ETag of an object in a store; else nothing."""
    if scheme_of(source) is not None and scheme_of(source) not in STORE_SCHEMES:
        return {}
    return _named(source_fingerprint(source))


def _named(found: dict[str, Any]) -> dict[str, Any]:
    """A fingerprint under the names that records have for its members."""
    return {name: found[key] for key, name in _IDENTITY_NAMES.items() if key in found}


def _base_name(source: str | os.PathLike[str]) -> str:
    """The last part of a path or an address, without secrets; of tiles also their names."""
    tree = parse_tile_tree(source)
    if tree is not None and tree.template:
        size = "" if tree.size is None else "#size={},{}".format(*tree.size)
        return f"{_base_name(tree.folder)}/{tree.template}{size}"
    return Path(redact_url(os.fspath(source))).name
