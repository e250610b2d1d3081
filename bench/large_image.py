"""A large image cut in shards: by threads, and by one and two worker processes, in turn.

The results are compared name by name and byte by byte once. A peak is that of the largest process
(a worker, or the program itself), and that of all processes together.

    python bench/large_image.py [--side 100000] [--bands 1] [--runs 3] [--out FOLDER]
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import sys
import tempfile
from pathlib import Path
from statistics import median

import images
import peak
import report_table
from runs import run_timed

BENCH = Path(__file__).parent
MODES = {"2 threads": [], "1 worker": ["--workers", "1"], "2 workers": ["--workers", "2"]}
QUALITY = 75


def cut_command(source: Path, dest: Path, arguments: list[str]) -> list[str]:
    """The command line of a mode."""
    start = [sys.executable, "-m", "fasttile", "cut", str(source), "-o", str(dest / "large.dzi")]
    return [*start, "--quality", str(QUALITY), "--quiet", *arguments]


def digest_folder(folder: Path) -> tuple[int, str]:
    """The number of files of a result, and a digest of their content."""
    digest = hashlib.sha256()
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in paths:
        digest.update(f"{path.relative_to(folder)}\0".encode())
        digest.update(path.read_bytes())
    return len(paths), digest.hexdigest()


def compare(source: Path, dest: Path, runs: int) -> list[tuple[str, ...]]:
    """Run all modes in turn; return the table's rows."""
    peaks, results = {}, {}
    for mode, arguments in MODES.items():
        peaks[mode] = peak.measure(cut_command(source, dest, arguments))
        if peaks[mode].status:
            raise SystemExit(f"{mode}: exit status {peaks[mode].status}")
        results[mode] = digest_folder(dest)
        shutil.rmtree(dest)
        print(f"  {mode}: {results[mode][0]:,} files", flush=True)
    if len(set(results.values())) != 1:
        raise SystemExit(f"the results differ: {results}")
    seconds: dict[str, list[float]] = {mode: [] for mode in MODES}
    for _ in range(runs):
        for mode, arguments in MODES.items():
            seconds[mode].append(run_timed(cut_command(source, dest, arguments), 2)[0])
            shutil.rmtree(dest)
            print(f"  {mode}: {seconds[mode][-1]:.1f} s", flush=True)
    rows: list[tuple[str, ...]] = [
        ("", "median", "of the threads' time", "largest process", "all processes")
    ]
    for mode, times in seconds.items():
        ratio = median(b / a for a, b in zip(seconds["2 threads"], times, strict=True))
        one, total = (
            f"{size / 1e6:.0f} MB"
            for size in (peaks[mode].largest_process, peaks[mode].sampled_total)
        )
        rows.append((mode, f"{median(times):.1f} s", f"{ratio:.2f}", one, total))
    return rows


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description="Time the cut of a large image in shards.")
    parser.add_argument("--side", type=int, default=100_000)
    parser.add_argument("--bands", type=int, default=1)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("/dev/shm"), help="where results go")
    parser.add_argument("--work", type=Path, default=BENCH.parent / ".bench")
    args = parser.parse_args()
    source = images.cached_image(args.work, args.side, args.side, args.bands, "photo", ".npy")
    with tempfile.TemporaryDirectory(dir=args.out, prefix="fasttile-large-") as scratch:
        rows = compare(source, Path(scratch) / "out", args.runs)
    title = f"{args.side:,} × {args.side:,} × {args.bands} on {os.fspath(args.out)}"
    print(report_table.format_table(title, rows))


if __name__ == "__main__":
    main()
