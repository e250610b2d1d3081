"""A process that runs every kernel on pixels between two inaccessible pages.

A read or write of one byte too many ends it by SIGSEGV. Its argument is the kernels' module.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fasttile import kernels as resample

PROT_NONE = 0


class GuardedMemory:
    """Memory between two inaccessible pages."""

    def __init__(self, size: int) -> None:
        page = mmap.PAGESIZE
        inner = -(-size // page) * page
        self._map = mmap.mmap(-1, inner + 2 * page)
        self._bytes = np.frombuffer(self._map, np.uint8)[page : page + inner]
        start = self._bytes.__array_interface__["data"][0]
        libc = ctypes.CDLL(None, use_errno=True)
        for boundary in (start - page, start + inner):
            if libc.mprotect(ctypes.c_void_p(boundary), ctypes.c_size_t(page), PROT_NONE):
                raise OSError(ctypes.get_errno(), "mprotect")

    def pixels(
        self, shape: tuple[int, int, int], dtype: Any, *, at_end: bool, upward: bool
    ) -> NDArray[Any]:
        """Zeroed pixels that touch one of the two ends; upward: the last row lies first."""
        nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        start = len(self._bytes) - nbytes if at_end else 0
        pixels = self._bytes[start : start + nbytes].view(dtype).reshape(shape)
        pixels[:] = 0
        return pixels[::-1] if upward else pixels


def run_kernels_at_page_boundary(module: str) -> int:
    """Every kernel, on every width that vectors may end at; how many calls there were."""
    resample._kernels = import_module(f"fasttile.{module}")
    source, target = GuardedMemory(4 * 70 * 5 * 2), GuardedMemory(4 * 70 * 5 * 2)
    calls = 0
    for width in range(1, 71):
        for height in (1, 4):
            for at_end, upward in ((True, False), (True, True), (False, False), (False, True)):
                side = {"at_end": at_end, "upward": upward}
                for dtype in (np.uint8, np.uint16):
                    for bands in (1, 2, 3, 4):
                        src = source.pixels((height, width, bands), dtype, **side)
                        half = (-(-height // 2), -(-width // 2), bands)
                        for opaque in (0, 1):  # two ways through the kernels with alpha
                            src[..., -1] = opaque * np.iinfo(dtype).max
                            for alpha in {False, bands in (2, 4)}:
                                out = target.pixels(half, dtype, **side)
                                resample.halve(src, out, alpha=alpha)
                                calls += 1
                        if dtype == np.uint16 and bands > 1:
                            continue
                        for background in (None, (9, 8, 7)):
                            flat = background is not None
                            packed = (height, width, resample.packed_bands(bands, flat=flat))
                            out = target.pixels(packed, dtype, at_end=at_end, upward=False)
                            resample.pack(src, out, background=background)
                            resample.repeat_ratio(out)
                            calls += 2
                        if bands == 4 and dtype == np.uint8:
                            out = target.pixels(src.shape, dtype, at_end=at_end, upward=False)
                            resample.pack(src[..., :3], out)
                            calls += 1
                    if dtype == np.uint8:
                        src = source.pixels((height, width, 4), dtype, at_end=at_end, upward=False)
                        out = target.pixels((height, width, 3), dtype, at_end=at_end, upward=False)
                        resample.rgbx_to_rgb(src, out)
                        calls += 1
    return calls


if __name__ == "__main__":
    print(run_kernels_at_page_boundary(sys.argv[1]))
