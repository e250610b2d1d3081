"""What a user may wish for: one frozen dataclass, the same words in the API and the CLI."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from .errors import OptionError
from .geometry import Region

if TYPE_CHECKING:
    from .sources.rawformat import RawFormat


class OptionWords(TypedDict, total=False):
    """The keyword arguments that `cut` takes: the fields of `CutOptions`."""

    tile_size: int
    overlap: int
    format: str
    quality: int | None
    background: str
    raw: str | RawFormat | None
    region: Region | tuple[int, int, int, int] | None
    window: Literal["full"] | tuple[float, float]
    bits: Literal[8, 16]
    threads: int | None
    overwrite: bool


@dataclass(frozen=True)
class CutOptions:
    """How to cut a picture.

    Args:
        tile_size: Side of a tile without overlap, in pixels.
        overlap: Pixels added on each side that has a neighbour, less than tile_size.
        format: "jpeg", "png" or "webp"; after a colon what concerns that format only, as in
            "jpeg:progressive,subsampling=4:4:4", "png:compress_level=9" or "webp:lossless".
        quality: 1 to 100 for JPEG and WebP; None is 80.
        background: What pixels with alpha are laid on where the format has no alpha: a name
            as in CSS, or "#rrggbb".
        raw: The form of a headerless file: "WIDTHxHEIGHTxBANDS[:dtype[:offset]]".
        region: The part of the picture to cut, as (x, y, width, height) in pixels.
        window: The values that become black and white in 8-bit tiles, or "full", the whole
            range of the source's type.
        bits: 8, or 16 to keep 16-bit grey pictures as they are (PNG only).
        threads: How many tiles are encoded at a time; None is one a processor at hand.
        overwrite: Whether a result that stands there already is replaced.

    Raises:
        OptionError: A value cannot be used, or two together.
    """

    tile_size: int = 254
    overlap: int = 1
    format: str = "jpeg"
    quality: int | None = None
    background: str = "white"
    raw: str | RawFormat | None = None
    region: Region | tuple[int, int, int, int] | None = None
    window: Literal["full"] | tuple[float, float] = "full"
    bits: Literal[8, 16] = 8
    threads: int | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise OptionError(f"threads {self.threads} is not at least 1")
        if self.region is not None:
            object.__setattr__(self, "region", Region(*self.region))

    @classmethod
    def of(cls, words: Any) -> CutOptions:
        """The options that keyword arguments spell.

        Raises:
            TypeError: A word is none of the options.
        """
        known = [field.name for field in fields(cls)]
        for word in words:
            if word not in known:
                raise TypeError(f"no option {word!r}; the options are {', '.join(known)}")
        return cls(**words)

    @property
    def thread_count(self) -> int:
        """How many tiles are encoded at a time."""
        return self.threads or processors()


def processors() -> int:
    """How many processors this process may run on."""
    if hasattr(os, "process_cpu_count"):  # Python 3.13
        return os.process_cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
