"""The interface of sinks: a sink takes the bytes of each tile, and publishes all or none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from fasttile.abc.layout import Layout
from fasttile.geometry import Tile

if TYPE_CHECKING:
    from fasttile.storage.journal import Journal


class Sink(Protocol):
    """Destination of encoded tiles. All calls come from one thread at a time.

    `put` is called in a thread of the cut; `finish` and `abort` in the one that called `cut`.

    Tiles come in the order of the walk, which is the same for any number of threads; each tile
    of the pyramid comes once. The last call is `finish` or `abort`.
    """

    def put(self, tile: Tile, data: bytes) -> None:
        """Take one tile.

        Raises:
            TargetError: It cannot be written.
        """

    def finish(self) -> None:
        """Publish: afterwards the result is complete at its target.

        Raises:
            TargetError: It cannot be published; call `abort`.
        """

    def abort(self) -> None:
        """Discard what was written; leave an existing result untouched. Never raises."""


def missing_method(sink: object) -> str | None:
    """Name of the first method of `Sink` that an object lacks; a class lacks all of them."""
    for name in ("put", "finish", "abort"):
        if isinstance(sink, type) or not callable(getattr(sink, name, None)):
            return name
    return None


@runtime_checkable
class LayoutSink(Sink, Protocol):
    """A sink of a program that is passed the layout of the image before the first tile."""

    def begin(self, layout: Layout) -> None:
        """Take the layout: name, geometry, path of each tile, descriptors."""


@runtime_checkable
class PathSink(Sink, Protocol):
    """A sink whose tiles have paths, and which takes further files."""

    def add(self, paths: Sequence[str], data: bytes) -> None:
        """Write a further file below the layout's root, under all these paths.

        Raises:
            TargetError: It cannot be written.
        """


@runtime_checkable
class FileSink(Protocol):
    """A sink that publishes files beside the tiles, such as a page."""

    def change_file(self, path: str, change: Callable[[bytes], bytes]) -> None:
        """Change the content of such a file, before `finish` writes it."""


@runtime_checkable
class ResumableSink(Sink, Protocol):
    """A sink that can resume an interrupted run of the same job.

    Attributes:
        journal: The list of tiles of that run. None if the job is not to be resumed.
        is_published: True if that run published the result; then `finish` only cleans up.
    """

    journal: Journal | None
    is_published: bool
