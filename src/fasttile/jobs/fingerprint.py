"""What a resumable job is: whatever its tiles' bytes depend on, in words that JSON can hold."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path
from typing import Any

from fasttile.abc.layout import Layout
from fasttile.errors import OptionError, SourceError
from fasttile.jobs.plan import Plan
from fasttile.options.cut import CutOptions
from fasttile.sources.files import STANDARD_INPUT, STORE_SCHEMES, redact_url, scheme_of
from fasttile.versions import codec_versions

EXECUTION_OPTIONS = frozenset({"threads", "overwrite", "resume"})
"""Options that are about how a job runs, not about what it makes."""


def job_fingerprint(plan: Plan, layout: Layout, source: object) -> dict[str, Any]:
    """All that must be the same for a job to be carried on.

    Raises:
        OptionError: The source cannot be told from one that has changed.
    """
    made = {"layout in full": repr(layout)}  # last: what it comes from says more to a user
    return {
        **result_options(plan.options),
        **source_fingerprint(source),
        **codec_versions(),
        **made,
    }


def result_options(options: CutOptions) -> dict[str, Any]:
    """The options that a result depends on, by their names."""
    found = {}
    for field in fields(options):
        if field.name not in EXECUTION_OPTIONS:
            value = getattr(options, field.name)
            found[field.name] = value if isinstance(value, int | str | None) else repr(value)
    return found


def source_fingerprint(source: object) -> dict[str, Any]:
    """What tells a file from itself changed: its size, and when it was written, in nanoseconds.

    Of an object in a store, the store's tag instead of the time.

    Raises:
        OptionError: It is no file.
        SourceError: It is not there.
    """
    if not isinstance(source, str | os.PathLike) or source == STANDARD_INPUT:
        raise OptionError(
            "only a cut of a file can be carried on: nothing tells whether another source is "
            "the same the next time"
        )
    if scheme_of(source) in STORE_SCHEMES:
        from fasttile.sources.remote import stat_object  # seldom needed

        found = stat_object(str(source))
        return {"source's size": found.size, "source's tag": found.etag}
    if scheme_of(source) is not None:
        raise OptionError(
            f"{redact_url(str(source))}: only a cut of a file can be carried on; fetch it first"
        )
    try:
        status = Path(source).stat()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise SourceError(f"{source} cannot be read: {reason}") from error
    return {"source's size": status.st_size, "source's time": status.st_mtime_ns}


def stat_signature(source: object) -> tuple[int, ...] | None:
    """What changes when a named file is written to; None for whatever has no such thing."""
    if not isinstance(source, str | os.PathLike) or scheme_of(source) is not None:
        return None
    try:
        status = Path(source).stat()
    except (OSError, ValueError):
        return None
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def check_unchanged(source: object, before: tuple[int, ...] | None) -> None:
    """Refuse a result of a file that was written to while it was read.

    One that was replaced as a whole is fine: its older self was read to the end.

    Raises:
        SourceError: It was.
    """
    now = stat_signature(source)
    if before is not None and now is not None and now[:2] == before[:2] and now != before:
        raise SourceError(f"{source} was changed while it was read: cut it again")
