"""Where a result is made by many hands: what a worker needs to know of it, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from ..layouts.base import Layout
from .base import Sink

if TYPE_CHECKING:
    from ..blocks import Blocks
    from ..journal import Journal


class Workplace(Protocol):
    """A place that workers on other machines can reach; small, for it is sent to each."""

    def tiles(self, layout: Layout) -> Sink:
        """What takes a worker's tiles."""

    @property
    def blocks(self) -> Blocks:
        """What takes its blocks, and gives back all."""


@dataclass(frozen=True)
class WorkplaceFolder:
    """A work folder, on a file system that all share.

    Attributes:
        path: Which.
    """

    path: str

    def tiles(self, layout: Layout) -> Sink:
        """Files in the folder `new`."""
        from .tilefolder import TileFolder

        return TileFolder(layout, Path(self.path) / "new")

    @property
    def blocks(self) -> Blocks:
        """Files in the folder `blocks`."""
        from ..blocks import FolderBlocks

        return FolderBlocks(Path(self.path) / BLOCKS)


BLOCKS = "blocks"


@runtime_checkable
class ShardedSink(Sink, Protocol):
    """A sink whose tiles may also be put by others.

    Attributes:
        journal: What a run before has stored.
        workplace: Where others put theirs.
    """

    journal: Journal | None

    @property
    def workplace(self) -> Workplace:
        """Where others put theirs."""
