"""Bounds for many cores: how long the GIL is held, what is serial, and Amdahl's law for both.

Each image is cut on two processors in turn by fasttile, by fasttile under the probe gil_probe.c,
and by libvips with one thread on one processor and with two threads on two. The probe is exact: it
notes each change of the GIL's `locked` flag under the GIL's own mutex, and each thread's processor
time at its end (see its first lines). Its cost is printed: the time with the probe over the time
without. Some 10 ms of it are the start of probed.py, which count as outside of the cut.

"Serial" of fasttile is: the time outside of the cut (start, planning, finishing) and its busiest
single part, which is the walk (the calling thread), the writer, a decoder, or all processor time
under the GIL. Encoders are as many as processors. For N processors, C seconds of processor time
in the cut, of which b in that part, and o seconds outside:

    Amdahl      o + b + (C - b) / N     nothing runs beside the busiest part
    overlapped  o + max(b, C / N)       everything runs beside it

The truth is between them while memory and caches keep up. Of libvips, T1 and T2 seconds give the
serial part s = 2 T2 - T1, within 0 and T1, and s + (T1 - s) / N.

    python bench/many_cores.py [--side 20000] [--runs 3] [--quick] [--free-threaded PYTHON]

--free-threaded takes a second interpreter, built with --disable-gil, in which fasttile is installed
(PYTHONPATH is removed): the same cuts with PYTHON_GIL=1 and 0. Needs gcc, and the headers of the
interpreters.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import images
import report_table
from dzi import Job, tile_folder
from runs import run_measured, run_timed

BENCH = Path(__file__).parent
CORES = (1, 2, 4, 8, 16, 32)
SUFFIXES = {".tif": "TIFF", ".jpg": "JPEG"}
Numbers = dict[str, int]


@dataclass
class Probed:
    """One run under the probe, in seconds, or processor seconds where it says so.

    Attributes:
        wall: From fork to exit.
        cut: From the start of the writer thread to its end.
        cpu: Processor time of the cut, all threads.
        parts: Processor time of each part that one thread at a time can do.
        held: Time in the cut during which a thread held the GIL.
        waited: Time in the cut that threads waited for it, summed up.
        takes: How often it was taken in the cut.
        encoders: Processor time of the encoder threads.
    """

    wall: float
    cut: float
    cpu: float
    parts: dict[str, float]
    held: float
    waited: float
    takes: int
    encoders: float

    @property
    def outside(self) -> float:
        """Time before and after the cut."""
        return self.wall - self.cut

    @property
    def busiest(self) -> str:
        """The part with the most processor time."""
        return max(self.parts, key=self.parts.__getitem__)

    def amdahl(self, cores: float) -> float:
        """Seconds on a number of processors if nothing runs beside the busiest part."""
        serial = self.parts[self.busiest]
        return self.outside + serial + (self.cpu - serial) / cores

    def overlapped(self, cores: float) -> float:
        """Seconds on a number of processors if everything runs beside the busiest part."""
        return self.outside + max(self.parts[self.busiest], self.cpu / cores)


def build_probe(python: str, folder: Path) -> Path:
    """Compile the probe for an interpreter."""
    code = "import sysconfig; print(sysconfig.get_path('include'))"
    done = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True)
    include = Path(done.stdout.strip())
    folders = [include, include / "internal", include / "internal" / "mimalloc"]
    probe = folder / f"probe-{include.name}.so"
    source = str(BENCH / "gil_probe.c")
    flags = [f"-I{path}" for path in folders]
    subprocess.run(
        ["gcc", "-O2", "-shared", "-fPIC", *flags, "-o", str(probe), source, "-ldl", "-lpthread"],
        check=True,
    )
    return probe


def fasttile_command(python: str, job: Job, start: Sequence[str] = ("-m", "fasttile")) -> list[str]:
    """A cut by an interpreter."""
    options = [*job.arguments(), "--quiet"]
    return [python, *start, "cut", str(job.input), "-o", str(job.output), *options]


def vips_command(job: Job, threads: int) -> list[str]:
    """The same by libvips with a number of threads."""
    start = ["env", f"VIPS_CONCURRENCY={threads}", sys.executable, str(BENCH / "vips_tiler.py")]
    return [*start, str(job.input), str(job.output), *job.arguments()]


def run_probed(python: str, probe: Path, job: Job, variables: Sequence[str] = ()) -> Probed:
    """Run a cut under the probe, with further arguments of `env`."""
    out = probe.with_suffix(".txt")
    settings = [*variables, f"LD_PRELOAD={probe}", f"GIL_PROBE_OUT={out}"]
    start = [str(BENCH / "probed.py"), str(probe), "fasttile"]
    began = time.monotonic()
    wall, _ = run_timed(["env", *settings, *fasttile_command(python, job, start)], 2)
    marks, threads = _read_probe(out)
    if began > marks["begin"]["wall"] / 1e9:
        raise SystemExit(f"{out}: the probe has written nothing")
    used = {name: marks["end"][name] - marks["begin"][name] for name in marks["end"]}
    parts = {"walk": used["main_cpu"] / 1e9, "writer": 0.0, "GIL": used["held_cpu"] / 1e9}
    encoders = 0.0
    for name, numbers in threads:
        if name == "fasttile-encoder":
            encoders += numbers["cpu"] / 1e9
        elif name.startswith("fasttile-"):
            role = name.removeprefix("fasttile-")
            parts[role] = parts.get(role, 0.0) + numbers["cpu"] / 1e9
    return Probed(
        wall,
        used["wall"] / 1e9,
        used["process_cpu"] / 1e9,
        parts,
        used["held"] / 1e9,
        used["waited"] / 1e9,
        used["takes"],
        encoders,
    )


def _read_probe(path: Path) -> tuple[dict[str, Numbers], list[tuple[str, Numbers]]]:
    """The marks by name, and the threads."""
    marks: dict[str, Numbers] = {}
    threads: list[tuple[str, Numbers]] = []
    for line in path.read_text().splitlines():
        kind, name, *pairs = line.split()
        name = name.removeprefix("name=")
        split = (pair.split("=") for pair in pairs)
        numbers = {key: int(value) for key, value in split}
        if kind == "mark":
            marks[name] = numbers
        else:
            threads.append((name, numbers))
    return marks, threads


@dataclass
class Measurement:
    """Times of one image, in seconds: medians, and the probed run of median length."""

    plain: float
    probed: Probed
    probe_cost: float
    vips: tuple[float, float]

    def vips_amdahl(self, cores: float) -> float:
        """Seconds that libvips would take on a number of processors."""
        one, two = self.vips
        serial = min(max(2 * two - one, 0.0), one)
        return serial + (one - serial) / cores


def measure(job: Job, probe: Path, runs: int) -> Measurement:
    """Compare the outputs, then run all in turn."""
    _compare_outputs(job)
    plain, probed, one, two = [], [], [], []
    for _ in range(runs):
        plain.append(_timed(fasttile_command(sys.executable, job), job, 2))
        probed.append(run_probed(sys.executable, probe, job))
        _empty(job)
        one.append(_timed(vips_command(job, 1), job, 1))
        two.append(_timed(vips_command(job, 2), job, 2))
        print(
            f"  fasttile {plain[-1]:.2f} s, probed {probed[-1].wall:.2f} s; libvips on one "
            f"processor {one[-1]:.2f} s, on two {two[-1]:.2f} s",
            flush=True,
        )
    cost = median(run.wall / wall for run, wall in zip(probed, plain, strict=True))
    middle = sorted(probed, key=lambda run: run.cut)[len(probed) // 2]
    return Measurement(median(plain), middle, cost, (median(one), median(two)))


def _timed(command: list[str], job: Job, cores: int) -> float:
    seconds, _ = run_timed(command, cores)
    _empty(job)
    return seconds


def _empty(job: Job) -> None:
    """Remove the output."""
    shutil.rmtree(job.output.parent)
    job.output.parent.mkdir()


def _compare_outputs(job: Job) -> None:
    """End the program unless both outputs are faultless."""
    for name, command in (
        ("fasttile", fasttile_command(sys.executable, job)),
        ("libvips", vips_command(job, 2)),
    ):
        run_measured(command, 2)
        words = [sys.executable, str(BENCH / "compare.py"), str(job.input)]
        done = subprocess.run(
            [*words, f"{name}={job.output}", *job.arguments()], check=True, stdout=subprocess.PIPE
        )
        if b'"faults": []' not in done.stdout:
            raise SystemExit(f"{name}: no time counts: {done.stdout.decode()}")
        _empty(job)


def probe_rows(measurements: dict[str, Measurement]) -> list[tuple[str, ...]]:
    """The table of what is serial."""
    rows: list[tuple[str, ...]] = [("", *measurements)]

    def add(label: str, cells: Sequence[str]) -> None:
        rows.append((label, *cells))

    runs = [one.probed for one in measurements.values()]
    add("from fork to exit, without the probe", [f"{m.plain:.2f} s" for m in measurements.values()])
    add("time with the probe over without", [f"{m.probe_cost:.2f}" for m in measurements.values()])
    add("outside of the cut", [f"{run.outside:.2f} s" for run in runs])
    add("the cut", [f"{run.cut:.2f} s" for run in runs])
    add("GIL held, share of the cut", [f"{100 * run.held / run.cut:.0f} %" for run in runs])
    add("processor time under the GIL", [f"{run.parts['GIL']:.2f} s" for run in runs])
    add("waits for the GIL, all threads", [f"{run.waited:.2f} s" for run in runs])
    add("takings of the GIL", [f"{run.takes:,}" for run in runs])
    for part in dict.fromkeys(part for run in runs for part in run.parts if part != "GIL"):
        cells = [f"{run.parts[part]:.2f} s" if part in run.parts else "" for run in runs]
        add(f"processor time of the {part}", cells)
    add("of the encoders", [f"{run.encoders:.2f} s" for run in runs])
    add("of the cut, all threads", [f"{run.cpu:.2f} s" for run in runs])
    add("busiest serial part", [run.busiest for run in runs])
    return rows


def amdahl_rows(measurements: dict[str, Measurement]) -> list[tuple[str, ...]]:
    """The table of seconds by processors."""
    rows: list[tuple[str, ...]] = [("", "2, measured", *(f"{n}" for n in CORES), "without end")]
    limits = (*CORES, float("inf"))
    for title, one in measurements.items():
        amdahl = [one.probed.amdahl(n) for n in limits]
        overlapped = [one.probed.overlapped(n) for n in limits]
        vips = [one.vips_amdahl(n) for n in limits]
        ratios = [b / a for a, b in zip(amdahl, vips, strict=True)]
        for label, measured, cells in (
            ("fasttile, Amdahl", one.plain, amdahl),
            ("fasttile, overlapped", one.plain, overlapped),
            ("libvips, Amdahl", one.vips[1], vips),
        ):
            rows.append((f"{title}: {label}", *(f"{cell:.2f} s" for cell in (measured, *cells))))
        ratio = one.vips[1] / one.plain
        rows.append((f"{title}: times as fast", *(f"{cell:.1f}" for cell in (ratio, *ratios))))
    return rows


def free_threaded_rows(
    python: str, jobs: dict[str, Job], folder: Path, runs: int
) -> list[tuple[str, ...]]:
    """The table of a free-threaded interpreter with and without its GIL."""
    probe = build_probe(python, folder)
    head = (
        "",
        "PYTHON_GIL",
        "on 2",
        "on 1",
        "1 to 2",
        "GIL held",
        "waits",
        "under the GIL",
        "walk",
    )
    rows: list[tuple[str, ...]] = [head]
    for title, job in jobs.items():
        print(f"{title}: GIL enabled after a cut: {_gil_after_cut(python, job)}", flush=True)
        two: dict[str, list[float]] = {"1": [], "0": []}
        one: dict[str, list[float]] = {"1": [], "0": []}
        probed: dict[str, Probed] = {}
        digests = set()
        for _ in range(runs):
            for gil in two:
                settings = ["-u", "PYTHONPATH", f"PYTHON_GIL={gil}"]
                command = ["env", *settings, *fasttile_command(python, job)]
                two[gil].append(run_timed(command, 2)[0])
                digests.add(_digest_tiles(job))
                _empty(job)
                one[gil].append(_timed(command, job, 1))
                probed[gil] = run_probed(python, probe, job, settings)
                _empty(job)
                print(f"  PYTHON_GIL={gil}: {two[gil][-1]:.2f}, {one[gil][-1]:.2f} s", flush=True)
        if len(digests) != 1:
            raise SystemExit(f"{title}: the tiles differ from run to run")
        for gil, run in probed.items():
            ratio = median(a / b for a, b in zip(one[gil], two[gil], strict=True))
            held = f"{100 * run.held / run.cut:.0f} %" if gil == "1" else "none"
            cells = (f"{median(two[gil]):.2f} s", f"{median(one[gil]):.2f} s", f"{ratio:.2f}", held)
            spent = (run.waited, run.parts["GIL"], run.parts["walk"])
            rows.append((title, gil, *cells, *(f"{seconds:.2f} s" for seconds in spent)))
    return rows


def _gil_after_cut(python: str, job: Job) -> str:
    """State of the GIL of an interpreter after a cut, with all modules that it imports."""
    code = (
        "import sys, fasttile; fasttile.cut(sys.argv[1], sys.argv[2], quality=75); "
        "print(sys._is_gil_enabled(), sys.version)"
    )
    words = [python, "-c", code, str(job.input), str(job.output)]
    removed = ("PYTHON_GIL", "PYTHONPATH")
    environment = {key: value for key, value in os.environ.items() if key not in removed}
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=True)
    _empty(job)
    return (done.stdout + done.stderr).strip()


def _digest_tiles(job: Job) -> str:
    digest = hashlib.sha256()
    for path in sorted(tile_folder(job.output).glob("*/*.jpg")):
        digest.update(f"{path.parent.name}/{path.name}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description="Bound the gain by more processors.")
    parser.add_argument("--side", type=int, default=20_000, help="of the images, in pixels")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="small images, 1 round")
    parser.add_argument("--free-threaded", metavar="PYTHON", help="an interpreter without a GIL")
    parser.add_argument("--work", type=Path, default=BENCH.parent / ".bench")
    parser.add_argument("--out", type=Path, default=Path("/dev/shm"), help="where results go")
    given = parser.parse_args()
    side, runs = (4_000, 1) if given.quick else (given.side, given.runs)
    with (
        tempfile.TemporaryDirectory(prefix="fasttile-probe-") as build,
        tempfile.TemporaryDirectory(prefix="fasttile-cores-", dir=given.out) as scratch,
    ):
        output = Path(scratch) / "out" / "image.dzi"
        output.parent.mkdir()
        jobs = {
            name: Job(images.cached_image(given.work, side, side, 3, "photo", suffix), output)
            for suffix, name in SUFFIXES.items()
        }
        probe = build_probe(sys.executable, Path(build))
        measurements = {}
        for title, job in jobs.items():
            print(f"{title}:", flush=True)
            measurements[title] = measure(job, probe, runs)
        size = f"{side:,} × {side:,}, two processors"
        print(report_table.format_table(f"Serial parts: {size}", probe_rows(measurements)))
        print(report_table.format_table("Seconds by processors", amdahl_rows(measurements)))
        if given.free_threaded:
            rows = free_threaded_rows(given.free_threaded, jobs, Path(build), runs)
            print(report_table.format_table(f"Free-threaded Python: {size}", rows))
        else:
            print("\nno free-threaded Python was measured: see --free-threaded")


if __name__ == "__main__":
    main()
