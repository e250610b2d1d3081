"""Planted work folders, plans and links: nothing in them is believed, followed or removed.

Each test builds the folder of a victim: a project that came from somebody else, beside the victim's
own files, which have to stay as they are.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

if sys.platform == "win32":
    pytest.skip("needs symbolic links and owners", allow_module_level=True)

import fasttile
from fasttile.storage.journal import encode_line
from support.command import noise, run
from support.deepzoom_files import DZI_TARGET, FOLDER_TARGET, open_sink, put_tiles, write
from support.faulty_process import FaultyProcess
from support.file_trees import file_tree
from support.sampling import sampled

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("every_progress_report")]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The victim's own files."""
    home = tmp_path / "home"
    for name in (
        ".ssh/authorized_keys",
        ".ssh/id_rsa",
        ".bashrc",
        "photos/a.png",
        "photos/9/b.png",
    ):
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"the victim's {name}")
    return home


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with an image."""
    project = tmp_path / "project"
    project.mkdir()
    Image.fromarray(noise(300, 400)).save(project / "photo.png")
    return project


def plant_plan(work: Path, plan_name: str, content: object, entries: dict[str, str]) -> None:
    """Make a work folder with a plan and entries; values that begin with "->" are links."""
    work.mkdir(mode=0o700)
    (work / plan_name).write_text(content if isinstance(content, str) else json.dumps(content))
    for path, entry in entries.items():
        place = work / path
        place.parent.mkdir(parents=True, exist_ok=True)
        if entry.startswith("->"):
            place.symlink_to(entry.removeprefix("->"))
        else:
            place.write_text(entry)


def travel_in_a_tarball(project: Path) -> None:
    """What a victim unpacks belongs to the victim."""
    archive = project.with_suffix(".tar")
    with tarfile.open(archive, "w") as tar:
        tar.add(project, "project")
    shutil.rmtree(project)
    subprocess.run(["tar", "xf", archive], cwd=project.parent, check=True)


def plan_of(files: list[str], tiles: str = "photo_files") -> dict[str, object]:
    return {"layout": "dzi", "tiles": tiles, "files": files}


PLANTED_PLANS = {
    "another file": (
        "publish-over",
        plan_of(["authorized_keys"]),
        {"old": "->../../home/.ssh", "new/authorized_keys": "planted"},
    ),
    "another file, as the plans of 2025 have it": (
        "publish-over",
        {"tiles": "no_files", "files": ["authorized_keys"], "signs": [], "stale": []},
        {"old": "->../../home/.ssh", "new/authorized_keys": "planted"},
    ),
    "a private file to be published": (
        "publish-new",
        plan_of(["id_rsa"]),
        {"old/x": "", "new": "->../../home/.ssh"},
    ),
    "a path": (
        "publish-over",
        plan_of(["../home/.bashrc"]),
        {"old/x": "", "new/x": ""},
    ),
    "a linked folder of new files": (
        "publish-over",
        plan_of(["photo.dzi"]),
        {"old/x": "", "new": "->../../home/.ssh"},
    ),
    "a linked folder of older files": (
        "publish-over",
        plan_of(["photo.dzi"]),
        {"old": "->../../home/.ssh", "new/photo.dzi": "planted", "new/photo_files/x": ""},
    ),
    "linked tiles": (
        "publish-over",
        plan_of(["photo.dzi"]),
        {"old/x": "", "new/photo.dzi": "planted", "new/photo_files": "->../../../home/photos"},
    ),
    "a link among the tiles": (
        "publish-over",
        plan_of(["photo.dzi"]),
        {
            "old/x": "",
            "new/photo.dzi": "planted",
            "new/photo_files/.fasttile-new": "",
            "new/photo_files/9/0_0.jpg": "->../../../../../home/.ssh/id_rsa",
        },
    ),
    "a link as the descriptor": (
        "publish-new",
        plan_of(["photo.dzi"]),
        {
            "old/x": "",
            "new/photo.dzi": "->../../../home/.ssh/id_rsa",
            "new/photo_files/.fasttile-new": "",
        },
    ),
    "a linked plan": ("publish-over", "", {"old/x": "", "plan": "->../../home/.bashrc"}),
    "a linked lock": ("x", "", {"lock": "->../../home/.bashrc"}),
    "a linked journal": ("x", "", {"journal": "->../../home/.bashrc"}),
    "links in other folders": ("x", "", {"sub/a": "->../../../home", "b": "->../../home"}),
}


@pytest.mark.parametrize("words", [[], ["--overwrite"], ["--resume"]], ids=" ".join)
@pytest.mark.parametrize("case", PLANTED_PLANS)
def test_a_planted_work_folder(home: Path, project: Path, case: str, words: list[str]) -> None:
    name, plan, entries = PLANTED_PLANS[case]
    plant_plan(project / ".photo.dzi.fasttile", name, plan, entries)
    travel_in_a_tarball(project)
    before = file_tree(home)
    ended = run("cut", "photo.png", "-q", *words, cwd=project)
    assert file_tree(home) == before
    published = {path.name for path in project.iterdir()} - {"photo.png", ".photo.dzi.fasttile"}
    if ended.returncode == 0:
        assert ended.stderr == ""
        assert published == {"photo.dzi", "photo_files"}
        assert not (project / "photo_files").is_symlink()
        assert not any(path.is_symlink() for path in project.rglob("photo_files/**/*"))
        assert "planted" not in (project / "photo.dzi").read_text()
    else:
        assert ended.returncode == 1
        assert ended.stderr.startswith("fasttile: ")
        assert ended.stderr.count("\n") == 1
        assert "unexpected" not in ended.stderr
        assert ".photo.dzi.fasttile" in ended.stderr or "use resume to continue" in ended.stderr
        assert published == set()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of other users")
@pytest.mark.parametrize("kind", ["dzi", "szi", "dzc", "batch"])
def test_a_work_folder_of_another_user(home: Path, project: Path, kind: str) -> None:
    """As in /tmp, where all can write, and nobody can remove the others' files."""
    commands = {
        "dzi": (".photo.dzi.fasttile", ["cut", "photo.png"]),
        "szi": (".photo.szi.fasttile", ["cut", "photo.png", "-o", "photo.szi"]),
        "dzc": (".wall.dzc.fasttile", ["collection", "create", "wall.dzc", "photo.png"]),
        "batch": (".fasttile-batch", ["cut", "photo.png", "other.png", "-o", "./", "--resume"]),
    }
    shutil.copy(project / "photo.png", project / "other.png")
    name, command = commands[kind]
    work = project / name
    work.mkdir(mode=0o777)
    os.chown(work, 1001, 1001)
    project.chmod(0o1777)
    before = file_tree(project)
    ended = run(*command, cwd=project)
    assert (ended.returncode, ended.stderr) == (
        1,
        f"fasttile: {work} belongs to another user, so nothing in it is used; remove it, or choose "
        "another name\n",
    )
    assert file_tree(project) == before


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_a_work_folder_that_others_can_write(project: Path, mode: int) -> None:
    work = project / ".photo.dzi.fasttile"
    work.mkdir()
    work.chmod(mode)
    ended = run("cut", "photo.png", cwd=project)
    assert ended.returncode == 1
    assert "can be written by other users, so nothing in it is used; remove it" in ended.stderr
    work.rmdir()
    assert run("cut", "photo.png", "-q", cwd=project).returncode == 0


def test_a_work_folder_is_for_its_user_only(tmp_path: Path) -> None:
    """And the published folders are for whom the user's mask says."""
    before = os.umask(0o002)
    try:
        target = tmp_path / DZI_TARGET
        sink = open_sink("new", target)
        put_tiles(sink, "new")
        assert (tmp_path / f".{DZI_TARGET}.fasttile").stat().st_mode & 0o777 == 0o700
        sink.finish()
        assert (tmp_path / "a map_files").stat().st_mode & 0o777 == 0o775
    finally:
        os.umask(before)


PLANTED_MOVES = {
    "a path": ({"name": "../home/.bashrc", "replaces": True}, {}),
    "a target, as the plans of 2025 have it": (
        {"name": "x", "target": "../home/.bashrc", "announces": False, "replaces": True},
        {},
    ),
    "an image beside": ({"name": "images/../photo.png", "replaces": True}, {}),
    "a linked folder of images": (
        {"name": "images/a_files", "replaces": True},
        {"new/images": "->../../../home/photos"},
    ),
    "linked older files": (
        {"name": "wall.dzc", "announces": True, "replaces": True},
        {"new/wall.dzc": "planted", "old": "->../../home/.ssh"},
    ),
}


@pytest.mark.parametrize("case", PLANTED_MOVES)
def test_planted_moves_of_a_collection(home: Path, project: Path, case: str) -> None:
    move, entries = PLANTED_MOVES[case]
    plant_plan(
        project / ".wall.dzc.fasttile", "moves.json", [move], {"new/x": "planted", **entries}
    )
    (project / "wall.dzc").write_text("older")
    (project / "wall_images").symlink_to("../home/photos")
    travel_in_a_tarball(project)
    before = file_tree(home)
    ended = run("collection", "create", "wall.dzc", "photo.png", cwd=project)
    assert file_tree(home) == before
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    assert ended.stderr.startswith("fasttile: ")
    assert "unexpected" not in ended.stderr
    assert (project / "wall.dzc").read_text() == "older"


def test_planted_shared_tiles_of_a_collection(home: Path, project: Path) -> None:
    """A link in place of a shared tile would be published with the others."""
    assert run("cut", "photo.png", "-q", cwd=project).returncode == 0
    assert run("collection", "create", "wall.dzc", "photo.dzi", "-q", cwd=project).returncode == 0
    tile = sorted((project / "wall_files").rglob("*.jpg"))[0]
    content = tile.read_bytes()
    tile.unlink()
    tile.symlink_to(home / ".ssh/id_rsa")
    shutil.copytree(project / "photo_files", project / "b_files")
    shutil.copy(project / "photo.dzi", project / "b.dzi")
    assert run("collection", "append", "wall.dzc", "b.dzi", "-q", cwd=project).returncode == 0
    assert run("collection", "remove", "wall.dzc", "1", "-q", cwd=project).returncode == 0
    assert not any(path.is_symlink() for path in (project / "wall_files").rglob("*"))
    assert tile.read_bytes() == content


@pytest.mark.parametrize("name", ["ledger", "ledger.new"])
def test_a_planted_ledger(home: Path, project: Path, name: str) -> None:
    ledger = project / "site/.fasttile-batch"
    ledger.mkdir(parents=True, mode=0o700)
    (ledger / name).symlink_to(home / ".bashrc")
    shutil.copy(project / "photo.png", project / "other.png")
    before = file_tree(home)
    ended = run("cut", "photo.png", "other.png", "-o", "site/", "--resume", "-q", cwd=project)
    assert file_tree(home) == before
    assert ended.returncode == (name == "ledger")
    assert ended.stderr.count("\n") == (name == "ledger")


def test_repair_with_a_planted_work_folder(home: Path, project: Path) -> None:
    assert run("cut", "photo.png", "-q", "--format", "png", cwd=project).returncode == 0
    expected = file_tree(project)
    (project / "photo_files/8/0_0.png").unlink()
    work = project / ".photo.dzi.fasttile"
    work.mkdir(mode=0o700)
    (work / "repaired").symlink_to(home / ".bashrc")
    before = file_tree(home)
    ended = run("verify", "photo.dzi", "--source", "photo.png", "--repair", cwd=project)
    assert file_tree(home) == before
    assert (ended.returncode, ended.stderr) == (0, "")
    assert file_tree(project) == expected


@pytest.mark.parametrize("linked", ["photo_files", "photo_files/8"])
@pytest.mark.parametrize("command", ["repair", "overwrite"])
def test_a_result_whose_folder_is_a_link(
    home: Path, project: Path, linked: str, command: str
) -> None:
    assert run("cut", "photo.png", "-q", "--format", "png", cwd=project).returncode == 0
    shutil.rmtree(project / linked)
    (project / linked).symlink_to(home / "photos")
    before = file_tree(home)
    words = ["verify", "photo.dzi", "--source", "photo.png", "--repair", "--format", "png"]
    if command == "overwrite":
        words = ["cut", "photo.png", "-q", "--overwrite"]
    ended = run(*words, cwd=project)
    assert file_tree(home) == before
    if command == "overwrite" and linked != "photo_files":
        assert ended.returncode == 0  # the older tiles go, the link with them
    else:
        assert ended.returncode == 1
        assert ended.stderr.count("\n") == 1
        assert "link" in ended.stderr


# ---- a name is swapped between a check and its use -----------------------------------------------


@pytest.fixture(scope="module")
def faulty_process() -> Iterator[FaultyProcess]:
    process = FaultyProcess()
    yield process
    process.close()


# Not the folders below `new`: only their user can change these, by the mode of the work folder.
SWAPPED = [
    (DZI_TARGET, ".a map.dzi.fasttile"),
    (DZI_TARGET, ".a map.dzi.fasttile/new"),
    (DZI_TARGET, ".a map.dzi.fasttile/old"),
    (DZI_TARGET, "a map_files"),
    (DZI_TARGET, "a map.dzi"),
    (FOLDER_TARGET, f".{FOLDER_TARGET}.fasttile"),
    (FOLDER_TARGET, FOLDER_TARGET),
]


@pytest.mark.parametrize(("target", "swapped"), sampled(SWAPPED, SWAPPED[:2]))
@pytest.mark.parametrize("exchange", sampled([True, False], [True]))
def test_a_name_that_is_swapped_at_every_step(
    faulty_process: FaultyProcess, tmp_path: Path, target: str, swapped: str, exchange: bool
) -> None:
    """What the link leads to has all the names that a run uses, and stays as it is."""
    victim = tmp_path / "victim"
    for above in ("", "new/", "old/"):
        write("old", victim / above / target)
    for name in ("lock", "journal", "publish-over", "0_0.png"):
        (victim / name).write_text("the victim's")
    before = file_tree(victim)
    for step in range(1000):
        site = tmp_path / str(step)
        site.mkdir()
        write("old", site / target)
        outcome = faulty_process.write(
            "new",
            site / target,
            overwrite=True,
            fault="swapped",
            step=step,
            exchange=exchange,
            swap=(site / swapped, victim),
        )
        assert file_tree(victim) == before, step
        assert outcome.ending == "done"
        assert "\n" not in outcome.message
        was_swapped = (site / f"{swapped}.moved").exists() or outcome.message
        shutil.rmtree(site)
        if step > 20 and not was_swapped:
            break
    assert step > 20


# ---- journals and ledgers with right checksums and wrong content ---------------------------------

TAMPERED_LINES = [
    b"1",
    b"null",
    b"[]",
    b'["9", 0, 0, 1, 1, 0, 5]',
    b"[9, 0, 0, 1, 1, 0]",
    b"[9, 0, 0, 1, 1, 0, 5, 6]",
    b"[9, 0, 1, 1, 1, 0, 5]",
    b"[9, -1, 0, 1, 1, 0, 5]",
    b"[true, 0, 0, 1, 1, 0, 5]",
    b"[9, 0, 0, 1.5, 1, 0, 5]",
    b"[9, 0, 0, 1, 1, 0, 1e999]",
    b"[9, 0, 0, 99999999999999999999, 1, 0, 5]",
    b"[" * 100_000,
    b'{"level": 9}',
]

IMPOSSIBLE_LINES = [
    b"[9, 0, 0, 9000000000000000000, 1, 0, 5]",
    b"[-1, 0, 0, 9000000000000000000, 1, 0, 5]",
    b"[-1, 0, 0, 1, 1, 0, 5]",
    b"[9000000000000000000, 0, 0, 1, 1, 0, 5]",
    b"[9, 9000000000000000000, 0, 1, 1, 0, 5]",
    b"[9, 0, 0, 1, 9000000000000000000, 0, 5]",
    b"[9, 0, 0, 1, 0, 1, 0]",
]
"""Records that have the right form, of tiles that cannot be."""


def interrupt(project: Path, *words: str) -> Path:
    """Interrupt a resumable cut; gives its journal."""
    with pytest.raises(fasttile.CancelledError):
        fasttile.cut(
            project / "photo.png",
            project / "photo.dzi",
            tile_size=32,
            resume=True,
            progress=lambda progress: progress.tiles < 30,
        )
    journal = project / ".photo.dzi.fasttile/journal"
    assert journal.exists()
    return journal


@pytest.mark.parametrize("line", TAMPERED_LINES, ids=lambda line: line[:40].decode())
@pytest.mark.parametrize("place", ["first", "last"])
def test_a_tampered_journal(project: Path, line: bytes, place: str) -> None:
    journal = interrupt(project)
    if place == "first":
        journal.write_bytes(encode_line(line))
    else:
        journal.write_bytes(journal.read_bytes() + encode_line(line))
    command = ("cut", "photo.png", "--tile-size", "32", "-q")
    ended = run(*command, "--resume", cwd=project)
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    assert ended.stderr.startswith(f"fasttile: {project / 'photo.dzi'}")
    assert "start over with overwrite" in ended.stderr
    assert run(*command, "--resume", "--overwrite", cwd=project).returncode in (0, 1)
    assert run(*command, "--overwrite", cwd=project).returncode == 0


@pytest.mark.parametrize("line", IMPOSSIBLE_LINES, ids=lambda line: line[:40].decode())
def test_a_journal_of_impossible_tiles(project: Path, line: bytes) -> None:
    journal = interrupt(project)
    journal.write_bytes(journal.read_bytes() + encode_line(line))
    ended = run("cut", "photo.png", "--tile-size", "32", "-q", "--resume", cwd=project)
    assert (ended.returncode, ended.stderr) == (0, "")
    resumed = file_tree(project)
    assert (
        run("cut", "photo.png", "--tile-size", "32", "-q", "--overwrite", cwd=project).returncode
        == 0
    )
    assert file_tree(project) == resumed


@pytest.mark.parametrize(
    "line",
    [b"1", b"[]", b'["done", 1, 2]', b'["other", "x", 2]', b"[" * 100_000],
    ids=lambda line: line[:20],
)
@pytest.mark.parametrize("place", ["first", "last"])
def test_a_tampered_ledger(project: Path, line: bytes, place: str) -> None:
    shutil.copy(project / "photo.png", project / "other.png")
    (project / "broken.png").write_bytes((project / "photo.png").read_bytes()[:1000])
    command = ("cut", "photo.png", "broken.png", "other.png", "-o", "site/", "--resume", "-q")
    assert run(*command, cwd=project).returncode == 1
    ledger = project / "site/.fasttile-batch/ledger"
    data = b"" if place == "first" else ledger.read_bytes()
    ledger.write_bytes(data + encode_line(line))
    ended = run(*command, cwd=project)
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    assert "start over with overwrite" in ended.stderr
