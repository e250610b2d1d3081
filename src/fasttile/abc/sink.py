"""The seam on the way out: a sink takes each tile's bytes, and publishes all of them or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from fasttile.geometry import Tile

if TYPE_CHECKING:
    from fasttile.storage.journal import Journal


class Sink(Protocol):
    """Where encoded tiles go. All calls come from one thread at a time.

    Tiles come in the order of the walk, which is the same for any number of threads; each tile
    of the pyramid comes once. Either `finish` or `abort` ends a sink's life.
    """

    def put(self, tile: Tile, data: bytes) -> None:
        """Take one tile.

        Raises:
            TargetError: It cannot be written.
        """

    def finish(self) -> None:
        """Publish the complete result at its destination.

        Raises:
            TargetError: It cannot be published; `abort` is still to be called.
        """

    def abort(self) -> None:
        """Discard what was written; leave an existing result untouched. Never raises."""


@runtime_checkable
class PathSink(Sink, Protocol):
    """A sink whose tiles have paths, and which takes other files beside them."""

    def add(self, paths: Sequence[str], data: bytes) -> None:
        """Write a further file below the layout's root, under all these paths.

        Raises:
            TargetError: It cannot be written.
        """


@runtime_checkable
class ResumableSink(Sink, Protocol):
    """A sink that can go on where an interrupted run of the same job was.

    Attributes:
        journal: What that run has stored. None: nobody asked for it.
        published: Whether it had come to its end: the result stands, and `finish` only cleans up.
    """

    journal: Journal | None
    is_published: bool
