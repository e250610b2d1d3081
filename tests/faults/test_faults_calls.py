"""Calls to the system fail once, or from then on, or are the last before SIGKILL.

What must hold after each of these runs, and after the next one, `Stage.suffer` says.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from brood import Brood
from shim import Fault
from stage import Stage

from samples import sampled

STATES = [("nothing", False), ("old", True)]
"""What stands there before, and whether jobs can be carried on."""

OTHER_STATES = [("nothing", True), ("old", False)]

OTHERS = ["x", "x.szi", "x.tif", "x.pmtiles", "x.mbtiles"]
"""Results but Deep Zoom: a folder that is all of it (Zoomify), and single files."""

FAULTS = [
    ("write", "ENOSPC", True),
    ("write", "EDQUOT", False),
    ("write,close", "EIO", False),
    ("open", "EMFILE", False),
    ("open,mkdir", "ENOSPC", True),
    ("open,mkdir,write,rename,remove", "EROFS", True),
    ("rename", "EIO", False),
    ("rename,remove", "EIO", True),
    ("mkdir", "EACCES", True),
]
"""Kinds of calls, the error that they give, and whether it stays."""

faults = pytest.mark.parametrize(("call", "error", "sticky"), FAULTS)


def states(chosen: list[tuple[str, bool]]) -> pytest.MarkDecorator:
    names = [f"{what}-{'resume' if resume else 'plain'}" for what, resume in chosen]
    return pytest.mark.parametrize(("what", "resume"), chosen, ids=names)


@states(STATES)
@pytest.mark.parametrize(("call", "error", "sticky"), sampled(FAULTS, FAULTS[::2]))
def test_a_call_that_fails(
    brood: Brood,
    room: Path,
    picture: Path,
    call: str,
    error: str,
    sticky: bool,
    what: str,
    resume: bool,
) -> None:
    stage = Stage(brood, room, picture, "x.dzi", resume)
    assert stage.sweep(what, Fault(room, call, error=error, sticky=sticky), 3)[1] > 0


@pytest.mark.long
@states(STATES + OTHER_STATES)
@faults
def test_each_call_fails(
    brood: Brood,
    room: Path,
    picture: Path,
    call: str,
    error: str,
    sticky: bool,
    what: str,
    resume: bool,
) -> None:
    stage = Stage(brood, room, picture, "x.dzi", resume)
    assert stage.sweep(what, Fault(room, call, error=error, sticky=sticky), 60)[1] > 1


@states(STATES)
def test_killed_at_a_call(brood: Brood, room: Path, picture: Path, what: str, resume: bool) -> None:
    """At some calls; and at each rename, for of these publishing consists."""
    stage = Stage(brood, room, picture, "x.dzi", resume)
    assert set(stage.sweep(what, Fault(room, kill=True), 5)) == {-9}
    assert set(stage.sweep(what, Fault(room, "rename", kill=True), 999)) == {-9}


@pytest.mark.long
@states(STATES + OTHER_STATES)
def test_killed_at_each_call(
    brood: Brood, room: Path, picture: Path, what: str, resume: bool
) -> None:
    codes = Stage(brood, room, picture, "x.dzi", resume).sweep(what, Fault(room, kill=True), 999)
    assert codes[-9] > 90


@pytest.mark.parametrize("what", sampled(["nothing", "old"], ["old"]))
@pytest.mark.parametrize("name", OTHERS)
def test_other_results(brood: Brood, room: Path, picture: Path, name: str, what: str) -> None:
    stage = Stage(brood, room, picture, name)
    assert stage.sweep(what, Fault(room, kill=True), 3)[-9] > 1
    full = Fault(room, "write,open,mkdir", error="ENOSPC", sticky=True)
    assert stage.sweep(what, full, 3)[1] > 1


@pytest.mark.long
@pytest.mark.parametrize("what", ["nothing", "old"])
@pytest.mark.parametrize("name", OTHERS)
def test_other_results_at_each_call(
    brood: Brood, room: Path, picture: Path, name: str, what: str
) -> None:
    stage = Stage(brood, room, picture, name)
    assert stage.sweep(what, Fault(room, kill=True), 999)[-9] > 8
    for error, sticky in (("ENOSPC", True), ("EIO", False)):
        fault = Fault(room, "write,open,mkdir,close,rename", error=error, sticky=sticky)
        assert stage.sweep(what, fault, 999)[1] > 3


@pytest.mark.parametrize("error", ["", "EINTR"], ids=["half", "interrupted"])
@pytest.mark.parametrize("name", ["x.dzi", "x.szi", "x.tif"])
def test_what_is_no_failure(brood: Brood, room: Path, picture: Path, name: str, error: str) -> None:
    """A write may stop half way, or be interrupted: nothing is lost, and nobody need be told."""
    stage = Stage(brood, room, picture, name)
    fault = Fault(room, "write", error=error)
    codes = stage.sweep("nothing", fault, 3)
    assert set(codes) == {0}


@pytest.mark.parametrize("call", ["open", "mmap"])
def test_a_source_that_the_system_does_not_give(
    brood: Brood, room: Path, picture: Path, call: str
) -> None:
    stage = Stage(brood, room, picture, "x.dzi")
    ended = stage.suffer("old", Fault(picture, call, at=0, error="EIO"))
    assert picture.name in ended.line()
    assert "Input/output error" in ended.line()
