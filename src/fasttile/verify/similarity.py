"""Difference of two tiles, compared with the loss of an encoder."""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from fasttile.encode.codecs import Codec, Deflate, Png, Webp
from fasttile.encode.encoder import Encoder, make_encoder
from fasttile.types import Pixels
from fasttile.verify.report import Fault, Findings
from fasttile.verify.tiles import decode_or_flaw

BLOCK_SIDE = 16
"""Pixels a side of the blocks that are compared by themselves: JPEG's with chroma halved."""

MEAN_FACTOR, MEAN_MARGIN = 2.0, 2.0
BLOCK_FACTOR, BLOCK_MARGIN = 2.0, 10.0
"""Maximum difference of tiles: a multiple of the loss of the encoder, plus a margin of 255, over a
tile and in its worst block. Levels of photographs, noise and drawings in JPEG or WebP of quality 30
to 95 differ by up to 1.5 times the loss and 2, and 0.6 times and 10."""

ROUGH_MEAN_MARGIN, ROUGH_BLOCK_MARGIN = 32.0, 40.0
"""The margins where levels were made before their colours were converted, or by a method that
chooses among values of tiles with a loss. Noise in ProPhoto, which is clipped in sRGB, differs by
up to 27 with "min" and 18 with "mean"."""


def is_lossless(codec: Codec) -> bool:
    """True if decoding restores all pixels."""
    return isinstance(codec, Png | Deflate) or (isinstance(codec, Webp) and codec.lossless)


class EncodingLoss:
    """The loss of an encoder; any thread may call the methods.

    Args:
        codec: The codec.

    Attributes:
        is_lossless: True if decoding restores all pixels.
    """

    def __init__(self, codec: Codec) -> None:
        self.is_lossless = is_lossless(codec)
        self._codec = codec
        self._thread_local = threading.local()

    def apply(self, pixels: Pixels) -> Pixels:
        """Encode and decode pixels."""
        if self.is_lossless or pixels.dtype != np.uint8:
            return pixels
        encoder: Encoder | None = getattr(self._thread_local, "encoder", None)
        if encoder is None:
            encoder = self._thread_local.encoder = make_encoder(self._codec)
        data = encoder.encode(pixels)
        assert data is not None  # the encoder skips no blank tiles
        decoded = decode_or_flaw(data, max(pixels.shape[:2]))
        assert not isinstance(decoded, str)
        return match_bands(decoded, pixels.shape[2])


class ExactMatchVote:
    """Decides if tiles that are only similar are bad: where most tiles are exact.

    All tiles of another program may differ a little. Where most tiles are equal to the last bit,
    they come from this encoder, and differing tiles were changed later.

    Args:
        problem: The problem of inexact tiles, in words that follow the name.

    Attributes:
        exact_count: Number of exact tiles.
    """

    def __init__(self, problem: str) -> None:
        self.problem = problem
        self.exact_count = 0
        self._inexact = Findings()
        self._lock = threading.Lock()

    def add_vote(self, fault: Fault, *, is_exact: bool) -> None:
        """Add a tile.

        Args:
            fault: The fault, should the tile be bad.
            is_exact: True if the tile is exactly as expected; False if it is similar.
        """
        if not is_exact:
            self._inexact.add(fault)
            return
        with self._lock:
            self.exact_count += 1

    @property
    def is_majority_exact(self) -> bool:
        """True if most tiles are exactly as expected."""
        return self.exact_count >= self._inexact.fault_count

    def report_to(self, findings: Findings) -> None:
        """Record the inexact tiles as faults, if most tiles are exact."""
        if self.is_majority_exact:
            findings.merge(self._inexact)


def has_alpha(pixels: Pixels) -> bool:
    """True if the last band of a tile is alpha."""
    return pixels.shape[2] in (2, 4)


def with_alpha(pixels: Pixels) -> Pixels:
    """A tile with a band of alpha, of opaque pixels if it has none."""
    return pixels if has_alpha(pixels) else match_bands(pixels, pixels.shape[2] + 1)


def is_opaque(pixels: Pixels) -> bool:
    """True if a tile has no alpha, or that of opaque pixels only."""
    return not has_alpha(pixels) or bool((pixels[..., -1] == np.iinfo(pixels.dtype).max).all())


def match_bands(pixels: Pixels, bands: int) -> Pixels:
    """Convert pixels to a number of bands if that changes nothing visible."""
    if pixels.shape[2] == bands:
        return pixels
    alpha = pixels[..., -1:] if pixels.shape[2] in (2, 4) else None
    colours = pixels if alpha is None else pixels[..., :-1]
    if bands > 2 and colours.shape[2] == 1:
        colours = np.repeat(colours, 3, axis=2)
    if bands < 3 and colours.shape[2] == 3:
        colours = colours[..., 1:2]
    if bands in (1, 3):
        return colours
    if alpha is None:
        alpha = np.full_like(colours[..., :1], np.iinfo(pixels.dtype).max)
    return np.concatenate([colours, alpha], axis=2)


def mean_distance(one: Pixels, other: Pixels) -> float:
    """Mean absolute difference of pixels, over all bands."""
    return float(np.abs(one.astype(np.int32) - other).mean())


def is_within_loss(
    stored: Pixels, lossy: Pixels, reference: Pixels, *, is_rough: bool = False
) -> bool:
    """True if stored pixels differ from the reference by about the loss of an encoder.

    Args:
        stored: The stored pixels.
        lossy: The reference, encoded and decoded.
        reference: The right pixels.
        is_rough: True if the pixels may differ by more, see `halving.Halving.is_rough`.
    """
    if is_rough and reference.shape[0] * reference.shape[1] == 1:
        return True  # JPEG has one colour for the four pixels that it was chosen from
    mean_margin = ROUGH_MEAN_MARGIN if is_rough else MEAN_MARGIN
    block_margin = ROUGH_BLOCK_MARGIN if is_rough else BLOCK_MARGIN
    stored_distances, own_distances = (
        _block_distances(stored, reference),
        _block_distances(lossy, reference),
    )
    unit = 257 if reference.dtype == np.uint16 else 1
    small = reference.shape[0] * reference.shape[1] <= BLOCK_SIDE**2  # too few for a mean
    near = (
        small or stored_distances.mean() <= MEAN_FACTOR * own_distances.mean() + mean_margin * unit
    )
    return bool(
        near and stored_distances.max() <= BLOCK_FACTOR * own_distances.max() + block_margin * unit
    )


def _block_distances(one: Pixels, other: Pixels) -> NDArray[np.float64]:
    """Mean absolute difference of each block, over its pixels and bands."""
    apart = np.abs(one.astype(np.int32) - other).mean(axis=2)
    rows, cols = (range(0, side, BLOCK_SIDE) for side in apart.shape)
    sums = np.add.reduceat(np.add.reduceat(apart, rows, axis=0), cols, axis=1)
    heights = np.diff([*rows, apart.shape[0]])
    widths = np.diff([*cols, apart.shape[1]])
    means: NDArray[np.float64] = sums / (heights[:, None] * widths)
    return means
