"""Peer (d), the floor: what encoding the tiles costs, and nothing else.

All tiles of an image are cut and packed beforehand and held in memory. What is timed is
fasttile's own codec encoding them with the same options, on the same number of threads, into
memory: no reading, halving, packing or storing. No tiler with this codec can be faster.

    python bench/floor.py INPUT [--format jpeg|png] [--threads 2] [--runs 3]
    python bench/floor.py INPUT --serve

With --serve it packs, prints a line, and then answers each line of JSON on its input, such as
`{"cpus": [0, 1]}`, by one run with a thread on each of these processors.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fasttile
from dzi import Job, add_options
from fasttile.encode.codecs import Codec, parse_codec
from fasttile.encode.encoder import EncoderScratch, encoder_factory
from fasttile.kernels import pack, packed_bands

Encode = Callable[[], bytes]
Pixels = NDArray[Any]


class Floor:
    """The packed tiles of one image.

    Args:
        job: What is cut, and how the tiles are encoded; its output has no meaning here.
    """

    def __init__(self, job: Job) -> None:
        quality = job.quality if job.format == "jpeg" else None
        self._codec = parse_codec(job.format, quality)
        tiles = fasttile.iter_tiles(job.input, tile_size=job.tile_size, overlap=job.overlap)
        self._tiles = [_pack_tile(pixels) for _, pixels in tiles]
        self._functions: list[list[Encode]] = []

    def run(self, cpus: Iterable[int]) -> dict[str, float]:
        """Encode every tile once, with one thread for each of these processors.

        Returns:
            The seconds it took, the processor time in seconds, and the bytes encoded.
        """
        os.sched_setaffinity(0, cpus)  # of this thread, and of those that it starts
        count = len(os.sched_getaffinity(0))
        while len(self._functions) < count:
            self._functions.append(make_encode_functions(self._codec, self._tiles))
        turns = iter(range(len(self._tiles)))
        sizes: list[int] = []
        threads = [
            threading.Thread(target=_encode, args=(functions, turns, sizes))
            for functions in self._functions[:count]
        ]
        started, started_cpu = time.perf_counter(), time.process_time()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds, cpu = time.perf_counter() - started, time.process_time() - started_cpu
        return {"seconds": seconds, "cpu": cpu, "bytes": sum(sizes)}


def _pack_tile(pixels: Pixels) -> Pixels:
    height, width, bands = pixels.shape
    packed = np.empty((height, width, packed_bands(bands, flat=False)), pixels.dtype)
    pack(pixels, packed)
    return packed


def make_encode_functions(codec: Codec, tiles: list[Pixels]) -> list[Encode]:
    """One thread's encoding functions, one for each packed tile.

    `Encoder.encode` would pack each tile first, which is no part of the floor.
    """
    way = encoder_factory(codec, "L" if tiles[0].shape[2] == 1 else "RGB")
    workshop = EncoderScratch()
    return [way(tile, workshop) for tile in tiles]


def _encode(functions: list[Encode], tile_numbers: Iterator[int], sizes: list[int]) -> None:
    """Encode the next tile, until there is none; threads share `turns`."""
    total = 0
    for index in tile_numbers:
        total += len(functions[index]())
    sizes.append(total)


def _answer_requests(floor: Floor) -> None:
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(floor.run(json.loads(line)["cpus"])), flush=True)


def main() -> None:
    """Measure the floor of the image on the command line."""
    parser = argparse.ArgumentParser(description="Measure what encoding an image's tiles costs.")
    parser.add_argument("input", type=Path)
    add_options(parser)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--serve", action="store_true", help="answer requests, see above")
    given = vars(parser.parse_args())
    threads, runs, serve = given.pop("threads"), given.pop("runs"), given.pop("serve")
    floor = Floor(Job(output=Path(os.devnull), **given))
    if serve:
        _answer_requests(floor)
        return
    cpus = sorted(os.sched_getaffinity(0))[:threads]
    floor.run(cpus)  # to warm up
    for _ in range(runs):
        result = floor.run(cpus)
        print(f"{result['seconds']:.3f} s, cpu {result['cpu']:.3f} s, {result['bytes']} bytes")


if __name__ == "__main__":
    main()
