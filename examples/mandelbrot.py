"""The Mandelbrot set, 2^40 pixels a side: it is never cut, only looked at.

    python examples/mandelbrot.py              opens the browser
    python examples/mandelbrot.py 30 set.dzi   cuts one of 2^10 pixels a side, 30 halvings smaller

How deep it goes: the set lies in a square of 4 units, so a pixel of the largest level is 2^-38. A
double of a size from 1 to 2 has steps of 2^-52: 2^14 of them to a pixel. Columns and rows are
integers below 2^40, and 2^-38 is a power of two, so each place is exact; only the iteration rounds.
More than about 2^48 pixels a side would need longer numbers than doubles.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

import fasttile

BITS = 40
UNITS_PER_PIXEL = 2.0**-38
LEFT, TOP = -2.5, -2.0


def draw(region: fasttile.Region, scale: int) -> Any:
    """The pixels of a region of one level; a pixel of it is `scale` pixels wide."""
    step = scale * UNITS_PER_PIXEL
    x = LEFT + np.arange(region.x, region.right) * step
    y = TOP + np.arange(region.y, region.bottom) * step
    places = np.add.outer(1j * y, x).ravel()
    # Further in, points leave later. The number depends on the level only, so tiles match.
    limit = 100 + 30 * (BITS - scale.bit_length())
    counts = np.zeros(len(places))
    inside, c, z = np.arange(len(places)), places, np.zeros_like(places)
    for count in range(limit):
        z = z * z + c
        left = z.real * z.real + z.imag * z.imag > 2**16
        if left.any():
            # The fraction between two counts, so that colours change smoothly.
            counts[inside[left]] = count + 2 - np.log2(np.log2(np.abs(z[left])))
            inside, c, z = inside[~left], c[~left], z[~left]
    phase = np.sqrt(counts)[:, None] * 0.6 + (0.0, 0.6, 1.2)
    colours = np.where(counts[:, None] > 0, 127.5 - 127.5 * np.cos(phase), 0)
    return colours.astype(np.uint8).reshape(region.height, region.width, 3)


def mandelbrot(halvings: int = 0) -> Any:
    """The set as a source, smaller by a number of halvings."""
    side = 2 ** (BITS - halvings)

    def draw_smaller(region: fasttile.Region, scale: int) -> Any:
        return draw(region, scale << halvings)

    return fasttile.from_function(draw_smaller, side, side, per_level=True, name="mandelbrot")


def main(arguments: list[str]) -> None:
    """Show the set, or cut a small one."""
    if len(arguments) == 2:
        halvings, dest = arguments
        print(fasttile.cut(mandelbrot(int(halvings)), dest).path)
    else:
        from fasttile.serve import view

        view(mandelbrot())


if __name__ == "__main__":
    main(sys.argv[1:])
