"""The table of docs/RELIABILITY.md: what fasttile does, and what libvips, when things go wrong.

Each row is a fault that both programs really meet. The document has what was seen:

    python tests/faults/table.py           shows the table
    python tests/faults/table.py --write   puts it into the document
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfile, rmtree
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from disks import mount_disk
from PIL import Image
from programs import FASTTILE_COMMAND, TIMEOUT_SECONDS, VIPS_COMMAND, start_process
from shim import SyscallFault, build_shim
from trees import FileTree, count_tiles, file_tree, published_files

RELIABILITY_PAGE = Path(__file__).parents[2] / "docs" / "RELIABILITY.md"

TABLE_BEGIN, TABLE_END = "<!-- seen by tests/faults/table.py -->", "<!-- end -->"

PROGRAMS = {"fasttile": [*FASTTILE_COMMAND, "cut"], "libvips": VIPS_COMMAND}

NAME = "x.dzi"

NOT_SEEN = "not seen"
"""In place of what would have to be mounted."""


@dataclass
class FaultTrial:
    """One program on its way into one fault.

    Attributes:
        program: "fasttile" or "libvips".
        room: An empty folder.
        images: What is cut, by names.
        shim: The library that lets calls fail.
    """

    program: str
    scratch_folder: Path
    images: Mapping[str, Path]
    shim_library: Path

    @property
    def output_folder(self) -> Path:
        """Where the results go."""
        return self.scratch_folder / "out"

    def start(
        self,
        image: Path,
        output_folder: Path | None = None,
        *,
        fault: SyscallFault | None = None,
        limit: tuple[int, int] | None = None,
    ) -> subprocess.Popen[str]:
        """Begin to cut an image, where an older result may be replaced."""
        output_folder = output_folder or self.output_folder
        output_folder.mkdir(parents=True, exist_ok=True)
        words: list[object] = [image, output_folder / NAME]
        if self.program == "fasttile":
            words = [image, "-o", output_folder / NAME, "--overwrite"]
        extra: Mapping[str, str] = {"VIPS_CONCURRENCY": "1"}
        return start_process(
            PROGRAMS[self.program],
            *words,
            extra={**extra, **(fault.environment(self.shim_library) if fault else {})},
            preexec_fn=(lambda: resource.setrlimit(limit[0], (limit[1],) * 2)) if limit else None,
        )

    def start_until_tiles(self, image: Path) -> subprocess.Popen[str]:
        """One that has come so far that there are some tiles."""
        process = self.start(image)
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while count_tiles(self.output_folder) < 50:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.002)
        return process

    def complete_result(self, image: Path, *, keep: bool = False) -> FileTree:
        """The undisturbed result, which is removed, or stays to be replaced."""
        process = self.start(image)
        _, said = process.communicate(timeout=TIMEOUT_SECONDS)
        assert process.returncode == 0, said
        found = visible_files(self.output_folder)
        if not keep:
            rmtree(self.output_folder)
        return found

    def describe_outcome(
        self,
        process: subprocess.Popen[str],
        output_folder: Path | None = None,
        **complete_results: FileTree,
    ) -> str:
        """How a cut of "new" ended, and which result exists then."""
        _, said = process.communicate(timeout=TIMEOUT_SECONDS)
        code, found = process.returncode, visible_files(output_folder or self.output_folder)
        if code < 0:
            return f"{signal.Signals(-code).name}; {describe_state(found, complete_results)}"
        message = ", says why" if said.strip() else ", **says nothing**"
        if code == 0 and found == complete_results["new"]:
            message = ""
        return f"exit {code}{message}; {describe_state(found, complete_results)}"


def visible_files(output_folder: Path) -> FileTree:
    """What a visitor finds, but for libvips' own notes, which hold the time."""
    found = published_files(file_tree(output_folder)) if output_folder.exists() else {}
    return {path: data for path, data in found.items() if not path.endswith("vips-properties.xml")}


def describe_state(files: FileTree, complete_results: Mapping[str, FileTree]) -> str:
    """In words, what is found."""
    for name, complete in complete_results.items():
        if files == complete:
            return "the result is complete" if name == "new" else "the older result is intact"
    if NAME not in files:
        return "tiles without a descriptor" if files else "no result"
    if "old" in complete_results:
        return "**the descriptor exists, the tiles are of two images**"
    return "**the descriptor exists, tiles are missing or damaged**"


# ---- the faults --------------------------------------------------------------------------------


def fail_call(
    call: str, share: float, image: str = "small", *, over_older_result: bool = False, **more: Any
) -> Callable[[FaultTrial], str]:
    """A fault at a call, so far into all calls of its kinds; perhaps over an older result."""

    def run_trial(trial: FaultTrial) -> str:
        source = trial.images[image]
        trace = trial.scratch_folder / "trace"
        trial.start(
            source, fault=SyscallFault(trial.output_folder, call, trace=trace)
        ).communicate()
        at = int(share * len(trace.read_text().splitlines()))
        results = {"new": visible_files(trial.output_folder)}
        rmtree(trial.output_folder)
        if over_older_result:
            results["old"] = trial.complete_result(trial.images["old"], keep=True)
        return trial.describe_outcome(
            trial.start(source, fault=SyscallFault(trial.output_folder, call, at, **more)),
            **results,
        )

    return run_trial


def run_on_small_disk(
    options: str, image: str = "small", remount_options: str = ""
) -> Callable[[FaultTrial], str]:
    """A file system of its own."""

    def run_trial(trial: FaultTrial) -> str:
        complete = trial.complete_result(trial.images[image])
        place = trial.scratch_folder / "disk"
        place.mkdir()
        with mount_disk(place, options) as disk:
            if disk is None:
                return NOT_SEEN
            out = disk.path / "out"
            out.mkdir()
            if remount_options:
                disk.remount(remount_options)
            return trial.describe_outcome(trial.start(trial.images[image], out), out, new=complete)

    return run_trial


def run_terminated(trial: FaultTrial) -> str:
    complete = trial.complete_result(trial.images["large"])
    process = trial.start_until_tiles(trial.images["large"])
    process.terminate()
    return trial.describe_outcome(process, new=complete)


def run_with_file_size_limit(trial: FaultTrial) -> str:
    small = trial.images["small"]
    complete = trial.complete_result(small)
    return trial.describe_outcome(
        trial.start(small, limit=(resource.RLIMIT_FSIZE, 20_000)), new=complete
    )


def move_destination(trial: FaultTrial) -> str:
    complete = trial.complete_result(trial.images["large"])
    process = trial.start_until_tiles(trial.images["large"])
    trial.output_folder.rename(trial.scratch_folder / "moved")
    return trial.describe_outcome(process, new=complete)


def start_second_run(trial: FaultTrial) -> str:
    """Another image goes to the same place, while the first run is at work."""
    large, other = trial.images["large"], trial.images["other"]
    results = {"new": trial.complete_result(large), "old": trial.complete_result(other)}
    first = trial.start_until_tiles(large)
    first.send_signal(signal.SIGSTOP)
    process = trial.start(other)
    _, said = process.communicate(timeout=TIMEOUT_SECONDS)
    first.send_signal(signal.SIGCONT)
    ended = f"exit {process.returncode}{', says why' * bool(said.strip())}"
    return f"the second: {ended}; the first: {trial.describe_outcome(first, **results)}"


def truncate_source_before(trial: FaultTrial) -> str:
    small = trial.images["small"]
    complete = trial.complete_result(small)
    short = trial.scratch_folder / small.name
    short.write_bytes(small.read_bytes()[: small.stat().st_size // 2])
    return trial.describe_outcome(trial.start(short), new=complete)


def change_source_while_read(change: Callable[[Path], None]) -> Callable[[FaultTrial], str]:
    """The source changes."""

    def run_trial(trial: FaultTrial) -> str:
        large = trial.images["large"]
        complete = trial.complete_result(large)
        source = trial.scratch_folder / large.name
        copyfile(large, source)
        process = trial.start_until_tiles(source)
        change(source)
        return trial.describe_outcome(process, new=complete)

    return run_trial


def truncate_source(source: Path) -> None:
    os.truncate(source, source.stat().st_size // 8)


def overwrite_source(source: Path) -> None:
    size = source.stat().st_size
    with source.open("r+b") as file:
        file.seek(size * 3 // 4)
        file.write(bytes(size // 8))


FAULT_TRIALS: dict[str, Callable[[FaultTrial], str]] = {
    "a disk of 200 kB is full": run_on_small_disk("size=200k"),
    "a disk of 60 kB is full, tiles below 3 kB": run_on_small_disk("size=60k", "smooth"),
    "the disk is full from the middle on (ENOSPC)": fail_call(
        "write", 0.5, error="ENOSPC", sticky=True
    ),
    "the same, with tiles below 3 kB (ENOSPC)": fail_call(
        "write", 0.5, "smooth", error="ENOSPC", sticky=True
    ),
    "the quota is reached for a moment (EDQUOT)": fail_call("write", 0.5, error="EDQUOT"),
    "a write fails (EIO)": fail_call("write", 0.5, error="EIO"),
    "the same, with tiles below 3 kB (EIO)": fail_call("write", 0.5, "smooth", error="EIO"),
    "a file system reports a failure at close (EIO)": fail_call("close", 0.5, error="EIO"),
    "no file handle is free for a moment (EMFILE)": fail_call("open", 0.5, error="EMFILE"),
    "no folder can be created (EACCES)": fail_call("mkdir", 0.5, error="EACCES", sticky=True),
    "no file may exceed 20 kB (RLIMIT_FSIZE)": run_with_file_size_limit,
    "the disk is read-only": run_on_small_disk("size=1m", remount_options="ro"),
    "kill -9": fail_call("write", 0.5, kill=True),
    "kill -9 over an older result": fail_call("write", 0.5, over_older_result=True, kill=True),
    "a full disk over an older result": fail_call(
        "write", 0.5, over_older_result=True, error="ENOSPC", sticky=True
    ),
    "SIGTERM": run_terminated,
    "the destination is moved away": move_destination,
    "a second run, of another image, on the same destination": start_second_run,
    "the source was cut short before": truncate_source_before,
    "the source is cut short while it is read": change_source_while_read(truncate_source),
    "the source is written to while it is read": change_source_while_read(overwrite_source),
}


# ---- the table ---------------------------------------------------------------------------------


def make_sources(folder: Path) -> dict[str, Path]:
    """Images of 20 tiles, and of about 400, each with another of the same size."""
    made = {}
    for name, size, seed in (
        ("small", 600, 1),
        ("old", 600, 2),
        ("large", 4400, 3),
        ("other", 4400, 4),
    ):
        noise = np.random.default_rng(seed).integers(0, 256, (size // 4, size // 4, 3), np.uint8)
        made[name] = folder / f"{name}.tif"
        Image.fromarray(noise.repeat(4, axis=0).repeat(4, axis=1)).save(made[name])
    made["smooth"] = folder / "smooth.tif"
    Image.linear_gradient("L").resize((600, 600)).convert("RGB").save(made["smooth"])
    return made


def observe_fault(fault: str) -> dict[str, str]:
    """What each program does about a fault."""
    cells = {}
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    for program in PROGRAMS:
        with TemporaryDirectory(dir=memory) as name:
            room = Path(name) / "room"
            room.mkdir()
            trial = FaultTrial(program, room, make_sources(Path(name)), build_shim(Path(name)))
            cells[program] = FAULT_TRIALS[fault](trial)
    return cells


def table_row(fault: str, cells: Mapping[str, str]) -> str:
    return f"| {fault} | {cells['fasttile']} | {cells['libvips']} |"


def make_table() -> str:
    import pyvips

    version = ".".join(str(pyvips.version(part)) for part in range(3))
    lines = [f"| fault | fasttile | libvips {version} |", "|---|---|---|"]
    for fault in FAULT_TRIALS:
        lines.append(table_row(fault, observe_fault(fault)))
        print(lines[-1], file=sys.stderr)
    return "\n".join(lines)


def main() -> None:
    made = make_table()
    if "--write" not in sys.argv[1:]:
        print(made)
        return
    text = RELIABILITY_PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(TABLE_BEGIN)
    _, _, after = rest.partition(TABLE_END)
    RELIABILITY_PAGE.write_text(
        f"{before}{TABLE_BEGIN}\n\n{made}\n\n{TABLE_END}{after}", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
