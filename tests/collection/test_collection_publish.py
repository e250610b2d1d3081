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

from fasttile import TargetError
from fasttile.collection.workspace import Move, Moves
from fasttile.storage.work_folder import WorkFolder
from support.collection_faults import FaultyCollectionProcess, change_collection
from support.collection_files import check_collection, cut_member, folder_contents, member_pixels

MAX_STEPS = 400
"""More than any of the runs takes."""


@pytest.fixture(scope="module")
def faulty_process() -> Iterator[FaultyCollectionProcess]:
    mortals = FaultyCollectionProcess()
    yield mortals
    mortals.close()


class CollectionScene:
    """A folder with a collection, or without, and what shall become of it."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.change = name
        (folder / "in").mkdir(parents=True)
        cuts = [str(cut_member(folder / "in", number)) for number in range(4)]
        raws = [str(folder / "in" / f"r{number}.png") for number in (4, 5)]
        for number, path in zip((4, 5), raws, strict=True):
            Image.fromarray(member_pixels(number)).save(path)
        self.sources: list[Any] = {
            "create": [cuts[0], raws[0]],
            "overwrite": [raws[0], cuts[3]],
            "append": [cuts[2], raws[1], raws[0]],
            "remove": [0],
        }[name]
        self.dest = folder / "out/wall.dzc"
        self.dest.parent.mkdir()
        if name != "create":
            change_collection("create", self.dest, [*cuts[:3], raws[0]])
        shutil.copytree(folder / "out", folder / "before")
        self.contents_before = folder_contents(folder / "before")

    def restore(self) -> None:
        """As it was at first."""
        shutil.rmtree(self.dest.parent)
        shutil.copytree(self.folder / "before", self.dest.parent)

    def current_contents(self) -> dict[str, bytes]:
        return folder_contents(self.dest.parent)


@pytest.fixture(params=["create", "overwrite", "append", "remove"])
def scene(tmp_path: Path, request: pytest.FixtureRequest) -> CollectionScene:
    return CollectionScene(tmp_path, request.param)


def check_descriptor(scene: CollectionScene, is_done: dict[str, bytes]) -> None:
    """An existing descriptor is the old or the new one, and is true."""
    now = scene.current_contents()
    if "wall.dzc" in now:
        wanted = (
            scene.contents_before
            if now["wall.dzc"] == scene.contents_before.get("wall.dzc")
            else is_done
        )
        if (
            scene.contents_before.get("wall.dzc") == is_done["wall.dzc"]
            and now != scene.contents_before
        ):
            wanted = is_done
        visible = {name: data for name, data in now.items() if not name.startswith(".wall")}
        for name, data in wanted.items():
            if not name.startswith("wall_images"):
                assert visible.get(name) == data
        check_collection(scene.dest)


@pytest.mark.long
def test_killed_at_any_step(
    scene: CollectionScene, faulty_process: FaultyCollectionProcess
) -> None:
    assert faulty_process.change(scene.change, scene.dest, scene.sources) == ("done", "")
    done = scene.current_contents()
    assert done != scene.contents_before
    outcomes = set()
    for step in range(MAX_STEPS):
        scene.restore()
        if (
            faulty_process.change(scene.change, scene.dest, scene.sources, step=step).ending
            == "done"
        ):
            break
        check_descriptor(scene, done)
        # The next run finds all in order: what was finished, or what was there.
        message = faulty_process.change(scene.change, scene.dest, scene.sources).message
        outcomes.add(message.split(";")[0].removeprefix(f"{scene.dest} "))
        assert not any(name.startswith(".") for name in scene.current_contents())
        check_collection(scene.dest)
        if scene.change in ("create", "overwrite"):
            assert scene.current_contents() == done
    else:
        pytest.fail("it never ended")
    assert step > 20
    refused = {"create": "exists already", "remove": f"has no item {scene.sources[0]}"}
    assert outcomes == {"", refused.get(scene.change, "")}


@pytest.mark.long
@pytest.mark.parametrize("fate", ["refused", "interrupted"])
def test_refused_or_interrupted_at_any_step(
    scene: CollectionScene, faulty_process: FaultyCollectionProcess, fate: str
) -> None:
    assert faulty_process.change(scene.change, scene.dest, scene.sources) == ("done", "")
    done = scene.current_contents()
    outcomes = set()
    for step in range(MAX_STEPS):
        scene.restore()
        outcome = faulty_process.change(
            scene.change, scene.dest, scene.sources, fault=fate, step=step
        )
        now = scene.current_contents()
        visible = {name: data for name, data in now.items() if not name.startswith(".wall")}
        assert visible in (scene.contents_before, done)
        check_descriptor(scene, done)
        if outcome == ("done", "") and visible == done and now == done and step > 20:
            last = faulty_process.change(scene.change, scene.dest, scene.sources, step=step + 5)
            if last.ending == "done":
                break
        outcomes.add(visible == done)
        if "cannot" in outcome.message:
            assert str(scene.dest.parent) in outcome.message
            assert visible == scene.contents_before
        faulty_process.change(scene.change, scene.dest, scene.sources)
        assert not any(name.startswith(".") for name in scene.current_contents())
        check_collection(scene.dest)
    else:
        pytest.fail("it never ended")
    assert outcomes == {True, False}


# The moves themselves


def write_file(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def moves(tmp_path: Path) -> Iterator[Moves]:
    """The steps of a run that publishes "files", "wall.dzc", and images in the folder "wall"."""
    places = {"files": tmp_path / "files", "wall.dzc": tmp_path / "wall.dzc"}
    work = WorkFolder(tmp_path / ".work")
    (work.path / "old").mkdir(parents=True)
    write_file(work.path / "new/files/x", "new tile")
    write_file(work.path / "new/wall.dzc", "new")
    write_file(tmp_path / "files/x", "old tile")
    write_file(tmp_path / "wall.dzc", "old")

    def place_of(name: str) -> Path | None:
        is_image = name.startswith("images/")
        return tmp_path / "wall" / name.removeprefix("images/") if is_image else places.get(name)

    with Moves(work, place_of) as steps:
        yield steps
    work.release()


def test_moves_replace_and_are_undone(tmp_path: Path, moves: Moves) -> None:
    steps = [Move("files", replaces=True), Move("wall.dzc", True, True)]
    assert not moves.is_pending
    moves.prepare(steps)
    moves.publish()
    assert moves.is_pending
    assert (tmp_path / "wall.dzc").read_text() == "new"
    assert (tmp_path / "files/x").read_text() == "new tile"
    moves.undo()
    assert not moves.is_pending
    assert (tmp_path / "wall.dzc").read_text() == "new", "what is published stays"


def test_moves_that_may_not_replace_are_taken_back(tmp_path: Path, moves: Moves) -> None:
    moves.prepare([Move("files", replaces=True), Move("wall.dzc", True)])
    assert not moves.recover()
    assert not moves.is_pending
    assert (tmp_path / "wall.dzc").read_text() == "old"
    assert (tmp_path / "files/x").read_text() == "old tile"
    moves.prepare([Move("files"), Move("wall.dzc", True, True)])
    with pytest.raises(FileExistsError):
        moves.publish()
    assert not (tmp_path / "wall.dzc").exists(), "the descriptor goes first"
    moves.undo()
    assert (tmp_path / "wall.dzc").read_text() == "old"


def test_names_of_any_kind_are_kept_in_the_list(tmp_path: Path, moves: Moves) -> None:
    name = 'a "b"\n\udcff ü.dzi'
    write_file(tmp_path / ".work/new/images" / name, "image")
    (tmp_path / "wall").mkdir()
    moves.prepare([Move(f"images/{name}")])
    assert moves.recover()
    assert (tmp_path / "wall" / name).read_text() == "image"


@pytest.mark.parametrize(
    "plan",
    [
        b"",
        b"[",
        b"{}1",
        b"[" * 100_000,
        b'[{"name": 1}]',
        b'[{"other": "files"}]',
        b'[{"name": "other"}]',
        b'[{"name": "../files"}]',
        b'[{"name": "files", "target": "../.bashrc"}]',
    ],
    ids=repr,
)
def test_a_plan_of_another_run_is_refused(tmp_path: Path, moves: Moves, plan: bytes) -> None:
    (tmp_path / ".work/moves.json").write_bytes(plan)
    with pytest.raises(TargetError, match="so nothing in it is used; repeat the run"):
        moves.recover()
    assert (tmp_path / "wall.dzc").read_text() == "old"
    assert (tmp_path / "files/x").read_text() == "old tile"


@pytest.mark.parametrize("link", ["wall", ".work/new/images", ".work/old"])
def test_links_in_place_of_folders_are_not_followed(
    tmp_path: Path, moves: Moves, link: str
) -> None:
    elsewhere = tmp_path / "elsewhere"
    write_file(elsewhere / "a.dzi", "the user's")
    for name in ("wall", ".work/new/images", ".work/old"):
        path = tmp_path / name
        if name == link:
            if path.is_dir():
                path.rmdir()
            path.symlink_to(elsewhere)
        elif name != ".work/old":
            write_file(path / "a.dzi", name)
    moves.prepare([Move("images/a.dzi", True, True)])
    with pytest.raises(NotADirectoryError):
        moves.recover()
    assert [path.name for path in elsewhere.iterdir()] == ["a.dzi"]
    assert (elsewhere / "a.dzi").read_text() == "the user's"
