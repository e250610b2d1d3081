"""What the numbers were measured on: processor, memory, and the versions of everything."""

from __future__ import annotations

import os
import platform
import subprocess
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("fasttile", "numpy", "pillow", "pyvips-binary", "pyvips", "scikit-image")


def describe(places: dict[str, Path]) -> list[str]:
    """Lines about this machine and what is installed, and where outputs go."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load = os.getloadavg()[0]
    return [
        f"{_processor()}, {len(os.sched_getaffinity(0))} processors, {memory:.0f} GiB; "
        f"{platform.system()} {platform.release()}",
        f"Python {platform.python_version()}; {_versions()}",
        f"in Pillow: {_pillow_libraries()}",
        f"fasttile's commit: {_commit()}",
        *(f"output on {name}: {_file_system(path)}" for name, path in places.items()),
        f"load average when it began: {load:.2f}",
    ]


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def _versions() -> str:
    found = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"{package} not installed")
    return ", ".join(found)


def _pillow_libraries() -> str:
    from PIL import features

    names = ("libjpeg_turbo", "zlib_ng", "zlib")
    return ", ".join(f"{name} {features.version(name) or 'none'}" for name in names)


def _commit() -> str:
    def git(*words: str) -> str:
        run = ["git", "-C", str(Path(__file__).parent), *words]
        return subprocess.run(run, capture_output=True, text=True, check=True).stdout.strip()

    with suppress(OSError, subprocess.CalledProcessError):
        changed = " with changes" if git("status", "--porcelain", "..") else ""
        return git("rev-parse", "--short", "HEAD") + changed
    return "none"


def _file_system(path: Path) -> str:
    """The kind of file system a folder is on."""
    path = path.resolve()
    best, kind = Path("/"), "unknown"
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, folder, found, *_ = line.split()
        if path.is_relative_to(folder) and len(folder) >= len(str(best)):
            best, kind = Path(folder), found
    return kind
