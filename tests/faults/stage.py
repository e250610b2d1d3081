"""One result that is cut again and again, while things go wrong."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import copytree, rmtree

from process_tree import ProcessTree
from programs import ProcessResult
from shim import SyscallFault, spread_evenly
from trees import FileTree, changed_files, file_tree, identify_result

SUCCESS = ProcessResult(0, "", "")

EXISTS_MESSAGE = " exists already; choose another name, or use --overwrite\n"
"""Error of a run that finishes the publication of a killed run, and so finds its own result."""


@dataclass
class FaultScenario:
    """An image that is cut with faults, and the results that are allowed afterwards.

    Attributes:
        process_tree: Runs the cuts.
        scratch_folder: An empty folder.
        image: The source.
        name: Name of the result; one without an extension is a Zoomify folder.
        resume: True if the cuts are resumable.
        complete_results: The results of cuts without faults: "new", and "old" by other options.
    """

    process_tree: ProcessTree
    scratch_folder: Path
    image: Path
    name: str
    resume: bool = False

    def __post_init__(self) -> None:
        self.complete_results: dict[str, FileTree] = {}
        for result in ("old", "new"):
            folder = self.scratch_folder / result
            assert self.cut(folder, result) == SUCCESS
            self.complete_results[result] = file_tree(folder)
            assert identify_result(folder, self.descriptor, self.complete_results) == result

    @property
    def descriptor(self) -> str:
        """Descriptor of the result."""
        return self.name if "." in self.name else f"{self.name}/ImageProperties.xml"

    def cut(
        self, folder: Path, result: str = "new", fault: SyscallFault | None = None
    ) -> ProcessResult:
        """Run one cut, which may replace an existing result."""
        extra = fault.environment(self.process_tree.shim_library) if fault else None
        return self.process_tree.run(*self._arguments(folder, result), extra=extra)

    def prepare_folder(self, initial_state: str, name: str) -> Path:
        """A new folder that holds the old result, or nothing."""
        folder = self.scratch_folder / name
        if initial_state == "old":
            copytree(self.scratch_folder / "old", folder)
        else:
            folder.mkdir()
        return folder

    def trace_calls(self, initial_state: str, fault: SyscallFault) -> list[str]:
        """The calls of a fault's kinds in a cut that meets none, as its trace has them."""
        trace = self.scratch_folder / "trace"
        folder = self.prepare_folder(initial_state, "counted")
        below = fault.below if fault.below.is_file() else folder
        assert self.cut(folder, fault=SyscallFault(below, fault.call, trace=trace)) == SUCCESS
        found = trace.read_text().splitlines()
        trace.unlink()
        rmtree(folder)
        return found

    def fail_sampled_calls(
        self, initial_state: str, fault: SyscallFault, sample_size: int
    ) -> Counter[int]:
        """Let some calls, evenly spread, meet a fault, each in its own run; the exit codes."""
        codes: Counter[int] = Counter()
        for at in spread_evenly(len(self.trace_calls(initial_state, fault)), sample_size):
            codes[self.run_with_fault(initial_state, replace(fault, at=at)).exit_code] += 1
        return codes

    def run_with_fault(self, initial_state: str, fault: SyscallFault) -> ProcessResult:
        """A run that meets a fault, all that must hold afterwards, and the run after it.

        Args:
            initial_state: The result before the run: "old" or "nothing".
            fault: Its folder is the result's, unless it is below a file.
        """
        folder = self.prepare_folder(initial_state, f"at-{fault.at}")
        if not fault.below.is_file():
            fault = replace(fault, below=folder)
        ended = self.cut(folder, fault=fault)
        final_state = identify_result(folder, self.descriptor, self.complete_results)
        if fault.kill:
            assert ended in (ProcessResult(-9, "", ""), SUCCESS)
            assert final_state in {"new", initial_state, "nothing"}
        elif ended.exit_code == 0:
            assert ended == SUCCESS
            assert final_state == "new"
        else:
            ended.error_line()
            self._check_failed(folder, initial_state, final_state, fault)
        self._check_next_run(folder)
        rmtree(folder)
        return ended

    def _arguments(self, folder: Path, result: str) -> list[object]:
        arguments: list[object] = ["cut", self.image, "-o", folder / self.name, "--quiet"]
        arguments += ["--threads", "2"]
        if "." not in self.name:
            arguments += ["--layout", "zoomify"]
        if result == "old":
            arguments += ["--format", "deflate" if self.name.endswith(".tif") else "png"]
        if (folder / self.descriptor).exists():
            arguments.append("--overwrite")
        if self.resume:
            arguments.append("--resume")
        return arguments

    def _check_failed(
        self, folder: Path, initial_state: str, final_state: str, fault: SyscallFault
    ) -> None:
        """The result is the one before the run, and no other file is left unless faults repeat."""
        if fault.sticky:
            return
        assert final_state == initial_state
        if not self.resume:
            assert (
                changed_files(file_tree(folder), self.complete_results.get(initial_state, {})) == []
            )

    def _check_next_run(self, folder: Path) -> None:
        """The next run succeeds, and leaves the result and nothing else."""
        ended = self.cut(folder)
        if not ended.stderr.endswith(EXISTS_MESSAGE):
            assert ended == SUCCESS
        assert changed_files(file_tree(folder), self.complete_results["new"]) == []
