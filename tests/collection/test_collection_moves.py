"""The list of moves that a killed run left: valid, or refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from fasttile import collection
from fasttile.errors import TargetError


@pytest.mark.parametrize("text", ["", "{", "[1]", '[{"name": 1}]', "null"])
def test_a_damaged_list_is_reported_in_one_line(text: str, tmp_path: Path) -> None:
    Image.new("RGB", (30, 20)).save(tmp_path / "p.png")
    work = tmp_path / ".w.dzc.fasttile"
    work.mkdir()
    (work / "moves.json").write_text(text)
    with pytest.raises(TargetError, match=r"moves\.json|w\.dzc") as caught:
        collection.create(tmp_path / "w.dzc", [tmp_path / "p.png"])
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "w.dzc").exists()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives away")
def test_somebody_elses_list_is_not_followed(tmp_path: Path) -> None:
    Image.new("RGB", (30, 20)).save(tmp_path / "p.png")
    (tmp_path / "precious").write_text("mine")
    work = tmp_path / ".w.dzc.fasttile"
    (work / "new").mkdir(parents=True)
    (work / "old").mkdir()
    (work / "new" / "evil").write_text("evil")
    move = '[{"name": "evil", "target": "precious", "replaces": true}]'
    (work / "moves.json").write_text(move)
    os.chown(work / "moves.json", 65534, 65534)
    with pytest.raises(TargetError):
        collection.create(tmp_path / "w.dzc", [tmp_path / "p.png"])
    assert (tmp_path / "precious").read_text() == "mine"
