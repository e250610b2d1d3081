"""Exceptions, a subclass for each reaction of a caller; and texts of others in messages.

Names, reasons and addresses come from files, servers and users. `printable` shows them as one
line: it can neither speak to the terminal nor have a password in it. All errors go through it.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterable

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any


class FasttileError(Exception):
    """Base of all errors of fasttile.

    Args:
        message: Text for the user; it becomes one printable line without secrets, because it may
            have names and reasons that others chose.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(printable(message))


class OptionError(FasttileError, ValueError):
    """The value of an option, or a combination of options, is not valid."""


class SourceError(FasttileError):
    """The image cannot be read: missing, unknown, damaged or changed."""


class SourceNotFoundError(SourceError, FileNotFoundError):
    """The image does not exist: no such file, no such object in a bucket, or HTTP status 404, 410.

    It is a FileNotFoundError too, whose `errno` is `errno.ENOENT`.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(message)
        self.errno = errno.ENOENT


class TruncatedError(SourceError):
    """The image is damaged from some row on.

    Attributes:
        rows: The number of rows, from the top, that can be read.
    """

    def __init__(self, message: str, rows: int) -> None:
        super().__init__(message)
        self.rows = rows

    @classmethod
    def from_row(cls, image: str, row: int, reason: str = "", *, top: int = 0) -> TruncatedError:
        """The error about stored rows from `row` on that cannot be decoded.

        Args:
            image: Name of the image, and what is broken.
            row: The first of them.
            reason: That of the decoder. Default: it has none.
            top: The first stored row of the region that is read.
        """
        return cls(
            f"{image}: rows from {row} on cannot be decoded{': ' * bool(reason)}{reason} "
            "(--allow-truncated fills them with background)",
            max(0, row - top),
        )

    def __reduce__(self) -> tuple[Any, ...]:
        # Worker processes send it to their parent.
        return type(self), (str(self), self.rows), self.__dict__


class MissingPageError(SourceError):
    """The file has no image of this number, although its header may claim one."""


class TargetError(FasttileError):
    """The result cannot be written: no access, disk full, or path in use."""


class TargetExistsError(TargetError, FileExistsError):
    """A complete result exists and must not be replaced.

    It is a FileExistsError too, whose `errno` is `errno.EEXIST`.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(message)
        self.errno = errno.EEXIST


class CancelledError(FasttileError):
    """The progress callback or a CancelToken cancelled the run; no files were left."""


class PluginError(FasttileError):
    """A plug-in cannot be loaded, fails, or breaks the rules of its interface."""


# Patterns are compiled at their first use: most runs need none.
# At least two letters before the colon: one is a Windows drive. One slash after it is what pathlib
# leaves of a URL. Credentials end at the last "@" of the host.
_LETTERS = "[A-Za-z][A-Za-z0-9+.-]{1,20}"
_SCHEME = (
    rf"(?<![A-Za-z0-9])({_LETTERS}://|(?:https?|s3|gs|az|dask|tcp|tls):/"
    rf"|{_LETTERS}:/(?=[^\s/?#]*@))"
)
_URL = rf"{_SCHEME}([^/?#\n]*@)?([^\s?#]*)([?#]\S*)?"
_FULL_URL = rf"(?s){_SCHEME}(.*)"
_QUOTED_URL = rf"(?<=')({_SCHEME}[^'\n]*)(?=')|(?<=\")({_SCHEME}[^\"\n]*)(?=\")"
_QUERY = r"\?[^\s?=]+=\S*"

_SECRET_WORDS = ("sig", "token", "key", "secret", "pass", "cred", "auth")
"""Parts of the names of parameters that are secrets, also in names of files and objects."""

_PUNCTUATION = ":;,.)]'\""
"""Signs after a URL that belong to the sentence around it."""

# The host of a URL, with a port, or a placeholder for one. Other texts may be a part of a password.
_HOST = r"(\[[^]]*\]|[^:\[\]]*)(:(\d*|PORT|NUMBER))?[:;,.)'\"]*(/|\Z)"

_SPACES = frozenset("\xa0\u1680\u202f\u205f\u3000").union(map(chr, range(0x2000, 0x200B)))
"""The spaces of Unicode beside U+0020, which are harmless on a terminal."""


def printable(text: object) -> str:
    r"""A text from elsewhere as one printable line without secrets.

    Control characters (line breaks too), format characters (bidirectional marks too), unassigned
    ones and lone surrogates become escapes as in Python's strings: `\x1b`, `\n`, `\u202e`,
    `\udcff`. URLs lose their credentials and queries, see `redact_url`. A second call changes
    nothing.

    Args:
        text: A name, a path, an error, or a message with such parts.

    Example:
        >>> printable("\x1b[31mred.png")
        '\\x1b[31mred.png'
        >>> printable("https://me:secret@example.org/map.tif?token=1: not found")
        'https://example.org/map.tif?…: not found'
    """
    shown = str(text)
    has_url = ":/" in shown
    if has_url:
        shown = re.sub(_QUOTED_URL, lambda match: redact_url(match[0]), shown)
        shown = re.sub(_URL, _redact_match, shown)
    if "?" in shown:  # of a URL with a space in its path, of a file that was named after its URL
        shown = re.sub(_QUERY, lambda match: _redact_query(match[0], always=has_url), shown)
    return escape_unprintable(shown, lambda one: one.encode("unicode_escape").decode())


def escape_unprintable(text: str, escape: Callable[[str], str]) -> str:
    """Replace all characters but printable ones and spaces.

    Args:
        text: Any text.
        escape: Returns what replaces a character.
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in _SPACES else escape(one) for one in text)


def one_line(text: object, max_length: int | None = None) -> str:
    """A text of several lines, of a library for one, as one printable line.

    Args:
        text: The text; runs of white space become one space.
        max_length: Number of characters that are kept. Default: all.
    """
    line = printable(" ".join(str(text).split()))
    if max_length is None or len(line) <= max_length:
        return line
    return f"{line[: max_length - 1]}…"


def first_line(error: BaseException) -> str:
    """The first line of an exception's text, of a library for one; its type if it has no text."""
    return str(error).partition("\n")[0] or type(error).__name__


def redact_url(url: str) -> str:
    """A source or a destination, for people: a URL without user, password, query and fragment.

    The argument is one URL or one path, so white space does not end the query, as in `printable`.

    Example:
        >>> redact_url("s3://AKIA:secret@bucket/map.tif?X-Amz-Signature=a b")
        's3://bucket/map.tif?…'
    """
    match = re.match(_FULL_URL, url) if ":/" in url else None
    if match is None:
        return printable(url)
    location, *query = re.split("[?#]", match[2], maxsplit=1)
    host, slash, path = location.partition("/")
    shown = f"{match[1]}{host.rpartition('@')[2]}{slash}{path}"
    return printable(f"{shown}?…" if query else shown)


def _redact_match(match: re.Match[str]) -> str:
    scheme, _, location, query = match.groups()
    if not re.match(_HOST, location):
        return f"{scheme}…{_end_of(location)}"
    return f"{scheme}{location}{f'?…{_end_of(query)}' if query else ''}"


def _redact_query(query: str, *, always: bool) -> str:
    if always or any(word in query.lower() for word in _SECRET_WORDS):
        return f"?…{_end_of(query)}"
    return query


def _end_of(text: str) -> str:
    """The punctuation at the end of a text."""
    return text[len(text.rstrip(_PUNCTUATION)) :]


def did_you_mean(text: str, known: Iterable[str], *, cutoff: float = 0.6) -> str:
    """A question after a message about an unknown name; "" if no known name is similar.

    Args:
        text: The unknown name.
        known: The valid names.
        cutoff: Least similarity, of 1.

    Example:
        >>> did_you_mean("qualty", ["tile-size", "quality"])
        '; did you mean quality?'
    """
    near = nearest_name(text, known, cutoff=cutoff)
    return "" if near is None else f"; did you mean {near}?"


def nearest_name(text: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """The known name that is most similar to an unknown one; None if none is.

    Args:
        text, known, cutoff: As for `did_you_mean`. Upper and lower case are the same.
    """
    from difflib import get_close_matches  # only for errors

    by_key = {name.lower(): name for name in known}
    near = get_close_matches(text.lower(), by_key, 1, cutoff)
    return by_key[near[0]] if near else None


def as_fasttile_error(error: Exception, name: str = "") -> FasttileError:
    """The error itself, or one that describes an error of Python or another library in one line.

    Args:
        error: The error.
        name: Name of the image, if it is of one.
    """
    if isinstance(error, FasttileError):
        return error
    prefix = f"{name}: " if name else ""
    if isinstance(error, MemoryError):
        return FasttileError(f"{prefix}there is not enough memory")
    if isinstance(error, RuntimeError) and str(error).startswith("can't start new thread"):
        return FasttileError(
            f"{prefix}the system starts no further thread; use fewer (--threads, --workers), or "
            "allow more processes or memory (ulimit -u, ulimit -v)"
        )
    if isinstance(error, OSError):
        reason = error.strerror or error
        return FasttileError(f"{prefix or 'system error: '}{reason} (--verbose shows where)")
    kind = type(error).__name__
    return FasttileError(f"{prefix}unexpected {kind}: {error} (--verbose shows where)")
