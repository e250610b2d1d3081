"""What can go wrong: one root, and a subclass for each kind of answer a caller can give."""

from __future__ import annotations

from typing import Any


class FasttileError(Exception):
    """Any error that fasttile raises on purpose; its text is one line, fit to be shown."""


class OptionError(FasttileError, ValueError):
    """An option's value, or two options together, cannot be used."""


class SourceError(FasttileError):
    """The image cannot be read: missing, unknown, damaged, or changed while it was read."""


class TruncatedError(SourceError):
    """The image is damaged from some row on.

    Attributes:
        rows: So many rows, from the top, are there.
    """

    def __init__(self, message: str, rows: int) -> None:
        super().__init__(message)
        self.rows = rows

    def __reduce__(self) -> tuple[Any, ...]:
        # It may come from another process.
        return type(self), (str(self), self.rows), self.__dict__


class TargetError(FasttileError):
    """The result cannot be written where it should go, or something stands there already."""


class TargetExistsError(TargetError):
    """A result stands there already, whole, and may not be replaced."""


class CancelledError(FasttileError):
    """The progress callback asked to stop; nothing was left behind."""
