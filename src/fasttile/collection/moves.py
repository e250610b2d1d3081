"""Publishing: what a run has made goes to its places, all of it, or all of it back.

A collection's result is several folders and files, and several names never change in one step. So
there is a list of moves, written into the work folder as `moves.json` once all is made, and each
move is a plain rename, so that how far they went can be read off the disk:

    work folder
    new/name      what is not yet in its place; gone: it is there
    old/number    what stood in the place of that move before

What announces something goes first and comes last: at no moment does a descriptor stand there
whose tiles do not. As long as moves.json exists, whatever a crash leaves is finished by `recover`.
An older result is away for the moment between two renames, as its descriptor is; to exchange
folders in one step would gain nothing.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ..sinks.rename import rename_new


@dataclass(frozen=True)
class Move:
    """The way of one folder or file.

    Args:
        name: What it is called in `new`.
        target: Where it goes, relative to the folder that the work folder lies in.
        announces: Whether it says that others are there.
        replaces: Whether it may replace what stands there.
    """

    name: str
    target: str
    announces: bool = False
    replaces: bool = False


class Moves:
    """The moves of a run, begun or not.

    Args:
        work: The work folder, claimed by this run.
    """

    def __init__(self, work: Path) -> None:
        self._work = work
        self._list = work / "moves.json"

    @property
    def pending(self) -> bool:
        """Whether they began and are neither settled nor undone."""
        return self._list.exists()

    def prepare(self, moves: Sequence[Move]) -> None:
        """Say that all is made, and where it goes; what announces others comes behind them."""
        text = json.dumps([asdict(move) for move in moves])
        draft = self._work / "moves.draft"
        draft.write_text(text, encoding="ascii")
        draft.rename(self._list)

    def publish(self) -> None:
        """Take the steps that are not yet taken; afterwards all stands in its place.

        Raises:
            FileExistsError: Something stands there that may not be replaced.
            OSError: The system refused a step; `undo` is to be called.
        """
        moves = list(self._steps())
        for move, new, old, target in reversed(moves):
            if move.announces and _exists(new) and _exists(target):
                _move_away(move, target, old)
        for move, new, old, target in moves:
            if _exists(new):
                if _exists(target):
                    _move_away(move, target, old)
                rename_new(new, target)

    def settle(self) -> None:
        """End it, all being published: what is in the work folder is rubbish now."""
        self._list.unlink()

    def undo(self) -> None:
        """Put back what stood there before, unless all is published already.

        Killed half way it leaves what `recover` can finish.

        Raises:
            OSError: The system refused a step, and they are still pending.
        """
        moves = list(self._steps())
        if any(_exists(new) for _, new, _, _ in moves):
            for _, new, _, target in reversed(moves):
                if not _exists(new):
                    target.rename(new)
            for _, _, old, target in moves:
                if _exists(old):
                    rename_new(old, target)
        self.settle()

    def recover(self) -> bool:
        """Finish what a killed run had begun; whether there was such a thing, and it is done.

        Where it may not replace what stands there by now, it is taken back instead.

        Raises:
            OSError: The system refused a step, and they are still pending.
        """
        if not self.pending:
            return False
        try:
            self.publish()
        except FileExistsError:
            self.undo()
            return False
        self.settle()
        return True

    def _steps(self) -> Iterator[tuple[Move, Path, Path, Path]]:
        """Each move, where it comes from, where what it replaces goes, and where it goes."""
        for number, move in enumerate(self._listed()):
            new, old = self._work / "new" / move.name, self._work / "old" / str(number)
            yield move, new, old, Path(os.path.normpath(self._work.parent / move.target))

    def _listed(self) -> list[Move]:
        """The list, which must be one of ours: it says what is replaced, and where."""
        status = self._list.lstat()
        if hasattr(os, "geteuid") and status.st_uid not in (os.geteuid(), 0):
            raise PermissionError(errno.EPERM, "somebody else has written it", str(self._list))
        try:
            return [Move(**words) for words in json.loads(self._list.read_text(encoding="ascii"))]
        except (TypeError, ValueError) as error:
            raise OSError(errno.EINVAL, f"it is damaged ({error})", str(self._list)) from error


def _move_away(move: Move, target: Path, old: Path) -> None:
    if not move.replaces:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    rename_new(target, old)


def _exists(path: Path) -> bool:
    """Whether something has this name, also a symbolic link to nowhere."""
    return os.path.lexists(path)
