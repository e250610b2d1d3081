"""JPEGs of thousands of scans, each of which takes the time of all pixels."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from fasttile import SourceError, open_source
from fasttile.formats import jpeg
from support.command import run

SIDE = 6000
"""Of an image that may have 64 scans."""


def jpeg_of_scans(side: int, scans: int, kind: str = "L") -> bytes:
    """A progressive JPEG of one colour, whose last scan is there several times."""
    file = io.BytesIO()
    Image.new(kind, (side, side), "grey").save(file, "JPEG", progressive=True)
    data = file.getvalue()
    starts = [found.start() for found in re.finditer(b"\xff\xda", data)]
    end = data.rindex(b"\xff\xd9")
    return data[: starts[-1]] + data[starts[-1] : end] * (scans - len(starts) + 1) + data[end:]


def test_thousands_of_scans_are_refused(tmp_path: Path) -> None:
    """It takes minutes to decode them."""
    data = jpeg_of_scans(SIDE, 2000)
    assert len(data) < 400_000
    (tmp_path / "x.jpg").write_bytes(data)
    ended = run("cut", "x.jpg", cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == (
        "fasttile: x.jpg has more than 64 scans of 6000×6000 pixels each, which take too long; "
        "save it again with another program\n"
    )
    for source in (data, Image.open(io.BytesIO(data))):
        with pytest.raises(SourceError, match="has more than 64 scans"):
            open_source(source)


@pytest.mark.parametrize("kind", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize(("side", "scans"), [(900, 25), (64, 1000)])
def test_real_files_pass(kind: str, side: int, scans: int) -> None:
    """Optimisers write up to 25 scans; small images may have more."""
    data = jpeg_of_scans(side, scans, kind)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(image.convert("RGB"))
    with open_source(data) as source:
        rows = source.rows(0, side)
        assert (rows == expected[..., : source.bands]).all()


@pytest.mark.parametrize("chunk", [1, 2, 3, 4, 5, 7, 64, 2**20])
def test_scans_are_counted_in_pieces(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jpeg, "_SCAN_CHUNK_BYTES", chunk)
    for scans in (10, 64, 65):
        data = jpeg_of_scans(40, scans)
        # Neither a thumbnail in a segment nor what follows the image is a scan; \xff may repeat.
        comment = b"\xff\xfe" + (2 + 300).to_bytes(2, "big") + b"\xff\xda" * 150
        data = data[:2] + comment + data[2:].replace(b"\xff\xda", b"\xff\xff\xff\xda")
        stream = io.BytesIO(b"before" + data + b"\xff\xda" * 100)
        if scans > 64:
            with pytest.raises(ValueError, match="more than 64 scans"):
                jpeg.check_scans(stream, 6, SIDE, SIDE)
        else:
            jpeg.check_scans(stream, 6, SIDE, SIDE)


@pytest.mark.parametrize("left", [3, 100, 600])
def test_a_file_that_ends_early_has_the_scans_up_to_there(left: int) -> None:
    data = jpeg_of_scans(40, 200)[:left]
    jpeg.check_scans(io.BytesIO(data), 0, SIDE, SIDE)


def test_a_second_frame_counts_its_own_scans(tmp_path: Path) -> None:
    """In a file of several JPEGs."""
    images = [Image.new("L", (SIDE, SIDE), value) for value in (10, 200)]
    path = tmp_path / "x.mpo"
    images[0].save(path, "MPO", save_all=True, append_images=images[1:], progressive=True)
    with open_source(path) as source:
        assert source.metadata.pages == 2


@pytest.mark.slow
def test_blocks_of_a_tiff(tmp_path: Path) -> None:
    pytest.importorskip("imagecodecs")
    path = tmp_path / "x.tif"
    for scans in (20, 200):
        block = jpeg_of_scans(4096, scans)
        tifffile.imwrite(
            path,
            iter([block]),
            shape=(4096, 4096),
            dtype=np.uint8,
            tile=(4096, 4096),
            compression="jpeg",
            photometric="minisblack",
        )
        ended = run("cut", path, "-o", tmp_path / str(scans) / "x.dzi")
        assert ended.returncode == (1 if scans > 64 else 0), ended.stderr
        if scans > 64:
            assert "has more than 64 scans of 4096×4096 pixels" in ended.stderr
            assert ended.stderr.count("\n") == 1
