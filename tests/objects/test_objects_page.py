"""docs/how-to/object-storage-and-cdn.md: its commands, against a server that speaks S3."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import fasttile
from support.buckets import bucket_contents
from support.doc_blocks import read_page
from support.doc_images import make_file

PAGE = "how-to/object-storage-and-cdn.md"
NOT_HERE = ("pip install", "export AWS", "fasttile view")


@pytest.mark.slow
def test_the_commands_of_the_page(bucket: str, tmp_path: Path) -> None:
    for entry in ("map.tif", "scans/a.tif 300x200", "scans/b.tif 200x300"):
        make_file(tmp_path, entry)
    scripts = [
        line
        for block in read_page(PAGE).blocks
        for line in block.text.splitlines()
        if not line.startswith(NOT_HERE)
    ]
    assert len(scripts) > 6
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-e", "-c", "\n".join(scripts).replace("s3://tiles", bucket)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, "PATH": path},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = bucket_contents(bucket)
    assert {name for name in found if not name.endswith(".jpg") and "/." not in name} == {
        *("maps/map.dzi", "maps/map.html", "maps/map.pmtiles"),
        *("maps/@2/map.dzi", "maps/copy.dzi", "scans/a.dzi", "scans/b.dzi"),
    }
    with (
        fasttile.open_pyramid(f"{bucket}/maps/map.dzi") as first,
        fasttile.open_pyramid(tmp_path / "map.szi") as copy,
    ):
        level = first.level_count - 1
        assert first.tile(level, 0, 0) == copy.tile(level, 0, 0)
