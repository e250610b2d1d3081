"""Encoded tiles: the bytes of Pillow's own `save`, by every way, and what they decode to."""

from __future__ import annotations

import gc
import io
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageFile

from fasttile import pillow_core
from fasttile.colour.convert import NO_METADATA, TileMetadata, Transform
from fasttile.encode import encoder as encoder_module
from fasttile.encode.codecs import Avif, Codec, Jpeg, Png, Webp
from fasttile.encode.encoder import Encoder, make_encoder
from fasttile.errors import OptionError
from fasttile.options import parse_background, parse_colour
from profiles import cmyk, display_p3, prophoto
from support import reference
from support.reading import noise
from support.reference import Array

LOSSY = [
    Jpeg(),
    Jpeg(1, "4:4:4"),
    Jpeg(100, "4:4:4"),
    Jpeg(90, "4:2:2", progressive=True),
    Jpeg(75, optimize=True),
    Jpeg(100, "4:4:4", progressive=True, optimize=True),
    Webp(),
    Webp(1, method=0),
    Avif(),
    Avif(1, 10, "4:4:4"),
]
PNG_BY_SAVE = Png(6, 3)
LOSSLESS = [
    Png(),
    PNG_BY_SAVE,
    Png(0, 0),
    Png(9, 0),
    Png(1, 2),
    Webp(lossless=True, method=0),
    Webp(lossless=True),
]
CODECS = LOSSY + LOSSLESS[1:]
DIRECT_ENCODER_CASES = [
    (codec, mode) for codec in (Jpeg(), Jpeg(progressive=True)) for mode in ("L", "RGB")
]
DIRECT_ENCODER_CASES += [(Png(), mode) for mode in ("L", "LA", "RGB", "RGBA", "I;16")]

SIZES = [(1, 1), (1, 2), (2, 1), (1, 255), (255, 1), (7, 5), (8, 8), (16, 16), (17, 33), (65, 130)]
"""Height and width: below, at and above the blocks of 8 and 16 that JPEG has."""

BACKGROUND = (30, 144, 255)


def smooth_pixels(height: int, width: int, bands: int) -> Array:
    """Pixels as an image has them: slow waves, and some alpha in the last band of 2 or 4."""
    y, x, band = np.meshgrid(*(np.arange(side) for side in (height, width, bands)), indexing="ij")
    return (127.5 + 127.5 * np.sin(x / 9 + band) * np.cos(y / 7 - band)).astype(np.uint8)


def image_of(codec: Codec, tile: Array, background: tuple[int, int, int]) -> Image.Image:
    """The image that a tile is, for a format with or without alpha."""
    if not codec.keeps_alpha and tile.shape[2] in (2, 4):
        tile = reference.composite_over(tile, background)
    return Image.fromarray(tile[..., 0] if tile.shape[2] == 1 else tile)


def encode_by_save(
    codec: Codec, tile: Array, background: tuple[int, int, int] = BACKGROUND, **more_options: Any
) -> bytes:
    """What Pillow's `save` makes of a tile."""
    file = io.BytesIO()
    parameters = {field.name: getattr(codec, field.name) for field in fields(codec)} | more_options
    if isinstance(codec, Webp):
        parameters["exact"] = codec.lossless
        if codec.method is None:
            parameters["method"] = 1 if codec.lossless else 4
    if isinstance(codec, Avif):
        parameters |= {"max_threads": 1, "autotiling": False}
        if tile.shape[2] < 3:
            parameters["subsampling"] = "4:0:0"
        if tile.shape[2] in (2, 4):
            tile = spread_colours(tile)
    image_of(codec, tile, background).save(file, codec.name, **parameters)
    return file.getvalue()


def decode_image(data: bytes) -> Array:
    with Image.open(io.BytesIO(data)) as image:
        pixels = np.asarray(image)
    return pixels.reshape(*pixels.shape[:2], -1)


# ---- the same bytes as Pillow's save -------------------------------------------------------------


@pytest.mark.parametrize("bands", [1, 2, 3, 4])
@pytest.mark.parametrize("codec", CODECS, ids=repr)
def test_tiles_are_what_save_makes(codec: Codec, bands: int) -> None:
    encoder = Encoder(codec, BACKGROUND)
    for size in SIZES:
        for tile in (smooth_pixels(*size, bands), noise(*size, bands)):
            assert encoder.encode(tile) == encode_by_save(codec, tile), size
            assert encoder.encode(tile) == encode_by_save(codec, tile), "the second time"


@pytest.mark.parametrize("codec", [*LOSSY[:6], Png(0, 0), PNG_BY_SAVE], ids=repr)
@pytest.mark.parametrize("bands", [1, 3])
def test_large_tiles_are_what_save_makes(
    codec: Codec, bands: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without more room than it takes by itself, `save` fails at some of these.
    monkeypatch.setattr(ImageFile, "MAXBLOCK", 2**16 if isinstance(codec, Png) else 2**22)
    # Above the 64 KB that Pillow's encoders write at a time, up to the most that JPEG can take.
    black_or_white = (noise(512, 600, bands) & 1) * np.uint8(255)
    for tile in (noise(256, 256, bands), black_or_white):
        data = Encoder(codec).encode(tile)
        assert data == encode_by_save(codec, tile)
    if codec in (
        Jpeg(100, "4:4:4"),
        Jpeg(100, "4:4:4", progressive=True, optimize=True),
        Png(0, 0),
    ):
        assert len(data) > 3 * 2**16


@pytest.mark.parametrize(("height", "width"), [(1, 20_000), (20_000, 1), (2, 65_500)])
def test_long_tiles_are_what_save_makes(height: int, width: int) -> None:
    for codec in (Jpeg(), Jpeg(progressive=True), PNG_BY_SAVE):
        tile = noise(height, width, 3)
        assert Encoder(codec).encode(tile) == encode_by_save(codec, tile)


@given(
    shape=st.tuples(st.integers(1, 90), st.integers(1, 90), st.integers(1, 4)),
    codec=st.one_of(
        st.builds(
            Jpeg,
            quality=st.integers(1, 100),
            subsampling=st.sampled_from(["4:4:4", "4:2:2", "4:2:0"]),
            progressive=st.booleans(),
            optimize=st.booleans(),
        ),
        st.builds(Png, compress_level=st.integers(0, 9), compress_type=st.integers(0, 4)),
    ),
    background=st.tuples(*[st.integers(0, 255)] * 3),
)
@settings(max_examples=80, deadline=None)
def test_any_tile_is_what_save_makes(
    shape: tuple[int, int, int], codec: Codec, background: tuple[int, int, int]
) -> None:
    tile = noise(*shape)
    assert Encoder(codec, background).encode(tile) == encode_by_save(codec, tile, background)


def test_16_bits_are_what_save_makes() -> None:
    for codec in (PNG_BY_SAVE, Png(0, 0), Png(9, 0)):
        encoder = Encoder(codec)
        for size in [*SIZES, (256, 256)]:
            tile = noise(*size, 1, dtype=np.uint16)
            data = encoder.encode(tile)
            assert data == encode_by_save(codec, tile)
            np.testing.assert_array_equal(decode_image(data), tile)


# ---- what tiles decode to ------------------------------------------------------------------------


@pytest.mark.parametrize("bands", [1, 2, 3, 4])
@pytest.mark.parametrize("codec", LOSSLESS, ids=repr)
def test_lossless_tiles_decode_to_their_pixels(codec: Codec, bands: int) -> None:
    for size in SIZES:
        tile = noise(*size, bands)
        if bands in (2, 4):
            tile[::2, ::3, -1] = 0  # what cannot be seen is kept too
        found = decode_image(Encoder(codec).encode(tile))
        if codec.name == "webp" and bands < 3:  # it has no grey
            tile = tile[..., [0, 0, 0] + [1] * (bands == 2)]
        np.testing.assert_array_equal(found, tile)


@pytest.mark.parametrize("bands", [1, 2, 3, 4])
@pytest.mark.parametrize("codec", [Jpeg(95, "4:4:4"), Webp(95), Avif(90)], ids=repr)
def test_lossy_tiles_decode_to_nearly_their_pixels(codec: Codec, bands: int) -> None:
    tile = smooth_pixels(64, 80, bands)
    expected = np.asarray(image_of(codec, tile, BACKGROUND).convert("RGBA"))
    with Image.open(io.BytesIO(Encoder(codec, BACKGROUND).encode(tile))) as image:
        found = np.asarray(image.convert("RGBA"))
    seen = expected[..., 3] > 0
    assert np.abs(found.astype(int) - expected)[seen].mean() < 3


def test_alpha_is_laid_on_the_background() -> None:
    tile = np.zeros((16, 16, 4), np.uint8)
    tile[..., :3], tile[..., 3] = (200, 100, 50), 51  # a fifth
    expected = [(200 + 4 * 30) // 5, (100 + 4 * 144) // 5, (50 + 4 * 255) // 5]
    found = decode_image(Encoder(Jpeg(100, "4:4:4"), BACKGROUND).encode(tile))
    assert np.abs(found.astype(int) - expected).max() <= 2


def test_formats_with_alpha_do_not_heed_the_background() -> None:
    tile = noise(9, 9, 4)
    for codec in LOSSLESS:
        assert Encoder(codec, (1, 2, 3)).encode(tile) == Encoder(codec, BACKGROUND).encode(tile)


def graphic_pixels(height: int, width: int, bands: int, dtype: Any) -> Array:
    """Areas of one colour each, and few neighbours that differ."""
    blocks = noise(-(-height // 9), -(-width // 9), bands, dtype=dtype)
    return np.ascontiguousarray(blocks.repeat(9, axis=0).repeat(9, axis=1)[:height, :width])


def test_png_recognises_graphics_and_photographs() -> None:
    for bands, dtype in (
        (1, np.uint8),
        (2, np.uint8),
        (3, np.uint8),
        (4, np.uint8),
        (1, np.uint16),
    ):
        encoder = Encoder(Png())
        for size in [*SIZES, (256, 256), (200, 257)]:
            drawing, photograph = (
                graphic_pixels(*size, bands, dtype),
                noise(*size, bands, dtype=dtype),
            )
            data = encoder.encode(drawing)
            np.testing.assert_array_equal(decode_image(data), drawing)
            if min(size) > 60:
                assert data != encode_by_save(PNG_BY_SAVE, drawing)
                assert encoder.encode(photograph) == encode_by_save(PNG_BY_SAVE, photograph)


# ---- uniform tiles -------------------------------------------------------------------------------


def flat_pixels(shape: tuple[int, int, int], *colour: int, dtype: Any = np.uint8) -> Array:
    tile = np.empty(shape, dtype)
    tile[:] = colour
    return tile


@pytest.mark.parametrize("codec", [Jpeg(), PNG_BY_SAVE, Webp()], ids=repr)
def test_uniform_tiles_are_encoded_once_for_all_encoders_of_a_job(codec: Codec) -> None:
    kept: dict[tuple[Any, ...], bytes] = {}
    first, second = Encoder(codec, uniform_tiles=kept), Encoder(codec, uniform_tiles=kept)
    data = first.encode(flat_pixels((20, 30, 3), 1, 2, 3))
    assert data == encode_by_save(codec, flat_pixels((20, 30, 3), 1, 2, 3))
    assert first.encode(flat_pixels((20, 30, 3), 1, 2, 3)) is data
    assert second.encode(flat_pixels((20, 30, 3), 1, 2, 3)) is data
    assert first.encode(flat_pixels((20, 30, 3), 1, 2, 4)) is not data
    assert first.encode(flat_pixels((30, 20, 3), 1, 2, 3)) is not data
    tile = noise(20, 30, 3)
    assert first.encode(tile) == first.encode(tile)
    assert first.encode(tile) is not first.encode(tile)
    assert len(kept) == 3


@pytest.mark.parametrize("codec", [Jpeg(), PNG_BY_SAVE], ids=repr)
def test_uniform_tiles_are_not_mistaken_for_each_other(codec: Codec) -> None:
    tiles = [
        flat_pixels((height, width, bands), *range(first, first + bands))
        for height, width in ((2, 4), (4, 2), (1, 8), (8, 1))
        for bands in (1, 2, 3, 4)
        for first in (0, 1, 77, 252)
    ]
    if codec.name == "png":
        tiles += [
            flat_pixels((height, width, 1), value, dtype=np.uint16)
            for height, width in ((2, 4), (4, 2))
            for value in (0, 1, 77, 0x4D4D, 0x4D00, 65535)
        ]
    encoder = Encoder(codec, BACKGROUND)
    for tile in tiles + tiles[::-1]:
        assert encoder.encode(tile) == encode_by_save(codec, tile)


def test_only_so_many_uniform_tiles_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder_module, "MAX_UNIFORM_TILES", 3)
    kept: dict[tuple[Any, ...], bytes] = {}
    encoder = Encoder(PNG_BY_SAVE, uniform_tiles=kept)
    for value in [*range(10), *range(10)]:
        assert encoder.encode(flat_pixels((3, 3, 1), value)) == encode_by_save(
            PNG_BY_SAVE, flat_pixels((3, 3, 1), value)
        )
    assert len(kept) == 3


# ---- many tiles, many threads --------------------------------------------------------------------


def mixed_tiles() -> list[Array]:
    sizes = [(h, w) for h in (3, 32, 33) for w in (2, 31, 33)]
    tiles = [noise(*size, bands) for size in sizes for bands in (1, 2, 3, 4)]
    return tiles + [flat_pixels((33, 31, 3), *[value] * 3) for value in range(8)]


@pytest.mark.parametrize(
    "codec", [Jpeg(), Jpeg(progressive=True), PNG_BY_SAVE, Webp(method=0)], ids=repr
)
def test_many_threads_make_the_same_bytes(codec: Codec) -> None:
    tiles = mixed_tiles()
    expected = [encode_by_save(codec, tile) for tile in tiles]
    kept: dict[tuple[Any, ...], bytes] = {}

    def work(number: int) -> None:
        encoder = Encoder(codec, BACKGROUND, kept)
        for step in range(2 * len(tiles)):
            chosen = (number * 7 + step) % len(tiles)
            assert encoder.encode(tiles[chosen]) == expected[chosen]

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))


def test_tiles_may_lie_in_memory_in_any_rows() -> None:
    for codec in (Jpeg(), PNG_BY_SAVE):
        encoder = Encoder(codec)
        for bands in (1, 2, 3, 4):
            strip = noise(40, 90, bands)
            for view in (strip[3:23, 5:35], strip[22:2:-1, 5:35], strip[::2, 5:35]):
                view.flags.writeable = False
                assert view.shape == (20, 30, bands)
                assert encoder.encode(view) == encode_by_save(codec, view, (255, 255, 255))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="it counts open files")
def test_no_file_stays_open() -> None:
    gc.collect()
    before = sorted(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for codec in (Jpeg(), Png(), Webp()):
        encoder = Encoder(codec)
        for side in range(1, 3 * encoder_module.MAX_PREPARED_ENCODERS):
            encoder.encode(noise(side, side, 3))
    del encoder
    gc.collect()
    assert sorted(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


# ---- the fast way and the plain one --------------------------------------------------------------


@pytest.fixture
def clear_encoder_cache() -> Iterator[None]:
    """The fast way is tried again in a test, and after it."""
    encoder_module._direct_encoder.cache_clear()
    yield
    encoder_module._direct_encoder.cache_clear()


@pytest.mark.parametrize(("codec", "mode"), DIRECT_ENCODER_CASES)
def test_the_fast_way_works_with_this_pillow(codec: Codec, mode: str) -> None:
    assert encoder_module._direct_encoder(codec, mode, NO_METADATA) is not None


class ChangedPillowCore:
    """Pillow's core, but its encoders give something else."""

    def __getattr__(self, name: str) -> Any:
        return getattr(Image.core, name)  # type: ignore[attr-defined]

    def jpeg_encoder(self, mode: str, rawmode: str, quality: int, *rest: Any) -> Any:
        return Image.core.jpeg_encoder(mode, rawmode, quality - 7, *rest)  # type: ignore[attr-defined]

    def zip_encoder(self, mode: str, rawmode: str, optimize: bool, level: int, *rest: Any) -> Any:
        return Image.core.zip_encoder(mode, rawmode, optimize, 0, *rest)  # type: ignore[attr-defined]


@pytest.mark.usefixtures("clear_encoder_cache")
@pytest.mark.parametrize("core", [SimpleNamespace(), ChangedPillowCore()], ids=["nothing", "other"])
@pytest.mark.parametrize("bands", [1, 2, 3, 4])
def test_the_plain_way_serves_where_the_fast_one_does_not(
    core: object, bands: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pillow_core, "core", core)
    for codec in (Jpeg(), Jpeg(progressive=True), PNG_BY_SAVE):
        assert encoder_module._direct_encoder(codec, "RGB", NO_METADATA) is None
        for size in SIZES:
            tile = noise(*size, bands)
            assert Encoder(codec, BACKGROUND).encode(tile) == encode_by_save(codec, tile)


@pytest.mark.usefixtures("clear_encoder_cache")
def test_the_plain_way_has_16_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pillow_core, "core", SimpleNamespace())
    tile = noise(9, 33, 1, dtype=np.uint16)
    assert encoder_module._direct_encoder(Png(), "I;16", NO_METADATA) is None
    np.testing.assert_array_equal(decode_image(Encoder(Png()).encode(tile)), tile)


@pytest.mark.skipif(sys.platform != "linux", reason="it takes /dev/full")
def test_a_spool_that_is_full_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (
        encoder_module._direct_encoder(Jpeg(), "RGB", NO_METADATA) is not None
    )  # tried before the spool is full
    with io.FileIO("/dev/full", "r+") as full:
        monkeypatch.setattr(encoder_module.ScratchFile, "fileno", lambda spool: full.fileno())
        with pytest.raises(OSError, match=r"No space left|JPEG encoder failed"):
            Encoder(Jpeg()).encode(noise(64, 64, 3))


@pytest.mark.usefixtures("clear_encoder_cache")
def test_a_spool_without_memfd_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)
    tile = noise(64, 64, 3)
    assert encoder_module._direct_encoder(Jpeg(), "RGB", NO_METADATA) is not None
    assert Encoder(Jpeg()).encode(tile) == encode_by_save(Jpeg(), tile)


# ---- colours -------------------------------------------------------------------------------------

COLOUR_CODECS = [
    Jpeg(),
    Jpeg(90, "4:4:4", progressive=True, optimize=True),
    PNG_BY_SAVE,
    Webp(method=0),
]
SRGB_TRANSFORMS = [Transform(display_p3()), Transform(prophoto())]
CMYK_TRANSFORM = Transform(cmyk(2), "CMYK")


def convert_to_srgb(transform: Transform, tile: Array) -> Array:
    """A tile converted by Pillow's public function."""
    assert transform.profile is not None
    mode = transform.mode if transform.mode == "CMYK" else ("RGB", "RGBA")[tile.shape[2] - 3]
    image = Image.frombytes(mode, (tile.shape[1], tile.shape[0]), tile.tobytes())
    converted = ImageCms.profileToProfile(
        image,
        ImageCms.ImageCmsProfile(io.BytesIO(transform.profile)),
        ImageCms.createProfile("sRGB"),
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        "RGB" if mode == "CMYK" else mode,
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    return np.asarray(converted)


@pytest.mark.parametrize("bands", [3, 4])
@pytest.mark.parametrize("transform", SRGB_TRANSFORMS)
@pytest.mark.parametrize("codec", COLOUR_CODECS, ids=repr)
def test_colours_are_converted_before_all_else(
    codec: Codec, transform: Transform, bands: int
) -> None:
    encoder = Encoder(codec, BACKGROUND, transform=transform)
    for size in SIZES:
        for tile in (smooth_pixels(*size, bands), noise(*size, bands)):
            assert encoder.encode(tile) == encode_by_save(
                codec, convert_to_srgb(transform, tile)
            ), size
            assert encoder.encode(tile) == encode_by_save(
                codec, convert_to_srgb(transform, tile)
            ), "the second time"


@pytest.mark.parametrize("codec", [Jpeg(), Png(), Webp()], ids=repr)
@pytest.mark.parametrize("transform", [None, SRGB_TRANSFORMS[0]])
def test_rgb_may_lie_in_four_bytes(codec: Codec, transform: Transform | None) -> None:
    padded = np.concatenate([smooth_pixels(40, 33, 3), noise(40, 33, 1)], axis=2)
    flat = np.concatenate([np.full((40, 33, 3), 9, np.uint8), noise(40, 33, 1)], axis=2)
    for pixels in (padded, flat):
        encoder = Encoder(codec, transform=transform)
        contiguous = np.ascontiguousarray(pixels[..., :3])
        expected = Encoder(codec, transform=transform).encode(contiguous)
        assert encoder.encode(pixels[..., :3]) == expected
        assert encoder.encode(contiguous) == expected


@pytest.mark.parametrize("codec", COLOUR_CODECS, ids=repr)
def test_inks_are_converted(codec: Codec) -> None:
    encoder = Encoder(codec, BACKGROUND, transform=CMYK_TRANSFORM)
    for size in SIZES:
        tile = noise(*size, 4)
        assert encoder.encode(tile) == encode_by_save(
            codec, convert_to_srgb(CMYK_TRANSFORM, tile)
        ), size
    plain = Encoder(codec, BACKGROUND, transform=Transform(None, "CMYK"))
    by_pillow = Image.frombytes("CMYK", size[::-1], tile.tobytes()).convert("RGB")
    assert plain.encode(tile) == encode_by_save(codec, np.asarray(by_pillow))


def test_drawings_are_converted() -> None:
    for transform, bands in ((SRGB_TRANSFORMS[0], 3), (SRGB_TRANSFORMS[0], 4), (CMYK_TRANSFORM, 4)):
        encoder = Encoder(Png(), transform=transform)
        drawing = graphic_pixels(200, 257, bands, np.uint8)
        data = encoder.encode(drawing)
        expected = convert_to_srgb(transform, drawing)
        np.testing.assert_array_equal(decode_image(data), expected)
        assert data == Encoder(Png()).encode(expected), "the fourth byte was counted"


@pytest.mark.parametrize(
    ("transform", "bands"), [(SRGB_TRANSFORMS[0], 3), (SRGB_TRANSFORMS[0], 4), (CMYK_TRANSFORM, 4)]
)
def test_uniform_tiles_are_converted_once(
    transform: Transform, bands: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    converted = []
    converting = encoder_module.make_converter

    def counted(*arguments: Any) -> Any:
        convert = converting(*arguments)
        return lambda: converted.append(convert())

    monkeypatch.setattr(encoder_module, "make_converter", counted)
    encoder = Encoder(Jpeg(), BACKGROUND, transform=transform)
    colours = [(200, 10, 40, 99), (200, 10, 40, 20)] if bands == 4 else [(200, 10, 40), (1, 2, 3)]
    for colour in colours:
        tile = flat_pixels((20, 30, bands), *colour)
        data = encoder.encode(tile)
        assert data == encode_by_save(Jpeg(), convert_to_srgb(transform, tile))
        assert encoder.encode(tile) is data
    assert len(converted) == 2
    assert encoder.encode(flat_pixels((20, 30, bands), *colours[0])) != data


@pytest.mark.parametrize(
    ("transform", "shape", "dtype"),
    [
        (SRGB_TRANSFORMS[0], (5, 5, 1), np.uint8),
        (SRGB_TRANSFORMS[0], (5, 5, 2), np.uint8),
        (SRGB_TRANSFORMS[0], (5, 5, 3), np.uint16),
        (CMYK_TRANSFORM, (5, 5, 3), np.uint8),
        (CMYK_TRANSFORM, (5, 5, 1), np.uint16),
    ],
)
def test_tiles_of_other_bands_cannot_be_converted(
    transform: Transform, shape: tuple[int, int, int], dtype: Any
) -> None:
    with pytest.raises(ValueError, match=f"tiles with {shape[2]} bands are not {transform.mode}"):
        Encoder(Png(), transform=transform).encode(np.zeros(shape, dtype))


# ---- profiles and resolutions in tiles -----------------------------------------------------------

LONG_PROFILE = noise(200_000).tobytes()  # four pieces of a JPEG
METADATA_CASES = [
    TileMetadata(display_p3()),
    TileMetadata(LONG_PROFILE),
    TileMetadata(None, (300, 72)),
    TileMetadata(display_p3(), (1, 1)),
]


def save_options(codec: Codec, tile_metadata: TileMetadata) -> dict[str, Any]:
    """The same as parameters of Pillow's `save`."""
    found: dict[str, Any] = {}
    if tile_metadata.icc_profile is not None:
        found["icc_profile"] = tile_metadata.icc_profile
    if tile_metadata.resolution is not None and codec.name != "webp":
        found["dpi"] = tile_metadata.resolution
    return found


@pytest.mark.parametrize("bands", [1, 2, 3, 4])
@pytest.mark.parametrize("attached", METADATA_CASES)
@pytest.mark.parametrize("codec", [*COLOUR_CODECS, Jpeg(optimize=True)], ids=repr)
def test_what_tiles_carry_is_what_save_attaches(
    codec: Codec, attached: TileMetadata, bands: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile, "MAXBLOCK", 2**16 if isinstance(codec, Png) else 2**22)
    encoder = Encoder(codec, BACKGROUND, tile_metadata=attached)
    for size in SIZES[-3:]:
        tile = noise(*size, bands)
        data = encoder.encode(tile)
        assert data == encode_by_save(codec, tile, **save_options(codec, attached))
    with Image.open(io.BytesIO(data)) as image:
        assert image.info.get("icc_profile") == attached.icc_profile
        if attached.resolution and codec.name == "jpeg":
            assert image.info["dpi"] == attached.resolution
        elif attached.resolution and codec.name == "png":
            assert image.info["dpi"] == pytest.approx(attached.resolution, rel=0.01)
    if codec.name != "webp":
        mode = ("L", "LA" if codec.keeps_alpha else "L", "RGB", "RGBA")[bands - 1]
        assert encoder_module._direct_encoder(
            codec, mode if mode != "RGBA" or codec.keeps_alpha else "RGB", attached
        )


def test_drawings_and_16_bits_carry_the_same() -> None:
    attached = TileMetadata(display_p3(), (254, 254))
    for tile in (graphic_pixels(200, 257, 3, np.uint8), noise(9, 33, 1, dtype=np.uint16)):
        data = Encoder(Png(), tile_metadata=attached).encode(tile)
        with Image.open(io.BytesIO(data)) as image:
            np.testing.assert_array_equal(np.asarray(image), np.squeeze(tile))
            assert image.info["icc_profile"] == attached.icc_profile
            assert image.info["dpi"] == pytest.approx((254, 254))


@pytest.mark.usefixtures("clear_encoder_cache")
def test_the_plain_way_attaches_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pillow_core, "core", SimpleNamespace())
    for codec in (Jpeg(), PNG_BY_SAVE):
        for attached in METADATA_CASES:
            tile = noise(40, 30, 3)
            data = Encoder(codec, tile_metadata=attached).encode(tile)
            assert data == encode_by_save(codec, tile, **save_options(codec, attached))


def test_encoders_of_one_workshop_do_not_disturb_each_other() -> None:
    workshop = encoder_module.EncoderScratch()
    encoders = {
        (codec, attached): Encoder(codec, BACKGROUND, tile_metadata=attached, scratch=workshop)
        for codec in (Jpeg(), PNG_BY_SAVE, Png())
        for attached in (NO_METADATA, METADATA_CASES[2])
    }
    for size in [*SIZES, *SIZES[::-1]]:
        for (codec, attached), encoder in encoders.items():
            tile = noise(*size, 4)
            alone = Encoder(codec, BACKGROUND, tile_metadata=attached)
            assert encoder.encode(tile) == alone.encode(tile)


# ---- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tile", "message"),
    [
        (np.zeros((0, 5, 3), np.uint8), "a tile of 5×0 pixels cannot be encoded"),
        (np.zeros((5, 0, 3), np.uint8), "a tile of 0×5 pixels cannot be encoded"),
        (np.zeros((5, 5), np.uint8), "it must be uint8 or uint16 of shape"),
        (np.zeros((5, 5, 5), np.uint8), "has 5 bands"),
        (np.zeros((5, 5, 3), np.float64), "it must be uint8 or uint16 of shape"),
        (np.zeros((5, 5, 3), np.uint16), "uint16 tiles with 3 bands cannot be packed"),
        (np.zeros((5, 9, 3), np.uint8)[:, ::2], "not contiguous"),
    ],
)
def test_refuses_what_is_no_tile(tile: Array, message: str) -> None:
    for codec in (Jpeg(), Png(), Webp()):
        with pytest.raises(ValueError, match=message):
            Encoder(codec).encode(tile)


def test_a_tile_is_checked_though_one_like_it_came_before() -> None:
    encoder = Encoder(Png())
    encoder.encode(np.zeros((5, 5, 3), np.uint8))
    with pytest.raises(ValueError, match="not contiguous"):
        encoder.encode(np.zeros((5, 10, 3), np.uint8)[:, ::2])
    encoder.encode(np.zeros((5, 5, 1), np.uint16))
    with pytest.raises(ValueError):  # noqa: PT011
        encoder.encode(np.zeros((5, 5, 1), np.dtype(np.uint16).newbyteorder()))


def test_jpeg_cannot_hold_16_bits() -> None:
    with pytest.raises(OSError, match="JPEG"):
        Encoder(Jpeg()).encode(noise(5, 5, 1, dtype=np.uint16))


# ---- colours below transparent pixels ------------------------------------------------------------


def spread_colours(tile: Array) -> Array:
    """The oracle: pixel by pixel, the nearest visible one of the row, of the nearest such row."""
    out = tile.copy()
    height, width, _ = tile.shape
    rows = [y for y in range(height) if tile[y, :, -1].any()]
    for y in range(height) if rows else ():
        row = min(rows, key=lambda other: (abs(other - y), other))
        cols = np.flatnonzero(tile[row, :, -1])
        for x in range(width):
            nearest = cols[np.abs(cols - x).argmin()]
            out[y, x, :-1] = tile[row, nearest, :-1]
    return out


def test_avif_has_no_rim_beside_transparent_pixels() -> None:
    for bands in (2, 4):
        tile = np.zeros((63, 65, bands), np.uint8)
        tile[20:41, 13:40] = (230, 60, 40, 255)[:bands]
        tile[20:41, 13:40, -1] = 255
        for codec in (Avif(), Avif(90, 6, "4:4:4")):
            found = decode_image(Encoder(codec).encode(tile)).astype(int)
            wanted = tile[..., [0, 0, 0, 1] if bands == 2 else [0, 1, 2, 3]]
            assert np.abs(found - wanted)[20:41, 13:40].max() <= 6
            assert (found[..., 3] > 128).sum() == 21 * 27


# ---- backgrounds ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "colour"),
    [
        ("white", (255, 255, 255)),
        ("DodgerBlue", BACKGROUND),
        ("#1e90ff", BACKGROUND),
        ("#1e90ffff", BACKGROUND),
        ("#fff", (255, 255, 255)),
        ("rgb(1, 2, 3)", (1, 2, 3)),
    ],
)
def test_colours(text: str, colour: tuple[int, int, int]) -> None:
    assert parse_colour(text) == parse_background(text) == colour


@pytest.mark.parametrize(
    ("text", "background"),
    [
        ("transparent", (0, 0, 0, 0)),
        ("Transparent", (0, 0, 0, 0)),
        ("#1e90ff80", (*BACKGROUND, 128)),
        ("#ffffff00", (0, 0, 0, 0)),
        ("#1238", (17, 34, 51, 136)),
    ],
)
def test_backgrounds_with_alpha(text: str, background: tuple[int, ...]) -> None:
    assert parse_background(text) == background
    with pytest.raises(OptionError, match=f"background '{text}' has alpha, which is not possible"):
        parse_colour(text)


@pytest.mark.parametrize("text", ["", "whiteish", "#12", "1,2,3"])
def test_what_is_no_colour(text: str) -> None:
    with pytest.raises(OptionError, match=f"background '{text}' is no colour; expected a name"):
        parse_colour(text)


def test_a_pillow_that_filters_palettes_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from fasttile.encode import png

    class OtherCore:
        """Pillow's core, but what is shown as a palette image is filtered like any other."""

        map_buffer = staticmethod(pillow_core.core.map_buffer)

        @staticmethod
        def zip_encoder(mode: str, rawmode: str, *configuration: object) -> object:
            mode, rawmode = {"P": "L"}.get(mode, mode), {"P": "L"}.get(rawmode, rawmode)
            return Image.core.zip_encoder(mode, rawmode, *configuration)  # type: ignore[attr-defined]

    flat = np.repeat(noise(9, 5, 3), 8, axis=1)
    assert png.supports_unfiltered()
    usual = make_encoder(Png()).encode(flat)
    monkeypatch.setattr(pillow_core, "core", OtherCore)
    png.supports_unfiltered.cache_clear()
    try:
        assert not png.supports_unfiltered()
        data = make_encoder(Png()).encode(flat)
    finally:
        png.supports_unfiltered.cache_clear()
    assert data != usual
    for encoded in (usual, data):
        with Image.open(io.BytesIO(encoded)) as image:
            assert np.array_equal(np.asarray(image), flat)
