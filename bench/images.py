"""Input images for benches and demo: mosaics of real photographs, and drawn flat graphics.

An image of any size is laid out of a few small sheets, each cell with its own offset, some
mirrored, so that no two tiles are alike. It is written strip by strip, in little memory, and is
the same for the same arguments on every machine that has the same sheets.

    python bench/images.py OUT.tif WIDTH HEIGHT [--bands 3] [--kind photo]
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

import profiles

if TYPE_CHECKING:
    from PIL import ImageDraw

Kind = Literal["photo", "flat"]
Raster = NDArray[np.uint8]

CLASSIC_TIFF_LIMIT = 2**32 - 2**16
"""Bytes of pixels that a classic TIFF can hold beside its header and its table of strips."""

TIFF_STRIP_BYTES = 2**18
"""The size of a TIFF's strips: what tifffile, too, takes by default."""

P3_SUFFIXES = ("-p3.jpg",)
"""File endings of images that say that their colours are Display P3."""

CELL_SIZES = {"photo": (280, 430), "flat": (1100, 1300)}
"""Height and width of a mosaic's cells in pixels: all sheets are larger, no grid of tiles fits."""


def mosaic(path: Path | str, width: int, height: int, bands: int = 3, kind: Kind = "photo") -> None:
    """Write an image of the size asked for.

    Args:
        path: Where to; the ending says how: `.tif`, `.npy`, or what Pillow writes (`.jpg`,
            `.png`, the only ones that hold the full image in memory).
        width, height: Size in pixels, at least 1.
        bands: 3 (RGB) or 1 (grey).
        kind: "photo" (a mosaic of photographs) or "flat" (maps, lines and lettering).

    Raises:
        ValueError: A size, the bands or the kind is none of these.
    """
    if width < 1 or height < 1:
        raise ValueError(f"an image of {width}×{height} pixels has no pixel")
    if bands not in (1, 3) or kind not in CELL_SIZES:
        raise ValueError(f"no {kind!r} images with {bands} bands, only photo and flat, 1 and 3")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"unfinished-{path.name}")
    writer = WRITERS_BY_SUFFIX.get(path.suffix.lower(), _write_by_pillow)
    writer(unfinished, mosaic_strips(width, height, bands, kind), (height, width, bands))
    unfinished.replace(path)


def cached_image(
    folder: Path, width: int, height: int, bands: int, kind: Kind, suffix: str
) -> Path:
    """The path of an image in the cache folder; it is made if it is not there yet.

    Args:
        folder: The cache.
        width, height, bands, kind: As for `mosaic`.
        suffix: The file's ending; one of `P3_SUFFIXES` for the very image that the same ending
            without "-p3" gives, with a profile that says that its colours are Display P3.
    """
    # The source of the sheets is part of the name: noise must never pass for photographs.
    sheets = "noise" if kind == "photo" and not has_photographs() else kind
    path = folder / f"{sheets}-{width}x{height}x{bands}{suffix}"
    if not path.exists() and suffix in P3_SUFFIXES:
        plain = cached_image(folder, width, height, bands, kind, suffix.removeprefix("-p3"))
        _write_with_profile(plain, path, profiles.display_p3())
    elif not path.exists():
        mosaic(path, width, height, bands, kind)
    return path


def _write_with_profile(plain: Path, path: Path, profile: bytes) -> None:
    """Copy a JPEG with a profile put in behind its JFIF header: the same pixels, bit for bit."""
    unfinished = path.with_name(f"unfinished-{path.name}")
    # One segment holds a profile of up to 64 KB: piece 1 of 1.
    content = b"ICC_PROFILE\0" + bytes([1, 1]) + profile
    segment = b"\xff\xe2" + (len(content) + 2).to_bytes(2, "big") + content
    with plain.open("rb") as source, unfinished.open("wb") as target:
        start = source.read(4)
        if start != b"\xff\xd8\xff\xe0":
            raise ValueError(f"{plain} is no JPEG that begins with a JFIF header")
        length = source.read(2)
        header = source.read(int.from_bytes(length, "big") - 2)
        target.write(start + length + header + segment)
        shutil.copyfileobj(source, target)
    unfinished.replace(path)


def mosaic_strips(width: int, height: int, bands: int, kind: Kind) -> Iterator[Raster]:
    """The rows of a mosaic from top to bottom, some at a time: arrays (rows, width, bands).

    An array is valid until the next one is asked for.
    """
    sheets = _load_sheets(kind, bands)
    cell_height, cell_width = CELL_SIZES[kind]
    choice = np.random.default_rng(20080306)
    buffer = np.empty((cell_height, width, bands), np.uint8)
    for y in range(0, height, cell_height):
        strip = buffer[: min(cell_height, height - y)]
        for x in range(0, width, cell_width):
            room = strip[:, x : x + cell_width]
            room[:] = _random_crop(choice, sheets, kind)[: room.shape[0], : room.shape[1]]
        yield strip


def _random_crop(random: np.random.Generator, sheets: list[Raster], kind: Kind) -> Raster:
    """A view of one sheet, somewhere in it; half of the photographs are mirrored."""
    height, width = CELL_SIZES[kind]
    sheet = sheets[random.integers(len(sheets))]
    y = random.integers(sheet.shape[0] - height + 1)
    x = random.integers(sheet.shape[1] - width + 1)
    view = sheet[y : y + height, x : x + width]
    return view[:, ::-1] if kind == "photo" and random.random() < 0.5 else view


# Writers: each takes a path, strips from top to bottom, and the shape (height, width, bands).


def _write_tiff(path: Path, strips: Iterator[Raster], shape: tuple[int, int, int]) -> None:
    """Uncompressed, strips one behind the other; BigTIFF where a classic one is too small."""
    import tifffile

    height, width, bands = shape
    rows = max(1, TIFF_STRIP_BYTES // (width * bands))
    with tifffile.TiffWriter(path, bigtiff=height * width * bands > CLASSIC_TIFF_LIMIT) as tiff:
        tiff.write(
            _regroup(strips, rows),
            shape=shape if bands > 1 else shape[:2],
            dtype=np.uint8,
            photometric="rgb" if bands == 3 else "minisblack",
            rowsperstrip=rows,
            metadata=None,
        )


def _write_npy(path: Path, strips: Iterator[Raster], shape: tuple[int, int, int]) -> None:
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        _write_rows(file, strips)


def _write_rows(file: BinaryIO, strips: Iterator[Raster]) -> None:
    for strip in strips:
        file.write(strip.data)


def _write_by_pillow(path: Path, strips: Iterator[Raster], shape: tuple[int, int, int]) -> None:
    from PIL import Image

    pixels = np.empty(shape, np.uint8)
    y = 0
    for strip in strips:
        pixels[y : y + len(strip)] = strip
        y += len(strip)
    Image.fromarray(pixels if shape[2] > 1 else pixels[:, :, 0]).save(path, quality=90)


WRITERS_BY_SUFFIX: dict[str, Callable[[Path, Iterator[Raster], tuple[int, int, int]], None]] = {
    ".tif": _write_tiff,
    ".tiff": _write_tiff,
    ".npy": _write_npy,
}


def _regroup(strips: Iterator[Raster], rows: int) -> Iterator[bytes]:
    """The same rows in pieces of a number of rows, as bytes; the last piece may have fewer."""
    rest = bytearray()
    for strip in strips:
        size = rows * strip.shape[1] * strip.shape[2]
        rest += strip.data
        full = len(rest) - len(rest) % size
        with memoryview(rest) as view:
            yield from (bytes(view[start : start + size]) for start in range(0, full, size))
        del rest[:full]
    if rest:
        yield bytes(rest)


# Sheets: what the cells are cut from.


def _load_sheets(kind: Kind, bands: int) -> list[Raster]:
    """The sheets of one kind, as arrays (height, width, bands)."""
    colour = _photographs() if kind == "photo" else [_drawing(seed) for seed in range(3)]
    if bands == 3:
        return colour
    weights = np.array([299, 587, 114])
    return [((sheet @ weights + 500) // 1000).astype(np.uint8)[:, :, None] for sheet in colour]


def has_photographs() -> bool:
    """Whether scikit-image's bundled photographs can be had."""
    try:
        import skimage.data  # noqa: F401
    except ImportError:
        return False
    return True


@cache
def _photographs() -> list[Raster]:
    """scikit-image's bundled photographs, or noise where they are missing."""
    if not has_photographs():
        print("scikit-image is missing: noise instead of photographs", file=sys.stderr)
        return [_noise(seed) for seed in range(4)]
    from skimage import data

    return [data.astronaut(), data.coffee(), data.chelsea(), data.rocket()]


def _noise(seed: int, side: int = 512) -> Raster:
    """Fractal noise, whose spectrum falls as that of photographs does: 1/f in amplitude."""
    random = np.random.default_rng(seed)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.rfftfreq(side), indexing="ij"))
    frequency[0, 0] = np.inf
    bands = []
    for _ in range(3):
        phase = np.exp(2j * np.pi * random.random(frequency.shape))
        wave = np.fft.irfft2(phase / frequency, s=(side, side))
        bands.append(np.clip(128 + 48 * wave / wave.std(), 0, 255))
    # Bands of photographs resemble each other; independent ones would cost a codec too much.
    grey = sum(bands) / 3
    return np.stack([(3 * grey + band) / 4 for band in bands], axis=-1).astype(np.uint8)


@cache
def _drawing(seed: int, side: int = 2000) -> Raster:
    """A map as a cartographer's plotter draws it: areas, roads, contour lines and lettering."""
    from PIL import Image, ImageDraw

    random = np.random.default_rng(seed)
    image = Image.new("RGB", (side, side), "#f2efe9")
    draw = ImageDraw.Draw(image)
    _draw_areas(draw, random, side)
    _draw_lines(draw, random, side)
    _draw_houses(draw, random, side)
    _draw_names(draw, random, side)
    return np.asarray(image)


def _draw_areas(draw: ImageDraw.ImageDraw, random: np.random.Generator, side: int) -> None:
    """Woods, meadows and lakes: smooth closed outlines, filled."""
    angle = np.linspace(0, 2 * np.pi, 120, endpoint=False)
    for _ in range(14):
        waves = sum(
            random.normal(0, 0.4 / k) * np.sin(k * angle + random.uniform(0, 7))
            for k in range(1, 7)
        )
        radius = random.uniform(0.05, 0.16) * side * np.exp(waves)
        x, y = random.uniform(0, side, 2)
        outline = np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle)], axis=1)
        fill = random.choice(["#add19e", "#cdebb0", "#aad3df", "#e0dfdf", "#fbecd7"])
        draw.polygon([tuple(point) for point in outline], fill=str(fill), outline="#8aa87c")


def _draw_lines(draw: ImageDraw.ImageDraw, random: np.random.Generator, side: int) -> None:
    """Contour lines, one pixel wide, and roads with a rim."""
    x = np.linspace(-20, side + 20, 200)
    for level in range(40):
        y = (level - 3) * side / 34 + 90 * np.sin(x / 310 + level / 9) + 25 * np.sin(x / 90)
        draw.line([*zip(x, y, strict=True)], fill="#c9a27e", width=1)
    for _ in range(16):
        start, end = random.uniform(0, side, (2, 2))
        bend = (start + end) / 2 + random.normal(0, side / 8, 2)
        t = np.linspace(-0.5, 1.5, 60)[:, None]
        road = (1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * end
        points = [tuple(point) for point in road]
        width = int(random.integers(4, 14))
        draw.line(points, fill="#7f7f7f", width=width + 3, joint="curve")
        fill = random.choice(["#ffffff", "#fcd6a4", "#f7fabf"])
        draw.line(points, fill=str(fill), width=width, joint="curve")


def _draw_houses(draw: ImageDraw.ImageDraw, random: np.random.Generator, side: int) -> None:
    for _ in range(260):
        x, y = random.integers(0, side, 2)
        width, height = random.integers(8, 40, 2)
        box = (int(x), int(y), int(x + width), int(y + height))
        draw.rectangle(box, fill="#d9d0c9", outline="#a59b92")


def _draw_names(draw: ImageDraw.ImageDraw, random: np.random.Generator, side: int) -> None:
    """Lettering, smoothed at its edges as text is."""
    from PIL import ImageFont

    syllables = ["ber", "gen", "hau", "sen", "wald", "stein", "Ober", "furt", "see", "dorf"]
    for _ in range(220):
        text = "".join(random.choice(syllables, int(random.integers(1, 4)))).capitalize()
        font = ImageFont.load_default(size=int(random.integers(10, 30)))
        x, y = random.integers(0, side, 2)
        draw.text((int(x), int(y)), text, fill="#333333", font=font)


def main() -> None:
    """Make one image, as the command line says."""
    parser = argparse.ArgumentParser(description="Make an image for benches or the demo.")
    parser.add_argument("path", type=Path, help="where to; .tif, .npy, .jpg or .png")
    parser.add_argument("width", type=int)
    parser.add_argument("height", type=int)
    parser.add_argument("--bands", type=int, default=3, choices=(1, 3))
    parser.add_argument("--kind", default="photo", choices=sorted(CELL_SIZES))
    given = parser.parse_args()
    mosaic(given.path, given.width, given.height, given.bands, given.kind)


if __name__ == "__main__":
    main()
