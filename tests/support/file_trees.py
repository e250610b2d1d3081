"""Helpers of several test modules: file_tree, content_of_any_source."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from fasttile.layouts import RECORD_NAME


def content_of_any_source(path: Path) -> bytes:
    """A file's content; of a result's record without the name and the time of its source."""
    data = path.read_bytes()
    if path.name == RECORD_NAME:
        with suppress(ValueError):  # a run that was killed may have written a part of it
            record = json.loads(data)
            record["source"] = record.get("source", {}).get("size")
            return json.dumps(record).encode()
    return data


def file_tree(folder: Path) -> dict[str, bytes]:
    """All files below a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
