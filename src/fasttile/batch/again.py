"""A batch that runs again: what is unchanged, what has changed, and what has no image any more."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from fasttile.abc.layout import Layout
from fasttile.batch.items import LIST_PREFIX, BatchItem, may_be_several
from fasttile.batch.pages import page_plan
from fasttile.errors import (
    FasttileError,
    OptionError,
    SourceError,
    TargetError,
    TargetExistsError,
    redact_url,
)
from fasttile.geometry import Tile
from fasttile.jobs.footprint import check_own_page
from fasttile.jobs.plan import common_folder
from fasttile.jobs.record import differences, parse_record, read_record
from fasttile.layouts import RECORD_NAME, other_own_paths
from fasttile.sinks import TARGET_SUFFIXES
from fasttile.sources.files import scheme_of
from fasttile.storage.folders import Folder
from fasttile.storage.paths import target_text, wrap_os_errors
from fasttile.storage.random_access import open_regular_file


def compared_with_result(item: BatchItem, *, update: bool) -> BatchItem:
    """An image after a look at the result that an earlier run has made of it.

    Args:
        item: The image.
        update: True to cut it again if it has changed; else it gets an error.
    """
    plans = [item.plan]
    if item.every_page:
        if read_record(page_plan(item, 1)) is None:
            return item
        from fasttile.sources import count_pages

        try:
            count = count_pages(item.source, item.options.max_pixels)
        except FasttileError:  # it is named when it is cut
            return item
        plans = [page_plan(item, page) for page in range(1, count + 1)]
    records = [read_record(plan) for plan in plans]
    if records[0] is None:  # nothing is there, or a result of another program
        return item
    try:
        changes = [
            ["without some pages"] if record is None else differences(plan, item.source, record)
            for plan, record in zip(plans, records, strict=True)
        ]
    except FasttileError:  # the source is named when it is cut
        return item
    first = next(filter(None, changes), None)
    if first is None:
        return replace(item, is_unchanged=True)
    if update:
        return replace(item, plan=replace(item.plan, options=replace(item.options, overwrite=True)))
    error = TargetExistsError(
        f"{redact_url(item.source)}: {item.target.location} was made {first[0]}; use "
        "--update to cut it again"
    )
    return replace(item, error=error)


def batch_identity(
    sources: Sequence[str], dest: str, layout: str | None, *, every_page: bool
) -> str:
    """What is the same for each run of a batch; "" for single images.

    Two batches of the same images may write to one folder, as .dzi and as .szi: neither may take
    the results of the other for its own. So the destination and the layout belong to it.

    Args:
        sources, dest, layout, every_page: As for `batch_items`; "" for no destination.
    """
    if not _are_known_again(sources):
        return ""
    places = sorted(
        os.path.realpath(source.removeprefix(LIST_PREFIX)) + source[: source[:1] == LIST_PREFIX]
        for source in sources
    )
    where = dest if scheme_of(dest) is not None else os.path.realpath(dest or os.curdir)
    kind = (layout or "").partition(":")[0]
    parts = [*places, where, kind, "all" if every_page else ""]
    return f"{zlib.crc32(os.fsencode(chr(0).join(parts))):08x}"


def _are_known_again(sources: Sequence[str]) -> bool:
    """True if the sources are folders and files of lists, which the next run can read again."""
    return all(map(may_be_several, sources)) and f"{LIST_PREFIX}-" not in sources


def find_orphans(items: Sequence[BatchItem], dest: str | os.PathLike[str] | None) -> list[Path]:
    """Results of earlier runs of a batch whose image is not there any more.

    Args:
        items: The images of the batch, those that cannot be read included.
        dest: Its destination.

    Returns:
        The path of each, as a user opens it. Empty for a batch of other sources than folders and
        lists, in an object store, and if a folder of images cannot be read.
    """
    identity, text = items[0].plan.batch, target_text(dest)
    if not identity or scheme_of(text) is not None:
        return []
    if any(isinstance(item.error, SourceError) for item in items):
        return []
    every_page = any(item.every_page for item in items)

    real_path = cache(os.path.realpath)

    def key(path: Path) -> str:
        parent, name = os.path.split(path)
        if every_page:
            name = re.sub(r"-\d+(?=(\.\w+)?\Z)", "", name)
        return f"{real_path(parent)}/{name}"

    wanted = {key(item.target.path) for item in items}
    return [
        path
        for path in _results_below(common_folder(text))
        if key(path) not in wanted and _batch_of(path) == identity
    ]


def remove_orphan(path: Path) -> None:
    """Remove a result, its page and its further descriptors; nothing else.

    Raises:
        TargetError: It is no complete result of fasttile, holds other files, or is in use.
    """
    if os.path.lexists(path.parent / f".{path.name}.fasttile"):
        raise TargetError(f"{path} is not removed: another run works on it, or was interrupted")
    from fasttile.readers import open_result

    try:
        with open_result(path) as reader:
            layout, container = reader.layout, reader.container
            record = parse_record(reader.record()) or {}
    except SourceError as error:
        raise TargetError(f"{path} is not removed: {error}") from error
    with wrap_os_errors("remove", path), Folder.open(path.parent) as parent:
        if container == "folder":
            with parent.open_folder(layout.root) as root:
                _check_own_files(layout, root)
        options = record.get("options")
        if isinstance(options, dict) and options.get("viewer") is not None:
            page = f"{layout.name}.html"
            check_own_page(path.parent / page)
            parent.remove_file(page)
        if container != "folder":
            parent.remove_file(path.name)
            return
        # The descriptors go first: no viewer must find one whose tiles are missing.
        for name, data in _descriptors_beside(layout):
            if name == path.name or _has_content(path.parent / name, data):
                parent.remove_file(name)
        parent.remove_tree(layout.root)


def check_can_prune(sources: Sequence[str], dest: str | None) -> None:
    """Refuse to prune where it cannot be known which results are without an image.

    Raises:
        OptionError: A source is a single image or standard input, or the results are in a bucket.
    """
    if scheme_of(dest) is not None:
        raise OptionError(
            "--prune: results in a bucket are not searched; leave it out, and remove those "
            "without an image with the tools of the bucket"
        )
    if not _are_known_again(sources):
        raise OptionError("--prune: only for folders and @LISTs, all of whose results are known")


def _results_below(top: Path) -> Iterator[Path]:
    """Results of fasttile below a folder, but not it; no link is followed."""
    one_file = {ending for ending, (kind, _) in TARGET_SUFFIXES.items() if kind != "folder"}
    for folder, subfolders, files in os.walk(top):
        if RECORD_NAME in files:
            return
        others = []
        for name in subfolders:
            path = f"{folder}/{name}"
            if name.startswith("."):
                continue
            if os.path.lexists(f"{path}/{RECORD_NAME}"):
                if not os.path.islink(path):  # noqa: PTH114 -- faster than Path, for many files
                    stem = name.removesuffix("_files")
                    yield Path(folder, name if stem == name else f"{stem}.dzi")
            elif not name.endswith("_files"):
                others.append(name)
        subfolders[:] = others
        for name in files:
            if os.path.splitext(name)[1] in one_file and not name.startswith("."):  # noqa: PTH122
                yield Path(folder, name)


def _batch_of(path: Path) -> str:
    """The batch that a result is of, as its record states; "" if there is none."""
    from fasttile.readers import open_result

    try:
        with open_result(path) as reader:
            record = parse_record(reader.record())
    except FasttileError:
        return ""
    return str((record or {}).get("batch") or "")


def _check_own_files(layout: Layout, root: Folder) -> None:
    """Refuse to remove a folder that holds anything but tiles, descriptors and the record.

    Raises:
        TargetError: It does; the message names it.
    """
    known = other_own_paths(layout)
    for level in layout.pyramid.stored_levels:
        if level.cols == 1:  # IIIF has several names for such tiles
            for row in range(level.rows):
                known.update(layout.paths(Tile(level.number, 0, row)))
    for below, size in root.walk_files():
        path = f"{layout.root}/{below}"
        tile = layout.tile_at(path) or layout.tile_of_half(path)
        if size is None or (path not in known and tile is None):
            raise TargetError(f"{root.path / below} is no part of the result, which is not removed")


def _descriptors_beside(layout: Layout) -> Iterator[tuple[str, bytes]]:
    """Names and contents of descriptors beside the folder of tiles."""
    from fasttile.layouts.deepzoom import DeepZoom

    if isinstance(layout, DeepZoom):
        yield from replace(layout, json=True, jsonp=False).descriptors().items()
        if layout.name.isidentifier():
            yield from replace(layout, json=False, jsonp=True).descriptors().items()


def _has_content(path: Path, data: bytes) -> bool:
    try:
        with open_regular_file(path) as file:
            return file.read(len(data) + 1) == data
    except SourceError:
        return False
