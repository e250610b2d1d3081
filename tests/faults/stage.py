"""One result that is cut again and again, while things go wrong."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import copytree, rmtree

from brood import Brood
from programs import Ended
from shim import Fault, spread
from trees import Tree, differing, standing, tree

DONE = Ended(0, "", "")

EXISTS = " exists already; choose another name, or overwrite it\n"
"""How a run refuses that was to make what it has only just finished for one that was killed."""


@dataclass
class Stage:
    """Where it is cut, and what may come of it.

    Attributes:
        brood: Cuts it.
        room: An empty folder.
        picture: The source.
        name: Of the result; one without an ending is a folder, by Zoomify.
        resume: Whether jobs can be carried on.
        wholes: The undisturbed results: "new", and "old" by other options.
    """

    brood: Brood
    room: Path
    picture: Path
    name: str
    resume: bool = False

    def __post_init__(self) -> None:
        self.wholes: dict[str, Tree] = {}
        for result in ("old", "new"):
            folder = self.room / result
            assert self.cut(folder, result) == DONE
            self.wholes[result] = tree(folder)
            assert standing(folder, self.descriptor, self.wholes) == result

    @property
    def descriptor(self) -> str:
        """What announces the result."""
        return self.name if "." in self.name else f"{self.name}/ImageProperties.xml"

    def cut(self, folder: Path, result: str = "new", fault: Fault | None = None) -> Ended:
        """One run, which may replace what it finds."""
        extra = fault.environment(self.brood.library) if fault else None
        return self.brood.run(*self._words(folder, result), extra=extra)

    def before(self, what: str, name: str) -> Path:
        """A fresh folder, in which the old result stands, or nothing."""
        folder = self.room / name
        if what == "old":
            copytree(self.room / "old", folder)
        else:
            folder.mkdir()
        return folder

    def calls(self, what: str, fault: Fault) -> list[str]:
        """The calls of a fault's kinds in a cut that meets none, as its trace has them."""
        trace = self.room / "trace"
        folder = self.before(what, "counted")
        below = fault.below if fault.below.is_file() else folder
        assert self.cut(folder, fault=Fault(below, fault.call, trace=trace)) == DONE
        found = trace.read_text().splitlines()
        trace.unlink()
        rmtree(folder)
        return found

    def sweep(self, what: str, fault: Fault, wanted: int) -> Counter[int]:
        """Let a spread of so many calls meet a fault, each in a run of its own; the exit codes."""
        codes: Counter[int] = Counter()
        for at in spread(len(self.calls(what, fault)), wanted):
            codes[self.suffer(what, replace(fault, at=at)).code] += 1
        return codes

    def suffer(self, what: str, fault: Fault) -> Ended:
        """A run that meets a fault, all that must hold afterwards, and the run after it.

        Args:
            what: What stands there before: "old" or "nothing".
            fault: Its folder is the result's, unless it is below a file.
        """
        folder = self.before(what, f"at-{fault.at}")
        if not fault.below.is_file():
            fault = replace(fault, below=folder)
        ended = self.cut(folder, fault=fault)
        stands = standing(folder, self.descriptor, self.wholes)
        if fault.kill:
            assert ended in (Ended(-9, "", ""), DONE)
            assert stands in {"new", what, "nothing"}
        elif ended.code == 0:
            assert ended == DONE
            assert stands == "new"
        else:
            ended.line()
            self._check_failed(folder, what, stands, fault)
        self._check_next(folder)
        rmtree(folder)
        return ended

    def _words(self, folder: Path, result: str) -> list[object]:
        words: list[object] = ["cut", self.picture, "-o", folder / self.name, "--quiet"]
        words += ["--threads", "2"]
        if "." not in self.name:
            words += ["--layout", "zoomify"]
        if result == "old":
            words += ["--format", "deflate" if self.name.endswith(".tif") else "png"]
        if (folder / self.descriptor).exists():
            words.append("--overwrite")
        if self.resume:
            words.append("--resume")
        return words

    def _check_failed(self, folder: Path, what: str, stands: str, fault: Fault) -> None:
        """What stood there is as it was, and nothing was left, as far as the system let it."""
        if fault.sticky:
            return
        assert stands == what
        if not self.resume:
            assert differing(tree(folder), self.wholes.get(what, {})) == []

    def _check_next(self, folder: Path) -> None:
        """The next run has no trouble, and leaves the result and nothing else."""
        ended = self.cut(folder)
        if not ended.err.endswith(EXISTS):
            assert ended == DONE
        assert differing(tree(folder), self.wholes["new"]) == []
