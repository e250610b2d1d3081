"""Where a result is made by many hands: what a worker needs to know of it, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from fasttile.abc.layout import Layout
from fasttile.abc.sink import Sink
from fasttile.errors import SourceError
from fasttile.storage.paths import wrap_os_errors

if TYPE_CHECKING:
    from fasttile.storage.journal import Journal


class SharedTarget(Protocol):
    """A place that workers on other machines can reach; small, for it is sent to each."""

    def open_tile_sink(self, layout: Layout) -> Sink:
        """What takes a worker's tiles."""

    @property
    def shard_store(self) -> ShardStore:
        """What takes its blocks, and gives back all."""


BLOCKS_FOLDER = "blocks"


@runtime_checkable
class ShardedSink(Sink, Protocol):
    """A sink whose tiles may also be put by others.

    Attributes:
        journal: What a run before has stored.
        shared_target: Where other processes write their blocks.
    """

    journal: Journal | None

    @property
    def shared_target(self) -> SharedTarget:
        """Where other processes write their blocks."""


class ShardStore(Protocol):
    """Where blocks wait until all are there."""

    def put(self, number: int, data: bytes) -> None:
        """Store a block where all machines can read it; a second call replaces it."""

    def get(self, number: int) -> bytes:
        """A block.

        Raises:
            SourceError: It is not there.
        """


class FolderShardStore:
    """Blocks as files of a folder.

    Args:
        folder: Which; it is made if need be.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, number: int, data: bytes) -> None:
        """Write a complete file."""
        path = self._folder / f"{number}"
        with wrap_os_errors("write", path):
            self._folder.mkdir(exist_ok=True)
            new = path.with_name(f"{number}.new")
            new.write_bytes(data)
            new.replace(path)

    def get(self, number: int) -> bytes:
        """Read a file."""
        path = self._folder / f"{number}"
        try:
            return path.read_bytes()
        except OSError as error:
            raise SourceError(f"{path} cannot be read: {error.strerror}") from error
