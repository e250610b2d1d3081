"""The compiled modules, built with the sanitizers of the compiler, by their own tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

FLAGS = "-fsanitize=address,undefined"

TESTED_FOLDERS = ("kernels", "encode", "colour")


def sanitizer_library() -> str:
    """The runtime of AddressSanitizer, which a process that is not built with it loads first."""
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs gcc")
    command = [compiler, "-print-file-name=libasan.so"]
    name = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    if not Path(name).is_absolute():
        pytest.skip("NOT TESTED: this compiler has no AddressSanitizer")
    return name


def build_package(folder: Path) -> Path:
    """Build the package with the sanitizers; returns the folder to import it from."""
    ignored = shutil.ignore_patterns("*.so", "*.c", "__pycache__")
    shutil.copytree(ROOT / "src" / "fasttile", folder / "src" / "fasttile", ignore=ignored)
    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, folder)
    environment = {
        **os.environ,
        "CC": "gcc",
        "CFLAGS": f"{FLAGS} -fno-sanitize-recover=all -g1",
        "LDFLAGS": FLAGS,
    }
    built = subprocess.run(
        [sys.executable, "setup.py", "build_ext", "--inplace"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr[-4000:]
    return folder / "src"


@pytest.mark.long
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="LD_PRELOAD is of Linux")
def test_no_undefined_behaviour_and_no_byte_beyond_an_array(tmp_path: Path) -> None:
    """It takes about three minutes; leaks are not looked for, as Python leaves memory behind."""
    library = sanitizer_library()
    source = build_package(tmp_path / "package")
    environment = {
        **os.environ,
        "LD_PRELOAD": library,
        "ASAN_OPTIONS": "detect_leaks=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "PYTHONMALLOC": "malloc",  # or most arrays would lie within one block of the allocator
        "PYTHONPATH": str(source),
    }
    where = "import fasttile._resample; print(fasttile._resample.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", where], env=environment, capture_output=True, text=True, check=True
    )
    assert Path(found.stdout.strip()).parent == source / "fasttile"
    folders = [str(ROOT / "tests" / name) for name in TESTED_FOLDERS]
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-m", "not long", *folders]
    command += ["-p", "no:cacheprovider", f"--basetemp={tmp_path / 'tests'}"]
    tested = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert tested.returncode == 0, (tested.stdout + tested.stderr)[-4000:]
