"""The tests on the other Pythons of this machine, with the wheel that all of them share.

`make long` runs a part, and `make test-pythons` all tests that are neither slow nor long.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.pythons import ROOT, find_pythons, make_environment, run, version_of

pytestmark = pytest.mark.long

PYTHONS = find_pythons()
PYTHONS.pop(str(version_of(Path(sys.executable))), None)

# The API, kernels, threads and processes, cuts: a minute for each Python.
PART = [
    "tests/package/test_api.py",
    "tests/package/test_errors.py",
    "tests/kernels/test_kernels.py",
    "tests/workers",
    "tests/end_to_end",
]
ELSEWHERE = ["tests/browser", "tests/serving", "tests/package/test_embedding.py"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--outdir", out, ROOT)
    return next(out.glob("*.whl"))


def imports(file: Path) -> set[str]:
    """Modules that a file of tests imports at its head, also by tests/support."""
    names: set[str] = set()
    for name in re.findall(r"^(?:from|import) ([\w.]+)", file.read_text(), re.MULTILINE):
        helper = ROOT / "tests" / f"{name.replace('.', '/')}.py"
        names |= imports(helper) if helper.is_file() else {name.partition(".")[0]}
    return names


def files_without_package(python: Path) -> list[str]:
    """Tests that import a package that has no wheel for a Python."""
    files = {file: imports(file) for file in sorted((ROOT / "tests").rglob("test_*.py"))}
    own = {file.stem for folder in ("tests", "bench") for file in (ROOT / folder).rglob("*.py")}
    names = set().union(*files.values()) - own
    program = (
        "import importlib.util as u, sys; print([n for n in sys.argv[1:] if not u.find_spec(n)])"
    )
    missing = set(re.findall(r"\w+", run(python, "-c", program, *names, cwd=ROOT / "tests")))
    return [str(file.relative_to(ROOT)) for file, used in files.items() if used & missing]


@pytest.mark.skipif(sys.platform == "win32", reason="environments have another layout")
@pytest.mark.parametrize("version", [name for name in PYTHONS if not name.endswith("t")])
def test_the_tests_on_another_python(version: str, wheel: Path, tmp_path: Path) -> None:
    group = f"{ROOT / 'pyproject.toml'}:pythons"
    python = make_environment(PYTHONS[version], tmp_path / "env", wheel, "--group", group)
    tests = PART if os.environ.get("FASTTILE_PYTHON_TESTS") != "all" else ["tests"]
    ignored = [f"--ignore={name}" for name in ELSEWHERE + files_without_package(python)]
    command = [python, "-m", "pytest", "-q", "-m", "not slow and not long", *ignored, *tests]
    command += ["-p", "no:cacheprovider", f"--basetemp={tmp_path / 'tests'}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-8000:]
