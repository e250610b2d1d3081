"""What a user names a picture by: which of it is a URL or a file object, and how it is shown."""

from __future__ import annotations

import os
import re
from typing import TypeGuard

STANDARD_INPUT = "-"
"""The path that means standard input."""

STORES = ("s3", "gs", "az")
"""The schemes of object stores."""

# Two letters at least: one is a Windows drive.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")


# What OpenSlide reads and nothing else does, or not as well.
_SLIDE = re.compile(r"\.(svs|ndpi|vms|vmu|scn|mrxs|svslide|bif|dcm|zvi|czi)\Z", re.IGNORECASE)


def may_be_slide(path: str | None) -> bool:
    """Whether a file is called as microscopes' makers call whole-slide images."""
    return path is not None and _SLIDE.search(path) is not None


def scheme_of(path: object) -> str | None:
    """The scheme of a URL in small letters, or None for whatever is none; "scheme://" marks it."""
    # A Path is never a URL: it has lost a slash.
    match = _SCHEME.match(path) if isinstance(path, str) else None
    return None if match is None else match.group(1).lower()


def shown(url: str) -> str:
    """A URL for messages: without what may be secret, which is its user, password and query."""
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return f"{scheme_of(url)}://…"
    host = f"[{host}]" if ":" in host else host
    where = host if port is None else f"{host}:{port}"
    return f"{parts.scheme}://{where}{parts.path}{'?…' if parts.query else ''}"


def is_bytes(source: object) -> TypeGuard[bytes | bytearray | memoryview]:
    """Whether it is the bytes of a file."""
    return isinstance(source, bytes | bytearray | memoryview)


def is_stream(source: object) -> bool:
    """Whether it is read like a file; arrays that happen to have a `read` are none."""
    return callable(getattr(source, "read", None)) and not hasattr(source, "shape")


def stream_name(stream: object) -> str | None:
    """The name that a file object says it has, or None."""
    name = getattr(stream, "name", None)
    if not isinstance(name, str | bytes | os.PathLike):
        return None  # a descriptor's number, for one
    text = os.fsdecode(name)
    return None if not text or text.startswith("<") else text  # <stdin> is not a name
