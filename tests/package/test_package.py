"""The source distribution and the wheel: contents, and an installation without other packages."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.slow


def run(*arguments: str | Path, **more: object) -> str:
    """Run a command that must succeed; returns its output."""
    process = subprocess.run(  # type: ignore[call-overload]
        [*map(str, arguments)], capture_output=True, text=True, check=False, timeout=600, **more
    )
    assert process.returncode == 0, process.stdout + process.stderr
    output: str = process.stdout
    return output


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sdist")
    run(sys.executable, "-m", "build", "--sdist", "--outdir", out, ROOT)
    return next(out.glob("*.tar.gz"))


@pytest.fixture
def unpacked_sdist(sdist: Path, tmp_path: Path) -> Path:
    """The sources, unpacked for each test: a build leaves files in them."""
    folder = tmp_path / "unpacked"
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    return next(folder.iterdir())


@pytest.mark.long
def test_the_sdist_contains_the_files_of_a_build(unpacked_sdist: Path) -> None:
    package = unpacked_sdist / "src" / "fasttile"
    names = {file.relative_to(package).as_posix() for file in package.rglob("*") if file.is_file()}
    needed = {
        "_resample.pyx",
        "_resample_avx2.pyx",
        "_resample_methods.pyx",
        "_resample_neon.pyx",
        "_resample_simd.h",
        "_resample.pyi",
        "py.typed",
    }
    assert needed | {"sources/tiff/tags.py", "layouts/deepzoom.py", "sinks/folder.py"} <= names
    assert not {name for name in names if name.endswith((".c", ".so"))}
    for name in ("LICENSE", "README.md", "CHANGELOG.md", "setup.py", "pyproject.toml"):
        assert (unpacked_sdist / name).exists()
    for name in ("package.json", "package-lock.json", ".npmrc"):  # what npm needs for the scripts
        assert (unpacked_sdist / "tools" / "viewers" / name).exists()
    assert not (unpacked_sdist / "tools" / "viewers" / "node_modules").exists()
    if have_scripts(ROOT / "src"):
        assert have_scripts(unpacked_sdist / "src")


@pytest.mark.long
def test_the_sdist_has_every_file_of_the_repository(unpacked_sdist: Path) -> None:
    """But those of git and of services, whose names begin with a dot."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode != 0:
        pytest.skip("this is no clone")
    names = [name for name in listed.stdout.splitlines() if not name.startswith(".")]
    assert not [name for name in names if not (unpacked_sdist / name).is_file()]


def have_scripts(folder: Path) -> bool:
    """True if a package carries the viewers' scripts."""
    return (folder / "fasttile" / "viewers" / "scripts" / "openseadragon.js").exists()


@pytest.mark.long
@pytest.mark.parametrize("kind", ["wheel", "editable"])
def test_a_build_brings_the_scripts_or_says_so(
    kind: str, unpacked_sdist: Path, tmp_path: Path
) -> None:
    """Without npm, and then with it."""
    scripts = unpacked_sdist / "src" / "fasttile" / "viewers" / "scripts"
    shutil.rmtree(scripts, ignore_errors=True)
    programs = tmp_path / "programs"
    programs.mkdir()
    for folder in filter(Path.is_dir, map(Path, reversed(os.environ["PATH"].split(os.pathsep)))):
        for program in folder.iterdir():
            link = programs / program.name
            if program.name not in ("npm", "npx", "node"):
                link.unlink(missing_ok=True)
                link.symlink_to(program)
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    log = tmp_path / "log"
    command = [python, "-m", "pip", "--log", log, "install", "--no-deps", "--force-reinstall"]
    command += ["--editable", unpacked_sdist] if kind == "editable" else [unpacked_sdist]
    script = "import fasttile.viewers, pathlib; print(pathlib.Path(fasttile.__file__).parent)"
    run(*command, env={**os.environ, "PATH": str(programs)})
    assert "the viewers' scripts are left out: there is no npm here" in log.read_text()
    if shutil.which("npm") is None:
        pytest.skip("there is no npm here")
    log.unlink()
    run(*command)
    if "npm ci failed" in log.read_text():
        pytest.skip("npm gets no packages here")
    assert "left out" not in log.read_text()
    run(python, "-m", "pip", "install", "--quiet", "numpy", "Pillow", "tqdm")
    assert have_scripts(Path(run(python, "-c", script, cwd=tmp_path).strip()).parent)


@pytest.mark.long
def test_a_wheel_from_the_sdist_works_in_an_empty_environment(
    unpacked_sdist: Path, tmp_path: Path
) -> None:
    run(sys.executable, "-m", "build", "--wheel", "--outdir", tmp_path, unpacked_sdist)
    wheel = next(tmp_path.glob("*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        modules = [info.file_size for info in archive.infolist() if info.filename.endswith(".so")]
        (metadata,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        said = archive.read(metadata).decode()
    assert sum(modules) < 1_500_000, "they have debug symbols"
    texts = {name.partition("/licenses/")[2] for name in names if "/licenses/" in name}
    assert texts == set(re.findall("^License-File: (.+)$", said, re.MULTILINE))
    assert "LICENSE" in texts
    scripts = unpacked_sdist / "src" / "fasttile" / "viewers" / "scripts"
    for file in scripts.glob("*.LICENSE.txt"):  # of the viewers' scripts in this wheel
        assert file.relative_to(unpacked_sdist).as_posix() in texts
        for said_licence in re.findall(r"^[@\w/.-]+ \d[\w.-]* \((.+)\)$", file.read_text(), re.M):
            for licence in re.findall(r"[A-Z]\w+(?:-[\w.]+)*", said_licence.replace("AND", "")):
                assert licence in re.search("^License-Expression: (.+)$", said, re.M)[1]
    assert not [name for name in names if name.endswith((".c", ".pyx", ".h"))]
    assert {"fasttile/py.typed", "fasttile/_resample.pyi"} <= set(names)
    assert {"fasttile/notebook/viewer.js", "fasttile/notebook/viewer.css"} <= set(names)
    assert [name for name in names if name.startswith("fasttile/_resample.") and ".pyi" not in name]

    assert [name for name in names if name.endswith("share/man/man1/fasttile.1")]

    venv.create(tmp_path / "env", with_pip=True)
    binaries = tmp_path / "env" / "bin"
    run(binaries / "python", "-m", "pip", "install", "--quiet", wheel)
    np.save(tmp_path / "x.npy", np.full((300, 400, 3), 7, np.uint8))
    output = run(binaries / "fasttile", "cut", "x.npy", cwd=tmp_path)
    assert "400×300 pixels, 10 levels" in output
    assert (tmp_path / "x_files" / "9" / "1_1.jpg").exists()
    assert "mapped" in run(binaries / "python", "-m", "fasttile", "info", "x.npy", cwd=tmp_path)


@pytest.mark.long
def test_a_compiler_without_avx2_builds_the_plain_kernels(
    unpacked_sdist: Path, tmp_path: Path
) -> None:
    compiler = tmp_path / "cc"
    compiler.write_text(
        '#!/bin/sh\ncase " $* " in *" -mavx2 "*) echo "unknown flag -mavx2" >&2; exit 1;; esac\n'
        'exec gcc "$@"\n'
    )
    compiler.chmod(0o755)
    environment = {**os.environ, "CC": str(compiler), "LDSHARED": f"{compiler} -shared"}
    run(
        sys.executable,
        "setup.py",
        "-q",
        "build_ext",
        "--inplace",
        cwd=unpacked_sdist,
        env=environment,
    )
    package = unpacked_sdist / "src" / "fasttile"
    assert list(package.glob("_resample.*.so"))
    assert not list(package.glob("_resample_avx2.*.so"))
    script = "import fasttile.kernels as r; print(r.VARIANT, r.__file__)"
    environment["PYTHONPATH"] = str(unpacked_sdist / "src")
    variant, _, path = run(sys.executable, "-c", script, env=environment).partition(" ")
    assert variant == "plain"
    assert path.startswith(str(unpacked_sdist))
