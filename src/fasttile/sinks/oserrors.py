"""What the system refused, told in one line that names the path and the system's reason."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import TargetError


@contextmanager
def telling(action: str, path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn an OSError of the block into a TargetError: "cannot `action` `path`: reason"."""
    try:
        yield
    except OSError as error:
        raise refusal(action, path, error) from error


def refusal(action: str, path: str | os.PathLike[str], error: OSError) -> TargetError:
    """The TargetError that says what could not be done, where, and why."""
    return TargetError(f"cannot {action} {shown(path)}: {error.strerror or error}")


def shown(path: str | os.PathLike[str]) -> str:
    """A path as text of one line that any terminal takes: escaped where it must be."""
    text = os.fspath(path)
    return text if text.isprintable() else ascii(text)
