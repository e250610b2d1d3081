"""The public API: its names, what they import, and the examples of its documentation."""

from __future__ import annotations

import ast
import doctest
import subprocess
import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fasttile
from fasttile import cli
from fasttile.encode import codecs as codec
from fasttile.errors import FasttileError

PACKAGE = Path(fasttile.__file__).parent


def run_in_new_process(program: str) -> str:
    """Run a program in a new process; returns what it prints."""
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def imported_modules(program: str) -> set[str]:
    """Names of the modules that a program has loaded at its end, in a new process."""
    return set(run_in_new_process(f"import sys; {program}; print(*sys.modules)").split())


def test_import_loads_no_dependency() -> None:
    modules = imported_modules("import fasttile")
    assert not {"numpy", "PIL", "tifffile", "tqdm", "typing_extensions"} & modules
    assert {name for name in modules if name.startswith("fasttile.")} == {"fasttile._version"}


def test_options_and_geometry_load_neither_numpy_nor_pillow() -> None:
    program = "import fasttile; fasttile.CutOptions(), fasttile.Pyramid.from_size(9, 9)"
    assert not {"numpy", "PIL"} & imported_modules(program)


UNUSED_BY_A_PLAIN_CUT = {
    "fasttile.abc.reader",
    "fasttile.batch.ledger",
    "fasttile.collection",
    "fasttile.geometry.shards",
    "fasttile.jobs.sharded",
    "fasttile.notebook",
    "fasttile.readers",
    "fasttile.serve",
    "fasttile.sinks.archive",
    "fasttile.sinks.objects",
    "fasttile.sources.rasters",
    "fasttile.sources.remote",
    "fasttile.storage.file_trees",
    "fasttile.storage.journal",
    "fasttile.storage.object_files",
    "fasttile.verify",
    "fasttile.viewers",
    "fasttile.workers",
    *(f"fasttile.cli.{name}" for name in cli.COMMANDS if name != "cut"),
    *("asyncio", "bz2", "concurrent.futures", "email", "html", "http", "lzma", "multiprocessing"),
    *("shutil", "sqlite3", "tempfile", "urllib.request", "xml", "zipfile"),
    *("dask", "numpy.typing", "obstore", "tifffile", "tqdm"),
}


@pytest.mark.parametrize(
    ("suffix", "used", "unused"),
    [
        ("tif", "fasttile.sources.tiff", "fasttile.sources.pillow"),
        ("png", "PIL.PngImagePlugin", "PIL.GifImagePlugin"),
        ("jpg", "PIL.JpegImagePlugin", "PIL.GifImagePlugin"),
    ],
)
def test_a_plain_cut_loads_only_its_own_path(
    tmp_path: Path, suffix: str, used: str, unused: str
) -> None:
    Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(tmp_path / f"a.{suffix}")
    arguments = ["cut", f"{tmp_path}/a.{suffix}", "-o", f"{tmp_path}/a.dzi", "-q"]
    modules = imported_modules(f"from fasttile.cli import main; assert main({arguments}) == 0")
    assert used in modules
    assert modules & {*UNUSED_BY_A_PLAIN_CUT, unused} == set()
    for name in UNUSED_BY_A_PLAIN_CUT:
        if name.startswith("fasttile."):
            assert import_module(name), "the list names a module that does not exist"


def test_the_version_loads_neither_the_parser_nor_a_command() -> None:
    modules = imported_modules("from fasttile import cli; assert cli.main(['--version']) == 0")
    assert not {"argparse", "dataclasses", "numpy", "pathlib", "PIL", "typing"} & modules


def test_the_help_loads_no_options() -> None:
    modules = imported_modules("from fasttile import cli; assert cli.main(['--help']) == 0")
    modules -= imported_modules("import argparse; argparse.ArgumentParser().format_help()")
    assert not {"dataclasses", "fasttile.options.cut", "numpy", "PIL"} & modules


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_help_of_a_command_loads_no_other_command(command: str) -> None:
    program = f"from fasttile import cli; assert cli.main(['{command}', '--help']) == 0"
    modules = imported_modules(program)
    others = {f"fasttile.cli.{name}" for name in cli.COMMANDS if name != command}
    assert f"fasttile.cli.{command}" in modules
    assert not modules & others


def test_every_exported_name_is_an_attribute() -> None:
    names = fasttile.__all__
    assert names == sorted(names)
    assert set(dir(fasttile)) == set(names)
    for name in names:
        assert getattr(fasttile, name) is not None
    with pytest.raises(AttributeError, match="module 'fasttile' has no attribute 'cutt'"):
        fasttile.cutt  # noqa: B018


def test_subpackages_are_attributes_after_a_plain_import() -> None:
    program = "import fasttile; print(fasttile.verify.repair.__name__, {})"
    assert run_in_new_process(program.format("fasttile.collection.create.__name__")) == (
        "repair create\n"
    )


def test_every_error_is_exported() -> None:
    errors = {FasttileError}
    while more := {kind for error in errors for kind in error.__subclasses__()} - errors:
        errors |= more
    public = {error for error in errors if error.__module__ == "fasttile.errors"}
    assert {error.__name__ for error in public} <= set(fasttile.__all__)


def test_type_checkers_see_the_same_names() -> None:
    # They read the imports under TYPE_CHECKING; __getattr__ reads a table. Both must agree.
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {
        (node.module, alias.name)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    exports = {(module, name) for module, names in fasttile._EXPORTS.items() for name in names}
    assert seen == exports | {(None, name) for name in fasttile._SUBPACKAGES}
    assert {name for _, name in seen} == set(fasttile.__all__) - {"__version__"}
    for module, name in exports:
        assert getattr(import_module(f"fasttile.{module}"), name) is getattr(fasttile, name)
    assert (PACKAGE / "py.typed").exists()


def test_the_version_is_the_distributions() -> None:
    try:
        assert fasttile.__version__ == version("fasttile")
    except PackageNotFoundError:
        pytest.skip("the package is not installed, only on the path")


def python_modules() -> list[str]:
    paths = sorted(path for path in PACKAGE.rglob("*.py") if path.stat().st_size)
    names = [".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in paths]
    return [name.removesuffix(".__init__") for name in names if not name.endswith("__main__")]


@pytest.mark.slow
def test_examples_in_the_documentation_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    known: dict[str, Any] = {"np": np, "fasttile": fasttile, **vars(codec)}
    count = 0
    failures = []
    for name in python_modules():
        if name == "fasttile.notebook.widget" and find_spec("anywidget") is None:
            continue  # it is a class of an optional package
        module = import_module(name)
        results = doctest.testmod(module, extraglobs=known | vars(module), report=True)
        count += results.attempted
        if results.failed:
            failures.append(name)
    assert failures == []
    assert count > 10
    assert list(tmp_path.iterdir()) == []
