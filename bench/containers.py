"""One file instead of a folder: times each container, in turn, on tmpfs and on disk.

A round runs every contender once, from fork to exit; what is quoted is the median, and the median
of its ratios to fasttile's own folder in the same round. Before the rounds each contender runs once
unwatched by the clock: its peak memory is taken then, and its tiles are counted and some compared.

    python bench/containers.py [--side 10000] [--runs 5] [--quick]
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import images
import report_table
from fasttile import Tile, open_pyramid
from runs import run_measured, run_timed

BENCH = Path(__file__).parent
SHM = Path("/dev/shm")

TILE_OPTIONS = ["--quality", "75", "--quiet"]
SAME_GRID_OPTIONS = ["--tile-size", "256", "--overlap", "0"]


def _fasttile_command(*more: str) -> Callable[[Path, Path], list[str]]:
    def command(source: Path, dest: Path) -> list[str]:
        start = [sys.executable, "-m", "fasttile", "cut", str(source), "-o", str(dest)]
        return [*start, *TILE_OPTIONS, *more]

    return command


def _vips_command(kind: str) -> Callable[[Path, Path], list[str]]:
    def command(source: Path, dest: Path) -> list[str]:
        return [sys.executable, str(BENCH / "vips_container.py"), kind, str(source), str(dest)]

    return command


CONTENDERS: dict[str, tuple[str, Callable[[Path, Path], list[str]]]] = {
    "fasttile, folder (.dzi)": ("image.dzi", _fasttile_command(*SAME_GRID_OPTIONS)),
    "fasttile, .szi": ("image.szi", _fasttile_command(*SAME_GRID_OPTIONS)),
    "fasttile, .tif": ("image.tif", _fasttile_command()),
    "fasttile, .pmtiles": ("image.pmtiles", _fasttile_command()),
    "fasttile, .mbtiles": ("image.mbtiles", _fasttile_command()),
    "libvips, folder (.dzi)": ("image.dzi", _vips_command("dzi")),
    "libvips, .szi": ("image.szi", _vips_command("szi")),
    "libvips, .tif": ("image.tif", _vips_command("tif")),
}


@dataclass
class Measurement:
    """What was measured of a contender."""

    peak: int
    size: int
    tiles: int
    seconds: list[float] = field(default_factory=list)


def measure(source: Path, folder: Path, runs: int, *, synced: bool) -> dict[str, Measurement]:
    """Run all contenders in turn, a number of times, with their results in a folder.

    Args:
        source: The image.
        folder: Where; emptied after each run.
        runs: How many rounds.
        synced: Whether what the run before has left to write is written before the next begins.
    """
    found: dict[str, Measurement] = {}
    for label, (name, command) in CONTENDERS.items():
        folder.mkdir(parents=True)
        peak = run_measured(command(source, folder / name), 2)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        found[label] = Measurement(peak, size, _count_readable_tiles(folder / name))
        shutil.rmtree(folder)
        print(f"  {label}: {found[label].tiles:,} tiles, {size / 1e6:.1f} MB", flush=True)
    for _ in range(runs):
        for label, (name, command) in CONTENDERS.items():
            folder.mkdir(parents=True)
            if synced:
                os.sync()
            seconds, _ = run_timed(command(source, folder / name), 2)
            shutil.rmtree(folder)
            found[label].seconds.append(seconds)
            print(f"  {label}: {seconds:.2f} s", flush=True)
    return found


def _count_readable_tiles(path: Path) -> int:
    """How many tiles a result has, all of which can be found; some are decoded."""
    with open_pyramid(path) as reader:
        count = sum(reader.level_stats(level)[0] for level in reader.pyramid.stored_range)
        if count != reader.pyramid.tile_count:
            raise SystemExit(f"{path}: {count} tiles of {reader.pyramid.tile_count}")
        for level in reader.pyramid.stored_levels:
            tile = Tile(level.number, level.cols // 2, level.rows // 2)
            pixels = reader.pixels(*tile)
            if pixels is None or not pixels.size:
                raise SystemExit(f"{path}: {tile} is missing")
    return count


def main() -> None:
    """Measure on both kinds of file system, and print a table for each."""
    parser = argparse.ArgumentParser(description="Time one-file containers beside a folder.")
    parser.add_argument("--side", type=int, default=10_000, help="of the image, in pixels")
    parser.add_argument("--runs", type=int, default=5, help="rounds")
    parser.add_argument("--quick", action="store_true", help="a small image, 2 rounds")
    parser.add_argument("--work", type=Path, default=BENCH.parent / ".bench")
    given = parser.parse_args()
    side, runs = (3_000, 2) if given.quick else (given.side, given.runs)
    source = images.cached_image(given.work, side, side, 3, "photo", ".tif")
    own = f"fasttile-containers-{os.getpid()}"
    for place, root in (("tmpfs", SHM), ("disk", given.work)):
        print(f"{place}:", flush=True)
        try:
            found = measure(source, root / own, runs, synced=place == "disk")
        finally:
            shutil.rmtree(root / own, ignore_errors=True)
        print(report_table.format_table(f"{side:,} × {side:,} on {place}", _table_rows(found)))


def _table_rows(measurements: dict[str, Measurement]) -> list[tuple[str, ...]]:
    folder = next(iter(measurements.values()))
    rows = [("", "median", "of a folder's time", "peak", "size")]
    for label, one in measurements.items():
        ratio = median(a / b for a, b in zip(one.seconds, folder.seconds, strict=True))
        rows.append(
            (
                label,
                f"{median(one.seconds):.2f} s",
                f"{ratio:.2f}",
                f"{one.peak / 1e6:.0f} MB",
                f"{one.size / 1e6:.1f} MB",
            )
        )
    return rows


if __name__ == "__main__":
    main()
