"""Targets that many workers write to: the interfaces that a worker needs."""

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
    """A target that workers on other machines reach; small, for it is sent to each."""

    def open_tile_sink(self, layout: Layout) -> Sink:
        """The sink for a worker's tiles."""

    @property
    def shard_store(self) -> ShardStore:
        """The store of the shards' blocks."""


BLOCKS_FOLDER = "blocks"


@runtime_checkable
class ShardedSink(Sink, Protocol):
    """A sink whose tiles may also come from workers.

    Attributes:
        journal: The list of tiles of an earlier run.
    """

    journal: Journal | None

    @property
    def shared_target(self) -> SharedTarget:
        """The target for the workers."""


class ShardStore(Protocol):
    """Storage of blocks until all shards are done."""

    def put(self, number: int, data: bytes) -> None:
        """Store a block; a second one of the same number replaces it."""

    def get(self, number: int) -> bytes:
        """A block.

        Raises:
            SourceError: It does not exist.
        """


class FolderShardStore:
    """Blocks as files of a folder.

    Args:
        folder: The folder; it is made if need be.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, number: int, data: bytes) -> None:
        """Write a file in one step, by a rename."""
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
