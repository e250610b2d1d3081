"""Pixel types, memory layouts and guarded memory for tests of the kernels."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import numpy as np

from fasttile import _resample
from support.reading import noise
from support.reference import Array

DTYPES = [np.uint8, np.uint16]


def runnable_kernels() -> list[str]:
    """The modules of kernels that were built and that this machine can run."""
    modules = ["_resample"]
    best = _resample.best_variant()
    if best != "plain":
        try:
            import_module(f"fasttile._resample_{best}")
        except ImportError:
            return modules
        modules.append(f"_resample_{best}")
    return modules


def memory_layouts(pixels: Array) -> Iterator[tuple[str, Array]]:
    """The same pixels in memory in each way that a kernel must take, without a copy."""
    height, width, bands = pixels.shape
    yield "contiguous", pixels
    wider = noise(height, width + 3, bands, dtype=pixels.dtype)
    wider[:, 1:-2] = pixels
    yield "rows apart", wider[:, 1:-2]
    upward = pixels[::-1].copy()
    yield "upward", upward[::-1]
    skipping = noise(2 * height, width, bands, dtype=pixels.dtype)
    skipping[::2] = pixels
    skipping.flags.writeable = False
    yield "read-only, every other row", skipping[::2]


class GuardedPixels:
    """Room for pixels in the midst of other bytes, which `check` finds unchanged."""

    def __init__(self, shape: tuple[int, ...], dtype: Any, *, stretch: bool = False) -> None:
        height, width, bands = shape
        margin = 5 if stretch else 0  # pixels on either side of each row
        row = (width + 2 * margin) * bands * np.dtype(dtype).itemsize  # bytes
        self._bytes = np.full(height * row + 128, 0xA5, np.uint8)
        rows = self._bytes[64:-64].view(dtype).reshape(height, width + 2 * margin, bands)
        self._around = [self._bytes[:64], self._bytes[-64:]]
        self._around += [rows[:, :margin].view(np.uint8), rows[:, margin + width :].view(np.uint8)]
        self.pixels = rows[:, margin : margin + width]

    def check(self) -> None:
        assert all((around == 0xA5).all() for around in self._around)


def halved_shape(pixels: Array) -> tuple[int, int, int]:
    height, width, bands = pixels.shape
    return -(-height // 2), -(-width // 2), bands
