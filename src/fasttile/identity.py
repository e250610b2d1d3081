"""What a resumable job is: whatever its tiles' bytes depend on, in words that JSON can hold."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path
from typing import Any

from .errors import OptionError, SourceError
from .layouts.base import Layout
from .options import CutOptions
from .plan import Plan
from .sources.ways import STANDARD_INPUT, STORES, scheme_of, shown
from .versions import versions

RUNNING = frozenset({"threads", "overwrite", "resume"})
"""Options that are about how a job runs, not about what it makes."""


def identity_of(plan: Plan, layout: Layout, source: object) -> dict[str, Any]:
    """All that must be the same for a job to be carried on.

    Raises:
        OptionError: The source cannot be told from one that has changed.
    """
    made = {"layout in full": repr(layout)}  # last: what it comes from says more to a user
    return {**options_of(plan.wishes), **fingerprint(source), **versions(), **made}


def options_of(wishes: CutOptions) -> dict[str, Any]:
    """The options that a result depends on, by their names."""
    found = {}
    for field in fields(wishes):
        if field.name not in RUNNING:
            value = getattr(wishes, field.name)
            found[field.name] = value if isinstance(value, int | str | None) else repr(value)
    return found


def fingerprint(source: object) -> dict[str, Any]:
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
    if scheme_of(source) in STORES:
        from .sources.objects import look_at  # seldom needed

        found = look_at(str(source))
        return {"source's size": found.size, "source's tag": found.tag}
    if scheme_of(source) is not None:
        raise OptionError(
            f"{shown(str(source))}: only a cut of a file can be carried on; fetch it first"
        )
    try:
        status = Path(source).stat()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise SourceError(f"{source} cannot be read: {reason}") from error
    return {"source's size": status.st_size, "source's time": status.st_mtime_ns}


def stamp(source: object) -> tuple[int, ...] | None:
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
    now = stamp(source)
    if before is not None and now is not None and now[:2] == before[:2] and now != before:
        raise SourceError(f"{source} was changed while it was read: cut it again")
