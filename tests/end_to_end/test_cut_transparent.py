"""`--background` with alpha: transparent surroundings, with alpha only in tiles that need it."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvips
import tifffile
from PIL import Image

import fasttile
from fasttile.errors import OptionError
from fasttile.geometry import Tile
from fasttile.readers import open_result
from fasttile.verify import repair, verify
from profiles import cmyk, display_p3
from support import reference
from support.canvases import padded_tiles
from support.command import run
from support.reading import noise
from support.reference import Array
from support.sampling import sampled

BACKGROUNDS = {
    "transparent": (0, 0, 0, 0),
    "#ff800080": (255, 128, 0, 128),
    "#ffffff00": (0, 0, 0, 0),
}
LAYOUTS = ["xyz", "xyz:centre", "tms", "tilecache", "gsiv", "gsiv:centre=no"]
SIZES = [(1, 1), (1, 20), (33, 47), (64, 64), (65, 64)]


def opaque(pixels: Array) -> Array:
    """Pixels with a band of alpha."""
    return np.concatenate([pixels, np.full_like(pixels[..., :1], 255)], axis=2)


def decode_by_libvips(data: bytes) -> Array:
    """The bands that a tile has, by another decoder than Pillow's."""
    image = pyvips.Image.new_from_buffer(data, "")
    return np.ndarray((image.height, image.width, image.bands), np.uint8, image.write_to_memory())


def expected_tiles(
    pixels: Array, result: Any, background: tuple[int, ...]
) -> Iterator[tuple[Tile, Array]]:
    """All tiles of a result with alpha, by the oracle."""
    for (level, col, row), tile in padded_tiles(pixels, result.pyramid, background):
        yield Tile(level, col, row), tile


@pytest.mark.parametrize("background", sampled(BACKGROUNDS, ["#ff800080"]))
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_canvas_is_the_background(layout: str, background: str, tmp_path: Path) -> None:
    for height, width in SIZES:
        pixels = noise(height, width, 3)
        name = f"{height}x{width}"
        options: Any = {"layout": layout, "format": "png", "tile_size": 16}
        fasttile.cut(pixels, tmp_path / name, background=background, **options)
        fasttile.cut(pixels, tmp_path / f"{name} white", **options)
        with (
            open_result(tmp_path / name) as result,
            open_result(tmp_path / f"{name} white") as plain,
        ):
            for tile, wanted in expected_tiles(opaque(pixels), result, BACKGROUNDS[background]):
                data = result.tile(*tile)
                assert data is not None
                found = decode_by_libvips(data)
                if (wanted[..., 3] == 255).all():
                    assert data == plain.tile(*tile)  # with the bytes of an opaque background
                    wanted = wanted[..., :3]
                np.testing.assert_array_equal(found, wanted, f"{tile}")


def test_the_seam_has_no_rim() -> None:
    """Colours at the seam are those of the image alone, in all levels."""
    pixels = np.empty((701, 1001, 3), np.uint8)
    pixels[...] = (200, 60, 90)
    tiles: dict[Any, bytes] = {}
    fasttile.cut(
        pixels,
        store=tiles.__setitem__,
        layout="xyz:centre",
        format="webp:lossless",
        background="transparent",
    )
    seen = set()
    for data in tiles.values():
        found = decode_by_libvips(data)
        if found.shape[2] == 4:
            shown = found[found[..., 3] > 0]
            seen |= {*shown[:, 3].tolist()}
            assert (shown[:, :3] == (200, 60, 90)).all()
    assert len(seen) > 1  # pixels of the seam are in part transparent


@pytest.mark.parametrize("name", ["map.pmtiles", "map.mbtiles", "map.zip"])
def test_containers(name: str, tmp_path: Path) -> None:
    pixels = noise(80, 130, 3)
    options: Any = {"layout": "xyz", "tile_size": 32, "format": "png", "background": "transparent"}
    fasttile.cut(pixels, tmp_path / name, **options)
    fasttile.cut(pixels, tmp_path / "folder", **options)
    with open_result(tmp_path / name) as result, open_result(tmp_path / "folder") as folder:
        modes = set()
        for tile in folder.pyramid.tiles():
            data = result.tile(*tile)
            assert data == folder.tile(*tile)
            modes.add(Image.open(io.BytesIO(data or b"")).mode)
    assert modes == {"RGB", "RGBA"}
    assert not verify(tmp_path / name, source=pixels).faults
    fasttile.convert(tmp_path / name, tmp_path / "again", layout="tilecache")
    assert not verify(tmp_path / "again", source=pixels).faults


@pytest.mark.parametrize("form", ["webp:quality=95", "avif:quality=95,subsampling=4:4:4"])
def test_lossy_formats(form: str, tmp_path: Path) -> None:
    y, x = np.mgrid[:300, :420]
    pixels = np.stack([x // 2, y // 2, 255 - x // 2], axis=2).astype(np.uint8)
    fasttile.cut(pixels, tmp_path / "x", layout="xyz", format=form, background="transparent")
    with open_result(tmp_path / "x") as result:
        for tile, wanted in expected_tiles(opaque(pixels), result, (0, 0, 0, 0)):
            found = decode_by_libvips(result.tile(*tile) or b"")
            assert found.shape[2] == (3 if (wanted[..., 3] == 255).all() else 4)
            if found.shape[2] == 4:
                alpha = wanted[..., 3].astype(int)
                assert np.abs(found[..., 3] - alpha).max() <= 3
            shown = wanted[..., 3] == 255
            error = np.abs(found[..., :3].astype(int) - wanted[..., :3])[shown]
            assert error.mean() < 3
    assert not verify(tmp_path / "x", source=pixels).faults


def test_grey(tmp_path: Path) -> None:
    pixels = noise(70, 90, 1)
    options: Any = {"layout": "tms", "format": "png", "tile_size": 16}
    fasttile.cut(pixels, tmp_path / "x", background="#ff000080", **options)
    fasttile.cut(pixels, tmp_path / "plain", **options)
    modes = set()
    with open_result(tmp_path / "x") as result, open_result(tmp_path / "plain") as plain:
        for tile, wanted in expected_tiles(opaque(pixels), result, (76, 128)):
            data = result.tile(*tile) or b""
            found = decode_by_libvips(data)
            modes.add(found.shape[2])
            if found.shape[2] == 1:
                assert data == plain.tile(*tile)
            np.testing.assert_array_equal(found, wanted[..., : found.shape[2]])
    assert modes == {1, 2}


def test_images_with_alpha(tmp_path: Path) -> None:
    pixels = noise(70, 90, 4)
    pixels[:40, :40, 3] = 255
    fasttile.cut(
        pixels, tmp_path / "x", layout="xyz", format="png", tile_size=16, background="#ff800080"
    )
    with open_result(tmp_path / "x") as result:
        for tile, wanted in expected_tiles(pixels, result, (255, 128, 0, 128)):
            found = decode_by_libvips(result.tile(*tile) or b"")
            assert (found.shape[2] == 3) == bool((wanted[..., 3] == 255).all())
            np.testing.assert_array_equal(found, wanted[..., : found.shape[2]])
    assert not verify(tmp_path / "x", source=pixels).faults


def test_profiles_and_cmyk(tmp_path: Path) -> None:
    Image.fromarray(noise(60, 90, 3)).save(tmp_path / "p3.png", icc_profile=display_p3())
    inks = Image.frombytes("CMYK", (90, 60), noise(60, 90, 4).tobytes())
    inks.save(tmp_path / "inks.tif", icc_profile=cmyk(2))
    inks.save(tmp_path / "plain.tif")
    for name in ("p3.png", "inks.tif", "plain.tif"):
        options: Any = {"layout": "xyz", "format": "png", "tile_size": 16}
        report = fasttile.cut(
            tmp_path / name, tmp_path / f"{name[:-4]} x", background="#ff0000", **options
        )
        clear = fasttile.cut(
            tmp_path / name, tmp_path / f"{name[:-4]} y", background="#ff000080", **options
        )
        assert clear.notes == report.notes
        with (
            open_result(tmp_path / f"{name[:-4]} x") as old,
            open_result(tmp_path / f"{name[:-4]} y") as new,
        ):
            top = new.pyramid.stored_range[-1]
            for tile in new.pyramid.tiles():
                before, after = old.pixels(*tile), new.pixels(*tile)
                assert before is not None
                assert after is not None
                if after.shape[2] == 3 and (name == "p3.png" or tile.level == top):
                    assert new.tile(*tile) == old.tile(*tile)
                elif after.shape[2] == 4 and tile.level == top:
                    inside = after[..., 3] == 255
                    np.testing.assert_array_equal(after[inside, :3], before[inside])
                    beyond = (255, 0, 0, 128)
                    assert np.abs(after[~inside].astype(int) - beyond).max() <= (name == "p3.png")
        assert not verify(tmp_path / f"{name[:-4]} y", source=tmp_path / name).faults


def test_threads_demand_and_iter_tiles_agree() -> None:
    pixels = noise(133, 210, 3)
    options: Any = {"layout": "xyz:centre", "tile_size": 32, "background": "transparent"}
    found = []
    for threads in (1, 3):
        tiles: dict[Any, bytes] = {}
        fasttile.cut(pixels, store=tiles.__setitem__, format="png", threads=threads, **options)
        found.append(tiles)
    assert found[0] == found[1]
    drawn = {tile: array.copy() for tile, array in fasttile.iter_tiles(pixels, **options)}
    with fasttile.open_pyramid(pixels, format="png", **options) as demand:
        count = 0
        for tile in demand.pyramid.tiles():
            data, shown = demand.tile(*tile), demand.pixels(*tile)
            assert data in found[0].values()
            assert shown is not None
            np.testing.assert_array_equal(shown, drawn[tile])
            assert shown.shape[2] == 4  # arrays have alpha in all tiles
            decoded = decode_by_libvips(data or b"")
            count += decoded.shape[2] == 3
            np.testing.assert_array_equal(decoded, shown[..., : decoded.shape[2]])
        assert 0 < count < demand.pyramid.tile_count


def test_blank_tiles(tmp_path: Path) -> None:
    pixels = np.zeros((100, 150, 4), np.uint8)
    pixels[:32, :32] = (1, 2, 3, 255)  # opaque black is not blank
    pixels[60:, 100:] = (250, 10, 10, 128)
    options: Any = {"layout": "xyz", "format": "png", "tile_size": 16}
    fasttile.cut(pixels, tmp_path / "x", background="transparent", skip_blank=5, **options)
    fasttile.cut(pixels, tmp_path / "all", background="transparent", **options)
    with open_result(tmp_path / "x") as sparse, open_result(tmp_path / "all") as full:
        missing = 0
        for tile in full.pyramid.tiles():
            shown, data = full.pixels(*tile), sparse.tile(*tile)
            assert shown is not None
            is_clear = shown.shape[2] == 4 and bool((shown[..., 3] <= 5).all())
            assert (data is None) == is_clear
            missing += data is None
        assert missing
    assert not verify(tmp_path / "x", source=pixels).faults
    # Read as an image, missing tiles are transparent, though all others may be opaque.
    fasttile.cut(tmp_path / "x", tmp_path / "again.dzi", format="png", tile_size=150)
    level = np.asarray(Image.open(tmp_path / "again_files/8/0_0.png"))
    np.testing.assert_array_equal(level, pixels)


def test_results_whose_tiles_are_opaque_are_read_with_alpha(tmp_path: Path) -> None:
    pixels = np.zeros((32, 64, 4), np.uint8)
    pixels[:16, :16] = (1, 2, 3, 255)
    options: Any = {"layout": "xyz", "format": "png", "tile_size": 16, "levels": "2-2"}
    fasttile.cut(pixels, tmp_path / "x", background="transparent", skip_blank=0, **options)
    (tile,) = (tmp_path / "x").rglob("*.png")
    assert decode_by_libvips(tile.read_bytes()).shape[2] == 3
    fasttile.cut(tmp_path / "x", tmp_path / "y.dzi", format="png")
    level = np.asarray(Image.open(tmp_path / "y_files/6/0_0.png"))
    np.testing.assert_array_equal(level, pixels)


def test_translucent_backgrounds_are_blank(tmp_path: Path) -> None:
    pixels = np.empty((64, 64, 4), np.uint8)
    pixels[...] = (255, 128, 0, 128)
    pixels[:16, :16] = (255, 128, 0, 255)  # of the colour, but opaque
    pixels[48:, 48:, 3] = 0
    options: Any = {"layout": "xyz", "format": "png", "tile_size": 16, "levels": "2-2"}
    fasttile.cut(pixels, tmp_path / "x", background="#ff800080", skip_blank=2, **options)
    tiles = [*(tmp_path / "x").rglob("*.png")]
    assert [path.relative_to(tmp_path).as_posix() for path in tiles] == ["x/2/0/0.png"]
    assert not verify(tmp_path / "x", source=pixels).faults


def test_verify_sees_tiles_that_lost_or_got_alpha(tmp_path: Path) -> None:
    pixels = noise(100, 150, 3)
    options: Any = {"layout": "xyz", "format": "png", "tile_size": 32}
    fasttile.cut(pixels, tmp_path / "x", background="transparent", **options)
    inner, edge = (tmp_path / f"x/3/{name}.png" for name in ("1/1", "4/1"))
    before = inner.read_bytes(), edge.read_bytes()
    tile = np.asarray(Image.open(inner).convert("RGBA")).copy()
    tile[3:9, 3:9, 3] = 0
    Image.fromarray(tile).save(inner)
    Image.open(edge).convert("RGB").save(edge)
    deep = verify(tmp_path / "x", deep=True)  # the tiles that were made of them
    assert {fault.name for fault in deep.faults} == {"x/2/0/0.png", "x/2/2/0.png"}
    report = verify(tmp_path / "x", source=pixels)
    assert [fault.name for fault in report.faults] == ["x/3/1/1.png", "x/3/4/1.png"]
    repair(tmp_path / "x", pixels)
    assert not verify(tmp_path / "x", deep=True).faults
    assert (inner.read_bytes(), edge.read_bytes()) == before


def test_missing_rows(tmp_path: Path) -> None:
    Image.fromarray(noise(400, 100, 3)).save(tmp_path / "a.jpg", quality=95)
    data = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(data[: len(data) // 2])
    options: Any = {"format": "png", "allow_truncated": True, "tile_size": 400}
    fasttile.cut(tmp_path / "a.jpg", tmp_path / "white.dzi", **options)
    for text, pixel in BACKGROUNDS.items():
        fasttile.cut(
            tmp_path / "a.jpg", tmp_path / "x.dzi", background=text, overwrite=True, **options
        )
        found = np.asarray(Image.open(tmp_path / "x_files/9/0_0.png"))
        white = np.asarray(Image.open(tmp_path / "white_files/9/0_0.png"))
        missing = (white == 255).all(axis=(1, 2))
        assert 100 < missing.sum() < 300
        assert (found[missing] == pixel).all()
        np.testing.assert_array_equal(found[~missing], opaque(white)[~missing])


def test_missing_parts_of_images_that_cannot_get_alpha(tmp_path: Path) -> None:
    """Of these decoders nobody knows which pixels are missing: they are as on a white page."""
    Image.fromarray(noise(400, 100, 3)).save(tmp_path / "a.jpg", progressive=True, quality=95)
    data = (tmp_path / "a.jpg").read_bytes()
    cut_at = data.index(b"\xff\xda") + 200
    (tmp_path / "a.jpg").write_bytes(data[:cut_at])
    options: Any = {"format": "png", "allow_truncated": True}
    for text in ("white", "transparent"):
        fasttile.cut(tmp_path / "a.jpg", tmp_path / f"{text}.dzi", background=text, **options)
    for path in (tmp_path / "white_files").rglob("*.png"):
        other = tmp_path / "transparent_files" / path.relative_to(tmp_path / "white_files")
        assert path.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("kind", ["RGB", "L", "CMYK"])
def test_gaps_of_mosaics(kind: str, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 1)):
        pixels = noise(40, 40 + seed, 3)[:, :40]
        Image.fromarray(pixels).convert(kind).save(tmp_path / f"{name}.tif")
    places = [(tmp_path / "a.tif", 0, 0), (tmp_path / "b.tif", 60, 20)]
    mosaic = fasttile.mosaic(places)
    options: Any = {"format": "png", "tile_size": 40, "overlap": 0}
    fasttile.cut(mosaic, tmp_path / "x.dzi", background="transparent", **options)
    fasttile.cut(mosaic, tmp_path / "white.dzi", **options)
    corner, white = ((tmp_path / f"{name}_files/7/0_0.png").read_bytes() for name in ("x", "white"))
    assert corner == white  # which is opaque
    assert decode_by_libvips(corner).shape[2] == (1 if kind == "L" else 3)
    gap = np.asarray(Image.open(tmp_path / "x_files/7/1_0.png").convert("RGBA"))
    assert (gap[:, :20, 3] == 0).all()
    assert (gap[:20, :, 3] == 0).all()
    assert (gap[20:, 20:, 3] == 255).all()


def test_tiff_needs_no_alpha(tmp_path: Path) -> None:
    """Readers of a TIFF do not show what its last tiles have beyond the image."""
    pixels = noise(100, 150, 3)
    fasttile.cut(pixels, tmp_path / "x.tif", format="deflate", background="transparent")
    with tifffile.TiffFile(tmp_path / "x.tif") as file:
        np.testing.assert_array_equal(file.pages[0].asarray(), pixels)
    alpha = noise(100, 150, 4)
    alpha[:, :, 3] = 255
    alpha[0, 0, 3] = 0
    fasttile.cut(
        alpha, tmp_path / "y.tif", format="deflate", tile_size=16, background="transparent"
    )
    with tifffile.TiffFile(tmp_path / "y.tif") as file:  # all tiles have alpha
        np.testing.assert_array_equal(file.pages[0].asarray(), alpha)


def test_layouts_without_padding_are_as_before(tmp_path: Path) -> None:
    pixels = noise(100, 150, 3)
    for layout in ("dzi", "zoomify", "iiif3:id=https://example.org/x"):
        for text in ("white", "transparent"):
            name = f"{text}.dzi" if layout == "dzi" else text
            place = tmp_path / layout[:4] / name
            fasttile.cut(pixels, place, layout=layout, format="png", background=text, tile_size=64)
        folders = [
            tmp_path / layout[:4] / f"{text}{'_files' * (layout == 'dzi')}"
            for text in ("white", "transparent")
        ]
        for path in folders[0].rglob("*.png"):
            other = folders[1] / path.relative_to(folders[0])
            assert path.read_bytes() == other.read_bytes()


REFUSED = {
    "jpeg": ({}, "background 'transparent': jpeg tiles have no alpha; use --format png, webp or"),
    "jpeg in tiff": ({"dest": "x.tif"}, "jpeg tiles have no alpha; use --format deflate (format)"),
    "16 bits": (
        {"dest": "x", "layout": "xyz", "format": "png", "bits": 16},
        "tiles of 16 bits have no alpha; use bits=8, or an opaque background",
    ),
    "no colour": ({"background": "transparant"}, "did you mean transparent?"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(case: str, tmp_path: Path) -> None:
    options, message = REFUSED[case]
    options = {"background": "transparent", **options}
    dest = tmp_path / options.pop("dest", "x.dzi")
    with pytest.raises(OptionError) as caught:
        fasttile.cut(np.zeros((30, 50, 1), np.uint16), dest, **options)
    assert message in str(caught.value)
    assert not [*tmp_path.iterdir()]


@pytest.mark.slow
def test_the_command(tmp_path: Path) -> None:
    Image.fromarray(noise(60, 90, 3)).save(tmp_path / "a.png")
    words = ("cut", tmp_path / "a.png", "-o", tmp_path / "x", "--layout", "xyz")
    refused = run(*words, "--background", "transparent")
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert "use --format png, webp or avif (format), or an opaque colour" in refused.stderr
    process = run(*words, "--background", "transparent", "--format", "webp", "--viewer", "leaflet")
    assert process.returncode == 0, process.stderr
    record = json.loads((tmp_path / "x/.fasttile.json").read_text())
    assert record["options"]["background"] == "transparent"
    found = decode_by_libvips((tmp_path / "x/0/0/0.webp").read_bytes())
    assert (found[60:, :, 3] == 0).all()
    assert (found[:60, :90, 3] == 255).all()
    checked = run("verify", tmp_path / "x", "--source", tmp_path / "a.png")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    again = run("cut", tmp_path / "x", "-o", tmp_path / "y.dzi", "--format", "png")
    assert again.returncode == 0, again.stderr
    level = decode_by_libvips((tmp_path / "y_files/7/0_0.png").read_bytes())
    assert (level[..., 3] == 255).all()


def test_open_pyramids_are_sources(tmp_path: Path) -> None:
    pixels = noise(100, 150, 3)
    options: Any = {"layout": "xyz", "tile_size": 32, "format": "png", "background": "transparent"}
    with fasttile.open_pyramid(pixels, **options) as demand:
        fasttile.cut(demand, tmp_path / "x.dzi", format="png", overlap=0, tile_size=150)
    level = np.asarray(Image.open(tmp_path / "x_files/8/0_0.png").convert("RGB"))
    np.testing.assert_array_equal(level, pixels)


def test_tiles_of_dense_screens_and_their_halves(tmp_path: Path) -> None:
    pixels = noise(100, 150, 3)
    options: Any = {"layout": "xyz:scale=2", "format": "png", "tile_size": 16}
    fasttile.cut(pixels, tmp_path / "x", background="transparent", **options)
    modes = set()
    for path in (tmp_path / "x").rglob("*@2x.png"):
        large = decode_by_libvips(path.read_bytes())
        half = decode_by_libvips(path.with_name(path.name.replace("@2x", "")).read_bytes())
        wanted = reference.halve(large, alpha=large.shape[2] == 4)
        if half.shape[2] == 3:
            assert large.shape[2] == 3
        np.testing.assert_array_equal(half, wanted)
        modes.add(half.shape[2])
    assert modes == {3, 4}
    assert not verify(tmp_path / "x", source=pixels).faults
