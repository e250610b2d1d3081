"""What texts and values name a codec, and what the refusal of others says."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from fasttile.colour.convert import NO_CONVERSION, NO_METADATA, ColourPlan, TileMetadata, Transform
from fasttile.encode.codecs import CODECS, Avif, Codec, Jpeg, Png, Webp, parse_codec
from fasttile.encode.encoder import make_encoder
from fasttile.errors import OptionError
from profiles import swapped_primaries

VALID_CODECS = {
    "jpeg": Jpeg(),
    "jpg": Jpeg(),
    "jpeg:": Jpeg(),
    "png": Png(),
    "webp": Webp(),
    "jpeg:progressive": Jpeg(progressive=True),
    "jpeg:progressive,optimize": Jpeg(progressive=True, optimize=True),
    "jpeg:progressive=yes,optimize=no": Jpeg(progressive=True),
    "jpeg:progressive=true,optimize=false": Jpeg(progressive=True),
    "jpeg:subsampling=4:4:4": Jpeg(subsampling="4:4:4"),
    "jpeg:progressive,subsampling=4:2:2,quality=1": Jpeg(1, "4:2:2", progressive=True),
    "jpeg:quality=100": Jpeg(quality=100),
    "png:compress_level=0": Png(compress_level=0),
    "png:compress_type=3": Png(compress_type=3),
    "png:compress_level=9,compress_type=4": Png(9, 4),
    "webp:lossless": Webp(lossless=True),
    "webp:method=6,quality=100,lossless=yes": Webp(100, True, 6),
    "webp:method=0,quality=1": Webp(1, False, 0),
    "avif": Avif(),
    "avif:quality=1,speed=10,subsampling=4:2:2": Avif(1, 10, "4:2:2"),
}


@pytest.mark.parametrize("text", VALID_CODECS)
def test_texts_that_name_a_codec(text: str) -> None:
    assert parse_codec(text) == VALID_CODECS[text]


INVALID_CODECS = {
    "": "format '' is none of jpeg, png, webp",
    "gif": "format 'gif' is none of jpeg, png, webp",
    "JPEG": "format 'JPEG' is none of jpeg, png, webp",
    "jpeg,progressive": "format 'jpeg,progressive' is none of",
    "jpeg:lossless": "jpeg has no parameter 'lossless'; it has quality, subsampling, progressive",
    "jpeg:quality=85;optimize": "jpeg:quality=85;optimize is not a whole number",
    "png:quality=3": "png has no parameter 'quality'; it has compress_level, compress_type",
    "webp:=3": "webp has no parameter ''; it has quality, lossless, method",
    "jpeg:progressive=maybe": "jpeg:progressive=maybe is neither yes nor no",
    "jpeg:progressive=": "jpeg:progressive= is neither yes nor no",
    "jpeg:quality": "jpeg:quality= is not a whole number",
    "jpeg:quality=": "jpeg:quality= is not a whole number",
    "jpeg:quality=high": "jpeg:quality=high is not a whole number",
    "jpeg:quality=7.5": "jpeg:quality=7.5 is not a whole number",
    "jpeg:quality=0": "JPEG quality 0 is not between 1 and 100",
    "jpeg:quality=101": "JPEG quality 101 is not between 1 and 100",
    "jpeg:quality=-1": "JPEG quality -1 is not between 1 and 100",
    "jpeg:subsampling": "JPEG subsampling '' is none of 4:4:4, 4:2:2, 4:2:0",
    "jpeg:subsampling=4:1:1": "JPEG subsampling '4:1:1' is none of 4:4:4, 4:2:2, 4:2:0",
    "png:compress_level=10": "PNG compress_level 10 is not between 0 and 9",
    "png:compress_type=5": "PNG compress_type 5 is not between 0 and 4",
    "webp:quality=0": "WebP quality 0 is not between 1 and 100",
    "webp:method=7": "WebP method 7 is not between 0 and 6",
    "avif:quality=0": "AVIF quality 0 is not between 1 and 100",
    "avif:speed=11": "AVIF speed 11 is not between 0 and 10",
    "avif:speed=-1": "AVIF speed -1 is not between 0 and 10",
    "avif:subsampling=4:0:0": "AVIF subsampling '4:0:0' is none of 4:4:4, 4:2:2, 4:2:0",
    "avif:lossless": "avif has no parameter 'lossless': its colours are rounded; use webp:lossless",
    "jpeg:dpi=300": "jpeg has no parameter 'dpi'",
    "png:icc_profile=x": "png has no parameter 'icc_profile'",
    "webp:near_lossless=60": "webp has no parameter 'near_lossless': Pillow does not have it; ",
    "webp:lossless,near_lossless": "use lossless, or quality=90",
    "webp:attached": "webp has no parameter 'attached'",
}


@pytest.mark.parametrize("text", INVALID_CODECS)
def test_texts_that_name_none_say_what_would_do(text: str) -> None:
    with pytest.raises(OptionError) as caught:
        parse_codec(text)
    assert INVALID_CODECS[text] in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "quality", "codec"),
    [
        ("jpeg", 1, Jpeg(quality=1)),
        ("jpeg", 100, Jpeg(quality=100)),
        ("webp:lossless", 33, Webp(quality=33, lossless=True)),
        ("jpeg:quality=90", 33, Jpeg(quality=90)),  # said more closely
        ("jpeg", None, Jpeg()),
    ],
)
def test_a_quality_beside_the_text(text: str, quality: int | None, codec: Codec) -> None:
    assert parse_codec(text, quality) == codec


@pytest.mark.parametrize("text", ["png", "png:compress_level=9", "deflate"])
def test_a_format_without_quality_refuses_one(text: str) -> None:
    with pytest.raises(OptionError) as beside:
        parse_codec(text, 33)
    with pytest.raises(OptionError) as inside:
        parse_codec(f"{text.partition(':')[0]}:quality=33")
    assert str(beside.value) == str(inside.value)
    assert parse_codec(text, None)


@pytest.mark.parametrize("quality", [0, 101, -5, 10**9])
@pytest.mark.parametrize("name", ["jpeg", "webp", "avif"])
def test_a_quality_out_of_range(name: str, quality: int) -> None:
    with pytest.raises(OptionError, match=f"quality {quality} is not between 1 and 100"):
        parse_codec(name, quality)


@pytest.mark.parametrize("quality", [80.5, "80", [80]])
def test_a_quality_that_is_no_whole_number(quality: object) -> None:
    for kind in (Jpeg, Webp, Avif):
        with pytest.raises(OptionError, match=r"quality .*80.* is not a whole number"):
            kind(quality=quality)  # type: ignore[arg-type]


def test_codecs_are_found_by_their_names() -> None:
    assert {name: kind.name for name, kind in CODECS.items()} == {
        "jpeg": "jpeg",
        "png": "png",
        "webp": "webp",
        "avif": "avif",
        "deflate": "deflate",
    }
    assert [kind.extension for kind in CODECS.values()] == ["jpg", "png", "webp", "avif", "deflate"]


def test_equal_codecs_share_what_is_kept_for_one() -> None:
    assert len({Jpeg(), Jpeg(80), Jpeg(81), Png(), Webp()}) == 4


# ---- what tiles carry ----------------------------------------------------------------------------

RESOLUTION_CASES = [
    (Jpeg(), (300.0, 300.0), (300, 300)),
    (Jpeg(), (72.4, 96.6), (72, 97)),
    (Jpeg(), (0.01, 1.4), (1, 1)),
    (Jpeg(), (65535.4, 1), (65535, 1)),
    (Jpeg(), (65535.6, 1), None),
    (Jpeg(), (1, 1e9), None),
    (Png(), (300.0, 72.5), (300.0, 72.5)),
    (Png(), (1e-9, 0.0254), (0.0254, 0.0254)),
    (Png(), (5e7, 1), (5e7, 1)),
    (Png(), (6e7, 1), None),
    (Webp(), (300.0, 300.0), None),
]


@pytest.mark.parametrize(("codec", "resolution", "said"), RESOLUTION_CASES)
def test_resolutions_as_the_formats_say_them(
    codec: Codec, resolution: tuple[float, float], said: tuple[float, float] | None
) -> None:
    carried = codec.storable_metadata(TileMetadata(b"profile", resolution))
    assert carried == TileMetadata(b"profile", said)
    assert codec.storable_metadata(carried) == carried
    assert codec.storable_metadata(NO_METADATA) == NO_METADATA


def test_an_encoder_from_a_plan() -> None:
    plain = make_encoder(Png(), colour_plan=NO_CONVERSION)
    tile = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    assert plain.encode(tile) == make_encoder(Png()).encode(tile)
    planned = make_encoder(
        Png(),
        colour_plan=ColourPlan(Transform(swapped_primaries()), TileMetadata(None, (254, 254))),
    )
    with Image.open(io.BytesIO(planned.encode(tile))) as image:
        np.testing.assert_array_equal(np.asarray(image), tile[..., ::-1])
        assert image.info["dpi"] == pytest.approx((254, 254))
