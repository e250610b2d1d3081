"""Peer (d), the floors: encoding of an image's tiles, and nothing else.

All tiles of an image are cut and packed beforehand and held in memory. A run encodes them, on a
number of threads, with the options of the job: no reading, halving, packing or storing. There are
two floors:

stacked  One call of Pillow's JPEG encoder for a stack of tiles of one size, packed below one
         another, with a restart marker after each tile. The result stays in a file in memory and
         is not split. No tiler with this encoder can be faster.
single   One call of fasttile's codec for each tile, into bytes. For PNG and AVIF this is the only
         floor.

Before the first run every stack is split at its markers and compared: with its own header, each
segment must be the file of its tile, byte for byte. Edge tiles whose height cannot be padded to the
encoder's blocks without other bytes are encoded alone, also by "stacked".

    python bench/floor.py INPUT [--format jpeg|png|avif] [--way stacked|single]
                          [--threads 2] [--runs 3]
    python bench/floor.py INPUT --serve

With --serve it packs, prints a line of JSON with the bytes of all tiles, and then answers each
line on its input, such as `{"cpus": [0, 1], "way": "stacked"}`, by one run with a thread on each of
these processors.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import fasttile
from dzi import Job, add_options
from fasttile import pillow_core
from fasttile.encode.codecs import Codec, parse_codec
from fasttile.encode.encoder import EncoderScratch, ScratchFile, encoder_factory
from fasttile.formats.jpeg import jpeg_segments
from fasttile.kernels import pack, packed_bands

Way = Literal["stacked", "single"]
Encode = Callable[[], int]
Pixels = NDArray[Any]

WAYS: tuple[Way, ...] = ("stacked", "single")
MAX_STACK_TILES = 16
"""Tiles of a stack: 4 MB of inner tiles, so that a run has many stacks for each thread."""

BUFFER_BYTES = 2**16
"""Size of Pillow's buffer in a call for a stack; Pillow writes it to the file when it is full."""


class Stack:
    """Packed tiles of one size, below one another.

    Args:
        height, width: Size of each tile in pixels.
        bands: Bytes of a packed pixel, 1 or 4.
        block: Height of the encoder's blocks in pixels.
    """

    def __init__(self, height: int, width: int, bands: int, block: int) -> None:
        padding = -height % block
        # libjpeg pads 8 × 8 blocks with the last rows of luma and of chroma. Repeated pixel rows
        # give the same, unless the last row of chroma is the mean of two rows. Complete blocks
        # of padding are not encoded from rows.
        self.is_joined = padding == 0 or block == 8 or (height % 2 == 1 and padding < 8)
        self.slot_rows = height + padding if self.is_joined else height
        self.count = 0
        self._height = height
        rows = self.slot_rows * (MAX_STACK_TILES if self.is_joined else 1)
        self._memory = np.empty((rows, width, bands), np.uint8)

    @property
    def is_full(self) -> bool:
        """True if no further tile has room."""
        return (self.count + 1) * self.slot_rows > len(self._memory)

    @property
    def pixels(self) -> Pixels:
        """All tiles with their padding."""
        return self._memory[: self.count * self.slot_rows]

    def append(self, tile: Pixels) -> None:
        """Pack a tile, shape (height, width, bands)."""
        slot = self._memory[self.count * self.slot_rows :][: self.slot_rows]
        pack(tile, slot[: self._height])
        slot[self._height :] = slot[self._height - 1]
        self.count += 1

    def tiles(self) -> Iterator[Pixels]:
        """Each packed tile, without its padding."""
        for top in range(0, len(self.pixels), self.slot_rows):
            yield self.pixels[top : top + self._height]

    def split(self, data: bytes) -> list[bytes]:
        """The file of each tile, from the JPEG of the complete stack.

        Raises:
            ValueError: The JPEG has another number of segments than the stack has tiles.
        """
        head, scan = _split_header(data, self._height)
        # 0xFF in a segment is followed by 0, so these two bytes are always a marker.
        parts = [scan[:-2]]
        for number in range(self.count - 1):
            parts[-1:] = parts[-1].split(bytes([0xFF, 0xD0 + number % 8]), 1)
        if len(parts) != self.count:
            raise ValueError(f"a stack of {self.count} tiles has {len(parts)} segments")
        return [head + part + b"\xff\xd9" for part in parts]


def _split_header(data: bytes, height: int) -> tuple[bytes, bytes]:
    """A JPEG's header with another height and without restart markers, and what follows it."""
    head, end = data[:2], 2
    for kind, start, end in jpeg_segments(data):
        segment = data[start:end]
        if kind == 0xC0:  # SOF0: marker, length and precision are before the height
            segment = segment[:5] + height.to_bytes(2, "big") + segment[7:]
        if kind != 0xDD:  # DRI
            head += segment
    return head, data[end:]


class Floor:
    """The packed tiles of one image.

    Args:
        job: What is cut, and how the tiles are encoded; its output has no meaning here.

    Attributes:
        bytes: Size of all encoded tiles.
    """

    def __init__(self, job: Job) -> None:
        quality = job.quality if job.has_quality else None
        self._codec = parse_codec(job.format, quality)
        self._stacks = _pack_stacks(job)
        self._functions: dict[Way, list[list[Encode]]] = {"stacked": [], "single": []}
        self.bytes = self._compare_ways()

    def _compare_ways(self) -> int:
        """Check that both ways give the same files; return their bytes."""

        def compare(stack: Stack) -> int:
            scratch, file = EncoderScratch(), ScratchFile()
            single = [_tile_encoder(self._codec, tile, scratch)() for tile in stack.tiles()]
            if self._codec.name == "jpeg":
                make_stack_encoder(self._codec, stack, file)()
                if stack.is_joined and stack.split(file.read_back()) != single:
                    raise SystemExit("floor: the tiles of a stack are not those of single calls")
            return sum(map(len, single))

        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads:
            return sum(threads.map(compare, self._stacks))

    def run(self, cpus: Iterable[int], way: Way) -> dict[str, float]:
        """Encode every tile once, with one thread for each of these processors.

        Returns:
            The seconds it took, the processor time in seconds, and the bytes encoded.
        """
        os.sched_setaffinity(0, cpus)  # of this thread, and of those that it starts
        count = len(os.sched_getaffinity(0))
        ready = self._functions[way]
        while len(ready) < count:
            ready.append(self._make_functions(way))
        turns = iter(range(len(ready[0])))
        sizes: list[int] = []
        threads = [
            threading.Thread(target=_encode, args=(functions, turns, sizes))
            for functions in ready[:count]
        ]
        started, started_cpu = time.perf_counter(), time.process_time()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds, cpu = time.perf_counter() - started, time.process_time() - started_cpu
        return {"seconds": seconds, "cpu": cpu, "bytes": sum(sizes)}

    def _make_functions(self, way: Way) -> list[Encode]:
        """One thread's encoding functions, one for each stack or tile."""
        if way == "stacked":
            if self._codec.name != "jpeg":
                raise SystemExit(f"floor: {self._codec.name} tiles cannot be stacked")
            file = ScratchFile()
            return [make_stack_encoder(self._codec, stack, file) for stack in self._stacks]
        scratch = EncoderScratch()
        encoders = (
            _tile_encoder(self._codec, tile, scratch)
            for stack in self._stacks
            for tile in stack.tiles()
        )
        return [lambda encode=encoder: len(encode()) for encoder in encoders]


def _pack_stacks(job: Job) -> list[Stack]:
    stacks: list[Stack] = []
    latest: dict[tuple[int, ...], Stack] = {}
    for _, pixels in fasttile.iter_tiles(job.input, tile_size=job.tile_size, overlap=job.overlap):
        height, width, bands = pixels.shape
        stack = latest.get(pixels.shape)
        if stack is None or stack.is_full:
            block = 8 if bands == 1 else 16  # colours are subsampled 4:2:0
            stack = Stack(height, width, packed_bands(bands, flat=False), block)
            latest[pixels.shape] = stack
            stacks.append(stack)
        stack.append(pixels)
    # Full stacks first: so the threads end at about the same time.
    return sorted(stacks, key=lambda stack: -stack.pixels.size)


def _pillow_mode(pixels: Pixels) -> str:
    return "L" if pixels.shape[2] == 1 else "RGB"


def _tile_encoder(codec: Codec, tile: Pixels, scratch: EncoderScratch) -> Callable[[], bytes]:
    """A function that encodes a packed tile: `Encoder.encode` would pack it first."""
    return encoder_factory(codec, _pillow_mode(tile))(tile, scratch)


def make_stack_encoder(codec: Codec, stack: Stack, file: ScratchFile) -> Encode:
    """A function that encodes a stack into a file in memory by one call; returns the bytes.

    Args:
        codec: JPEG.
        stack: The tiles.
        file: It is written from its beginning at each call.
    """
    pixels = stack.pixels
    mode = _pillow_mode(pixels).replace("RGB", "RGBX")
    parameters = codec.save_parameters()
    if stack.is_joined:
        block = 8 if mode == "L" else 16
        parameters["restart_marker_rows"] = stack.slot_rows // block
    # A small image for the configuration that Pillow's plugin makes of the parameters.
    image = Image.new(mode, (8, 8))
    pillow_core.save_by_plugin(image, codec.pillow_plugin, parameters)
    configuration: Sequence[Any] = image.encoderconfig
    rawmode = import_module("PIL.JpegImagePlugin").RAWMODE[mode]
    core_image = pillow_core.core_image_over(pixels, mode, pixels.shape[1])

    def encode() -> int:
        descriptor = file.fileno()
        os.lseek(descriptor, 0, os.SEEK_SET)
        status = pillow_core.encode_jpeg(
            core_image, mode, rawmode, tuple(configuration), descriptor, BUFFER_BYTES
        )
        if status < 0:
            raise OSError(f"Pillow's JPEG encoder failed with status {status}")
        return os.lseek(descriptor, 0, os.SEEK_CUR)

    return encode


def _encode(functions: list[Encode], turns: Iterator[int], sizes: list[int]) -> None:
    """Encode the next stack or tile, until there is none; threads share `turns`."""
    total = 0
    for index in turns:
        total += functions[index]()
    sizes.append(total)


def _answer_requests(floor: Floor) -> None:
    print(json.dumps({"bytes": floor.bytes}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(floor.run(request["cpus"], request["way"])), flush=True)


def main() -> None:
    """Measure the floor of the image on the command line."""
    parser = argparse.ArgumentParser(description="Measure what encoding an image's tiles costs.")
    parser.add_argument("input", type=Path)
    add_options(parser)
    parser.add_argument("--way", choices=WAYS, help="default: each that the format allows")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--serve", action="store_true", help="answer requests, see above")
    given = vars(parser.parse_args())
    way, threads, runs, serve = (given.pop(name) for name in ("way", "threads", "runs", "serve"))
    floor = Floor(Job(output=Path(os.devnull), **given))
    if serve:
        _answer_requests(floor)
        return
    cpus = sorted(os.sched_getaffinity(0))[:threads]
    ways = [way] if way else WAYS if given["format"] == "jpeg" else ["single"]
    for _ in range(runs):
        for one in ways:
            found = floor.run(cpus, one)
            print(
                f"{one}: {found['seconds']:.3f} s, cpu {found['cpu']:.3f} s, "
                f"{found['bytes']} bytes; all tiles: {floor.bytes} bytes"
            )


if __name__ == "__main__":
    main()
