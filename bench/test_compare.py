"""Judges the judge: compare.py must find what is wrong with an output, and nothing else."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import pillow_reduce
import profiles
from compare import examine
from dzi import Job, Tile
from images import cached_image, mosaic
from oracle import Oracle, halve, open_source

WIDTH, HEIGHT = 901, 703


@pytest.fixture(scope="module", params=["jpeg", "png"])
def faultless_output(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Job:
    """A faultless output."""
    folder = tmp_path_factory.mktemp(request.param)
    job = Job(folder / "image.tif", folder / "image.dzi", format=request.param)
    mosaic(job.input, WIDTH, HEIGHT)
    pillow_reduce.cut(job)
    return job


@pytest.fixture
def spoilable_job(faultless_output: Job, tmp_path: Path) -> Job:
    """A copy of it, to be spoilt."""
    shutil.copytree(faultless_output.output.parent, tmp_path, dirs_exist_ok=True)
    return Job(faultless_output.input, tmp_path / "image.dzi", format=faultless_output.format)


def _find_faults(spoilable_job: Job) -> list[str]:
    pyramid = spoilable_job.pyramid(WIDTH, HEIGHT)
    return examine(
        "someone", spoilable_job, Oracle(open_source(spoilable_job.input), pyramid)
    ).faults


def _corner_tile(spoilable_job: Job) -> Path:
    return spoilable_job.path(Tile(level=10, col=0, row=0))


def test_a_good_output_has_no_fault(spoilable_job: Job) -> None:
    assert _find_faults(spoilable_job) == []


def _remove(spoilable_job: Job) -> None:
    _corner_tile(spoilable_job).unlink()


def _add(spoilable_job: Job) -> None:
    _corner_tile(spoilable_job).with_stem("9_9").touch()


def _replace_tile(spoilable_job: Job) -> None:
    shutil.copy(spoilable_job.path(Tile(level=10, col=1, row=1)), _corner_tile(spoilable_job))


def _change_pixel(spoilable_job: Job) -> None:
    image = Image.open(_corner_tile(spoilable_job))
    pixels = np.array(image)
    pixels[100:108, 100:108] ^= 64
    Image.fromarray(pixels).save(_corner_tile(spoilable_job), quality=75)


def _write_other_size(spoilable_job: Job) -> None:
    spoilable_job.write_descriptor(WIDTH + 1, HEIGHT)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_remove, "1 tiles are missing"),
        (_add, "1 tiles are foreign"),
        (_replace_tile, "size is"),
        (_change_pixel, "mean error"),
        (_write_other_size, "the descriptor says"),
    ],
)
def test_what_is_spoilt_is_found(
    spoilable_job: Job, spoil: Callable[[Job], None], words: str
) -> None:
    spoil(spoilable_job)
    assert words in _find_faults(spoilable_job)[0]


@pytest.mark.parametrize(
    ("options", "words"),
    [({"quality": 74}, "quantisation"), ({"quality": 75, "subsampling": 0}, "subsampling")],
)
def test_other_jpeg_settings_are_found(
    spoilable_job: Job, options: dict[str, int], words: str
) -> None:
    if spoilable_job.format != "jpeg":
        pytest.skip("about JPEG only")
    image = Image.open(_corner_tile(spoilable_job))
    image.load()
    image.save(_corner_tile(spoilable_job), "jpeg", **options)
    assert words in _find_faults(spoilable_job)[0]


@pytest.mark.parametrize("size", [(1, 1), (37, 91), (1000, 3), (2049, 1025), (5, 2111)])
def test_the_oracle_computes_pieces_as_the_complete_image(size: tuple[int, int]) -> None:
    width, height = size
    raster = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    pyramid = Job(Path("a.npy"), Path("a.dzi"), tile_size=37, overlap=3).pyramid(width, height)
    oracle = Oracle(raster, pyramid)
    for level in range(pyramid.last_level, -1, -1):
        for _, box in pyramid.tiles(level):
            expected = raster[box.top : box.bottom, box.left : box.right]
            np.testing.assert_array_equal(oracle.pixels(level, box), expected)
        raster = halve(raster)


def test_a_image_in_display_p3_has_the_pixels_of_its_twin(tmp_path: Path) -> None:
    path = cached_image(tmp_path, WIDTH, HEIGHT, 3, "photo", "-p3.jpg")
    assert path.stem.endswith(f"{WIDTH}x{HEIGHT}x3-p3")
    assert cached_image(tmp_path, WIDTH, HEIGHT, 3, "photo", "-p3.jpg") == path
    plain = cached_image(tmp_path, WIDTH, HEIGHT, 3, "photo", ".jpg")
    with Image.open(path) as in_p3, Image.open(plain) as twin:
        assert in_p3.info["icc_profile"] == profiles.display_p3()
        assert "icc_profile" not in twin.info
        np.testing.assert_array_equal(np.asarray(in_p3), np.asarray(twin))
    assert len(list(tmp_path.iterdir())) == 2


def test_converted_outputs_are_distinguished_from_others(tmp_path: Path) -> None:
    vips_tiler = pytest.importorskip("vips_tiler")
    source = cached_image(tmp_path, WIDTH, HEIGHT, 3, "photo", "-p3.jpg")
    job = Job(source, tmp_path / "libvips.dzi")
    vips_tiler.cut(job)
    plain = Job(source, tmp_path / "fasttile.dzi")
    pillow_reduce.cut(plain)  # which does not convert
    outputs = [f"{job.output.stem}={job.output}" for job in (job, plain)]
    words = [sys.executable, profiles.__file__, str(source), *outputs, *job.arguments()]
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE)
    findings = json.loads(done.stdout)
    assert findings["libvips"]["faults"] == []
    assert "mean error" in findings["fasttile"]["faults"][0]
