"""The vector functions of the kernels, built alone for each family of processors that has some."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from fasttile import _resample

FOLDER = Path(__file__).parent
HEADERS = FOLDER.parents[1] / "src" / "fasttile"


def build_and_start(variant: str) -> tuple[list[str], list[str]]:
    """How to build the program for a variant, and what to start it with."""
    if variant == _resample.best_variant():
        return ["gcc", "-mavx2" if variant == "avx2" else "-DFASTTILE_NEON"], []
    if variant == "neon":
        emulator = "qemu-aarch64" if shutil.which("qemu-aarch64") else "qemu-aarch64-static"
        return ["aarch64-linux-gnu-gcc", "-static", "-DFASTTILE_NEON"], [emulator]
    pytest.skip(f"this processor has no {variant.upper()}")


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["avx2", "neon"])
def test_every_row_is_exact_and_no_byte_beside_it_is_touched(variant: str, tmp_path: Path) -> None:
    build, start = build_and_start(variant)
    missing = [name for name in (build[0], *start) if shutil.which(name) is None]
    if missing:
        pytest.skip(f"NOT TESTED: {variant}; there is no {' and no '.join(missing)}")
    program = tmp_path / "rows"
    flags = ["-O3", "-std=c11", "-Wall", "-Wextra", "-Werror", f"-I{HEADERS}"]
    subprocess.run([*build, *flags, FOLDER / "simd_rows.c", "-o", program], check=True)
    done = subprocess.run([*start, program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{variant} 12120\n", "")
