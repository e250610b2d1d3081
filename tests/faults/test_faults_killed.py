"""Real processes, killed at random moments; somebody looks on all the while."""

from __future__ import annotations

import random
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from shutil import copytree, rmtree

import pytest
from programs import FASTTILE_COMMAND, ProcessResult, is_verified, run_cut, start_process
from stage import EXISTS_MESSAGE
from trees import FileTree, changed_files, count_tiles, file_tree, identify_result
from watcher import ResultWatcher

NAME = "x.dzi"


class KilledCut:
    """A cut that is killed, over and over.

    Args:
        room: An empty folder.
        image: The source.
        resume: True if it may be resumed.
        old: True if another result exists already.
    """

    def __init__(
        self, scratch_folder: Path, image: Path, *, resume: bool, has_old_result: bool
    ) -> None:
        self.folder = scratch_folder / "out"
        self._image = image
        self._resume = resume
        self._has_old_result = has_old_result
        self.complete_results: dict[str, FileTree] = {}
        assert run_cut(*self._arguments(scratch_folder / "new"), "--quiet") == ProcessResult(
            0, "", ""
        )
        self.complete_results["new"] = file_tree(scratch_folder / "new")
        if has_old_result:
            words = [*self._arguments(scratch_folder / "old"), "--tile-size", "700"]
            assert run_cut(*words, "--quiet") == ProcessResult(0, "", "")
            self.complete_results["old"] = file_tree(scratch_folder / "old")
        self._scratch_folder = scratch_folder

    def reset_folder(self) -> None:
        """Make everything as it was."""
        rmtree(self.folder, ignore_errors=True)
        if self._has_old_result:
            copytree(self._scratch_folder / "old", self.folder)
        else:
            self.folder.mkdir()

    def run_and_kill(self, min_files: int, seconds: float) -> int:
        """Run, and be killed some time after a number of files of the new result exist.

        Returns:
            The exit code: the run may come to its end before.
        """
        process = start_process(FASTTILE_COMMAND, "cut", *self._arguments(self.folder), "--quiet")
        while process.poll() is None and self.count_new_files() < min_files:
            time.sleep(0.002)
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        process.kill()
        _, message = process.communicate()
        if process.returncode > 0:  # it only finished what the one before had left
            assert message.endswith(EXISTS_MESSAGE), message
        return process.returncode

    def count_new_files(self) -> int:
        """How many there are of the new result, until it is published."""
        return count_tiles(self.folder / f".{NAME}.fasttile" / "new")

    def check_next_run(self) -> None:
        """Nothing false exists; the next run leaves the new result, and nothing else."""
        stands = identify_result(self.folder, NAME, self.complete_results)
        assert stands in {"new", "nothing", "old"}
        ended = run_cut(*self._arguments(self.folder), "--quiet")
        assert ended == ProcessResult(0, "", "") or ended.stderr.endswith(EXISTS_MESSAGE)
        self.check_complete()

    def check_complete(self) -> None:
        assert changed_files(file_tree(self.folder), self.complete_results["new"]) == []
        assert is_verified(self.folder / NAME)

    def _arguments(self, folder: Path) -> list[object]:
        words: list[object] = [self._image, "-o", folder / NAME]
        if self._resume:
            words.append("--resume")
        if (folder / NAME).exists():
            words.append("--overwrite")
        return words


def kill_repeatedly(killed_cut: KilledCut, times: int, seed: int) -> int:
    """Kill at random moments, and look after each whether all is well; how many were killed."""
    moments = random.Random(seed)
    killed = 0
    for _ in range(times):
        killed_cut.reset_folder()
        with ResultWatcher(killed_cut.folder, NAME, killed_cut.complete_results).watching():
            files = moments.randrange(len(killed_cut.complete_results["new"]))
            killed += killed_cut.run_and_kill(files, moments.uniform(0, 0.05)) == -9
            killed_cut.check_next_run()
    return killed


def resume_until_complete(killed_cut: KilledCut, seed: int) -> int:
    """Kill the same job until it comes to its end; how often it was killed."""
    moments = random.Random(seed)
    killed_cut.reset_folder()
    killed = 0
    with ResultWatcher(killed_cut.folder, NAME, killed_cut.complete_results).watching():
        while True:
            more = moments.randrange(50, 200)
            if (
                killed_cut.run_and_kill(
                    killed_cut.count_new_files() + more, moments.uniform(0, 0.05)
                )
                != -9
            ):
                break
            assert identify_result(killed_cut.folder, NAME, killed_cut.complete_results) in {
                "new",
                "old",
                "nothing",
            }
            killed += 1
    killed_cut.check_complete()
    return killed


@pytest.mark.long
@pytest.mark.parametrize(("resume", "old"), [(False, False), (True, True)])
def test_killed_now_and_then(
    scratch_folder: Path, large_source: Path, resume: bool, old: bool
) -> None:
    assert (
        kill_repeatedly(
            KilledCut(scratch_folder, large_source, resume=resume, has_old_result=old), 3, seed=1
        )
        > 0
    )


@pytest.mark.long
def test_killed_until_it_is_done(scratch_folder: Path, large_source: Path) -> None:
    assert (
        resume_until_complete(
            KilledCut(scratch_folder, large_source, resume=True, has_old_result=False), seed=3
        )
        > 0
    )


@pytest.mark.long
@pytest.mark.parametrize("old", [False, True], ids=["new", "over"])
@pytest.mark.parametrize("resume", [False, True], ids=["plain", "resume"])
def test_killed_many_times(
    scratch_folder: Path, large_source: Path, resume: bool, old: bool
) -> None:
    assert (
        kill_repeatedly(
            KilledCut(scratch_folder, large_source, resume=resume, has_old_result=old), 25, seed=2
        )
        > 12
    )


@pytest.mark.long
@pytest.mark.parametrize("old", [False, True], ids=["new", "over"])
def test_killed_until_it_is_done_many_times(
    scratch_folder: Path, large_source: Path, old: bool
) -> None:
    victim = KilledCut(scratch_folder, large_source, resume=True, has_old_result=old)
    assert sum(resume_until_complete(victim, seed) for seed in range(8)) > 8
