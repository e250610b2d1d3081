"""Whole-slide images through the real OpenSlide: made here, as no maker's own can be had."""

from __future__ import annotations

import io
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from fasttile.errors import OptionError, SourceError
from fasttile.geometry import Region
from fasttile.options.read import ReadOptions
from fasttile.sources import open_source
from fasttile.sources import openslide as slide
from support.reading import noise, read_checked, read_pixels

tifffile = pytest.importorskip("tifffile")
openslide = pytest.importorskip("openslide")
deepzoom = pytest.importorskip("openslide.deepzoom")

WIDTH, HEIGHT, TILE = 500, 300, 160
DESCRIPTION = (
    "Aperio Image Library v11.2.1 \n{}x{} [0,0 {}x{}] (160x160) JPEG/RGB Q=70|MPP = 0.4990"
)
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def smooth_photo() -> Any:
    """Soft blots, so that JPEG has little to lose."""
    image = Image.fromarray(noise(15, 25, 3)).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    return np.asarray(image)


def cut_tiles(array: Any, missing: int | None) -> Iterator[bytes]:
    """An array's tiles as JPEG; a missing one has no bytes, as where a scanner saw nothing."""
    padded = np.zeros((-(-HEIGHT // TILE) * TILE, -(-WIDTH // TILE) * TILE, 3), np.uint8)
    padded[:HEIGHT, :WIDTH] = array
    number = 0
    for y in range(0, HEIGHT, TILE):
        for x in range(0, WIDTH, TILE):
            stream = io.BytesIO()
            image = Image.fromarray(padded[y : y + TILE, x : x + TILE])
            image.save(stream, "JPEG", quality=90, subsampling=0)
            yield b"" if number == missing else stream.getvalue()
            number += 1


def write_slide(path: Path, *, missing: int | None = None) -> None:
    """A slide as Aperio's scanners write them: a TIFF of JPEG tiles, and a thumbnail behind it."""
    array = smooth_photo()
    with tifffile.TiffWriter(path) as writer:
        writer.write(
            cut_tiles(array, missing),
            shape=array.shape,
            dtype=array.dtype,
            tile=(TILE, TILE),
            compression="jpeg",
            photometric="ycbcr",
            subsampling=(1, 1),
            description=DESCRIPTION.format(WIDTH, HEIGHT, WIDTH, HEIGHT),
            metadata=None,
            iccprofile=PROFILE,
        )
        small = np.ascontiguousarray(array[::4, ::4])
        writer.write(small, photometric="rgb", metadata=None, description="Aperio Image Library")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole slide."""
    path = tmp_path_factory.mktemp("slides") / "full.scn"
    write_slide(path)
    return path


@pytest.fixture(scope="module")
def sparse_slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A slide without one of its tiles."""
    path = tmp_path_factory.mktemp("slides") / "holed.BIF"
    write_slide(path, missing=5)
    return path


def levels_by_openslide(path: Path) -> Any:
    """The pixels as OpenSlide's own generator gives them."""
    with openslide.OpenSlide(path) as slide:
        generator = deepzoom.DeepZoomGenerator(slide, tile_size=1024, overlap=0)
        tile = generator.get_tile(generator.level_count - 1, (0, 0))
        return np.asarray(tile.convert("RGB"))


@pytest.mark.parametrize("piece", [1, TILE * TILE + 1, 2**20])
def test_a_slide(path: Path, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slide, "_REGION_PIXELS", piece)
    with open_source(path) as source:
        assert (source.width, source.height, source.bands) == (WIDTH, HEIGHT, 3)
        assert not source.is_mapped
        assert source.preferred_rows == TILE
        assert source.memory_bytes < 100e6
        assert source.name == str(path)
        assert source.metadata.format == "OpenSlide aperio"
        assert source.metadata.icc_profile == PROFILE
        assert source.metadata.resolution == pytest.approx((25400 / 0.499, 25400 / 0.499))
        pixels = read_checked(source)
    with openslide.OpenSlide(path) as opened:
        region = np.asarray(opened.read_region((0, 0), 0, (WIDTH, HEIGHT)))
    np.testing.assert_array_equal(pixels, region[..., :3])
    np.testing.assert_array_equal(pixels, levels_by_openslide(path))
    assert np.abs(pixels.astype(int) - smooth_photo()).mean() < 2


def test_what_was_not_scanned_is_background(sparse_slide: Path) -> None:
    pixels = read_pixels(sparse_slide)
    np.testing.assert_array_equal(pixels, levels_by_openslide(sparse_slide))
    assert (pixels[TILE : 2 * TILE, TILE : 2 * TILE] == 255).all()
    red = read_pixels(sparse_slide, read_options=ReadOptions(background=(255, 0, 0)))
    assert (red[TILE : 2 * TILE, TILE : 2 * TILE] == (255, 0, 0)).all()
    np.testing.assert_array_equal(red[:TILE], pixels[:TILE])


def test_the_slides_own_background(sparse_slide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = openslide.OpenSlide.properties
    # No format that can be written here has one.
    colour = {openslide.PROPERTY_NAME_BACKGROUND_COLOR: "C0FFEE"}
    changed = property(lambda self: {**own.fget(self), **colour})
    monkeypatch.setattr(openslide.OpenSlide, "properties", changed)
    pixels = read_pixels(sparse_slide, read_options=ReadOptions(background=(255, 0, 0)))
    np.testing.assert_array_equal(pixels, levels_by_openslide(sparse_slide))
    assert pixels[TILE, TILE].tolist() == [0xC0, 0xFF, 0xEE]
    colour[openslide.PROPERTY_NAME_BACKGROUND_COLOR] = "none!!"
    assert read_pixels(sparse_slide)[TILE, TILE].tolist() == [255, 255, 255]


def test_alpha_is_laid_on_the_background_as_pillow_does() -> None:
    values = np.arange(256, dtype=np.uint8)
    rgba = np.zeros((256, 256, 4), np.uint8)
    rgba[..., 0], rgba[..., 1], rgba[..., 2] = values, 255 - values, 77
    rgba[..., 3] = values[:, np.newaxis]
    image = Image.fromarray(rgba)
    fake: Any = types.SimpleNamespace(
        dimensions=(256, 256), properties={}, read_region=lambda *region: image, close=bool
    )
    for background in ((255, 255, 255), (0, 127, 254)):
        level = slide._SlideArray(fake, background)
        under = Image.new("RGB", image.size, background)
        expected = np.asarray(Image.composite(image, under, image).convert("RGB"))
        np.testing.assert_array_equal(level[0:256, 0:256], expected)
        level.close()


@pytest.mark.parametrize("region", [(0, 0, 500, 300), (159, 161, 200, 100), (499, 299, 1, 1)])
def test_a_region(path: Path, region: tuple[int, int, int, int]) -> None:
    x, y, width, height = region
    pixels = read_pixels(path, region=Region(*region))
    np.testing.assert_array_equal(pixels, levels_by_openslide(path)[y : y + height, x : x + width])
    with pytest.raises(OptionError, match="is not within"):
        open_source(path, region=Region(0, 0, 501, 1))


@pytest.mark.parametrize("name", ["a.svs", "holed.SVS"])
def test_aperios_are_read_as_any_tiff(
    path: Path, sparse_slide: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("imagecodecs")
    same = tmp_path / name
    same.write_bytes((path if name == "a.svs" else sparse_slide).read_bytes())
    with open_source(same) as source:
        assert source.metadata.format == "TIFF"
        np.testing.assert_array_equal(read_checked(source), levels_by_openslide(same))
    monkeypatch.setattr("fasttile.sources._open_mapped", lambda file, reading: None)
    with open_source(same) as source:
        assert source.metadata.format == "OpenSlide aperio"
        np.testing.assert_array_equal(read_checked(source), levels_by_openslide(same))


def test_other_names_are_not_asked_for(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "full.tif"
    other.write_bytes(path.read_bytes())
    with open_source(other) as source:
        assert "OpenSlide" not in source.metadata.format
    np.save(tmp_path / "a.npy", noise(9, 9))
    plain = tmp_path / "a.scn"
    (tmp_path / "a.npy").rename(plain)
    with open_source(plain) as source:
        assert source.metadata.format == "npy"
    tifffile.imwrite(plain, noise(90, 90, 3), photometric="rgb")
    with open_source(plain) as source:
        assert source.metadata.format == "TIFF"
    Image.fromarray(noise(9, 9, 3)).save(plain, "PNG")
    with open_source(plain) as source:
        assert source.metadata.format == "PNG"


def test_slides_that_cannot_be_read(path: Path, tmp_path: Path) -> None:
    data = path.read_bytes()
    broken = tmp_path / "broken.ndpi"
    start = data.index(b"\xff\xd8\xff")
    broken.write_bytes(data[:start] + b"\xff\xd8\xff" + bytes(3000) + data[start + 3003 :])
    with pytest.raises(SourceError, match=rf"^{broken}: broken slide: "):
        open_source(broken)
    # Another tile than the first: it shows only when it is reached.
    place = data.index(b"\xff\xd8\xff", len(data) // 3)
    broken.write_bytes(data[:place] + b"\xff\xd8\xff" + bytes(3000) + data[place + 3003 :])
    with open_source(broken) as source, pytest.raises(SourceError, match=r"rows .* cannot be read"):
        read_checked(source)
    for name in ("a.czi", "a.dcm", "a.mrxs"):
        unknown = tmp_path / name
        unknown.write_bytes(b"hello world")
        with pytest.raises(SourceError, match="is a text, and no image") as caught:
            open_source(unknown)
        assert "pip install" not in str(caught.value)
    with pytest.raises(SourceError, match="has no page 2"):
        open_source(path, read_options=ReadOptions(page=2))
    with pytest.raises(SourceError, match=r"150,000 pixels, more than the limit"):
        open_source(path, read_options=ReadOptions(max_pixels=1000))


def test_without_openslide(path: Path, tmp_path: Path) -> None:
    unknown = tmp_path / "a.mrxs"
    unknown.write_bytes(b"hello world")
    code = (
        "import sys\n"
        "sys.modules['openslide'] = None\n"
        "from fasttile.sources import open_source\n"
        "print(open_source(sys.argv[1]).metadata.format)\n"
        "try: open_source(sys.argv[2])\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    run = [sys.executable, "-c", code, str(path), str(unknown)]
    said = subprocess.run(run, capture_output=True, text=True, check=True).stdout.splitlines()
    assert "OpenSlide" not in said[0]
    assert said[1].startswith(f"SourceError {unknown}: it is a text, and no image")
    assert said[1].endswith("are read with OpenSlide: pip install fasttile[slides]")


def test_no_slide_stays_open(path: Path, sparse_slide: Path) -> None:
    folder = Path("/proc/self/fd")
    if not folder.exists():
        pytest.skip("reads /proc")
    read_pixels(path)
    before = len(list(folder.iterdir()))
    read_pixels(sparse_slide)
    with pytest.raises(SourceError):
        open_source(path, read_options=ReadOptions(page=2))
    with pytest.raises(OptionError):
        open_source(path, region=Region(0, 0, 501, 1))
    assert len(list(folder.iterdir())) == before
