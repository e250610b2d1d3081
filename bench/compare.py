"""Looks whether outputs are what they claim to be, before a time may count.

Each output must announce the right pyramid and hold exactly its tiles. Some tiles of every
level are opened: size and bands, JPEG quantisation tables and subsampling must be as asked
for, and the pixels those of the NumPy oracle, sent through the same codec. The name pil-tiler
is known to stand for another filter.

    python bench/compare.py INPUT [--format jpeg|png] ... -- fasttile=a.dzi pil-tiler=b.dzi

prints one JSON object: for each output its tiles, bytes, errors, and faults (none: it counts).
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import random
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, JpegImagePlugin

from dzi import Box, Job, Pyramid, Tile, add_options, read_descriptor, tile_folder, tile_path
from oracle import Oracle, Raster, open_source

LANCZOS_TOLERANCE = 40.0
"""Mean absolute error of a tile, in steps of 0 to 255, that the pure-PIL tiler may have below
full size. Its filter is sharper than the box, and where a level's size was rounded up it
stretches the image by up to a pixel where halving repeats the edge. This only separates right
tiles from wrong ones. Nothing else may differ by one step from the oracle's pixels sent through
the same codec, neither the other programs nor this one's full-size level."""

SAMPLES_PER_LEVEL = 4
"""Tiles of each level that are looked at beside those in its four corners."""


@dataclass
class Finding:
    """What was found out about one output.

    Attributes:
        tiles, bytes: How many tiles there are, and how many bytes in them.
        worst: The largest mean absolute error of a tile that was looked at.
        looked_at: How many tiles were looked at.
        faults: What is wrong, a line each.
    """

    tiles: int = 0
    bytes: int = 0
    worst: float = 0.0
    looked_at: int = 0
    faults: list[str] = field(default_factory=list)


def examine(name: str, job: Job, oracle: Oracle) -> Finding:
    """Compare one program's output with what it has to be."""
    finding = Finding()
    if not job.output.exists():
        finding.faults.append(f"no descriptor {job.output}")
        return finding
    announced, extension = read_descriptor(job.output)
    if announced != oracle.pyramid:
        finding.faults.append(f"the descriptor says {announced}, it should be {oracle.pyramid}")
    _count_tiles(job, extension, oracle.pyramid, finding)
    if not finding.faults:
        _compare_tiles(job, extension, oracle, finding, lanczos=name == "pil-tiler")
    return finding


def _count_tiles(job: Job, extension: str, pyramid: Pyramid, finding: Finding) -> None:
    """The set of tiles, to the last one; their endings must be the announced one."""
    wanted = {str(tile_path(job.output, tile, extension)) for tile, _ in pyramid.all_tiles()}
    found = {}
    for path in tile_folder(job.output).glob("*/*"):
        found[str(path)] = path.stat().st_size
    for title, names in (("missing", wanted - found.keys()), ("foreign", found.keys() - wanted)):
        if names:
            finding.faults.append(f"{len(names)} tiles are {title}, as {min(names)}")
    finding.tiles = len(found)
    finding.bytes = sum(found.values())


def _compare_tiles(
    job: Job, extension: str, oracle: Oracle, finding: Finding, *, lanczos: bool
) -> None:
    pyramid = oracle.pyramid
    for tile, box in _sample_tiles(pyramid):
        path = tile_path(job.output, tile, extension)
        expected = _encode_tile(oracle.pixels(tile.level, box), job)
        with Image.open(path) as found, Image.open(io.BytesIO(expected)) as wanted:
            fault = _different_settings(found, wanted)
            error = 0.0 if fault else _mean_error(found, wanted)
        finding.looked_at += 1
        finding.worst = max(finding.worst, error)
        tolerance = LANCZOS_TOLERANCE if lanczos and tile.level < pyramid.last_level else 0.0
        if error > tolerance:
            fault = f"mean error {error:.3f} is above {tolerance}"
        if fault:
            finding.faults.append(f"{path}: {fault}")
            return


def _sample_tiles(pyramid: Pyramid) -> Iterator[tuple[Tile, Box]]:
    """The corners of every level and some tiles between, the same in every run."""
    choice = random.Random(1)
    for level in range(pyramid.last_level + 1):
        tiles = [*pyramid.tiles(level)]
        cols = {0, tiles[-1][0].col}
        rows = {0, tiles[-1][0].row}
        corners = [item for item in tiles if item[0].col in cols and item[0].row in rows]
        between = choice.sample(tiles, min(SAMPLES_PER_LEVEL, len(tiles)))
        yield from dict.fromkeys(itertools.chain(corners, between))


def _encode_tile(pixels: Raster, job: Job) -> bytes:
    """A tile as Pillow would save it with the job's options."""
    image = Image.fromarray(pixels if pixels.shape[2] > 1 else pixels[:, :, 0])
    buffer = io.BytesIO()
    parameters: dict[str, object] = {"quality": job.quality, "subsampling": "4:2:0"}
    if job.format == "avif":
        parameters |= {"speed": 9, "max_threads": 1, "autotiling": False}  # fasttile's defaults
    image.save(buffer, job.format, **parameters)
    return buffer.getvalue()


def _different_settings(actual: Image.Image, expected: Image.Image) -> str:
    """What differs beside the pixels, or nothing."""
    for title in ("format", "size", "mode"):
        if getattr(actual, title) != getattr(expected, title):
            return f"{title} is {getattr(actual, title)}, not {getattr(expected, title)}"
    if isinstance(actual, JpegImagePlugin.JpegImageFile):
        if actual.quantization != getattr(expected, "quantization", None):
            return "other quantisation tables"
        sampling, right = (JpegImagePlugin.get_sampling(image) for image in (actual, expected))
        if sampling != right:
            return f"subsampling {sampling}, not {right}"
    return ""


def _mean_error(actual: Image.Image, expected: Image.Image) -> float:
    difference = np.asarray(actual, np.int16) - np.asarray(expected, np.int16)
    return float(np.abs(difference).mean())


def main() -> None:
    """Examine the outputs on the command line."""
    parser = argparse.ArgumentParser(description="Compare outputs with what they have to be.")
    parser.add_argument("input", type=Path)
    parser.add_argument("outputs", nargs="+", metavar="PROGRAM=OUTPUT.dzi")
    add_options(parser)
    given = vars(parser.parse_args())
    outputs = [output.split("=", 1) for output in given.pop("outputs")]
    jobs = {name: Job(output=Path(path), **given) for name, path in outputs}
    source = open_source(given["input"])
    pyramid = Pyramid(source.shape[1], source.shape[0], given["tile_size"], given["overlap"])
    oracle = Oracle(source, pyramid)
    findings = {name: asdict(examine(name, job, oracle)) for name, job in jobs.items()}
    json.dump(findings, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
