"""A giant in shards: by threads of one process, and by one and two worker processes, in turn.

The results are compared name by name and byte by byte once. A peak is that of the largest process
(a worker, or the program itself), and that of all processes together.

    python bench/giant.py [--side 100000] [--bands 1] [--runs 3] [--out FOLDER]
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
    """The command line of a way."""
    start = [sys.executable, "-m", "fasttile", "cut", str(source), "-o", str(dest / "giant.dzi")]
    return [*start, "--quality", str(QUALITY), "--quiet", *arguments]


def digest_folder(folder: Path) -> tuple[int, str]:
    """How many files a result has, and what is in them."""
    found = hashlib.sha256()
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in paths:
        found.update(f"{path.relative_to(folder)}\0".encode())
        found.update(path.read_bytes())
    return len(paths), found.hexdigest()


def compare(source: Path, dest: Path, runs: int) -> list[tuple[str, ...]]:
    """Run all ways in turn; the table's rows."""
    peaks, results = {}, {}
    for way, words in MODES.items():
        peaks[way] = peak.measure(cut_command(source, dest, words))
        if peaks[way].status:
            raise SystemExit(f"{way}: exit status {peaks[way].status}")
        results[way] = digest_folder(dest)
        shutil.rmtree(dest)
        print(f"  {way}: {results[way][0]:,} files", flush=True)
    if len(set(results.values())) != 1:
        raise SystemExit(f"the results differ: {results}")
    seconds: dict[str, list[float]] = {way: [] for way in MODES}
    for _ in range(runs):
        for way, words in MODES.items():
            seconds[way].append(run_timed(cut_command(source, dest, words), 2)[0])
            shutil.rmtree(dest)
            print(f"  {way}: {seconds[way][-1]:.1f} s", flush=True)
    rows: list[tuple[str, ...]] = [
        ("", "median", "of the threads' time", "largest process", "all processes")
    ]
    for way, theirs in seconds.items():
        ratio = median(b / a for a, b in zip(seconds["2 threads"], theirs, strict=True))
        one, total = (f"{size / 1e6:.0f} MB" for size in (peaks[way].resident, peaks[way].sampled))
        rows.append((way, f"{median(theirs):.1f} s", f"{ratio:.2f}", one, total))
    return rows


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description="Time a giant cut in shards.")
    parser.add_argument("--side", type=int, default=100_000)
    parser.add_argument("--bands", type=int, default=1)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("/dev/shm"), help="where results go")
    parser.add_argument("--work", type=Path, default=BENCH.parent / ".bench")
    given = parser.parse_args()
    source = images.cached_image(given.work, given.side, given.side, given.bands, "photo", ".npy")
    with tempfile.TemporaryDirectory(dir=given.out, prefix="fasttile-giant-") as room:
        rows = compare(source, Path(room) / "out", given.runs)
    title = f"{given.side:,} × {given.side:,} × {given.bands} on {os.fspath(given.out)}"
    print(report_table.format_table(title, rows))


if __name__ == "__main__":
    main()
