"""Processors and memory: the numbers of the system, and the limits of control groups."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from fasttile.storage import system
from fasttile.storage.system import _cgroup_memory_left, cpu_count, memory_left


def test_the_number_of_processors_is_that_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 1 <= cpu_count() <= (os.cpu_count() or 1)
    monkeypatch.setattr(os, "process_cpu_count", lambda: 3, raising=False)
    assert cpu_count() == 3
    monkeypatch.delattr(os, "process_cpu_count")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 4}, raising=False)
    assert cpu_count() == 2
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cpu_count() == 1


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="has no /proc/meminfo")
def test_memory_left_is_part_of_the_memory_that_linux_reports(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (total,) = re.findall(r"MemTotal: +(\d+) kB", Path("/proc/meminfo").read_text())
    left = memory_left()
    assert left is not None
    assert 0 <= left < int(total) * 1024
    monkeypatch.setattr(system, "_cgroup_memory_left", lambda: None)
    left = memory_left()
    assert left is not None
    (available,) = re.findall(r"MemAvailable: +(\d+) kB", Path("/proc/meminfo").read_text())
    assert left == pytest.approx(int(available) * 1024, rel=0.5)


def test_memory_left_is_the_smaller_of_both_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    for of_system, of_cgroup, smaller in ((5, 3, 3), (3, 5, 3), (5, None, 5), (None, 3, 3)):
        monkeypatch.setattr(system, "_system_memory_left", lambda left=of_system: left)
        monkeypatch.setattr(system, "_cgroup_memory_left", lambda left=of_cgroup: left)
        assert memory_left() == smaller
    monkeypatch.setattr(system, "_cgroup_memory_left", lambda: None)
    monkeypatch.setattr(system, "_system_memory_left", lambda: None)
    assert memory_left() is None


def make_groups(folder: Path, limits: dict[str, tuple[str, int]]) -> tuple[Path, Path]:
    """A tree of control groups, for a process in the group a/b; each has a limit and its usage."""
    for name, (limit, usage) in limits.items():
        group = folder / "groups" / name
        group.mkdir(parents=True, exist_ok=True)
        (group / "memory.max").write_text(f"{limit}\n")
        (group / "memory.current").write_text(f"{usage}\n")
    membership = folder / "membership"
    membership.write_text("1:name=systemd:/other\n0::/a/b\n")
    return membership, folder / "groups"


@pytest.mark.parametrize(
    ("limits", "left"),
    [
        ({"a/b": ("1000", 300)}, 700),
        ({"a/b": ("1000", 300), "a": ("2000", 1900)}, 100),
        ({"a/b": ("max", 300), "a": ("2000", 500)}, 1500),
        ({"a/b": ("1000", 1200)}, 0),
        ({"a/b": ("max", 300)}, None),
        ({"c": ("1000", 300)}, None),
        ({"a/b": ("broken", 300)}, None),
    ],
)
def test_control_groups_limit_the_memory(
    tmp_path: Path, limits: dict[str, tuple[str, int]], left: int | None
) -> None:
    assert _cgroup_memory_left(*make_groups(tmp_path, limits)) == left


def test_without_control_groups_there_is_no_limit(tmp_path: Path) -> None:
    assert _cgroup_memory_left(tmp_path / "missing", tmp_path) is None
