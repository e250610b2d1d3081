"""The order in which a one-file result and the files beside it are uploaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fasttile.geometry import Tile
from fasttile.layouts import LayoutSpec
from fasttile.sinks import Target, sidecars


class RecordingBucket:
    """A bucket that records the keys of its objects, in order."""

    keys: list[str]

    def __init__(self, address: str) -> None:
        assert address == "s3://scans"
        type(self).keys = []

    def head(self, key: str) -> None:
        assert key == "maps/map.pmtiles"

    def put(self, key: str, data: Path, **options: Any) -> None:
        assert data.is_file()
        assert ("max-age" in options["cache_control"]) == (key == "maps/map.pmtiles")
        self.keys.append(key)


class FileSink:
    """Writes the result, and files beside it, at the end."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def put(self, tile: Tile, data: bytes) -> None:
        raise AssertionError("no tiles")

    def finish(self) -> None:
        for name in ("a.html", "map.html", "map.pmtiles", "maps", "scripts.js", "z.css"):
            self._path.with_name(name).write_bytes(b"content")

    def abort(self) -> None:
        pass


def test_the_result_is_uploaded_after_the_files_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sidecars, "Bucket", RecordingBucket)
    target = Target(Path("maps/map.pmtiles"), "pmtiles", LayoutSpec.parse("xyz"), "s3://scans")
    sink = sidecars.UploadedFileSink(target, lambda local: FileSink(local.path), overwrite=False)
    sink.finish()
    names = [key.removeprefix("maps/") for key in RecordingBucket.keys]
    assert names == ["maps", "scripts.js", "z.css", "a.html", "map.html", "map.pmtiles"]
