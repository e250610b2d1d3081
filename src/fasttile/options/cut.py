"""What a user may wish for: one frozen dataclass, the same words in the API and the CLI."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal, TypedDict, get_args

from fasttile.errors import OptionError
from fasttile.geometry import Region
from fasttile.storage.system import cpu_count
from fasttile.types import Icc, Shrink, Window

if TYPE_CHECKING:
    from fasttile.options.read import RawFormat


class CutKeywords(TypedDict, total=False):
    """The keyword arguments that `cut` takes: the fields of `CutOptions`."""

    layout: str | None
    tile_size: int | None
    overlap: int | None
    levels: str | None
    format: str | None
    quality: int | None
    background: str
    raw: str | RawFormat | None
    region: Region | tuple[int, int, int, int] | None
    window: Window
    bits: Literal[8, 16]
    page: int | None
    icc: Icc
    shrink: Shrink
    max_pixels: int | None
    allow_truncated: bool
    skip_blank: int | None
    viewer: str | None
    threads: int | None
    overwrite: bool
    resume: bool


@dataclass(frozen=True)
class CutOptions:
    """How to cut an image.

    Args:
        layout: Where tiles live: "dzi", "zoomify", "xyz", "tms", "tilecache", "gsiv", "iiif2",
            "iiif3" or "tiff"; after a colon what concerns that layout only, as in
            "zoomify:rounding=ceil", "xyz:template={z}-{x}-{y},centre" or
            "iiif3:id=https://example.org/{name}". None is that of the result's ending, or "dzi".
        tile_size: Side of a tile without overlap, in pixels. None is the layout's own: 254 for
            Deep Zoom, 512 for IIIF, 256 for all others.
        overlap: Pixels added on each side that has a neighbour, less than tile_size. None is 1
            for Deep Zoom in a folder, else 0.
        levels: The levels to keep, as the layout numbers them: "A-B"; or the smallest one:
            "one-tile", "one-pixel". None is the layout's own. Without its largest levels the
            result is that of a smaller image.
        format: "jpeg", "png", "webp", or "deflate" in TIFF; after a colon what concerns that
            format only, as in "jpeg:progressive,subsampling=4:4:4", "png:compress_level=9" or
            "webp:lossless". None is "jpeg".
        quality: 1 to 100 for JPEG and WebP; None is 80.
        background: What pixels with alpha are laid on where the format has no alpha: a name
            as in CSS, or "#rrggbb".
        raw: The form of a headerless file: "WIDTHxHEIGHTxBANDS[:dtype[:offset]]".
        region: The part of the image to cut, as (x, y, width, height) in pixels.
        window: The values that become black and white in 8-bit tiles; "full", the whole range
            of the source's type; or "auto": full for 8-bit samples, and for others what a look
            at them suggests (see `open_source`).
        bits: 8, or 16 to keep 16-bit grey images as they are (PNG only).
        page: Which image of a file that holds several, counted from 1. None is the first,
            or the largest where they are levels of a pyramid.
        icc: What becomes of a colour profile: "srgb" converts the colours to sRGB, "keep"
            leaves them and puts the profile into each tile, "drop" leaves them and forgets it.
        shrink: How four pixels become one: "mean"; "nearest", the top left one; "mode", the
            most frequent one. The latter two make no colour that was not there.
        max_pixels: The largest image to accept. None is what a file of its size can be
            expected to hold.
        skip_blank: Tiles whose pixels all are background, give or take so much of 255, or
            transparent, are left out. None leaves out none.
        viewer: "openseadragon", "openlayers" or "leaflet": a page that shows the result is
            written beside it.
        allow_truncated: Whether what is there of a damaged image is cut, on the background.
        threads: How many tiles are encoded at a time; None is one a processor at hand.
        overwrite: Whether a result that stands there already is replaced.
        resume: Whether the job can be carried on: whatever ends it before its time, the same call
            goes on where it was. For files as sources, and results in folders.

    Raises:
        OptionError: A value cannot be used, or two together.
    """

    layout: str | None = None
    tile_size: int | None = None
    overlap: int | None = None
    levels: str | None = None
    format: str | None = None
    quality: int | None = None
    background: str = "white"
    raw: str | RawFormat | None = None
    region: Region | tuple[int, int, int, int] | None = None
    window: Window = "auto"
    bits: Literal[8, 16] = 8
    page: int | None = None
    icc: Icc = "srgb"
    shrink: Shrink = "mean"
    max_pixels: int | None = None
    allow_truncated: bool = False
    skip_blank: int | None = None
    viewer: str | None = None
    threads: int | None = None
    overwrite: bool = False
    resume: bool = False

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise OptionError(f"threads {self.threads} is not at least 1")
        if self.page is not None and self.page < 1:
            raise OptionError(f"page {self.page} is not at least 1, which is the first")
        if self.max_pixels is not None and self.max_pixels < 1:
            raise OptionError(f"max_pixels {self.max_pixels} is not at least 1")
        if self.skip_blank is not None and not 0 <= self.skip_blank <= 255:
            raise OptionError(f"skip_blank {self.skip_blank} is not between 0 and 255")
        if self.levels is not None:
            check_levels(self.levels)
        for name, known in (("icc", get_args(Icc)), ("shrink", get_args(Shrink))):
            if getattr(self, name) not in known:
                raise OptionError(f"{name} {getattr(self, name)!r} is none of {', '.join(known)}")
        if self.region is not None:
            object.__setattr__(self, "region", Region(*self.region))

    @classmethod
    def from_keywords(
        cls, keywords: Mapping[str, Any], options: CutOptions | None = None
    ) -> CutOptions:
        """The options of a call: keyword arguments, which override the fields of an object.

        Raises:
            TypeError: A keyword is no option, or the object is no CutOptions.
            OptionError: A value is invalid.
        """
        known = [field.name for field in fields(cls)]
        for name in keywords:
            if name not in known:
                raise TypeError(f"no option {name!r}; the options are {', '.join(known)}")
        if options is None:
            return cls(**keywords)
        if not isinstance(options, CutOptions):
            raise TypeError(f"options: {options!r} is no CutOptions")
        return replace(options, **keywords)

    @property
    def thread_count(self) -> int:
        """How many tiles are encoded at a time."""
        return self.threads or cpu_count()


def check_levels(levels: str) -> None:
    """Refuse what says no levels, whatever the image.

    Raises:
        OptionError: It is neither "one-tile" nor "one-pixel" nor "A-B".
    """
    if levels in ("one-tile", "one-pixel"):
        return
    span = re.fullmatch(r"(\d{1,3})-(\d{1,3})", levels)
    if span is None or int(span[1]) > int(span[2]):
        raise OptionError(f"levels {levels!r} is neither A-B nor one-tile nor one-pixel")
