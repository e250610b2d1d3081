"""Many images: fasttile's batch beside libvips and the pure-PIL tiler, in turn, in one run.

The peers take one image after the other in one process, libvips with its own threads. Before a
time counts, the results of one image of each are examined as compare.py does. The floor is what
decoding and encoding alone cost on all processors, by Pillow's own functions.

    python bench/batch.py [--count 100] [--runs 3] [--pil-runs 1] [--sweep 10,100,1000] [--quick]
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median
from time import perf_counter

from PIL import Image

import images
import report_table
from compare import examine
from dzi import Job
from oracle import Oracle, open_source
from runs import run_measured, run_timed

BENCH = Path(__file__).parent
SHM = Path("/dev/shm")
WIDTH, HEIGHT = 4_800, 3_600
QUALITY = 75
DISTINCT_IMAGES = 5  # different images; the others are links to these

Command = Callable[[Path, Path], list[str]]


def _fasttile_command(folder: Path, dest: Path) -> list[str]:
    start = [sys.executable, "-m", "fasttile", "cut", str(folder), "-o", str(dest)]
    return [*start, "--quality", str(QUALITY), "--quiet"]


def _peer_command(program: str) -> Command:
    def command(folder: Path, dest: Path) -> list[str]:
        start = [sys.executable, str(BENCH / "many.py"), program, str(folder), str(dest)]
        return [*start, "--quality", str(QUALITY)]

    return command


CONTENDERS: dict[str, Command] = {
    "fasttile": _fasttile_command,
    "libvips": _peer_command("vips"),
    "pil-tiler": _peer_command("pil"),
}


def make_image_folder(work: Path, count: int, side: tuple[int, int]) -> Path:
    """A folder with a number of JPEGs."""
    folder = work / f"batch-{count}-{side[0]}x{side[1]}"
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        # A few pixels less each, so that they are not the same image.
        width = side[0] - number % DISTINCT_IMAGES
        source = images.cached_image(work, width, side[1], 3, "photo", ".jpg")
        link = folder / f"image-{number:04}.jpg"
        if not link.exists():
            os.link(source, link)
    return folder


def check_results(folder: Path, dest: Path, label: str) -> None:
    """Refuse to go on if a result is not what it should be."""
    source = min(folder.iterdir())
    job = Job(source, dest / f"{source.stem}.dzi", quality=QUALITY)
    raster = open_source(source)
    pyramid = job.pyramid(raster.shape[1], raster.shape[0])
    finding = examine(label, job, Oracle(raster, pyramid))
    if finding.faults:
        raise SystemExit(f"{label}: {'; '.join(finding.faults)}")
    count = sum(path.suffix == ".dzi" for path in dest.iterdir())
    if count != sum(1 for _ in folder.iterdir()):
        raise SystemExit(f"{label}: {count} results")


def time_contender(command: Command, folder: Path, scratch: Path) -> float:
    """The seconds that a contender takes, from fork to exit."""
    seconds, _ = run_timed(command(folder, scratch / "out"), 2)
    shutil.rmtree(scratch / "out")
    return seconds


def measure_floor(folder: Path) -> float:
    """The seconds that decoding all images and encoding a third more pixels takes."""
    found = sorted(map(str, folder.iterdir()))
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(_return_number, range(8)))
        started = perf_counter()
        list(pool.map(_encode_image_tiles, found))
        return perf_counter() - started


def _return_number(number: int) -> int:
    return number


def _encode_image_tiles(path: str) -> int:
    """Decode an image, and encode each of its tiles, and a third of them once more."""
    count = 0
    with Image.open(path) as image:
        image.load()
        with Path(os.devnull).open("wb") as nowhere:
            for y in range(0, image.height, 254):
                for x in range(0, image.width, 254):
                    tile = image.crop((x, y, x + 256, y + 256))
                    for _ in range(2 if count % 3 == 0 else 1):
                        tile.save(nowhere, "JPEG", quality=QUALITY)
                    count += 1
    return count


def compare(folder: Path, scratch: Path, runs: int, pil_runs: int) -> list[tuple[str, ...]]:
    """Run all contenders in turn; the table's rows."""
    seconds: dict[str, list[float]] = {label: [] for label in CONTENDERS}
    peaks: dict[str, int] = {}
    for label, command in CONTENDERS.items():
        if label != "pil-tiler" or pil_runs:
            peaks[label] = run_measured(command(folder, scratch / "out"), 2)
            check_results(folder, scratch / "out", label)
            shutil.rmtree(scratch / "out")
    for number in range(runs):
        for label, command in CONTENDERS.items():
            if label == "pil-tiler" and number >= pil_runs:
                continue
            seconds[label].append(time_contender(command, folder, scratch))
            print(f"  {label}: {seconds[label][-1]:.2f} s", flush=True)
    rows: list[tuple[str, ...]] = [("", "median", "an image", "of fasttile's time", "peak")]
    count = sum(1 for _ in folder.iterdir())
    base = seconds["fasttile"]
    for label, times in seconds.items():
        if times:
            ratio = median(b / a for a, b in zip(base, times, strict=False))
            middle = median(times)
            memory = f"{peaks[label] / 1e6:.0f} MB"
            each = f"{1e3 * middle / count:.0f} ms"
            rows.append((label, f"{middle:.2f} s", each, f"{ratio:.2f}", memory))
    lowest = min(measure_floor(folder) for _ in range(2))
    each = f"{1e3 * lowest / count:.0f} ms"
    rows.append(("floor", f"{lowest:.2f} s", each, f"{lowest / median(base):.2f}", ""))
    return rows


def measure_batch_sizes(
    work: Path, scratch: Path, counts: list[int], side: tuple[int, int]
) -> None:
    """What an image costs in batches of several sizes."""
    rows: list[tuple[str, ...]] = [("images", "seconds", "an image", "peak")]
    for count in counts:
        folder = make_image_folder(work, count, side)
        seconds = min(
            time_contender(_fasttile_command, folder, scratch)
            for _ in range(2 if count < 500 else 1)
        )
        memory = run_measured(_fasttile_command(folder, scratch / "out"), 2)
        shutil.rmtree(scratch / "out")
        each = f"{1e3 * seconds / count:.1f} ms"
        rows.append((str(count), f"{seconds:.2f}", each, f"{memory / 1e6:.0f} MB"))
        print(f"  {count}: {each}", flush=True)
    print(report_table.format_table(f"batches of {side[0]:,} × {side[1]:,} JPEGs on tmpfs", rows))


def main() -> None:
    """Measure, and print tables."""
    parser = argparse.ArgumentParser(description="Time batches of images.")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--pil-runs", type=int, default=1, help="rounds with the pure-PIL tiler")
    parser.add_argument("--sweep", default="10,100,1000", help="sizes of batches, or nothing")
    parser.add_argument("--quick", action="store_true", help="few small images")
    parser.add_argument("--work", type=Path, default=BENCH.parent / ".bench")
    given = parser.parse_args()
    side = (1_200, 900) if given.quick else (WIDTH, HEIGHT)
    count = 10 if given.quick else given.count
    own = SHM / f"fasttile-batch-{os.getpid()}"
    try:
        own.mkdir()
        rows = compare(make_image_folder(given.work, count, side), own, given.runs, given.pil_runs)
        title = f"{count} JPEGs of {side[0]:,} × {side[1]:,} on tmpfs"
        print(report_table.format_table(title, rows), flush=True)
        if given.sweep:
            measure_batch_sizes(
                given.work, own, [int(word) for word in given.sweep.split(",")], side
            )
    finally:
        shutil.rmtree(own, ignore_errors=True)


if __name__ == "__main__":
    main()
