"""Cases of the corpus: a table of commands, most of them products of lists.

A command is a line for the shell. It runs in an empty folder beside `in`, which holds the source
images of `corpus_images.py`; `fasttile` and `api` (`corpus_api.py`) are functions of the shell.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

IIIF = "id=https://example.org/{name}"
LAYOUTS = ("dzi", "zoomify", "xyz", "tms", "tilecache", "gsiv", f"iiif2:{IIIF}", f"iiif3:{IIIF}")
CONTAINERS = {
    "folder": (*LAYOUTS, "tiff"),
    "zip": LAYOUTS,
    "szi": ("dzi",),
    "pmtiles": ("xyz",),
    "mbtiles": ("xyz",),
    "tif": ("tiff",),
}
"""The layouts that each container can hold; containers of one file are named by their extension."""

FORMATS = (
    "jpeg",
    "jpeg:optimize,subsampling=4:4:4",
    "jpeg:subsampling=4:2:2 --quality 60",
    "jpeg:progressive",
    "png",
    "png:compress_level=9,compress_type=1",
    "webp",
    "webp:lossless,method=2",
    "deflate",
    "deflate:compress_level=9",
)
TIFF_FORMATS = (*FORMATS[:3], *FORMATS[-2:])

PARAMETERS = (
    *("dzi:json,jsonp", "zoomify:rounding=ceil", "xyz:centre", "gsiv:centre=no"),
    *("xyz:template={z}-{y}-{x}", "xyz:template={quadkey}", "iiif3:id=http://localhost/a/b"),
)
"""Layouts with parameters of their own."""

OPTIONS = (
    *("region 100,200,333,257", "region 0,0,1,700", "threads 1", "threads 3", "quality 1"),
    *("tile-size 500 --overlap 40", "tile-size 64 --overlap 63", "max-pixels 630000"),
    *("levels 3-9", "levels one-tile", "levels one-pixel", "window 20,200", "icc keep"),
)
WRONG_USAGE = (
    *("quality 0", "tile-size 0", "overlap 254", "region 1,2,3", "region 900,0,1,1", "levels 1-99"),
    *("window 9,9", "page 0", "bits 16", "skip-blank", "format gif", "layout none"),
    *("layout iiif3:id=x", "layout zoomify:x=1", "format png:x=1", "output x.none", "none"),
)
"""Options that are refused before any image is cut: exit code 2."""

FAILURES = (
    "photo.jpg --max-pixels 9",
    "photo.jpg --page 2",
    "pages.tif --page 4",
    "list -q",
    "missing.jpg -q",
)
"""Arguments with which an image cannot be read: exit code 1."""


@dataclass(frozen=True)
class Case:
    """Commands that run one after the other in one folder.

    Attributes:
        name: Unique name.
        commands: Lines for the shell.
        exits: The exit code that each is intended to have.
    """

    name: str
    commands: tuple[str, ...]
    exits: tuple[int, ...]


def cut(group: str, source: str, options: str, exit_code: int = 0) -> Case:
    """One `fasttile cut`."""
    command = f"fasttile cut ../in/{source} {options}"
    return Case(f"{group}: {source} {options}", (command,), (exit_code,))


def cases(sources: list[str]) -> Iterator[Case]:
    """All cases.

    Args:
        sources: The names of the source images.
    """
    yield from layout_cases()
    yield from source_cases(sources)
    yield from option_cases()
    yield from sequences()


def result(layout: str, container: str) -> str:
    """The options that choose a layout and a container."""
    name = "x" if container == "folder" else f"x.{container}"
    name = "x.dzi" if (layout, container) == ("dzi", "folder") else name
    return f"-o {name} --layout '{layout}'"


def layout_cases() -> Iterator[Case]:
    """Every layout in every container in every format, and every layout for several sizes."""
    for layout, (container, held) in product((*LAYOUTS, "tiff"), CONTAINERS.items()):
        if layout not in held:
            yield cut("layout not held", "photo.jpg", result(layout, container), 2)
            continue
        known = TIFF_FORMATS if layout == "tiff" else FORMATS[:-2]
        for form in FORMATS if layout in ("dzi", "xyz", "tiff") else known:
            options = f"{result(layout, container)} --format {form}"
            yield cut("layout", "photo.jpg", options, 0 if form in known else 2)
    for layout, size in product(LAYOUTS, ("100x100", "513x200", "256x1024", "1500x101", "333x769")):
        options = f"{result(layout, 'folder')} --tile-size 64 --format png"
        yield cut("size", f"{size}.npy", options)
    for layout in PARAMETERS:
        yield cut("parameters", "photo.jpg", f"-o x/ --layout '{layout}' --tile-size 100")


def source_cases(sources: list[str]) -> Iterator[Case]:
    """Every source image as PNG tiles, TIFF and JPEG also as JPEG tiles."""
    raw = {"u8.bin": "--raw 301x227x3:u8:512", "u16.bin": "--raw '301x227x1:>u16'"}
    never = ("fortran.npy", "truncated-rgb.npy")
    for source, form in product(sources, ("png", "jpeg")):
        if form == "jpeg" and not source.endswith((".tif", ".jpg")):
            continue
        options = f"-o x.dzi --format {form} {raw.get(source, '')}".strip()
        truncated = source.startswith("truncated-")
        yield cut("source", source, options, 1 if truncated or source in never else 0)
        if truncated:
            options += " --allow-truncated --background '#369'"
            yield cut("source", source, options, 1 if source in never else 0)


def option_cases() -> Iterator[Case]:
    """Options with a few source images and results."""
    for option in OPTIONS:
        yield cut("option", "photo.jpg", f"-o x.dzi --{option}")
    for option in WRONG_USAGE:
        yield cut("wrong usage", "photo.jpg", f"--{option}", 2)
    for arguments in FAILURES:
        source, options = arguments.split(" ", 1)
        yield cut("failure", source, options, 1)
    for size, overlap in product((50, 256), (0, 1, 5)):
        yield cut("tiles", "photo.jpg", f"-o x.dzi --tile-size {size} --overlap {overlap}")
    profiles = ("matrix.jpg", "matrix.png", "matrix.tif", "table.jpg", "table.png")
    inks = ("inks.jpg", "inks.tif", "gamma.jpg")
    results = ("x.dzi", "x.dzi --format png", "x.tif")
    for source, icc, dest in product((*profiles, *inks), ("srgb", "keep", "drop"), results):
        yield cut("profile", source, f"--icc {icc} -o {dest}")
    images = ("photo.jpg", "palette8.png", "rgba8.png", "u16.tif", "bilevel.tif")
    methods = ("nearest", "mode", "linear", "max", "min", "median")
    for source, shrink in product(images, methods):
        yield cut("shrink", source, f"--shrink {shrink} -o x.dzi --format png")
    images = ("u16.tif", "rgb16.tif", "alpha16.tif", "grey16.png", "deep.pgm", "i16.tif", "f4.tif")
    for source, window in product(images, ("full", "900,2400")):
        yield cut("window", source, f"--window={window} -o x.dzi --format png")
    images = ("u16.tif", "deflate-u16.tif", "grey16.png", "deep.pgm", "u16.npy")
    results = ("x.dzi --format png", "x.tif --format deflate", "x.mbtiles --format png")
    for source, dest in product(images, results):
        yield cut("16 bits", source, f"--bits 16 -o {dest}")
    for layout, levels in product(LAYOUTS, ("one-tile", "0-1", "1-2")):
        code = 2 if levels == "1-2" and layout.startswith(("zoomify", "iiif")) else 0
        yield cut("levels", "photo.jpg", f"{result(layout, 'folder')} --levels {levels}", code)
    names = (*(result(layout, "folder") for layout in ("xyz", "tms", "gsiv")), "-o x.pmtiles")
    for name, blank in product((*names, "-o x.mbtiles"), ("", " 0", " 60")):
        yield cut("blank", "photo.jpg", f"{name} --tile-size 64 --skip-blank{blank}")
    images = ("rgba8.png", "alpha.tif", "grey-alpha.tif", "premultiplied.tif")
    for source, layout, form in product(images, ("dzi", "tms"), ("jpeg", "webp")):
        options = f"{result(layout, 'folder')} --background '#1a6b3c' --format {form}"
        yield cut("background", source, options)
    for layout, viewer in product(LAYOUTS, ("openseadragon", "openlayers", "leaflet")):
        yield cut("page", "photo.jpg", f"{result(layout, 'folder')} --viewer {viewer}")
    yield cut("page", "photo.jpg", "-o x.pmtiles --viewer openlayers")


SITE = "fasttile cut ../in/bad -o site --resume --report report.jsonl"
PHOTO = "fasttile cut ../in/photo.jpg -o"
WALL = "fasttile collection create wall.dzc"
VERIFY = "fasttile verify --source ../in/photo.jpg"

SEQUENCES: dict[str, list[str]] = {
    "a folder": ["fasttile cut ../in/batch -o site --report report.jsonl"],
    "a folder, by 2 processes": ["fasttile cut ../in/batch -o 'site/{name}.szi' --workers 2"],
    "a folder, zoomify": ["fasttile cut ../in/batch -o site --layout zoomify --workers 1"],
    "several images": ["fasttile cut ../in/photo.jpg ../in/u16.tif -o site/ --layout xyz"],
    "a list": ["fasttile cut @../in/list -o site/"],
    "a list on standard input": ["fasttile cut @- -o site --workers 2 < ../in/list"],
    "two images of one name": ["2 fasttile cut ../in/photo.jpg ../in/../in/photo.jpg -o site/"],
    "standard input": ["fasttile cut - -o x.dzi < ../in/photo.jpg"],
    "standard input, a pipe": ["cat ../in/lzw.tif | fasttile cut - -o x.zip"],
    "standard input, no name": ["2 fasttile cut - < ../in/photo.jpg"],
    "a URL": ['fasttile cut "file://$PWD/../in/strips.tif" -o x.dzi'],
    "all pages": ["fasttile cut ../in/pages.tif --page all -o site/"],
    "all pages, mapped": ["fasttile cut ../in/pages-mapped.tif --page all -o x.pmtiles"],
    "page 2 of a GIF": ["fasttile cut ../in/moving.gif --page 2 -o x.dzi"],
    "page 2 of a WebP": ["fasttile cut ../in/moving.webp --page 2 -o x.dzi"],
    "replace a folder": ["fasttile cut ../in/rgb.npy -o x.dzi", f"{PHOTO} x.dzi --overwrite"],
    "replace a file": ["fasttile cut ../in/rgb.npy -o x.tif", f"{PHOTO} x.tif --overwrite"],
    "refuse to replace": [f"{PHOTO} x.dzi", "1 fasttile cut ../in/rgb.npy -o x.dzi"],
    "resume what is finished": [f"{PHOTO} x.dzi --resume", f"1 {PHOTO} x.dzi --resume"],
    "resume a file": [f"{PHOTO} x.szi --resume", f"1 {PHOTO} x.szi --resume"],
    "resume": ["9 api interrupted x.dzi", f"{PHOTO} x.dzi --resume"],
    "resume, zoomify": [
        "9 api interrupted x zoomify",
        f"1 {PHOTO} x --layout zoomify --resume --quality 30",
        f"{PHOTO} x --layout zoomify --resume",
    ],
    "resume, start over": ["9 api interrupted x.dzi", f"{PHOTO} x.dzi --overwrite --quality 30"],
    "resume a folder": [f"1 {SITE}", f"1 {SITE}"],
    "verify": [
        *(f"{PHOTO} x.dzi", "rm x_files/10/1_1.jpg", "echo > x_files/9/0_0.jpg"),
        *("1 fasttile verify x.dzi", f"{VERIFY} x.dzi --repair", "fasttile verify x.dzi --deep"),
    ],
    **{
        f"verify {name}": [
            *(f"{PHOTO} {name}", f"printf xxxxxxxx | dd of={name} bs=1 seek=40000 conv=notrunc"),
            *(f"1 {VERIFY} {name}", f"{VERIFY} {name} --repair", f"fasttile verify {name} --deep"),
        ]
        for name in ("x.zip", "x.szi", "x.pmtiles", "x.mbtiles", "x.tif")
    },
    "info": ["fasttile info ../in/u16.tif", "1 fasttile info missing"],
    "collection": [
        f"{WALL} ../in/photo.jpg ../in/rgba8.png ../in/u16.tif --viewer openseadragon",
        "fasttile collection append wall.dzc ../in/lzw.tif ../in/cmyk.jpg --viewer openseadragon",
        "fasttile collection remove wall.dzc 1",
        "fasttile collection remove wall.dzc wall_images/photo.dzi",
    ],
    "collection, PNG": [
        f"{WALL} ../in/rgba8.png ../in/grey.jpg --format png --max-level 5 --tile-size 64 "
        "--background red --images pics"
    ],
    "collection of results": [
        *("fasttile cut ../in/batch -o site", f"{WALL} site/a.dzi site/sub/b.dzi"),
        *(f"1 {WALL} site/a.dzi", f"{WALL} site/a.dzi site/sub/c.dzi --overwrite"),
        "1 fasttile collection append wall.dzc ../in/missing.jpg",
    ],
    "collection of no image": [f"1 {WALL} ../in/bad/b.jpg"],
    **{
        f"shards, {layout}": [
            f"fasttile cut ../in/tall.tif {result(layout, 'folder')} --tile-size 726 --workers 2"
        ]
        for layout in ("dzi", "zoomify", "xyz", "gsiv", LAYOUTS[-1])
    },
    **{
        f"interface, {name}": [f"api {name}"]
        for name in ("arrays", "objects", "tiles", "readers", "batch")
    },
}
"""Commands; one that is intended to fail begins with its exit code."""


def sequences() -> Iterator[Case]:
    """Cases of several commands, of several images, and of other commands than cut."""
    for name, lines in SEQUENCES.items():
        pairs = [(line[2:], int(line[0])) if line[0].isdigit() else (line, 0) for line in lines]
        yield Case(name, tuple(line for line, _ in pairs), tuple(code for _, code in pairs))
