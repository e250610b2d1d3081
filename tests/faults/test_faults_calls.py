"""Calls to the system fail once, or from then on, or are the last before SIGKILL.

What must hold after each of these runs, and after the next one, `Stage.suffer` says.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from process_tree import ProcessTree
from shim import SyscallFault
from stage import FaultScenario

from support.sampling import sampled

STATES = [("nothing", False), ("old", True)]
"""The result before, and True if jobs can be resumed."""

OTHER_STATES = [("nothing", True), ("old", False)]

OTHER_RESULTS = ["x", "x.szi", "x.tif", "x.pmtiles", "x.mbtiles"]
"""Results but Deep Zoom: a folder that is all of it (Zoomify), and single files."""

CALL_FAULTS = [
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

parametrize_call_faults = pytest.mark.parametrize(("call", "error", "sticky"), CALL_FAULTS)


def parametrize_states(cases: list[tuple[str, bool]]) -> pytest.MarkDecorator:
    names = [f"{what}-{'resume' if resume else 'plain'}" for what, resume in cases]
    return pytest.mark.parametrize(("what", "resume"), cases, ids=names)


@parametrize_states(STATES)
@pytest.mark.parametrize(("call", "error", "sticky"), sampled(CALL_FAULTS, CALL_FAULTS[::2]))
def test_a_call_that_fails(
    process_tree: ProcessTree,
    scratch_folder: Path,
    image: Path,
    call: str,
    error: str,
    sticky: bool,
    what: str,
    resume: bool,
) -> None:
    stage = FaultScenario(process_tree, scratch_folder, image, "x.dzi", resume)
    assert (
        stage.fail_sampled_calls(
            what, SyscallFault(scratch_folder, call, error=error, sticky=sticky), 3
        )[1]
        > 0
    )


@pytest.mark.long
@parametrize_states(STATES + OTHER_STATES)
@parametrize_call_faults
def test_each_call_fails(
    process_tree: ProcessTree,
    scratch_folder: Path,
    image: Path,
    call: str,
    error: str,
    sticky: bool,
    what: str,
    resume: bool,
) -> None:
    stage = FaultScenario(process_tree, scratch_folder, image, "x.dzi", resume)
    assert (
        stage.fail_sampled_calls(
            what, SyscallFault(scratch_folder, call, error=error, sticky=sticky), 60
        )[1]
        > 1
    )


@parametrize_states(STATES)
def test_killed_at_a_call(
    process_tree: ProcessTree, scratch_folder: Path, image: Path, what: str, resume: bool
) -> None:
    """At some calls; and at each rename, for of these publishing consists."""
    stage = FaultScenario(process_tree, scratch_folder, image, "x.dzi", resume)
    assert set(stage.fail_sampled_calls(what, SyscallFault(scratch_folder, kill=True), 5)) == {-9}
    assert set(
        stage.fail_sampled_calls(what, SyscallFault(scratch_folder, "rename", kill=True), 999)
    ) == {-9}


@pytest.mark.long
@parametrize_states(STATES + OTHER_STATES)
def test_killed_at_each_call(
    process_tree: ProcessTree, scratch_folder: Path, image: Path, what: str, resume: bool
) -> None:
    codes = FaultScenario(process_tree, scratch_folder, image, "x.dzi", resume).fail_sampled_calls(
        what, SyscallFault(scratch_folder, kill=True), 999
    )
    assert codes[-9] > 90


@pytest.mark.parametrize("what", sampled(["nothing", "old"], ["old"]))
@pytest.mark.parametrize("name", OTHER_RESULTS)
def test_other_results(
    process_tree: ProcessTree, scratch_folder: Path, image: Path, name: str, what: str
) -> None:
    stage = FaultScenario(process_tree, scratch_folder, image, name)
    assert stage.fail_sampled_calls(what, SyscallFault(scratch_folder, kill=True), 3)[-9] > 1
    full = SyscallFault(scratch_folder, "write,open,mkdir", error="ENOSPC", sticky=True)
    assert stage.fail_sampled_calls(what, full, 3)[1] > 1


@pytest.mark.long
@pytest.mark.parametrize("what", ["nothing", "old"])
@pytest.mark.parametrize("name", OTHER_RESULTS)
def test_other_results_at_each_call(
    process_tree: ProcessTree, scratch_folder: Path, image: Path, name: str, what: str
) -> None:
    stage = FaultScenario(process_tree, scratch_folder, image, name)
    assert stage.fail_sampled_calls(what, SyscallFault(scratch_folder, kill=True), 999)[-9] > 8
    for error, sticky in (("ENOSPC", True), ("EIO", False)):
        fault = SyscallFault(
            scratch_folder, "write,open,mkdir,close,rename", error=error, sticky=sticky
        )
        assert stage.fail_sampled_calls(what, fault, 999)[1] > 3


@pytest.mark.parametrize("error", ["", "EINTR"], ids=["half", "interrupted"])
@pytest.mark.parametrize("name", ["x.dzi", "x.szi", "x.tif"])
def test_what_is_no_failure(
    process_tree: ProcessTree, scratch_folder: Path, image: Path, name: str, error: str
) -> None:
    """A write may stop half way, or be interrupted: nothing is lost, and nothing is reported."""
    stage = FaultScenario(process_tree, scratch_folder, image, name)
    fault = SyscallFault(scratch_folder, "write", error=error)
    codes = stage.fail_sampled_calls("nothing", fault, 3)
    assert set(codes) == {0}


@pytest.mark.parametrize("call", ["open", "mmap"])
def test_a_source_that_the_system_does_not_give(
    process_tree: ProcessTree, scratch_folder: Path, image: Path, call: str
) -> None:
    stage = FaultScenario(process_tree, scratch_folder, image, "x.dzi")
    ended = stage.run_with_fault("old", SyscallFault(image, call, at=0, error="EIO"))
    assert image.name in ended.error_line()
    assert "Input/output error" in ended.error_line()
