"""Options table: the fields of CutOptions, for the API, the commands and docs/OPTIONS.md."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal, TypedDict, cast, get_args

from fasttile.errors import OptionError, did_you_mean
from fasttile.geometry import Region
from fasttile.options import OptionObject, unknown_value_error
from fasttile.options.values import (
    check_levels,
    check_text,
    parse_nodata,
    parse_page,
    parse_region,
    parse_window,
)
from fasttile.storage.system import cpu_count
from fasttile.types import Icc, Shrink, Window

if TYPE_CHECKING:
    from fasttile.options.read import RawFormat

VIEWER_NAMES = ("openseadragon", "openlayers", "leaflet")

BLANK_THRESHOLD = 5
"""Difference from the background, of 255, that --skip-blank without a number allows."""


WORKER_TIMEOUT_SECONDS = 300
"""Time that a worker process may be stopped, by default."""


class CutKeywords(TypedDict, total=False):
    """Keyword arguments of `cut`: the fields of `CutOptions`, for type checkers."""

    layout: str | OptionObject | None
    tile_size: int | None
    overlap: int | None
    levels: str | None
    format: str | OptionObject | None
    quality: int | None
    background: str
    raw: str | RawFormat | None
    region: Region | tuple[int, int, int, int] | None
    bands: str | None
    nodata: float | str | None
    window: Window
    bits: Literal[8, 16]
    page: int | None
    icc: Icc
    shrink: Shrink
    max_pixels: int | None
    allow_truncated: bool
    skip_blank: int | None
    viewer: str | None
    title: str | None
    credit: str | None
    threads: int | None
    worker_timeout: int
    overwrite: bool
    resume: bool


OptionGroup = Literal["source", "pixels", "tiles", "result", "run"]


def _describe(
    group: OptionGroup,
    help: str,
    *,
    metavar: str | None = None,
    parse: Callable[[str], Any] = str,
    choices: tuple[Any, ...] = (),
    const: Any = None,
    commands: tuple[str, ...] = ("cut",),
    default_text: str = "",
    verify_default_text: str = "",
    is_hidden: bool = False,
) -> dict[str, Any]:
    """The metadata of a field, which describe the option to users.

    Args:
        group: Group of the option in `--help`.
        help: Meaning, without the default; a part of a sentence.
        metavar: Form of its value.
        parse: Converts the text of a command line.
        choices: All valid values, if they are few.
        const: Value if the option is given without one. None: it needs a value.
        commands: Commands that take the option: cut, verify, collection, view.
        default_text: Description of a default that is None.
        verify_default_text: The same for verify, if it differs.
        is_hidden: True if `--help` does not show the flag, as a parameter of another one serves.
    """
    return {
        "group": group,
        "help": help,
        "metavar": metavar,
        "parse": parse,
        "choices": choices,
        "const": const,
        "commands": commands,
        "default_text": default_text,
        "verify_default_text": verify_default_text,
        "is_hidden": is_hidden,
    }


_ALL = ("cut", "verify", "collection")
_LOOK = (*_ALL, "view")


@dataclass(frozen=True)
class CutOptions:
    """Options of a cut.

    Args:
        layout: Layout of the tiles: "dzi", "zoomify", "xyz", "tms", "tilecache", "gsiv", "iiif2",
            "iiif3" or "tiff"; after a colon parameters of that layout, as in
            "zoomify:rounding=ceil", "xyz:template={z}-{x}-{y},centre" or
            "iiif3:id=https://example.org/{name}"; or an object such as
            `fasttile.Xyz(centre=True)`. Default: by the result's extension, else "dzi".
        tile_size: Side of a tile without overlap, in pixels. Default: 254 for Deep Zoom, 512 for
            IIIF, 256 for all others.
        overlap: Pixels added on each side that has a neighbour, less than tile_size. Default: 1
            for Deep Zoom in a folder, else 0.
        levels: Levels to keep, as the layout numbers them: "A-B"; or the smallest one:
            "one-tile", "one-pixel". Default: those of the layout. Without its largest levels
            the result is that of a smaller image.
        format: "jpeg", "png", "webp", "avif", or "deflate" in TIFF; after a colon parameters of
            that format, as in "jpeg:progressive,subsampling=4:4:4", "png:compress_level=9",
            "webp:lossless" or "avif:speed=6"; `credit` writes title and credit into each tile;
            "png:bits=16" and "deflate:bits=16" set `bits`; or
            an object such as `fasttile.Jpeg(quality=85)`, which is kept as text. Default: "jpeg".
        quality: 1 to 100 for JPEG, WebP and AVIF; other formats have none. Default: 80, of AVIF
            65.
        background: Colour behind pixels with alpha in formats without alpha, around the image in
            padded layouts, and of missing pixels: a CSS name, "#rrggbb"; or, in formats with
            alpha, "#rrggbbaa" or "transparent". Then only tiles that are not opaque have alpha.
            Default: "white".
        raw: Format of a file without a header: "WIDTHxHEIGHTxBANDS[:dtype[:offset]]".
        region: Part of the image to cut, as (x, y, width, height) in pixels. Default: all.
        bands: Bands to show, counted from 1, with the syntax of docs/BANDS.md: "4,3,2", or "1" as
            grey; tinted and added: "1=#00f,2=#0f0"; or one in the colours of a palette,
            "1=viridis", or of a file of GDAL, "1=colours.txt", whose lines the option then holds.
            Default: grey or RGB, with alpha.
        nodata: Value of missing samples, which become transparent and are never averaged; "none"
            ignores GDAL_NODATA and masks too. It is kept as text. Default: as a TIFF states.
        window: Sample values that become black and white in 8-bit tiles: (low, high); "full",
            the range of the source's dtype; or "auto", which is "full" for 8-bit samples and
            for 16-bit ones of RGB, CMYK or with a profile, and found from the samples for
            others (see `open_source`). Default: "auto".
        bits: 8, or 16 to keep 16-bit grey images as they are (PNG and TIFF only). Default: 8.
        page: Page of a file with several images, counted from 1. Default: the first, or the
            largest of a pyramid.
        icc: Use of an ICC profile: "srgb" converts the colours to sRGB, "keep" embeds the
            profile in each tile, "drop" ignores it. Default: "srgb".
        shrink: Reduction of four pixels to one: "mean"; "linear", their mean in linear light by
            the curve of the image's profile, else of sRGB, which keeps the brightness of stars and
            thin bright lines; "nearest", the top left one; "mode", the most frequent one: the
            latter two produce no new colours; "max", "min" or "median" of each band. Default:
            "mean".
        max_pixels: Largest image to accept, in pixels. Default: by the size of the file.
        skip_blank: Largest difference from the background, 0 to 255, of a blank tile; blank and
            transparent tiles are left out. Default: all tiles are kept.
        viewer: "openseadragon", "openlayers" or "leaflet": write a page beside the result that
            shows it. Default: no page.
        title: Title on the page and in descriptors that have a place for it; "" leaves out title
            and description of the image's file. Default: the file's title, or the result's name.
        credit: Credit line, as "© Museum", in the same places; "" leaves out the file's own.
            Default: the file's copyright, or else its author.
        allow_truncated: True cuts a damaged image as far as it decodes, the rest as background.
        threads: Number of encoder threads. Default: one per CPU.
        worker_timeout: Seconds after which a worker process that does not run, because it was
            stopped, is ended; its image fails then. At least 2. Default: 300.
        overwrite: True replaces an existing result.
        resume: True keeps a journal, so that the same call continues after an interruption. For
            files as sources.

    Raises:
        OptionError: A value is invalid.

    Example:
        >>> CutOptions(format="png", tile_size=512).format
        'png'
    """

    layout: str | OptionObject | None = field(
        default=None,
        metadata=_describe(
            "result",
            "dzi, zoomify, xyz, tms, tilecache, gsiv, iiif2, iiif3 or tiff; after a colon "
            "parameters of that layout: dzi:json,jsonp, zoomify:rounding=ceil,group=tile-size, "
            "xyz:template={z}-{x}-{y},centre,scale=2, gsiv:centre=no, "
            "iiif3:id=URL,thumbnails=90+200,manifest=texts.csv, tiff:cog, tiff:ome",
            metavar="LAYOUT",
            default_text="by DEST's extension, else dzi",
        ),
    )
    tile_size: int | None = field(
        default=None,
        metadata=_describe(
            "tiles",
            "side of a tile in pixels, without overlap",
            metavar="N",
            parse=int,
            default_text="254 for dzi, 512 for iiif, else 256",
        ),
    )
    overlap: int | None = field(
        default=None,
        metadata=_describe(
            "tiles",
            "pixels added on each side that has a neighbour",
            metavar="N",
            parse=int,
            commands=("cut", "collection"),
            default_text="1 for dzi in a folder, else 0",
        ),
    )
    levels: str | None = field(
        default=None,
        metadata=_describe(
            "tiles",
            "levels to keep, as the layout numbers them, or the smallest one",
            metavar="A-B|one-tile|one-pixel",
            default_text="one-pixel for dzi, else one-tile",
        ),
    )
    format: str | OptionObject | None = field(
        default=None,
        metadata=_describe(
            "tiles",
            "jpeg, png, webp, avif, or deflate in TIFF; after a colon parameters of that format: "
            "jpeg:progressive,optimize,subsampling=4:4:4, png:compress_level=9,compress_type=0, "
            "webp:lossless,method=6, avif:speed=6,subsampling=4:4:4; credit (as in jpeg:credit) "
            "writes title and credit line into each tile; png:bits=16 and deflate:bits=16 keep "
            "16-bit grey images",
            metavar="FORMAT",
            commands=("cut", "verify", "view"),
            default_text="jpeg",
            verify_default_text="read from the tiles",
        ),
    )
    quality: int | None = field(
        default=None,
        metadata=_describe(
            "tiles",
            "quality of JPEG, WebP and AVIF tiles",
            metavar="1-100",
            parse=int,
            commands=("cut", "verify", "view"),
            default_text="80, of AVIF 65",
            verify_default_text="read from the tiles",
        ),
    )
    background: str = field(
        default="white",
        metadata=_describe(
            "tiles",
            "colour behind transparent pixels in formats without alpha, and around the image in "
            "padded layouts: a name or #rrggbb; or transparent or #rrggbbaa in formats with alpha",
            metavar="COLOUR",
            commands=("cut", "verify", "view"),
        ),
    )
    raw: str | RawFormat | None = field(
        default=None,
        metadata=_describe(
            "source",
            "size, bands and type of a file without a header (type: u8, or u16 with < or > for the "
            "byte order), and the offset of its pixels in bytes",
            metavar="WxHxBANDS[:TYPE[:OFFSET]]",
            commands=_LOOK,
        ),
    )
    region: Region | tuple[int, int, int, int] | None = field(
        default=None,
        metadata=_describe(
            "source",
            "part of the image to use, in pixels from the top left corner",
            metavar="X,Y,W,H",
            parse=parse_region,
            commands=_LOOK,
            default_text="all of it",
        ),
    )
    bands: str | None = field(
        default=None,
        metadata=_describe(
            "pixels",
            "bands to show: one as grey, three as RGB; tinted and added: 1=#00f,2=#0f0; or one in "
            "the colours of a palette (viridis, magma, inferno, plasma, cividis) or of a file of "
            "GDAL: 1=colours.txt",
            metavar="4,3,2|N=COLOUR,…|N=PALETTE|N=FILE",
            commands=_LOOK,
            default_text="grey or RGB, and alpha",
        ),
    )
    nodata: float | str | None = field(
        default=None,
        metadata=_describe(
            "pixels",
            "value of missing samples, which become transparent and are never averaged; none "
            "ignores those that a TIFF names and its masks",
            metavar="VALUE|none",
            parse=parse_nodata,
            commands=_LOOK,
            default_text="as a TIFF states",
        ),
    )
    window: Window = field(
        default="auto",
        metadata=_describe(
            "pixels",
            "sample values that become black and white; full is the range of the type, auto "
            "examines floats, and grey of more than 8 bits without a profile",
            metavar="LOW,HIGH|full|auto",
            parse=parse_window,
            commands=_LOOK,
        ),
    )
    bits: Literal[8, 16] = field(
        default=8,
        metadata=_describe(
            "tiles",
            "16 keeps 16-bit grey images without alpha as they are, as PNG or in TIFF; the same as "
            "--format png:bits=16",
            parse=int,
            choices=(8, 16),
            commands=("cut", "view"),
            is_hidden=True,
        ),
    )
    page: int | None = field(
        default=None,
        metadata=_describe(
            "source",
            "page of a file with several images, counted from 1; all cuts each to <stem>-<page>",
            metavar="N|all",
            parse=parse_page,
            commands=_LOOK,
            default_text="the first, or the largest of a pyramid",
        ),
    )
    icc: Icc = field(
        default="srgb",
        metadata=_describe(
            "pixels",
            "use of a colour profile: srgb converts the colours, keep embeds it in each tile, drop "
            "ignores it",
            choices=get_args(Icc),
            commands=_LOOK,
        ),
    )
    shrink: Shrink = field(
        default="mean",
        metadata=_describe(
            "pixels",
            "reduction of four pixels to one: their mean; their mean in linear light, which keeps "
            "the brightness of stars and thin lines; the first or the most frequent, both for "
            "masks and labels; the largest, smallest or median value of each band",
            choices=get_args(Shrink),
            commands=_LOOK,
        ),
    )
    max_pixels: int | None = field(
        default=None,
        metadata=_describe(
            "source",
            "refuse images of more pixels",
            metavar="N",
            parse=int,
            commands=_LOOK,
            default_text="by the size of the file",
        ),
    )
    allow_truncated: bool = field(
        default=False,
        metadata=_describe(
            "source",
            "use damaged images as far as they decode; fill the rest with the background",
            commands=_LOOK,
        ),
    )
    skip_blank: int | None = field(
        default=None,
        metadata=_describe(
            "tiles",
            "threshold of blank tiles, which are left out where the layout allows it: transparent "
            "ones, and those that differ from the background by at most THRESHOLD of 255; 5 if no "
            "number follows",
            metavar="THRESHOLD",
            parse=int,
            const=BLANK_THRESHOLD,
            commands=("cut", "verify"),
            default_text="keep all",
            verify_default_text=str(BLANK_THRESHOLD),
        ),
    )
    viewer: str | None = field(
        default=None,
        metadata=_describe(
            "result",
            "also write a page beside the result that shows it, by openseadragon, openlayers or "
            "leaflet; openseadragon:cdn loads the script from a CDN",
            metavar="VIEWER",
        ),
    )
    title: str | None = field(
        default=None,
        metadata=_describe(
            "result",
            "title of the image, on the page and in descriptors that have a place for one",
            metavar="TEXT",
            default_text="the image's own, or the result's name",
        ),
    )
    credit: str | None = field(
        default=None,
        metadata=_describe(
            "result",
            "credit line of the image, in the same places; in the tiles too with --format "
            "jpeg:credit",
            metavar="TEXT",
            default_text="the image's own copyright, if it has one",
        ),
    )
    threads: int | None = field(
        default=None,
        metadata=_describe(
            "run",
            "number of tiles to process at a time",
            metavar="N",
            parse=int,
            commands=_ALL,
            default_text="one per CPU",
        ),
    )
    worker_timeout: int = field(
        default=WORKER_TIMEOUT_SECONDS,
        metadata=_describe(
            "run",
            "end a worker process that does not run for so long, because it was stopped; its "
            "image fails; the same as --workers N:timeout=SECONDS",
            metavar="SECONDS",
            parse=int,
            is_hidden=True,
        ),
    )
    overwrite: bool = field(
        default=False,
        metadata=_describe(
            "result",
            "replace an existing result, only once the new one is complete",
        ),
    )
    resume: bool = field(
        default=False,
        metadata=_describe(
            "result",
            "keep a journal, so that the same command continues after an interruption",
        ),
    )

    def __post_init__(self) -> None:
        for name, example in (("layout", "Xyz()"), ("format", "Jpeg()")):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                if isinstance(value, type) or not hasattr(value, "option_text"):
                    raise OptionError(
                        f"{name} {value!r}: expected a text, or an object such as "
                        f"fasttile.{example}"
                    )
                object.__setattr__(self, name, value.option_text())
        self._take_bits_of_format()
        self._check_bands()
        if self.threads is not None and self.threads < 1:
            raise OptionError(f"threads {self.threads} is not at least 1")
        if self.worker_timeout < 2:
            raise OptionError(f"worker_timeout {self.worker_timeout} is not at least 2 seconds")
        if self.page is not None and self.page < 1:
            raise OptionError(f"page {self.page} is not at least 1, which is the first")
        if self.max_pixels is not None and self.max_pixels < 1:
            raise OptionError(f"max_pixels {self.max_pixels} is not at least 1")
        if self.skip_blank is not None and not 0 <= self.skip_blank <= 255:
            raise OptionError(f"skip_blank {self.skip_blank} is not between 0 and 255")
        if self.levels is not None:
            check_levels(self.levels)
        for name in ("title", "credit"):
            if getattr(self, name) is not None:
                check_text(name, getattr(self, name))
        for name, known in (("icc", get_args(Icc)), ("shrink", get_args(Shrink))):
            if getattr(self, name) not in known:
                raise unknown_value_error(name, str(getattr(self, name)), known)
        if self.region is not None:
            object.__setattr__(self, "region", Region(*self.region))

    def _take_bits_of_format(self) -> None:
        """Move `bits` from the parameters of the format to the field.

        Raises:
            OptionError: It is neither 8 nor 16.
        """
        name, _, parameters = (self.format_text or "").partition(":")
        parts = re.split(r"(?<!\\),", parameters)
        bits = [part for part in parts if part.startswith("bits=")]
        if not bits or name not in ("png", "deflate"):
            return
        if bits[-1] not in ("bits=8", "bits=16"):
            raise OptionError(f"{name}:{bits[-1]}: expected 8 or 16")
        if self.bits == 16 and bits[-1] == "bits=8":
            raise OptionError(f"bits 16: the format is {name}:bits=8; leave one of them out")
        rest = ",".join(part for part in parts if part not in bits)
        object.__setattr__(self, "format", f"{name}:{rest}" if rest else name)
        object.__setattr__(self, "bits", 16 if bits[-1] == "bits=16" else 8)

    def _check_bands(self) -> None:
        """Check bands and nodata, and read the colour file that bands name.

        Raises:
            OptionError: They are not valid.
        """
        try:
            object.__setattr__(self, "nodata", parse_nodata(self.nodata))
        except OptionError as error:
            raise OptionError(f"nodata: {error}") from None
        if self.bands is None:
            return
        from fasttile.options.bands import BandSpec, inline_colour_file

        if not isinstance(self.bands, str):
            raise OptionError(f"bands {self.bands!r}: expected a text such as '4,3,2'")
        object.__setattr__(self, "bands", inline_colour_file(self.bands))
        if BandSpec.parse(self.bands).table and self.window != "auto":
            raise OptionError("window: the colour file of bands has its own values; leave it out")

    @classmethod
    def from_keywords(
        cls, keywords: Mapping[str, Any], options: CutOptions | None = None
    ) -> CutOptions:
        """Merge the options of a call: keywords override the fields of an object.

        Raises:
            TypeError: A keyword is no option, or the object is no CutOptions.
            OptionError: A value is invalid.
        """
        known = [field.name for field in fields(cls)]
        for name in keywords:
            if name not in known:
                raise TypeError(
                    f"no option {name!r}; the options are {', '.join(known)}"
                    f"{did_you_mean(name, known)}"
                )
        if options is None:
            return cls(**keywords)
        if not isinstance(options, CutOptions):
            raise TypeError(f"options: {options!r} is no CutOptions")
        return replace(options, **keywords)

    @property
    def layout_text(self) -> str | None:
        """The layout and its parameters as text, as in "xyz:centre=yes"."""
        return cast("str | None", self.layout)

    @property
    def format_text(self) -> str | None:
        """The format and its parameters as text, as in "jpeg:quality=85"."""
        return cast("str | None", self.format)

    @property
    def nodata_text(self) -> str | None:
        """The value of missing samples as text: a number, "nan" or "none"."""
        return cast("str | None", self.nodata)

    @property
    def thread_count(self) -> int:
        """Number of encoder threads: `threads`, or one per CPU."""
        return self.threads or cpu_count()


def option_table(command: str) -> dict[str, Field[Any]]:
    """List the options of a command: cut, verify, collection or view.

    Returns:
        The fields of CutOptions by name; their metadata are the arguments of `_describe`.
    """
    return {
        option.name: option
        for option in fields(CutOptions)
        if command in option.metadata["commands"]
    }


def default_text(option: Field[Any], command: str = "cut") -> str:
    """Describe the default of an option; "" for a switch and for an option without default."""
    info = option.metadata
    text: str = info["verify_default_text"] if command == "verify" else ""
    return text or info["default_text"] or str(option.default or "")
