"""Cuts damaged files one after the other in a process of its own, with limits; see test_fuzz.py.

    python tests/fuzzing.py KIND COUNT SEED

Prints one line for each file that ends in anything but a result or an error of fasttile's, and
at the end how many became a result, how many an error, and the largest memory in MB.
"""

from __future__ import annotations

import io
import random
import resource
import signal
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

import fasttile

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])

from support.hdr_files import encode_exr, to_rgbe, write_radiance
from support.psd_files import GREY, INDEXED, LAB, RGB, layer_part, write_psd

MAX_SECONDS_PER_FILE = 20
MAX_ADDRESS_SPACE = 6 * 2**30  # bytes of address space; memory is looked at by the caller

_NOISE = np.random.default_rng(7).integers(0, 256, (90, 140, 4), np.uint8)
_SMOOTH = np.add.outer(np.arange(90), np.arange(140)).astype(np.uint8)
_RGB = np.dstack([_SMOOTH, _SMOOTH[::-1], _NOISE[..., 0]])


def _encode_by_pillow(
    kind: str, pixels: Any = _RGB, mode: str | None = None, **options: Any
) -> bytes:
    stream = io.BytesIO()
    image = Image.fromarray(pixels)
    (image if mode is None else image.convert(mode)).save(stream, kind, **options)
    return stream.getvalue()


def _encode_tiff(pixels: Any = _RGB, **options: Any) -> bytes:
    stream = io.BytesIO()
    if "photometric" not in options:
        options["photometric"] = "rgb" if pixels.ndim == 3 else "minisblack"
    tifffile.imwrite(stream, pixels, metadata=None, **options)
    return stream.getvalue()


_GEO_TAGS = [
    (33550, "d", 3, (10.0, 10.0, 0.0), True),
    (33922, "d", 6, (0.0, 0.0, 0.0, 4e5, 5.8e6, 0.0), True),
    (34735, "H", 16, (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32633), True),
    (42112, "s", 0, "<GDALMetadata><Item name='A' sample='0'>1</Item></GDALMetadata>", True),
    (42113, "s", 0, "0", True),
]


def _encode_masked_tiff() -> bytes:
    """An image with a value of missing samples, and the page of its mask."""
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as file:
        nodata = (42113, "s", 0, "7", True)
        file.write(_RGB, photometric="rgb", compression="zlib", extratags=[nodata], metadata=None)
        valid = _SMOOTH > 90
        file.write(valid, photometric="mask", subfiletype=4, compression="packbits", metadata=None)
    return stream.getvalue()


def _encode_ome_tiff() -> bytes:
    stream = io.BytesIO()
    metadata = {"axes": "YXS", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25}
    tifffile.imwrite(stream, _RGB, photometric="rgb", ome=True, metadata=metadata)
    return stream.getvalue()


def _make_exif() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "an image"
    return exif


def _srgb_profile() -> bytes:
    from PIL import ImageCms

    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _encode_npy() -> bytes:
    stream = io.BytesIO()
    np.save(stream, _RGB)
    return stream.getvalue()


def _encode_heif() -> bytes:
    import pillow_heif

    stream = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(_RGB)).save(stream)
    return stream.getvalue()


def _encode_jpx() -> bytes:
    """A JPX with its header behind the codestream."""
    content = _encode_by_pillow("JPEG2000")
    at = content.index(b"jp2h") - 4
    size = int.from_bytes(content[at : at + 4])
    code = content[at + size :]
    length = len(code).to_bytes(4)
    return content[:at] + length + code[4:] + content[at : at + size]


def _encode_psd(mode: int, channels: int, **options: Any) -> bytes:
    planes = np.dstack([_RGB, _NOISE]).transpose(2, 0, 1)[:channels]
    if options.pop("is_deep", False):
        planes = planes.astype(np.uint16) * 257
    return write_psd(planes, mode, **options)


FILE_KINDS: dict[str, Callable[[], bytes]] = {
    "jpeg": lambda: _encode_by_pillow(
        "JPEG", exif=_make_exif(), icc_profile=_srgb_profile(), dpi=(300, 300)
    ),
    "jpeg grey": lambda: _encode_by_pillow("JPEG", _SMOOTH, restart_marker_rows=1),
    "jpeg cmyk": lambda: _encode_by_pillow("JPEG", mode="CMYK"),
    "jpeg progressive": lambda: _encode_by_pillow("JPEG", progressive=True),
    "png": lambda: _encode_by_pillow(
        "PNG", exif=_make_exif(), icc_profile=_srgb_profile(), dpi=(300, 300)
    ),
    "png palette": lambda: _encode_by_pillow("PNG", mode="P", transparency=bytes(range(256))),
    "png 16 bit": lambda: _encode_by_pillow("PNG", _SMOOTH.astype(np.uint16) * 200),
    "gif": lambda: _encode_by_pillow("GIF", mode="P"),
    "webp": lambda: _encode_by_pillow("WEBP", exif=_make_exif(), icc_profile=_srgb_profile()),
    "avif": lambda: _encode_by_pillow("AVIF", exif=_make_exif()),
    "heif": _encode_heif,
    "jpeg 2000": lambda: _encode_by_pillow("JPEG2000"),
    "jpx": _encode_jpx,
    "bmp": lambda: _encode_by_pillow("BMP"),
    "bmp palette": lambda: _encode_by_pillow("BMP", mode="P"),
    "ppm": lambda: _encode_by_pillow("PPM"),
    "tga": lambda: _encode_by_pillow("TGA", compression="tga_rle", orientation=1),
    "pcx": lambda: _encode_by_pillow("PCX"),
    "sgi": lambda: _encode_by_pillow("SGI"),
    "ico": lambda: _encode_by_pillow("ICO"),
    "dds": lambda: _encode_by_pillow("DDS"),
    "qoi": lambda: _encode_by_pillow("QOI", _NOISE),
    "npy": _encode_npy,
    "exr": encode_exr,
    "radiance": lambda: write_radiance(to_rgbe(_RGB / 100.0)),
    "radiance flat": lambda: write_radiance(to_rgbe(_RGB / 100.0), form="old", order="+X {} +Y {}"),
    "psd": lambda: _encode_psd(
        RGB, 4, layers=layer_part(psb=False, count=-1), resources={1039: _srgb_profile()}
    ),
    "psd raw": lambda: _encode_psd(GREY, 1, compression=0, is_deep=True),
    "psd palette": lambda: _encode_psd(INDEXED, 1, colour_data=bytes(range(256)) * 3),
    "psb": lambda: _encode_psd(
        LAB, 5, psb=True, is_deep=True, layers=layer_part(psb=True, count=-1, block=b"Lr16")
    ),
    "tiff": lambda: _encode_tiff(iccprofile=_srgb_profile(), resolution=(300, 300)),
    "tiff tiles": lambda: _encode_tiff(tile=(32, 48)),
    "tiff big planar": lambda: _encode_tiff(
        np.ascontiguousarray(_RGB.transpose(2, 0, 1)), bigtiff=True, planarconfig="separate"
    ),
    "tiff geo": lambda: _encode_tiff(extratags=_GEO_TAGS),
    "tiff ome": _encode_ome_tiff,
    "tiff mask": _encode_masked_tiff,
    "tiff nodata": lambda: _encode_tiff(_RGB[..., 0], extratags=[(42113, "s", 0, "7", True)]),
    "tiff palette": lambda: _encode_by_pillow("TIFF", mode="P"),
    "tiff lzw": lambda: _encode_by_pillow("TIFF", compression="tiff_lzw"),
    "tiff deflate tiles": lambda: _encode_tiff(compression="zlib", predictor=True, tile=(32, 48)),
    "tiff jpeg": lambda: _encode_tiff(compression="jpeg", tile=(32, 48)),
    "tiff zstd": lambda: _encode_tiff(compression="zstd", rowsperstrip=16),
    "tiff g4": lambda: _encode_by_pillow("TIFF", _SMOOTH, mode="1", compression="group4"),
    "tiff packbits": lambda: _encode_by_pillow("TIFF", compression="packbits"),
    "tiff float": lambda: _encode_tiff(
        _SMOOTH.astype(np.float32), compression="lzw", predictor=True
    ),
}


def damage(content: bytes, choice: random.Random) -> bytes:
    """A file with some damage: bytes changed, numbers made extreme, pieces cut, doubled or lost."""
    data = bytearray(content or b"\0")
    for _ in range(choice.choice([1, 1, 2, 4, 16])):
        # Headers are where it hurts, so half of the damage is among the first and last bytes.
        where = choice.choice([(0, 64), (0, 400), (0, len(data)), (len(data) - 400, len(data))])
        at = choice.randrange(max(0, where[0]), max(1, min(where[1], len(data))))
        kind = choice.randrange(6)
        if kind <= 1:
            data[at] = choice.randrange(256)
        elif kind == 2:
            extreme = choice.choice([0, 1, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1])
            size = choice.choice([2, 4])
            order = choice.choice(["little", "big"])
            data[at : at + size] = (extreme % 256**size).to_bytes(size, order)  # type: ignore[arg-type]
        elif kind == 3:
            del data[at : at + choice.choice([1, 2, 17, 1000])]
        elif kind == 4:
            data[at:at] = data[at : at + choice.choice([1, 4, 100])]
        else:
            del data[max(1, at) :]
        if not data:
            data = bytearray(b"\0")
    return bytes(data)


def _cut(path: Path, folder: Path, choice: random.Random) -> bool:
    """Cut a file in one of several ways; gives whether there was a result."""
    options = choice.choice(
        [{}, {"allow_truncated": True}, {"format": "png", "icc": "keep"}, {"icc": "drop"}]
    )
    try:
        fasttile.cut(path, folder / "out.dzi", overwrite=True, threads=2, **options)
    except fasttile.FasttileError as error:
        if "\n" in str(error) or str(path) not in str(error):
            raise AssertionError(f"not one line with the file's name: {error}") from error
        return False
    return True


def _set_limits() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MAX_ADDRESS_SPACE, MAX_ADDRESS_SPACE))

    def too_long(number: int, frame: object) -> None:
        raise TimeoutError(f"longer than {MAX_SECONDS_PER_FILE} s")

    signal.signal(signal.SIGALRM, too_long)


def _damaged_files(kind: str, count: int, seed: int) -> Iterator[tuple[int, bytes]]:
    content = FILE_KINDS[kind]()
    for number in range(count):
        yield number, damage(content, random.Random(f"{kind} {seed} {number}"))


def main() -> None:
    """Cut a number of damaged files of a kind."""
    kind, count, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    warnings.simplefilter("ignore")  # what Pillow's plugins have to say about damage
    _set_limits()
    results = errors = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "damaged"
        for number, data in _damaged_files(kind, count, seed):
            path.write_bytes(data)
            signal.alarm(MAX_SECONDS_PER_FILE)
            try:
                succeeded = _cut(path, folder, random.Random(number))
                results += succeeded
                errors += not succeeded
            except BaseException:
                text = traceback.format_exc().replace("\n", " | ")
                print(f"{kind} {seed} {number}: {text}", flush=True)
            finally:
                signal.alarm(0)
            left = {entry.name for entry in folder.iterdir()} - {"damaged", "out.dzi", "out_files"}
            if left:
                print(f"{kind} {seed} {number}: left behind {left}", flush=True)
    print(f"results {results} errors {errors} peak {peak_megabytes()}")


def run_fuzz_program(program: str, kind: str, count: int, seed: int, timeout: int) -> str:
    """Run a fuzzing program in this folder; its last line, after no line about a fault."""
    run = subprocess.run(
        [sys.executable, str(Path(__file__).with_name(program)), kind, str(count), str(seed)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    *faults, summary = run.stdout.splitlines() or [""]
    assert run.returncode == 0, run.stderr[-2000:]
    assert not faults, "\n".join(faults)[:5000]
    return summary


def peak_megabytes() -> int:
    """The largest memory of this process in MB; getrusage's figure is inherited through exec."""
    (line,) = (
        line
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("VmHWM:")
    )
    return int(line.split()[1]) // 1024


if __name__ == "__main__":
    main()
