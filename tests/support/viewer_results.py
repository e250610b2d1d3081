"""Results for the tests of pages: coloured fields, and what a browser should show of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

import fasttile
from fasttile.abc.layout import Layout
from fasttile.layouts import LayoutSpec

IMAGE_SIZE = (1025, 700)
"""Of the image that is cut: with odd halves."""

FIELD_COLOURS = (
    (214, 40, 40),
    (247, 127, 0),
    (60, 160, 80),
    (30, 96, 190),
    (120, 60, 170),
    (90, 90, 90),
)

Pixel = tuple[int, int, int]


def colour_fields(width: int, height: int) -> Image.Image:
    """Six fields of one colour each, three in a row."""
    small = Image.new("RGB", (3, 2))
    small.putdata(FIELD_COLOURS)
    return small.resize((width, height), Image.Resampling.NEAREST)


def colour_at(x: float, y: float) -> Pixel:
    """The colour of `fields` at a place, 0 to 1 each way."""
    return FIELD_COLOURS[int(x * 3) + 3 * int(y * 2)]


def cut_result(folder: Path, name: str, spelling: str, **options: Any) -> Layout:
    """Cut `fields` of `SIZE` into a folder; gives the layout of what is there."""
    given = name.replace("{", "{{").replace("}", "}}")  # in a destination they are placeholders
    dest = folder / (f"{given}.dzi" if spelling.startswith("dzi") else given)
    fasttile.cut(
        np.asarray(colour_fields(*IMAGE_SIZE)), dest, layout=spelling, quality=95, **options
    )
    levels = options.get("levels")
    return LayoutSpec.parse(spelling).bind(name, *IMAGE_SIZE, "jpg", levels=levels)


class WindowView(NamedTuple):
    """What a window of pixels shows of an image.

    Attributes:
        window: Its width and height.
        image: Width and height of the image.
        zoom: How much larger than fitted it is.
        shift: By how much of the window it was moved, right and down.
    """

    window: tuple[int, int]
    image: tuple[int, int]
    zoom: float = 1
    shift: tuple[float, float] = (0, 0)

    def to_screen(self, x: float, y: float) -> tuple[float, float]:
        """Where a place of the image, 0 to 1 each way, is in the window."""
        (wide, high), (width, height) = self.window, self.image
        scale = min(wide / width, high / height) * self.zoom
        return (
            wide / 2 + (x - 0.5) * width * scale - self.shift[0] * wide,
            high / 2 + (y - 0.5) * height * scale - self.shift[1] * high,
        )

    def find_faults(self, screenshot: Image.Image, background: Pixel) -> list[str]:
        """Where a screenshot does not show what it should: of each field the middle and corners."""
        found = []
        for col in range(3):
            for row in range(2):
                for dx in (0.08, 0.5, 0.92):
                    for dy in (0.08, 0.5, 0.92):
                        found += self._check_point(screenshot, (col + dx) / 3, (row + dy) / 2)
        for x, y in ((-0.02, 0.5), (1.02, 0.5), (0.5, -0.02), (0.5, 1.02)):
            found += self._check_point(screenshot, x, y, background)
        return found

    def _check_point(
        self, screenshot: Image.Image, x: float, y: float, expected: Pixel | None = None
    ) -> list[str]:
        wide, high = self.window
        left, top = self.to_screen(x, y)
        if not (1 <= left < wide - 1 and 1 <= top < high - 1):
            return []
        colour = expected or colour_at(x, y)
        seen = screenshot.getpixel((int(left), int(top)))
        assert isinstance(seen, tuple)
        if max(abs(a - b) for a, b in zip(seen, colour, strict=False)) <= 8:
            return []
        return [f"at {x:.2f}, {y:.2f} ({left:.0f}, {top:.0f}): {seen[:3]}, not {colour}"]
