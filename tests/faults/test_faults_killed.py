"""Real processes, killed at random moments; somebody looks on all the while."""

from __future__ import annotations

import random
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from shutil import copytree, rmtree

import pytest
from programs import FASTTILE, Ended, begun, cut, is_verified
from trees import Tree, count, differing, standing, tree
from watcher import Watcher

NAME = "x.dzi"


class Victim:
    """A cut that is killed, over and over.

    Args:
        room: An empty folder.
        picture: The source.
        resume: Whether it may be carried on.
        old: Whether another result stands there already.
    """

    def __init__(self, room: Path, picture: Path, *, resume: bool, old: bool) -> None:
        self.folder = room / "out"
        self._picture = picture
        self._resume = resume
        self._old = old
        self.wholes: dict[str, Tree] = {}
        assert cut(*self._words(room / "new"), "--quiet") == Ended(0, "", "")
        self.wholes["new"] = tree(room / "new")
        if old:
            words = [*self._words(room / "old"), "--tile-size", "700"]
            assert cut(*words, "--quiet") == Ended(0, "", "")
            self.wholes["old"] = tree(room / "old")
        self._room = room

    def set_up(self) -> None:
        """Make everything as it was."""
        rmtree(self.folder, ignore_errors=True)
        if self._old:
            copytree(self._room / "old", self.folder)
        else:
            self.folder.mkdir()

    def killed(self, files: int, seconds: float) -> int:
        """Run, and be killed so long after there are so many files of the new result.

        Returns:
            The exit code: the run may come to its end before.
        """
        process = begun(FASTTILE, "cut", *self._words(self.folder), "--quiet")
        while process.poll() is None and self.files() < files:
            time.sleep(0.002)
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        process.kill()
        _, told = process.communicate()
        if process.returncode > 0:  # it only finished what the one before had left
            assert told.endswith("overwrite it\n"), told
        return process.returncode

    def files(self) -> int:
        """How many there are of the new result, until it is published."""
        return count(self.folder / f".{NAME}.fasttile" / "new")

    def check(self) -> None:
        """Nothing false stands there; the next run leaves the new result, and nothing else."""
        stands = standing(self.folder, NAME, self.wholes)
        assert stands in {"new", "nothing", "old"}
        ended = cut(*self._words(self.folder), "--quiet")
        assert ended == Ended(0, "", "") or ended.err.endswith("overwrite it\n")
        self.check_whole()

    def check_whole(self) -> None:
        assert differing(tree(self.folder), self.wholes["new"]) == []
        assert is_verified(self.folder / NAME)

    def _words(self, folder: Path) -> list[object]:
        words: list[object] = [self._picture, "-o", folder / NAME]
        if self._resume:
            words.append("--resume")
        if (folder / NAME).exists():
            words.append("--overwrite")
        return words


def kill_often(victim: Victim, times: int, seed: int) -> int:
    """Kill at random moments, and look after each whether all is well; how many were killed."""
    moments = random.Random(seed)
    killed = 0
    for _ in range(times):
        victim.set_up()
        with Watcher(victim.folder, NAME, victim.wholes).at_work():
            files = moments.randrange(len(victim.wholes["new"]))
            killed += victim.killed(files, moments.uniform(0, 0.05)) == -9
            victim.check()
    return killed


def carry_on(victim: Victim, seed: int) -> int:
    """Kill the same job until it comes to its end; how often it was killed."""
    moments = random.Random(seed)
    victim.set_up()
    killed = 0
    with Watcher(victim.folder, NAME, victim.wholes).at_work():
        while True:
            more = moments.randrange(50, 200)
            if victim.killed(victim.files() + more, moments.uniform(0, 0.05)) != -9:
                break
            assert standing(victim.folder, NAME, victim.wholes) in {"new", "old", "nothing"}
            killed += 1
    victim.check_whole()
    return killed


@pytest.mark.long
@pytest.mark.parametrize(("resume", "old"), [(False, False), (True, True)])
def test_killed_now_and_then(room: Path, large: Path, resume: bool, old: bool) -> None:
    assert kill_often(Victim(room, large, resume=resume, old=old), 3, seed=1) > 0


@pytest.mark.long
def test_killed_until_it_is_done(room: Path, large: Path) -> None:
    assert carry_on(Victim(room, large, resume=True, old=False), seed=3) > 0


@pytest.mark.long
@pytest.mark.parametrize("old", [False, True], ids=["new", "over"])
@pytest.mark.parametrize("resume", [False, True], ids=["plain", "resume"])
def test_killed_many_times(room: Path, large: Path, resume: bool, old: bool) -> None:
    assert kill_often(Victim(room, large, resume=resume, old=old), 25, seed=2) > 12


@pytest.mark.long
@pytest.mark.parametrize("old", [False, True], ids=["new", "over"])
def test_killed_until_it_is_done_many_times(room: Path, large: Path, old: bool) -> None:
    victim = Victim(room, large, resume=True, old=old)
    assert sum(carry_on(victim, seed) for seed in range(8)) > 8
