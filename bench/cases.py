"""What is measured end to end: the programs, the images they cut, and what is to be shown."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dzi import Job
from images import P3_SUFFIXES, Kind

BENCH = Path(__file__).parent

OutputFileSystem = Literal["tmpfs", "disk"]

SOURCE_TITLES = {
    ".tif": "uncompressed TIFF",
    ".npy": ".npy",
    ".jpg": "JPEG",
    "-p3.jpg": "JPEG in Display P3, converted to sRGB",
    ".png": "PNG",
}
"""What the files are called whose names end so."""


@dataclass(frozen=True)
class Contender:
    """A program on a number of processors.

    Attributes:
        program: A key of `PROGRAMS`.
        cores: Number of processors that the job is pinned to.
        runs: Largest number of timed runs. Default: as many as the others.
    """

    program: str
    cores: int = 2
    runs: int | None = None

    @property
    def label(self) -> str:
        """How it is called in tables and on the command line of compare.py."""
        return self.program if self.cores == 2 else f"{self.program}, 1 core"


@dataclass(frozen=True)
class Case:
    """One image, cut in one way by several contenders; the first is what the others face.

    Attributes:
        key: Its name on the command line.
        width, height: The image's size in pixels.
        contenders: In the order in which they take turns.
        bands: 3 (RGB) or 1 (grey).
        kind: A photographic mosaic, or flat graphics.
        suffix: The input's file format, by its ending as `images.cached` knows it.
        format: The tiles'.
        place: Where the output goes.
        quick: Whether `--quick` runs it.
    """

    key: str
    width: int
    height: int
    contenders: tuple[Contender, ...]
    bands: int = 3
    kind: Kind = "photo"
    suffix: str = ".tif"
    format: str = "jpeg"
    file_system: OutputFileSystem = "tmpfs"
    quick: bool = False

    @property
    def converts(self) -> bool:
        """Whether the image's colours have to be converted to sRGB."""
        return self.suffix in P3_SUFFIXES

    @property
    def megapixels(self) -> float:
        """Of the image itself, not of all levels."""
        return self.width * self.height / 1e6

    @property
    def title(self) -> str:
        """Size, source, tiles and file system in one line."""
        colours = {1: "grey", 3: "RGB"}[self.bands]
        source = SOURCE_TITLES[self.suffix]
        kind = {"photo": "photographs", "flat": "flat graphics"}[self.kind]
        formats = {"jpeg": "JPEG q75 4:2:0", "png": "PNG", "avif": "AVIF q75 4:2:0, speed 9"}
        tiles = formats[self.format]
        return (
            f"{self.width:,} × {self.height:,} {colours} {kind}, {source} → {tiles} tiles, "
            f"on {self.file_system}"
        )


# Programs: the command that starts a process for a job.


def _peer_command(script: str, job: Job) -> list[str]:
    return [
        sys.executable,
        str(BENCH / script),
        str(job.input),
        str(job.output),
        *job.arguments(),
    ]


def _fasttile_command(job: Job) -> list[str]:
    start = [sys.executable, "-m", "fasttile", "cut"]
    return [*start, str(job.input), "-o", str(job.output), *job.arguments(), "--quiet"]


def _vips_command(threads: int) -> Callable[[Job], list[str]]:
    """A command of libvips with a number of its own threads. Default: one for each processor."""
    variable = f"VIPS_CONCURRENCY={threads}"
    return lambda job: ["env", variable, *_peer_command("vips_tiler.py", job)]


PROGRAMS = {
    "fasttile": (_fasttile_command, "fasttile"),
    "libvips": (lambda job: _peer_command("vips_tiler.py", job), "pyvips"),
    "libvips-1-thread": (_vips_command(1), "pyvips"),
    "libvips-2-threads": (_vips_command(2), "pyvips"),
    "pil-tiler": (lambda job: _peer_command("pil_tiler.py", job), "PIL"),
    "pillow-reduce": (lambda job: _peer_command("pillow_reduce.py", job), "PIL"),
}
"""Command and requirement of each program but the floors, which have no process of their own."""

FLOOR_WAYS = {"floor": "stacked", "floor-by-tile": "single"}
"""The floors, and how floor.py encodes for each."""


def command(program: str, job: Job) -> list[str]:
    """The command line of a program for a job."""
    return PROGRAMS[program][0](job)


def is_installed(program: str) -> bool:
    """Whether a program can run here."""
    needs = "fasttile" if program in FLOOR_WAYS else PROGRAMS[program][1]
    return importlib.util.find_spec(needs) is not None


FASTTILE, FASTTILE_1 = Contender("fasttile"), Contender("fasttile", cores=1)
VIPS, VIPS_1 = Contender("libvips"), Contender("libvips", cores=1)
VIPS_THREADS = (Contender("libvips-1-thread"), Contender("libvips-2-threads"))
FLOOR, FLOOR_1 = Contender("floor"), Contender("floor", cores=1)
BY_TILE, BY_TILE_1 = Contender("floor-by-tile"), Contender("floor-by-tile", cores=1)
PILLOW_REDUCE = Contender("pillow-reduce")
THREE_RUN_PEERS = (Contender("pil-tiler", runs=3), Contender("pillow-reduce", runs=3))
ONE_RUN_PEERS = (Contender("pil-tiler", runs=1), Contender("pillow-reduce", runs=1))

FLOORS, FLOORS_1 = (FLOOR, BY_TILE), (FLOOR_1, BY_TILE_1)
MAIN_CONTENDERS = (FASTTILE, VIPS, *FLOORS)
PNG_CONTENDERS = (FASTTILE, VIPS, BY_TILE)
ONE_AND_TWO_CORES = (*MAIN_CONTENDERS, FASTTILE_1, VIPS_1, *FLOORS_1)

CASES = (
    Case("start", 256, 256, (FASTTILE, VIPS, Contender("pil-tiler"), PILLOW_REDUCE), quick=True),
    Case("25-rgb", 5_000, 5_000, (*ONE_AND_TWO_CORES, *THREE_RUN_PEERS), quick=True),
    Case("100-rgb", 10_000, 10_000, (*ONE_AND_TWO_CORES, *VIPS_THREADS, *THREE_RUN_PEERS)),
    Case("400-rgb", 20_000, 20_000, (*ONE_AND_TWO_CORES, *VIPS_THREADS, *ONE_RUN_PEERS)),
    Case("wide-rgb", 100_000, 1_000, MAIN_CONTENDERS),
    Case("tall-rgb", 1_000, 100_000, MAIN_CONTENDERS),
    Case("25-grey", 5_000, 5_000, (*MAIN_CONTENDERS, PILLOW_REDUCE), bands=1, quick=True),
    Case("100-grey", 10_000, 10_000, ONE_AND_TWO_CORES, bands=1),
    Case("400-grey", 20_000, 20_000, MAIN_CONTENDERS, bands=1),
    Case("100-npy", 10_000, 10_000, (FASTTILE, *FLOORS), suffix=".npy"),
    Case("100-jpeg", 10_000, 10_000, (*MAIN_CONTENDERS, *ONE_RUN_PEERS), suffix=".jpg"),
    Case(
        "400-jpeg",
        20_000,
        20_000,
        (*MAIN_CONTENDERS, *VIPS_THREADS, *ONE_RUN_PEERS),
        suffix=".jpg",
    ),
    # Neither the floors nor the tilers with nothing but Pillow convert colours.
    Case("400-jpeg-p3", 20_000, 20_000, (FASTTILE, VIPS), suffix="-p3.jpg"),
    Case("100-png-in", 10_000, 10_000, MAIN_CONTENDERS, suffix=".png"),
    Case("100-rgb-disk", 10_000, 10_000, (*MAIN_CONTENDERS, PILLOW_REDUCE), file_system="disk"),
    Case("400-rgb-disk", 20_000, 20_000, MAIN_CONTENDERS, file_system="disk"),
    Case("25-rgb-png", 5_000, 5_000, (*PNG_CONTENDERS, ONE_RUN_PEERS[1]), format="png", quick=True),
    Case("100-rgb-png", 10_000, 10_000, (*PNG_CONTENDERS, FASTTILE_1, VIPS_1), format="png"),
    Case(
        "25-flat-png",
        5_000,
        5_000,
        (*PNG_CONTENDERS, *ONE_RUN_PEERS),
        kind="flat",
        format="png",
        quick=True,
    ),
    Case("100-flat-png", 10_000, 10_000, PNG_CONTENDERS, kind="flat", format="png"),
    Case("100-grey-png", 10_000, 10_000, PNG_CONTENDERS, bands=1, format="png"),
    Case("25-rgb-avif", 5_000, 5_000, (FASTTILE, BY_TILE, FASTTILE_1, BY_TILE_1), format="avif"),
    Case("100-png-disk", 10_000, 10_000, PNG_CONTENDERS, format="png", file_system="disk"),
)

HEADLINES = {
    "400-rgb": (FASTTILE, VIPS, *FLOORS, FASTTILE_1),
    "100-rgb": (FASTTILE, VIPS),
    "400-jpeg": (FASTTILE, VIPS),
}
"""The cases whose targets are the headline ratios, and who takes part in them."""

Measure = Literal["ratio", "peak", "size"]


@dataclass(frozen=True)
class Target:
    """Something that the results have to show.

    Attributes:
        case: A case's key.
        label: The contender it is about.
        measure: "ratio" (its time over its opponent's, at least so much), "peak" (its memory in
            MB, at most so much) or "size" (its tiles' bytes over the first contender's, at
            least so much).
        bound: The number.
        text: What it means.
    """

    case: str
    label: str
    measure: Measure
    bound: float
    text: str


TARGETS = (
    Target("400-rgb", "libvips", "ratio", 5.5, "400 MP: times as fast as libvips"),
    Target("100-rgb", "libvips", "ratio", 4.2, "100 MP: times as fast as libvips"),
    Target("400-rgb", "floor", "ratio", 0.75, "400 MP: share of the time that the floor takes"),
    Target("400-rgb", "floor-by-tile", "ratio", 0.7, "400 MP: the same of the floor by tile"),
    Target("100-rgb", "pil-tiler", "ratio", 15.0, "100 MP: times as fast as the pure-PIL tiler"),
    Target("100-rgb", "fasttile, 1 core", "ratio", 1.8, "100 MP: two cores against one"),
    Target("400-rgb", "fasttile, 1 core", "ratio", 1.75, "400 MP: two cores against one"),
    Target("100-rgb", "fasttile", "peak", 90.0, "100 MP: peak memory in MB"),
    Target("400-rgb", "fasttile", "peak", 85.0, "400 MP: peak memory in MB"),
    Target("tall-rgb", "fasttile", "peak", 70.0, "1,000 × 100,000: peak memory in MB"),
    Target("wide-rgb", "fasttile", "peak", 200.0, "100,000 × 1,000: peak memory in MB"),
    Target("400-jpeg", "libvips", "ratio", 3.0, "400 MP JPEG: times as fast as libvips"),
    Target("400-jpeg", "pil-tiler", "ratio", 18.0, "400 MP JPEG: times as fast as pure PIL"),
    Target("400-jpeg", "fasttile", "peak", 120.0, "400 MP JPEG: peak memory in MB"),
    Target("400-jpeg-p3", "libvips", "ratio", 2.0, "400 MP in P3: times as fast as libvips"),
    Target("100-png-in", "fasttile", "peak", 110.0, "100 MP PNG: peak memory in MB"),
    Target(
        "100-rgb-png", "libvips", "ratio", 1.0, "PNG of photographs: libvips' time to fasttile's"
    ),
    Target(
        "100-rgb-png", "libvips", "size", 1.0, "PNG of photographs: libvips' bytes to fasttile's"
    ),
    Target(
        "100-flat-png", "libvips", "ratio", 1.0, "PNG of flat graphics: libvips' time to fasttile's"
    ),
    Target(
        "100-flat-png", "libvips", "size", 1.0, "PNG of flat graphics: libvips' bytes to fasttile's"
    ),
)
