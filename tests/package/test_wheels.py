"""One wheel for all Pythons: built, repaired, checked, installed and used, also without the GIL."""

from __future__ import annotations

import shutil
import sys
import sysconfig
import tarfile
from pathlib import Path

import pytest

from support.pythons import ROOT, find_pythons, make_environment, run, version_of

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(sys.platform != "linux", reason="auditwheel is for Linux"),
]

PYTHONS = find_pythons()


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sdist")
    run(sys.executable, "-m", "build", "--sdist", "--outdir", out, ROOT)
    return next(out.glob("*.tar.gz"))


def build_wheel(python: Path, sdist: Path, folder: Path) -> Path:
    """Build a wheel and repair it as it is published; returns its path."""
    run(python, "-m", "venv", "--without-pip", folder / "build")
    pip = [sys.executable, "-m", "pip", "--python", folder / "build" / "bin" / "python"]
    run(*pip, "wheel", "--quiet", "--no-deps", "-w", folder / "plain", sdist)
    (plain,) = (folder / "plain").glob("*.whl")
    assert sysconfig.get_platform().replace("-", "_") in plain.name
    run(sys.executable, "-m", "auditwheel", "repair", "-w", folder / "repaired", plain)
    (wheel,) = (folder / "repaired").glob("*.whl")
    assert "manylinux" in wheel.name
    return wheel


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(Path(sys.executable), sdist, tmp_path_factory.mktemp("wheel"))


@pytest.mark.skipif(version_of(Path(sys.executable))[-1:] == "t", reason="it has no stable ABI")
def test_the_wheel_uses_nothing_but_the_stable_abi(wheel: Path) -> None:
    assert "-cp311-abi3-" in wheel.name
    run(sys.executable, "-m", "abi3audit", "--strict", wheel)


@pytest.mark.parametrize("version", PYTHONS)
def test_the_wheel_in_an_empty_environment(
    version: str, sdist: Path, wheel: Path, tmp_path: Path
) -> None:
    if version.endswith("t"):
        wheel = build_wheel(PYTHONS[version], sdist, tmp_path)
        assert wheel.name.split("-")[3] == f"cp{version.replace('.', '')}"
    python = make_environment(PYTHONS[version], tmp_path / "empty", wheel)
    # A module that needs the GIL would turn it on, with a warning.
    options = ["-W", "error"] if version.endswith("t") else []
    output = run(python, *options, ROOT / "tools" / "try_wheel.py", cwd=tmp_path)
    assert f"Python {version.rstrip('t')}." in output
    assert run(python.with_name("fasttile"), "--version").startswith("fasttile ")
    if version.endswith("t"):
        script = "import sys, fasttile.kernels, fasttile._files; print(sys._is_gil_enabled())"
        assert run(python, *options, "-c", script).strip() == "False"


ARM = ROOT / ".pythons" / "arm64"
COMPILER = "aarch64-linux-gnu-gcc"
EMULATOR = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")


@pytest.mark.skipif(not ARM.is_dir(), reason="no Python for Arm: tests/package/setup_pythons.sh")
@pytest.mark.skipif(not shutil.which(COMPILER), reason=f"needs {COMPILER}")
@pytest.mark.skipif(not EMULATOR, reason="needs qemu-aarch64")
@pytest.mark.skipif(not shutil.which("proot"), reason="needs proot")
def test_the_wheel_for_arm_in_an_emulator(sdist: Path, tmp_path: Path) -> None:
    """Built by a cross compiler for Debian's Python, whose every process then runs in qemu."""
    (program,) = ARM.glob("usr/bin/python3.??")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = (file.parent for file in tmp_path.glob("fasttile-*/setup.py"))
    compiler = f"{COMPILER} --sysroot={ARM}"
    run(
        *(sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", tmp_path / "plain"),
        source,
        CC=compiler,
        LDSHARED=f"{compiler} -shared",
        CFLAGS=f"-I{ARM}/usr/include/{program.name}",
        _PYTHON_HOST_PLATFORM="linux-aarch64",
    )
    (plain,) = (tmp_path / "plain").glob("*-cp311-abi3-linux_aarch64.whl")
    run(sys.executable, "-m", "auditwheel", "repair", "-w", tmp_path / "repaired", plain)
    (wheel,) = (tmp_path / "repaired").glob("*.whl")

    emulated = ["env", "-i", "LANG=C.UTF-8", "PATH=/usr/bin", f"HOME={tmp_path}"]
    emulated += [shutil.which("proot"), "-q", EMULATOR, "-r", ARM, "-w", tmp_path]
    for folder in ("/proc", "/dev", ROOT, tmp_path):
        emulated += ["-b", folder]
    run(*emulated, f"/usr/bin/{program.name}", "-m", "venv", "--without-pip", tmp_path / "empty")
    packages = tmp_path / "empty" / "lib" / program.name / "site-packages"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--only-binary=:all:"]
    pip += ["--python-version", program.name.removeprefix("python"), "--target", packages]
    for glibc in ("2_28", "2_27", "2_17"):
        pip += ["--platform", f"manylinux_{glibc}_aarch64"]
    run(*pip, wheel)
    python = [*emulated, tmp_path / "empty" / "bin" / "python"]
    assert run(*python, ROOT / "tools" / "try_wheel.py").endswith("neon\n")
    assert run(*python, packages / "bin" / "fasttile", "--version").startswith("fasttile ")
