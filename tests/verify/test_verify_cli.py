"""`fasttile verify`: output and exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fasttile import cli
from fasttile.cli.verify import verify_summary
from fasttile.jobs.cut import cut
from fasttile.layouts import RECORD_NAME
from fasttile.verify.report import Fault, VerifyReport
from support.reading import noise


def run(*arguments: object) -> int:
    """Run `fasttile verify` in this process; returns the exit code."""
    return cli.main(["verify", *map(str, arguments)])


@pytest.fixture
def source(tmp_path: Path) -> Path:
    Image.fromarray(noise(77, 130, 3)).save(tmp_path / "map.png")
    cut(tmp_path / "map.png", tmp_path / "map.dzi", tile_size=32, quality=90)
    return tmp_path / "map.png"


CapturedOutput = pytest.CaptureFixture[str]


def test_faults_as_json(source: Path, capsys: CapturedOutput) -> None:
    result = source.with_suffix(".dzi")
    (source.parent / "map_files" / "8" / "1_1.jpg").unlink()
    assert run(result, "--json") == 1
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert captured.err == ""
    assert (found["is_complete"], found["fault_count"]) == (False, 1)
    assert [sorted(fault) for fault in found["faults"]] == [["name", "problem"]]
    assert "8/1_1.jpg" in found["faults"][0]["name"]


def test_a_complete_result(source: Path, capsys: CapturedOutput) -> None:
    result = source.with_suffix(".dzi")
    for options in ([], ["--deep"], ["--source", source]):
        assert run(result, *options) == 0
        captured = capsys.readouterr()
        assert captured.out.startswith(f"{result}: 29 tiles, ")
        assert captured.out.endswith(" bytes, complete\n")
        assert captured.err == ""
    assert run(result, "--quiet") == 0
    assert capsys.readouterr().out == ""


def test_faults_are_listed_and_repaired(source: Path, capsys: CapturedOutput) -> None:
    result = source.with_suffix(".dzi")
    tile = source.with_name("map_files") / "8/1_1.jpg"
    data = tile.read_bytes()
    tile.write_bytes(data[:-9])
    (tile.parent / "2_2.jpg").unlink()
    for _ in range(2):
        assert run(result) == 1
        first, second, summary = capsys.readouterr().out.splitlines()
        assert first == "map_files/8/1_1.jpg: does not end with an EOI marker"
        assert second == "map_files/8/2_2.jpg: is missing"
        assert summary.endswith(" bytes, NOT COMPLETE: 2 faults")
    assert run(result, "--repair", "--source", source) == 0
    (summary,) = capsys.readouterr().out.splitlines()
    assert summary.endswith(" bytes, 2 repaired, complete")
    assert tile.read_bytes() == data


def test_at_most_twenty_faults_are_listed(source: Path, capsys: CapturedOutput) -> None:
    for tile in source.with_name("map_files").glob("[78]/*"):
        tile.unlink()
    assert run(source.with_suffix(".dzi")) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 22
    assert lines[20:21] == ["… and 1 more"]
    assert run(source.with_suffix(".dzi"), "-q") == 1
    assert len(capsys.readouterr().out.splitlines()) == 22


def test_wrong_usage(source: Path, capsys: CapturedOutput) -> None:
    result = source.with_suffix(".dzi")
    assert run(result, "--repair") == 2
    assert "--repair: the image is missing; add --source IMAGE" in capsys.readouterr().err
    assert run(result, "--source", source, "--page", "all") == 2
    assert "--page all" in capsys.readouterr().err
    assert run(result, "--source", source, "--quality", "0") == 2
    assert "quality 0" in capsys.readouterr().err
    assert run(result, "--region", "1,2") == 2
    assert "--region: '1,2' is not X,Y,W,H" in capsys.readouterr().err


def test_a_missing_result_and_a_missing_source(source: Path, capsys: CapturedOutput) -> None:
    assert run(source.with_name("none.dzi")) == 1
    assert "no such file" in capsys.readouterr().err
    assert run(source.with_suffix(".dzi"), "--source", source.with_name("none.png")) == 1
    assert "none.png" in capsys.readouterr().err


def test_the_image_is_read_as_cut_reads_it(tmp_path: Path, capsys: CapturedOutput) -> None:
    noise(77, 130, 1).tofile(tmp_path / "map.raw")
    options = ["--raw", "130x77x1:u8", "--region", "10,5,100,60", "--shrink", "nearest"]
    result = tmp_path / "map.dzi"
    cut(
        tmp_path / "map.raw",
        result,
        raw="130x77x1:u8",
        region=(10, 5, 100, 60),
        shrink="nearest",
        tile_size=32,
        format="png",
    )
    assert run(result, "--source", tmp_path / "map.raw", *options) == 0
    assert run(result, "--source", tmp_path / "map.raw", *options[:2]) == 0  # its record states it
    usual = [*options[:2], "--shrink", "mean"]  # given: the record does not replace it
    assert run(result, "--source", tmp_path / "map.raw", *usual) == 1
    (tmp_path / "map_files" / RECORD_NAME).unlink()
    assert run(result, "--source", tmp_path / "map.raw", *options) == 0
    assert run(result, "--source", tmp_path / "map.raw", *options[:4]) == 1
    assert "differs from the source" in capsys.readouterr().out


def test_blank_tiles(tmp_path: Path, capsys: CapturedOutput) -> None:
    pixels = np.full((100, 200, 3), 255, np.uint8)
    pixels[:20, :20] = 0
    pixels[90, 190] = 245
    np.save(tmp_path / "map.npy", pixels)
    cut(pixels, tmp_path / "map", layout="xyz", tile_size=32, skip_blank=20)
    options = [tmp_path / "map", "--source", tmp_path / "map.npy"]
    assert run(*options) == 0  # the result's record states what was left out
    (tmp_path / "map" / RECORD_NAME).unlink()
    assert run(*options) == 1
    assert "is missing, though it is not blank" in capsys.readouterr().out
    assert run(*options, "--skip-blank", 20) == 0
    assert " left out, complete\n" in capsys.readouterr().out


def test_progress_on_request(
    source: Path, capsys: CapturedOutput, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fasttile.jobs.shown_progress.LINE_SECONDS", 0.0)
    assert run(source.with_suffix(".dzi"), "--progress") == 0
    assert "tiles" in capsys.readouterr().err


def test_the_summary() -> None:
    fault = Fault(None, "x", "is missing")
    report = VerifyReport(Path("map"), 1234, 56789, (fault,), 1, skipped=3, repaired=2)
    assert verify_summary(report) == (
        "map: 1,234 tiles, 56,789 bytes, 3 left out, 2 repaired, NOT COMPLETE: 1 fault"
    )
