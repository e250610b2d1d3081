"""Exceptions: one root, and a subclass for each reaction of a caller."""

from __future__ import annotations

from typing import Any


class FasttileError(Exception):
    """Base of all errors of fasttile; the text is one line for the user."""


class OptionError(FasttileError, ValueError):
    """The value of an option, or a combination of options, is not valid."""


class SourceError(FasttileError):
    """The image cannot be read: missing, unknown, damaged or changed."""


class TruncatedError(SourceError):
    """The image is damaged from some row on.

    Attributes:
        rows: The number of rows, from the top, that can be read.
    """

    def __init__(self, message: str, rows: int) -> None:
        super().__init__(message)
        self.rows = rows

    def __reduce__(self) -> tuple[Any, ...]:
        # Worker processes send it to their parent.
        return type(self), (str(self), self.rows), self.__dict__


class MissingPageError(SourceError):
    """The file has no image of this number, whatever its header claims."""


class TargetError(FasttileError):
    """The result cannot be written: no access, disk full, or path in use."""


class TargetExistsError(TargetError):
    """A complete result exists and must not be replaced."""


class CancelledError(FasttileError):
    """The progress callback cancelled the run; no files were left."""
