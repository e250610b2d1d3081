"""Plug-ins: sources, layouts, codecs and sinks that other packages, or the program itself, add.

Packages add them by entry points, programs by `fasttile.register_…`. Both are looked up only when
no built-in name fits: reading the entry points of all packages takes longer than the imports of a
small cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from fasttile.errors import FasttileError, OptionError, PluginError, one_line

KINDS = ("source", "layout", "codec", "sink")
"""The kinds of parts; the group of their entry points is "fasttile.sources" and so on."""


@dataclass(frozen=True)
class Plugin:
    """A part that a package or the program adds.

    Attributes:
        kind: One of `KINDS`.
        name: Its name in options; of a source a scheme or an extension, of a sink an extension.
        origin: The package and its version, or "this program".
        entry: The entry point, or the part itself.
    """

    kind: str
    name: str
    origin: str
    entry: Any

    @property
    def label(self) -> str:
        """Name in messages."""
        return f"{self.kind} plug-in {self.name!r} of {self.origin}"

    def load(self) -> Any:
        """The part: a class or a function.

        Raises:
            PluginError: Its package cannot be imported, or has no such part.
        """
        if self.origin == _PROGRAM:
            return self.entry
        with self.errors_named("it cannot be loaded"):
            return self.entry.load()

    def errors_named(self, problem: str) -> AbstractContextManager[None]:
        """Turn exceptions of the plug-in into a PluginError of one line that names it.

        Args:
            problem: The event, for the message.
        """
        return errors_of_part(f"{self.label}: {problem}")


@contextmanager
def errors_of_part(problem: str, error_type: type[FasttileError] = PluginError) -> Iterator[None]:
    """Turn exceptions of a part into one error of one line.

    Args:
        problem: The part and the event, for the message.
        error_type: Class of the error.

    Raises:
        FasttileError: The part raised one, which is not changed, or another exception.
    """
    try:
        yield
    except FasttileError:
        raise
    except Exception as error:
        reason = one_line(f"{type(error).__name__}: {error}", 300)
        raise error_type(f"{problem}: {reason}") from error


_PROGRAM = "this program"

_registered: dict[tuple[str, str], Any] = {}


def register(kind: str, name: str, part: Any, built_in: Iterable[str] = ()) -> None:
    """Add a part of the program; a second call with the same part does nothing.

    Args:
        kind: One of `KINDS`.
        name: Its name in options.
        part: A class or a function.
        built_in: Names of this kind that fasttile has itself.

    Raises:
        OptionError: The name is not one of ASCII letters, digits, "-" and "_" in lower case, or
            is in use.
    """
    if not isinstance(name, str) or not name.replace("-", "").replace("_", "").isalnum():
        raise OptionError(f"{kind} {name!r}: no name; expected letters and digits")
    if not name.isascii() or name != name.lower():
        raise OptionError(f"{kind} {name!r}: expected a name of ASCII letters in lower case")
    if name in built_in:
        raise OptionError(f"{kind} {name!r}: the name is fasttile's own; choose another one")
    if _registered.setdefault((kind, name), part) is not part:
        raise OptionError(f"{kind} {name!r}: it is registered already; choose another name")


def find(kind: str, name: str) -> Plugin | None:
    """The plug-in of a name; those of the program come first. None if there is none.

    Raises:
        PluginError: Two packages add one of this name.
    """
    if (kind, name) in _registered:
        return Plugin(kind, name, _PROGRAM, _registered[kind, name])
    found = [plugin for plugin in _of_packages(kind) if plugin.name == name]
    if len(found) > 1:
        origins = " and ".join(plugin.origin for plugin in found)
        raise PluginError(f"{kind} {name!r}: {origins} add it; remove one of the packages")
    return found[0] if found else None


def find_all(kind: str) -> list[Plugin]:
    """All plug-ins of a kind: those of the program, then those of packages by name."""
    own = [
        Plugin(kind, name, _PROGRAM, part)
        for (of_kind, name), part in _registered.items()
        if of_kind == kind
    ]
    return [*own, *_of_packages(kind)]


def has_parts_of_program() -> bool:
    """True if the program has added parts itself, which worker processes do not know."""
    return bool(_registered)


@lru_cache(maxsize=len(KINDS))
def _of_packages(kind: str) -> tuple[Plugin, ...]:
    from importlib.metadata import entry_points  # takes longer than all else here

    plugins = []
    for entry in entry_points(group=f"fasttile.{kind}s"):
        about = entry.dist
        origin = "a package" if about is None else f"{about.name} {about.version}"
        plugins.append(Plugin(kind, entry.name, origin, entry))
    return tuple(sorted(plugins, key=lambda plugin: (plugin.name, plugin.origin)))
