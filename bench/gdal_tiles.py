"""XYZ tiles: fasttile beside `gdal raster tile` (GDAL 3.11 or newer), in turn, on tmpfs.

Both make all zooms of an image without coordinates: tiles of 256 pixels, JPEG of quality 75 with
4:2:0, a black background, the mean of four pixels for the smaller zooms, on two processors. Before
a time counts, the results are compared: the same tiles, and of some tiles of each zoom the size,
quantisation tables, subsampling and pixels. GDAL makes each smaller zoom from the decoded JPEG
tiles of the next larger one, so its pixels differ a little there; at the largest zoom none may.

    python bench/gdal_tiles.py [--gdal COMMAND] [--side 20000] [--runs 3] [--quick]

Debian's package of the command is gdal-bin, of a suite newer than bookworm.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image, JpegImagePlugin

import images
import report_table
from runs import run_measured, run_timed

BENCH = Path(__file__).parent
OLDEST_GDAL = (3, 11)
QUALITY, TILE_SIZE = 75, 256

DECODED_TOLERANCE = 16.0
"""Mean absolute error, in steps of 0 to 255, of a tile that GDAL makes from decoded tiles."""

SAMPLES_PER_ZOOM = 12

Tiles = dict[tuple[int, int, int], Path]


def find_gdal(given: str | None) -> tuple[list[str], str]:
    """The start of GDAL's command line, and its version; ends the program without one."""
    words = shlex.split(given or "gdal")
    path = shutil.which(words[0])
    if path is None:
        _end_without_gdal(f"{words[0]} is not on PATH")
    text = subprocess.run([*words, "--version"], capture_output=True, text=True).stdout
    found = re.match(r"GDAL (\d+)\.(\d+)\S*", text)
    if found is None or (int(found[1]), int(found[2])) < OLDEST_GDAL:
        _end_without_gdal(f"{words[0]} --version says {text.strip()!r}")
    return words, found[0]


def _end_without_gdal(reason: str) -> None:
    line = "!" * 72
    sys.exit(
        f"{line}\nNO ROW FOR GDAL: {reason}; install GDAL 3.11 or newer (Debian trixie's "
        f"successor, package gdal-bin) or pass --gdal COMMAND\n{line}"
    )


def fasttile_command(source: Path, dest: Path) -> list[str]:
    """A cut into XYZ tiles."""
    return [
        *(sys.executable, "-m", "fasttile", "cut", str(source), "-o", str(dest), "--quiet"),
        *("--layout", "xyz", "--tile-size", str(TILE_SIZE), "--quality", str(QUALITY)),
        *("--background", "black"),
    ]


def gdal_command(gdal: list[str], source: Path, dest: Path, threads: int) -> list[str]:
    """The same by GDAL. Pixels of the largest zoom are copied, so "nearest" changes none."""
    return [
        *(*gdal, "raster", "tile", "--quiet", "--tiling-scheme", "raster", "--webviewer", "none"),
        *("--min-zoom", "0", "--tile-size", str(TILE_SIZE), "--num-threads", str(threads)),
        *("--output-format", "JPEG", "--creation-option", f"QUALITY={QUALITY}"),
        *("--resampling", "nearest", "--overview-resampling", "average", str(source), str(dest)),
    ]


def find_tiles(folder: Path) -> Tiles:
    """The tiles of a result, by zoom, column and row."""
    tiles = {}
    for path in folder.glob("*/*/*.jp*g"):
        zoom, col, row = (int(name) for name in (*path.parts[-3:-1], path.stem))
        tiles[zoom, col, row] = path
    return tiles


def compare(own: Tiles, other: Tiles) -> tuple[float, list[str]]:
    """The largest mean error of a tile below the largest zoom, and what is wrong."""
    if own.keys() != other.keys():
        different = own.keys() ^ other.keys()
        return 0.0, [f"{len(own)} and {len(other)} tiles; {len(different)} are of one only"]
    worst, faults = 0.0, []
    last = max(own)[0]
    choice = random.Random(1)
    for zoom in range(last + 1):
        tiles = sorted(tile for tile in own if tile[0] == zoom)
        sample = choice.sample(tiles, min(SAMPLES_PER_ZOOM, len(tiles)))
        for tile in dict.fromkeys([tiles[0], tiles[-1], *sample]):
            with Image.open(own[tile]) as wanted, Image.open(other[tile]) as found:
                error = _mean_error(wanted, found)
                if _settings(wanted) != _settings(found):
                    faults.append(f"{tile}: {_settings(found)}, not {_settings(wanted)}")
            if error > (0.0 if zoom == last else DECODED_TOLERANCE):
                faults.append(f"{tile}: mean error {error:.2f}")
            worst = max(worst, error)
    return worst, faults


def _settings(image: Image.Image) -> tuple[object, ...]:
    """What must be equal beside the pixels."""
    assert isinstance(image, JpegImagePlugin.JpegImageFile)
    sampling = JpegImagePlugin.get_sampling(image)
    return image.size, image.mode, sampling, image.quantization


def _mean_error(one: Image.Image, other: Image.Image) -> float:
    difference = np.asarray(one, np.int16) - np.asarray(other, np.int16)
    return float(np.abs(difference).mean())


def measure(gdal: list[str], source: Path, folder: Path, runs: int) -> list[tuple[str, ...]]:
    """Compare, then time in turn; return the table's rows."""
    commands = {
        ("fasttile", 2): fasttile_command(source, folder / "fasttile"),
        ("gdal raster tile", 2): gdal_command(gdal, source, folder / "gdal", 2),
        ("fasttile, 1 core", 1): fasttile_command(source, folder / "fasttile"),
        ("gdal raster tile, 1 core", 1): gdal_command(gdal, source, folder / "gdal", 1),
    }
    first, second = list(commands.items())[:2]
    peaks = {label: run_measured(command, label[1]) for label, command in (first, second)}
    own, other = find_tiles(folder / "fasttile"), find_tiles(folder / "gdal")
    worst, faults = compare(own, other)
    if faults:
        raise SystemExit("no time counts, the results differ:\n" + "\n".join(faults[:9]))
    sizes = [sum(path.stat().st_size for path in tiles.values()) for tiles in (own, other)]
    print(f"  {len(own):,} tiles each; largest mean error below full size: {worst:.2f}", flush=True)
    seconds: dict[tuple[str, int], list[float]] = {label: [] for label in commands}
    for _ in range(runs):
        for label, command in commands.items():
            shutil.rmtree(folder)
            folder.mkdir()
            seconds[label].append(run_timed(command, label[1])[0])
            print(f"  {label[0]}: {seconds[label][-1]:.2f} s", flush=True)
    head = ("program", "seconds", "of fasttile's time", "peak MB", "tiles", "tiles MB")
    rows: list[tuple[str, ...]] = [head]
    for label, times in seconds.items():
        base = seconds["fasttile" if label[1] == 2 else "fasttile, 1 core", label[1]]
        ratio = median(a / b for a, b in zip(times, base, strict=True))
        peak = f"{peaks[label] / 1e6:.0f}" if label in peaks else ""
        size = f"{sizes[label[0].startswith('gdal')] / 1e6:.2f}"
        rows.append((label[0], f"{median(times):.2f}", f"{ratio:.2f}", peak, f"{len(own):,}", size))
    return rows


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description="Time XYZ tiles beside gdal raster tile.")
    parser.add_argument("--gdal", help="the command of GDAL. Default: gdal")
    parser.add_argument("--side", type=int, default=20_000, help="of the image, in pixels")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a small image, 2 rounds")
    parser.add_argument("--work", type=Path, default=BENCH.parent / ".bench")
    parser.add_argument("--out", type=Path, default=Path("/dev/shm"), help="where results go")
    given = parser.parse_args()
    gdal, version = find_gdal(given.gdal)
    side, runs = (4_000, 2) if given.quick else (given.side, given.runs)
    source = images.cached_image(given.work, side, side, 3, "photo", ".tif")
    folder = given.out / f"fasttile-gdal-{os.getpid()}"
    folder.mkdir()
    try:
        rows = measure(gdal, source, folder, runs)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    title = f"{side:,} × {side:,} RGB photographs, TIFF → XYZ, JPEG tiles, on tmpfs; {version}"
    print(report_table.format_table(title, rows))


if __name__ == "__main__":
    main()
