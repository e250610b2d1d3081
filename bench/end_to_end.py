"""Times processes, in turn, against their peers and the floors; writes RESULTS.md.

Every program first cuts the image once under the eyes of peak.py and compare.py: that run is
not timed, and without a faultless output no time of the program counts. Then the programs take
turns, A B C A B C ..., each from fork to exit. What is quoted is the median, and the median of
the ratios of runs in the same round: absolute times lie on shared machines.

    python bench/end_to_end.py [--quick | --headlines] [--cases 100-rgb,400-rgb] [--runs 5]
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import images
import machine
import report
from cases import BENCH, CASES, FLOOR_WAYS, HEADLINES, Case, Contender, command, is_installed
from dzi import Job, tile_folder
from results import CaseResults, Result
from runs import FloorServer, ProgramError, run_measured, run_timed

SHM = Path("/dev/shm")


@dataclass(frozen=True)
class Folders:
    """Folders: of the input images, and for outputs on either kind of file system."""

    inputs: Path
    tmpfs: Path
    disk: Path

    def job(self, case: Case, contender: Contender) -> Job:
        """What a contender has to do; its output's folder is made."""
        source = images.cached_image(
            self.inputs, case.width, case.height, case.bands, case.kind, case.suffix
        )
        root = self.tmpfs if case.file_system == "tmpfs" else self.disk
        folder = root / f"{case.key}-{contender.program}-{contender.cores}"
        folder.mkdir(parents=True, exist_ok=True)
        return Job(source, folder / "image.dzi", format=case.format)


def run_case(case: Case, folders: Folders, runs: int) -> CaseResults:
    """Measure all contenders of a case that are installed."""
    contenders = [contender for contender in case.contenders if is_installed(contender.program)]
    results = {contender.label: Result(contender) for contender in contenders}
    jobs = {contender.label: folders.job(case, contender) for contender in contenders}
    try:
        _measure_memory_and_compare(case, results, jobs)
        with ExitStack() as stack:
            floor = _warm_floor(results, jobs, stack)
            for number in range(runs):
                for result in results.values():
                    if not result.faults and number < (result.contender.runs or runs):
                        _time_once(result, jobs[result.contender.label], case, floor)
    finally:
        for job in jobs.values():
            _empty_output_folder(job)
    return CaseResults(results)


def _measure_memory_and_compare(
    case: Case, results: dict[str, Result], jobs: dict[str, Job]
) -> None:
    """The run before the first timed one: memory, and whether the output is right."""
    outputs = []
    for label, result in results.items():
        if result.contender.program in FLOOR_WAYS:
            continue
        job = jobs[label]
        print(f"  {label}: memory and output", flush=True)
        try:
            result.peak = run_measured(
                command(result.contender.program, job), result.contender.cores
            )
            outputs.append(label)
        except ProgramError as failure:
            result.faults.append(f"failed: {failure}")
    for label, finding in _compare(case, outputs, jobs).items():
        result = results[label]
        result.tiles, result.bytes = finding["tiles"], finding["bytes"]
        result.looked_at, result.worst = finding["looked_at"], finding["worst"]
        result.faults += finding["faults"]
    for label in outputs:
        _empty_output_folder(jobs[label])


def _compare(case: Case, labels: list[str], jobs: dict[str, Job]) -> dict[str, dict[str, Any]]:
    """compare.py's findings. It is a process of its own: this one stays small and maps nothing."""
    if not labels:
        return {}
    job = jobs[labels[0]]
    outputs = [f"{label}={jobs[label].output}" for label in labels]
    script = "profiles.py" if case.converts else "compare.py"
    words = [sys.executable, str(BENCH / script), str(job.input), *outputs]
    done = subprocess.run([*words, *job.arguments()], check=True, stdout=subprocess.PIPE)
    findings: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return findings


def _warm_floor(
    results: dict[str, Result], jobs: dict[str, Job], stack: ExitStack
) -> FloorServer | None:
    """The floors' process, or None where no floor has a turn. It encodes all tiles to compare."""
    floors = [result for result in results.values() if result.contender.program in FLOOR_WAYS]
    if not floors:
        return None
    print("  floors: packing and comparing", flush=True)
    try:
        server = stack.enter_context(FloorServer(jobs[floors[0].contender.label]))
    except ProgramError as failure:
        for result in floors:
            result.faults.append(f"failed: {failure}")
        return None
    tiler = results.get("fasttile")
    for result in floors:
        result.bytes = server.bytes
        if tiler and tiler.bytes and tiler.bytes != server.bytes:
            fault = f"encodes {server.bytes} bytes where fasttile writes {tiler.bytes}"
            result.faults.append(fault)
    return server


def _time_once(result: Result, job: Job, case: Case, floor: FloorServer | None) -> None:
    """A contender's turn. What is cleaned or synced is so outside of the time."""
    contender = result.contender
    try:
        if contender.program in FLOOR_WAYS:
            assert floor is not None
            found = floor.run(FLOOR_WAYS[contender.program], contender.cores)
            seconds, cpu = found["seconds"], found["cpu"]
        else:
            if case.file_system == "disk":
                os.sync()  # so that nobody pays for what the one before has left to write
            seconds, cpu = run_timed(command(contender.program, job), contender.cores)
            _empty_output_folder(job)
    except ProgramError as failure:
        result.faults.append(f"failed: {failure}")
        return
    print(f"  {contender.label}: {seconds:.2f} s", flush=True)
    result.seconds.append(seconds)
    result.cpu.append(cpu)


def _empty_output_folder(job: Job) -> None:
    """Remove an output and all else in its folder, but not the folder."""
    folder = tile_folder(job.output).parent
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Time fasttile beside its peers and the floor, and write RESULTS.md.",
        epilog=f"cases: {', '.join(case.key for case in CASES)}",
    )
    work = BENCH.parent / ".bench"
    parser.add_argument("--quick", action="store_true", help="small images, 3 runs")
    parser.add_argument(
        "--headlines", action="store_true", help="the main ratios only, 2 runs, under 3 minutes"
    )
    parser.add_argument("--cases", help="only these, with commas between")
    parser.add_argument("--runs", type=int, help="rounds, 5 by default")
    parser.add_argument("--work", type=Path, default=work, help="cache of the input images")
    parser.add_argument("--out", type=Path, default=SHM, help="where outputs on tmpfs go")
    parser.add_argument("--disk", type=Path, help="where outputs on disk go, the cache by default")
    parser.add_argument("--results", type=Path, help="where the report goes")
    given = parser.parse_args()
    given.runs = given.runs or (2 if given.headlines else 3 if given.quick else 5)
    part = given.quick or given.headlines or given.cases
    # Only a complete run may replace the results in the repository.
    given.results = given.results or (given.work / "RESULTS.md" if part else BENCH / "RESULTS.md")
    return given


def _selected_cases(arguments: argparse.Namespace) -> list[Case]:
    if arguments.headlines:
        return [
            replace(case, contenders=HEADLINES[case.key]) for case in CASES if case.key in HEADLINES
        ]
    if arguments.cases:
        wanted = arguments.cases.split(",")
        known = {case.key: case for case in CASES}
        if unknown := [key for key in wanted if key not in known]:
            sys.exit(f"no case {', '.join(unknown)}; there are {', '.join(known)}")
        return [known[key] for key in wanted]
    return [case for case in CASES if case.quick or not arguments.quick]


def main() -> None:
    """Measure the cases on the command line, writing the report after each."""
    given = _parse_arguments()
    run = f"-{os.getpid()}"
    places = Folders(
        given.work, given.out / f"fasttile-bench{run}", (given.disk or given.work) / f"out{run}"
    )
    places.tmpfs.mkdir(parents=True)
    places.disk.mkdir(parents=True)
    words = shlex.join(["python", "bench/end_to_end.py", *sys.argv[1:]])
    document = report.Report(words, machine.describe({"tmpfs": given.out, "disk": places.disk}))
    try:
        for case in _selected_cases(given):
            print(f"{case.key}: {case.title}", flush=True)
            document.add(case, run_case(case, places, given.runs))
            given.results.parent.mkdir(parents=True, exist_ok=True)
            given.results.write_text(document.text(), encoding="utf-8")
    finally:
        shutil.rmtree(places.tmpfs, ignore_errors=True)
        shutil.rmtree(places.disk, ignore_errors=True)
    print(document.headlines() if given.headlines else document.text())
    print(f"written to {given.results}")


if __name__ == "__main__":
    main()
