"""Fingerprint of a resumable job: everything that its tiles' bytes depend on, as JSON values."""

from __future__ import annotations

import os
import stat
import zlib
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

from fasttile.abc.layout import Layout
from fasttile.errors import OptionError, SourceError, redact_url
from fasttile.jobs.footprint import RESULT_DESCRIPTORS
from fasttile.jobs.plan import Plan
from fasttile.options.cut import CutOptions
from fasttile.sources import mosaic_of
from fasttile.sources.files import (
    MASK_SUFFIX,
    STANDARD_INPUT,
    STORE_SCHEMES,
    parse_array_name,
    scheme_of,
    without_tile_names,
)
from fasttile.versions import codec_versions

EXECUTION_OPTIONS = frozenset({"threads", "worker_timeout", "overwrite", "resume"})
"""Options that change how a job runs, but not its result."""


def job_fingerprint(plan: Plan, layout: Layout, source: object) -> dict[str, Any]:
    """Fingerprint of a cut; a job resumes only if it is the same.

    Raises:
        OptionError: The source is not a file, so it cannot be checked for changes.
        SourceError: The file does not exist.
    """
    return {
        **result_options(plan.options),
        **source_fingerprint(source),
        **codec_versions(),
        # Last: if an option differs, the message names the option, not the layout.
        "layout in full": repr(layout),
    }


def result_options(options: CutOptions) -> dict[str, Any]:
    """Names and values of the options that a result depends on."""
    values = {}
    for field in fields(options):
        if field.name not in EXECUTION_OPTIONS:
            value = getattr(options, field.name)
            values[field.name] = value if isinstance(value, int | str | None) else repr(value)
    return values


def source_fingerprint(source: object) -> dict[str, Any]:
    """Fingerprint that changes when the file changes: size in bytes, and mtime in nanoseconds.

    Of an object in a store: size and ETag. Of a mosaic: the size of all files, and a digest. Of
    tiles without a descriptor: the size of all files, and the time of the last one; of a folder of
    Zarr or N5 also of its last folder, which changes with names. Of one in a store: the size of all
    objects, and a digest of their keys and ETags.

    Raises:
        OptionError: The source is not a file.
        SourceError: The file does not exist.
    """
    mosaic = mosaic_of(source)
    if mosaic is not None and mosaic.has_only_paths:
        size, tag = mosaic.identity()
        return {"source's size": size, "source's tag": tag}
    if not isinstance(source, str | os.PathLike) or source == STANDARD_INPUT:
        raise OptionError(
            "--resume (resume) needs a file as source: other sources cannot be checked for changes"
        )
    named = parse_array_name(source)
    if scheme_of(source) in STORE_SCHEMES:
        if named is not None:
            return _prefix_fingerprint(named.place)
        from fasttile.sources.remote import stat_object  # loads obstore

        found = stat_object(str(source))
        return {"source's size": found.size, "source's tag": found.etag}
    if scheme_of(source) is not None:
        raise OptionError(
            f"{redact_url(str(source))}: --resume (resume) needs a file as source; download it "
            "first"
        )
    path = without_tile_names(source)
    try:
        status = _status(path)
        if stat.S_ISDIR(status.st_mode):  # programs write tiles again in place
            size, time = 0, status.st_mtime_ns
            for folder, _, names in os.walk(os.fsdecode(path)):
                if named is not None:  # chunks may be renamed
                    time = max(time, Path(folder).lstat().st_mtime_ns)
                for name in names:
                    one = Path(folder, name).lstat()
                    size, time = size + one.st_size, max(time, one.st_mtime_ns)
            return {"source's size": size, "source's time": time}
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise SourceError(f"{path} cannot be read: {reason}") from error
    return {
        "source's size": status.st_size,
        "source's time": status.st_mtime_ns,
        **mask_fingerprint(path),
    }


def _prefix_fingerprint(address: str) -> dict[str, Any]:
    """Fingerprint of all objects below a prefix."""
    from fasttile.storage.object_store import Bucket, StoreError, split_bucket_and_key

    size, digest = 0, 0
    try:
        store, key = split_bucket_and_key(address)
        for info in Bucket(store).list_objects(f"{key}/" if key else ""):
            size += info.size
            digest = zlib.crc32(f"{info.key}\0{info.etag}\0".encode(), digest)
    except StoreError as error:
        raise SourceError(str(error)) from error
    return {"source's size": size, "source's tag": f"{digest:08x}"}


def mask_fingerprint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Size and time of the file of a TIFF's mask beside it; empty without one."""
    try:
        status = os.stat(f"{os.fspath(path)}{MASK_SUFFIX}")  # noqa: PTH116 -- for each of a batch
    except (OSError, ValueError):
        return {}
    return {"mask's size": status.st_size, "mask's time": status.st_mtime_ns}


def stat_signature(source: object) -> tuple[int, ...] | None:
    """Device, inode, size and mtime of a file; None for other sources and missing files."""
    if not isinstance(source, str | os.PathLike) or scheme_of(source) is not None:
        return None
    try:
        status = _status(source)
    except (OSError, ValueError):
        return None
    if stat.S_ISDIR(status.st_mode):  # its time changes with each file beside its tiles
        return None
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def _status(source: str | os.PathLike[str]) -> os.stat_result:
    """Status of a file; of a folder that is a result, that of its descriptor."""
    status = Path(source).stat()
    if stat.S_ISDIR(status.st_mode):
        for name in sorted(RESULT_DESCRIPTORS):
            with suppress(OSError):
                return Path(source, name).stat()
    return status


def check_unchanged(source: object, before: tuple[int, ...] | None) -> None:
    """Refuse the result of a file that was written to while it was read.

    A file that was replaced by another one is fine: the old inode was read to its end.

    Raises:
        SourceError: The file has changed.
    """
    now = stat_signature(source)
    if before is not None and now is not None and now[:2] == before[:2] and now != before:
        raise SourceError(f"{source}: the file was changed while it was read; cut it again")
