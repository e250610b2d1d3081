"""What whoever opens a picture has to know of a user's wishes."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import SourceError


@dataclass(frozen=True)
class Reading:
    """How a picture is to be read.

    Attributes:
        page: Which picture of several, counted from 1. None: the first, or of the levels of a
            pyramid the largest.
        max_pixels: The largest picture to accept, in pixels. None: what a file of its size can
            be expected to hold.
        allow_truncated: Whether what is there of a damaged picture is taken, and the rest is
            background.
        background: Red, green and blue of what is missing.
        keep_cmyk: Whether a CMYK picture that has a profile stays CMYK, because whoever asks
            converts it by that profile.
    """

    page: int | None = None
    max_pixels: int | None = None
    allow_truncated: bool = False
    background: tuple[int, int, int] = (255, 255, 255)
    keep_cmyk: bool = False

    def check_pixels(self, name: str, width: int, height: int, likely: int | None = None) -> None:
        """Refuse a picture that claims too many pixels, before memory or disk is touched.

        Args:
            name: What messages call the picture.
            width, height: What it claims.
            likely: The most pixels that a file of its size can be expected to hold; counts
                where the user has set no limit. None: no such limit is needed.

        Raises:
            SourceError: It claims more.
        """
        limit = self.max_pixels if self.max_pixels is not None else likely
        if limit is not None and width * height > limit:
            raise SourceError(
                f"{name}: it claims {width}×{height} = {width * height:,} pixels, more than "
                f"{'its size makes likely' if self.max_pixels is None else 'the limit'} "
                f"({limit:,}); --max-pixels {width * height} (max_pixels) would allow it"
            )


def likely_pixels(file_size: int) -> int:
    """The most pixels that a compressed file can be expected to hold.

    Deflate shrinks a blank picture of four bytes a pixel 1,032 times, LZW and JPEG about as much;
    and up to 64 megapixels there is no harm in trying.
    """
    return max(2**26, 1_250 * file_size)
