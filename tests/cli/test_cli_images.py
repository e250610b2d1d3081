"""The command line with images of many formats, in new processes."""

from __future__ import annotations

import struct
import subprocess
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fasttile.layouts import RECORD_NAME
from support.command import folder_entries, run, run_here


def run_successfully(*arguments: str | Path, **more: Any) -> str:
    """Run a command that must succeed; returns its output."""
    process = (run if "stdin" in more else run_here)(*arguments, **more)
    assert (process.returncode, process.stderr) == (0, "")
    return process.stdout


def run_with_error(exit_code: int, *arguments: str | Path, **more: Any) -> str:
    """Run a command that must fail and leave nothing; returns its line of error."""
    before = folder_entries(more["cwd"])
    process = (run if "stdin" in more else run_here)(*arguments, **more)
    assert process.returncode == exit_code, process.stderr
    assert process.stdout == ""
    assert folder_entries(more["cwd"]) == before
    (line,) = process.stderr.splitlines()
    assert line.startswith("fasttile: ")
    return line


def read_tile(descriptor: Path, level: int, col: int = 0, row: int = 0, suffix: str = "png") -> Any:
    folder = descriptor.with_name(f"{descriptor.stem}_files") / str(level)
    with Image.open(folder / f"{col}_{row}.{suffix}") as image:
        return np.asarray(image)


@pytest.fixture
def photo_source(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    pixels = np.random.default_rng(7).integers(0, 256, (25, 40, 3), np.uint8)
    Image.fromarray(pixels).resize((400, 300)).save(path, quality=90)
    return path


def test_tiles_of_a_photo_equal_what_pillow_decodes(photo_source: Path, tmp_path: Path) -> None:
    output = run_successfully(
        "cut", photo_source, "--format", "png", "--tile-size", "512", cwd=tmp_path
    )
    assert output.startswith("photo.dzi: 400×300 pixels")
    with Image.open(photo_source) as image:
        np.testing.assert_array_equal(read_tile(tmp_path / "photo.dzi", 9), np.asarray(image))


@pytest.mark.slow
def test_standard_input_piped_and_redirected(photo_source: Path, tmp_path: Path) -> None:
    run_successfully("cut", photo_source, "-o", "a.dzi", cwd=tmp_path)
    with photo_source.open("rb") as file:
        run_successfully("cut", "-", "-o", "b.dzi", cwd=tmp_path, stdin=file)
    with subprocess.Popen(["cat", str(photo_source)], stdout=subprocess.PIPE) as cat:
        run_successfully("cut", "-", "-o", "c.dzi", cwd=tmp_path, stdin=cat.stdout)
    files = [path.relative_to(tmp_path / "a_files") for path in (tmp_path / "a_files").rglob("*.*")]
    files.remove(Path(RECORD_NAME))
    assert len(files) > 10
    for file in files:
        first = tmp_path / "a_files" / file
        for other in ("b_files", "c_files"):
            assert first.is_dir() or (tmp_path / other / file).read_bytes() == first.read_bytes()


def test_standard_input_has_no_name(photo_source: Path, tmp_path: Path) -> None:
    with photo_source.open("rb") as file:
        line = run_with_error(2, "cut", "-", cwd=tmp_path, stdin=file)
    assert "-o NAME.dzi" in line


@pytest.mark.slow
def test_labels_stay_labels(tmp_path: Path) -> None:
    labels = np.random.default_rng(7).choice([0, 7, 200], (300, 500)).astype(np.uint8)
    Image.fromarray(labels).save(tmp_path / "labels.png")
    for how in ("nearest", "mode"):
        arguments = ("--shrink", how, "--format", "png", "-o", f"{how}.dzi")
        run_successfully("cut", "labels.png", *arguments, cwd=tmp_path)
        values = {
            value
            for path in (tmp_path / f"{how}_files").rglob("*.png")
            for value in np.unique(np.asarray(Image.open(path)))
        }
        assert values == {0, 7, 200}
    run_successfully("cut", "labels.png", "--format", "png", cwd=tmp_path)
    assert len(np.unique(read_tile(tmp_path / "labels.dzi", 5))) > 3


@pytest.fixture
def scan_folder(tmp_path: Path) -> Path:
    path = tmp_path / "scans.tif"
    pages = [Image.new("L", (60 + 10 * number, 50), 40 * number) for number in range(3)]
    pages[0].save(path, save_all=True, append_images=pages[1:], compression="tiff_lzw")
    return path


@pytest.mark.slow
def test_pages(scan_folder: Path, tmp_path: Path) -> None:
    assert "page 1 of 3" in run_successfully(
        "info", scan_folder
    ) or "3; this is page 1" in run_successfully("info", scan_folder)
    run_successfully(
        "cut", "scans.tif", "--page", "2", "-o", "two.dzi", "--format", "png", cwd=tmp_path
    )
    assert (read_tile(tmp_path / "two.dzi", 7) == 40).all()
    output = run_successfully("cut", "scans.tif", "--page", "all", "--format", "png", cwd=tmp_path)
    assert [line.split(":")[0] for line in output.splitlines()] == [
        f"scans-{number}.dzi" for number in (1, 2, 3)
    ]
    for number in range(3):
        pixels = read_tile(tmp_path / f"scans-{number + 1}.dzi", 7 if number else 6)
        assert pixels.shape == (50, 60 + 10 * number)
        assert (pixels == 40 * number).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["scans.tif", "photo.jpg"])
def test_a_missing_page(scan_folder: Path, photo_source: Path, tmp_path: Path, name: str) -> None:
    line = run_with_error(1, "cut", name, "--page", "9", cwd=tmp_path)
    assert "page 9" in line
    assert name in line
    assert "neither a number nor all" in run_here("cut", name, "--page", "x").stderr
    assert "page 0 is not at least 1" in run_with_error(2, "cut", name, "--page", "0", cwd=tmp_path)


def test_too_many_pixels(photo_source: Path, tmp_path: Path) -> None:
    line = run_with_error(1, "cut", "photo.jpg", "--max-pixels", "119999", cwd=tmp_path)
    assert "claims 400×300 = 120,000 pixels" in line
    assert "--max-pixels 120000" in line
    run_successfully("cut", "photo.jpg", "--max-pixels", "120000", cwd=tmp_path)


def test_a_small_file_that_claims_too_many_pixels(tmp_path: Path) -> None:
    header = b"IHDR" + struct.pack(">2I5B", 60_000, 40_000, 1, 0, 0, 0, 0)
    data = b"IDAT" + zlib.compress(bytes(2**19), 9)
    chunks = [
        struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (header, data)
    ]
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    line = run_with_error(1, "cut", "bomb.png", cwd=tmp_path)
    assert "claims 60000×40000 = 2,400,000,000 pixels" in line
    assert "--max-pixels 2400000000" in line


def test_a_result_named_like_a_source(photo_source: Path, tmp_path: Path) -> None:
    """Other tools take the result's name as the second argument."""
    line = run_with_error(2, "cut", "photo.jpg", "site/x.dzi", cwd=tmp_path)
    assert line.endswith("site/x.dzi: no such source; to name the result, use -o site/x.dzi")
    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg"]


def test_a_truncated_photo(photo_source: Path, tmp_path: Path) -> None:
    photo_source.write_bytes(photo_source.read_bytes()[: photo_source.stat().st_size // 2])
    line = run_with_error(1, "cut", "photo.jpg", cwd=tmp_path)
    assert "photo.jpg: broken JPEG: the file ends too early" in line
    assert "of 300 rows are there (--allow-truncated cuts those)" in line
    arguments = ("--format", "png", "--tile-size", "512", "--background", "#0a141e")
    output = run_successfully("cut", "photo.jpg", "--allow-truncated", *arguments, cwd=tmp_path)
    assert "of 300 rows are there, the rest is background" in output
    pixels = read_tile(tmp_path / "photo.dzi", 9)
    assert (pixels[-50:] == (10, 20, 30)).all()
    assert pixels[:90].std() > 20


@pytest.mark.slow
def test_the_chosen_window_is_a_note(tmp_path: Path) -> None:
    pixels = (np.arange(120_000).reshape(300, 400) % 4000).astype(np.uint16)
    Image.fromarray(pixels).save(tmp_path / "deep.png")
    output = run_successfully("cut", "deep.png", cwd=tmp_path)
    assert output.splitlines()[1] == "  window 0,4095: the values reach 3999"
    assert run_successfully("cut", "deep.png", "--overwrite", "--quiet", cwd=tmp_path) == ""
    assert "window" not in run_successfully(
        "cut", "deep.png", "--overwrite", "--window", "full", cwd=tmp_path
    )


@pytest.mark.slow
def test_info_describes_image_and_cut(photo_source: Path, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(photo_source) as image:
        image.save(tmp_path / "turned.jpg", exif=exif, dpi=(300, 300))
        image.convert("CMYK").save(tmp_path / "ink.jpg", progressive=True)
    output = dict(
        line.split(":", 1) for line in run_successfully("info", photo_source).splitlines()
    )
    facts = {name.strip(): value.strip() for name, value in output.items()}
    assert facts["format"] == "JPEG"
    assert facts["size"] == "400×300 pixels"
    assert facts["read"] == "streamed: decoded row by row, while others are cut"
    assert facts["memory"].startswith("about ")
    assert facts["would make"] == "10 levels, 13 tiles by default"
    turned_facts = run_successfully("info", tmp_path / "turned.jpg")
    assert "orientation: 6, turned clockwise" in turned_facts
    assert "300×400 pixels" in turned_facts
    assert "300×300 pixels per inch" in turned_facts
    ink_facts = run_successfully("info", tmp_path / "ink.jpg")
    assert "stored as:   CMYK" in ink_facts
    assert "decoded at once, into memory" in ink_facts
