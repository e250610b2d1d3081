"""A run on a collection dies, or is refused, at each of its steps: nothing is ever half done."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

if sys.platform == "win32":
    pytest.skip("needs fork", allow_module_level=True)

from PIL import Image

from dzc_disk import contents, cut, is_whole, picture
from dzc_mortal import Mortals, change
from fasttile.collection.moves import Move, Moves

STEPS = 400
"""More than any of the runs takes."""


@pytest.fixture(scope="module")
def mortals() -> Iterator[Mortals]:
    mortals = Mortals()
    yield mortals
    mortals.close()


class Scene:
    """A folder with a collection, or without, and what shall become of it."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.change = name
        (folder / "in").mkdir(parents=True)
        cuts = [str(cut(folder / "in", number)) for number in range(4)]
        raws = [str(folder / "in" / f"r{number}.png") for number in (4, 5)]
        for number, path in zip((4, 5), raws, strict=True):
            Image.fromarray(picture(number)).save(path)
        self.given: list[Any] = {
            "create": [cuts[0], raws[0]],
            "overwrite": [raws[0], cuts[3]],
            "append": [cuts[2], raws[1], raws[0]],
            "remove": [0],
        }[name]
        self.dest = folder / "out/wall.dzc"
        self.dest.parent.mkdir()
        if name != "create":
            change("create", self.dest, [*cuts[:3], raws[0]])
        shutil.copytree(folder / "out", folder / "before")
        self.before = contents(folder / "before")

    def again(self) -> None:
        """As it was at first."""
        shutil.rmtree(self.dest.parent)
        shutil.copytree(self.folder / "before", self.dest.parent)

    def now(self) -> dict[str, bytes]:
        return contents(self.dest.parent)


@pytest.fixture(params=["create", "overwrite", "append", "remove"])
def scene(tmp_path: Path, request: pytest.FixtureRequest) -> Scene:
    return Scene(tmp_path, request.param)


def check_descriptor(scene: Scene, done: dict[str, bytes]) -> None:
    """The descriptor that stands there, if any, is the old or the new one, and tells the truth."""
    now = scene.now()
    if "wall.dzc" in now:
        wanted = scene.before if now["wall.dzc"] == scene.before.get("wall.dzc") else done
        if scene.before.get("wall.dzc") == done["wall.dzc"] and now != scene.before:
            wanted = done
        visible = {name: data for name, data in now.items() if not name.startswith(".wall")}
        for name, data in wanted.items():
            if not name.startswith("wall_images"):
                assert visible.get(name) == data
        is_whole(scene.dest)


@pytest.mark.long
def test_killed_at_any_step(scene: Scene, mortals: Mortals) -> None:
    assert mortals.work(scene.change, scene.dest, scene.given) == ("done", "")
    done = scene.now()
    assert done != scene.before
    outcomes = set()
    for step in range(STEPS):
        scene.again()
        if mortals.work(scene.change, scene.dest, scene.given, at=step).end == "done":
            break
        check_descriptor(scene, done)
        # The next run finds all in order: what was finished, or what was there.
        told = mortals.work(scene.change, scene.dest, scene.given).told
        outcomes.add(told.split(";")[0].removeprefix(f"{scene.dest} "))
        assert not any(name.startswith(".") for name in scene.now())
        is_whole(scene.dest)
        if scene.change in ("create", "overwrite"):
            assert scene.now() == done
    else:
        pytest.fail("it never ended")
    assert step > 20
    refused = {"create": "exists already", "remove": f"has no item {scene.given[0]}"}
    assert outcomes == {"", refused.get(scene.change, "")}


@pytest.mark.long
@pytest.mark.parametrize("fate", ["refused", "interrupted"])
def test_refused_or_interrupted_at_any_step(scene: Scene, mortals: Mortals, fate: str) -> None:
    assert mortals.work(scene.change, scene.dest, scene.given) == ("done", "")
    done = scene.now()
    outcomes = set()
    for step in range(STEPS):
        scene.again()
        outcome = mortals.work(scene.change, scene.dest, scene.given, fate=fate, at=step)
        now = scene.now()
        visible = {name: data for name, data in now.items() if not name.startswith(".wall")}
        assert visible in (scene.before, done)
        check_descriptor(scene, done)
        if outcome == ("done", "") and visible == done and now == done and step > 20:
            last = mortals.work(scene.change, scene.dest, scene.given, at=step + 5)
            if last.end == "done":
                break
        outcomes.add(visible == done)
        if "cannot" in outcome.told:
            assert str(scene.dest.parent) in outcome.told
            assert visible == scene.before
        mortals.work(scene.change, scene.dest, scene.given)
        assert not any(name.startswith(".") for name in scene.now())
        is_whole(scene.dest)
    else:
        pytest.fail("it never ended")
    assert outcomes == {True, False}


# The moves themselves


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def moves(tmp_path: Path) -> Moves:
    work = tmp_path / ".work"
    (work / "old").mkdir(parents=True)
    written(work / "new/files/x", "new tile")
    written(work / "new/wall.dzc", "new")
    written(tmp_path / "files/x", "old tile")
    written(tmp_path / "wall.dzc", "old")
    return Moves(work)


def test_moves_replace_and_are_undone(tmp_path: Path, moves: Moves) -> None:
    steps = [Move("files", "files", replaces=True), Move("wall.dzc", "wall.dzc", True, True)]
    assert not moves.pending
    moves.prepare(steps)
    moves.publish()
    assert moves.pending
    assert (tmp_path / "wall.dzc").read_text() == "new"
    assert (tmp_path / "files/x").read_text() == "new tile"
    moves.undo()
    assert not moves.pending
    assert (tmp_path / "wall.dzc").read_text() == "new", "what is published stays"


def test_moves_that_may_not_replace_are_taken_back(tmp_path: Path, moves: Moves) -> None:
    moves.prepare([Move("files", "files", replaces=True), Move("wall.dzc", "wall.dzc", True)])
    assert not moves.recover()
    assert not moves.pending
    assert (tmp_path / "wall.dzc").read_text() == "old"
    assert (tmp_path / "files/x").read_text() == "old tile"
    moves.prepare([Move("files", "files"), Move("wall.dzc", "wall.dzc", True, True)])
    with pytest.raises(FileExistsError):
        moves.publish()
    assert not (tmp_path / "wall.dzc").exists(), "the descriptor goes first"
    moves.undo()
    assert (tmp_path / "wall.dzc").read_text() == "old"


def test_names_of_any_kind_are_kept_in_the_list(tmp_path: Path, moves: Moves) -> None:
    name = 'a "b"\n\udcff ü.dzi'
    written(tmp_path / ".work/new/images" / name, "picture")
    moves.prepare([Move(f"images/{name}", f"../{tmp_path.name}/sub/../{name}")])
    (tmp_path / "sub").mkdir()
    assert moves.recover()
    assert (tmp_path / name).read_text() == "picture"
