"""The image whose pixels say where they are, and the check of what a screen shows of it.

A pixel's 24 bits are its column (the upper 12) and its row (the lower 12), so that each pixel of
up to 4095 x 4095 has a colour of its own, and white is none of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WHITE = 0xFFFFFF
"""What pages and padding show where there is no image."""


def position_image(width: int, height: int) -> NDArray[np.uint8]:
    """The image of that size, of shape (height, width, 3)."""
    assert 1 <= width <= 4095
    assert 1 <= height <= 4095
    return _code_colours(_position_codes(np.arange(width), np.arange(height)))


@dataclass(frozen=True)
class SourceView:
    """What a window shows: a rectangle of the source, which may reach beyond it.

    Args:
        x, y: The source pixel at the window's top left.
        width, height: The window's size in screen pixels.
        shrunk: How many times a screen pixel is a source pixel halved; 0 at full resolution.
    """

    x: int
    y: int
    width: int
    height: int
    shrunk: int = 0


def check_screen(
    screen: NDArray[np.uint8],
    view: SourceView,
    width: int,
    height: int,
    *,
    tolerance: int = 0,
    ignored_edge: int = 0,
) -> None:
    """Fail unless a window shows the source pixels that it should, and white around them.

    Args:
        screen: The window's pixels, of shape (height, width, 3).
        view: What it should show.
        width, height: The image's size.
        slack: How far off a pixel may be, in source pixels.
        edge: How many screen pixels on each side of the image's outline may be anything.
    """
    assert screen.shape == (view.height, view.width, 3)
    scale = 1 << view.shrunk
    cols = view.x + scale * np.arange(view.width)
    rows = view.y + scale * np.arange(view.height)
    shown = screen.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])

    inside = _is_inside(rows, height)[:, None] & _is_inside(cols, width)[None, :]
    wanted = np.where(inside, _position_codes(cols, rows), WHITE)
    off_x = abs((shown >> 12) - cols[None, :]) > tolerance
    off_y = abs((shown & 0xFFF) - rows[:, None]) > tolerance
    wrong = np.where(inside, off_x | off_y, shown != WHITE)
    if ignored_edge:
        reach = ignored_edge * scale
        checked = (
            _is_far_from_edge(rows, height, reach)[:, None]
            & _is_far_from_edge(cols, width, reach)[None, :]
        )
        wrong &= checked
        inside &= checked
    assert inside.any(), f"{view} shows nothing of the image that could be checked"
    if wrong.any():
        raise AssertionError(_describe_errors(wrong, shown, wanted, view))


def _position_codes(cols: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    return (cols[None, :] << 12) | rows[:, None]


def _code_colours(code: NDArray[np.int64]) -> NDArray[np.uint8]:
    return np.stack([code >> 16, code >> 8 & 0xFF, code & 0xFF], axis=-1).astype(np.uint8)


def _is_inside(places: NDArray[np.int64], length: int) -> NDArray[np.bool_]:
    return (places >= 0) & (places < length)


def _is_far_from_edge(places: NDArray[np.int64], length: int, distance: int) -> NDArray[np.bool_]:
    return (abs(places) > distance) & (abs(places - length) > distance)


def _describe_errors(
    wrong: NDArray[np.bool_],
    shown: NDArray[np.int64],
    expected: NDArray[np.int64],
    view: SourceView,
) -> str:
    where_y, where_x = np.nonzero(wrong)
    first = where_y[0], where_x[0]
    return (
        f"{len(where_y)} of {wrong.size} screen pixels are wrong in {view}: columns "
        f"{where_x.min()}-{where_x.max()}, rows {where_y.min()}-{where_y.max()}; the first, at "
        f"({first[1]}, {first[0]}), is {_describe_code(shown[first])}, "
        f"not {_describe_code(expected[first])}"
    )


def _describe_code(code: int) -> str:
    return "white" if code == WHITE else f"source pixel ({code >> 12}, {code & 0xFFF})"
